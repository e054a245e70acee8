"""FETCH: slices of rows become bytes on a reader thread, are written, and the next slice waits for the client.

Small messages are unpacked where they are read. A value of more than 256 KiB goes out in pieces of that size, each
read when the one before is on its way: neither a slow client nor a large message costs more memory.
"""

from array import array
from typing import TYPE_CHECKING, NamedTuple

from posthouse.imap import fetch as compiled
from posthouse.imap import replies
from posthouse.imap.commands.fetch import Fetch
from posthouse.imap.fetch import SMALL, Plan, Source, Span, UnknownEncoding
from posthouse.imap.flags import SEEN, flag_text
from posthouse.imap.numbers import Ranges, contains
from posthouse.mime import bodies, sections
from posthouse.store import messages
from posthouse.store import select as stored
from posthouse.store.database import Row, Tx

if TYPE_CHECKING:
    from posthouse.servers.imap.session import ImapSession

SLICE = 1000  # messages rendered in one go
BUDGET = 1024 * 1024  # octets of content in one go


class Large(NamedTuple):
    """A value to be sent in pieces."""

    email_id: int
    label: bytes
    span: Span
    binary: bool


class Rendered(NamedTuple):
    """A slice of the answer."""

    pieces: list[bytes | Large]
    done: int  # how many messages of the slice this is about
    missing: int  # how many of them are there no longer
    unknown: bool  # a transfer encoding could not be undone
    keywords: frozenset[str]  # texts of the keywords shown


def render(
    tx: Tx, mailbox_id: int, plan: Plan, uids: "array[int]", number: int, recent: Ranges, told: frozenset[int]
) -> Rendered:
    """The responses for `uids`, which stand side by side in the view, the first as `number`.

    Flags of those in `told` were changed by this FETCH and are told in any case.
    """
    if plan.sections:
        return _render_sections(tx, mailbox_id, plan, uids, number, recent, told)
    rows = stored.rows(tx, mailbox_id, uids[0], uids[-1], plan.columns)
    line = plan.line
    if len(rows) == len(uids):  # nothing was expunged: what is there in this range is what the view holds
        if recent:
            lines = [line(n, row, contains(recent, row[0])) for n, row in enumerate(rows, number)]
        else:
            lines = [line(n, row, False) for n, row in enumerate(rows, number)]
    else:
        numbers = {uid: n for n, uid in enumerate(uids, number)}
        lines = [line(numbers[row[0]], row, contains(recent, row[0])) for row in rows if row[0] in numbers]
    data = b")\r\n".join(lines) + b")\r\n" if lines else b""
    return Rendered([data], len(uids), len(uids) - len(lines), False, _keywords(plan, rows))


def _keywords(plan: Plan, rows: list[Row]) -> frozenset[str]:
    column = plan.flags[1]
    return frozenset([row[column] for row in rows]) if column >= 0 else frozenset()


def _render_sections(
    tx: Tx, mailbox_id: int, plan: Plan, uids: "array[int]", number: int, recent: Ranges, told: frozenset[int]
) -> Rendered:
    columns = (*plan.columns, "parts", "prefix", "email_id")
    rows, following = stored.contents(tx, mailbox_id, uids[0], uids[-1], columns, BUDGET, SMALL)
    done = uids.index(following) if following else len(uids)
    numbers = {uid: n for n, uid in enumerate(uids, number)}
    pieces: list[bytes | Large] = []
    gathered: list[bytes] = []
    unknown = False
    count = 0
    width = len(plan.columns)
    for row in rows:
        uid = row[0]
        if uid not in numbers:
            continue
        count += 1
        parts, prefix, email_id = row[width : width + 3]
        message = stored.Message(tx, prefix, row[width + 3 :])
        source = Source(sections.unpack(parts), len(prefix), message.size, message.read)
        is_recent = contains(recent, uid)
        try:
            values = [(section, compiled.section_value(section, source)) for section in plan.sections]
        except UnknownEncoding:
            unknown = True
            continue
        gathered.append(plan.line(numbers[uid], row, is_recent))
        gap = b" " if plan.has_items else b""
        for section, value in values:
            gathered.append(gap)
            gap = b" "
            if isinstance(value, Span):
                pieces += [b"".join(gathered), Large(email_id, section.label, value, section.binary)]
                gathered = []
            else:
                gathered.append(compiled.section_text(section.label, value, section.binary))
        if uid in told and not plan.shows_flags:
            flags, keywords = plan.flags
            gathered.append(b" FLAGS (%b)" % flag_text(row[flags], row[keywords], is_recent))
        gathered.append(b")\r\n")
    pieces.append(b"".join(gathered))
    return Rendered(pieces, done, done - count, unknown, _keywords(plan, rows))


async def fetch(session: "ImapSession", event: Fetch) -> None:
    view, watch = session.selected
    found = session.find(event.wanted, event.uid)
    if found is None:
        return
    database = session.service.database
    plan = compiled.compile_fetch(event.request)
    recent = [] if session.engine.rev2 else view.recent
    missing, unknown = 0, False
    for low, high in found:
        while low < high:
            uids = view.slice(low, min(low + SLICE, high))
            told: frozenset[int] = frozenset()
            if plan.sets_seen and not session.read_only:
                told = await _mark_seen(session, uids)
            rendered = await database.read(render, watch.mailbox_id, plan, uids, low + 1, recent, told)
            watch.learn(rendered.keywords)
            session.tell_keywords()
            for piece in rendered.pieces:
                if isinstance(piece, Large):
                    await _send_large(session, piece)
                elif piece:
                    await session.send(piece)
            low += rendered.done
            missing += rendered.missing
            unknown = unknown or rendered.unknown
    if unknown:
        session.done_with(replies.UNKNOWN_CTE, expunges=event.uid)
    elif missing and not event.uid:
        session.done_with(replies.EXPUNGED, expunges=False)
    else:
        session.done("FETCH completed", expunges=event.uid)


async def _mark_seen(session: "ImapSession", uids: "array[int]") -> frozenset[int]:
    """Set \\Seen where it is not set; returns where."""
    view, watch = session.selected
    database = session.service.database
    unseen = await database.read(stored.unseen, watch.mailbox_id, uids[0], uids[-1])
    if not unseen:
        return frozenset()
    rows = await database.write(messages.store_flags, watch.account_id, watch.mailbox_id, unseen, "add", SEEN)
    view.told(rows)
    return frozenset(unseen)


async def _send_large(session: "ImapSession", large: Large) -> None:
    """A literal in pieces. If it breaks off in the middle, the connection cannot go on."""
    database, span, email_id = session.service.database, large.span, large.email_id
    if not span.encoding:
        await session.send(compiled.literal(large.label, span.end - span.start, large.binary), inside_literal=True)
        for at in range(span.start, span.end, SMALL):
            piece = await database.read(messages.read_source, email_id, at, min(at + SMALL, span.end))
            if not large.binary and b"\0" in piece:
                piece = piece.replace(b"\0", b"\x80")
            await session.send(piece, inside_literal=at + SMALL < span.end)
        return
    size = await database.read(_decoded_size, email_id, span)
    skip, left = 0, size
    if span.partial is not None:
        skip = min(span.partial[0], size)
        left = min(span.partial[1], size - skip)
    await session.send(compiled.literal(large.label, left, True), inside_literal=left > 0)
    decoder = bodies.decoder(span.encoding)
    for at in range(span.start, span.end, SMALL):
        if not left:
            break
        piece = decoder.feed(await database.read(messages.read_source, email_id, at, min(at + SMALL, span.end)))
        if at + SMALL >= span.end:
            piece += decoder.finish()
        piece, skip = piece[skip:], max(skip - len(piece), 0)
        piece = piece[:left]
        left -= len(piece)
        await session.send(piece, inside_literal=left > 0)


def _decoded_size(tx: Tx, email_id: int, span: Span) -> int:
    """How long the part is once its encoding is undone: the literal must say so before it comes."""
    decoder = bodies.decoder(span.encoding)
    size = 0
    for at in range(span.start, span.end, SMALL):
        size += len(decoder.feed(messages.read_source(tx, email_id, at, min(at + SMALL, span.end))))
    return size + len(decoder.finish())

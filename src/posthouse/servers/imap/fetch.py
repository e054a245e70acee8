"""FETCH: slices of rows become bytes on a reader thread, are written, and the next slice waits for the client.

Small messages are unpacked where they are read. A value of more than 256 KiB goes out in pieces of that size, each
read when the one before is on its way; and an answer of more than `BUDGET` octets is made in as many goes, even
that for one message: neither a slow client nor a large message nor many sections of it cost more memory.
"""

from array import array
from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING, NamedTuple

from posthouse.imap import fetch as compiled
from posthouse.imap import numbers, replies
from posthouse.imap.commands.fetch import Fetch
from posthouse.imap.fetch import SMALL, Plan, Source, Span
from posthouse.imap.flags import SEEN
from posthouse.imap.numbers import Ranges, contains
from posthouse.mime import bodies, sections
from posthouse.net.connection import Turn
from posthouse.servers.imap import access, limits, listings
from posthouse.servers.imap.listings import Kept, Wanted
from posthouse.servers.imap.progress import Progress
from posthouse.servers.imap.select import tell_vanished
from posthouse.store import messages
from posthouse.store import select as stored
from posthouse.store.database import Row, TooMuch, Tx
from posthouse.store.select import Extent

if TYPE_CHECKING:
    from posthouse.servers.imap.session import ImapSession

SLICE = 1000  # messages rendered in one go
# On the event loop: messages without their contents, sections of one message, octets that its part offsets have.
FEW, FEW_SECTIONS, FEW_PARTS = 20, 4, 4096
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
    done: int  # how many messages of the slice are dealt with
    missing: int  # how many of them are there no longer
    unknown: bool  # a transfer encoding could not be undone
    keywords: frozenset[str]  # texts of the keywords shown
    section: int = 0  # of the next message so many sections are in the pieces; its response is not at its end
    extent: Extent | None = None  # of the messages that are dealt with, for `listings`


def render(
    tx: Tx,
    mailbox_id: int,
    plan: Plan,
    uids: "array[int]",
    number: int,
    recent: Ranges,
    told: frozenset[int],
    section: int = 0,
    since: int = 0,
    backwards: bool = False,
) -> Rendered:
    """The responses for `uids`, which stand side by side in the view, the first as `number`.

    Flags of those in `told` were changed by this FETCH and are told in any case. `section`: the response for the
    first is under way and goes on with this section of the plan. With `since` only those with a higher modseq.
    `backwards`: the last one first, if the plan has no sections; what is done then is at the end.
    """
    if plan.sections:
        return _render_sections(tx, mailbox_id, plan, uids, number, recent, told, section, since)
    return _render_rows(tx, mailbox_id, plan, uids, number, recent, since, backwards)


def _is_brief(plan: Plan, count: int) -> bool:
    """One message, or the flags of a few, are looked up on the event loop; what has to be decoded is not."""
    if not plan.sections:
        return count <= FEW
    return count == 1 and len(plan.sections) <= FEW_SECTIONS and not any(one.binary for one in plan.sections)


def _render_rows(
    tx: Tx,
    mailbox_id: int,
    plan: Plan,
    uids: "array[int]",
    number: int,
    recent: Ranges,
    since: int,
    backwards: bool = False,
) -> Rendered:
    """`render` of what needs no contents."""
    # An ENVELOPE usually has some hundred octets, but whoever wrote the message may have made it a MiB.
    first, last = stored.fitting(tx, mailbox_id, uids[0], uids[-1], plan.columns, BUDGET, since, backwards)
    rows = stored.rows(tx, mailbox_id, first, last, plan.columns, since)
    if plan.listed >= 0:
        kept = _with_listed(tx, plan.listed, rows, backwards)
        if len(kept) < len(rows):
            first, last = (kept[0][0], last) if backwards else (first, kept[-1][0])
        rows = kept
    low, high = bisect_left(uids, first), bisect_right(uids, last)
    uids, number = uids[low:high], number + low
    line = plan.line
    if len(rows) == len(uids):  # nothing was expunged: what is there in this range is what the view holds
        if recent:
            lines = [line(n, row, contains(recent, row[0])) for n, row in enumerate(rows, number)]
        else:
            lines = [line(n, row, False) for n, row in enumerate(rows, number)]
    else:
        places = {uid: n for n, uid in enumerate(uids, number)}
        lines = [line(places[row[0]], row, contains(recent, row[0])) for row in rows if row[0] in places]
    if backwards:
        lines.reverse()
    data = b")\r\n".join(lines) + b")\r\n" if lines else b""
    extent = stored.extent(tx, mailbox_id, uids[0], uids[-1]) if listings.may_keep(plan, len(lines)) else None
    return Rendered([data], len(uids), len(uids) - len(lines), False, _keywords(plan, rows), 0, extent)


def _with_listed(tx: Tx, column: int, rows: list[Row], backwards: bool) -> list[Row]:
    """The rows, with the fields that are listed put in where they are not kept: there are very many of them, so it is
    the first (`backwards`: the last) rows only that have `BUDGET` octets of these."""
    loaded = 0
    kept = rows[::-1] if backwards else rows[:]
    for number, row in enumerate(kept):
        if row[column] is not None:
            continue
        if loaded > BUDGET:
            del kept[number:]
            break
        head = stored.listed_of(tx, row[column + 1])
        loaded += len(head)
        kept[number] = (*row[:column], head, *row[column + 1 :])
    return kept[::-1] if backwards else kept


def _keywords(plan: Plan, rows: list[Row]) -> frozenset[str]:
    column = plan.flags[1]
    return frozenset([row[column] for row in rows]) if column >= 0 else frozenset()


def _render_sections(
    tx: Tx,
    mailbox_id: int,
    plan: Plan,
    uids: "array[int]",
    number: int,
    recent: Ranges,
    told: frozenset[int],
    section: int,
    since: int,
) -> Rendered:
    columns = (*plan.columns, "parts", "prefix", "email_id")
    rows, following = stored.contents(tx, mailbox_id, uids[0], uids[-1], columns, BUDGET, SMALL, since)
    answer = _Answer(plan, _keywords(plan, rows))
    if section and not (rows and rows[0][0] == uids[0]):
        answer.add(b")\r\n")  # the message went in the middle of its response
    places = {uid: n for n, uid in enumerate(uids, number)}
    count = 0
    width = len(plan.columns)
    for row in rows:
        uid = row[0]
        if uid not in places:
            continue
        at = places[uid] - number
        if answer.size >= BUDGET:
            return answer.rendered(at, at - count)
        is_recent = contains(recent, uid)
        if tx.brief and len(row[width]) > FEW_PARTS:
            raise TooMuch
        message = stored.Message(tx, row[width + 1], row[width + 3 :])
        source = Source(sections.unpack(row[width]), len(message.prefix), message.size, message.read)
        under_way = section if at == 0 else 0
        if not under_way:
            if not compiled.can_decode(plan.sections, source.scan):
                answer.unknown = True
                count += 1
                if uid in told:  # nothing is shown of it, but that it is \\Seen now
                    shown = b"" if plan.manner.uid_only else b"UID %d " % uid
                    begin = plan.manner.fetch(places[uid], uid)
                    answer.add(b"%b%b%b)\r\n" % (begin, shown, plan.flag_items(row, is_recent)))
                continue
            answer.add(plan.line(places[uid], row, is_recent))
        reached = answer.add_sections(source, row[width + 2], under_way)
        if reached < len(plan.sections):
            return answer.rendered(at, at - count, reached)
        count += 1
        if uid in told and not plan.shows_flags:
            answer.add(b" " + plan.flag_items(row, is_recent))
        answer.add(b")\r\n")
    done = uids.index(following) if following else len(uids)
    return answer.rendered(done, done - count)


class _Answer:
    """Gathers the pieces of responses, up to `BUDGET` octets."""

    def __init__(self, plan: Plan, keywords: frozenset[str]) -> None:
        self._plan = plan
        self._keywords = keywords
        self._pieces: list[bytes | Large] = []
        self._gathered: list[bytes] = []
        self.size = 0
        self.unknown = False

    def add(self, data: bytes) -> None:
        self._gathered.append(data)
        self.size += len(data)

    def add_sections(self, source: Source, email_id: int, first: int) -> int:
        """The sections from `first` on; the one to go on with if there was no room for all."""
        plan = self._plan
        for number, section in enumerate(plan.sections[first:], first):
            if self.size >= BUDGET:
                return number
            if number or plan.has_items:
                self.add(b" ")
            value = compiled.section_value(section, source)
            if isinstance(value, Span):
                self._flush()
                self._pieces.append(Large(email_id, section.label, value, section.binary))
            else:
                self.add(compiled.section_text(section.label, value, section.binary))
        return len(plan.sections)

    def _flush(self) -> None:
        self._pieces.append(b"".join(self._gathered))
        self._gathered = []

    def rendered(self, done: int, missing: int, section: int = 0) -> Rendered:
        self._flush()
        return Rendered(self._pieces, done, missing, self.unknown, self._keywords, section)


async def fetch(session: "ImapSession", event: Fetch) -> None:
    view, watch = session.selected
    found = session.find(event.wanted, event.uid)
    if found is None:
        return
    database = session.service.database
    if event.partial is not None:
        most = session.service.options.max_messages
        if most and abs(event.partial[1] - event.partial[0]) >= most:
            limits.too_many(session)
            return
        found = numbers.cut(found, *event.partial)
    found, lowest = limits.cut(session, found)
    progress, done = Progress(session, numbers.total(found)), 0
    since = event.changed_since
    if event.vanished:
        # To "*" belong those that were above all that are left.
        await tell_vanished(session, numbers.of_uids(event.wanted, numbers.HIGHEST), since)
    plan = compiled.compile_fetch(event.request, session.engine.manner)
    if not session.owns_selected:  # what else the owner has, and where, is not shared
        plan = plan._replace(columns=tuple("no_labels" if name == "labels" else name for name in plan.columns))
    if plan.manner.modseq and (plan.sets_seen or b"MODSEQ" in event.request.items):
        view.shows_modseqs()
    recent = [] if session.engine.rev2 else view.recent
    missing, unknown = 0, False
    section = end = 0
    told: frozenset[int] = frozenset()
    # In descending order a message with sections comes alone.
    step = 1 if plan.sections else SLICE
    backwards = lowest > 0 and not plan.sections
    spans = limits.downwards(found, step) if lowest else found
    alone = numbers.total(found) == 1
    turn = Turn()
    for low, high in spans:
        end = low
        while low < high:
            if low >= end:
                end = min(low + SLICE, high)
                if plan.sets_seen and not session.read_only and session.may("SEEN"):
                    told = await _mark_seen(session, view.slice(low, end), since)
            # The rest of a response that was too large for one go comes alone.
            uids = view.slice(low, low + 1 if section else end)
            await turn.over()
            wanted, rendered = None, None
            if not (since or backwards or recent) and listings.may_keep(plan, len(uids)):
                wanted = Wanted(watch.mailbox_id, event.request, session.engine.manner, uids[0], uids[-1], low + 1)
                rendered = await _again(session, wanted, uids)
            if rendered is None:
                rendered = await (database.glance if _is_brief(plan, len(uids)) else database.read)(
                    render, watch.mailbox_id, plan, uids, low + 1, recent, told, section, since, backwards
                )
                if wanted is not None:
                    _keep(session, wanted, rendered)
            watch.learn(rendered.keywords)
            if not section:
                session.tell_keywords()
            section = rendered.section
            for number, piece in enumerate(rendered.pieces, 1):
                # All but the last end within a response, and the last does if there is a section to go on with.
                unfinished = number < len(rendered.pieces) or section > 0
                if isinstance(piece, Large):
                    await _send_large(session, piece)
                elif piece:
                    await session.send(piece, unfinished, last=alone and not unfinished)
            if backwards:
                high = end = high - rendered.done
            else:
                low += rendered.done
            done += rendered.done
            progress.tell(done)
            missing += 0 if since else rendered.missing
            unknown = unknown or rendered.unknown
    if (unknown or (missing and not event.uid)) and lowest:
        limits.tell(session, lowest)
    if unknown:
        session.done_with(replies.UNKNOWN_CTE, expunges=event.uid)
    elif missing and not event.uid:
        session.done_with(replies.EXPUNGED, expunges=False)
    else:
        session.done("FETCH completed", limits.code(session, lowest), expunges=event.uid)


async def _again(session: "ImapSession", wanted: Wanted, uids: "array[int]") -> Rendered | None:
    """What was answered before, if nothing has changed since."""
    kept = session.service.listings.get(wanted)
    if kept is None or kept.done > len(uids):
        return None
    last = uids[kept.done - 1]
    there = await session.service.database.glance(stored.extent, wanted.mailbox_id, wanted.first, last)
    if there != kept.extent:
        return None
    return Rendered([kept.data], kept.done, 0, False, kept.keywords)


def _keep(session: "ImapSession", wanted: Wanted, rendered: Rendered) -> None:
    """Remember an answer in which nothing was missing."""
    (data,) = rendered.pieces
    if isinstance(data, bytes) and not rendered.missing and rendered.extent is not None:
        kept = Kept(data, rendered.keywords, rendered.done, rendered.extent)
        session.service.listings.put(wanted, kept)


async def _mark_seen(session: "ImapSession", uids: "array[int]", since: int) -> frozenset[int]:
    """Set \\Seen where it is not set; returns where. With `since` only of messages with a higher modseq."""
    view, watch = session.selected
    database = session.service.database
    unseen = await database.read(stored.unseen, watch.mailbox_id, uids[0], uids[-1], since)
    if not unseen:
        return frozenset()
    try:
        rows = await session.write(
            "SEEN", messages.store_flags, watch.account_id, watch.mailbox_id, unseen, "add", SEEN
        )
    except access.Denied:  # lately: then it is read only
        return frozenset()
    view.told(rows)
    return frozenset(unseen)


async def _send_large(session: "ImapSession", large: Large) -> None:
    """A literal in pieces. If it breaks off in the middle, the connection cannot go on."""
    database, span, email_id = session.service.database, large.span, large.email_id
    if not span.encoding:
        await session.send(compiled.literal(large.label, span.end - span.start, large.binary), unfinished=True)
        for at in range(span.start, span.end, SMALL):
            piece = await database.read(messages.read_source, email_id, at, min(at + SMALL, span.end))
            if not large.binary and b"\0" in piece:
                piece = piece.replace(b"\0", b"\x80")
            await session.send(piece, unfinished=True)
        return
    size = await database.read(_decoded_size, email_id, span)
    skip, left = 0, size
    if span.partial is not None:
        skip = min(span.partial[0], size)
        left = min(span.partial[1], size - skip)
    await session.send(compiled.literal(large.label, left, True), unfinished=True)
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
        await session.send(piece, unfinished=True)


def _decoded_size(tx: Tx, email_id: int, span: Span) -> int:
    """How long the part is once its encoding is undone: the literal must say so before it comes."""
    decoder = bodies.decoder(span.encoding)
    size = 0
    for at in range(span.start, span.end, SMALL):
        size += len(decoder.feed(messages.read_source(tx, email_id, at, min(at + SMALL, span.end))))
    return size + len(decoder.finish())

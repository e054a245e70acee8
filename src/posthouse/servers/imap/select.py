"""SELECT and EXAMINE, the end of a selection, EXPUNGE, NOOP and IDLE."""

import asyncio
import contextlib
from collections.abc import Awaitable, Container
from typing import TYPE_CHECKING

from posthouse.imap import keys, numbers, replies
from posthouse.imap.commands import any as common
from posthouse.imap.commands import mailboxes
from posthouse.servers.imap import access, limits
from posthouse.servers.imap.finding import find
from posthouse.servers.imap.list import attributes_of
from posthouse.store import messages
from posthouse.store import select as stored
from posthouse.store.database import Tx
from posthouse.store.model import DELETED, AclChanged
from posthouse.store.select import Opening

if TYPE_CHECKING:
    from posthouse.servers.imap.session import ImapSession

VANISHED_SLICE = 20_000  # UIDs in one response
FLAGS_SLICE = 1000  # messages whose flags are read at once


async def select(session: "ImapSession", event: mailboxes.Select) -> None:
    engine, service = session.engine, session.service
    if session.watch is not None:
        session.leave()
        if engine.rev2:  # RFC 9051 section 7.1: nothing untagged after this is about the old mailbox
            engine.untagged(b"OK [CLOSED] The mailbox selected before is closed")
    watches = service.watches
    read = service.database.read
    owner_id = session.account_id
    if access.owner_of(event.name) is not None:  # whose changes are to be recorded must be known before
        where = await read(access.place, session.account_id, event.name)
        owner_id = where.owner_id if where is not None else owner_id
    with watches.recording(owner_id) as recorded:
        found = await read(_open, session.account_id, event.name, watches)
        if found is not None and found[0].uids is None and found[0].mailbox.id not in watches:
            # The last session that had it selected left while we read.
            found = await read(_open, session.account_id, event.name)
        if found is None:
            engine.no(replies.NO_SUCH_MAILBOX)
            return
        if session.is_gone:
            return
        opening, session.rights = found
        watch = watches.enter(opening, recorded, session)
    listed_anew = any(isinstance(change, AclChanged) for change in recorded)
    read_only = event.read_only or not session.may("WRITE")
    view = session.enter(watch, read_only)
    if listed_anew:
        await session.review()
    flags = replies.flags(watch.keywords)
    engine.untagged(b"FLAGS (%b)" % flags)
    engine.untagged(b"%d EXISTS" % view.count)
    if not engine.rev2:
        engine.untagged(b"%d RECENT" % view.recent_count())
        unseen = view.index(opening.first_unseen) if opening.first_unseen else -1
        if unseen >= 0:
            engine.untagged(b"OK [UNSEEN %d] The first unseen message" % (unseen + 1))
    session.tell_permanent()
    engine.untagged(b"OK [UIDNEXT %d] The next UID" % max(opening.mailbox.uidnext, watch.uidnext))
    engine.untagged(b"OK [UIDVALIDITY %d] UIDs are valid" % opening.mailbox.uidvalidity)
    session.tell_modseq()
    engine.untagged(b"OK [MAILBOXID (%b)] The mailbox" % replies.mailbox_id(opening.mailbox.id))
    engine.untagged(b"OK [URLMECH INTERNAL] URLs of messages can be authorized")
    if engine.rev2:
        mailbox = opening.mailbox
        engine.untagged(replies.list_item(b"LIST", attributes_of(mailbox), mailbox.name, engine.utf8))
    known = event.known
    if known is not None and known.uidvalidity == opening.mailbox.uidvalidity and known.modseq < view.modseq:
        await _catch_up_since(session, known)
    done = replies.ok(
        "EXAMINE completed" if event.read_only else "SELECT completed", b"READ-ONLY" if read_only else b"READ-WRITE"
    )
    done = session.with_modseq(done)
    engine.ok(done.text, done.code)
    session.catch_up()


def _open(tx: Tx, account_id: int, name: str, known: Container[int] = ()) -> tuple[Opening, frozenset[str]] | None:
    """The mailbox as it stands, and what the account may do there."""
    found = access.find(tx, account_id, name, "SELECT")
    return None if found is None else (stored.opening(tx, found.mailbox, known), found.rights)


async def _catch_up_since(session: "ImapSession", known: mailboxes.Known) -> None:
    """QRESYNC: what went and what changed since the client last looked (RFC 7162 section 3.2.5.1)."""
    # What went may have had higher UIDs than all that is left.
    wanted = [(1, numbers.HIGHEST + 1)] if known.uids is None else numbers.of_uids(known.uids, numbers.HIGHEST)
    await tell_vanished(session, wanted, known.modseq)
    await _tell_flags(session, wanted, known.modseq + 1)


async def _tell_flags(session: "ImapSession", ranges: numbers.Ranges, modseq: int) -> None:
    """The flags of messages in these ranges of UIDs (half-open) that changed at `modseq` or later."""
    view, watch = session.selected
    if not ranges:
        return
    low, high = ranges[0][0], ranges[-1][1]
    while low < high:
        rows = await session.service.database.read(
            stored.flags_since, watch.mailbox_id, low, high - 1, modseq, FLAGS_SLICE
        )
        low = rows[-1][0] + 1 if len(rows) == FLAGS_SLICE else high
        told = [row for row in rows if numbers.contains(ranges, row[0])]
        await session.send(b"".join(view.flag_lines(told, session.engine.manner)))


async def tell_vanished(session: "ImapSession", ranges: numbers.Ranges, modseq: int) -> None:
    """VANISHED (EARLIER): which of these UIDs (half-open ranges) went after `modseq` (RFC 7162 section 3.2.10)."""
    view, watch = session.selected
    read = session.service.database.read
    for low, high in ranges:
        while low < high:
            uids = await read(stored.vanished, watch.mailbox_id, low, high - 1, modseq, VANISHED_SLICE)
            low = uids[-1] + 1 if len(uids) == VANISHED_SLICE else high
            # Those that the client still counts are told when they leave its view.
            gone = [uid for uid in uids if view.index(uid) < 0]
            if gone:
                await session.send(b"* VANISHED (EARLIER) %b\r\n" % numbers.format_set(gone))


def close(session: "ImapSession", event: mailboxes.Close) -> Awaitable[None] | None:
    if event.expunge and not session.read_only and session.may("EXPUNGE"):
        return _close(session)
    session.leave()
    session.engine.ok("CLOSE completed" if event.expunge else "UNSELECT completed")
    session.catch_up()
    return None


async def _close(session: "ImapSession") -> None:
    _, watch = session.selected
    with contextlib.suppress(access.Denied):  # lately: nothing is removed then (RFC 4314 section 4)
        await session.write("EXPUNGE", messages.expunge, watch.account_id, watch.mailbox_id)
    session.leave()
    session.engine.ok("CLOSE completed")
    session.catch_up()


async def expunge(session: "ImapSession", event: mailboxes.Expunge) -> None:
    view, watch = session.selected
    if session.read_only:
        session.done_with(replies.READ_ONLY)
        return
    if not session.may("EXPUNGE"):
        session.done_with(replies.NO_PERMISSION)
        return
    uids: list[int] | None = None
    lowest = 0
    if event.wanted is not None:
        found = session.find(event.wanted, uid=True)
        if found is None:
            return
        uids = [uid for low, high in found for uid in view.slice(low, high)]
        most = session.service.options.max_messages
        if most and len(uids) > most:  # RFC 9738 section 3.1: it is the deleted ones that count
            key = keys.And((keys.Uids(tuple(numbers.runs(uids))), keys.Flag(DELETED, True)))
            deleted, _ = await find(session.service, watch.mailbox_id, view, key)
            uids = list(deleted[-most:])
            lowest = uids[0] if len(deleted) > most else 0
    gone = await session.write("EXPUNGE", messages.expunge, watch.account_id, watch.mailbox_id, uids)
    view.expunged(gone)
    session.tell()
    # RFC 7162 section 3.2.7: the state after what was just told.
    code = replies.highest_modseq(view.modseq) if session.engine.condstore and gone else b""
    session.done("EXPUNGE completed", limits.code(session, lowest, code))


def enabled(session: "ImapSession", _: common.Enable) -> None:
    """ENABLE with a mailbox open: the client is told where it stands."""
    session.done("ENABLE completed")


async def turn(session: "ImapSession", _: common.Turn) -> None:
    """Others first; and what was answered is to be read before there is more."""
    await asyncio.sleep(0)
    await session.connection.drain()


def noop(session: "ImapSession", event: common.Noop) -> Awaitable[None] | None:
    if session.view is not None and session.view.lost_flags:
        return _catch_up(session, event)
    session.done(f"{event.name} completed")
    return None


async def _catch_up(session: "ImapSession", event: common.Noop) -> None:
    """So many flags changed since the client last listened that the view lost some: read them."""
    await _lost_flags(session)
    session.done(f"{event.name} completed")


async def _lost_flags(session: "ImapSession") -> None:
    view, _ = session.selected
    since, view.lost_flags = view.lost_flags, 0
    await _tell_flags(session, [(1, numbers.HIGHEST + 1)], since)
    # What changed since is newer than what was read.
    session.tell()


def idle(session: "ImapSession", _: mailboxes.Idle) -> Awaitable[None] | None:
    session.engine.idle()
    if session.view is not None and session.view.lost_flags:
        return _lost_flags(session)
    session.tell()
    return None


def done(session: "ImapSession", _: mailboxes.Done) -> Awaitable[None] | None:
    if session.view is not None and session.view.lost_flags:
        return _done(session)
    _end_idle(session)
    return None


async def _done(session: "ImapSession") -> None:
    await _lost_flags(session)
    _end_idle(session)


def _end_idle(session: "ImapSession") -> None:
    session.tell()
    session.engine.end_idle()
    session.part()
    session.catch_up()

"""APPEND and REPLACE: messages come in piece by piece, into the same intake as mail from outside, and are committed
together: all of them or none.

A client that sends one APPEND behind the other does not wait for each to be on disk: finished ones are put off and
stored together (`flush`), and while they are, the next ones come in. None is answered before it is committed.
"""

import asyncio
from collections.abc import Awaitable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from posthouse.imap import numbers, replies
from posthouse.imap.commands import any as common
from posthouse.imap.commands import append
from posthouse.imap.commands.append import Start, Step, Target, Url
from posthouse.servers.imap import access, contexts, urls
from posthouse.store import events, messages, quota
from posthouse.store.blobs.writer import Content
from posthouse.store.database import Tx
from posthouse.store.intake import Intake
from posthouse.store.messages import NewEmail
from posthouse.store.model import Digest

if TYPE_CHECKING:
    from posthouse.servers.imap.session import ImapSession

# Up to this size the mailbox is only looked up in the transaction that stores the message: it is less work to take a
# small message in vain than to look twice, and a client that does not wait sends it in any case.
SMALL, SENT = 64 * 1024, 256 * 1024
TOGETHER, TOGETHER_OCTETS = 64, 4 << 20  # commands that are put off and stored in one transaction
MAX_TOTAL = 256 * 1024 * 1024  # octets of all messages of one command
MAX_HELD = 8 << 20  # of them in memory: those that come after so many go to files, however small they are


_FINISH: tuple[Step, ...] = (append.Finish(),)


class Ready(NamedTuple):
    """A message that is complete."""

    start: Start
    content: Content
    digest: Digest


class Gathering:
    """The messages of one command, as far as they have come."""

    __slots__ = ("held", "intake", "ready", "start", "target", "total")

    def __init__(self, target: Target) -> None:
        self.target = target
        self.ready: list[Ready] = []
        self.start: Start | None = None
        self.intake: Intake | None = None
        self.total = 0
        self.held = 0  # octets of what is ready, as they are kept in memory

    def files(self) -> list[str]:
        """Files that no row names unless the messages are stored."""
        return [one.content.file for one in self.ready if one.content.file is not None]


def begin(session: "ImapSession", event: append.Append) -> Awaitable[None] | None:
    gathering = session.gathering
    first = event.steps[0] if len(event.steps) == 1 else None
    if gathering is None and isinstance(first, Start) and event.size <= (SMALL if event.waits else SENT):
        session.gathering = gathering = Gathering(event.target)
        _start(session, gathering, first)
        session.engine.proceed()
        return None
    return _begin(session, event)


async def _begin(session: "ImapSession", event: append.Append) -> None:
    try:
        gathering = session.gathering
        if gathering is None:
            database, default = session.service.database, session.service.settings.limits.quota_storage
            problem = await database.glance(_look, session.account_id, event.target.name, event.size, default)
            if problem is not None:
                session.engine.no(problem)
                return
            gathering = session.gathering = Gathering(event.target)
        problem = await _steps(session, gathering, event.steps)
        if problem is None and gathering.total + event.size > MAX_TOTAL:
            problem = replies.no("The messages are more than this server takes at once", b"LIMIT")
    except BaseException:
        session.forget_append()
        raise
    if session.is_gone:
        session.gathering = None
        forget(session, gathering)
    elif problem is None:
        session.engine.proceed()
    else:
        session.forget_append()
        session.engine.no(problem)


def _look(tx: Tx, account_id: int, name: str, size: int, default: int) -> replies.Status | None:
    """Why a large message need not come at all."""
    found = access.find(tx, account_id, name, "APPEND")
    if found is None:
        return replies.TRY_CREATE
    usage = quota.of_account(tx, found.mailbox.account_id, default)
    return replies.OVER_QUOTA if usage is not None and usage.is_over(size, 1) else None


def _start(session: "ImapSession", gathering: Gathering, start: Start) -> None:
    gathering.start = start
    files = session.service.database.files
    gathering.intake = Intake(files, any_line_ends=True, inline=gathering.held <= MAX_HELD)


async def _steps(session: "ImapSession", gathering: Gathering, steps: tuple[Step, ...]) -> replies.Status | None:
    """Do what stands before a literal or at the end; a status says why that is not possible."""
    for step in steps:
        if isinstance(step, Start):
            _start(session, gathering, step)
        elif isinstance(step, Url):
            try:
                if not await _take_url(session, gathering, step.url):
                    return replies.TOO_BIG
            except urls.BadUrl:
                # That the mailbox is to be created comes first: RFC 9051 section 6.3.12 wants to have it said.
                database, default = session.service.database, session.service.settings.limits.quota_storage
                problem = await database.glance(_look, session.account_id, gathering.target.name, 0, default)
                return problem or replies.bad_url(step.url)
        else:
            await _finish(session, gathering)
    return None


async def _take_url(session: "ImapSession", gathering: Gathering, url: bytes) -> bool:
    """Go on with what a URL names; False: that would be too large."""
    place = await urls.own(session, url)
    intake, database = gathering.intake, session.service.database
    assert intake is not None
    gathering.total += place.size
    if intake.size + place.size > session.engine.options.max_message or gathering.total > MAX_TOTAL:
        return False
    async for piece in urls.pieces(database, place):
        await database.work(intake.write, piece)
    return True


async def _finish(session: "ImapSession", gathering: Gathering) -> None:
    intake, start = gathering.intake, gathering.start
    assert intake is not None
    assert start is not None
    if intake.is_long_work:
        content, digest, _scan = await session.service.database.work(intake.finish)
    else:
        content, digest, _scan = intake.finish()
    gathering.intake = None
    gathering.held += len(content.data or b"")
    gathering.ready.append(Ready(start, content, digest))


def data(session: "ImapSession", event: append.AppendData) -> Awaitable[None] | None:
    gathering = session.gathering
    assert gathering is not None
    intake = gathering.intake
    assert intake is not None
    gathering.total += len(event.data)
    if event.data and intake.spills(len(event.data)):
        return _spill(session, intake, event.data)
    intake.write(event.data)
    session.engine.proceed()
    return None


async def _spill(session: "ImapSession", intake: Intake, piece: bytes) -> None:
    await session.service.database.work(intake.write, piece)
    session.engine.proceed()


def aborted(session: "ImapSession", _: append.AppendAborted) -> None:
    session.forget_append()


class Stored(NamedTuple):
    """What APPENDUID tells."""

    uidvalidity: int
    uids: list[int]


class Replaced(NamedTuple):
    """The message that another one stands for."""

    account_id: int
    mailbox_id: int
    uid: int


class Coming(NamedTuple):
    """What one transaction stores."""

    new: NewEmail
    flags: int
    keywords: str
    event: dict[str, Any]


def _append(
    tx: Tx, account_id: int, name: str, coming: list[Coming], now: int, replaced: Replaced | None, default: int
) -> Stored | replies.Status:
    """Store messages and, with `replaced`, remove the one that they stand for; or why not."""
    try:
        found = access.find(tx, account_id, name, "APPEND")
    except access.Denied:
        return replies.NO_PERMISSION
    if found is None:
        return replies.TRY_CREATE
    if replaced is not None and not access.NEEDS["REPLACE"].is_met(
        access.of_mailbox(tx, account_id, replaced.mailbox_id)
    ):
        return replies.NO_PERMISSION
    mailbox, allowed = found.mailbox, access.allowed(found.rights)
    octets, count = sum(one.new.content.size for one in coming), len(coming)
    if replaced is not None and replaced.account_id == mailbox.account_id:
        octets, count = octets - messages.size_of(tx, replaced.mailbox_id, replaced.uid), count - 1
    if not quota.has_room(tx, mailbox.account_id, octets, count, default):
        return replies.OVER_QUOTA
    uids = []
    for one in coming:
        flags, keywords = one.flags & allowed.flags, one.keywords if allowed.keywords else ""
        appended = messages.append(tx, mailbox.account_id, mailbox.id, one.new, flags, keywords, now)
        events.add(tx, one.new.trace, one.new.trace, "appended", one.event, one.new.digest.message_id_hash)
        uids.append(appended.uid)
    if replaced is not None and not messages.remove(tx, replaced.account_id, replaced.mailbox_id, [replaced.uid]):
        raise _Gone
    return Stored(mailbox.uidvalidity, uids)


class _Gone(Exception):
    """The message to be replaced went: what was stored is undone."""


class PutOff(NamedTuple):
    """A command that is complete and answered with others (`flush`)."""

    tag: bytes
    gathering: Gathering


def end(session: "ImapSession", event: append.AppendEnd) -> Awaitable[None] | None:
    """The command is complete. Its messages are stored together with those of the next, if more has come already."""
    gathering = session.gathering
    plain = gathering is not None and event.steps == _FINISH and not event.target.replaces
    if gathering is None or not plain or len(session.put_off) >= TOGETHER:
        return _end(session, event)
    if sum(one.gathering.total for one in session.put_off) > TOGETHER_OCTETS:
        return _end(session, event)
    intake, start = gathering.intake, gathering.start
    if intake is None or start is None or gathering.ready or intake.is_long_work:  # many, or large: they need no others
        return _end(session, event)
    content, digest, _scan = intake.finish()
    gathering.intake = None
    gathering.ready.append(Ready(start, content, digest))
    session.put_off.append(PutOff(session.engine.later(), gathering))
    session.gathering = None
    return None


def flush(session: "ImapSession", event: common.Flush) -> Awaitable[None] | None:
    """Store what was put off, and answer all of it; or begin with that, and take what comes meanwhile."""
    if event.whole:
        return _flush(session)
    if session.contexts is not None:  # results that are kept up to date are told of it when this is over
        return _store_put_off(session)
    if session.storing is None:
        session.storing = session.service.in_background(_store_beside(session))
    return None


async def _flush(session: "ImapSession") -> None:
    await _store_all(session)
    session.engine.flushed()


async def _store_all(session: "ImapSession") -> None:
    """Store what was put off, behind what is being stored."""
    if session.storing is not None:
        await asyncio.wait((session.storing,))
    await _store_put_off(session)


async def _store_beside(session: "ImapSession") -> None:
    """Store what was put off while more of it comes in, as long as there is some."""
    try:
        while session.put_off and not session.is_gone:
            await _store_put_off(session)
            if not session.is_gone:
                session.connection.flush()
    except Exception as error:  # nobody else would hear of it, and the client waits
        session.status_of(error)
        session.connection.abort()
    finally:
        session.storing = None
    if not session.is_gone and not session.engine.answering:
        session.part()
        session.catch_up()
    session.connection.wake()


async def _store_put_off(session: "ImapSession") -> None:
    put_off, session.put_off = session.put_off, []
    if not put_off:
        return
    results: list[Stored | replies.Status]
    try:
        results = await _store(session, [one.gathering for one in put_off])
    except Exception as error:
        results = [session.status_of(error)] * len(put_off)
    session.tell()
    try:
        await contexts.refresh(session)  # before the answers, as for every other command
    except Exception as error:  # it is logged; what is stored is answered all the same
        session.status_of(error)
    for one, stored in zip(put_off, results, strict=True):
        if isinstance(stored, Stored):
            session.engine.complete(one.tag, replies.ok("APPEND completed", _code(stored)))
        else:
            forget(session, one.gathering)
            session.engine.complete(one.tag, stored)
    if not session.put_off and not session.engine.answering:
        session.engine.caught_up()


def forget(session: "ImapSession", gathering: Gathering) -> None:
    """Drop messages that were coming in."""
    if gathering.intake is not None:
        gathering.intake.abandon()
    if files := gathering.files():
        database = session.service.database
        session.service.in_background(database.work(remove_files, [database.files.path(name) for name in files]))


def _code(stored: Stored) -> bytes:
    return b"APPENDUID %d %b" % (stored.uidvalidity, numbers.format_set(stored.uids))


async def _end(session: "ImapSession", event: append.AppendEnd) -> None:
    gathering = session.gathering
    if gathering is None:
        gathering = session.gathering = Gathering(event.target)
    try:
        replaced = _replaced(session, event.target)
        problem = replaced if isinstance(replaced, replies.Status) else await _steps(session, gathering, event.steps)
        if problem is not None:
            session.forget_append()
            session.done_with(problem, expunges=False)
            return
        assert not isinstance(replaced, replies.Status)
        await _store_all(session)
        (stored,) = await _store(session, [gathering], replaced)
    except BaseException:
        session.forget_append()
        raise
    session.gathering = None
    if isinstance(stored, replies.Status):
        forget(session, gathering)
        session.done_with(stored)
        return
    if replaced is None:
        session.done("APPEND completed", _code(stored))
        return
    # RFC 8508 section 3.5: the client must know the new one before the old one goes.
    session.engine.untagged(b"OK [%b] The message is replaced" % _code(stored))
    session.selected[0].expunged([replaced.uid])
    session.done("REPLACE completed")


def _replaced(session: "ImapSession", target: Target) -> Replaced | replies.Status | None:
    """The message to be replaced; None: there is none; a status: it is not there, or is to stay."""
    if not target.replaces:
        return None
    view, watch = session.selected
    if session.read_only:
        return replies.READ_ONLY
    if not session.may("REPLACE"):
        return replies.NO_PERMISSION
    number = numbers.LAST if target.replaces == append.LAST else target.replaces
    wanted = numbers.SequenceSet(((number, number),))
    found = view.find(wanted, target.uid, ())
    if not found:
        return replies.NO_SUCH_MESSAGE
    return Replaced(watch.account_id, watch.mailbox_id, view.uids[found[0][0]])


async def _store(
    session: "ImapSession", gatherings: list[Gathering], replaced: Replaced | None = None
) -> list[Stored | replies.Status]:
    """Store the messages of several commands in one transaction; with `replaced` the last one's stands for another."""
    service = session.service
    now = service.clock.now()
    commands = []
    for gathering in gatherings:
        coming = []
        for start, content, digest in gathering.ready:
            received = now if start.received is None else start.received
            event: dict[str, Any] = {
                "session": session.id,
                "login": session.name,
                "ip": session.connection.peer[0],
                "mailbox": gathering.target.name,
                "size": content.size,
                "message_id": digest.message_id,
            }
            new = NewEmail(content, b"", digest, service.ids.next(now), received)
            coming.append(Coming(new, start.flags.bits, " ".join(sorted(start.flags.keywords)), event))
        commands.append((gathering.target.name, coming))
    try:
        default = service.settings.limits.quota_storage
        return await service.database.write(_append_all, session.account_id, commands, now, replaced, default)
    except _Gone:
        return [replies.NO_SUCH_MESSAGE] * len(commands)


def _append_all(
    tx: Tx,
    account_id: int,
    commands: list[tuple[str, list[Coming]]],
    now: int,
    replaced: Replaced | None,
    default: int,
) -> list[Stored | replies.Status]:
    last = len(commands) - 1
    return [
        _append(tx, account_id, name, coming, now, replaced if number == last else None, default)
        for number, (name, coming) in enumerate(commands)
    ]


def remove_files(paths: list[Path]) -> None:
    """Remove files that no row names."""
    for path in paths:
        path.unlink(missing_ok=True)

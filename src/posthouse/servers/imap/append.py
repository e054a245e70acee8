"""APPEND: a message comes in piece by piece, into the same intake as mail from outside, and is committed."""

from collections.abc import Awaitable
from pathlib import Path
from typing import TYPE_CHECKING

from posthouse.imap import replies
from posthouse.imap.commands import append
from posthouse.store import events, mailboxes, messages
from posthouse.store.database import Tx
from posthouse.store.intake import Intake
from posthouse.store.messages import NewEmail

if TYPE_CHECKING:
    from posthouse.servers.imap.session import ImapSession

# Up to this size the mailbox is only looked up in the transaction that stores the message: it is less work to take a
# small message in vain than to look twice.
SMALL = 64 * 1024


def begin(session: "ImapSession", event: append.Append) -> Awaitable[None] | None:
    session.append = event
    if event.size <= SMALL:
        session.engine.proceed()
        return None
    return _look(session, event)


async def _look(session: "ImapSession", event: append.Append) -> None:
    if await session.service.database.read(mailboxes.by_name, session.account_id, event.name) is None:
        session.append = None
        session.engine.no(replies.TRY_CREATE)
        return
    session.engine.proceed()


def data(session: "ImapSession", event: append.AppendData) -> Awaitable[None] | None:
    intake = session.intake
    if intake is None:
        intake = session.intake = Intake(session.service.database.files, any_line_ends=True)
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


def _append(
    tx: Tx, account_id: int, name: str, new: NewEmail, flags: int, keywords: str, now: int, event: dict[str, object]
) -> tuple[int, int] | None:
    """UIDVALIDITY and UID of the stored message, or None: there is no such mailbox."""
    mailbox = mailboxes.by_name(tx, account_id, name)
    if mailbox is None:
        return None
    appended = messages.append(tx, account_id, mailbox.id, new, flags, keywords, now)
    events.add(tx, new.trace, new.trace, "appended", event, new.digest.message_id_hash)
    return mailbox.uidvalidity, appended.uid


async def end(session: "ImapSession", _: append.AppendEnd) -> None:
    service, wanted, intake = session.service, session.append, session.intake
    assert wanted is not None
    assert intake is not None
    if intake.spills(0):
        content, digest, _scan = await service.database.work(intake.finish)
    else:
        content, digest, _scan = intake.finish()
    session.append = session.intake = None
    now = service.clock.now()
    received = now if wanted.received is None else wanted.received
    new = NewEmail(content, b"", digest, service.ids.next(now), received)
    event: dict[str, object] = {
        "session": session.id,
        "login": session.name,
        "ip": session.connection.peer[0],
        "mailbox": wanted.name,
        "size": content.size,
        "message_id": digest.message_id,
    }
    stored = None
    try:
        stored = await service.database.write(
            _append,
            session.account_id,
            wanted.name,
            new,
            wanted.flags.bits,
            " ".join(sorted(wanted.flags.keywords)),
            now,
            event,
        )
    finally:
        if stored is None and content.file is not None:  # no row will name it
            await service.database.work(_remove, service.database.files.path(content.file))
    if stored is None:
        session.done_with(replies.TRY_CREATE)
    else:
        session.done("APPEND completed", b"APPENDUID %d %d" % stored)


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)

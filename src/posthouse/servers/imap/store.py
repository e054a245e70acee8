"""STORE: flags of messages, in slices, so that a STORE of everything does not hold up those who deliver."""

from typing import TYPE_CHECKING

from posthouse.imap import replies
from posthouse.imap.commands.store import Store
from posthouse.store import messages

if TYPE_CHECKING:
    from posthouse.servers.imap.session import ImapSession

SLICE = 500  # messages in one transaction


async def store(session: "ImapSession", event: Store) -> None:
    view, watch = session.selected
    if session.read_only:
        session.done_with(replies.READ_ONLY, expunges=event.uid)
        return
    found = session.find(event.wanted, event.uid)
    if found is None:
        return
    rev1 = not session.engine.rev2
    missing = 0
    pending: list[int] = []
    for low, high in [*found, (0, 0)]:
        for at in range(low, high, SLICE):
            pending += view.slice(at, min(at + SLICE, high))
        while len(pending) >= SLICE or (pending and low == high):
            uids, pending = pending[:SLICE], pending[SLICE:]
            rows = await session.service.database.write(
                messages.store_flags,
                session.account_id,
                watch.mailbox_id,
                uids,
                event.mode,
                event.flags.bits,
                event.flags.keywords,
            )
            missing += len(uids) - len(rows)
            view.told(rows)
            session.tell_keywords()
            if not event.silent:
                await session.send(b"".join(view.flag_lines(rows, rev1, with_uid=event.uid)))
    if missing and not event.uid:
        session.done_with(replies.EXPUNGED, expunges=False)
    else:
        session.done("STORE completed", expunges=event.uid)

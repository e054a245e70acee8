"""STORE: flags of messages, in slices, so that a STORE of everything does not hold up those who deliver."""

from typing import TYPE_CHECKING

from posthouse.imap import numbers, replies
from posthouse.imap.commands.store import Store
from posthouse.servers.imap import access, limits
from posthouse.servers.imap.progress import Progress
from posthouse.store import acl, mailboxes, messages
from posthouse.store.database import Tx

if TYPE_CHECKING:
    from posthouse.servers.imap.session import ImapSession

SLICE = 500  # messages in one transaction


def _may_anything(event: Store, allowed: messages.Allowed) -> bool:
    """RFC 4314 section 4: a STORE fails only if none of its flags may be changed."""
    if event.mode == "set":
        return bool(allowed.flags)
    named = event.flags
    asks = bool(named.bits or named.keywords)
    return not asks or bool(named.bits & allowed.flags) or bool(named.keywords and allowed.keywords)


def _store(
    tx: Tx, mailbox_id: int, account_id: int, uids: list[int], event: Store, reader_id: int
) -> tuple[int, list[tuple[int, int, int, str]]]:
    """Change flags; the highest modseq before that, and what `messages.store_flags` returns."""
    mailbox = mailboxes.by_id(tx, mailbox_id)
    before = mailbox.highestmodseq if mailbox is not None else 0
    flags, since = event.flags, event.unchanged_since
    # As it is now, not when the command came.
    allowed = access.allowed(acl.rights(tx, reader_id, mailbox) if mailbox is not None else acl.NONE)
    if not _may_anything(event, allowed):
        raise access.Denied
    return before, messages.store_flags(
        tx, account_id, mailbox_id, uids, event.mode, flags.bits, flags.keywords, since, allowed
    )


async def store(session: "ImapSession", event: Store) -> None:
    view, watch = session.selected
    if session.read_only:
        session.done_with(replies.READ_ONLY, expunges=event.uid)
        return
    allowed = access.allowed(session.rights)
    if not _may_anything(event, allowed):
        session.done_with(replies.NO_PERMISSION, expunges=event.uid)
        return
    found = session.find(event.wanted, event.uid)
    if found is None:
        return
    found, lowest = limits.cut(session, found)
    spans = list(limits.downwards(found, SLICE)) if lowest else found
    progress, done = Progress(session, numbers.total(found)), 0
    manner = session.engine.manner
    missing = 0
    modified: list[int] = []
    pending: list[int] = []
    for low, high in [*spans, (0, 0)]:
        for at in range(low, high, SLICE):
            part = view.slice(at, min(at + SLICE, high))
            pending += reversed(part) if lowest else part
        while len(pending) >= SLICE or (pending and low == high):
            uids, pending = pending[:SLICE], pending[SLICE:]
            before, rows = await session.service.database.write(
                _store, watch.mailbox_id, watch.account_id, uids, event, session.account_id
            )
            missing += len(uids) - len(rows)
            if lowest:
                rows.reverse()
            if event.unchanged_since is not None:
                left = {uid for uid, modseq, _, _ in rows if modseq < 0}
                modified += sorted(left)
                rows = [row for row in rows if row[0] not in left]
            view.told(rows, before if event.silent else None)
            session.tell_keywords()
            # RFC 7162 section 3.1.3: a silent STORE tells the new modseq all the same.
            if not event.silent or manner.modseq:
                await session.send(b"".join(view.flag_lines(rows, manner, event.uid, event.silent)))
            done += len(uids)
            progress.tell(done)
    code = b""
    if modified:
        named = modified if event.uid else [view.index(uid) + 1 for uid in modified]
        code = replies.modified(numbers.format_set(named))
    if missing and not event.uid and not code:
        if lowest:
            limits.tell(session, lowest)
        session.done_with(replies.EXPUNGED if event.silent else replies.NOT_ALL_STORED, expunges=False)
    else:
        session.done("STORE completed", limits.code(session, lowest, code), expunges=event.uid)

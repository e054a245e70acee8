"""COPY and MOVE."""

from typing import TYPE_CHECKING

from posthouse.imap import numbers, replies
from posthouse.imap.commands.copy import Copy
from posthouse.servers.imap import access, limits
from posthouse.servers.imap.progress import kept_up
from posthouse.store import messages, quota
from posthouse.store.database import Tx

if TYPE_CHECKING:
    from posthouse.servers.imap.session import ImapSession


MANY = 1000  # messages from which on a COPY may take long


def _copy(
    tx: Tx, account_id: int, source: tuple[int, int], uids: list[int], event: Copy, now: int, default: int
) -> tuple[int, list[tuple[int, int]]] | None:
    """UIDVALIDITY of the target and the pairs of UIDs; None: there is no such mailbox. All or nothing. `source`: the
    mailbox that the messages are in, and its owner."""
    found = access.find(tx, account_id, event.name, "COPY TO")
    if found is None:
        return None
    target, (mailbox_id, owner_id) = found.mailbox, source
    work = messages.move if event.move else messages.copy
    allowed = access.allowed(found.rights)
    pairs = work(tx, target.account_id, mailbox_id, uids, target.id, now, owner_id=owner_id, allowed=allowed)
    if pairs and not (event.move and owner_id == target.account_id):
        quota.check(tx, target.account_id, default)  # who has no room left may still move what is there
    return target.uidvalidity, pairs


async def copy(session: "ImapSession", event: Copy) -> None:
    view, watch = session.selected
    if event.move and session.read_only:
        session.done_with(replies.READ_ONLY)
        return
    if event.move and not session.may("MOVE"):
        session.done_with(replies.NO_PERMISSION)
        return
    found = session.find(event.wanted, event.uid)
    if found is None:
        return
    kept, lowest = limits.cut(session, found)
    if lowest and not event.move:  # RFC 9738 section 3.1: it copies all or nothing
        limits.too_many(session, lowest)
        return
    found = kept
    uids = [uid for low, high in found for uid in view.slice(low, high)]
    service = session.service
    now, default = service.clock.now(), service.settings.limits.quota_storage
    work = session.write(
        "MOVE" if event.move else "SELECT",
        _copy,
        session.account_id,
        (watch.mailbox_id, watch.account_id),
        uids,
        event,
        now,
        default,
    )
    copied = await (work if len(uids) < MANY else kept_up(session, work))
    if copied is None:
        session.done_with(replies.TRY_CREATE)
        return
    uidvalidity, pairs = copied
    code = b""
    if pairs:
        code = b"COPYUID %d %b %b" % (
            uidvalidity,
            numbers.format_set(old for old, _ in pairs),
            numbers.format_set(new for _, new in pairs),
        )
    if event.move:
        # RFC 6851 section 4.3: the code comes before the EXPUNGE responses.
        if code:
            session.engine.untagged(b"OK [%b] Moved" % code)
        view.expunged(old for old, _ in pairs)
        session.done("MOVE completed", limits.code(session, lowest))
    else:
        # If some are gone, COPYUID tells which were copied; if all are, a client must not take it for done
        # (RFC 2180 section 4.4). A UID that is gone is passed over silently (RFC 9051 section 6.4.9).
        if uids and not pairs and not event.uid:
            session.done_with(replies.NONE_LEFT)
            return
        session.done("COPY completed", code)

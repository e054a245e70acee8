"""Recipients whose mailboxes are full (RFC 3463: 4.2.2), decided at RCPT and again when the message is here.

One whose account is full is put off with 452. Of several accounts behind one address the full ones get theirs from the
queue, which tries until there is room or the message is too old; so do those that fill up while a message for several
comes in by SMTP, which has one answer for all of them.
"""

from posthouse.delivery.quotas import is_exempt
from posthouse.servers.smtp.shared import Shared
from posthouse.servers.smtp.transaction import Transaction
from posthouse.smtp import replies
from posthouse.smtp.replies import Reply
from posthouse.store.accounts import Resolution
from posthouse.wire.address import Address


def unknown(service: Shared, recipient: Address, resolution: Resolution) -> bool:
    """Must something be looked up before `at_recipient`?"""
    if service.quotas is None or not resolution.accounts or is_exempt(recipient):
        return False
    return service.quotas.unknown(resolution.accounts)


async def look_up(service: Shared, resolution: Resolution) -> None:
    """Look it up."""
    if service.quotas is not None and resolution.accounts:
        await service.quotas.learn(resolution.accounts)


def at_recipient(service: Shared, transaction: Transaction, recipient: Address, resolution: Resolution) -> Reply | None:
    """The refusal of a recipient who has no room; held mail is judged when its time has come."""
    if service.quotas is None or not resolution.accounts or transaction.due:
        return None
    if is_exempt(recipient):
        transaction.exempt.update(resolution.accounts)
        return None
    full = service.quotas.full(resolution.accounts, transaction.params.size or 0)
    everybody = len(full) == len(resolution.accounts) and not resolution.remote
    return replies.MAILBOX_FULL if full and everybody else None


def at_end(service: Shared, transaction: Transaction, size: int) -> Reply | None:
    """Sort the copies of a complete message; the refusal, if nobody is left who may have one."""
    if service.quotas is None:
        return None
    full = service.quotas.full((one for one in transaction.local if one not in transaction.exempt), size)
    if not full:
        return None
    others = transaction.remote or transaction.forwarded or transaction.discarded
    if not service.lmtp and len(full) == len(transaction.local) and not others:
        return replies.MAILBOX_FULL
    for usage in full:
        if service.lmtp:
            transaction.refuse(usage.account_id, replies.MAILBOX_FULL)
        else:
            transaction.put_aside(usage.account_id, usage.name)
    return None if transaction.has_someone else replies.MAILBOX_FULL

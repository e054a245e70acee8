"""What becomes of each account's copy of a complete message: the operator's `on_deliver` is asked, account by account.

SMTP has one answer for all: the first refusal is everybody's. LMTP has one for each recipient (RFC 2033 section 4.2):
who is refused gets no copy, the others get theirs.
"""

from posthouse.filter.visitor import ContentFacts, Visitor
from posthouse.servers.smtp.shared import Shared
from posthouse.servers.smtp.transaction import Transaction
from posthouse.smtp.replies import Reply
from posthouse.store import mailboxes
from posthouse.store.accounts import names


async def sort(service: Shared, visitor: Visitor, transaction: Transaction, facts: ContentFacts) -> Reply | None:
    """Sort the copies; the refusal, if nobody is left who may have one."""
    gate = service.gate
    if gate is None or not gate.needs("deliver", visitor):
        return None
    refusal: Reply | None = None
    for account_id in list(transaction.local):
        (name,) = await service.database.read(names, [account_id]) or [""]
        destiny = await gate.deliver(visitor, facts, name)
        if destiny.ruling.reply is not None:
            if not service.lmtp:
                return destiny.ruling.reply
            refusal = refusal or destiny.ruling.reply
            transaction.refuse(account_id, destiny.ruling.reply)
        elif not destiny.keep:
            del transaction.local[account_id]
            transaction.discarded.append(name)
        elif destiny.mailbox:
            transaction.into[account_id] = destiny.mailbox
            if await service.database.read(mailboxes.by_name, account_id, destiny.mailbox) is None:
                service.log.warning(
                    "filter.into", session=visitor.session, account=name, mailbox=destiny.mailbox[:255], used="INBOX"
                )
    return None if transaction.has_someone else refusal

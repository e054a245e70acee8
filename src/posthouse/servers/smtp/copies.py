"""What becomes of each account's copy of a complete message: the operator's `on_deliver` is asked, account by account.

SMTP has one answer for all: the first refusal is everybody's. LMTP has one for each recipient (RFC 2033 section 4.2):
who is refused gets no copy, the others get theirs. A message that was held (RFC 4865) is asked about when it is let go;
nobody is connected then, so the hook hears who sent it and nothing of a client.
"""

from posthouse.base import ids
from posthouse.base.errors import Temporary
from posthouse.base.log import Logger
from posthouse.delivery.inject import Copies, Held
from posthouse.filter.gate import Gate
from posthouse.filter.visitor import ContentFacts, Visitor
from posthouse.servers.smtp.shared import Shared
from posthouse.servers.smtp.transaction import Transaction
from posthouse.smtp.replies import Reply
from posthouse.store import mailboxes
from posthouse.store.accounts import names
from posthouse.store.database import Database


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
                _not_there(service.log, visitor.session, name, destiny.mailbox)
    return None if transaction.has_someone else refusal


def _not_there(log: Logger, session: str, name: str, mailbox: str) -> None:
    log.warning("filter.into", session=session, account=name, mailbox=mailbox[:255], used="INBOX")


class HeldCopies:
    """For the injector: asks about the copies of a held message that is let go."""

    def __init__(self, gate: Gate, database: Database, log: Logger) -> None:
        self._gate = gate
        self._database = database
        self._log = log

    async def __call__(self, held: Held) -> Copies:
        message = held.message
        read = self._database.read
        (login,) = await read(names, [message.account_id]) or [""] if message.account_id is not None else [""]
        visitor = Visitor(ids.to_text(message.id), "submission", "", exempt=True, login=login, sender=message.sender)
        visitor.size, visitor.recipients = held.size, list(held.recipients)
        into: dict[int, str] = {}
        discarded: dict[int, str] = {}
        refused: set[int] = set()
        if self._gate.needs("deliver", visitor):
            facts = ContentFacts(held.header, held.size, held.message_id, b"", False)
            for account_id in held.accounts:
                (name,) = await read(names, [account_id]) or [""]
                destiny = await self._gate.deliver(visitor, facts, name)
                reply = destiny.ruling.reply
                if reply is not None and reply.temporary:
                    raise Temporary(f"on_deliver puts the copy of {name} off: {reply.text}")
                if reply is not None:
                    refused.add(account_id)
                    self._log.info("filter.refused", message=visitor.session, account=name, reply=reply.text)
                elif not destiny.keep:
                    discarded[account_id] = name
                elif destiny.mailbox:
                    into[account_id] = destiny.mailbox
                    if await read(mailboxes.by_name, account_id, destiny.mailbox) is None:
                        _not_there(self._log, visitor.session, name, destiny.mailbox)
        return Copies(into, discarded, frozenset(refused), tuple(visitor.tags))

"""SMTP: the decisions of one connection. It answers the engine's events with the help of the directory (who lives
here), the logins, and `delivery.accept` (the one transaction).

The engine has judged syntax, order and limits before; here it is decided who may send what to whom. Logging in and
what proxies say is `entry.py`, the transaction's bookkeeping `transaction.py`, whether a message that is here whole is
wanted `complete.py`.

Whatever goes wrong unexpectedly is answered 451 4.3.0 with the session's id and logged in one line; a full
disk is 452 4.3.1. Nothing is answered 250 before it is committed and synced.
"""

from collections.abc import Awaitable, Callable
from typing import Any

from posthouse.auth.exchange import Exchange
from posthouse.auth.login import Login
from posthouse.base import ids
from posthouse.base.errors import StorageFull
from posthouse.delivery import accept
from posthouse.filter.visitor import GO, ContentFacts, Ruling, Stage, Visitor
from posthouse.net.connection import Connection
from posthouse.servers.smtp import complete, copies, onward, origin, recipients, room, senders, signed
from posthouse.servers.smtp.shared import Shared
from posthouse.servers.smtp.signed import Way
from posthouse.servers.smtp.transaction import SECOND, Transaction
from posthouse.smtp import replies
from posthouse.smtp.events import (
    Content,
    ContentAborted,
    Hello,
    Mail,
    Rcpt,
    Reset,
    StartTls,
)
from posthouse.smtp.replies import Reply
from posthouse.smtp.server import SmtpServer
from posthouse.store.accounts import Resolution, addresses_of
from posthouse.store.blobs.writer import Content as Stored
from posthouse.store.intake import Intake
from posthouse.store.model import Digest
from posthouse.wire.address import Address

CONTENT_LIMIT = 1800.0  # seconds for a whole message, before the size is added
SLOWEST = 2048  # bytes a second below which a sender is too slow
DAY = 86_400 * SECOND
# Larger messages are taken apart by a thread: a header of odd addresses costs a hundred times what a usual one does.
LOOKED_AT_HERE = 16 * 1024
HEAD = 1024 * 1024  # octets of a message that filters see


class SmtpSession:
    """One connection."""

    __slots__ = (
        "_gone",
        "_handlers",
        "_head",
        "_intake",
        "_may_relay",
        "_messages",
        "_way",
        "connection",
        "engine",
        "exchange",
        "hello",
        "id",
        "log_off",
        "login",
        "mechanism",
        "owned",
        "service",
        "transaction",
        "verb",
        "visitor",
    )

    def __init__(self, service: Shared, connection: Connection, handlers: "Handlers") -> None:
        self.service = service
        self._handlers = handlers
        self.connection = connection
        self.engine = SmtpServer(service.options_for(connection.peer[0]))
        self.id = ids.to_text(service.ids.next(service.clock.now()))
        self.hello = ""
        self.verb = "HELO"
        self.login: Login | None = None
        self.mechanism = ""  # by which it logged in
        self.log_off: Callable[[], None] | None = None
        self.exchange: Exchange | None = None
        self.owned: set[str] | None = None  # what the account may send as, once it was asked
        self.transaction: Transaction | None = None
        self._gone = False
        self._may_relay: bool | None = None
        self._messages = 0
        self._intake: Intake | None = None
        self._head = b""  # the beginning of the content, if a filter wants to see it
        self._way: Way | None = None
        self.visitor: Visitor | None = service.new_visitor(self.id, connection)

    @property
    def ip(self) -> str:
        """The client's address; behind a proxy, what the proxy says."""
        return self.connection.peer[0]

    # The connection's side

    def start(self) -> Awaitable[None] | None:
        self.connection.set_timeout(self.service.command_timeout)
        self.engine.certified = self.connection.certificate is not None
        gate = self.service.gate
        if self.visitor is not None and gate is not None:
            ruling = None if gate.banner_delay else self.at_once("connect")
            if ruling is None or ruling.delay or ruling.reply is not None:
                return self._receive(self.visitor, ruling)
        self.engine.greet(replies.greeting(self.service.settings.hostname))
        return None

    async def _receive(self, visitor: Visitor, ruling: Ruling | None) -> None:
        """Greet, once the filters have looked at the client."""
        gate = self.service.gate
        assert gate is not None
        if gate.banner_delay and not visitor.is_known:
            await self.service.clock.sleep(gate.banner_delay)
            if self.engine.buffered:
                self.rejected(replies.EARLY_TALKER, "")
                self.engine.greet(replies.EARLY_TALKER)
                return
        refusal = await self.ask("connect", ruling=ruling)
        if refusal is not None:
            # RFC 5321 section 3.1: 554 instead of the greeting; 4yz is 421
            self.rejected(refusal, "")
            refusal = refusal._replace(code=554 if refusal.code >= 500 else 421, status="")
        self.engine.greet(refusal or replies.greeting(self.service.settings.hostname))

    def at_once(self, stage: Stage) -> Ruling | None:
        """What the filters say at a stage, if nobody has to wait for it; else None, and then `ask`."""
        visitor, gate = self.visitor, self.service.gate
        if visitor is None or gate is None or not gate.needs(stage, visitor):
            return GO
        return gate.decide(stage, visitor)

    async def ask(
        self, stage: Stage, content: ContentFacts | None = None, ruling: Ruling | None = None
    ) -> Reply | None:
        """The refusal of the filters at a stage, or None. Waits where a rule says so. `ruling`: it is known."""
        ruling = ruling or self.at_once(stage)
        if ruling is None:
            visitor, gate = self.visitor, self.service.gate
            assert visitor is not None
            assert gate is not None
            ruling = await gate.check(stage, visitor, content)
        if ruling.delay:
            await self.service.clock.sleep(ruling.delay)
        return ruling.reply

    def handle(self, event: Any) -> Awaitable[None] | None:
        return self._handlers[type(event)](self, event)

    def failed(self, error: Exception) -> None:
        if isinstance(error, StorageFull):
            reply = replies.STORAGE_FULL
        else:
            reply = Reply(451, "4.3.0", f"Something went wrong here, try again later (session {self.id})")
        self.service.log.error("smtp.failed", session=self.id, ip=self.ip, error=repr(error))
        if self.transaction is not None:
            self.transaction.number = 0  # it is not kept under the one it had
            self.transaction.reject("", reply)
        if self._intake is not None:
            self._drop_content()
        self.connection.set_limit(0)
        self.connection.set_timeout(self.service.command_timeout)
        self.engine.fail(reply)
        # Before the greeting no event waits: without a word the client would wait for one until its time is over.
        self.engine.greet(reply._replace(code=421, status=""))

    def timed_out(self) -> None:
        self.engine.goodbye(replies.TIMEOUT)

    def shutdown(self) -> None:
        self.engine.goodbye(replies.SHUTTING_DOWN)

    def closed(self) -> None:
        self._gone = True
        self.end_transaction()
        self.log_out()
        self.service.log.debug("smtp.closed", session=self.id, ip=self.ip, hello=self.hello, messages=self._messages)

    def log_out(self) -> None:
        """Forget who it was."""
        self.login = self.owned = None
        if self.visitor is not None:
            self.visitor.login, self.visitor.account_id = "", None
        if self.log_off is not None:
            self.log_off()
            self.log_off = None

    def end_transaction(self) -> None:
        """Forget what was begun; what was refused of it is in the trace."""
        if self.transaction is not None:
            self._keep_refusal(self.transaction)
        self.transaction = None
        self._drop_content()
        if self.visitor is not None:
            self.visitor.begin()

    def _drop_content(self) -> None:
        if self._intake is not None:
            self._intake.abandon()
            self._intake = None
        self._way = None
        self._head = b""

    # Greeting, TLS

    def _on_hello(self, event: Hello) -> Awaitable[None] | None:
        self.hello = event.name
        self.verb = event.verb
        self.end_transaction()
        self.engine.day = self.service.clock.now() // DAY
        if self.visitor is not None:
            self.visitor.greet(event.name)
            ruling = self.at_once("hello")
            if ruling is None or ruling.delay:
                return self._judge_hello(ruling)
            self._answer(ruling.reply, replies.OK)
            return None
        self.engine.reply(replies.OK)
        return None

    async def _judge_hello(self, ruling: Ruling | None) -> None:
        self._answer(await self.ask("hello", ruling=ruling), replies.OK)

    def _answer(self, refusal: Reply | None, otherwise: Reply, sender: str = "") -> None:
        if refusal is not None:
            self.rejected(refusal, sender)
        self.engine.reply(refusal or otherwise)

    def _on_starttls(self, _event: StartTls) -> Awaitable[None]:
        return self._start_tls()

    async def _start_tls(self) -> None:
        self.engine.reply(replies.READY_FOR_TLS)
        if await self.connection.start_tls():
            self.engine.certified = self.connection.certificate is not None
            self.engine.tls_started()
            # Whoever spoke before the handshake may have been somebody in the middle (RFC 3207 section 4.2).
            self.log_out()
            self.hello = ""
            self.end_transaction()
            if self.visitor is not None:
                tls = self.connection.tls
                self.visitor.secure = f"{tls.version} {tls.cipher}" if tls else ""
                self.visitor.greet("")

    # The mail transaction

    def _on_mail(self, event: Mail) -> Awaitable[None] | None:
        service = self.service
        if not service.has_room():
            self.engine.reply(replies.STORAGE_FULL)
            return None
        due = 0
        hold = event.params.hold
        if hold is not None:
            now = service.clock.now()
            due = hold.until * SECOND if hold.until is not None else now + (hold.seconds or 0) * SECOND
            if due <= now:
                self.engine.reply(replies.HOLD_PAST)
                return None
            if due > now + service.options.hold_interval * SECOND:
                self.engine.reply(replies.HOLD_TOO_LONG)
                return None
        by = event.params.by
        if due and by is not None and by.mode == "R" and due > service.clock.now() + by.seconds * SECOND:
            self.engine.reply(replies.HOLD_TOO_LONG)  # RFC 2852: it would come back before it went
            return None
        self.end_transaction()
        self.transaction = Transaction(event.sender, event.params, due, service.clock.now())
        if self.visitor is not None:
            self.visitor.send(str(event.sender), event.params.size)
        if self.login is not None and not service.settings.smtp.any_sender:
            return self._check_sender(event.sender, None)
        ruling = self.at_once("mail")
        if ruling is None or ruling.delay:
            return self._check_sender(event.sender, ruling)
        self._answer(ruling.reply, replies.SENDER_OK, str(event.sender))
        if ruling.reply is not None:
            self.end_transaction()
        return None

    async def _check_sender(self, sender: Address, ruling: Ruling | None) -> None:
        refusal = None
        if self.login is not None and not self.service.settings.smtp.any_sender:
            refusal = senders.check_envelope(await self.owned_addresses(), sender)
        refusal = refusal or await self.ask("mail", ruling=ruling)
        self._answer(refusal, replies.SENDER_OK, str(sender))
        if refusal is not None:
            self.end_transaction()

    def _on_rcpt(self, event: Rcpt) -> Awaitable[None] | None:
        service, recipient = self.service, event.recipient
        resolution = service.directory.known(recipient)
        if (
            resolution is None
            or recipients.needs_more(service, self.login, recipient, resolution)
            or room.unknown(service, recipient, resolution)
        ):
            return self._look_up(event)
        reply = self._decide(resolution)
        if reply.accepted and self.visitor is not None:
            self.visitor.ask_about(str(event.recipient))
            ruling = self.at_once("recipient")
            if ruling is None or ruling.delay:
                return self._judge_recipient(event, resolution, reply, ruling)
            reply = ruling.reply or reply
        self._recipient(event, resolution, reply)
        return None

    async def _look_up(self, event: Rcpt) -> None:
        transaction = self.transaction
        assert transaction is not None
        resolution, reply = await recipients.look_up(
            self.service, self.login, transaction.sender, event.recipient, self._decide
        )
        await room.look_up(self.service, resolution)
        if reply.accepted and self.visitor is not None:
            self.visitor.ask_about(str(event.recipient))
            await self._judge_recipient(event, resolution, reply, None)
        else:
            self._recipient(event, resolution, reply)

    async def _judge_recipient(self, event: Rcpt, resolution: Resolution, reply: Reply, ruling: Ruling | None) -> None:
        self._recipient(event, resolution, await self.ask("recipient", ruling=ruling) or reply)

    def _recipient(self, event: Rcpt, resolution: Resolution, reply: Reply) -> None:
        transaction = self.transaction
        assert transaction is not None
        if reply.accepted:
            reply = room.at_recipient(self.service, transaction, event.recipient, resolution) or reply
        if reply.accepted:
            transaction.add(event.recipient, event.params, resolution)
            if self.visitor is not None:
                self.visitor.recipients.append(str(event.recipient))
        else:
            self.rejected(reply, str(transaction.sender), str(event.recipient))
        self.engine.reply(reply)

    async def owned_addresses(self) -> set[str]:
        """What the account may send as."""
        if self.owned is None:
            assert self.login is not None
            self.owned = await self.service.database.read(addresses_of, self.login.account_id)
        return self.owned

    def rejected(self, reply: Reply, sender: str, recipient: str = "") -> None:
        """A line in the log, and in the trace: who asks why a mail did not come finds it here."""
        if self.transaction is not None:
            self.transaction.reject(recipient, reply)
        self._log_rejection(reply, sender=sender, recipient=recipient)

    def _log_rejection(self, reply: Reply, **who: Any) -> None:
        login = {"login": self.login.name} if self.login is not None else {}
        self.service.log.info(
            "smtp.rejected", session=self.id, ip=self.ip, **login, **who, code=reply.code, reply=reply.text
        )

    def _decide(self, resolution: Resolution) -> Reply:
        if resolution.local:
            known = resolution.accounts or resolution.remote
            return replies.RECIPIENT_OK if known else replies.NO_SUCH_USER
        return replies.RECIPIENT_OK if self.relay_allowed() else replies.RELAY_DENIED

    def relay_allowed(self) -> bool:
        if self.login is not None:
            return True
        if self.service.lmtp:
            return False
        if self._may_relay is None:
            self._may_relay = self.service.may_relay(self.ip)
        return self._may_relay

    def forget_place(self) -> None:
        """The client's address is another one: what hung on it is to be asked again."""
        self._may_relay = None

    # Content

    def take(self, event: Content) -> Intake:
        """Where the content goes."""
        intake = self._intake
        if intake is None:
            binary = self.transaction is not None and self.transaction.params.body == "BINARYMIME"
            way = self._way = signed.way(self)
            intake = self._intake = Intake(self.service.database.files, any_line_ends=binary, through=way)
            if not event.last:
                self.connection.set_timeout(self.service.content_timeout)
                declared = self.service.options.max_size / SLOWEST
                self.connection.set_limit(CONTENT_LIMIT + declared)
        if self.visitor is not None and self.service.sees_content and len(self._head) < HEAD:
            self._head += event.data[: HEAD - len(self._head)]
        return intake

    def _on_content(self, event: Content) -> Awaitable[None] | None:
        intake = self.take(event)
        if intake.spills(len(event.data)) or (self._way is not None and self._way.takes_long(event.data)):
            return self._spill(intake, event)
        intake.write(event.data)
        if event.last:
            return self.finish(intake)
        self.engine.proceed()
        return None

    async def _spill(self, intake: Intake, event: Content) -> None:
        await self.service.database.work(intake.write, event.data)
        if event.last:
            await self.finish(intake)
        else:
            self.engine.proceed()

    async def finish(self, intake: Intake) -> None:
        """The whole message is here: decide, commit, and only then 250."""
        service, transaction = self.service, self.transaction
        assert transaction is not None
        # The client may go while this waits, and then nothing is left of who it was: such a message is not kept.
        login, where, way = self.login, origin.where(self), self._way
        if intake.is_long_work or intake.size > LOOKED_AT_HERE:
            content, digest, scanned = await service.database.work(intake.finish)
        else:
            content, digest, scanned = intake.finish()
        self._intake = None
        transaction.forged = way.forged if way is not None else {}
        header = scanned.root.header_bytes
        try:
            facts = ContentFacts(header, content.size, digest.message_id, self._head, content.size > len(self._head))
            refusal = await complete.judge(self, self._way, facts) if not self._gone else None
            if refusal is not None:
                self._refuse(transaction, refusal, content, digest)
                return
            now = service.clock.now()
            number = service.ids.next(now)
            text = ids.to_text(number)
            may_hurry = login is not None or self.relay_allowed()
            if self.visitor is not None:
                refusal = await copies.sort(service, self.visitor, transaction, facts)
                transaction.tags = list(self.visitor.tags)
                transaction.notes = list(self.visitor.notes)
            refusal = refusal or room.at_end(service, transaction, content.size)
            if refusal is not None:
                self._refuse(transaction, refusal, content, digest)
                return
            forwarded = await onward.forwarded(service, transaction, number, now) if transaction.forwarded else None
            delivery = transaction.delivery(where, number, now, service.expiry, content, digest, may_hurry, forwarded)
            delivery = await signed.signed(service, transaction, way, header, delivery)
            shown = b"" if transaction.params.requiretls and login is None else header
            receipts = await onward.receipts(service, transaction, shown, now, text) if transaction.success else []
            if receipts:
                delivery.event["led_to"] = [{"id": ids.to_text(one.trace), "why": "receipt"} for one in receipts]

            if self._gone:
                self._discard(content.file)
                return

            def commit(tx: Any) -> None:
                accept.commit(tx, delivery)
                for keep in receipts:
                    keep(tx)

            transaction.number = number
            await service.database.submit(commit)
        except Exception:
            self._discard(content.file)
            raise
        if not delivery.local and not delivery.remote and forwarded is None:
            self._discard(content.file)
        self._messages += 1
        self.connection.established = True
        service.log.info(
            "smtp.accepted",
            session=self.id,
            message=text,
            ip=self.ip,
            login=login.name if login is not None else "",
            sender=delivery.sender,
            recipients=len(transaction.recipients),
            size=content.size,
            message_id=digest.message_id,
        )
        self.end(Reply(250, "2.0.0", f"Accepted, id {text}"))

    def _refuse(self, transaction: Transaction, reply: Reply, content: Stored, digest: Digest) -> None:
        """A complete message is not wanted. Where the trace of that is kept, the client hears its id."""
        self._discard(content.file)
        transaction.reject("", reply)
        number = self._keep_refusal(transaction, content, digest)
        text = ids.to_text(number) if number else ""
        self._log_rejection(
            reply,
            message=text,  # the id of its trace
            sender=str(transaction.sender),
            recipient="",
            recipients=len(transaction.recipients),
            authors=list(transaction.judged.verdict.authors) if transaction.judged is not None else [],
            size=content.size,
            message_id=digest.message_id,
        )
        self.end(replies.with_id(reply, text) if text else reply)

    def _keep_refusal(
        self, transaction: Transaction, content: Stored | None = None, digest: Digest | None = None
    ) -> int:
        """Put what was refused of a transaction into the trace, once; returns its id, 0 if it is not kept."""
        if not transaction.rejections or transaction.number:
            return 0
        if self.visitor is not None:
            transaction.notes = list(self.visitor.notes)
        client = self.login.name if self.login is not None else self.ip
        transaction.number = self.service.refusals.keep(client, transaction, origin.where(self), content, digest)
        return transaction.number

    def end(self, reply: Reply) -> None:
        """The transaction is over: answer its last piece."""
        self.connection.set_limit(0)
        self.connection.set_timeout(self.service.command_timeout)
        transaction = self.transaction
        answers = transaction.answers(reply) if transaction is not None and transaction.refused else []
        self.end_transaction()
        if answers:
            self.engine.reply_each(answers)
        else:
            self.engine.reply(reply)

    def _discard(self, file: str | None) -> None:
        """A content that no row will name: its file goes now, not at the next sweep."""
        if file is not None:
            self.service.database.files.path(file).unlink(missing_ok=True)

    def aborted(self, event: ContentAborted) -> None:
        """The content was refused on its way."""
        self.service.log.info(
            "smtp.refused", session=self.id, ip=self.ip, reply=event.reply.text, code=event.reply.code
        )
        if self.transaction is not None:
            self.transaction.reject("", event.reply)
        self.connection.set_limit(0)
        self.connection.set_timeout(self.service.command_timeout)
        self.end_transaction()

    def _on_reset(self, _event: Reset) -> None:
        self.end_transaction()
        self.engine.reply(replies.OK)


Handlers = dict[type, Callable[[SmtpSession, Any], Awaitable[None] | None]]

# Those of this file; `service.py` adds the others.
HANDLERS: Handlers = {
    Hello: SmtpSession._on_hello,
    StartTls: SmtpSession._on_starttls,
    Mail: SmtpSession._on_mail,
    Rcpt: SmtpSession._on_rcpt,
    Content: SmtpSession._on_content,
    ContentAborted: SmtpSession.aborted,
    Reset: SmtpSession._on_reset,
}

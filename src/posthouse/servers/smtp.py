"""SMTP: the decisions of one connection on the MX, submission and submissions ports.

`SmtpService` is what all connections share, `SmtpSession` one connection: it answers the engine's events
with the help of the directory (who lives here), the logins, and `delivery.accept` (the one transaction).
The engine has judged syntax, order and limits before; here it is decided who may send what to whom.

Whatever goes wrong unexpectedly is answered 451 4.3.0 with the session's id and logged in one line; a full
disk is 452 4.3.1. Nothing is answered 250 before it is committed and synced.
"""

from collections.abc import Awaitable, Callable
from typing import Any

from posthouse.auth.login import Login, Logins, Refused
from posthouse.base import ids
from posthouse.base.clock import Clock
from posthouse.base.errors import StorageFull
from posthouse.base.log import Logger
from posthouse.base.networks import trusted
from posthouse.base.settings import Settings
from posthouse.delivery import accept
from posthouse.delivery.directory import Directory
from posthouse.mime import trace
from posthouse.net.connection import Connection
from posthouse.smtp import replies
from posthouse.smtp.events import (
    Auth,
    AuthResponse,
    Content,
    ContentAborted,
    Hello,
    Mail,
    Rcpt,
    Reset,
    StartTls,
    Vrfy,
)
from posthouse.smtp.replies import Reply
from posthouse.smtp.server import ServerOptions, SmtpServer
from posthouse.store.accounts import Resolution
from posthouse.store.database import Database
from posthouse.store.intake import Intake
from posthouse.wire import sasl
from posthouse.wire.address import Address

CONTENT_LIMIT = 1800.0  # seconds for a whole message, before the size is added
SLOWEST = 2048  # bytes a second below which a sender is too slow
MECHANISMS = ("PLAIN", "LOGIN")


class SmtpService:
    """What the connections of one listener share."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        directory: Directory,
        logins: Logins,
        clock: Clock,
        new_ids: ids.IdSource,
        log: Logger,
        has_room: Callable[[], bool],
        *,
        submission: bool,
        secure: bool,
        starttls: bool,
        allow_plaintext_auth: bool = False,
    ) -> None:
        self.settings = settings
        self.database = database
        self.directory = directory
        self.logins = logins
        self.clock = clock
        self.ids = new_ids
        self.log = log
        self.has_room = has_room
        self.submission = submission
        self.expiry = int(settings.queue.lifetime_days * 86_400_000_000)
        self.options = ServerOptions(
            hostname=settings.hostname,
            submission=submission,
            max_size=settings.limits.message_size,
            max_recipients=settings.limits.recipients,
            max_errors=settings.limits.errors,
            mechanisms=MECHANISMS,
            starttls=starttls,
            secure=secure,
            plaintext_auth=allow_plaintext_auth,
        )
        self.command_timeout = settings.limits.command_timeout
        self.content_timeout = settings.limits.content_timeout
        self._networks = settings.relay.networks

    def __call__(self, connection: Connection) -> "SmtpSession":
        return SmtpSession(self, connection)

    def may_relay(self, ip: str) -> bool:
        """True for the configured networks."""
        return bool(self._networks) and trusted(ip, self._networks)

    def refusal(self, why: str) -> bytes:
        """What a connection that is not wanted is told."""
        return Reply(421, "4.7.0", f"{self.settings.hostname} {why}").encode()


class SmtpSession:
    """One connection."""

    __slots__ = (
        "_connection",
        "_hello",
        "_id",
        "_intake",
        "_local",
        "_log_off",
        "_login",
        "_may_relay",
        "_mechanism",
        "_messages",
        "_params",
        "_recipients",
        "_remote",
        "_sender",
        "_service",
        "_trace",
        "_verb",
        "engine",
    )

    def __init__(self, service: SmtpService, connection: Connection) -> None:
        self._service = service
        self._connection = connection
        self.engine = SmtpServer(service.options)
        self._id = ids.to_text(service.ids.next(service.clock.now()))
        self._hello = ""
        self._verb = "HELO"
        self._login: Login | None = None
        self._log_off: Callable[[], None] | None = None
        self._may_relay: bool | None = None
        self._mechanism: sasl.Mechanism | None = None
        self._messages = 0
        self._intake: Intake | None = None
        self._begin(None, None)

    def _begin(self, sender: Address | None, params: Any) -> None:
        """A new mail transaction, or none."""
        self._sender = sender
        self._params = params
        self._recipients: list[Address] = []
        self._local: dict[int, None] = {}
        self._remote: dict[str, accept.Remote] = {}
        self._trace = 0
        if self._intake is not None:
            self._intake.abandon()
            self._intake = None

    # The connection's side

    def start(self) -> None:
        self._connection.set_timeout(self._service.command_timeout)
        self.engine.greet(replies.greeting(self._service.settings.hostname))

    def handle(self, event: Any) -> Awaitable[None] | None:
        return _HANDLERS[type(event)](self, event)

    def failed(self, error: Exception) -> None:
        if isinstance(error, StorageFull):
            reply = replies.STORAGE_FULL
        else:
            reply = Reply(451, "4.3.0", f"Something went wrong here, try again later (session {self._id})")
        self._service.log.error("smtp.failed", session=self._id, ip=self._connection.peer[0], error=repr(error))
        if self._intake is not None:
            self._intake.abandon()
            self._intake = None
        self.engine.fail(reply)

    def timed_out(self) -> None:
        self.engine.goodbye(replies.TIMEOUT)

    def shutdown(self) -> None:
        self.engine.goodbye(replies.SHUTTING_DOWN)

    def closed(self) -> None:
        if self._intake is not None:
            self._intake.abandon()
            self._intake = None
        if self._log_off is not None:
            self._log_off()
        self._service.log.debug(
            "smtp.closed", session=self._id, ip=self._connection.peer[0], hello=self._hello, messages=self._messages
        )

    # Greeting, TLS, login

    def _on_hello(self, event: Hello) -> None:
        self._hello = event.name
        self._verb = event.verb
        self._begin(None, None)
        self.engine.reply(replies.OK)

    def _on_starttls(self, _event: StartTls) -> Awaitable[None]:
        return self._start_tls()

    async def _start_tls(self) -> None:
        self.engine.reply(replies.READY_FOR_TLS)
        if await self._connection.start_tls():
            self.engine.tls_started()
            # Whoever spoke before the handshake may have been somebody in the middle (RFC 3207 section 4.2).
            self._login = None
            if self._log_off is not None:
                self._log_off()
                self._log_off = None
            self._hello = ""
            self._begin(None, None)

    def _on_auth(self, event: Auth) -> Awaitable[None] | None:
        self._mechanism = sasl.server(event.mechanism)
        if self._mechanism is None:
            self.engine.reply(replies.UNKNOWN_MECHANISM)
            return None
        return self._step(self._mechanism.step(event.initial))

    def _on_auth_response(self, event: AuthResponse) -> Awaitable[None] | None:
        if self._mechanism is None:
            self.engine.reply(replies.AUTH_FAILED)
            return None
        return self._step(self._mechanism.step(event.data))

    def _step(self, step: sasl.Step) -> Awaitable[None] | None:
        match step:
            case sasl.Challenge(data):
                self.engine.challenge(data)
                return None
            case sasl.Credentials():
                return self._verify(step)
            case _:
                self.engine.reply(replies.AUTH_MALFORMED)
                return None

    async def _verify(self, credentials: sasl.Credentials) -> None:
        self._mechanism = None
        ip = self._connection.peer[0]
        login = await self._service.logins.verify(credentials.authcid, credentials.password, ip, "smtp", self._id)
        if login is Refused.LATER:
            self.engine.reply(replies.AUTH_TEMPORARY)
            return
        # Acting for somebody else is not offered.
        if login is Refused.WRONG or credentials.authzid.lower() not in ("", login.name, credentials.authcid.lower()):
            self.engine.reply(replies.AUTH_FAILED)
            return
        self._login = login
        self._log_off = self._service.logins.enter(login, self._connection.drain_and_close)
        self.engine.authenticated(login.name)
        self.engine.reply(replies.AUTH_SUCCEEDED)

    # The mail transaction

    def _on_mail(self, event: Mail) -> None:
        if not self._service.has_room():
            self.engine.reply(replies.STORAGE_FULL)
            return
        self._begin(event.sender, event.params)
        self.engine.reply(replies.SENDER_OK)

    def _on_rcpt(self, event: Rcpt) -> Awaitable[None] | None:
        resolution = self._service.directory.known(event.recipient)
        if resolution is None:
            return self._look_up(event.recipient)
        self._recipient(event.recipient, resolution)
        return None

    async def _look_up(self, recipient: Address) -> None:
        self._recipient(recipient, await self._service.directory.resolve(recipient))

    def _recipient(self, recipient: Address, resolution: Resolution) -> None:
        reply = self._decide(recipient, resolution)
        if not reply.accepted:
            self._service.log.info(
                "smtp.rejected",
                session=self._id,
                ip=self._connection.peer[0],
                sender=str(self._sender or ""),
                recipient=str(recipient),
                code=reply.code,
                reply=reply.text,
            )
        self.engine.reply(reply)

    def _decide(self, recipient: Address, resolution: Resolution) -> Reply:
        if resolution.local:
            if not resolution.accounts and not resolution.remote:
                return replies.NO_SUCH_USER
            for account_id in resolution.accounts:
                self._local[account_id] = None
            for address in resolution.remote:
                self._remote.setdefault(address, accept.Remote(address, address.rpartition("@")[2]))
        else:
            if not self._relay_allowed():
                return replies.RELAY_DENIED
            address = str(recipient)
            self._remote.setdefault(address, accept.Remote(address, recipient.domain))
        self._recipients.append(recipient)
        return replies.RECIPIENT_OK

    def _relay_allowed(self) -> bool:
        if self._login is not None:
            return True
        if self._may_relay is None:
            self._may_relay = self._service.may_relay(self._connection.peer[0])
        return self._may_relay

    def _on_content(self, event: Content) -> Awaitable[None] | None:
        intake = self._intake
        if intake is None:
            intake = self._intake = Intake(self._service.database.files)
            if not event.last:
                self._connection.set_timeout(self._service.content_timeout)
                declared = self._service.options.max_size / SLOWEST
                self._connection.set_limit(CONTENT_LIMIT + declared)
        if intake.spills(len(event.data)):
            return self._spill(intake, event)
        intake.write(event.data)
        if event.last:
            return self._finish(intake)
        self.engine.proceed()
        return None

    async def _spill(self, intake: Intake, event: Content) -> None:
        await self._service.database.work(intake.write, event.data)
        if event.last:
            await self._finish(intake)
        else:
            self.engine.proceed()

    async def _finish(self, intake: Intake) -> None:
        """The whole message is here: decide, commit, and only then 250."""
        service = self._service
        if intake.spills(0):
            content, digest, scanned = await service.database.work(intake.finish)
        else:
            content, digest, scanned = intake.finish()
        self._intake = None
        if trace.count_received(scanned.root.header_bytes) >= service.settings.limits.hops:
            self._discard(content.file)
            self._end(replies.MAIL_LOOP)
            return
        now = service.clock.now()
        number = self._trace = service.ids.next(now)
        text = ids.to_text(number)
        delivery = self._delivery(number, text, now, content, digest)
        try:
            await service.database.submit(lambda tx: accept.commit(tx, delivery))
        except Exception:
            self._discard(content.file)
            raise
        self._messages += 1
        service.log.info(
            "smtp.accepted",
            session=self._id,
            message=text,
            ip=self._connection.peer[0],
            login=self._login.name if self._login is not None else "",
            sender=delivery.sender,
            recipients=len(self._recipients),
            size=content.size,
            message_id=digest.message_id,
        )
        self._end(Reply(250, "2.0.0", f"Accepted, id {text}"))

    def _end(self, reply: Reply) -> None:
        self._connection.set_limit(0)
        self._connection.set_timeout(self._service.command_timeout)
        self._begin(None, None)
        self.engine.reply(reply)

    def _discard(self, file: str | None) -> None:
        """A content that no row will name: its file goes now, not at the next sweep."""
        if file is not None:
            self._service.database.files.path(file).unlink(missing_ok=True)

    def _delivery(self, number: int, text: str, now: int, content: Any, digest: Any) -> accept.Delivery:
        service, connection, login = self._service, self._connection, self._login
        tls = connection.tls
        sender = str(self._sender or "")
        recipients = [str(r) for r in self._recipients]
        received = trace.received(
            hello=self._hello,
            ip=connection.peer[0],
            by=service.settings.hostname,
            protocol=("ESMTP" if self._verb == "EHLO" else "SMTP") + ("S" if tls else "") + ("A" if login else ""),
            id=text,
            recipient=recipients[0] if len(recipients) == 1 else "",
            tls=f"{tls.version} {tls.cipher}" if tls else "",
            at=now,
        )
        event: dict[str, Any] = {
            "session": self._id,
            "service": "submission" if service.submission else "smtp",
            "ip": connection.peer[0],
            "hello": self._hello,
            "sender": sender,
            "recipients": recipients,
            "local": len(self._local),
            "remote": len(self._remote),
            "size": content.size,
            "message_id": digest.message_id,
        }
        if tls:
            event["tls"] = f"{tls.version} {tls.cipher}"
        if login:
            event["login"] = login.name
        return accept.Delivery(
            trace=number,
            sender=sender,
            account_id=login.account_id if login else None,
            local=tuple(self._local),
            remote=tuple(self._remote.values()),
            content=content,
            digest=digest,
            return_path=trace.return_path(sender),
            received=received,
            at=now,
            expires=now + service.expiry,
            event=event,
        )

    def _on_aborted(self, event: ContentAborted) -> None:
        self._service.log.info(
            "smtp.refused", session=self._id, ip=self._connection.peer[0], reply=event.reply.text, code=event.reply.code
        )
        self._connection.set_limit(0)
        self._connection.set_timeout(self._service.command_timeout)
        self._begin(None, None)

    def _on_reset(self, _event: Reset) -> None:
        self._begin(None, None)
        self.engine.reply(replies.OK)

    def _on_vrfy(self, _event: Vrfy) -> None:
        self.engine.reply(replies.CANNOT_VRFY)


_HANDLERS: dict[type, Callable[[SmtpSession, Any], Awaitable[None] | None]] = {
    Hello: SmtpSession._on_hello,
    StartTls: SmtpSession._on_starttls,
    Auth: SmtpSession._on_auth,
    AuthResponse: SmtpSession._on_auth_response,
    Mail: SmtpSession._on_mail,
    Rcpt: SmtpSession._on_rcpt,
    Content: SmtpSession._on_content,
    ContentAborted: SmtpSession._on_aborted,
    Reset: SmtpSession._on_reset,
    Vrfy: SmtpSession._on_vrfy,
}

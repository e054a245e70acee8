"""`Server`: a receiving SMTP or LMTP server for programs and tests.

Each message that is complete is handed to a coroutine; its return is the 250, raising `Refused` another reply, any
other exception a 451, so that nothing is lost by mistake. What the coroutine needs to keep it must have kept by then.
Contents are in memory: their size and the number of connections are bounded by the options.
"""

import asyncio
import contextlib
import logging
import signal
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Self

from posthouse.net.connection import Connection
from posthouse.net.listener import Admission, Listener
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
    Xclient,
)
from posthouse.smtp.options import ServerOptions
from posthouse.smtp.params import NO_MAIL_PARAMS, MailParams, RcptParams
from posthouse.smtp.replies import Reply
from posthouse.smtp.server import SmtpServer
from posthouse.wire import sasl
from posthouse.wire.address import Address

_failures = logging.getLogger("posthouse.smtp")
EXTENSIONS = frozenset({"SMTPUTF8", "DSN", "CHUNKING", "BINARYMIME", "LIMITS"})


class Refused(Exception):
    """Raised by a handler: the client gets this reply. `Refused("Not today")` is 550 5.7.1."""

    def __init__(self, text: str, code: int = 550, status: str = "") -> None:
        super().__init__(text)
        self.reply = Reply(code, status or ("5.7.1" if code >= 500 else "4.7.1"), text)


@dataclass(frozen=True, slots=True)
class Message:
    """What a client sent. While recipients are asked about, `content` is empty."""

    sender: str  # the reverse-path; "" for <>
    recipients: tuple[str, ...]
    content: bytes = b""
    client: tuple[str, int] = ("", 0)
    hello: str = ""
    login: str = ""  # who logged in
    secure: bool = False  # came by TLS
    mail: MailParams = NO_MAIL_PARAMS
    rcpt: tuple[RcptParams, ...] = ()


OnMessage = Callable[[Message], Awaitable[str | None]]
OnRecipient = Callable[[Message, str], Awaitable[None]]
CheckPassword = Callable[[str, str], Awaitable[bool]]


class Server:
    """Serves while its `async with` lasts; `port` is where (with `port=0` a free one).

    `on_message(message)` takes a message and may return the text of the 250; `on_recipient(message, recipient)` may
    raise `Refused` for a recipient; `check_password(name, password)` turns AUTH PLAIN and LOGIN on, under TLS only
    unless `plaintext_auth`. `tls` is a server context: offered by STARTTLS, or from the first byte if `implicit_tls`.
    `on_error(error)` gets what handlers raise; by default it is logged with its traceback as `posthouse.smtp`.
    """

    def __init__(
        self,
        on_message: OnMessage,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        on_recipient: OnRecipient | None = None,
        check_password: CheckPassword | None = None,
        tls: ssl.SSLContext | None = None,
        implicit_tls: bool = False,
        plaintext_auth: bool = False,
        require_auth: bool = False,
        lmtp: bool = False,
        hostname: str = "localhost",
        max_size: int = 50 * 1024 * 1024,
        max_connections: int = 1000,
        timeout: float = 300.0,
        on_error: Callable[[BaseException], None] | None = None,
    ) -> None:
        self.host = host
        self.port = port
        self.on_message = on_message
        self.on_recipient = on_recipient
        self.check_password = check_password
        self.timeout = timeout
        self.on_error = on_error or _log
        self.options = ServerOptions(
            hostname=hostname,
            lmtp=lmtp,
            max_size=max_size,
            extensions=EXTENSIONS,
            mechanisms=("PLAIN", "LOGIN") if check_password is not None else (),
            starttls=tls is not None and not implicit_tls,
            secure=implicit_tls,
            require_auth=require_auth,
            plaintext_auth=plaintext_auth,
        )
        self._tls = tls
        self._most = max_connections
        self._listener: Listener | None = None

    async def __aenter__(self) -> Self:
        self._listener = Listener(
            lambda connection: _Session(self, connection),
            lambda why: Reply(421, "4.7.0", why).encode(),
            Admission(self._most, self._most, lambda _ip: True),
            lambda: self._tls,
            self.options.secure,
            lambda _message, error: self.on_error(error),
        )
        self.port = await self._listener.open(self.host, self.port)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._listener is not None:
            await self._listener.close(5.0)


async def serve(on_message: OnMessage, host: str = "127.0.0.1", port: int = 8025, **options: Any) -> None:
    """Serve until Ctrl-C, which is a quiet end, or until cancelled. Options are those of `Server`."""
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    # Only the main thread may, and only where the system has signals; elsewhere cancelling is the way.
    with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
        loop.add_signal_handler(signal.SIGINT, stop.set)
    try:
        async with Server(on_message, host, port, **options):
            await stop.wait()
    finally:
        with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
            loop.remove_signal_handler(signal.SIGINT)


def _log(error: BaseException) -> None:
    """Whoever sets up no logging sees it on standard error all the same: that is what `logging` does with errors."""
    _failures.error("a handler failed", exc_info=error)


@contextlib.asynccontextmanager
async def collecting(**options: Any) -> AsyncIterator[tuple[Server, list[Message]]]:
    """A server for tests: it takes everything and keeps it in the list."""
    taken: list[Message] = []

    async def keep(message: Message) -> None:
        taken.append(message)

    async with Server(keep, **options) as server:
        yield server, taken


class _Session:
    """One connection."""

    def __init__(self, server: Server, connection: Connection) -> None:
        self._server = server
        self._connection = connection
        self.engine = SmtpServer(server.options)
        self._hello = ""
        self._machine: sasl.Mechanism | None = None
        self._begin(Address("", ""), NO_MAIL_PARAMS)

    def _begin(self, sender: Address, params: MailParams) -> None:
        self._sender = str(sender)
        self._mail = params
        self._recipients: list[str] = []
        self._rcpt: list[RcptParams] = []
        self._content: list[bytes] = []

    def _message(self, content: bytes = b"") -> Message:
        return Message(
            self._sender,
            tuple(self._recipients),
            content,
            self._connection.peer,
            self._hello,
            self.engine.authenticated_as,
            self.engine.secure,
            self._mail,
            tuple(self._rcpt),
        )

    # The connection's side

    def start(self) -> None:
        self._connection.set_timeout(self._server.timeout)
        self.engine.greet(replies.greeting(self._server.options.hostname))

    def handle(self, event: Any) -> Awaitable[None] | None:
        match event:
            case Hello(_, name):
                self._hello = name
                self._begin(Address("", ""), NO_MAIL_PARAMS)
                self.engine.reply(replies.OK)
            case Mail(sender, params):
                self._begin(sender, params)
                self.engine.reply(replies.SENDER_OK)
            case Rcpt():
                return self._recipient(event)
            case Content(data, last):
                self._content.append(data)
                if last:
                    return self._finish()
                self.engine.proceed()
            case ContentAborted():
                self._begin(Address("", ""), NO_MAIL_PARAMS)
            case Reset():
                self._begin(Address("", ""), NO_MAIL_PARAMS)
                self.engine.reply(replies.OK)
            case Auth(mechanism, initial):
                self._machine = sasl.server(mechanism)
                return self._step(initial)
            case AuthResponse(data):
                return self._step(data)
            case StartTls():
                return self._start_tls()
            case Vrfy():
                self.engine.reply(replies.CANNOT_VRFY)
            case Xclient():
                self.engine.reply(replies.XCLIENT_DENIED)
        return None

    def failed(self, error: Exception) -> None:
        if isinstance(error, Refused):
            self.engine.fail(error.reply)
            return
        self._server.on_error(error)
        self.engine.fail(replies.LOCAL_ERROR)

    def timed_out(self) -> None:
        self.engine.goodbye(replies.TIMEOUT)

    def shutdown(self) -> None:
        self.engine.goodbye(replies.SHUTTING_DOWN)

    def closed(self) -> None:
        self._content.clear()

    # Decisions

    async def _recipient(self, event: Rcpt) -> None:
        recipient = str(event.recipient)
        if self._server.on_recipient is not None:
            await self._server.on_recipient(self._message(), recipient)
        self._recipients.append(recipient)
        self._rcpt.append(event.params)
        self.engine.reply(replies.RECIPIENT_OK)

    async def _finish(self) -> None:
        message = self._message(b"".join(self._content))
        self._content.clear()
        text = await self._server.on_message(message)
        self.engine.reply(Reply(250, "2.0.0", text) if text else replies.OK)

    async def _start_tls(self) -> None:
        self.engine.reply(replies.READY_FOR_TLS)
        if await self._connection.start_tls():
            self.engine.tls_started()
            self._begin(Address("", ""), NO_MAIL_PARAMS)

    async def _step(self, data: bytes | None) -> None:
        step = self._machine.step(data) if self._machine is not None else sasl.Failure("unknown mechanism")
        check = self._server.check_password
        if isinstance(step, sasl.Challenge):
            self.engine.challenge(step.data)
        elif not isinstance(step, sasl.Credentials) or check is None:
            self.engine.reply(replies.AUTH_MALFORMED)
        elif await check(step.authcid, step.password):
            self.engine.authenticated(step.authcid)
            self.engine.reply(replies.AUTH_SUCCEEDED)
        else:
            self.engine.reply(replies.AUTH_FAILED)

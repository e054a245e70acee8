"""`Client`: an SMTP connection for programs. It pipelines, sends in chunks, authenticates with the best mechanism that
both sides know, and falls back where a server is old (HELO, DATA, one command at a time, no TLS where that is allowed).

Recipients are answered one by one: `send` returns a `Result` for each. What makes the whole impossible (no connection,
a refused login, TLS that is required and not there) raises `SendError`, with the transcript for people.
"""

import asyncio
import secrets
import socket
import ssl
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal, Self

from posthouse.base.errors import Permanent, PosthouseError, Temporary
from posthouse.net import tls as net_tls
from posthouse.net.dial import ClientTls, dial
from posthouse.net.stream import ConnectionLost, Stream
from posthouse.smtp import client as engine
from posthouse.smtp.aio.driver import next_event
from posthouse.smtp.client import Result, SmtpClient
from posthouse.smtp.params import NO_MAIL_PARAMS, NO_RCPT_PARAMS, MailParams, RcptParams
from posthouse.smtp.replies import Reply
from posthouse.wire.dots import has_bare

Tls = Literal["starttls", "implicit", "opportunistic", "none"]
PIECE = 256 * 1024


class SendError(PosthouseError):
    """It did not work at all. `reply` is the server's, or ours; `transcript` is the conversation, without secrets."""

    def __init__(self, text: str, reply: Reply | None = None, transcript: Sequence[str] = ()) -> None:
        super().__init__(text)
        self.reply = reply
        self.transcript = tuple(transcript)


def client_context(*, verify: bool = True, ca: Path | None = None) -> ssl.SSLContext:
    """A TLS context for connections; `ca` is a PEM file of a CA to trust instead of the system's. Raises `SendError` if
    that cannot be used."""
    try:
        return net_tls.client_context(verify=verify, ca=ca)
    except Permanent as error:
        raise SendError(str(error)) from error


class Client:
    """One connection. Use `connect`, or the class as `async with await Client.connect(...) as client`."""

    def __init__(self, stream: Stream, machine: SmtpClient) -> None:
        self._stream = stream
        self._machine = machine

    @classmethod
    async def connect(
        cls,
        host: str,
        port: int = 587,
        *,
        tls: Tls = "starttls",
        context: ssl.SSLContext | None = None,
        hostname: str = "",
        timeout: float = 30.0,  # noqa: ASYNC109 - for each address, not for the whole
    ) -> Self:
        """Connect and greet. `tls`: starttls (required), implicit, opportunistic (if offered, unverified), none.
        `hostname` is what we say in EHLO."""
        loop = asyncio.get_running_loop()
        context = context or client_context(verify=tls != "opportunistic")
        try:
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            addresses = list(dict.fromkeys(str(address[0]) for *_, address in found))
            how = ClientTls(context, host) if tls == "implicit" else None
            stream = await dial(addresses, port, patience=timeout, tls=how)
        except (OSError, Temporary) as error:
            raise SendError(f"no connection to {host} port {port}: {error}") from error
        client = cls(stream, SmtpClient(hostname or socket.gethostname(), secure=tls == "implicit"))
        try:
            await client._greet(host, tls, context)
        except BaseException:
            stream.abort()
            raise
        return client

    async def _greet(self, host: str, tls: Tls, context: ssl.SSLContext) -> None:
        self._expect(await self._next(), engine.Ready)
        if tls not in ("starttls", "opportunistic"):
            return
        if tls == "opportunistic" and not self._machine.offers("STARTTLS"):
            return
        self._machine.start_tls()
        event = await self._next()
        if isinstance(event, engine.TlsRefused) and tls == "opportunistic":
            return
        self._expect(event, engine.StartTls)
        try:
            await self._stream.start_tls(context, host)
        except Temporary as error:
            raise self._error(f"the TLS handshake failed: {error}") from error
        self._machine.tls_started(self._stream.tls.version if self._stream.tls else "")
        self._expect(await self._next(), engine.Ready)

    @property
    def extensions(self) -> Mapping[str, str]:
        """What the server offers, with arguments."""
        return self._machine.extensions

    @property
    def transcript(self) -> Sequence[str]:
        """The conversation so far, without contents and secrets."""
        return tuple(self._machine.transcript)

    async def login(self, name: str, password: str = "", *, token: str = "", plaintext: bool = False) -> None:
        """Log in with a password or a bearer token; `plaintext` allows showing it without TLS."""
        self._machine.authenticate(name, password, token=token, nonce=secrets.token_urlsafe(18), plaintext=plaintext)
        self._expect(await self._next(), engine.Authenticated)

    async def send(
        self,
        sender: str,
        recipients: Iterable[str],
        content: bytes,
        *,
        mail: MailParams = NO_MAIL_PARAMS,
        rcpt: Mapping[str, RcptParams] | None = None,
    ) -> tuple[Result, ...]:
        """Send one message; a result for each recipient, in order. `mail` and `rcpt` are what else is asked (DSN and
        the like). Bare line ends become CRLF."""
        to = tuple(recipients)
        asked = [(rcpt or {}).get(recipient, NO_RCPT_PARAMS) for recipient in to]
        header = content.partition(b"\r\n\r\n")[0]
        self._machine.send(
            sender,
            to,
            size=len(content) + content.count(b"\n") * has_bare(content),
            eight_bit=not content.isascii(),
            smtputf8=mail.smtputf8 and not header.isascii(),
            mail=mail,
            rcpt=asked,
            chunks=True,
        )
        event = await self._next()
        if isinstance(event, engine.NeedContent):
            await self._send_content(content)
            event = await self._next()
        assert isinstance(event, engine.Sent), event
        return event.results

    async def _send_content(self, content: bytes) -> None:
        machine, stream = self._machine, self._stream
        try:
            for at in range(0, len(content), PIECE):
                machine.content(content[at : at + PIECE])
                stream.write(machine.take_output())
                async with asyncio.timeout(machine.patience):
                    await stream.drain()
        except TimeoutError:
            machine.lost("The server took nothing for too long")
        except ConnectionLost:
            pass  # it may have said why before it went: the next event tells
        else:
            machine.end_content()

    async def close(self) -> None:
        """Say goodbye and close."""
        if not self._machine.closed:
            self._machine.quit()
            self._stream.write(self._machine.take_output())
        await self._stream.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _next(self) -> engine.Event:
        return await next_event(self._machine, self._stream)

    def _expect(self, event: engine.Event, wanted: type[engine.Event]) -> None:
        if not isinstance(event, wanted):
            reply = getattr(event, "reply", None)
            raise self._error(str(reply) if reply is not None else "the conversation broke off", reply)

    def _error(self, text: str, reply: Reply | None = None) -> SendError:
        return SendError(text, reply, self._machine.transcript)


async def send(
    sender: str,
    recipients: Iterable[str],
    content: bytes,
    *,
    host: str = "localhost",
    port: int = 587,
    user: str = "",
    password: str = "",
    tls: Tls = "starttls",
    context: ssl.SSLContext | None = None,
) -> tuple[Result, ...]:
    """One message through a server, from the connection to the goodbye."""
    async with await Client.connect(host, port, tls=tls, context=context) as client:
        if user:
            await client.login(user, password)
        return await client.send(sender, recipients, content)

"""Conversations with other servers that are ready for a message, opened when needed and kept for the next one.

`Sessions.open` connects, greets, starts TLS and logs in; `take` gives one that is idle, `give` takes one back. An idle
one is closed after `keep` seconds, so at most as many are open as were used at one time. What fails raises `Unheard`
with the verdict that follows from it, or the stream's own errors.
"""

import asyncio
import secrets
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from ssl import SSLContext

from posthouse.net.dial import ClientTls, Dial
from posthouse.net.stream import Stream
from posthouse.net.tls import client_context
from posthouse.queue.results import DEFERRED, Contact, Verdict
from posthouse.queue.routes import Host
from posthouse.smtp import client as smtp
from posthouse.smtp.aio.driver import next_event
from posthouse.smtp.client import SmtpClient

CONNECT_PATIENCE = 30.0  # seconds for each address
MOST_USES = 100  # messages by one connection: some servers close on those who never go
# Idle conversations in all: with a thousand next hops the others would pile up, at servers too that count connections.
MOST_IDLE = 200


class Unheard(Exception):
    """A host gave no verdict on the recipients that are left: try the next."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(verdict.text)
        self.verdict = verdict


def ours(status: str, text: str, host: Host) -> Verdict:
    """A temporary failure that no server spoke of."""
    return Verdict(DEFERRED, 451, status, text, host.name, False)


class Session:
    """One conversation."""

    __slots__ = ("client", "contact", "host", "stream", "timer", "uses")

    def __init__(self, host: Host, client: SmtpClient, stream: Stream) -> None:
        self.host = host
        self.client = client
        self.stream = stream
        self.uses = 0
        self.timer: asyncio.TimerHandle | None = None
        address, port = stream.peer
        tls = stream.tls
        self.contact = Contact(host.name, address, port)
        if tls is not None:
            self.contact = self.contact._replace(version=tls.version, cipher=tls.cipher, verified=tls.verified)

    async def end(self) -> None:
        """Say goodbye, if the server still listens, without waiting for its answer."""
        if not self.client.closed and self.stream.is_open:
            self.client.quit()
            self.stream.write(self.client.take_output())
        await self.stream.close()


class Sessions:
    """Opens conversations and keeps the idle ones. `ca` is trusted beside nothing else, if given."""

    def __init__(
        self, dialler: Dial, hostname: str, *, timeouts: Mapping[str, float], ca: Path | None = None, keep: float = 0.0
    ) -> None:
        self._dial = dialler
        self._hostname = hostname
        self._timeouts = timeouts
        self._ca = ca
        self._keep = keep
        self._contexts: dict[tuple[bool, Path | None], SSLContext] = {}
        self._idle: dict[Host, list[Session]] = {}
        self._order: dict[Session, None] = {}  # the idle ones, oldest first
        self._ending: set[asyncio.Task[None]] = set()

    def take(self, host: Host) -> Session | None:
        """An idle conversation with this host, if there is one that still stands."""
        idle = self._idle.get(host)
        while idle:
            session = idle.pop()  # the one that was used last has the best chance to be still open
            del self._order[session]
            if not idle:
                del self._idle[host]
            if session.timer is not None:
                session.timer.cancel()
            if session.stream.is_open:
                return session
            self._end(session)
        return None

    def give(self, session: Session) -> None:
        """Keep it for the next message, or end it."""
        session.uses += 1
        if self._keep and session.uses < MOST_USES and not session.client.closed and session.stream.is_open:
            session.timer = asyncio.get_running_loop().call_later(self._keep, self._expire, session)
            self._idle.setdefault(session.host, []).append(session)
            self._order[session] = None
            if len(self._order) > MOST_IDLE:
                self._expire(next(iter(self._order)))
        else:
            self._end(session)

    def _expire(self, session: Session) -> None:
        self._order.pop(session, None)
        if session.timer is not None:
            session.timer.cancel()
        idle = self._idle.get(session.host, [])
        if session in idle:
            idle.remove(session)
            if not idle:
                del self._idle[session.host]
        self._end(session)

    def _end(self, session: Session) -> None:
        task = asyncio.get_running_loop().create_task(session.end())
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def close(self) -> None:
        """End all that are idle."""
        for host in list(self._idle):
            while (session := self.take(host)) is not None:
                self._end(session)
        await asyncio.gather(*self._ending, return_exceptions=True)

    def _tls(self, host: Host) -> ClientTls:
        """How to speak TLS to a host. A context is made once: reading the trusted roots is slow."""
        verify = host.tls in ("starttls", "implicit")
        ca = host.ca or self._ca
        context = self._contexts.get((verify, ca))
        if context is None:
            context = self._contexts[verify, ca] = client_context(verify=verify, ca=ca)
        return ClientTls(context, host.name)

    async def open(self, host: Host, addresses: Sequence[str], note: Callable[[str], None]) -> Session:
        """Up to where a message can be sent: connect, EHLO, TLS, login. `note` gets the lines of the transcript.

        Raises `Unheard`, `DialFailed`, `TlsFailed` and `ConnectionLost`.
        """
        tls = self._tls(host)
        stream = await self._dial(
            addresses,
            host.port,
            patience=CONNECT_PATIENCE,
            tls=tls if host.tls == "implicit" else None,
            sources=host.pool.turn() if host.pool is not None else (),
        )
        client = SmtpClient(
            host.pool.helo(stream.local[0]) if host.pool is not None else self._hostname,
            secure=host.tls == "implicit",
            timeouts=self._timeouts,
            lmtp=host.lmtp,
        )
        try:
            address, port = stream.peer
            note(f"! connected to {host.name} [{address}]:{port}")
            await self._greet(client, stream, host, tls)
        except BaseException:
            for line in client.take_transcript():
                note(line)
            await stream.close()
            raise
        return Session(host, client, stream)

    async def _greet(self, client: SmtpClient, stream: Stream, host: Host, tls: ClientTls) -> None:
        event = await next_event(client, stream)
        if isinstance(event, smtp.Ready) and host.tls in ("opportunistic", "starttls"):
            event = await self._start_tls(client, stream, host, tls, event)
        if isinstance(event, smtp.Ready) and host.login is not None:
            client.authenticate(
                host.login.user,
                host.login.password,
                nonce=secrets.token_urlsafe(18),
                plaintext=host.tls == "none",
            )
            event = await next_event(client, stream)
            if isinstance(event, smtp.AuthRefused):
                # Our configuration is at fault, not the message: it must not bounce.
                text = f"{host.name} refused our login: {event.reply}"
                raise Unheard(Verdict(DEFERRED, 454, "4.7.8", text, host.name, False))
        if isinstance(event, smtp.Failed):
            raise Unheard(Verdict.of(event.reply, host.name, remote=event.remote))

    async def _start_tls(
        self, client: SmtpClient, stream: Stream, host: Host, tls: ClientTls, ready: smtp.Event
    ) -> smtp.Event:
        required = host.tls == "starttls"
        if not client.offers("STARTTLS") and not required:
            return ready
        client.start_tls()
        event = await next_event(client, stream)
        if isinstance(event, smtp.StartTls):
            await stream.start_tls(tls.context, tls.name)
            client.tls_started(stream.tls.version if stream.tls else "")
            return await next_event(client, stream)
        if isinstance(event, smtp.TlsRefused) and required:
            raise Unheard(ours("4.7.4", f"{host.name} does not do TLS, which is required: {event.reply}", host))
        return ready if isinstance(event, smtp.TlsRefused) else event

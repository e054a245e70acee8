"""One attempt: a message to some recipients over one route, host after host until each has an answer.

The client engine speaks, `net/dial.py` connects. A recipient that no host said anything about is taken on to
the next host; one that a host answered, in whatever way, is done with for this attempt, and so is one whose
message was sent to its end without an answer: trying another host then could deliver it twice.

Opportunistic TLS that fails is followed by one try without. Nothing is raised for what the network does: what
no server said is ours, and temporary unless the DNS says for certain that there is no way.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from ssl import SSLContext
from types import MappingProxyType
from typing import NamedTuple

from posthouse.base.errors import Temporary
from posthouse.net.dial import ClientTls, Dial, DialFailed
from posthouse.net.stream import ConnectionLost, Stream, TlsFailed
from posthouse.net.tls import client_context
from posthouse.queue.results import DEFERRED, FAILED, Report, Verdict
from posthouse.queue.routes import Host, Router
from posthouse.smtp import client as smtp
from posthouse.smtp.aio.driver import next_event
from posthouse.smtp.client import TIMEOUTS, SmtpClient
from posthouse.smtp.params import NO_MAIL_PARAMS, NO_RCPT_PARAMS, MailParams, RcptParams
from posthouse.smtp.replies import Reply

CONNECT_PATIENCE = 30.0  # seconds for each address
ATTEMPT_LIMIT = 3000.0  # seconds for all of an attempt: below the lease of a claim


class Outgoing(NamedTuple):
    """What is to be sent. `pieces` reads it anew each time it is called."""

    sender: str
    recipients: tuple[str, ...]
    size: int
    eight_bit: bool
    pieces: Callable[[], AsyncIterator[bytes]]
    mail: MailParams = NO_MAIL_PARAMS
    rcpt: Mapping[str, RcptParams] = MappingProxyType({})  # by recipient
    utf8_header: bool = False


class _Unheard(Exception):
    """A host gave no verdict on the recipients that are left: try the next."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(verdict.text)
        self.verdict = verdict


class Sender:
    """Makes attempts; what they share. `ca` is trusted beside nothing else, if given."""

    def __init__(
        self,
        router: Router,
        dialler: Dial,
        hostname: str,
        *,
        timeouts: Mapping[str, float] = TIMEOUTS,
        ca: Path | None = None,
    ) -> None:
        self._router = router
        self._dial = dialler
        self._hostname = hostname
        self._timeouts = timeouts
        self._ca = ca
        self._contexts: dict[bool, SSLContext] = {}

    async def attempt(self, destination: str, outgoing: Outgoing) -> Report:
        """Try the hosts of a destination in turn."""
        hosts = await self._router.hosts(destination)
        if isinstance(hosts, Reply):
            return Report(dict.fromkeys(outgoing.recipients, Verdict.of(hosts)), [f"! {hosts.text}"])
        attempt = _Attempt(self, outgoing)
        try:
            async with asyncio.timeout(ATTEMPT_LIMIT):
                for host in hosts:
                    if not attempt.left:
                        break
                    await attempt.host(host)
        except TimeoutError:
            attempt.unheard(Verdict(DEFERRED, 451, "4.4.7", "The attempt took too long", "", False))
        return attempt.report()

    def tls(self, host: Host) -> ClientTls:
        """How to speak TLS to a host. A context is made once: reading the trusted roots is slow."""
        verify = host.tls in ("starttls", "implicit")
        context = self._contexts.get(verify)
        if context is None:
            context = self._contexts[verify] = client_context(verify=verify, ca=self._ca)
        return ClientTls(context, host.name)


class _Attempt:
    """One message on its way over its hosts."""

    def __init__(self, sender: Sender, outgoing: Outgoing) -> None:
        self._shared = sender
        self._outgoing = outgoing
        self._verdicts: dict[str, Verdict] = {}
        self._reasons: list[Verdict] = []  # why hosts gave none
        self._transcript: list[str] = []
        self._tls = ""

    @property
    def left(self) -> tuple[str, ...]:
        """Recipients without a verdict."""
        return tuple(r for r in self._outgoing.recipients if r not in self._verdicts)

    def unheard(self, verdict: Verdict) -> None:
        """A host did not answer for the recipients that are left."""
        self._reasons.append(verdict)

    def report(self) -> Report:
        """What was found out. Only if every host refused for good is that final; one that may come back is hope."""
        hopeful = [verdict for verdict in self._reasons if verdict.state != FAILED]
        last = (hopeful or self._reasons or [Verdict(DEFERRED, 451, "4.4.1", "No server answered", "", False)])[-1]
        return Report(dict.fromkeys(self.left, last) | self._verdicts, self._transcript, self._tls)

    async def host(self, host: Host) -> None:
        """Try one host; once more without TLS if opportunistic TLS fails."""
        if self._outgoing.mail.requiretls and host.tls not in ("starttls", "implicit"):
            # RFC 8689 section 4.2.1: the name of the host must have come in a way that nobody could forge.
            text = f"The message must go by TLS to a server whose name is certain; that of {host.name} is not"
            self.unheard(Verdict(FAILED, 550, "5.7.30", text, host.name, False))
            return
        addresses = await self._shared._router.addresses(host)
        if isinstance(addresses, Reply):
            self._transcript.append(f"! {addresses.text}")
            self.unheard(Verdict.of(addresses, host.name))
            return
        try:
            try:
                await self._conversation(host, addresses)
            except TlsFailed as error:
                self._transcript.append(f"! the TLS handshake with {host.name} failed: {error}")
                if host.tls != "opportunistic":
                    raise _Unheard(
                        _ours("4.7.5", f"The TLS handshake with {host.name} failed: {error}", host)
                    ) from error
                await self._conversation(host._replace(tls="none"), addresses)
        except _Unheard as error:
            self.unheard(error.verdict)
        except DialFailed as error:
            self._transcript.append(f"! no connection to {host.name}: {error}")
            self.unheard(_ours("4.4.1", f"No connection to {host.name}: {error}", host))
        except Temporary as error:
            self.unheard(_ours("4.4.2", f"The connection to {host.name} broke: {error}", host))

    async def _conversation(self, host: Host, addresses: Sequence[str]) -> None:
        tls = self._shared.tls(host)
        stream = await self._shared._dial(
            addresses, host.port, patience=CONNECT_PATIENCE, tls=tls if host.tls == "implicit" else None
        )
        client = SmtpClient(self._shared._hostname, secure=host.tls == "implicit", timeouts=self._shared._timeouts)
        try:
            self._transcript.append(f"! connected to {host.name} [{stream.peer[0]}]:{stream.peer[1]}")
            await self._greet(client, stream, host, tls)
            self._tls = f"{stream.tls.version} {stream.tls.cipher}" if stream.tls else ""
            await self._send(client, stream, host)
            if not client.closed:
                client.quit()
                stream.write(client.take_output())  # no need to wait for the reply to QUIT
        finally:
            self._transcript += client.take_transcript()
            await stream.close()

    async def _greet(self, client: SmtpClient, stream: Stream, host: Host, tls: ClientTls) -> None:
        """Up to where a message can be sent: EHLO, TLS, login."""
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
                raise _Unheard(Verdict(DEFERRED, 454, "4.7.8", text, host.name, False))
        if isinstance(event, smtp.Failed):
            raise _Unheard(Verdict.of(event.reply, host.name, remote=event.remote))

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
            raise _Unheard(_ours("4.7.4", f"{host.name} does not do TLS, which is required: {event.reply}", host))
        return ready if isinstance(event, smtp.TlsRefused) else event

    async def _send(self, client: SmtpClient, stream: Stream, host: Host) -> None:
        """The mail transaction, for the recipients that are left."""
        outgoing, left = self._outgoing, self.left
        client.send(
            outgoing.sender,
            left,
            size=outgoing.size,
            eight_bit=outgoing.eight_bit,
            smtputf8=outgoing.utf8_header,
            mail=outgoing.mail,
            rcpt=[outgoing.rcpt.get(recipient, NO_RCPT_PARAMS) for recipient in left],
        )
        dsn = client.offers("DSN")
        event = await next_event(client, stream)
        complete = False
        if isinstance(event, smtp.NeedContent):
            complete = await self._content(client, stream)
            event = await next_event(client, stream)
        if not isinstance(event, smtp.Sent):
            raise _Unheard(_ours("4.5.0", f"The conversation with {host.name} broke off", host))
        lost: Verdict | None = None
        for result in event.results:
            verdict = Verdict.of(result.reply, host.name, remote=result.remote, dsn=dsn)
            # Without an answer from the server, and without the end of the content, it has not got the message.
            if client.closed and not result.remote and verdict.state == DEFERRED and not complete:
                lost = verdict
            else:
                self._verdicts[result.recipient] = verdict
        if lost is not None:
            raise _Unheard(lost)

    async def _content(self, client: SmtpClient, stream: Stream) -> bool:
        """Send the content; True if its end was sent. A server that refuses in the midst of it is heard after it."""
        try:
            async for piece in self._outgoing.pieces():
                client.content(piece)
                stream.write(client.take_output())
                async with asyncio.timeout(client.patience):
                    await stream.drain()
        except TimeoutError:
            client.lost("The server took nothing for too long")
        except ConnectionLost:
            pass  # it may have said why before it went: the next event tells
        except Exception as error:
            client.abort(f"The message could not be read: {error!r}")
            stream.abort()  # closing would send what is held; a server might take it for the whole
        else:
            client.end_content()
            return True
        return False


def _ours(status: str, text: str, host: Host) -> Verdict:
    return Verdict(DEFERRED, 451, status, text, host.name, False)

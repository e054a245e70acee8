"""One attempt: a message to some recipients over one route, host after host until each has an answer.

The client engine speaks, `queue/sessions.py` connects and keeps connections open. A recipient that no host said
anything about is taken on to the next host; one that a host answered, in whatever way, is done with for this attempt,
and so is one whose message was sent to its end without an answer: trying another host then could deliver it twice.

Opportunistic TLS that fails is followed by one try without. Nothing is raised for what the network does: what
no server said is ours, and temporary unless the DNS says for certain that there is no way.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from posthouse.base.errors import Temporary
from posthouse.net.dial import Dial, DialFailed
from posthouse.net.stream import ConnectionLost, Stream, TlsFailed
from posthouse.queue.conversion import AT_ONCE, fitted
from posthouse.queue.results import DEFERRED, FAILED, Contact, Report, Verdict
from posthouse.queue.routes import LOOP, Host, Route, Router
from posthouse.queue.sessions import Session, Sessions, Unheard, ours
from posthouse.smtp import client as smtp
from posthouse.smtp.aio.driver import next_event
from posthouse.smtp.client import TIMEOUTS, SmtpClient
from posthouse.smtp.params import NO_MAIL_PARAMS, NO_RCPT_PARAMS, MailParams, RcptParams
from posthouse.smtp.replies import Reply

ATTEMPT_LIMIT = 3000.0  # seconds for all of an attempt: below the lease of a claim
TOGETHER = 65536  # octets of content that are gathered before they are written: a small message goes in one piece
# What a server that has closed on an idle connection answers to, if it answers at all.
_BEFORE_MAIL = ("", "RSET", "MAIL")


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


class Sender:
    """Makes attempts; what they share. `ca` is trusted beside nothing else, if given; connections are kept for `keep`
    seconds."""

    def __init__(
        self,
        router: Router,
        dialler: Dial,
        hostname: str,
        *,
        timeouts: Mapping[str, float] = TIMEOUTS,
        ca: Path | None = None,
        keep: float = 0.0,
    ) -> None:
        self._router = router
        self.places = asyncio.Semaphore(AT_ONCE)  # for messages that are converted
        self.sessions = Sessions(dialler, hostname, timeouts=timeouts, ca=ca, keep=keep)

    async def attempt(self, route: Route, outgoing: Outgoing) -> Report:
        """Try the hosts of a route in turn."""
        hosts = await self._router.hosts(route)
        if isinstance(hosts, Reply):
            return Report(dict.fromkeys(outgoing.recipients, Verdict.of(hosts)), [f"! {hosts.text}"])
        attempt = _Attempt(self, outgoing)
        try:
            async with asyncio.timeout(ATTEMPT_LIMIT):
                for host in hosts:
                    if not attempt.left or attempt.loops:
                        break
                    await attempt.host(host)
        except TimeoutError:
            attempt.unheard(Verdict(DEFERRED, 451, "4.4.7", "The attempt took too long", "", False))
        return attempt.report()


class _Attempt:
    """One message on its way over its hosts."""

    def __init__(self, sender: Sender, outgoing: Outgoing) -> None:
        self._shared = sender
        self._outgoing = outgoing
        self._verdicts: dict[str, Verdict] = {}
        self._reasons: list[Verdict] = []  # why hosts gave none
        self._transcript: list[str] = []
        self._contact: Contact | None = None

    @property
    def left(self) -> tuple[str, ...]:
        """Recipients without a verdict."""
        return tuple(r for r in self._outgoing.recipients if r not in self._verdicts)

    @property
    def loops(self) -> bool:
        """The last host is this server: those behind it would only send the message back (RFC 5321 section 5.1)."""
        return bool(self._reasons) and self._reasons[-1].status == LOOP and not self._reasons[-1].remote

    def unheard(self, verdict: Verdict) -> None:
        """A host did not answer for the recipients that are left."""
        self._reasons.append(verdict)

    def report(self) -> Report:
        """What was found out. Only if every host refused for good is that final; one that may come back is hope."""
        hopeful = [verdict for verdict in self._reasons if verdict.state != FAILED]
        last = (hopeful or self._reasons or [Verdict(DEFERRED, 451, "4.4.1", "No server answered", "", False)])[-1]
        return Report(dict.fromkeys(self.left, last) | self._verdicts, self._transcript, self._contact)

    async def host(self, host: Host) -> None:
        """Try one host; once more without TLS if opportunistic TLS fails."""
        certain = host.tls in ("starttls", "implicit") and host.validated is not False
        if self._outgoing.mail.requiretls and not certain:
            # RFC 8689 section 4.2.1: the name of the host must have come in a way that nobody could forge.
            text = f"The message must go by TLS to a server whose name is certain; that of {host.name} is not"
            self.unheard(Verdict(FAILED, 550, "5.7.30", text, host.name, False))
            return
        try:
            if await self._again(host):
                return
            addresses = await self._shared._router.addresses(host)
            if isinstance(addresses, Reply):
                self._transcript.append(f"! {addresses.text}")
                self.unheard(Verdict.of(addresses, host.name))
                return
            try:
                await self._anew(host, addresses)
            except TlsFailed as error:
                self._transcript.append(f"! the TLS handshake with {host.name} failed: {error}")
                if host.tls != "opportunistic":
                    raise Unheard(ours("4.7.5", f"The TLS handshake with {host.name} failed: {error}", host)) from error
                await self._anew(host._replace(tls="none"), addresses)
        except Unheard as error:
            self.unheard(error.verdict)
        except DialFailed as error:
            self._transcript.append(f"! no connection to {host.name}: {error}")
            self.unheard(ours("4.4.1", f"No connection to {host.name}: {error}", host))
        except Temporary as error:
            self.unheard(ours("4.4.2", f"The connection to {host.name} broke: {error}", host))

    async def _again(self, host: Host) -> bool:
        """Use a conversation that is idle; False if there is none that still stands."""
        while (session := self._shared.sessions.take(host)) is not None:
            contact = session.contact
            where = f"{contact.host} [{contact.address}]:{contact.port}"
            self._transcript.append(f"! the open connection to {where}, message {session.uses + 1}")
            if await self._use(session):
                return True
            self._transcript.append("! it was not open any more")
        return False

    async def _anew(self, host: Host, addresses: Sequence[str]) -> None:
        await self._use(await self._shared.sessions.open(host, addresses, self._transcript.append))

    async def _use(self, session: Session) -> bool:
        """Send by this conversation; False if it had ended before the server heard of the message."""
        self._contact = session.contact
        try:
            return await self._send(session)
        finally:
            self._transcript += session.client.take_transcript()
            self._shared.sessions.give(session)

    async def _send(self, session: Session) -> bool:
        """The mail transaction, for the recipients that are left."""
        client, stream, host = session.client, session.stream, session.host
        left = self.left
        outgoing = await fitted(self._outgoing, client, self._shared.places)
        if isinstance(outgoing, Reply):
            self._verdicts |= dict.fromkeys(left, Verdict.of(outgoing, host.name))
            return True
        if outgoing is not self._outgoing:
            self._transcript.append("! the message was converted to what the server takes")
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
        content = isinstance(event, smtp.NeedContent)
        if content:
            complete = await self._content(client, stream, outgoing.pieces())
            event = await next_event(client, stream)
        if not isinstance(event, smtp.Sent):
            raise Unheard(ours("4.5.0", f"The conversation with {host.name} broke off", host))
        early = client.closed and not content and all(one.command in _BEFORE_MAIL for one in event.results)
        if early and session.uses:
            return False
        lost: Verdict | None = None
        for result in event.results:
            verdict = Verdict.of(result.reply, host.name, remote=result.remote, dsn=dsn)
            # Without an answer from the server, and without the end of the content, it has not got the message.
            if client.closed and not result.remote and verdict.state == DEFERRED and not complete:
                lost = verdict
            else:
                self._verdicts[result.recipient] = verdict
        if lost is not None:
            raise Unheard(lost)
        return True

    async def _content(self, client: SmtpClient, stream: Stream, pieces: AsyncIterator[bytes]) -> bool:
        """Send the content; True if its end was sent. A server that refuses in the midst of it is heard after it."""
        try:
            held = 0
            async for piece in pieces:
                client.content(piece)
                held += len(piece)
                if held >= TOGETHER:
                    held = 0
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

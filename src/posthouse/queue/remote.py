"""One attempt: a message to some recipients over one route, host after host until each has an answer.

The client engine speaks, `queue/sessions.py` connects and keeps connections open. A recipient that no host said
anything about is taken on to the next host; one that a host answered, in whatever way, is done with for this attempt,
and so is one whose message was sent to its end without an answer: trying another host then could deliver it twice.

What is asked of a host that the DNS named says `queue/transport_security.py`, for each destination anew; what is asked
of one that the settings name, they say. A host that is not as secure as that is put off, and never gets the mail
without TLS. Opportunistic TLS that fails is followed by one try without. A message that requires TLS goes only where
that is certain, and comes back at once where no host promises it (RFC 8689 section 4.2.1).

Nothing is raised for what the network does: what no server said is ours, and temporary unless the DNS says for certain
that there is no way.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

from posthouse.base.clock import Clock, SystemClock
from posthouse.base.errors import Temporary
from posthouse.net.dial import Dial, DialFailed
from posthouse.net.stream import ConnectionLost, Stream, TlsFailed
from posthouse.queue.conversion import AT_ONCE, SignedAgain, fitted
from posthouse.queue.outgoing import Outgoing
from posthouse.queue.results import DEFERRED, FAILED, Report, Tried, Verdict
from posthouse.queue.routes import LOOP, Host, Route, Router
from posthouse.queue.sessions import Insecure, Session, Sessions, Trial, Unheard, ours
from posthouse.queue.transport_security import (
    OPTIONAL,
    UNGUARDED,
    Guard,
    Security,
    by_settings,
    is_tls_optional,
    raised,
)
from posthouse.smtp import client as smtp
from posthouse.smtp.aio.driver import next_event
from posthouse.smtp.client import TIMEOUTS, SmtpClient
from posthouse.smtp.params import NO_RCPT_PARAMS
from posthouse.smtp.replies import Reply

ATTEMPT_LIMIT = 3000.0  # seconds for all of an attempt: below the lease of a claim
TOGETHER = 65536  # octets of content that are gathered before they are written: a small message goes in one piece
# What is asked of a server so that REQUIRETLS may be said there (RFC 8689 section 2).
_SAFE = ("dane", "sts-enforce", "pkix")
# What a server that has closed on an idle connection answers to, if it answers at all.
_BEFORE_MAIL = ("", "RSET", "MAIL")


class Sender:
    """Makes attempts; what they share. `ca` is trusted beside nothing else, if given; connections are kept for `keep`
    seconds. Without `guard` nothing is asked of hosts that the DNS named."""

    def __init__(
        self,
        router: Router,
        dialler: Dial,
        hostname: str,
        *,
        timeouts: Mapping[str, float] = TIMEOUTS,
        ca: Path | None = None,
        keep: float = 0.0,
        guard: Guard | None = None,
        clock: Clock | None = None,
        signed_again: SignedAgain | None = None,
    ) -> None:
        self.signed_again = signed_again
        self.router = router
        self.guard = guard
        self.clock = clock or SystemClock()
        self.places = asyncio.Semaphore(AT_ONCE)  # for messages that are converted
        counts = guard.counts if guard is not None else None
        self.sessions = Sessions(dialler, hostname, self.clock, timeouts=timeouts, ca=ca, keep=keep, counts=counts)

    async def attempt(self, route: Route, outgoing: Outgoing) -> Report:
        """Try the hosts of a route in turn."""
        hosts = await self.router.hosts(route)
        if isinstance(hosts, Reply):
            return Report(dict.fromkeys(outgoing.recipients, Verdict.of(hosts)), [f"! {hosts.text}"])
        attempt = _Attempt(self, route.destination, outgoing)
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

    def __init__(self, sender: Sender, destination: str, outgoing: Outgoing) -> None:
        self._shared = sender
        self._destination = destination
        self._outgoing = outgoing
        self._verdicts: dict[str, Verdict] = {}
        self._reasons: list[Verdict] = []  # why hosts gave none
        self._transcript: list[str] = []
        self._tried: list[Tried] = []

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
        spoken = next((one.contact for one in reversed(self._tried) if one.contact.address), None)
        return Report(dict.fromkeys(self.left, last) | self._verdicts, self._transcript, spoken, self._tried)

    async def host(self, host: Host) -> None:
        """Try one host."""
        began, outcome = self._shared.clock.monotonic(), "the attempt took too long"
        trial = Trial(host, self._transcript.append)
        try:
            if host.validated is None and not self._outgoing.requires_tls:
                trial.ask(by_settings(host.tls), "")
            else:
                await self._ask(host, trial)
            await self._try(trial)
            outcome = "answered"
        except Unheard as error:
            self.unheard(error.verdict)
            outcome = error.verdict.text
        finally:
            took = int((self._shared.clock.monotonic() - began) * 1000)
            self._tried.append(Tried(trial.contact, outcome, trial.message, took))

    async def _ask(self, host: Host, trial: Trial) -> None:
        """Find out how secure a host must be; raises `Unheard` if it must not be used."""
        security, domain = by_settings(host.tls), ""
        strict = security is not None and security.mandatory
        if host.validated is not None and security is not None:  # without TLS is without, if the settings say so
            security, domain = await self._policy(host, trial)
        asked = security
        if self._outgoing.requires_tls:
            # RFC 8689 section 4.2.1. That there is no MX record is an answer of the DNS, too, which may be forged; and
            # a route that wants TLS does not make the name of an MX record certain.
            security = raised(security, certain=host.validated is not False, why="REQUIRETLS")
            if security is None:
                text = f"The message must go by TLS to a server whose name is certain; that of {host.name} is not"
                if asked is None:
                    text = f"The message must go by TLS, and the settings send it to {host.name} without"
                raise Unheard(Verdict(FAILED, 550, "5.7.30", text, host.name, False))
        if strict:
            security = raised(security, certain=True, why="the settings say so")
        # What comes of more than the domain asks for says nothing about its policy.
        trial.ask(security, domain if security == asked else "")

    async def _policy(self, host: Host, trial: Trial) -> tuple[Security, str]:
        """What is asked of a host that the DNS named, and the domain that is counted for."""
        guard = self._shared.guard
        if guard is None:
            return UNGUARDED, ""
        if not self._outgoing.mail.requiretls and is_tls_optional(self._outgoing.start):
            return OPTIONAL, ""
        asked = await guard.of(self._destination, host.name, host.validated, port=host.port)
        if isinstance(asked, Reply):
            trial.put_off(asked)
        return asked, "" if self._destination.startswith("[") else self._destination

    async def _try(self, trial: Trial) -> None:
        """Send by a host; once more without TLS if opportunistic TLS fails. Raises `Unheard`."""
        host = trial.host
        try:
            if await self._again(trial):
                return
            addresses = await self._shared.router.addresses(host)
            if isinstance(addresses, Reply):
                self._transcript.append(f"! {addresses.text}")
                raise Unheard(Verdict.of(addresses, host.name))
            try:
                session = await self._shared.sessions.open(trial, addresses)
            except TlsFailed as error:
                self._transcript.append(f"! the TLS handshake with {host.name} failed: {error}")
                self._shared.sessions.broken(trial, error)
                trial.security = None
                session = await self._shared.sessions.open(trial, addresses)
            await self._use(session)
        except Insecure as error:
            raise self._refused(error) from error
        except DialFailed as error:
            self._transcript.append(f"! no connection to {host.name}: {error}")
            raise Unheard(ours("4.4.1", f"No connection to {host.name}: {error}", host)) from error
        except Temporary as error:
            raise Unheard(ours("4.4.2", f"The connection to {host.name} broke: {error}", host)) from error

    def _refused(self, error: Insecure) -> Unheard:
        """A message that requires TLS does not wait for a server to get a better certificate (RFC 8689 section 4.2.1);
        a handshake that broke off is no more than a connection that did."""
        if error.passing or not self._outgoing.requires_tls:
            return error
        return Unheard(error.verdict._replace(state=FAILED, code=550, status="5.7.10"))

    async def _again(self, trial: Trial) -> bool:
        """Use a conversation that is idle; False if there is none that still stands."""
        while (session := self._shared.sessions.take(trial)) is not None:
            contact = session.contact
            where = f"{contact.host} [{contact.address}]:{contact.port}"
            self._transcript.append(f"! the open connection to {where}, message {session.uses + 1}")
            if await self._use(session):
                return True
            self._transcript.append("! it was not open any more")
        return False

    async def _use(self, session: Session) -> bool:
        """Send by this conversation; False if it had ended before the server heard of the message."""
        try:
            if self._outgoing.requires_tls and not session.client.offers("REQUIRETLS"):
                text = f"The message must go by TLS all the way, and {session.host.name} does not promise it"
                raise Unheard(Verdict(FAILED, 550, "5.7.30", text, session.host.name, False))
            return await self._send(session)
        except Unheard:
            raise
        except BaseException:
            # Cut in the midst of a transaction, by the clock or a stop: nobody can go on with it, and a QUIT would
            # become a part of the content.
            session.client.abort("The attempt was cut short")
            session.stream.abort()
            raise
        finally:
            self._transcript += session.client.take_transcript()
            self._shared.sessions.give(session)

    async def _send(self, session: Session) -> bool:
        """The mail transaction, for the recipients that are left."""
        client, stream, host = session.client, session.stream, session.host
        left = self.left
        outgoing = await fitted(self._outgoing, client, self._shared.places, self._shared.signed_again)
        if isinstance(outgoing, Reply):
            self._verdicts |= dict.fromkeys(left, Verdict.of(outgoing, host.name))
            return True
        if outgoing is not self._outgoing:
            self._transcript.append("! the message was converted to what the server takes")
        mail = outgoing.mail
        safe = session.contact.verified and session.contact.level in _SAFE
        if mail.requiretls and not (safe and client.offers("REQUIRETLS")):
            mail = mail._replace(requiretls=False)  # a bounce: `Outgoing.requires_tls`
        client.send(
            outgoing.sender,
            left,
            size=outgoing.size,
            eight_bit=outgoing.eight_bit,
            smtputf8=outgoing.utf8_header,
            mail=mail,
            rcpt=[outgoing.rcpt.get(recipient, NO_RCPT_PARAMS) for recipient in left] if outgoing.rcpt else (),
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

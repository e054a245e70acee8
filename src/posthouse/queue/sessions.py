"""Conversations with other servers that are ready for a message, opened when needed and kept for the next one.

`Sessions.open` connects, greets, starts TLS, judges the server and logs in; `take` gives one that is idle, `give`
takes one back. An idle one is closed after `keep` seconds, so at most as many are open as were used at one time. It
serves only mail that asks for the same level of security of the same host; where what is asked has changed since, the
server is judged again, by the certificates that it showed. What fails raises `Unheard` with the verdict that follows
from it, or the stream's own errors.

What is asked of a host is decided before (`queue/transport_security.py`); TLS contexts and the sessions that are
resumed are in `queue/client_tls.py`. Every new TLS session is counted for TLS reports (RFC 8460), once for each domain
whose mail goes by it.
"""

import asyncio
import secrets
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from posthouse.base.clock import Clock
from posthouse.net.dial import ClientTls, Dial
from posthouse.net.stream import Stream
from posthouse.queue.client_tls import ClientContexts
from posthouse.queue.results import DEFERRED, Contact, Verdict
from posthouse.queue.routes import Host
from posthouse.queue.tls_counts import Counts
from posthouse.queue.transport_security import (
    Deferral,
    Finding,
    Security,
    by_settings,
    handshake_failed,
    verdict,
    without_tls,
)
from posthouse.smtp import client as smtp
from posthouse.smtp.aio.driver import next_event
from posthouse.smtp.client import SmtpClient
from posthouse.smtp.replies import Reply

CONNECT_PATIENCE = 30.0  # seconds for each address
MOST_USES = 100  # messages by one connection: some servers close on those who never go
# Idle conversations in all: with a thousand next hops the others would pile up, at servers too that count connections.
MOST_IDLE = 200


class Unheard(Exception):
    """A host gave no verdict on the recipients that are left: try the next."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(verdict.text)
        self.verdict = verdict


class Insecure(Unheard):
    """The server is not as secure as is asked. `passing`: the handshake broke off, which the next may not."""

    def __init__(self, verdict: Verdict, passing: bool) -> None:
        super().__init__(verdict)
        self.passing = passing


def ours(status: str, text: str, host: Host) -> Verdict:
    """A temporary failure that no server spoke of."""
    return Verdict(DEFERRED, 451, status, text, host.name, False)


class Trial:
    """One host in one attempt: what is asked of it, and what is known of it so far."""

    __slots__ = ("contact", "domain", "host", "message", "note", "security")

    def __init__(self, host: Host, note: Callable[[str], None]) -> None:
        self.host = host
        self.note = note  # gets the lines of the transcript
        self.security: Security | None = None  # None: no TLS
        self.domain = ""  # whose policy that is, for the counts; "": nobody's
        self.message = 1  # the how many-th by its connection
        self.contact = Contact(host.name, "", host.port)

    def ask(self, security: Security | None, domain: str) -> None:
        """This is what is asked."""
        if security is not None:
            self.security = security
            self.domain = domain
            self.contact = self.contact._replace(level=security.level, reason=security.reason)
            said = security is by_settings(self.host.tls)  # and nobody need hear it again
            if not said and (security.level != "opportunistic" or security.result):
                self.note(f"! {security.reason}")

    def put_off(self, asked: Reply) -> NoReturn:
        """The host must not be used now; raises `Unheard`."""
        self.note(f"! {asked.text}")
        self.contact = self.contact._replace(finding=asked.text)
        if isinstance(asked, Deferral):
            level = "dane" if asked.policy == "tlsa" else "sts-enforce"
            self.contact = self.contact._replace(level=level, result=asked.result)
        raise Unheard(Verdict.of(asked, self.host.name))

    def found(self, finding: Finding, *, passing: bool = False) -> None:
        """Keep what the server turned out to be; raises `Insecure` if it is not to be used."""
        self.contact = self.contact._replace(finding=finding.text, result=finding.result, verified=finding.verified)
        if self.security is not None and (self.security.level != "opportunistic" or finding.result):
            self.note(f"! {finding.text}")
        if not finding.ok:
            raise Insecure(ours("4.7.5", f"{self.host.name}: {finding.text}", self.host), passing)


class Session:
    """One conversation."""

    __slots__ = ("client", "contact", "counted", "finding", "host", "key", "security", "stream", "timer", "uses")

    def __init__(self, trial: Trial, client: SmtpClient, stream: Stream, finding: Finding | None) -> None:
        self.host = trial.host
        self.security = trial.security
        self.key = _key(trial)
        self.client = client
        self.stream = stream
        self.finding = finding
        self.contact = trial.contact
        self.counted = {trial.domain}  # domains in whose counts it is
        self.uses = 0
        self.timer: asyncio.TimerHandle | None = None

    async def end(self) -> None:
        """Say goodbye, if the server still listens, without waiting for its answer."""
        if not self.client.closed and self.stream.is_open:
            self.client.quit()
            self.stream.write(self.client.take_output())
        await self.stream.close()


def _key(trial: Trial) -> tuple[Host, str]:
    """What idle conversations are found by. Whether the DNS vouches for the name is a part of what is asked, and no
    reason to open another one."""
    host = trial.host._replace(validated=False) if trial.host.validated else trial.host
    return (host, trial.security.level if trial.security is not None else "")


class Sessions:
    """Opens conversations and keeps the idle ones. `ca` is trusted beside nothing else, if given."""

    def __init__(
        self,
        dialler: Dial,
        hostname: str,
        clock: Clock,
        *,
        timeouts: Mapping[str, float],
        ca: Path | None = None,
        keep: float = 0.0,
        counts: Counts | None = None,
    ) -> None:
        self._dial = dialler
        self._hostname = hostname
        self._clock = clock
        self._timeouts = timeouts
        self._keep = keep
        self._counts = counts
        self._ca = ca
        self._contexts: dict[Path | None, ClientContexts] = {}  # by whom is trusted
        self._idle: dict[tuple[Host, str], list[Session]] = {}
        self._order: dict[Session, None] = {}  # the idle ones, oldest first
        self._ending: set[asyncio.Task[None]] = set()

    def _of(self, host: Host) -> ClientContexts:
        """The TLS contexts for a host."""
        ca = host.ca or self._ca
        contexts = self._contexts.get(ca)
        if contexts is None:
            contexts = self._contexts[ca] = ClientContexts(ca, self._clock.monotonic)
        return contexts

    def take(self, trial: Trial) -> Session | None:
        """An idle conversation that serves, if there is one that still stands."""
        while (session := self._pop(_key(trial))) is not None:
            if session.stream.is_open and self._serves(session, trial):
                return session
            self._end(session)
        return None

    def _pop(self, key: tuple[Host, str]) -> Session | None:
        idle = self._idle.get(key)
        if not idle:
            return None
        session = idle.pop()  # the one that was used last has the best chance to be still open
        del self._order[session]
        if not idle:
            del self._idle[key]
        if session.timer is not None:
            session.timer.cancel()
        return session

    def _serves(self, session: Session, trial: Trial) -> bool:
        """Whether what is asked now is fulfilled by what the server showed then."""
        security = trial.security
        if security is not None and security != session.security:
            finding = self._judge(security, session.stream, trial.host)
            if not finding.ok:
                trial.note(f"! an open connection to {trial.host.name} does not serve any more: {finding.text}")
                return False
            session.finding = finding
            session.security = security
            session.contact = session.contact._replace(
                level=security.level,
                reason=security.reason,
                finding=finding.text,
                result=finding.result,
                verified=finding.verified,
            )
        trial.contact = session.contact
        trial.message = session.uses + 1
        if session.finding is not None and trial.domain not in session.counted:
            session.counted.add(trial.domain)
            self._count(trial, session.finding)
        return True

    def give(self, session: Session) -> None:
        """Keep it for the next message, or end it."""
        session.uses += 1
        if self._keep and session.uses < MOST_USES and not session.client.closed and session.stream.is_open:
            session.timer = asyncio.get_running_loop().call_later(self._keep, self._expire, session)
            self._idle.setdefault(session.key, []).append(session)
            self._order[session] = None
            if len(self._order) > MOST_IDLE:
                self._expire(next(iter(self._order)))
        else:
            self._end(session)

    def _expire(self, session: Session) -> None:
        self._order.pop(session, None)
        if session.timer is not None:
            session.timer.cancel()
        idle = self._idle.get(session.key, [])
        if session in idle:
            idle.remove(session)
            if not idle:
                del self._idle[session.key]
        self._end(session)

    def _end(self, session: Session) -> None:
        task = asyncio.get_running_loop().create_task(session.end())
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def close(self) -> None:
        """End all that are idle."""
        for key in list(self._idle):
            while (session := self._pop(key)) is not None:
                self._end(session)
        await asyncio.gather(*self._ending, return_exceptions=True)

    async def open(self, trial: Trial, addresses: Sequence[str]) -> Session:
        """Up to where a message can be sent: connect, EHLO, TLS, login.

        Raises `Unheard`, `DialFailed`, `TlsFailed` and `ConnectionLost`. `broken` says what follows from `TlsFailed`.
        """
        host, security = trial.host, trial.security
        tls = self._of(host).of(security, host.name, self._clock.now()) if security is not None else None
        implicit = tls is not None and host.tls == "implicit"
        stream = await self._dial(
            addresses,
            host.port,
            patience=CONNECT_PATIENCE,
            tls=tls if implicit else None,
            sources=host.pool.turn() if host.pool is not None else (),
        )
        client = SmtpClient(
            host.pool.helo(stream.local[0]) if host.pool is not None else self._hostname,
            secure=implicit,
            timeouts=self._timeouts,
            lmtp=host.lmtp,
        )
        try:
            address, port = stream.peer
            # What an earlier connection found out stays: it may be why this one is without TLS.
            trial.contact = trial.contact._replace(
                address=address, port=port, version="", cipher="", verified="", resumed=False
            )
            trial.message = 1
            trial.note(f"! connected to {host.name} [{address}]:{port}")
            finding = await self._greet(client, stream, trial, tls)
        except BaseException:
            for line in client.take_transcript():
                trial.note(line)
            await stream.close()
            raise
        return Session(trial, client, stream, finding)

    async def _greet(self, client: SmtpClient, stream: Stream, trial: Trial, tls: ClientTls | None) -> Finding | None:
        host, security = trial.host, trial.security
        finding: Finding | None = None
        if security is not None and host.tls == "implicit":
            finding = await self._look(security, stream, trial)
        event = await next_event(client, stream)
        if isinstance(event, smtp.Ready) and security is not None and tls is not None:
            if host.tls != "implicit":
                finding, event = await self._start_tls(client, stream, trial, security, tls, event)
            if isinstance(event, smtp.Ready):
                stream.keep_session()  # its tickets have come with the replies
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
        return finding

    async def _start_tls(
        self,
        client: SmtpClient,
        stream: Stream,
        trial: Trial,
        security: Security,
        tls: ClientTls,
        ready: smtp.Event,
    ) -> tuple[Finding | None, smtp.Event]:
        client.start_tls()
        event = await next_event(client, stream)
        if isinstance(event, smtp.TlsRefused):
            finding = without_tls(security)
            self._count(trial, finding)
            trial.found(finding)
            return finding, ready
        if not isinstance(event, smtp.StartTls):
            return None, event
        await stream.start_tls(tls.context, tls.name)
        finding = await self._look(security, stream, trial)
        client.tls_started(stream.tls.version if stream.tls else "")
        return finding, await next_event(client, stream)

    async def _look(self, security: Security, stream: Stream, trial: Trial) -> Finding:
        """Judge a server after the handshake; raises `Insecure`."""
        if security.level == "sts-testing":
            await asyncio.to_thread(self._of(trial.host).roots)  # reading them is slow
        seen = stream.tls
        if seen is not None:
            trial.contact = trial.contact._replace(version=seen.version, cipher=seen.cipher, resumed=seen.resumed)
        finding = self._judge(security, stream, trial.host)
        self._count(trial, finding)
        if not finding.ok:
            self._of(trial.host).forget(security, trial.host.name)
        trial.found(finding)
        return finding

    def _judge(self, security: Security, stream: Stream, host: Host) -> Finding:
        if stream.tls is None:
            return without_tls(security)
        return verdict(
            security,
            () if security.level == "opportunistic" else stream.chain(),
            host.name,
            now=self._clock.now(),
            verified=stream.tls.verified,
            roots=self._of(host).roots() if security.level == "sts-testing" else None,
        )

    def broken(self, trial: Trial, error: BaseException) -> None:
        """The handshake of `open` failed: returns if the host may be tried without TLS, else raises `Insecure`."""
        if trial.security is not None:
            finding = handshake_failed(trial.security, error)
            self._of(trial.host).forget(trial.security, trial.host.name)
            self._count(trial, finding)
            trial.found(finding, passing=finding.result == "validation-failure")

    def _count(self, trial: Trial, finding: Finding) -> None:
        if trial.domain and self._counts is not None:
            records = trial.security.records if trial.security is not None else ()
            self._counts.note(trial.domain, trial.host.name, finding, trial.contact.address, records)

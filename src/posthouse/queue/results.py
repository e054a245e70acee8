"""What an attempt found out, recipient by recipient, and what follows from it. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from posthouse.queue import advice, schedule
from posthouse.queue.patterns import Meaning, match
from posthouse.smtp.replies import Reply
from posthouse.store.outbox import Claim, Message, Outcome

DELIVERED, DEFERRED, FAILED = "delivered", "deferred", "failed"
_MAX_TRANSCRIPT = 64 * 1024  # characters of an attempt's transcript that are kept in the trace
_MOST_WORDS = 1000  # characters of a text about a host


class Verdict(NamedTuple):
    """What became of one recipient in one attempt."""

    state: str  # DELIVERED, DEFERRED or FAILED
    code: int
    status: str
    text: str
    host: str
    remote: bool  # the other server said it
    dsn: bool = False  # and was told to report by itself
    rule: bool = False  # no server was asked: a [[route]] of the settings says so

    @classmethod
    def of(cls, reply: Reply, host: str = "", *, remote: bool = False, dsn: bool = False) -> "Verdict":
        """The verdict that a reply means."""
        state = DELIVERED if reply.code < 300 else FAILED if reply.code >= 500 else DEFERRED
        return cls(state, reply.code, reply.status, reply.text, host, remote, dsn)

    def event(self) -> dict[str, Any]:
        """As it stands in the trace."""
        values = self._asdict()
        if not self.rule:
            del values["rule"]
        return values


class Contact(NamedTuple):
    """With whom we spoke, and how secure that was. Words: `queue/transport_security.py`."""

    host: str
    address: str  # "" if nobody answered
    port: int
    version: str = ""  # of TLS; "" without
    cipher: str = ""
    verified: str = ""  # how the server proved who it is: "dane", "pkix", or "" if it did not
    resumed: bool = False  # by the TLS session of an earlier connection
    level: str = ""  # what was asked of it; "" if nothing was
    reason: str = ""  # why that
    finding: str = ""  # what came of it
    result: str = ""  # what a TLS report says of it (RFC 8460 section 4.3); "" if all is well

    @property
    def where(self) -> str:
        """Address and port, or the path of a socket; "" if nobody answered."""
        if self.address.startswith("/"):
            return self.address
        return f"[{self.address}]:{self.port}" if self.address else ""

    @property
    def tls(self) -> dict[str, Any]:
        """What was agreed on; empty without TLS."""
        if not self.version:
            return {}
        return {"version": self.version, "cipher": self.cipher, "verified": self.verified, "resumed": self.resumed}


class Tried(NamedTuple):
    """One host in an attempt."""

    contact: Contact
    outcome: str  # "answered", or why it gave no answer for some
    message: int = 1  # the how many-th that went by its connection
    ms: int = 0

    def event(self) -> dict[str, Any]:
        """As it stands in the trace."""
        contact = self.contact
        return {
            "host": contact.host,
            "address": contact.where,
            "tls": contact.tls,
            "policy": contact.level,
            "reason": contact.reason[:_MOST_WORDS],
            "finding": contact.finding[:_MOST_WORDS],
            "result": contact.result,
            "outcome": self.outcome[:_MOST_WORDS],
            "message": self.message,
            "ms": self.ms,
        }


class Report(NamedTuple):
    """What one attempt found out."""

    verdicts: Mapping[str, Verdict]  # by address
    transcript: Sequence[str] = ()
    contact: Contact | None = None  # the last
    hosts: Sequence[Tried] = ()  # in the order they were tried
    route: str = ""  # name of the [[route]] that it went by

    @property
    def tls(self) -> str:
        """Version and cipher; "" if there was none."""
        return f"{self.contact.version} {self.contact.cipher}".strip() if self.contact else ""

    def event(self, destination: str) -> dict[str, Any]:
        """The attempt as it stands in the trace. Its host, address, tls and security are those of the last host."""
        kept, room = [], _MAX_TRANSCRIPT
        for line in self.transcript:
            room -= len(line)
            if room < 0:
                kept.append("! more lines were left out")
                break
            kept.append(line)
        contact = self.contact or Contact("", "", 0)
        return {
            "destination": destination,
            **({"route": self.route} if self.route else {}),
            "host": contact.host,
            "address": contact.where,
            "tls": contact.tls,
            "security": contact.finding[:_MOST_WORDS],
            "hosts": [one.event() for one in self.hosts],
            "results": {address: verdict.event() for address, verdict in self.verdicts.items()},
            "transcript": kept,
        }


class Judged(NamedTuple):
    """One recipient after an attempt: tried again at `retry`, or never if that is None."""

    claim: Claim
    verdict: Verdict
    retry: int | None
    meaning: Meaning | None = None  # what the reply of the other server is known to mean

    @property
    def outcome(self) -> Outcome:
        """For the queue's row."""
        v = self.verdict
        return Outcome(self.claim.id, self.retry, v.code, v.status, v.text[:1000], v.host)


def judge(
    message: Message, claims: Sequence[Claim], report: Report, now: int, waits: Sequence[float], chance: float
) -> list[Judged]:
    """Decide for each recipient whether it is tried again; a deferral whose time has run out is a failure.

    What a reply is known to mean counts more than its code (`queue/patterns.py`).
    """
    judged = []
    for claim in claims:
        verdict, retry = report.verdicts[claim.address], None
        meaning = understood(verdict)
        verdict = _advised(verdict, meaning)
        if verdict.state == DEFERRED:
            retry = schedule.next_attempt(
                advice.waits(waits, meaning, claim.attempts + 1), claim.attempts + 1, now, message.expires, chance
            )
            if retry is None:
                verdict = verdict._replace(state=FAILED, status="5.4.7")
        judged.append(Judged(claim, verdict, retry, meaning))
    return judged


def understood(verdict: Verdict) -> Meaning | None:
    """What another server's refusal means; None if it is not known, or nobody else said it."""
    if not verdict.remote or verdict.state == DELIVERED:
        return None
    return match(verdict.host, verdict.code, verdict.status, verdict.text)


def _advised(verdict: Verdict, meaning: Meaning | None) -> Verdict:
    if meaning is None:
        return verdict
    if verdict.state == FAILED and meaning.retry == "later":
        return verdict._replace(state=DEFERRED)
    if verdict.state == DEFERRED and meaning.retry == "never":
        return verdict._replace(state=FAILED)
    return verdict

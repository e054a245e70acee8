"""Who sent a message of a stranger: it is verified while it comes in, and what its domain asks for is done.

`Passage` stands before the store: the verifiers get every byte as it came, the store what is left when the fields that
claim to be ours were taken out (RFC 8601 section 5); what is stored, hashed and searched is that. `judge` asks the DNS
when the message is here whole, and gives the refusal or what is written down with the message.

Mail of clients in `authentication.exempt` and `relay.networks` is not looked at; of those who logged in, from there or
elsewhere, only the forged fields go. Why a message is refused is said in the reply (RFC 7372), with the domain that
asks for it.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from posthouse.base.networks import trusted
from posthouse.base.settings import Settings
from posthouse.mime.removal import Removal
from posthouse.senderauth import authres, dkim, dmarc, policy, verdict_fields, verdict_trace
from posthouse.senderauth.policy import Decision
from posthouse.senderauth.tally import Evaluated, Tally
from posthouse.senderauth.verify import Authenticator, Check, Client, Verdict
from posthouse.smtp.replies import Reply

if TYPE_CHECKING:
    from posthouse.servers.smtp.session import SmtpSession

CLIENTS = 1000  # of which it is remembered whether they are exempt
LATER = Reply(451, "4.4.3", "The DNS does not answer, so it cannot be verified who sent this; try again later")


class Judged(NamedTuple):
    """What was found of a message, and what follows from it."""

    verdict: Verdict
    decision: Decision
    fields: bytes  # to be put on top
    trace: dict[str, Any]


class Passage:
    """The way of one content: bytes as they came go in, those to be stored come out."""

    def __init__(self, authserv_id: str, hostname: str, *, verify: bool, marks_alone: bool = False) -> None:
        self.check = Check() if verify else None
        self.held = 0  # octets that may still come out at once
        self._forged = verdict_fields.Forged(authserv_id, hostname, marks_alone=marks_alone)
        self._removal = Removal(self._forged)

    @property
    def forged(self) -> dict[str, int]:
        """How many fields that claimed to be ours were taken out, by name."""
        return self._forged.found

    def feed(self, data: bytes) -> bytes:
        """The next piece, and what is to be stored now."""
        if self.check is not None:
            self.check.feed(data)
        passed = self._removal.feed(data)
        self.held = 0 if passed is data else max(0, self.held + len(data) - len(passed))
        return passed

    def finish(self) -> bytes:
        """What is left to be stored."""
        if self.check is not None:
            self.check.end()  # here, as this may be on a thread
        return self._removal.finish()


class Authentication:
    """What the sessions of all listeners share of it."""

    def __init__(self, settings: Settings, authenticator: Authenticator, tally: Tally | None = None) -> None:
        self._chosen = settings.authentication
        networks = (*settings.authentication.exempt, *settings.relay.networks)
        self._is_exempt = lru_cache(CLIENTS)(lambda ip: "/" in ip or trusted(ip, networks))
        self._hostname = settings.hostname
        self._authenticator = authenticator
        self._tally = tally

    @property
    def authserv_id(self) -> str:
        """Our name in Authentication-Results."""
        return self._authenticator.authserv_id

    def passage(self, session: "SmtpSession") -> Passage | None:
        """For a content that begins; None: it may pass as it is."""
        if session.login is None and self._is_exempt(session.ip):
            return None
        on = self._chosen.verify
        return Passage(
            self._authenticator.authserv_id,
            self._hostname,
            verify=on and session.login is None,
            marks_alone=not on,
        )

    async def judge(self, session: "SmtpSession", check: Check) -> Reply | None:
        """Why a message that is here whole is refused; what was found goes to the transaction and the filters."""
        transaction = session.transaction
        assert transaction is not None
        client = Client(session.ip, session.hello, str(transaction.sender))
        verdict = await self._authenticator.verify(check, client)
        decision = policy.decide(verdict, self._chosen)
        written = verdict_fields.fields(verdict, decision, self._authenticator.authserv_id, self._hostname)
        transaction.judged = Judged(verdict, decision, written, verdict_trace.trace(verdict, decision))
        if session.visitor is not None:
            session.visitor.spf, session.visitor.dkim = verdict.spf_word, verdict.dkim_word
            session.visitor.dmarc = verdict.dmarc_word
        if self._tally is not None and decision.disposition != "defer" and (seen := _evaluated(verdict, decision)):
            self._tally.note(seen, map(str, transaction.recipients))
        match decision.disposition:
            case "defer":
                return LATER
            case "reject":
                return refusal(verdict)
            case _:
                return None


def refusal(verdict: Verdict) -> Reply:
    """What the sender of a message that fails DMARC hears: whose policy it is, and what was not as it should be."""
    judged = verdict.dmarc
    assert judged is not None
    if judged.is_malformed:
        said = authres.clean("; ".join(judged.because)).encode("ascii", "replace").decode()[:300]
        return Reply(550, "5.7.1", f"The From field does not say who wrote this: {said} (RFC 5322 section 3.6.2)")
    author = judged.domain or ", ".join(verdict.authors[:3])
    facts = [_of_spf(one.result, one.domain, aligned=judged.aligned_spf) for one in verdict.spf[:1]]
    facts += [
        f"DKIM {one.word} for {one.domain[:60] or 'a signature'}{' (another domain)' * (one.word == 'pass')}"
        for one in verdict.dkim[:2]
    ] or ["no DKIM signature"]
    proved = any(one.result == "pass" for one in verdict.spf[:1]) or any(one.word == "pass" for one in verdict.dkim)
    text = (
        f"{author[:100]} asks by DMARC (p={judged.policy}) that mail is refused which is not proved to come from it: "
        f"{'; '.join(facts)}"
    )
    # RFC 7372 section 3.4 is for messages that failed several checks, RFC 7489 section 10.3 has 5.7.1 for all others.
    return Reply(550, "5.7.1" if proved else "5.7.26", text)


def _of_spf(word: str, domain: str, *, aligned: bool) -> str:
    return f"SPF {word} for {domain[:60]}{' (another domain)' * (word == 'pass' and not aligned)}"


def _weighed(signatures: Sequence[dkim.Result], judged: dmarc.Result) -> Sequence[dkim.Result]:
    """Signatures in the order in which a report wants them, if it has no room for all (RFC 9990 section 3.1.3): who
    sends can put many before the one that proves him."""

    def weight(one: dkim.Result) -> int:
        if one.word != "pass":
            return 3
        if one.domain == judged.domain:
            return 0
        return 1 if judged.organization and f".{one.domain}".endswith(f".{judged.organization}") else 2

    return sorted(signatures, key=weight) if len(signatures) > 1 else signatures


def _evaluated(verdict: Verdict, decision: Decision) -> Evaluated | None:
    """What a message contributes to the report for the domain whose policy it is."""
    judged = verdict.dmarc
    if judged is None or not judged.policy_domain or judged.word not in ("pass", "fail"):
        return None
    said = verdict.mail_from or verdict.helo
    scope = "mfrom" if verdict.mail_from is not None else "helo"
    return Evaluated(
        policy_domain=judged.policy_domain,
        record=judged.record,
        source_ip=verdict.client.ip,
        header_from=judged.domain,
        envelope_from=verdict.mail_from.domain if verdict.mail_from is not None else "",
        spf=(said.domain, scope, said.result) if said is not None else ("", "", ""),
        dkim=tuple([(one.domain, one.selector, one.word) for one in _weighed(verdict.dkim, judged) if one.domain]),
        aligned_spf="pass" if judged.aligned_spf else "fail",
        aligned_dkim="pass" if judged.aligned_dkim else "fail",
        disposition=decision.disposition,
        reasons=((decision.override, decision.because),) if decision.override else (),
    )

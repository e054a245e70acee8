"""How certain a server must be before mail is sent to it: DANE, MTA-STS, or whatever TLS it offers.

`Guard.of` asks the DNS and the policies before the connection and gives a `Security`, or a reply that puts the host
off: what was signed wrongly or could not be asked for is never taken for "nothing is required" (RFC 7672
section 2.1.1). `verdict` judges what the server showed in the handshake, `handshake_failed` and `without_tls` a server
that showed nothing. DANE goes before MTA-STS (RFC 8461 section 2).

What is asked of hosts that the settings name is `by_settings`. A message may ask for more (`raised`, RFC 8689
section 4.2.1) or for nothing (`is_tls_optional`, section 4.2.2).

Every outcome has words for the trace and, if something is wrong, a result type for TLS reports (RFC 8460 section 4.3).
Which `ssl.SSLContext` goes with a `Security` is in `queue/client_tls.py`.
"""

import asyncio
import ssl
from collections.abc import Sequence
from ipaddress import ip_address
from typing import Literal, NamedTuple

from cryptography.x509.verification import Store

from posthouse.mime import fields, header
from posthouse.net.dns import Answer, NoSuchDomain, Resolver, Tlsa, Unavailable, normal
from posthouse.queue import dane
from posthouse.queue.certificates import covers, untrusted
from posthouse.queue.mta_sts import Policies
from posthouse.queue.tls_counts import Counts
from posthouse.smtp.replies import Reply

Level = Literal["dane", "sts-enforce", "sts-testing", "pkix", "opportunistic"]
Verified = Literal["", "dane", "pkix"]
PolicyType = Literal["tlsa", "sts", "no-policy-found"]  # RFC 8460 section 4.4
ResultType = Literal[
    "",
    "starttls-not-supported",
    "certificate-host-mismatch",
    "certificate-expired",
    "certificate-not-trusted",
    "validation-failure",
    "tlsa-invalid",
    "dnssec-invalid",
    "dane-required",
    "sts-policy-fetch-error",
    "sts-policy-invalid",
    "sts-webpki-invalid",
]
_POLICY_TYPES: dict[Level, PolicyType] = {
    "dane": "tlsa",
    "sts-enforce": "sts",
    "sts-testing": "sts",
    "pkix": "no-policy-found",
    "opportunistic": "no-policy-found",
}
_MANDATORY = ("dane", "sts-enforce", "pkix")
# X509_V_ERR_CERT_HAS_EXPIRED and _HOSTNAME_MISMATCH of OpenSSL; whatever else it says is a matter of trust.
_VERIFY_CODES: dict[int, ResultType] = {10: "certificate-expired", 62: "certificate-host-mismatch"}


class Security(NamedTuple):
    """What is asked of a server."""

    level: Level
    reason: str  # for the trace
    tlsa: tuple[Tlsa, ...] = ()  # usable records; none with level "dane": TLS is required, nobody is authenticated
    base: str = ""  # TLSA base domain, which is sent as SNI (RFC 7672 section 2.2.3)
    names: tuple[str, ...] = ()  # what a certificate under DANE-TA(2) may be for (RFC 7672 section 3.2.2)
    policy_id: str = ""  # of MTA-STS
    result: ResultType = ""  # what is wrong already, without keeping mail back

    @property
    def mandatory(self) -> bool:
        """Whether mail waits rather than goes without TLS."""
        return self.level in _MANDATORY

    @property
    def policy_type(self) -> PolicyType:
        """As TLS reports call it."""
        return _POLICY_TYPES[self.level]

    @property
    def records(self) -> tuple[str, ...]:
        """The TLSA records, as TLS reports show them (RFC 8460 section 4.4)."""
        return tuple(f"_25._tcp.{self.base}. IN TLSA {one} {one.data.hex()}" for one in self.tlsa)


class Finding(NamedTuple):
    """What came of it."""

    ok: bool  # whether mail may go this way
    text: str  # for the trace
    result: str = ""  # what a report says of it; a finding may be ok and have one
    policy: PolicyType = "no-policy-found"
    verified: Verified = ""  # how the server proved who it is; "": it did not, or nobody looked


class Deferral(Reply):
    """A reply that puts a host off, with what a TLS report says of it."""

    result: ResultType
    policy: PolicyType

    def __new__(cls, text: str, result: ResultType, policy: PolicyType) -> "Deferral":
        reply = super().__new__(cls, 451, "4.7.5", text)
        reply.result = result
        reply.policy = policy
        return reply

    @property
    def finding(self) -> Finding:
        """For the counts."""
        return Finding(False, self.text, self.result, self.policy)


class Guard:
    """Says what is asked of each server. `counts` is for TLS reports; callers note findings there. Without `policies`
    there is no MTA-STS, without `dane` no DANE."""

    def __init__(
        self, resolver: Resolver, policies: Policies | None, counts: Counts | None = None, *, dane: bool = True
    ) -> None:
        self._resolver = resolver
        self._policies = policies
        self._uses_dane = dane
        self.counts = counts or Counts()

    async def of(
        self, destination: str, mx_host: str, mx_is_secure: bool | None = None, *, port: int = 25
    ) -> Security | Reply:
        """What is asked of a host (a name) that takes mail for a destination (a domain).

        `mx_is_secure`: whether the MX records that name the host, or their absence, were validated; None: it is
        looked up. A reply (451 4.7.5) puts the host off: it must not be used now, others of the domain may.
        Not for smart hosts: what they are asked is in the settings.
        """
        destination, host = normal(destination), normal(mx_host)
        if destination.startswith("[") or _is_address(host):
            return Security("opportunistic", "an address has no policy")
        found = await self._dane(destination, host, mx_is_secure, port)
        if isinstance(found, Security) and found.tlsa:
            return found
        if not isinstance(found, Deferral):
            sts = await self._sts(destination, host)
            # TLSA records that nobody can use ask for TLS and no more; a policy may ask for more.
            if not isinstance(found, Security):
                found = sts._replace(reason=f"{found}; {sts.reason}") if isinstance(sts, Security) else sts
            elif isinstance(sts, Deferral):
                found = sts
            elif sts.level == "sts-enforce":
                found = sts._replace(reason=f"{sts.reason}; {found.reason}", result=found.result)
        if isinstance(found, Deferral):
            self.counts.note(destination, host, found.finding)
        return found

    async def _dane(
        self, destination: str, host: str, mx_is_secure: bool | None, port: int
    ) -> Security | Deferral | str:
        """What the TLSA records ask for; a text if DANE has no say."""
        if not self._uses_dane:
            return "DANE is off"
        names = [destination]
        if mx_is_secure is not False:
            try:
                mx = await self._resolver.answer(destination, "MX")
            except NoSuchDomain:
                mx = Answer(())
            except Unavailable as error:
                if mx_is_secure is None:
                    return _deferral(f"The DNS gave no mail servers of {destination}: {error}")
                mx = Answer((), True)
            mx_is_secure = mx.secure if mx_is_secure is None else mx_is_secure
            names += [mx.name] if mx.secure and mx.name else []
        if not mx_is_secure:
            return f"no DANE: the mail servers of {destination} are not signed, or not validated"
        found = await self._tlsa(host, port)
        if isinstance(found, Deferral | str):
            return found
        base, records = found
        where = f"_{port}._tcp.{base}"
        good = dane.usable(records)
        if not good:
            reason = f"DANE: none of the TLSA records of {where} is usable, TLS is required and nobody authenticated"
            return Security("dane", reason, (), base, (), result="tlsa-invalid")
        kinds = ", ".join(dict.fromkeys(str(record) for record in good))
        return Security(
            "dane", f"DANE: TLSA records of {where}: {kinds}", good, base, tuple(dict.fromkeys([base, *names]))
        )

    async def _tlsa(self, host: str, port: int) -> tuple[str, tuple[Tlsa, ...]] | Deferral | str:
        """The TLSA base domain and its records (RFC 7672 section 2.2.2 and 2.2.3); a text if there are none."""
        try:
            bases = await self._bases(host)
            if isinstance(bases, str):
                return bases
            for base in bases:
                try:
                    answer = await self._resolver.answer(f"_{port}._tcp.{base}", "TLSA")
                except NoSuchDomain:
                    continue
                if answer.secure and answer.values:
                    return base, answer.values
        except Unavailable as error:
            return _deferral(f"The DNS did not say for certain what certificate {host} must have: {error}")
        return f"no TLSA records of {host}"

    async def _bases(self, host: str) -> list[str] | str:
        """Names to ask for TLSA records, in their order; a text if DANE has no say. Raises `Unavailable`."""
        answers = await asyncio.gather(
            self._resolver.answer(host, "AAAA"), self._resolver.answer(host, "A"), return_exceptions=True
        )
        good: list[Answer] = []
        failure: BaseException | None = None
        for answer in answers:
            if isinstance(answer, Answer):
                good.append(answer)
            elif not isinstance(answer, NoSuchDomain):
                failure = answer
        if failure is not None and (not good or not isinstance(failure, Unavailable)):
            raise failure
        if not good:
            return f"{host} does not exist"
        # Half an answer is enough: a zone that is signed is so for both kinds of address.
        if all(answer.secure for answer in ([one for one in good if one.values] or good)):
            return list(dict.fromkeys([good[-1].name or host, host]))
        if any(answer.name not in ("", host) for answer in good):
            # The alias may be signed where what it leads to is not: then its own name has the records.
            try:
                alias = await self._resolver.answer(host, "CNAME")
            except NoSuchDomain:
                alias = Answer(())
            if alias.secure and alias.values:
                return [host]
        return f"no DANE: the addresses of {host} are not signed, or not validated"

    async def _sts(self, destination: str, host: str) -> Security | Deferral:
        if self._policies is None:
            return Security("opportunistic", "MTA-STS is off")
        policy, text, result = await self._policies.of(destination)
        why: ResultType = result  # type: ignore[assignment]  # mta_sts.py names none but those
        if policy is None or policy.mode == "none":
            return Security("opportunistic", text, result=why)
        listed = any(covers(pattern, host) for pattern in policy.mx)
        if policy.mode == "enforce":
            if listed:
                return Security("sts-enforce", text, policy_id=policy.id)
            return Deferral(f"The {text} does not name the server {host}", "validation-failure", "sts")
        if listed:
            return Security("sts-testing", text, policy_id=policy.id)
        text = f"{text} does not name the server {host}"
        return Security("sts-testing", text, policy_id=policy.id, result="validation-failure")


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _deferral(text: str) -> Deferral:
    return Deferral(text, "dnssec-invalid", "tlsa")


def verdict(
    security: Security,
    chain: Sequence[bytes],
    host: str,
    names: Sequence[str] = (),
    *,
    now: int,
    verified: bool = False,
    roots: Store | None = None,
) -> Finding:
    """Whether the server that showed `chain` (DER, its own certificate first) is the one that was asked for. Pure.

    `names`: what its certificate may be for under DANE-TA(2), by default those of `security`. `now` in microseconds.
    `verified`: OpenSSL verified the chain and the name `host` in the handshake; without that MTA-STS looks for a
    way to `roots` itself.
    """
    policy = security.policy_type
    if security.level == "dane":
        match = dane.check(security.tlsa, chain, names or security.names, now)
        how: Verified = "dane" if match.ok and security.tlsa else ""
        return Finding(match.ok, match.text, match.result or security.result, policy, how)
    if security.level == "opportunistic":
        return Finding(True, "TLS without authentication", security.result, policy)
    trouble = None if verified else untrusted(chain, normal(host), roots, now)
    if security.level == "pkix":
        if trouble is None:
            return Finding(True, f"the certificate is for {host}", security.result, policy, "pkix")
        return Finding(False, trouble.text, trouble.result, policy)
    if trouble is None:
        text = f"the certificate is for {host}, as MTA-STS wants"
        return Finding(True, text, security.result, policy, "pkix")
    if security.level == "sts-testing":
        return Finding(True, f"MTA-STS (testing): {trouble.text}", trouble.result, policy)
    return Finding(False, f"MTA-STS: {trouble.text}", trouble.result, policy)


def without_tls(security: Security) -> Finding:
    """The server does not offer STARTTLS, or refuses it."""
    text = "the server does not do TLS"
    if security.mandatory:
        text = f"{text}, which is required ({security.reason})"
    return Finding(not security.mandatory, text, "starttls-not-supported", security.policy_type)


def handshake_failed(security: Security, error: BaseException) -> Finding:
    """The handshake broke off: `error` is what `Stream.start_tls` raised. ok: it may be tried without TLS."""
    cause = error if isinstance(error, ssl.SSLError) else error.__cause__
    result: ResultType = "validation-failure"
    if isinstance(cause, ssl.SSLCertVerificationError):
        result = _VERIFY_CODES.get(cause.verify_code, "certificate-not-trusted")
    return Finding(not security.mandatory, f"the TLS handshake failed: {error}", result, security.policy_type)


# What else decides

_BY_SETTINGS: dict[str, Security | None] = {
    "none": None,
    "opportunistic": Security("opportunistic", "no MX record named it, so there is no policy"),
    "starttls": Security("pkix", "the settings say so"),
    "implicit": Security("pkix", "the settings say so"),
}
OPTIONAL = Security("opportunistic", "the message says TLS-Required: No, so no policy counts")
UNGUARDED = Security("opportunistic", "no policies are asked for")


def by_settings(tls: str) -> Security | None:
    """What is asked of a host that the settings name, for their word; None: no TLS."""
    return _BY_SETTINGS[tls]


def raised(security: Security | None, *, certain: bool, why: str) -> Security | None:
    """What is asked of a host that must be verified, as by a message that requires TLS (RFC 8689 section 4.2.1):
    somebody must vouch for its name, and its certificate must be good. `certain`: the name came from the settings or
    from records that were validated. None: mail must not go there."""
    if security is None:
        return None
    if security.level in ("sts-enforce", "pkix") or (security.level == "dane" and security.tlsa):
        return security
    return Security("pkix", f"{why}; {security.reason}") if certain else None


def is_tls_optional(start: bytes) -> bool:
    """Whether a message (or the beginning of it, with its whole header) says TLS-Required: No (RFC 8689 section 3)."""
    head = start[: start.find(b"\r\n\r\n") + 2]  # without an empty line: what is there may be half a field
    said = header.find_all(head, b"TLS-Required")
    return bool(said) and all(fields.without_comments(value).strip().lower() == b"no" for value in said)

"""What reports mean, in sentences: which sources fail DMARC and what to do about it, which TLS sessions failed and why.
Pure."""

from collections.abc import Sequence
from typing import Any

from posthouse.store.report_tables import DmarcRow

_FORWARDED = ("forwarded", "mailing_list", "trusted_forwarder")

# Result types of RFC 8460 section 4.3: what happened, and what to do.
_TLS = {
    "starttls-not-supported": (
        "the server offered no TLS",
        "see that port 25 has a certificate (`posthouse doctor`) and nothing on the way takes STARTTLS out",
    ),
    "certificate-host-mismatch": (
        "the certificate is for another name",
        "the certificate must hold the name that the MX record says",
    ),
    "certificate-expired": ("the certificate had expired", "renew it, and see why that did not happen by itself"),
    "certificate-not-trusted": (
        "nobody trusts who issued the certificate",
        "take one of a public CA, and send the chain with it",
    ),
    "validation-failure": ("the server could not be verified", "read what the report says of it"),
    "tlsa-invalid": (
        "the certificate does not match the TLSA record",
        "publish TLSA records of the new key before it is used",
    ),
    "dnssec-invalid": ("the signatures of the zone are broken", "repair DNSSEC, or mail from careful senders waits"),
    "dane-required": ("the sender wants DANE and there is none", "nothing, unless you meant to offer it"),
    "sts-policy-fetch-error": (
        "the MTA-STS policy could not be fetched",
        "see that https://mta-sts.DOMAIN/.well-known/mta-sts.txt answers, with a good certificate",
    ),
    "sts-policy-invalid": ("the MTA-STS policy is not written correctly", "repair the policy"),
    "sts-webpki-invalid": (
        "the web server of the MTA-STS policy has a bad certificate",
        "renew the certificate of mta-sts.DOMAIN",
    ),
}


def source(rows: Sequence[DmarcRow], messages: int, domain: str, name: str = "") -> str:
    """What a source does that fails, and what to do. `rows` are what reports say of it, the weightiest first;
    `messages` how many failed; `name` what the address says it is called."""
    first = rows[0]
    author = first.header_from or domain
    who = f"{first.source} ({name})" if name else first.source
    text = f"{who} sent {messages} message{'s' * (messages != 1)} as {author} that fail DMARC; "
    facts, cure = _judged(first.facts, author, first.source, {kind for row in rows for kind in _reasons(row)})
    return f"{text}{facts}; {cure}."


def _reasons(row: DmarcRow) -> list[str]:
    return [str(reason[0]) for reason in row.facts.get("reasons", []) if reason]


def _judged(facts: dict[str, Any], author: str, ip: str, reasons: set[str]) -> tuple[str, str]:
    said: list[str] = []
    stranger = ""  # a domain of another, that passes
    spf_fails = own_signature_fails = False
    for domain, _, result in facts.get("spf", [])[:1]:
        related = _related(domain, author)
        if result == "pass":
            said.append(f"SPF passes for {domain}, which is not aligned" + (" (too strict?)" if related else ""))
            stranger = domain
        elif result in ("none", ""):
            said.append(f"{domain or 'the sender'} has no SPF record")
        else:
            said.append(f"SPF says {result} for {domain}")
            spf_fails = related
    signatures = facts.get("dkim", [])
    for domain, selector, result in signatures[:2]:
        related = _related(domain, author)
        if result == "pass":
            said.append(f"DKIM passes for {domain}, which is not aligned")
            stranger = domain
        else:
            said.append(f"the signature of {domain} (selector {selector or '?'}) says {result}")
            own_signature_fails = own_signature_fails or related
    if not signatures:
        said.append("there is no DKIM signature")
    return "; ".join(said), _cure(author, ip, stranger, spf_fails, own_signature_fails, reasons)


def _cure(author: str, ip: str, stranger: str, spf_fails: bool, own_signature_fails: bool, reasons: set[str]) -> str:
    if not reasons.isdisjoint(_FORWARDED):
        return "the receiver took it for forwarded mail or a mailing list: nothing to do"
    if own_signature_fails:
        return (
            "either it was changed on its way (a mailing list or a forwarder: nothing to do), or the key in the DNS is "
            f"not the one that signs: `posthouse dkim verify` on a message of {author} tells"
        )
    if stranger:
        return (
            f"if you use that service, sign with DKIM d={author} there, or let it send with a reverse-path below "
            f"{author}; if you do not, it is somebody who uses your name"
        )
    if spf_fails:
        kind = "ip6" if ":" in ip else "ip4"
        return (
            f"if it is yours, add {kind}:{ip} to the SPF record of {author} and sign with DKIM d={author}; "
            "if it is not, somebody uses your name, and p=reject has it refused"
        )
    return f"if it is yours, let it sign with DKIM d={author}; if it is not, somebody uses your name"


def _related(domain: str, author: str) -> bool:
    """Whether a domain may be of the same organization: one is, or is below, the other."""
    return domain == author or domain.endswith(f".{author}") or author.endswith(f".{domain}")


def tls(result: str, sessions: int, host: str, domain: str, facts: dict[str, Any]) -> str:
    """What a kind of failed sessions means, and what to do."""
    what, cure = _TLS.get(result, (f"they say {result}", "read what the report says of it"))
    more = "; ".join(str(facts[name]) for name in ("reason", "information") if facts.get(name))
    where = f" to {host}" if host else ""
    text = f"{sessions} session{'s' * (sessions != 1)}{where} of {domain} failed: {what}"
    return f"{text}{f' ({more[:300]})' if more else ''}; {cure.replace('DOMAIN', domain)}."

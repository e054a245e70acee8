"""Failure reports: one message that failed DMARC, SPF or DKIM, as a receiver of it tells (RFC 9991, RFC 6591).

They are feedback reports with `Feedback-Type: auth-failure` (`reports/arf.py`). Only read: such reports carry what
people wrote, so none are sent. Nothing of one is verified, and everything may be redacted. Pure; never raises.
"""

from typing import NamedTuple

from posthouse.mime import addresses, fields, header, words
from posthouse.reports import arf

_MAX_TEXT = 500
_MAX_DOMAIN = 253


class Failure(NamedTuple):
    """What a failure report says; "" is what it does not say."""

    domain: str  # Reported-Domain: whose authentication failed
    failed: str  # "dmarc", "spf", "dkim" (bodyhash, revoked, signature), "adsp"
    report_id: str  # Message-ID of the message that is reported, or the report's own words for it
    # Identity-Alignment: "none", "spf", "dkim", "spf, dkim". Nobody can tell which are meant: those that proved an
    # aligned domain (RFC 7489 section 7.3.1), or those that did not (RFC 9991 section 4).
    identity_alignment: str = ""
    result: str = ""  # Delivery-Result: "delivered", "spam", "policy", "reject", "other"
    source_ip: str = ""
    sender: str = ""  # Original-Mail-From
    recipients: tuple[str, ...] = ()
    incidents: int = 1
    authentication: str = ""  # Authentication-Results
    dkim_domain: str = ""
    dkim_selector: str = ""
    spf_record: str = ""
    arrived: str = ""  # Arrival-Date
    reporter: str = ""  # User-Agent, or Reporting-MTA
    author: str = ""  # From of the message
    subject: str = ""


def parse(raw: bytes) -> Failure | None:
    """The failure that a message reports; None if it reports none."""
    told = arf.read(raw)
    if told is None:
        return None
    values, original = told

    def one(name: str, most: int = _MAX_TEXT) -> str:
        return next((text for text in values.get(name, []) if text), "")[:most]

    if one("feedback-type").lower() != "auth-failure":
        return None
    author = next(iter(addresses.addresses((header.find(original, b"from") or b"")[:4096])), None)
    from_ = f"{words.decode(author.local)}@{words.decode(author.domain)}" if author is not None else ""
    ids = fields.message_ids(header.find(original, b"message-id") or b"", 1)
    domain = one("reported-domain", _MAX_DOMAIN) or one("dkim-domain", _MAX_DOMAIN) or from_.rpartition("@")[2]
    incidents = one("incidents", 9)
    return Failure(
        domain=domain.rstrip(".").lower(),
        failed=one("auth-failure", 40).lower() or "dmarc",
        report_id=ids[0] if ids else one("original-envelope-id"),
        identity_alignment=one("identity-alignment", 40).lower(),
        result=one("delivery-result", 40).lower(),
        source_ip=one("source-ip", 45),
        sender=one("original-mail-from").strip("<>"),
        recipients=tuple(text.strip("<>") for text in values.get("original-rcpt-to", [])[: arf.MOST]),
        incidents=int(incidents) if incidents.isascii() and incidents.isdigit() else 1,
        authentication=one("authentication-results"),
        dkim_domain=one("dkim-domain", _MAX_DOMAIN),
        dkim_selector=one("dkim-selector", _MAX_DOMAIN),
        spf_record=one("spf-dns"),
        arrived=one("arrival-date", 100) or one("received-date", 100),
        reporter=one("user-agent", 200) or one("reporting-mta", 200),
        author=from_[:320],
        subject=words.decode(header.find(original, b"subject") or b"").strip()[:200],
    )

"""The messages that reports travel in: subject, name of the file and media type as RFC 9990 section 3.5.2 (DMARC) and
RFC 8460 section 5.3 (TLS) want them. Pure; time and ids are handed in."""

import gzip
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from posthouse.mime import compose
from posthouse.mime.compose import Attachment


class From(NamedTuple):
    """Who reports."""

    organization: str
    domain: str  # the submitter
    contact: str  # the author of the message


def packed(report: bytes) -> bytes:
    """A report compressed; equal ones give equal octets."""
    return gzip.compress(report, mtime=0)


def filename(submitter: str, domain: str, begin: int, end: int, unique: str, extension: str) -> str:
    """The name of the file; times are seconds."""
    return f"{submitter}!{domain}!{begin}!{end}!{unique}.{extension}"


def dmarc(
    packed: bytes, who: From, to: str, domain: str, begin: int, end: int, unique: str, text: Sequence[str], now: int
) -> bytes:
    """The message with a DMARC report. `unique` is its Report-ID; `text` are lines for people; `now` microseconds."""
    name = filename(who.domain, domain, begin, end, unique, "xml.gz")
    return compose.message(
        sender=compose.mailbox(who.contact, who.organization),
        to=[to],
        subject=f"Report Domain: {domain} Submitter: {who.domain} Report-ID: <{unique}>",
        date=now,
        message_id=f"{unique}.dmarc@{who.domain}",
        text="\n".join([_about("DMARC", who, domain, begin, end), "", *text]),
        attachments=[Attachment(packed, "application/gzip", name)],
        fields=[("Auto-Submitted", "auto-generated")],
    )


def tls(
    packed: bytes, who: From, to: str, domain: str, begin: int, end: int, unique: str, text: Sequence[str], now: int
) -> bytes:
    """The message with a TLS report, which may go without TLS (RFC 8460 section 5.3, RFC 8689 section 5)."""
    name = filename(who.domain, domain, begin, end, unique, "json.gz")
    lines = "\r\n".join([_about("TLS", who, domain, begin, end), "", *text, ""])
    parts = [
        compose.part("text/plain; charset=utf-8", lines.encode()),
        compose.attached(Attachment(packed, "application/tlsrpt+gzip", name)),
    ]
    return compose.whole(
        compose.multipart("report", parts, '; report-type="tlsrpt"'),
        sender=compose.mailbox(who.contact, who.organization),
        to=[to],
        subject=f"Report Domain: {domain} Submitter: {who.domain} Report-ID: <{unique}@{who.domain}>",
        date=now,
        message_id=f"{unique}@{who.domain}",
        fields=[
            ("TLS-Report-Domain", domain),
            ("TLS-Report-Submitter", who.domain),
            ("TLS-Required", "No"),
            ("Auto-Submitted", "auto-generated"),
        ],
    )


def _about(kind: str, who: From, domain: str, begin: int, end: int) -> str:
    first, last = (datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S") for at in (begin, end))
    return f"This is a {kind} report of {who.domain} about {domain}, {first} to {last} UTC."

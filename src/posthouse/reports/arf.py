"""Read reports of complaints: feedback reports (RFC 5965), and the other forms in which providers send them.

A feedback report is multipart/report with report-type=feedback-report: text for people, fields for programs
(message/feedback-report), and the message that was complained about, or its header. Microsoft's JMRP sends no report
but the message itself, attached; so do people who forward what they complain about. Everything of a report may be
redacted or made up by its sender: what is read here is what it says, and whether that is true is for others.

Pure, bounded, and never raises: `parse` answers None for what is no such report.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

from posthouse.mime import bodies, fields, header
from posthouse.mime.scan import Limits, Part, scan

MAX_REPORT = 1024 * 1024  # octets that are looked at
MAX_FIELDS = 64 * 1024  # octets of message/feedback-report
MAX_ORIGINAL = 256 * 1024  # octets of the header of the message that it is about
MOST = 100  # recipients, domains, ids of one report
_MAX_TEXT = 320  # characters of one value; the longest address
_MAX_ID = 998  # of a Message-ID: a line (RFC 5322 section 2.1.1)
_LIMITS = Limits(parts=200, depth=20)

# Microsoft puts it on top of the message that it attaches, as it redacts the rest.
_RECIPIENT_FIELD = b"x-hmxmroriginalrecipient"

# by-domain and id of RFC 5321 section 4.4, anywhere in the field: what comes from us has them in this order.
_by = re.compile(rb"(?:\A|[\s)])by[ \t]+([A-Za-z0-9._-]{1,255})(?=[\s;(]|\Z)").search
_id = re.compile(rb"[\s)]id[ \t]+<?([A-Za-z0-9._@-]{1,255})").search


class Feedback(NamedTuple):
    """What a report says. Texts are as they came, cut and without control characters; nothing is verified."""

    type: str  # in lower case: "abuse", "fraud", "virus", "other", "not-spam", "auth-failure" ...
    mailer: str  # User-Agent; "" if it says none
    recipients: tuple[str, ...] = ()  # Original-Rcpt-To, without brackets
    domains: tuple[str, ...] = ()  # Reported-Domain, in lower case
    sender: str = ""  # Original-Mail-From
    source_ip: str = ""
    message_id: str = ""  # of the message that it is about, without brackets
    received: tuple[tuple[str, str], ...] = ()  # its Received fields, the newest first: by whom (lower case), which id

    @property
    def is_complaint(self) -> bool:
        """Whether somebody did not want the message: not what RFC 6430 (not-spam) and RFC 6591 report."""
        return self.type not in ("not-spam", "auth-failure", "")


def parse(raw: bytes) -> Feedback | None:
    """What the message `raw` reports; None if it is no report of a complaint. MAX_REPORT octets are looked at."""
    raw = raw[:MAX_REPORT]
    root = scan(raw, _LIMITS).root
    if root.type != b"multipart":
        return None
    if root.subtype == b"report":
        if root.param(b"report-type").lower() not in (b"feedback-report", b""):
            return None
        told = next((part for part in root.parts if _is(part, b"feedback-report")), None)
        return _of_report(raw, root, told) if told is not None else None
    told = next((part for part in root.parts if _is(part, b"feedback-report")), None)
    if told is not None:  # report-type or even multipart/report forgotten: it is clear what is meant
        return _of_report(raw, root, told)
    attached = next((part for part in root.parts if _is(part, b"rfc822")), None)
    if attached is None or root.subtype != b"mixed":
        return None
    return _about(Feedback("abuse", ""), _original(raw, attached))


def _is(part: Part, subtype: bytes) -> bool:
    return part.type == b"message" and part.subtype == subtype


class Told(NamedTuple):
    """The two halves of a feedback report."""

    values: dict[str, list[str]]  # the fields for programs, names in lower case
    original: bytes  # header of the message that it is about


def read(raw: bytes) -> Told | None:
    """The fields of a feedback report, whatever it reports; None if the message is none."""
    raw = raw[:MAX_REPORT]
    root = scan(raw, _LIMITS).root
    told = next((part for part in root.parts if _is(part, b"feedback-report")), None)
    return _told(raw, root, told) if told is not None else None


def _told(raw: bytes, root: Part, told: Part) -> Told:
    text = bodies.decode(raw[told.body : min(told.end, told.body + MAX_FIELDS)], told.encoding)
    # Some put an empty line or two before the fields; groups are parted by empty lines nowhere.
    head = text.lstrip(b"\r\n")
    values: dict[str, list[str]] = {}
    for field in header.split(head):
        values.setdefault(field.name.decode("ascii", "replace").lower(), []).append(_clean(header.unfold(field.value)))
    original = next((_original(raw, part) for part in root.parts if part is not told and _holds_original(part)), b"")
    return Told(values, original)


def _of_report(raw: bytes, root: Part, told: Part) -> Feedback:
    values, original = _told(raw, root, told)
    feedback = Feedback(
        type=_first(values, "feedback-type").lower()[:40] or "abuse",
        mailer=_first(values, "user-agent"),
        recipients=_addresses(values.get("original-rcpt-to", [])),
        domains=tuple(dict.fromkeys(one.lower() for one in values.get("reported-domain", []) if one))[:MOST],
        sender=next(iter(_addresses(values.get("original-mail-from", []))), ""),
        source_ip=_first(values, "source-ip")[:45],
    )
    return _about(feedback, original)


def _holds_original(part: Part) -> bool:
    """RFC 5965 section 2 item d, and text/rfc822-headers as RFC 3462 has it."""
    return _is(part, b"rfc822") or _is(part, b"global") or part.subtype in (b"rfc822-headers", b"rfc822-header")


def _original(raw: bytes, part: Part) -> bytes:
    """The header of the message that a part holds."""
    if part.message is not None:
        return part.message.header_bytes[:MAX_ORIGINAL]
    # Encoded against the rule, or a header alone.
    text = bodies.decode(raw[part.body : min(part.end, part.body + MAX_ORIGINAL)], part.encoding)
    return scan(text.lstrip(b"\r\n"), _LIMITS).root.header_bytes[:MAX_ORIGINAL]


def _about(feedback: Feedback, original: bytes) -> Feedback:
    """A report with what the header of the message tells."""
    ids = fields.message_ids(header.find(original, b"message-id") or b"", 1)
    recipients = feedback.recipients
    if not recipients:
        recipients = _addresses([_clean(one) for one in header.find_all(original, _RECIPIENT_FIELD)[:MOST]])
    return feedback._replace(
        message_id=ids[0][:_MAX_ID] if ids else "",
        recipients=recipients,
        received=tuple(_passed(original))[:MOST],
    )


def _passed(original: bytes) -> Iterator[tuple[str, str]]:
    for value in header.find_all(original, b"received")[:MOST]:
        line = header.unfold(value)[:4096]
        line = line.replace(b"\t", b" ")
        by = _by(line)
        id_ = _id(line, by.end() if by is not None else 0)
        if by is not None and id_ is not None:
            yield by[1].decode("ascii").lower(), id_[1].decode("ascii")


def _first(values: dict[str, list[str]], name: str) -> str:
    return next(iter(values.get(name, [])), "")


def _clean(value: bytes) -> str:
    text = value[: _MAX_TEXT * 4].decode("utf-8", "replace")
    return "".join([char for char in text if char.isprintable()]).strip()[:_MAX_TEXT]


def _addresses(texts: list[str]) -> tuple[str, ...]:
    """Addresses without brackets and comments: <a@b>, rfc822;a@b, a@b."""
    found: dict[str, None] = {}
    for text in texts[:MOST]:
        text = text.rpartition("<")[2].partition(">")[0] if "<" in text else text
        text = text.removeprefix("rfc822;").strip()
        if "@" in text[1:-1] and " " not in text:
            found.setdefault(text)
    return tuple(found)

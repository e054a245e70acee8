"""TLS reports (RFC 8460): JSON about how TLS to a domain went, written and read.

Reporters differ: strings where lists are due, numbers in strings, times without a zone. What is missing or odd is made
the best of. Pure and bounded: `parse` raises `Unreadable` and nothing else.
"""

import json
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from posthouse.reports.unpack import Unreadable

MAX_OCTETS = 8 * 1024 * 1024
MAX_TABLES = 100_000  # objects and lists of the JSON
MAX_VALUES = 500_000
MAX_POLICIES = 1000
MAX_DETAILS = 10_000  # of one report
MAX_STRINGS = 50  # of one policy
MAX_TEXT = 1000  # characters of one value
MAX_COUNT = 10**12


class Detail(NamedTuple):
    """Sessions that failed in one way (RFC 8460 section 4.4)."""

    result: str
    sessions: int
    sending_ip: str = ""
    host: str = ""  # of the receiver
    helo: str = ""
    receiving_ip: str = ""
    information: str = ""
    reason: str = ""


class PolicyResult(NamedTuple):
    """How sessions went under one policy."""

    type: str  # "sts", "tlsa", "no-policy-found"
    domain: str
    strings: tuple[str, ...] = ()  # the policy as it was found
    mx: tuple[str, ...] = ()  # patterns of MTA-STS
    successes: int = 0
    failures: int = 0
    details: tuple[Detail, ...] = ()


class TlsReport(NamedTuple):
    """A report. Times are seconds since 1970, the end included."""

    organization: str
    contact: str
    report_id: str
    begin: int
    end: int
    policies: tuple[PolicyResult, ...]


def write(report: TlsReport) -> bytes:
    """The JSON of a report."""
    return json.dumps(
        {
            "organization-name": report.organization,
            "date-range": {"start-datetime": _date(report.begin), "end-datetime": _date(report.end)},
            "contact-info": report.contact,
            "report-id": report.report_id,
            "policies": [_policy(one) for one in report.policies],
        },
        indent=1,
    ).encode()


def _policy(one: PolicyResult) -> dict[str, Any]:
    about: dict[str, Any] = {"policy-type": one.type}
    if one.strings:
        about["policy-string"] = list(one.strings)
    about["policy-domain"] = one.domain
    if one.mx:
        about["mx-host"] = list(one.mx)
    made: dict[str, Any] = {
        "policy": about,
        "summary": {"total-successful-session-count": one.successes, "total-failure-session-count": one.failures},
    }
    if one.details:
        made["failure-details"] = [_detail(each) for each in one.details]
    return made


def _detail(one: Detail) -> dict[str, Any]:
    said = {
        "result-type": one.result,
        "sending-mta-ip": one.sending_ip,
        "receiving-mx-hostname": one.host,
        "receiving-mx-helo": one.helo,
        "receiving-ip": one.receiving_ip,
        "failed-session-count": one.sessions,
        "additional-information": one.information,
        "failure-reason-code": one.reason,
    }
    return {name: value for name, value in said.items() if value != ""}


def _date(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse(data: bytes) -> TlsReport:
    """The report in a file that is unpacked. Raises `Unreadable`."""
    # A value takes far more memory than its few octets: this is counted before any is made.
    if len(data) > MAX_OCTETS or data.count(b"{") + data.count(b"[") > MAX_TABLES or data.count(b",") > MAX_VALUES:
        raise Unreadable("the JSON is too large for a TLS report")
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"the JSON is damaged: {error}") from None
    if not isinstance(found, dict) or not isinstance(found.get("policies"), list):
        raise Unreadable("the JSON is no TLS report: it has no policies")
    range_ = _table(found.get("date-range"))
    begin, end = (_seconds(_text(range_.get(name))) for name in ("start-datetime", "end-datetime"))
    room = MAX_DETAILS
    policies: list[PolicyResult] = []
    if len(found["policies"]) > MAX_POLICIES:
        raise Unreadable(f"the report has more than {MAX_POLICIES} policies")
    for each in found["policies"]:
        one = _read_policy(_table(each), room)
        room -= len(one.details)
        if one.domain:
            policies.append(one)
    if not policies:
        raise Unreadable("the report does not say about which domain it is")
    contact = _text(found.get("contact-info"))
    return TlsReport(
        organization=_text(found.get("organization-name")) or contact.rpartition("@")[2] or "unknown",
        contact=contact,
        report_id=_text(found.get("report-id")).strip("<>"),
        begin=min(begin, end) or max(begin, end),
        end=max(begin, end),
        policies=tuple(policies),
    )


def _read_policy(each: dict[str, Any], room: int) -> PolicyResult:
    about, summary = _table(each.get("policy")), _table(each.get("summary"))
    details = each.get("failure-details")
    details = details if isinstance(details, list) else [details]
    read = [_read_detail(one) for one in details if isinstance(one, dict)]
    if len(read) > room:
        raise Unreadable(f"the report has more than {MAX_DETAILS} failures in detail")
    return PolicyResult(
        type=_text(about.get("policy-type")).lower()[:40] or "no-policy-found",
        domain=_text(about.get("policy-domain")).rstrip(".").lower()[:253],
        strings=_texts(about.get("policy-string")),
        mx=_texts(about.get("mx-host", about.get("mx-host-pattern"))),
        successes=_count(summary.get("total-successful-session-count", summary.get("total-successful-sessions"))),
        failures=_count(summary.get("total-failure-session-count", summary.get("total-failure-sessions"))),
        details=tuple(read),
    )


def _read_detail(one: dict[str, Any]) -> Detail:
    return Detail(
        result=_text(one.get("result-type")).lower()[:60] or "validation-failure",
        sessions=_count(one.get("failed-session-count", 1)),
        sending_ip=_text(one.get("sending-mta-ip"))[:45],
        host=_text(one.get("receiving-mx-hostname")).rstrip(".").lower()[:253],
        helo=_text(one.get("receiving-mx-helo"))[:253],
        receiving_ip=_text(one.get("receiving-ip"))[:45],
        information=_text(one.get("additional-information", one.get("additional-info-uri"))),
        reason=_text(one.get("failure-reason-code", one.get("failure-error-code"))),
    )


def _table(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str:
    if not isinstance(value, str | int | float):
        return ""
    text = str(value)[:MAX_TEXT]
    return "".join([c for c in text if c.isprintable()]).strip()


def _texts(value: object) -> tuple[str, ...]:
    values: Sequence[object] = value if isinstance(value, list) else [value]
    return tuple(text for one in values[:MAX_STRINGS] if (text := _text(one)))


def _count(value: object) -> int:
    try:
        number = int(value) if isinstance(value, str | int | float) else 0
    except (ValueError, OverflowError):
        return 0
    return min(max(number, 0), MAX_COUNT)


_zoned = re.compile(r"(?i)(?:z|[+-]\d\d:?\d\d)\Z").search


def _seconds(text: str) -> int:
    try:
        if text.isdigit() and len(text) < 12:
            return int(text)
        at = datetime.fromisoformat(text)
        return max(int((at if _zoned(text) else at.replace(tzinfo=UTC)).timestamp()), 0)
    except (ValueError, OverflowError):
        return 0

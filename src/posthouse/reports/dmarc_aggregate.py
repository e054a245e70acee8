"""DMARC aggregate reports: write them as RFC 9990 has them, read those and all that went before (RFC 7489 appendix C).

Reporters differ: namespaces or none, elements left out, words in capitals, results that no RFC knows, several SPF
results. What is missing or odd is made the best of; a file without one record or without a domain is no report. XML is
read by expat, without declarations of entities (a DOCTYPE is refused), and bounded in depth, elements and records.
Pure: `parse` raises `Unreadable` and nothing else.
"""

import re
from collections.abc import Iterator, Sequence
from ipaddress import ip_address
from typing import NamedTuple
from xml.parsers import expat
from xml.sax.saxutils import escape

from posthouse.reports.unpack import Unreadable

NAMESPACE = "urn:ietf:params:xml:ns:dmarc-2.0"
MAX_DEPTH = 20
MAX_ELEMENTS = 1_000_000
MAX_RECORDS = 30_000
MAX_TEXT = 1000  # characters of one value
MAX_RESULTS = 100  # DKIM signatures of one record (RFC 9990 section 3.1.3)
MAX_COUNT = 10**12  # messages of one record
MAX_TIME = 253_402_300_799  # the end of the year 9999
_MILLISECONDS = 100_000_000_000  # a time from here on is not in seconds

_ACTIONS = ("none", "pass", "quarantine", "reject")
_WORDS = {"hardfail": "fail", "unknown": "permerror", "error": "temperror", "invalid": "permerror"}
_SPELLINGS = {"identities": "identifiers", "auth_result": "auth_results", "policy_evaulated": "policy_evaluated"}
_forbidden = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]").sub
_forbidden_octets = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f]").sub
_number = re.compile(r"[+-]?\d{1,15}").match


class Published(NamedTuple):
    """The policy that the reporter found. "" is what it does not say."""

    domain: str
    p: str = ""
    sp: str = ""
    np: str = ""
    adkim: str = ""
    aspf: str = ""
    fo: str = ""
    testing: str = ""
    discovery: str = ""  # "treewalk" or "psl"
    pct: str = ""  # of RFC 7489; not written


class Record(NamedTuple):
    """Messages of one source that are alike in everything."""

    source_ip: str
    messages: int
    disposition: str  # "none", "pass" (none was needed), "quarantine", "reject"
    dkim: str  # "pass" or "fail": whether an aligned signature passed
    spf: str
    header_from: str
    envelope_from: str = ""
    envelope_to: str = ""
    reasons: tuple[tuple[str, str], ...] = ()  # type, comment
    dkim_results: tuple[tuple[str, str, str], ...] = ()  # domain, selector, result
    spf_results: tuple[tuple[str, str, str], ...] = ()  # domain, scope, result

    @property
    def passes(self) -> bool:
        """Whether DMARC passed."""
        return "pass" in (self.dkim, self.spf)


class Aggregate(NamedTuple):
    """A report. Times are seconds since 1970, the end included."""

    organization: str
    email: str
    report_id: str
    begin: int
    end: int
    policy: Published
    records: tuple[Record, ...]
    extra_contact: str = ""
    errors: tuple[str, ...] = ()
    generator: str = ""


# Write


def write(report: Aggregate) -> bytes:
    """The XML of a report."""
    return ('<?xml version="1.0" encoding="UTF-8"?>\n' + "".join(_feedback(report))).encode("utf-8", "replace")


def _feedback(report: Aggregate) -> Iterator[str]:
    yield f'<feedback xmlns="{NAMESPACE}">\n  <version>1.0</version>\n  <report_metadata>\n'
    yield _element("    ", "org_name", report.organization)
    yield _element("    ", "email", report.email)
    yield _optional("    ", "extra_contact_info", report.extra_contact)
    yield _element("    ", "report_id", report.report_id)
    yield f"    <date_range>\n      <begin>{report.begin}</begin>\n      <end>{report.end}</end>\n    </date_range>\n"
    yield _optional("    ", "error", "; ".join(report.errors))
    yield _optional("    ", "generator", report.generator)
    yield "  </report_metadata>\n  <policy_published>\n"
    policy = report.policy
    yield _element("    ", "domain", policy.domain)
    yield _optional("    ", "discovery_method", policy.discovery)
    yield _element("    ", "p", policy.p or "none")
    for name, value in (
        ("sp", policy.sp),
        ("np", policy.np),
        ("fo", policy.fo),
        ("adkim", policy.adkim),
        ("aspf", policy.aspf),
        ("testing", policy.testing),
    ):
        yield _optional("    ", name, value)
    yield "  </policy_published>\n"
    for record in report.records:
        yield "".join(_record(record))
    yield "</feedback>\n"


def _record(record: Record) -> Iterator[str]:
    yield "  <record>\n    <row>\n"
    yield _element("      ", "source_ip", record.source_ip)
    yield f"      <count>{record.messages}</count>\n      <policy_evaluated>\n"
    yield _element("        ", "disposition", record.disposition)
    yield _element("        ", "dkim", record.dkim)
    yield _element("        ", "spf", record.spf)
    for kind, comment in record.reasons:
        yield "        <reason>\n" + _element("          ", "type", kind)
        yield _optional("          ", "comment", comment) + "        </reason>\n"
    yield "      </policy_evaluated>\n    </row>\n    <identifiers>\n"
    yield _element("      ", "header_from", record.header_from)
    yield _element("      ", "envelope_from", record.envelope_from)
    yield _optional("      ", "envelope_to", record.envelope_to)
    yield "    </identifiers>\n    <auth_results>\n"
    for domain, selector, result in record.dkim_results[:MAX_RESULTS]:
        yield "      <dkim>\n" + _element("        ", "domain", domain)
        yield _element("        ", "selector", selector) + _element("        ", "result", result) + "      </dkim>\n"
    for domain, scope, result in record.spf_results[:1]:
        yield "      <spf>\n" + _element("        ", "domain", domain)
        if scope == "mfrom":  # the only scope that RFC 9990 knows
            yield _element("        ", "scope", scope)
        yield _element("        ", "result", result) + "      </spf>\n"
    yield "    </auth_results>\n  </record>\n"


def _element(indent: str, name: str, text: str) -> str:
    return f"{indent}<{name}>{escape(_forbidden('', text))}</{name}>\n"


def _optional(indent: str, name: str, text: str) -> str:
    return _element(indent, name, text) if text else ""


# Read


def parse(data: bytes) -> Aggregate:
    """The report in a file that is unpacked. Raises `Unreadable`."""
    data = data.lstrip(b"\xef\xbb\xbf\0\r\n\t ") if not data.startswith((b"\xff\xfe", b"\xfe\xff")) else data
    reader = _Reader()
    try:
        reader.read(data)
    except expat.ExpatError as first:
        # Wrong octets are common in names of organisations; the rest of such a report is good.
        repaired = _forbidden_octets(b"", data.decode("utf-8", "replace").encode("utf-8"))
        if repaired == data:
            raise Unreadable(f"the XML is damaged: {first}") from None
        reader = _Reader()
        try:
            reader.read(repaired)
        except (expat.ExpatError, LookupError, ValueError) as error:
            raise Unreadable(f"the XML is damaged: {error}") from None
    except (LookupError, ValueError) as error:  # an encoding that nobody knows
        raise Unreadable(f"the XML cannot be read: {error}") from None
    return reader.report()


class _Reader:
    """Collects the texts that a report is made of, by their path below the root."""

    def __init__(self) -> None:
        self._path: list[str] = []
        self._elements = 0
        self._text: list[str] = []
        self._length = 0
        self._head: dict[str, list[str]] = {}
        self._row: dict[str, list[str]] = {}
        self._reasons: list[dict[str, str]] = []
        self._results: dict[str, list[dict[str, str]]] = {}
        self._rooted = False
        self.records: list[Record] = []

    def read(self, data: bytes) -> None:
        parser = expat.ParserCreate()
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._characters
        parser.StartDoctypeDeclHandler = self._doctype
        parser.EntityDeclHandler = self._doctype
        parser.buffer_text = True
        parser.Parse(data, True)

    def _doctype(self, *_: object) -> None:
        raise Unreadable("the XML declares entities or a document type, which a report never needs")

    def _start(self, name: str, _: object) -> None:
        self._elements += 1
        name = name.rpartition(":")[2].lower()[:64]
        if not self._rooted:
            if name != "feedback":
                raise Unreadable(f"the XML is no DMARC report: it begins with {name!r}")
            self._rooted = True
            return
        self._path.append(_SPELLINGS.get(name, name))
        if len(self._path) > MAX_DEPTH:
            raise Unreadable(f"the XML is deeper than {MAX_DEPTH}")
        if self._elements > MAX_ELEMENTS:
            raise Unreadable(f"the XML has more than {MAX_ELEMENTS} elements")
        self._text.clear()
        self._length = 0
        match self._path:
            case ["record"]:
                if len(self.records) >= MAX_RECORDS:
                    raise Unreadable(f"the report has more than {MAX_RECORDS} records")
                self._row, self._reasons, self._results = {}, [], {}
            case ["record", "row", "policy_evaluated", "reason"]:
                self._reasons.append({})
            case ["record", "auth_results", ("dkim" | "spf") as kind]:
                self._results.setdefault(kind, []).append({})

    def _characters(self, text: str) -> None:
        if self._length < MAX_TEXT:
            self._text.append(text)
            self._length += len(text)

    def _end(self, _: str) -> None:
        path = self._path
        if not path:
            return
        text = _clean("".join(self._text))
        self._text.clear()
        match path:
            case ["record"]:
                self.records.append(_of(self._row, self._reasons, self._results))
            case ["record", "row", "policy_evaluated", "reason", name]:
                self._reasons[-1].setdefault(name, text)
            case ["record", "auth_results", "dkim" | "spf" as kind, name]:
                self._results[kind][-1].setdefault(name, text)
            case ["record", *_, _, name]:
                values = self._row.setdefault(name, [])
                if len(values) < 10:
                    values.append(text)
            case ["report_metadata" | "policy_published", *_, name]:
                values = self._head.setdefault(f"{path[0]}/{name}", [])
                if len(values) < 20:
                    values.append(text)
        path.pop()

    def report(self) -> Aggregate:
        """What was read."""

        def one(name: str, group: str = "report_metadata") -> str:
            return next((text for text in self._head.get(f"{group}/{name}", []) if text), "")

        def policy(name: str) -> str:
            return one(name, "policy_published").lower()

        if not self._rooted or not self.records:
            raise Unreadable("the report has no record")
        domain = _domain(policy("domain"))
        if not domain:
            raise Unreadable("the report does not say about which domain it is")
        begin, end = _time(one("begin")), _time(one("end"))
        email = one("email")
        return Aggregate(
            organization=one("org_name") or email.rpartition("@")[2] or "unknown",
            email=email,
            report_id=one("report_id").strip("<>"),
            begin=min(begin, end) or max(begin, end),
            end=max(begin, end),
            policy=Published(
                domain,
                p=policy("p"),
                sp=policy("sp"),
                np=policy("np"),
                adkim=policy("adkim")[:1],
                aspf=policy("aspf")[:1],
                fo=policy("fo"),
                testing=policy("testing")[:1],
                discovery=policy("discovery_method"),
                pct=policy("pct"),
            ),
            records=tuple(self.records),
            extra_contact=one("extra_contact_info"),
            errors=tuple(text for text in self._head.get("report_metadata/error", []) if text),
            generator=one("generator"),
        )


def _of(row: dict[str, list[str]], reasons: Sequence[dict[str, str]], found: dict[str, list[dict[str, str]]]) -> Record:
    def one(name: str) -> str:
        return next((text for text in row.get(name, []) if text), "")

    dkim = tuple(
        (_domain(each.get("domain", "")), each.get("selector", ""), _word(each.get("result", "")))
        for each in found.get("dkim", [])[:MAX_RESULTS]
        if each
    )
    spf = tuple(
        (_domain(each.get("domain", "")), each.get("scope", "").lower(), _word(each.get("result", "")))
        for each in found.get("spf", [])[:MAX_RESULTS]
        if each
    )
    disposition = one("disposition").lower()
    return Record(
        source_ip=_address(one("source_ip")),
        messages=_count(one("count")),
        disposition=disposition if disposition in _ACTIONS else "none",
        dkim="pass" if one("dkim").lower() == "pass" else "fail",
        spf="pass" if one("spf").lower() == "pass" else "fail",
        header_from=_domain(one("header_from").rpartition("@")[2]),
        envelope_from=_domain(one("envelope_from").strip("<>").rpartition("@")[2]),
        envelope_to=_domain(one("envelope_to").strip("<>").rpartition("@")[2]),
        reasons=tuple((each.get("type", "").lower(), each.get("comment", "")) for each in reasons[:10] if each),
        dkim_results=dkim,
        spf_results=spf,
    )


def _clean(text: str) -> str:
    text = text[:MAX_TEXT].strip()
    return text if text.isprintable() else "".join([c if c.isprintable() else " " for c in text]).strip()


def _domain(text: str) -> str:
    return text.strip().rstrip(".").lower()[:253]


def _word(text: str) -> str:
    word = text.lower()[:20]
    return _WORDS.get(word, word) or "none"


def _address(text: str) -> str:
    try:
        address = ip_address(text.strip("[]").removeprefix("IPv6:"))
    except ValueError:
        return text[:45]
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)


def _count(text: str) -> int:
    found = _number(text.replace(",", ""))
    return min(max(int(found[0]), 0), MAX_COUNT) if found is not None else 1


def _time(text: str) -> int:
    """Seconds; some write fractions or milliseconds. 0 for what is none."""
    found = _number(text)
    seconds = int(found[0]) if found is not None else 0
    if seconds >= _MILLISECONDS:
        seconds //= 1000
    return min(max(seconds, 0), MAX_TIME)

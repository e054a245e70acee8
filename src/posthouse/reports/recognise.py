"""Which report is this? A message that arrived, or a file that somebody has: DMARC aggregate, TLS, or DMARC failure.

Reporters attach their reports under all kinds of media types, or send a message that is nothing but a zip file. So
every part is looked at whose type or name could be that of a report, and what it is is told by its content. Bounded:
parts, their sizes, and how many of them are unpacked. Pure: `of_message` and `of_file` raise `Unreadable`.
"""

import re
from collections.abc import Iterator

from posthouse.mime import bodies
from posthouse.mime.scan import Limits, Part, scan
from posthouse.mime.text import filename
from posthouse.reports import dmarc_aggregate, dmarc_failure, tls_rpt, unpack
from posthouse.reports.dmarc_aggregate import Aggregate
from posthouse.reports.dmarc_failure import Failure
from posthouse.reports.tls_rpt import TlsReport
from posthouse.reports.unpack import Unreadable

MAX_MESSAGE = 15 * 1024 * 1024  # octets that are looked at; base64 of what is unpacked at the most
MAX_TRIED = 4  # parts of one message that are unpacked
_LIMITS = Limits(parts=100, depth=10)

_TYPES = frozenset(
    {
        b"application/gzip",
        b"application/x-gzip",
        b"application/gzip-compressed",
        b"application/zip",
        b"application/x-zip",
        b"application/x-zip-compressed",
        b"application/tlsrpt+gzip",
        b"application/tlsrpt+json",
        b"application/xml",
        b"text/xml",
        b"application/json",
    }
)
_NAMES = (".xml", ".xml.gz", ".gz", ".zip", ".json", ".json.gz")
# A message, not a report by itself: it begins with a header field.
_is_message = re.compile(rb"(?:From [^\r\n]*\r?\n)?[!-9;-~]{1,100}[ \t]*:").match

Report = Aggregate | TlsReport | Failure


def of_message(raw: bytes) -> Report:
    """The report that a message carries. Raises `Unreadable`, with the reason of the part that came nearest."""
    raw = raw[:MAX_MESSAGE]
    why: Unreadable | None = None
    for tried, part in enumerate(_candidates(scan(raw, _LIMITS).root)):
        if tried == MAX_TRIED:
            break
        try:
            return of_file(bodies.decode(raw[part.body : part.end], part.encoding), alone=False)
        except Unreadable as error:
            why = why or error
    failure = dmarc_failure.parse(raw)
    if failure is not None:
        return failure
    raise why or Unreadable("the message holds no report")


def of_file(data: bytes, *, alone: bool = True) -> Report:
    """The report in a file: XML, JSON, packed or not, or (`alone`) a whole message. Raises `Unreadable`."""
    start = data[:4096].lstrip(b"\xef\xbb\xbf\0\r\n\t ")
    if alone and not unpack.is_packed(data) and not start.startswith((b"<", b"{", b"\xff\xfe", b"\xfe\xff")):
        if _is_message(start) is None:
            raise Unreadable("this is no report: neither XML nor JSON nor a message, packed or not")
        return of_message(data)
    data = unpack.unpack(data)
    start = data[:4096].lstrip(b"\xef\xbb\xbf\0\r\n\t ")
    return tls_rpt.parse(data) if start.startswith(b"{") else dmarc_aggregate.parse(data)


def _candidates(root: Part) -> Iterator[Part]:
    """The parts that may be a report: those that are surely meant as one first."""
    leaves = [part for part in _leaves(root) if part.size > 20]
    named = [part for part in leaves if (filename(part) or "").lower().endswith(_NAMES)]
    yield from named
    for part in leaves:
        if part not in named and part.type + b"/" + part.subtype in _TYPES:
            yield part


def _leaves(part: Part) -> Iterator[Part]:
    if part.type == b"multipart" and part.parts:
        for one in part.parts:
            yield from _leaves(one)
    elif part.message is not None:
        yield from _leaves(part.message)  # forwarded as an attachment
    else:
        yield part

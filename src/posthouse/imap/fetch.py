"""Compile a FETCH request once, then run it for each message (RFC 9051 section 7.5.2).

`compile_fetch` says which columns the store must load, and `Plan.simple` makes the response of a message that
needs nothing but these. Sections (BODY[…], BINARY[…]) are found by the offsets that are stored with each
message: `section_value` gives bytes for what is small, and a `Span`, to be sent in pieces, for what is not.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from posthouse.imap import replies
from posthouse.imap.body import body
from posthouse.imap.commands.fetch import FetchRequest, Section
from posthouse.imap.dates import date_time
from posthouse.imap.flags import flag_text
from posthouse.imap.labels import label_list
from posthouse.imap.structure import string
from posthouse.imap.view import Manner
from posthouse.mime.bodies import decode, decoder, is_known
from posthouse.mime.header import selector
from posthouse.mime.listed import covers
from posthouse.mime.scan import Scan
from posthouse.mime.sections import find_part, find_section

USUAL = 60  # items, sections and names of fields; requests with more are compiled each time
SMALL = 256 * 1024  # octets: up to here a value is made at once, beyond it is sent in pieces

Row = Sequence[Any]

# Item: template, columns it needs.
_ITEMS: dict[bytes, tuple[bytes, tuple[str, ...]]] = {
    b"UID": (b"UID %d", ("uid",)),
    b"FLAGS": (b"FLAGS (%b)", ("uid", "flags", "keywords")),
    b"INTERNALDATE": (b"INTERNALDATE %b", ("received",)),
    b"RFC822.SIZE": (b"RFC822.SIZE %d", ("size",)),
    b"ENVELOPE": (b"ENVELOPE %b", ("envelope",)),
    b"BODY": (b"BODY %b", ("bodystructure",)),
    b"BODYSTRUCTURE": (b"BODYSTRUCTURE %b", ("bodystructure",)),
    b"MODSEQ": (b"MODSEQ (%d)", ("modseq",)),
    b"SAVEDATE": (b"SAVEDATE %b", ("savedate",)),
    b"EMAILID": (b"EMAILID (%b)", ("email_id",)),
    b"THREADID": (b"THREADID (%b)", ("thread_id",)),
    b"PREVIEW": (b"PREVIEW %b", ("preview",)),
    b"X-GM-MSGID": (b"X-GM-MSGID %d", ("email_id",)),
    b"X-GM-THRID": (b"X-GM-THRID %d", ("thread_id",)),
    b"X-GM-LABELS": (b"X-GM-LABELS %b", ("labels", "flags", "keywords")),
}
# How the value of a column is written, where it does not go into the template as it is.
_WRITTEN: dict[bytes, Callable[[Any], object]] = {
    b"INTERNALDATE": date_time,
    b"BODY": body,
    b"SAVEDATE": date_time,
    b"EMAILID": replies.email_id,
    b"THREADID": replies.thread_id,
    b"PREVIEW": lambda text: string(text.encode("utf-8", "replace")),
}


class Plan(NamedTuple):
    """What a request became."""

    columns: tuple[str, ...]  # to load, "uid" first
    line: Callable[[int, Row, bool], bytes]  # sequence number, row, is it \Recent: response without ")" CRLF
    has_items: bool  # the line holds an item already
    flags: tuple[int, int]  # where "flags" and "keywords" stand in the row
    shows_flags: bool
    sections: tuple[Section, ...]
    sets_seen: bool
    manner: Manner
    listed: int = -1  # where the kept fields stand in the row; the email's id stands behind them

    def flag_items(self, row: Row, recent: bool) -> bytes:
        """The flags of a row, as they are told of a message that was changed."""
        flags, keywords = self.flags
        text = b"FLAGS (%b)" % flag_text(row[flags], row[keywords], recent)
        return text + b" MODSEQ (%d)" % row[keywords + 1] if self.manner.modseq else text


def compile_fetch(request: FetchRequest, manner: Manner) -> Plan:
    """Turn what the client asked for into one function, used for every message of the answer.

    Only requests as programs really make them are remembered.
    """
    return _compile(request, manner) if is_usual(request) else _compile.__wrapped__(request, manner)


def is_usual(request: FetchRequest) -> bool:
    """Is it one as programs make them, which may be remembered?"""
    names = sum(len(section.fields) for section in request.sections)
    return len(request.items) + len(request.sections) + names <= USUAL


@lru_cache(256)
def _compile(request: FetchRequest, manner: Manner) -> Plan:
    items = request.items
    if manner.uid_only and (request.sections or items != (b"UID",)):
        items = tuple(item for item in items if item != b"UID")  # it begins the response; but "()" is none
    wanted = ["uid"]
    sections = request.sections
    kept: tuple[Section, ...] = ()
    if sections and all(map(_is_kept, sections)):
        sections, kept = (), sections
        wanted += ["listed", "email_id"]
    if sections:
        wanted += ["flags", "keywords", "modseq", "size"]
    for item in items:
        wanted += _ITEMS[item][1]
    columns = tuple(dict.fromkeys(wanted))
    at = {name: number for number, name in enumerate(columns)}
    items_text = b" ".join([*(_ITEMS[item][0] for item in items), *[b"%b"] * len(kept)])
    template = (b"* %d UIDFETCH (" if manner.uid_only else b"* %d FETCH (") + items_text
    values = [_value(item, at) for item in items] + [_kept(section, at["listed"]) for section in kept]

    def line(number: int, row: Row, recent: bool) -> bytes:
        return template % (number, *[value(row, recent) for value in values])

    def line_by_uid(_: int, row: Row, recent: bool) -> bytes:
        return line(row[0], row, recent)

    return Plan(
        columns,
        line_by_uid if manner.uid_only else line,
        bool(items or kept),
        (at.get("flags", -1), at.get("keywords", -1)),
        b"FLAGS" in items,
        sections,
        request.sets_seen,
        manner,
        at["listed"] if kept else -1,
    )


def _is_kept(section: Section) -> bool:
    """Can it be answered by what is kept with each message (mime/listed.py)?"""
    return (
        section.part == b"HEADER.FIELDS"
        and not section.path
        and section.partial is None
        and section.peek
        and covers(section.fields)
    )


def _kept(section: Section, column: int) -> Callable[[Row, bool], bytes]:
    select, label = selector(section.fields), section.label

    def value(row: Row, _: bool) -> bytes:
        lines = select(row[column])
        return b"%b {%d}\r\n%b" % (label, len(lines), lines)

    return value


def _value(item: bytes, at: dict[str, int]) -> Callable[[Row, bool], object]:
    if item == b"FLAGS":
        flags, keywords = at["flags"], at["keywords"]
        return lambda row, recent: flag_text(row[flags], row[keywords], recent)
    if item == b"X-GM-LABELS":
        labels, flags, keywords = at["labels"], at["flags"], at["keywords"]
        return lambda row, _: label_list(row[labels], row[flags], row[keywords])
    column = at[_ITEMS[item][1][0]]
    written = _WRITTEN.get(item)
    if written is not None:
        return lambda row, _: written(row[column])
    return lambda row, _: row[column]


# Sections

_NONE = (b"", b"7bit", b"8bit", b"binary")


class Span(NamedTuple):
    """A range of a message, too large to be made at once. `encoding` is to be undone, for BINARY."""

    start: int
    end: int
    encoding: bytes = b""
    partial: tuple[int, int] | None = None  # of the decoded octets; without an encoding it is in the range


class Source(NamedTuple):
    """The bytes of one message."""

    scan: Scan  # offsets in the message without `prefix`
    prefix: int  # octets of header that stand before it
    size: int  # of the whole
    read: Callable[[int, int], bytes]


def can_decode(sections: Iterable[Section], scan: Scan) -> bool:
    """Can BINARY undo the transfer encodings of all parts that are asked for (RFC 3516 section 4.3)?"""
    for section in sections:
        if section.binary and section.path:
            part = find_part(scan, section.path)
            if part is not None and part.encoding not in _NONE and not is_known(part.encoding):
                return False
    return True


def section_value(section: Section, source: Source) -> bytes | int | Span | None:
    """What a section holds: bytes, a size (BINARY.SIZE), a span, or None for NIL: there is no such section.

    An encoding that cannot be undone (`can_decode`) is left as it is.
    """
    if section.binary:
        return _binary(section, source)
    if section.part.startswith(b"HEADER.FIELDS"):
        found = _range(section.path, b"HEADER", source)
        if found is None:
            return None
        header = source.read(*found)
        chosen = selector(section.fields, section.part.endswith(b"NOT"))(header)
        if section.partial is not None:
            first, count = section.partial
            chosen = chosen[first : first + count]
        return _without_nul(chosen)
    found = _range(section.path, section.part, source)
    if found is None:
        return None
    start, end = _cut(found, section.partial)
    return _without_nul(source.read(start, end)) if end - start <= SMALL else Span(start, end)


def _range(path: tuple[int, ...], part: bytes, source: Source) -> tuple[int, int] | None:
    """Where the section lies in the message, with what was put on top of it counted in."""
    found = find_section(source.scan, path, part)
    if found is None:
        return None
    if path:
        return found.start + source.prefix, found.end + source.prefix
    if part == b"HEADER":
        return 0, source.scan.root.body + source.prefix
    return (source.scan.root.body + source.prefix if part else 0), source.size


def _cut(found: tuple[int, int], partial: tuple[int, int] | None) -> tuple[int, int]:
    if partial is None:
        return found
    start = min(found[0] + partial[0], found[1])
    return start, min(start + partial[1], found[1])


def _without_nul(value: bytes) -> bytes:
    """A literal holds no NUL (RFC 9051 section 9, CHAR8); who needs those octets asks for BINARY."""
    return value.replace(b"\0", b"\x80") if b"\0" in value else value


def _binary(section: Section, source: Source) -> bytes | int | Span | None:
    encoding = b""
    if section.path:
        part = find_part(source.scan, section.path)
        if part is None:
            return None
        start, end, encoding = part.body + source.prefix, part.end + source.prefix, part.encoding
    else:
        start, end = 0, source.size
    if encoding in _NONE or not is_known(encoding):
        if section.size_only:
            return end - start
        start, end = _cut((start, end), section.partial)
        return source.read(start, end) if end - start <= SMALL else Span(start, end)
    if section.size_only:
        return decoded_size(source, start, end, encoding)
    if end - start > SMALL:
        return Span(start, end, encoding, section.partial)
    decoded = decode(source.read(start, end), encoding)
    if section.partial is not None:
        first, count = section.partial
        return decoded[first : first + count]
    return decoded


def decoded_size(source: Source, start: int, end: int, encoding: bytes) -> int:
    """How many octets a part has once its transfer encoding is undone; in bounded memory."""
    undo = decoder(encoding)
    size = 0
    for at in range(start, end, SMALL):
        size += len(undo.feed(source.read(at, min(at + SMALL, end))))
    return size + len(undo.finish())


def literal(label: bytes, size: int, binary: bool) -> bytes:
    """What stands before the octets of a section."""
    return b"%b %b{%d}\r\n" % (label, b"~" if binary else b"", size)


def section_text(label: bytes, value: bytes | int | None, binary: bool) -> bytes:
    """A section that is at hand, as it stands in the response."""
    if value is None:
        return label + b" NIL"
    if isinstance(value, int):
        return b"%b %d" % (label, value)
    return literal(label, len(value), binary and b"\0" in value) + value

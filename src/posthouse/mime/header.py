"""Header fields as raw bytes: find them, list them, select some, unfold one.

A header is the bytes that `scan` found, its empty line included. Names match in any case and may have
blanks before the colon (obsolete syntax). Values come raw: folded, with the blank after the colon, and
without the last line end. What is no field (an mbox "From " line, a byte order mark) is passed over.
Lines end with LF, with or without CR before it; where there is no LF at all, with CR.
"""

import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import NamedTuple

# RFC 5322 section 2.2, as loose as the scanner is. A value goes on as long as lines start with a blank.
_NAME = rb"[!-9;-~\x80-\xff]++"
_VALUE = rb"[ \t]*+:((?:[^\n]*+\n[ \t])*+[^\n]*+)"
_all_fields = re.compile(rb"\n(" + _NAME + rb")" + _VALUE).finditer
_line_end = re.compile(rb"\r*+\n")

_MARK = b"\xef\xbb\xbf"  # UTF-8 byte order mark: editors that save mail put it on top

Finder = Callable[[bytes], list[tuple[bytes, bytes]]]
Selector = Callable[[bytes], bytes]


MANY = 40  # names of fields in one request


class Field(NamedTuple):
    """One header field; `start` and `end` are its offsets, its line end included."""

    name: bytes
    value: bytes
    start: int
    end: int


def lines(header: bytes) -> bytes:
    """The header with LF before every line, the first one too: what patterns for fields look at. One octet longer."""
    if header.isascii() and header[-1:] == b"\n":  # nearly all
        return b"\n" + header
    if b"\n" not in header:
        header = header.replace(b"\r", b"\n")
    return (b"\n" + header).replace(b"\n" + _MARK, b"\n\n\n\n")


def split(header: bytes) -> list[Field]:
    """All fields, in order."""
    fields = []
    for match in _all_fields(lines(header)):
        value = match[2]
        end = min(match.end(), len(header))  # the "\n" put in front makes up for the one at the end
        fields.append(Field(match[1], value[:-1] if value[-1:] == b"\r" else value, match.start(), end))
    return fields


def empty_line(text: bytes | bytearray, at: int = 0) -> int:
    """Where the first empty line starts that begins at or behind `at`, which ends a header; -1: there is none.

    It is asked of every message, and half as long as a search by a pattern.
    """
    if not at and (text[:1] == b"\n" or text[:2] == b"\r\n"):
        return 0
    found = text.find(b"\n\r\n", at)
    bare = text.find(b"\n\n", at, found + 1 if found >= 0 else len(text))
    return (bare if bare >= 0 else found) + 1 or -1


def body_start(text: bytes | bytearray, at: int = 0) -> int:
    """The same for where the body starts, behind that line."""
    found = empty_line(text, at)
    return found if found < 0 else found + (2 if text[found] == 13 else 1)


def find(header: bytes, name: bytes) -> bytes | None:
    """The value of the first field of this name."""
    values = find_all(header, name)
    return values[0] if values else None


def find_all(header: bytes, name: bytes) -> list[bytes]:
    """The values of all fields of this name, in order."""
    return [_without_cr(value) for _, value in _finder((name,))(lines(header))]


def find_many(header: bytes, names: tuple[bytes, ...]) -> dict[bytes, bytes]:
    """The first value of each of these fields that is there; keys in lower case."""
    found: dict[bytes, bytes] = {}
    for name, value in _finder(names)(lines(header)):
        found.setdefault(name.lower(), _without_cr(value))
    return found


def select(header: bytes, names: Iterable[bytes], invert: bool = False) -> bytes:
    """The fields with these names (or all others) as a header of its own, with its empty line.

    RFC 9051 section 6.4.5.1: HEADER.FIELDS, HEADER.FIELDS.NOT.
    """
    return selector(tuple(names), invert)(header)


def selector(names: tuple[bytes, ...], invert: bool = False) -> Selector:
    """`select` made ready for many headers. Only what programs really ask for is remembered."""
    return _selector(names, invert) if len(names) <= MANY else _selector.__wrapped__(names, invert)


@lru_cache(256)
def _selector(names: tuple[bytes, ...], invert: bool) -> Selector:
    field = rb"[ \t]*+:(?:[^\n]*+\n[ \t])*+[^\n]*+)"
    if invert:
        field = rb"(" + _NAME + field
        pattern = rb"(?i)\n(?!" + _any_of(names) + rb"[ \t]*+:)" + field
    else:
        pattern = rb"(?i)\n(" + _any_of(names) + field
    find_fields = re.compile(pattern).findall

    def run(header: bytes) -> bytes:
        header = lines(header)
        found = find_fields(header)
        if not found:
            return b"\r\n"
        if header[-1:] != b"\n" and header.endswith(found[-1]):
            return b"\n".join(found) + b"\r\n\r\n"
        return b"\n".join(found) + b"\n\r\n"

    return run


def unfold(value: bytes) -> bytes:
    """A value on one line, without the blanks around it."""
    if b"\n" in value:
        value = _line_end.sub(b"", value)
    return value.strip(b" \t\r\n")


def _without_cr(value: bytes) -> bytes:
    return value[:-1] if value[-1:] == b"\r" else value


def _finder(names: tuple[bytes, ...]) -> Finder:
    return _usual_finder(names) if len(names) <= MANY else _usual_finder.__wrapped__(names)


@lru_cache(256)
def _usual_finder(names: tuple[bytes, ...]) -> Finder:
    return re.compile(rb"(?i)\n(" + _any_of(names) + rb")" + _VALUE).findall


def _any_of(names: tuple[bytes, ...]) -> bytes:
    # Without names nothing shall match.
    return rb"(?:" + rb"|".join([re.escape(name) for name in names]) + rb")" if names else rb"(?!)"

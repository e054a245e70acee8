"""GETMETADATA and SETMETADATA (RFC 5464), and the names of entries, which LIST knows too (RFC 9590)."""

import re
from dataclasses import dataclass

from posthouse.imap.tokens import BadSyntax, Cursor

MAX_ENTRIES = 100  # in one command
MAX_NAME = 255
ALL_BELOW = 1000  # DEPTH infinity: no name has so many components
_name = re.compile(r"/(private|shared)(?:/[\x20-\x24\x26-\x29\x2b-\x2e\x30-\x7e]+)*", re.I).fullmatch


@dataclass(frozen=True, slots=True)
class GetMetadata:
    """GETMETADATA; the name "" means the server"""

    name: str
    entries: tuple[str, ...]  # as the client wrote them
    depth: int = 0
    max_size: int | None = None


@dataclass(frozen=True, slots=True)
class SetMetadata:
    """SETMETADATA; None removes an entry"""

    name: str
    values: tuple[tuple[str, bytes | None], ...]


def get_metadata(cursor: Cursor) -> GetMetadata:
    """getmetadata = "GETMETADATA" [SP getmetadata-options] SP mailbox SP entries

    The RFC's examples have the options behind the mailbox: clients do either."""
    depth: int = 0
    max_size: int | None = None

    def option() -> None:
        nonlocal depth, max_size
        word = cursor.word()
        cursor.space()
        if word == b"MAXSIZE":
            max_size = cursor.number()
        elif word == b"DEPTH":
            value = cursor.word()
            if value not in _DEPTHS:
                raise BadSyntax("DEPTH is 0, 1 or infinity")
            depth = _DEPTHS[value]
        else:
            raise BadSyntax("an option of GETMETADATA that we do not know")

    cursor.space()
    had_options = cursor.peek() == b"("
    if had_options:
        cursor.items(option, 2)
        cursor.space()
    name = cursor.mailbox()
    cursor.space()
    if not had_options and _options_follow(cursor):
        cursor.items(option, 2)
        cursor.space()
    found = entries(cursor)
    cursor.end()
    return GetMetadata(name, found, depth, max_size)


_DEPTHS = {b"0": 0, b"1": 1, b"INFINITY": ALL_BELOW}
_options = re.compile(rb"\( *(?:MAXSIZE|DEPTH) ", re.I).match


def _options_follow(cursor: Cursor) -> bool:
    return _options(cursor.text, cursor.at) is not None


def entries(cursor: Cursor) -> tuple[str, ...]:
    """entries = entry / "(" entry *(SP entry) ")"; each once"""
    several = cursor.peek() == b"("
    found = cursor.items(lambda: entry(cursor), MAX_ENTRIES) if several else [entry(cursor)]
    return tuple(dict.fromkeys(found))


def entry(cursor: Cursor) -> str:
    """entry = astring: components behind slashes, of ASCII without "*" and "%" (section 3.2)"""
    text = cursor.astring().decode("ascii", "replace")
    if len(text) > MAX_NAME or _name(text) is None:
        raise BadSyntax("the name of an entry begins with /private or /shared, has no empty part, and none of * and %")
    return text


def set_metadata(cursor: Cursor) -> SetMetadata:
    """setmetadata = "SETMETADATA" SP mailbox SP "(" entry SP value *(SP entry SP value) ")" """
    cursor.space()
    name = cursor.mailbox()
    cursor.space()

    def pair() -> tuple[str, bytes | None]:
        named = entry(cursor)
        parts = named.lower().split("/")
        if len(parts) < (5 if parts[2:3] == ["vendor"] else 3):
            raise BadSyntax("an entry that can be set has more components")
        cursor.space()
        return named, cursor.nstring8()

    pairs = cursor.items(pair, MAX_ENTRIES)
    cursor.end()
    return SetMetadata(name, tuple(pairs))

"""APPEND (RFC 9051 section 6.3.12): its message is not kept in the command but handed on as it comes in.

The engine reads the command up to the announced literal (`head`), gives the session an `Append`, then the
content piece by piece, then `AppendEnd` once the line ended as it should. So a message costs no memory here.
"""

from dataclasses import dataclass

from posthouse.imap.flags import Flags
from posthouse.imap.tokens import BadSyntax, Cursor


@dataclass(frozen=True, slots=True)
class Append:
    """A message begins. Answer with `proceed`, or refuse with `no`."""

    name: str
    flags: Flags
    received: int | None
    size: int
    binary: bool  # announced as literal8 (RFC 3516): may hold NUL


@dataclass(frozen=True, slots=True)
class AppendData:
    """Some of its content. Answer with `proceed`."""

    data: bytes
    last: bool


@dataclass(frozen=True, slots=True)
class AppendEnd:
    """The command is complete: store the message, answer with `ok` or `no`."""


@dataclass(frozen=True, slots=True)
class AppendAborted:
    """What came after the message was no end of the command: forget it. Already answered."""


def head(cursor: Cursor, size: int, binary: bool) -> Append | None:
    """The command up to the literal of the message; None if the literal is (or may be) something before it.

    append = "APPEND" SP mailbox [SP flag-list] [SP date-time] SP append-data
    """
    cursor.space()
    if _at_literal(cursor):
        return None  # the literal announced is the mailbox name
    name = cursor.mailbox()
    cursor.space()
    flags, received = Flags(), None
    if cursor.peek() == b"(":
        flags = cursor.flag_list()
        cursor.space()
    if cursor.peek() == b'"':
        received = cursor.date_time()
        cursor.space()
    if not _at_literal(cursor):
        raise BadSyntax(f"expected a literal at position {cursor.at + 1}")
    return Append(name, flags, received, size, binary)


def _at_literal(cursor: Cursor) -> bool:
    """True if the next token is the literal at the very end of the text, the one just announced."""
    rest = cursor.text[cursor.at :]
    return rest[:1] in (b"{", b"~") and rest.find(b"\r\n") == len(rest) - 2


def append(cursor: Cursor) -> Append:  # noqa: ARG001
    """A complete APPEND never has its message in it: the engine took it out."""
    raise BadSyntax("the message has to be a literal")

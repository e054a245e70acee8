"""Commands of any state, and ENABLE: CAPABILITY, NOOP, LOGOUT, ID, ENABLE (RFC 9051 sections 6.1, 6.3.1).

CAPABILITY and ENABLE are answered by the engine itself; LOGOUT too, but the session hears of it when
the connection closes.
"""

from dataclasses import dataclass

from posthouse.imap.tokens import BadSyntax, Cursor

MAX_ID_FIELDS = 30  # RFC 2971 section 3.3
MAX_ID_VALUE = 1024


@dataclass(frozen=True, slots=True)
class Capability:
    """CAPABILITY"""


@dataclass(frozen=True, slots=True)
class Noop:
    """NOOP, and CHECK, which in a server that syncs every command is the same (RFC 3501 section 6.4.1)."""

    name: str


@dataclass(frozen=True, slots=True)
class Logout:
    """LOGOUT"""


@dataclass(frozen=True, slots=True)
class Id:
    """ID (RFC 2971): what the client says of itself."""

    fields: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Enable:
    """ENABLE (RFC 5161)"""

    names: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Compress:
    """COMPRESS (RFC 4978)"""

    mechanism: bytes


@dataclass(frozen=True, slots=True)
class Unauthenticate:
    """UNAUTHENTICATE (RFC 8437): forget who is logged in, and what was enabled"""


@dataclass(frozen=True, slots=True)
class Flush:
    """Commands that were put off (`ImapServer.later`) are to be answered.

    `whole`: all of them, before anything else; its answer is `flushed`. Else nothing more has come for now: they may be
    answered at any time from now on, and it has no answer of its own.
    """

    whole: bool = True


@dataclass(frozen=True, slots=True)
class Turn:
    """Much was dealt with and nothing of it is for the session: time for others, and for the client to read. No
    answer."""


def compress(cursor: Cursor) -> Compress:
    """compress = "COMPRESS" SP algorithm"""
    cursor.space()
    mechanism = cursor.atom().upper()
    cursor.end()
    return Compress(mechanism)


def unauthenticate(cursor: Cursor) -> Unauthenticate:
    cursor.end()
    return Unauthenticate()


def capability(cursor: Cursor) -> Capability:
    cursor.end()
    return Capability()


def noop(cursor: Cursor) -> Noop:
    cursor.end()
    return Noop("NOOP")


def check(cursor: Cursor) -> Noop:
    cursor.end()
    return Noop("CHECK")


def logout(cursor: Cursor) -> Logout:
    cursor.end()
    return Logout()


def identify(cursor: Cursor) -> Id:
    """id = "ID" SP id-params-list; id-params-list = "(" [string SP nstring *(SP string SP nstring)] ")" / nil"""
    cursor.space()
    if cursor.peek() != b"(":
        if cursor.word() != b"NIL":
            raise BadSyntax("ID takes a list or NIL")
        cursor.end()
        return Id(())

    def field() -> tuple[str, str]:
        name = cursor.string()
        cursor.space()
        value = cursor.nstring()
        return _text(name), _text(value or b"")

    fields = cursor.items(field, MAX_ID_FIELDS, empty=True)
    cursor.end()
    return Id(tuple(fields))


def _text(value: bytes) -> str:
    return value[:MAX_ID_VALUE].decode("utf-8", "replace")


def enable(cursor: Cursor) -> Enable:
    """enable = "ENABLE" 1*(SP capability)"""
    names = []
    cursor.space()
    names.append(cursor.atom().upper())
    while cursor.skip_space():
        names.append(cursor.atom().upper())
    cursor.end()
    return Enable(tuple(names))

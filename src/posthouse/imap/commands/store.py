"""STORE and UID STORE (RFC 9051 section 6.4.6)."""

from dataclasses import dataclass

from posthouse.imap.flags import Flags
from posthouse.imap.numbers import SequenceSet
from posthouse.imap.tokens import BadSyntax, Cursor

_MODES = {b"": "set", b"+": "add", b"-": "remove"}


@dataclass(frozen=True, slots=True)
class Store:
    """STORE"""

    wanted: SequenceSet
    uid: bool
    mode: str  # "set", "add", "remove"
    silent: bool
    flags: Flags
    unchanged_since: int | None = None  # UNCHANGEDSINCE (RFC 7162 section 3.1.3)

    @property
    def condstore(self) -> bool:
        """Does it say that the client knows mod-sequences?"""
        return self.unchanged_since is not None


def store(cursor: Cursor) -> Store:
    return _store(cursor, False)


def uid_store(cursor: Cursor) -> Store:
    return _store(cursor, True)


def _store(cursor: Cursor, uid: bool) -> Store:
    """store-att-flags = (["+" / "-"] "FLAGS" [".SILENT"]) SP (flag-list / (flag *(SP flag)))

    before it, RFC 7162: [SP "(" "UNCHANGEDSINCE" SP mod-sequence-valzer ")"]"""
    cursor.space()
    wanted = cursor.sequence_set()
    cursor.space()
    since: int | None = None
    if cursor.peek() == b"(":
        since = cursor.items(lambda: _modifier(cursor), 1)[0]
        cursor.space()
    sign = cursor.peek() if cursor.peek() in (b"+", b"-") else b""
    cursor.skip(sign)
    item = cursor.word()
    if item not in (b"FLAGS", b"FLAGS.SILENT"):
        raise BadSyntax("an item of STORE that we do not know")
    cursor.space()
    flags = cursor.flag_list()
    cursor.end()
    return Store(wanted, uid, _MODES[sign], item == b"FLAGS.SILENT", flags, since)


def _modifier(cursor: Cursor) -> int:
    if cursor.word() != b"UNCHANGEDSINCE":
        raise BadSyntax("a modifier of STORE that we do not know")
    cursor.space()
    return cursor.number()

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


def store(cursor: Cursor) -> Store:
    return _store(cursor, False)


def uid_store(cursor: Cursor) -> Store:
    return _store(cursor, True)


def _store(cursor: Cursor, uid: bool) -> Store:
    """store-att-flags = (["+" / "-"] "FLAGS" [".SILENT"]) SP (flag-list / (flag *(SP flag)))"""
    cursor.space()
    wanted = cursor.sequence_set()
    cursor.space()
    sign = cursor.peek() if cursor.peek() in (b"+", b"-") else b""
    cursor.skip(sign)
    item = cursor.word()
    if item not in (b"FLAGS", b"FLAGS.SILENT"):
        raise BadSyntax("an item of STORE that we do not know")
    cursor.space()
    flags = cursor.flag_list()
    cursor.end()
    return Store(wanted, uid, _MODES[sign], item == b"FLAGS.SILENT", flags)

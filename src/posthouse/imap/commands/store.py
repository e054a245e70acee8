"""STORE and UID STORE (RFC 9051 section 6.4.6); with X-GM-LABELS instead of flags, if that is offered."""

from dataclasses import dataclass

from posthouse.imap.flags import Flags
from posthouse.imap.labels import MAX_LABELS, Label, label_of
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


@dataclass(frozen=True, slots=True)
class StoreLabels:
    """STORE X-GM-LABELS"""

    wanted: SequenceSet
    uid: bool
    mode: str  # "set", "add", "remove"
    silent: bool
    labels: tuple[Label, ...]
    unchanged_since: int | None = None

    @property
    def condstore(self) -> bool:
        """Does it say that the client knows mod-sequences?"""
        return self.unchanged_since is not None


def store(cursor: Cursor) -> Store | StoreLabels:
    return _store(cursor, False)


def uid_store(cursor: Cursor) -> Store | StoreLabels:
    return _store(cursor, True)


def _store(cursor: Cursor, uid: bool) -> Store | StoreLabels:
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
    if cursor.gmail and item in (b"X-GM-LABELS", b"X-GM-LABELS.SILENT"):
        cursor.space()
        labels = _labels(cursor)
        cursor.end()
        return StoreLabels(wanted, uid, _MODES[sign], item.endswith(b".SILENT"), labels, since)
    if item not in (b"FLAGS", b"FLAGS.SILENT"):
        raise BadSyntax("an item of STORE that we do not know")
    cursor.space()
    flags = cursor.flag_list()
    cursor.end()
    return Store(wanted, uid, _MODES[sign], item == b"FLAGS.SILENT", flags, since)


def _labels(cursor: Cursor) -> tuple[Label, ...]:
    """ "(" [label *(SP label)] ")" / label *(SP label)"""
    if cursor.peek() == b"(":
        found = cursor.items(lambda: label(cursor), MAX_LABELS, empty=True)
    else:
        found = [label(cursor)]
        while cursor.skip_space() and len(found) < MAX_LABELS:
            found.append(label(cursor))
    if any(one is None for one in found):
        raise BadSyntax("no such label of the system")
    return tuple(dict.fromkeys(one for one in found if one is not None))


def label(cursor: Cursor) -> Label | None:
    """astring / "\\" atom; None: no such label of the system"""
    return label_of(cursor.flag() if cursor.peek() == b"\\" else cursor.astring())


def _modifier(cursor: Cursor) -> int:
    if cursor.word() != b"UNCHANGEDSINCE":
        raise BadSyntax("a modifier of STORE that we do not know")
    cursor.space()
    return cursor.number()

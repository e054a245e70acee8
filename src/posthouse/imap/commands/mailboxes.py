"""Commands on mailboxes by name (RFC 9051 section 6.3), and the end of a selection (section 6.4).

SELECT, EXAMINE, CREATE, DELETE, RENAME, SUBSCRIBE, UNSUBSCRIBE, STATUS, NAMESPACE, CLOSE, UNSELECT, EXPUNGE,
IDLE. LIST and LSUB are in list.py.
"""

from dataclasses import dataclass
from typing import NamedTuple

from posthouse.imap.numbers import SequenceSet
from posthouse.imap.tokens import BadSyntax, Cursor

STATUS_ITEMS = frozenset(
    (
        b"MESSAGES",
        b"RECENT",
        b"UIDNEXT",
        b"UIDVALIDITY",
        b"UNSEEN",
        b"DELETED",
        b"SIZE",
        b"HIGHESTMODSEQ",  # RFC 7162
        b"MAILBOXID",  # RFC 8474
        b"APPENDLIMIT",  # RFC 7889
        b"DELETED-STORAGE",  # RFC 9208
    )
)
SPECIAL_USE = {
    use.lower(): use
    for use in ("\\All", "\\Archive", "\\Drafts", "\\Flagged", "\\Junk", "\\Sent", "\\Trash", "\\Important")
}


class Known(NamedTuple):
    """What a client remembers of a mailbox (RFC 7162 section 3.2.5)."""

    uidvalidity: int
    modseq: int
    uids: SequenceSet | None = None  # that it knows of; None: all below UIDNEXT


@dataclass(frozen=True, slots=True)
class Select:
    """SELECT; EXAMINE if `read_only`"""

    name: str
    read_only: bool
    condstore: bool = False
    known: Known | None = None

    @property
    def qresync(self) -> bool:
        """Does it need QRESYNC?"""
        return self.known is not None


@dataclass(frozen=True, slots=True)
class Create:
    """CREATE, with the special uses of RFC 6154 section 5.3; one that we do not know is kept as written"""

    name: str
    special_use: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Delete:
    """DELETE"""

    name: str


@dataclass(frozen=True, slots=True)
class Rename:
    """RENAME"""

    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Subscribe:
    """SUBSCRIBE; UNSUBSCRIBE if not `on`"""

    name: str
    on: bool


@dataclass(frozen=True, slots=True)
class Status:
    """STATUS"""

    name: str
    items: tuple[bytes, ...]

    @property
    def condstore(self) -> bool:
        """Does it say that the client knows mod-sequences (RFC 7162 section 3.1)?"""
        return b"HIGHESTMODSEQ" in self.items


@dataclass(frozen=True, slots=True)
class Namespace:
    """NAMESPACE"""


@dataclass(frozen=True, slots=True)
class Close:
    """CLOSE, which expunges; UNSELECT if not `expunge`"""

    expunge: bool


@dataclass(frozen=True, slots=True)
class Expunge:
    """EXPUNGE; UID EXPUNGE with `wanted`"""

    wanted: SequenceSet | None = None


@dataclass(frozen=True, slots=True)
class Idle:
    """IDLE (RFC 9051 section 6.3.13)"""


@dataclass(frozen=True, slots=True)
class Done:
    """The DONE that ends IDLE"""


def _name(cursor: Cursor) -> str:
    cursor.space()
    return cursor.mailbox()


def select(cursor: Cursor) -> Select:
    """select = "SELECT" SP mailbox [SP "(" select-param *(SP select-param) ")"]"""
    return _select(cursor, False)


def examine(cursor: Cursor) -> Select:
    return _select(cursor, True)


def _select(cursor: Cursor, read_only: bool) -> Select:
    name = _name(cursor)
    condstore, known = False, None
    if cursor.skip_space():
        for parameter in cursor.items(lambda: _select_parameter(cursor), 2):
            condstore = condstore or parameter is None
            known = known or parameter
    cursor.end()
    return Select(name, read_only, condstore or known is not None, known)


def _select_parameter(cursor: Cursor) -> Known | None:
    """None for CONDSTORE (RFC 7162 section 3.1.8).

    select-param =/ "QRESYNC" SP "(" uidvalidity SP mod-sequence-value [SP known-uids] [SP seq-match-data] ")"
    seq-match-data = "(" known-sequence-set SP known-uid-set ")"                       RFC 7162 section 7"""
    word = cursor.word()
    if word == b"CONDSTORE":
        return None
    if word != b"QRESYNC":
        raise BadSyntax("a parameter of SELECT that we do not know")
    cursor.space()
    cursor.expect(b"(")
    uidvalidity = cursor.number()
    cursor.space()
    modseq = cursor.number()
    uids: SequenceSet | None = None
    if cursor.skip_space() and cursor.peek() != b"(":
        uids = cursor.sequence_set()
        cursor.skip_space()
    if cursor.peek() == b"(":
        # It helps servers that do not remember what went; this one does, and sends no more than is needed.
        cursor.items(cursor.sequence_set, 2)
    cursor.expect(b")")
    return Known(uidvalidity, modseq, uids)


def create(cursor: Cursor) -> Create:
    """create = "CREATE" SP mailbox [SP "(" "USE" SP "(" [use-attr *(SP use-attr)] ")" ")"]"""
    name = _name(cursor)
    uses: list[str] = []

    def use_attribute() -> str:
        text = cursor.flag().decode("ascii")
        return SPECIAL_USE.get(text.lower(), text)

    def parameter() -> None:
        if cursor.word() != b"USE":
            raise BadSyntax("a parameter of CREATE that we do not know")
        cursor.space()
        uses.extend(cursor.items(use_attribute, 10, empty=True))

    if cursor.skip_space():
        cursor.items(parameter, 1, empty=True)
    cursor.end()
    return Create(name, tuple(uses))


def delete(cursor: Cursor) -> Delete:
    name = _name(cursor)
    cursor.end()
    return Delete(name)


def rename(cursor: Cursor) -> Rename:
    """rename = "RENAME" SP mailbox SP mailbox"""
    old, new = _name(cursor), _name(cursor)
    cursor.end()
    return Rename(old, new)


def subscribe(cursor: Cursor) -> Subscribe:
    name = _name(cursor)
    cursor.end()
    return Subscribe(name, True)


def unsubscribe(cursor: Cursor) -> Subscribe:
    name = _name(cursor)
    cursor.end()
    return Subscribe(name, False)


def status(cursor: Cursor) -> Status:
    """status = "STATUS" SP mailbox SP "(" status-att *(SP status-att) ")" """
    name = _name(cursor)
    cursor.space()
    items = status_items(cursor)
    cursor.end()
    return Status(name, items)


def status_items(cursor: Cursor) -> tuple[bytes, ...]:
    """The parenthesized items, each once, in the order of the client."""
    items = dict.fromkeys(cursor.items(cursor.word, 30))
    if not STATUS_ITEMS.issuperset(items):
        raise BadSyntax("a STATUS item that we do not know")
    return tuple(items)


def namespace(cursor: Cursor) -> Namespace:
    cursor.end()
    return Namespace()


def close(cursor: Cursor) -> Close:
    cursor.end()
    return Close(True)


def unselect(cursor: Cursor) -> Close:
    cursor.end()
    return Close(False)


def expunge(cursor: Cursor) -> Expunge:
    cursor.end()
    return Expunge()


def uid_expunge(cursor: Cursor) -> Expunge:
    """uid-expunge = "UID" SP "EXPUNGE" SP sequence-set"""
    cursor.space()
    wanted = cursor.sequence_set()
    cursor.end()
    return Expunge(wanted)


def idle(cursor: Cursor) -> Idle:
    cursor.end()
    return Idle()

"""Commands on mailboxes by name (RFC 9051 section 6.3), and the end of a selection (section 6.4).

SELECT, EXAMINE, CREATE, DELETE, RENAME, SUBSCRIBE, UNSUBSCRIBE, STATUS, NAMESPACE, CLOSE, UNSELECT, EXPUNGE,
IDLE. LIST and LSUB are in list.py.
"""

from dataclasses import dataclass

from posthouse.imap.numbers import SequenceSet
from posthouse.imap.tokens import BadSyntax, Cursor

STATUS_ITEMS = frozenset((b"MESSAGES", b"RECENT", b"UIDNEXT", b"UIDVALIDITY", b"UNSEEN", b"DELETED", b"SIZE"))
SPECIAL_USE = {
    use.lower(): use
    for use in ("\\All", "\\Archive", "\\Drafts", "\\Flagged", "\\Junk", "\\Sent", "\\Trash", "\\Important")
}


@dataclass(frozen=True, slots=True)
class Select:
    """SELECT; EXAMINE if `read_only`"""

    name: str
    read_only: bool


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
    """select = "SELECT" SP mailbox [select-params]"""
    return _select(cursor, False)


def examine(cursor: Cursor) -> Select:
    return _select(cursor, True)


def _select(cursor: Cursor, read_only: bool) -> Select:
    name = _name(cursor)
    if cursor.skip_space():
        raise BadSyntax("a parameter of SELECT that we do not know")
    return Select(name, read_only)


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

"""SORT and THREAD, and their UID forms (RFC 5256, RFC 5267, RFC 5957, RFC 6203)."""

from dataclasses import dataclass, field

from posthouse.imap.commands.fetch import FetchRequest
from posthouse.imap.commands.search import BadCharset, charset_of, program, return_options
from posthouse.imap.keys import Key
from posthouse.imap.tokens import BadSyntax, Cursor

MAX_CRITERIA = 20

CRITERIA = frozenset(
    (b"ARRIVAL", b"CC", b"DATE", b"FROM", b"SIZE", b"SUBJECT", b"TO", b"DISPLAYFROM", b"DISPLAYTO", b"RELEVANCY")
)
ALGORITHMS = frozenset((b"ORDEREDSUBJECT", b"REFERENCES", b"REFS"))


@dataclass(frozen=True, slots=True)
class Sort:
    """SORT"""

    criteria: tuple[tuple[str, bool], ...]  # each with whether it is reversed
    key: Key
    uid: bool
    give: frozenset[bytes] | None = None  # RETURN options; None: there was no RETURN
    partial: tuple[int, int] | None = None
    condstore: bool = False
    by_number: bool = field(default=False, compare=False)
    update: FetchRequest | None = None


@dataclass(frozen=True, slots=True)
class Thread:
    """THREAD"""

    algorithm: str
    key: Key
    uid: bool
    condstore: bool = False
    by_number: bool = field(default=False, compare=False)


def sort(cursor: Cursor) -> Sort | BadCharset:
    return _sort(cursor, False)


def uid_sort(cursor: Cursor) -> Sort | BadCharset:
    return _sort(cursor, True)


def thread(cursor: Cursor) -> Thread | BadCharset:
    return _thread(cursor, False)


def uid_thread(cursor: Cursor) -> Thread | BadCharset:
    return _thread(cursor, True)


def _sort(cursor: Cursor, uid: bool) -> Sort | BadCharset:
    """sort = "SORT" [search-return-opts] SP sort-criteria SP charset 1*(SP search-key)
    sort-criteria = "(" sort-criterion *(SP sort-criterion) ")" """
    cursor.space()
    give, partial, update = return_options(cursor)
    criteria = cursor.items(lambda: _criterion(cursor), MAX_CRITERIA)
    cursor.space()
    charset = charset_of(cursor)
    cursor.space()
    if charset is None:
        return BadCharset()
    scored = ("RELEVANCY", False) in criteria or ("RELEVANCY", True) in criteria
    found = program(cursor, charset, scored or (give is not None and b"RELEVANCY" in give))
    return Sort(tuple(criteria), found.key, uid, give, partial, found.modseq, found.by_number, update)


def _criterion(cursor: Cursor) -> tuple[str, bool]:
    """sort-criterion = ["REVERSE" SP] sort-key"""
    name = cursor.word()
    reverse = name == b"REVERSE"
    if reverse:
        cursor.space()
        name = cursor.word()
    if name not in CRITERIA:
        raise BadSyntax("a sort criterion that we do not know")
    return name.decode(), reverse


def _thread(cursor: Cursor, uid: bool) -> Thread | BadCharset:
    """thread = "THREAD" SP thread-alg SP charset 1*(SP search-key)"""
    cursor.space()
    algorithm = cursor.atom().upper()
    if algorithm not in ALGORITHMS:
        raise BadSyntax("a way to thread that we do not know")
    cursor.space()
    charset = charset_of(cursor)
    cursor.space()
    if charset is None:
        return BadCharset()
    found = program(cursor, charset)
    return Thread(algorithm.decode(), found.key, uid, found.modseq, found.by_number)

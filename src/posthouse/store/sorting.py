"""Messages of a mailbox in the order of SORT, and what THREAD goes by. The database sorts, on the stored headings.

So a sort never holds the interpreter, and reads nothing of a message. Emails without a heading (see headings.py) are
reported instead: the caller makes their headings and asks again.
"""

from array import array
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from posthouse.imap import numbers
from posthouse.store.database import Row, Tx
from posthouse.store.search import Query

MAX_SORTED = 500_000  # messages in one result: each costs some memory while it is made
MAX_THREADED = 200_000
_MAX_RANGES = 100  # of UIDs in SQL
_COLUMNS = {
    "ARRIVAL": "m.received",
    "CC": "h.copied",
    "DATE": "h.sent",
    "FROM": "h.author",
    "SIZE": "m.size",
    "SUBJECT": "h.subject",
    "TO": "h.recipient",
    "DISPLAYFROM": "h.author_shown",  # RFC 5957
    "DISPLAYTO": "h.recipient_shown",
}
_BY_SCORE = "RELEVANCY"  # RFC 6203
Criteria = Sequence[tuple[str, bool]]  # names of `_COLUMNS`, each with whether it is reversed


class Wanted(NamedTuple):
    """Which messages of a mailbox: a range of UIDs, and either a condition, or the UIDs (ascending)."""

    mailbox_id: int
    first: int
    last: int
    query: Query | None
    uids: Sequence[int] = ()


class Sorted(NamedTuple):
    """UIDs in order; or, if there are any, the ids of emails that have no heading yet."""

    uids: list[int]
    missing: list[int]


class Threaded(NamedTuple):
    """Rows (UID, ids, subject, reply) by sent date; or the ids of emails that have no heading yet."""

    rows: list[Row]
    missing: list[int]


def order(tx: Tx, wanted: Wanted, criteria: Criteria, scores: Mapping[int, int] = {}) -> Sorted:
    """At most `MAX_SORTED` UIDs, and one more if there are more. Equal ones stand as in the mailbox. `scores`, by UID,
    are what RELEVANCY goes by: the highest first (RFC 6203 section 6)."""
    by: list[str] = []
    args: list[object] = []
    for name, reverse in criteria:
        if name == _BY_SCORE:
            column, more = _score(tx, scores)
            args += more
            reverse = not reverse
        else:
            column = _COLUMNS[name]
        by.append(column + (" DESC" if reverse else ""))
    rows, chosen = _rows(tx, wanted, "", ", ".join([*by, "e.uid"]), MAX_SORTED, args)
    missing = [-uid for (uid,) in rows if uid < 0]
    if missing:
        return Sorted([], missing)
    return Sorted([uid for (uid,) in rows if chosen is None or uid in chosen], [])


def _score(tx: Tx, scores: Mapping[int, int]) -> tuple[str, list[object]]:
    """The scores as an expression."""
    of_score: dict[int, array[int]] = {}
    for uid, score in scores.items():
        of_score.setdefault(score, array("q")).append(uid)
    if not of_score:
        return "NULL", []  # a number would name a column
    cases = "WHEN e.uid IN (SELECT value FROM carray(?)) THEN ? " * len(of_score)
    return f"CASE {cases}ELSE 0 END", [one for score, uids in of_score.items() for one in (tx.numbers(uids), score)]


def threaded(tx: Tx, wanted: Wanted) -> Threaded:
    """What messages are threaded by; at most `MAX_THREADED` rows, and one more if there are more."""
    rows, chosen = _rows(tx, wanted, ", h.ids, h.subject, h.reply", "h.sent, e.uid", MAX_THREADED)
    missing = [-row[0] for row in rows if row[0] < 0]
    if missing:
        return Threaded([], missing)
    return Threaded(rows if chosen is None else [row for row in rows if row[0] in chosen], [])


def _rows(
    tx: Tx, wanted: Wanted, columns: str, by: str, most: int, by_args: Sequence[object] = ()
) -> tuple[list[Row], frozenset[int] | None]:
    """Rows that begin with a UID, or the id of an email below 0 if it has no heading; and which UIDs are to be taken
    from them, if not all."""
    mailbox_id, first, last, query, uids = wanted
    where, args = (query.where, list(query.args)) if query is not None else ("1 = 1", [])
    chosen = None
    if query is None:
        ranges = numbers.runs(uids)
        if len(ranges) <= _MAX_RANGES:
            where = " OR ".join(["e.uid BETWEEN ? AND ?"] * len(ranges)) or "1 = 0"
            args = [bound for low, high in ranges for bound in (low, high - 1)]
        else:
            chosen = frozenset(uids)
    tables, uid = "entry e", "e.uid"
    if "m." in by or "m." in where:
        tables += " JOIN email m ON m.id = e.email_id"
    if "h." in by:
        tables += " LEFT JOIN heading h ON h.email_id = e.email_id"
        uid = "CASE WHEN h.email_id IS NULL THEN -e.email_id ELSE e.uid END"
    rows = tx.all(
        f"SELECT {uid}{columns} FROM {tables} "  # noqa: S608
        f"WHERE e.mailbox_id = ? AND e.uid BETWEEN ? AND ? AND e.expunged = 0 AND ({where}) ORDER BY {by}"
        + ("" if chosen is not None else f" LIMIT {most + 1:d}"),
        mailbox_id,
        first,
        last,
        *args,
        *by_args,
    )
    return rows, chosen


def insert(tx: Tx, mailbox_id: int, criteria: Criteria, ordered: Sequence[int], new: Iterable[int]) -> list[int]:
    """UIDs in order with new ones among them. It reads some rows for each new one, however long the list is.

    What is gone from the mailbox may still stand in the list; new ones that are gone already are left out.
    """
    columns = ", ".join(_COLUMNS[name] for name, _ in criteria)
    keys: dict[int, Row | None] = {}

    def key_of(uid: int) -> Row | None:
        if uid not in keys:
            keys[uid] = tx.one(
                f"SELECT {columns}, e.uid FROM entry e JOIN email m ON m.id = e.email_id "  # noqa: S608
                "JOIN heading h ON h.email_id = e.email_id WHERE e.mailbox_id = ? AND e.uid = ? AND e.expunged = 0",
                mailbox_id,
                uid,
            )
        return keys[uid]

    result = list(ordered)
    for uid in new:
        key = key_of(uid)
        low, high = 0, len(result) if key is not None else 0
        while low < high:
            middle = probe = (low + high) // 2
            other = key_of(result[probe])
            while other is None and probe + 1 < high:
                probe += 1
                other = key_of(result[probe])
            if other is None or _before(criteria, key, other):
                high = middle
            else:
                low = probe + 1
        if key is not None:
            result.insert(low, uid)
    return result


def _before(criteria: Criteria, one: Row | None, other: Row) -> bool:
    assert one is not None
    for (_, reverse), mine, yours in zip(criteria, one, other, strict=False):
        if mine != yours:
            return bool(mine < yours) != reverse
    return bool(one[-1] < other[-1])

"""Reading mailboxes for people: what is in one, and rows of its messages, in slices.

Nothing here changes anything. Who lists a large mailbox asks for slices, so that no reader is busy for
long; `contents` bounds a slice by the bytes it loads. Entries that are expunged are passed over.
"""

from array import array
from collections.abc import Container, Iterable, Sequence
from typing import NamedTuple

from posthouse.mime import sections
from posthouse.store.blobs import rows as blobs
from posthouse.store.database import Row, Tx
from posthouse.store.model import DELETED, SEEN, Mailbox

# Columns that may be asked for, and where they are. `e` is the entry, `m` the email.
_COLUMNS = {
    "uid": "e.uid",
    "email_id": "e.email_id",
    "modseq": "e.modseq",
    "flags": "e.flags",
    "keywords": "e.keywords",
    "savedate": "e.savedate",
    "size": "m.size",
    "thread_id": "m.thread_id",
    "listed": "m.listed",
    "received": "m.received",
    "envelope": "m.envelope",
    "bodystructure": "m.bodystructure",
    "parts": "m.parts",
    "prefix": "m.prefix",
    "preview": "m.preview",
    # The other mailboxes that hold the email: lines of special use, TAB, name.
    "labels": "coalesce((SELECT group_concat(line, char(10)) FROM ("
    "SELECT DISTINCT lb.special_use || char(9) || lb.name AS line "
    "FROM entry le JOIN mailbox lb ON lb.id = le.mailbox_id WHERE le.email_id = e.email_id AND le.expunged = 0 "
    "AND le.mailbox_id <> e.mailbox_id ORDER BY lb.name LIMIT 200)), '')",
    "no_labels": "''",  # of what is somebody else's
}
MAX_HEADER = 1024 * 1024  # octets of a header that are looked at
FEW_SETS = 100  # sets of keywords; where there are more, all entries that have some are gone through
MAX_KEYWORDS = 1000  # different ones that a mailbox is said to have


class Opening(NamedTuple):
    """What SELECT needs to know of a mailbox."""

    mailbox: Mailbox
    uids: "array[int] | None"  # ascending; None for a mailbox in `known`
    keywords: tuple[str, ...]
    first_unseen: int  # its UID; 0 if all are seen


class Extent(NamedTuple):
    """What a range of UIDs holds. As long as both stay, it holds the same messages, and none of them changed: UIDs are
    not given twice, and each change has a higher modseq."""

    messages: int
    modseq: int  # the highest of them; 0 if there are none


def extent(tx: Tx, mailbox_id: int, first: int, last: int) -> Extent:
    """What the UIDs from `first` to `last` hold."""
    row = tx.one(
        "SELECT count(*), max(modseq) FROM entry WHERE mailbox_id = ? AND uid BETWEEN ? AND ? AND expunged = 0",
        mailbox_id,
        first,
        last,
    )
    return Extent(row[0], row[1] or 0) if row is not None else Extent(0, 0)


def opening(tx: Tx, mailbox: Mailbox, known: Container[int] = ()) -> Opening:
    """A mailbox as it stands. What is in a mailbox in `known` (by id) the caller knows, so it is not read."""
    first_unseen = 0
    if mailbox.unseen:
        row = tx.one(
            "SELECT uid FROM entry WHERE mailbox_id = ? AND expunged = 0 AND flags & ? = 0 ORDER BY uid LIMIT 1",
            mailbox.id,
            SEEN,
        )
        first_unseen = row[0] if row else 0
    if mailbox.id in known:
        return Opening(mailbox, None, (), first_unseen)
    return Opening(mailbox, uids(tx, mailbox), keywords(tx, mailbox.id), first_unseen)


def uids(tx: Tx, mailbox: Mailbox) -> "array[int]":
    """The UIDs in a mailbox, ascending."""
    if not mailbox.messages:
        return array("I")
    first = tx.one("SELECT uid FROM entry WHERE mailbox_id = ? AND expunged = 0 ORDER BY uid LIMIT 1", mailbox.id)
    last = tx.one("SELECT uid FROM entry WHERE mailbox_id = ? AND expunged = 0 ORDER BY uid DESC LIMIT 1", mailbox.id)
    if first is None or last is None:
        return array("I")
    if last[0] - first[0] + 1 == mailbox.messages:  # without gaps there is nothing to read
        return array("I", range(first[0], last[0] + 1))
    rows = tx.all("SELECT uid FROM entry WHERE mailbox_id = ? AND expunged = 0 ORDER BY uid", mailbox.id)
    return array("I", [uid for (uid,) in rows])


def keywords(tx: Tx, mailbox_id: int) -> tuple[str, ...]:
    """The keywords in use in a mailbox, sorted."""
    live = "FROM entry WHERE mailbox_id = ? AND expunged = 0 AND keywords <> ''"
    # Most messages have the keywords that others have, so each set is looked for behind the one before.
    rows = tx.all(
        f"WITH RECURSIVE found(words) AS (SELECT min(keywords) {live} UNION ALL "  # noqa: S608
        f"SELECT (SELECT min(keywords) {live} AND keywords > words) FROM found WHERE words IS NOT NULL) "
        "SELECT words FROM found WHERE words IS NOT NULL LIMIT ?",
        mailbox_id,
        mailbox_id,
        FEW_SETS,
    )
    if len(rows) == FEW_SETS:
        rows = tx.all(f"SELECT DISTINCT keywords {live}", mailbox_id)
    found = {word.lower(): word for (text,) in rows for word in text.split()}
    return tuple(sorted(found.values())[:MAX_KEYWORDS])


def rows(tx: Tx, mailbox_id: int, first: int, last: int, columns: Sequence[str], since: int = 0) -> list[Row]:
    """The columns of the messages with UIDs from `first` to `last`, by UID; with `since` of those whose modseq is
    higher."""
    wanted = ", ".join(_COLUMNS[name] for name in columns)
    join = "JOIN email m ON m.id = e.email_id " if "m." in wanted else ""
    return tx.all(
        f"SELECT {wanted} FROM entry e {join}"  # noqa: S608
        f"WHERE e.mailbox_id = ? AND e.uid BETWEEN ? AND ? AND e.expunged = 0{_later(since)} ORDER BY e.uid",
        mailbox_id,
        first,
        last,
    )


# Columns that whoever wrote the message can make as large as he likes.
BULKY = frozenset(("envelope", "bodystructure", "listed", "labels", "parts"))


def fitting(
    tx: Tx,
    mailbox_id: int,
    first: int,
    last: int,
    columns: Sequence[str],
    budget: int,
    since: int = 0,
    backwards: bool = False,
) -> tuple[int, int]:
    """The beginning of a range of UIDs (`backwards`: its end) of which `rows` loads `budget` octets in bulky columns at
    most, or a single message. Only lengths are read."""
    size = _lengths(columns)
    if not size or first == last:
        return first, last
    tables = (
        "FROM entry e JOIN email m ON m.id = e.email_id "
        f"WHERE e.mailbox_id = ? AND e.uid BETWEEN ? AND ? AND e.expunged = 0{_later(since)}"
    )
    total = tx.one(f"SELECT sum({size}) {tables}", mailbox_id, first, last)
    if total is None or (total[0] or 0) <= budget:
        return first, last
    order = "DESC" if backwards else "ASC"
    loaded = reached = 0
    for uid, octets in tx.all(f"SELECT e.uid, {size} {tables} ORDER BY e.uid {order}", mailbox_id, first, last):
        loaded += octets
        if reached and loaded > budget:
            break
        reached = uid
    return (reached, last) if backwards else (first, reached)


def _lengths(columns: Sequence[str]) -> str:
    """Octets of the bulky ones of these columns, in SQL; "" if there are none."""
    return " + ".join(f"coalesce(length({_COLUMNS[name]}), 0)" for name in columns if name in BULKY)


def _later(since: int) -> str:
    return f" AND e.modseq > {since:d}" if since else ""


def contents(
    tx: Tx, mailbox_id: int, first: int, last: int, columns: Sequence[str], budget: int, small: int, since: int = 0
) -> tuple[list[Row], int]:
    """`rows` with the blob in four more columns (size, encoding, data, file: see `Message`), and where to go on.

    It stops when the small messages loaded and the bulky columns have `budget` bytes together, at the earliest after
    one; those above `small` bytes do not count, for they are read later, piece by piece. The second value is the first
    UID that was left out, 0 if none was.
    """
    loaded, following = 0, 0
    sizes: list[Row] = []
    if first < last:
        sizes = tx.all(
            f"SELECT e.uid, m.size, {_lengths(columns) or '0'} FROM entry e JOIN email m ON m.id = e.email_id "  # noqa: S608
            f"WHERE e.mailbox_id = ? AND e.uid BETWEEN ? AND ? AND e.expunged = 0{_later(since)} ORDER BY e.uid",
            mailbox_id,
            first,
            last,
        )
    for number, (uid, size, bulk) in enumerate(sizes):
        loaded += bulk + (size if size <= small else small // 16)
        if loaded > budget and number:
            following = uid
            last = uid - 1
            break
    wanted = ", ".join(_COLUMNS[name] for name in columns)
    found = tx.all(
        f"SELECT {wanted}, b.size, b.encoding, b.data, b.file FROM entry e "  # noqa: S608
        "JOIN email m ON m.id = e.email_id JOIN blob b ON b.id = m.blob_id "
        f"WHERE e.mailbox_id = ? AND e.uid BETWEEN ? AND ? AND e.expunged = 0{_later(since)} ORDER BY e.uid",
        mailbox_id,
        first,
        last,
    )
    return found, following


class Message:
    """The bytes of one message of a row of `contents`: its prefix, then its blob. A small one is unpacked once."""

    __slots__ = ("_blob", "_content", "_tx", "prefix", "size")

    def __init__(self, tx: Tx, prefix: bytes, blob: blobs.BlobRow) -> None:
        self._tx = tx
        self._blob = blob
        self._content: bytes | None = None
        self.prefix = prefix
        self.size = len(prefix) + blob[0]

    def read(self, start: int, end: int) -> bytes:
        """The bytes from `start` to `end`."""
        prefix, offset = self.prefix, len(self.prefix)
        if end <= offset:
            return prefix[start:end]
        if self._blob[2] is None:
            content = blobs.content_of_row(self._tx, self._blob, max(start - offset, 0), end - offset)
        else:
            if self._content is None:
                self._content = blobs.content_of_row(self._tx, self._blob)
            content = self._content[max(start - offset, 0) : end - offset]
        return prefix[start:] + content if start < offset else content


def unseen(tx: Tx, mailbox_id: int, first: int, last: int, since: int = 0) -> list[int]:
    """The UIDs from `first` to `last` that were not seen yet; with `since` of messages with a higher modseq."""
    return [
        uid
        for (uid,) in tx.all(
            "SELECT e.uid FROM entry e WHERE e.mailbox_id = ? AND e.uid BETWEEN ? AND ? AND e.expunged = 0 "  # noqa: S608
            f"AND e.flags & ? = 0{_later(since)} ORDER BY e.uid",
            mailbox_id,
            first,
            last,
            SEEN,
        )
    ]


def flags_since(
    tx: Tx, mailbox_id: int, first: int, last: int, modseq: int, most: int
) -> list[tuple[int, int, int, str]]:
    """(uid, modseq, flags, keywords) of messages with UIDs from `first` to `last` that changed at `modseq` or later;
    `most` at once."""
    return tx.all(
        "SELECT uid, modseq, flags, keywords FROM entry "
        "WHERE mailbox_id = ? AND uid BETWEEN ? AND ? AND expunged = 0 AND modseq >= ? ORDER BY uid LIMIT ?",
        mailbox_id,
        first,
        last,
        modseq,
        most,
    )


def listed_of(tx: Tx, email_id: int) -> bytes:
    """The fields of a message that programs list by, where none are kept with it: its whole header will do."""
    row = tx.one("SELECT blob_id, parts FROM email WHERE id = ?", email_id)
    if row is None:
        return b"\r\n"
    head = blobs.read(tx, row[0], 0, min(sections.unpack(row[1]).root.body, MAX_HEADER))
    return head.replace(b"\0", b"\x80")


def vanished(tx: Tx, mailbox_id: int, first: int, last: int, modseq: int, most: int) -> list[int]:
    """The UIDs from `first` to `last` of messages that went after `modseq`; `most` at once."""
    rows = tx.all(
        "SELECT uid FROM entry WHERE mailbox_id = ? AND uid BETWEEN ? AND ? AND expunged = 1 AND modseq > ? "
        "ORDER BY uid LIMIT ?",
        mailbox_id,
        first,
        last,
        modseq,
        most,
    )
    return [uid for (uid,) in rows]


def highest_modseq(tx: Tx, mailbox_id: int, ranges: Iterable[tuple[int, int]]) -> int:
    """The highest modseq of the messages in half-open ranges of UIDs; 0 if there are none."""
    highest = 0
    for low, high in ranges:
        row = tx.one(
            "SELECT max(modseq) FROM entry WHERE mailbox_id = ? AND uid >= ? AND uid < ? AND expunged = 0",
            mailbox_id,
            low,
            high,
        )
        highest = max(highest, row[0] or 0) if row else highest
    return highest


def deleted_size(tx: Tx, mailbox: Mailbox) -> int:
    """The octets of the messages marked \\Deleted."""
    if not mailbox.deleted:
        return 0
    row = tx.one(
        "SELECT sum(m.size) FROM entry e JOIN email m ON m.id = e.email_id "
        "WHERE e.mailbox_id = ? AND e.expunged = 0 AND e.flags & ? <> 0",
        mailbox.id,
        DELETED,
    )
    return row[0] or 0 if row else 0


def count_from(tx: Tx, mailbox: Mailbox, uid: int) -> int:
    """How many messages have this UID or a higher one."""
    if uid >= mailbox.uidnext:
        return 0
    row = tx.one("SELECT count(*) FROM entry WHERE mailbox_id = ? AND uid >= ? AND expunged = 0", mailbox.id, uid)
    return row[0] if row else 0

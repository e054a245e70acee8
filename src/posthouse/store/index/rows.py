"""The SQL of search.db: tables of the full-text engine (FTS5), one row a message in each.

The tokens are all runs of three characters of the folded texts (the tokenizer "trigram"), with their places: so a
phrase of them is a substring, whatever the language, and the answer is exact. Words of one or two characters are found
where they are of a script without blanks between words: `pair` has those characters one by one. The texts themselves
are not kept ("contentless"). For FUZZY the words are there too (`word`, and `known`, the list of all of them).

The fields that have search keys of their own, the header and the body are tables apart, as a question for one then does
not wade through the tokens of the others. A row's id is the account's and the email's (`row_of`), so that a
question is bounded to an account by a range of ids.
"""

import json
import re
from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from posthouse.store.database import Tx

VERSION = 1  # of the tables and of what is written into them: with another one the index is made anew
PENDING = 16 * 1024 * 1024  # octets of tokens that the engine gathers before it writes them

_TABLES = {
    "field": "subject, from_, to_, cc, bcc",
    "head": "header",
    "body": "texts",
    "pair": "subject, from_, to_, cc, bcc, header, texts",
    "word": "words",
}
_TOKENS = {"pair": "ascii", "word": "ascii"}
# The words of a text begin in `word` with a letter for it; the header as a whole has none.
LETTERS = {"subject": "s", "from": "f", "to": "t", "cc": "c", "bcc": "b", "body": "x"}
_EMAIL_BITS = 40
_EMAIL = (1 << _EMAIL_BITS) - 1

# Scripts whose words are short, or stand without blanks between them: Thai, Lao, Tibetan, Myanmar, Khmer, Han, kana,
# bopomofo, Hangul, Yi.
_UNSPACED = (
    "\u0e00-\u0fff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u2e80-\u2fdf\u3005-\u3007\u3021-\u3029\u3031-\u3035"
    "\u3038-\u303c\u3040-\u312f\u3130-\u318f\u31a0-\u31bf\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\ua000-\ua4cf"
    "\ua960-\ua97f\uaa60-\uaa7f\uac00-\ud7ff\uf900-\ufaff\U0001b000-\U0001b16f\U00020000-\U0003ffff"
)
_unspaced_runs = re.compile(f"[{_UNSPACED}]+").findall
is_unspaced = re.compile(f"[{_UNSPACED}]+").fullmatch


SHORTEST, LONGEST = 2, 40  # letters in a word that FUZZY looks for
PIECE = 64 * 1024  # characters looked through at once: the interpreter is held meanwhile
find_words = re.compile(r"[^\W_]+").findall


def words(folded: str) -> set[str]:
    """The words of a folded text. Scripts without blanks have none."""
    return {
        word
        for piece in _pieces(folded)
        for word in find_words(piece)
        if SHORTEST <= len(word) <= LONGEST and (word.isascii() or not is_unspaced(word[0]))
    }


def _pieces(folded: str) -> Iterator[str]:
    """A long text in pieces, cut at blanks; where there is none for long, anywhere."""
    at = 0
    while at < len(folded):
        blank = folded.find(" ", at + PIECE, at + 2 * PIECE)
        end = blank if blank >= 0 else at + 2 * PIECE
        yield folded[at:end]
        at = end


class Said(NamedTuple):
    """The texts of one message."""

    account_id: int
    email_id: int
    subject: str
    from_: str
    to: str
    cc: str
    bcc: str
    header: str
    body: str

    @property
    def size(self) -> int:
        """Characters in all."""
        return sum(map(len, self[2:]))


class Mark(NamedTuple):
    """How far the index is: the last email in it, and the trace id that this email had."""

    email_id: int
    trace: int


def make(tx: Tx, version: str, store: str) -> None:
    """The tables of an empty index of this store."""
    tx.run("CREATE TABLE mark (name TEXT PRIMARY KEY, value) WITHOUT ROWID")
    for name, columns in _TABLES.items():
        tokens = _TOKENS.get(name, "trigram case_sensitive 1")
        detail = "none" if name == "word" else "full"
        tx.run(
            f"CREATE VIRTUAL TABLE {name} USING fts5({columns}, content = '', contentless_delete = 1, "
            f"detail = {detail}, tokenize = '{tokens}')"
        )
        tx.run(f"INSERT INTO {name} ({name}, rank) VALUES ('hashsize', {PENDING})")  # noqa: S608
    tx.run("CREATE VIRTUAL TABLE known USING fts5vocab(word, row)")
    tx.many("INSERT INTO mark VALUES (?, ?)", [("version", version), ("store", store), ("position", 0), ("trace", 0)])


def exists(tx: Tx) -> bool:
    """Was anything made in this file?"""
    return tx.one("SELECT 1 FROM sqlite_master") is not None


def origin(tx: Tx) -> tuple[str, str]:
    """Of which version the index is, and of which store. Fails if it is no index."""
    marks: dict[str, Any] = dict(tx.all("SELECT name, value FROM mark"))
    return str(marks.get("version", "")), str(marks.get("store", ""))


def mark(tx: Tx) -> Mark:
    """How far the index is."""
    marks: dict[str, int] = dict(tx.all("SELECT name, value FROM mark WHERE name IN ('position', 'trace')"))
    return Mark(marks["position"], marks["trace"])


def move(tx: Tx, to: Mark) -> None:
    """The index is further now."""
    tx.many("UPDATE mark SET value = ? WHERE name = ?", [(to.email_id, "position"), (to.trace, "trace")])


def row_of(account_id: int, email_id: int) -> int:
    """The id of the rows of an email."""
    return account_id << _EMAIL_BITS | email_id


def put(tx: Tx, said: Iterable[Said]) -> None:
    """Add messages."""
    # In the order of the rows: the engine writes out what it gathered when an id is below the one before.
    ordered = sorted(said)
    rows = [(row_of(one.account_id, one.email_id), one) for one in ordered]
    tx.many(
        "INSERT INTO field (rowid, subject, from_, to_, cc, bcc) VALUES (?, ?, ?, ?, ?, ?)",
        [(row, *one[2:7]) for row, one in rows],
    )
    tx.many("INSERT INTO head (rowid, header) VALUES (?, ?)", [(row, one.header) for row, one in rows])
    tx.many("INSERT INTO body (rowid, texts) VALUES (?, ?)", [(row, one.body) for row, one in rows])
    tx.many("INSERT INTO word (rowid, words) VALUES (?, ?)", [(row, _marked(one)) for row, one in rows])
    pairs = [(row, *map(apart, one[2:])) for row, one in rows if not all(map(str.isascii, one[2:]))]
    tx.many(
        "INSERT INTO pair (rowid, subject, from_, to_, cc, bcc, header, texts) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        [one for one in pairs if any(one[1:])],
    )


def _marked(said: Said) -> str:
    texts = (said.subject, said.from_, said.to, said.cc, said.bcc, said.body)
    return " ".join(
        [letter + word for letter, text in zip(LETTERS.values(), texts, strict=True) for word in words(text)]
    )


def beginning(tx: Tx, letter: str, start: str, most: int) -> list[str]:
    """Words of some text of messages that begin so, in order."""
    low = letter + start
    rows = tx.all("SELECT term FROM known WHERE term >= ? AND term < ? LIMIT ?", low, low + "\U0010ffff", most)
    return [term[1:] for (term,) in rows]


def apart(text: str) -> str:
    """The characters of scripts without blanks, one by one; "x" stands between those that are no neighbours."""
    return " x ".join([" ".join(run) for run in _unspaced_runs(text)]) if not text.isascii() else ""


def ids(tx: Tx, account_id: int, table: str, question: str, first: int = 0, last: int = _EMAIL) -> "array[int]":
    """The ids of the emails of an account, from `first` to `last`, that answer to a question, ascending."""
    assert table in _TABLES
    row = tx.one(
        # One value: a row each would hand the interpreter lock to and fro for each.
        f"SELECT group_concat(id) FROM (SELECT rowid & {_EMAIL} AS id FROM {table} "  # noqa: S608
        f"WHERE {table} MATCH ? AND rowid BETWEEN ? AND ? ORDER BY rowid)",
        question,
        row_of(account_id, first),
        row_of(account_id, last),
    )
    # JSON, as its parser makes numbers in half the time of int().
    return array("q", json.loads(f"[{row[0]}]")) if row is not None and row[0] else array("q")


def middle(tx: Tx, account_id: int, many: int) -> int:
    """The email of an account in the middle between its first and its last, if there are `many` ids between them."""
    bounds = row_of(account_id, 0), row_of(account_id, _EMAIL)
    row = tx.one(
        "SELECT (SELECT min(id) FROM body_docsize WHERE id BETWEEN ? AND ?), "
        "(SELECT max(id) FROM body_docsize WHERE id BETWEEN ? AND ?)",
        *bounds,
        *bounds,
    )
    if row is None or row[0] is None or row[1] - row[0] < many:
        return 0
    return int((row[0] + row[1]) // 2) & _EMAIL


def held(tx: Tx, after: int, most: int) -> list[int]:
    """Ids of rows above `after`, ascending."""
    return [row for (row,) in tx.all("SELECT id FROM body_docsize WHERE id > ? ORDER BY id LIMIT ?", after, most)]


def email_of(row: int) -> int:
    """The email that a row is of."""
    return row & _EMAIL


def remove(tx: Tx, rows: Sequence[int]) -> None:
    """Take out rows."""
    for name in _TABLES:
        tx.many(f"DELETE FROM {name} WHERE rowid = ?", [(row,) for row in rows])  # noqa: S608


def count(tx: Tx) -> int:
    """How many messages are in it."""
    row = tx.one("SELECT count(*) FROM body_docsize")
    return int(row[0]) if row else 0

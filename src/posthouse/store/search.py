"""Find messages: a tree of search keys (imap/keys.py) to UIDs, slice by slice.

What the columns can tell becomes one SQL condition; what only the message can tell (header fields, texts, the
Date field) is then looked at message by message, among those that are left. `find` does a bounded piece
of that work and says where to go on, so that a search through a whole mailbox never holds a reader for long.

Texts are compared without case, decoded: encoded words, transfer encodings, charsets. There is no index yet, so
a search for a text costs the reading of every candidate; of a part of more than `MAX_PART` octets only so much is read.
"""

import unicodedata
from collections.abc import Callable, Iterator
from typing import NamedTuple

from posthouse.imap import keys, numbers
from posthouse.imap.dates import start_of
from posthouse.imap.keys import Key
from posthouse.mime import bodies, header, sections, words
from posthouse.mime.addresses import addresses
from posthouse.mime.fields import zoned_date_time
from posthouse.mime.scan import Part, Scanner
from posthouse.store.database import Row, Tx
from posthouse.store.select import Message

ROWS = 20_000  # UIDs one call finds when columns are enough
CANDIDATES = 64  # messages one call reads
BUDGET = 2 * 1024 * 1024  # octets of content after which a call stops
MAX_PART = 8 * 1024 * 1024
_CHUNK = 256 * 1024
_MAX_RANGES = 100  # of UIDs in SQL; beyond that they are looked up here
_DAY = 86_400_000_000

_ADDRESSES = frozenset(("from", "to", "cc", "bcc", "sender", "reply-to"))


class Query(NamedTuple):
    """A tree made ready: the condition in SQL, and what is left to look at."""

    where: str
    args: tuple[object, ...]
    rest: Key | None
    needs_content: bool


class Found(NamedTuple):
    """Matching UIDs, ascending, and the UID to go on from; 0: that is all."""

    uids: list[int]
    following: int
    modseq: int  # of the last change of the mailbox that was seen


def prepare(key: Key) -> Query:
    """Split a tree into SQL and the rest."""
    conditions: list[str] = []
    args: list[object] = []
    rest: list[Key] = []
    for part in key.keys if isinstance(key, keys.And) else (key,):
        sql = _sql(part)
        if sql is None:
            rest.append(part)
        else:
            conditions.append(sql[0])
            args += sql[1]
    left = None if not rest else rest[0] if len(rest) == 1 else keys.And(tuple(rest))
    return Query(" AND ".join(conditions) or "1 = 1", tuple(args), left, left is not None and _needs_content(left))


def find(tx: Tx, mailbox_id: int, query: Query, first: int, last: int) -> Found:
    """Matches among the UIDs from `first` to `last`; a bounded piece of the work."""
    mailbox = tx.one("SELECT highestmodseq FROM mailbox WHERE id = ?", mailbox_id)
    modseq: int = mailbox[0] if mailbox else 0
    most = CANDIDATES if query.needs_content else ROWS
    columns = "e.uid, e.flags, e.keywords, m.size, m.received"
    tables = "entry e JOIN email m ON m.id = e.email_id"
    if query.rest is None:
        columns = "e.uid"
        if "m." not in query.where:
            tables = "entry e"
    elif query.needs_content:
        columns += ", m.parts, m.prefix, b.size, b.encoding, b.data, b.file"
        tables += " JOIN blob b ON b.id = m.blob_id"
    rows = tx.all(
        f"SELECT {columns} FROM {tables} "  # noqa: S608
        f"WHERE e.mailbox_id = ? AND e.uid BETWEEN ? AND ? AND e.expunged = 0 AND {query.where} ORDER BY e.uid LIMIT ?",
        mailbox_id,
        first,
        last,
        *query.args,
        most,
    )
    more = len(rows) == most
    if query.rest is None:
        return Found([uid for (uid,) in rows], rows[-1][0] + 1 if more else 0, modseq)
    found: list[int] = []
    loaded = 0
    for number, row in enumerate(rows):
        candidate = _Candidate(tx, row, query.needs_content)
        if _holds(query.rest, candidate):
            found.append(row[0])
        loaded += candidate.loaded
        if loaded > BUDGET and number + 1 < len(rows):
            return Found(found, rows[number + 1][0], modseq)
    return Found(found, rows[-1][0] + 1 if more else 0, modseq)


# What SQL can tell


def _sql(key: Key) -> tuple[str, list[object]] | None:
    """The key as a condition with its parameters, or None if it needs the message."""
    match key:
        case keys.All():
            return "1 = 1", []
        case keys.Flag(bit, on):
            return f"e.flags & ? {'<>' if on else '='} 0", [bit]
        case keys.Keyword(word, on):
            escaped = word.lower().replace("!", "!!").replace("%", "!%").replace("_", "!_")
            verb = "LIKE" if on else "NOT LIKE"
            return f"' ' || lower(e.keywords) || ' ' {verb} ? ESCAPE '!'", [f"% {escaped} %"]
        case keys.Size(larger, size):
            return f"m.size {'>' if larger else '<'} ?", [size]
        case keys.Day(keys.Field.RECEIVED | keys.Field.SAVED, begin, end):
            column = "m.received" if key.field is keys.Field.RECEIVED else "e.savedate"
            conditions, args = [], []
            if begin is not None:
                conditions.append(f"{column} >= ?")
                args.append(start_of(begin))
            if end is not None:
                conditions.append(f"{column} < ?")
                args.append(start_of(end))
            return f"({' AND '.join(conditions)})", [*args]
        case keys.Uids(ranges) if len(ranges) <= _MAX_RANGES:
            if not ranges:
                return "1 = 0", []
            bounds = [bound for low, high in ranges for bound in (low, high - 1)]
            return f"({' OR '.join(['e.uid BETWEEN ? AND ?'] * len(ranges))})", [*bounds]
        case keys.Not(inner):
            sql = _sql(inner)
            return None if sql is None else (f"NOT ({sql[0]})", sql[1])
        case keys.And(parts):
            return _joined(" AND ", parts)
        case keys.Or(one, other):
            return _joined(" OR ", (one, other))
    return None


def _joined(word: str, parts: tuple[Key, ...]) -> tuple[str, list[object]] | None:
    conditions: list[str] = []
    args: list[object] = []
    for part in parts:
        sql = _sql(part)
        if sql is None:
            return None
        conditions.append(sql[0])
        args += sql[1]
    return f"({word.join(conditions)})", args


def _needs_content(key: Key) -> bool:
    match key:
        case keys.Header() | keys.Text() | keys.Day(keys.Field.SENT):
            return True
        case keys.Not(inner):
            return _needs_content(inner)
        case keys.And(parts):
            return any(map(_needs_content, parts))
        case keys.Or(one, other):
            return _needs_content(one) or _needs_content(other)
    return False


# What the message tells


class _Candidate:
    """A message that may match. What is read and decoded is kept for the next key of the tree."""

    def __init__(self, tx: Tx, row: Row, with_content: bool) -> None:
        self.uid, self.flags, self.keywords, self.size, self.received = row[:5]
        self.loaded = 0
        self._message: Message | None = None
        self._header: bytes | None = None
        self._parts: bytes = b""
        if with_content:
            self._parts = row[5]
            self._message = Message(tx, row[6], row[7:11])

    @property
    def message(self) -> Message:
        assert self._message is not None
        return self._message

    @property
    def header(self) -> bytes:
        """The header, with what was put on top of it."""
        if self._header is None:
            message = self.message
            end = len(message.prefix) + sections.unpack(self._parts).root.body
            self._header = message.read(0, end)
            self.loaded += len(self._header) if message.size > _CHUNK else message.size
        return self._header

    def body_texts(self) -> Iterator[str]:
        """The texts of all text parts, and the headers of parts and of messages inside, decoded."""
        message = self.message
        self.loaded += message.size
        offset = len(message.prefix)
        scanner = Scanner()
        for at in range(offset, message.size, _CHUNK):
            scanner.feed(message.read(at, min(at + _CHUNK, message.size)))
        root = scanner.finish().root
        waiting = [root]
        while waiting:
            part = waiting.pop()
            if part is not root:
                yield words.decode(part.header_bytes)
            waiting += reversed(part.parts)
            if part.message is not None:
                waiting.append(part.message)
            elif not part.parts and part.type in (b"text", b"multipart", b"message"):
                end = min(part.end, part.body + MAX_PART) + offset
                yield _text(part, message.read(part.body + offset, end))

    def raw_holds(self, needle: bytes) -> bool | None:
        """Is a word (lower-case ASCII) anywhere in a small message? None: only decoding can tell."""
        message = self.message
        if message.size > _CHUNK:
            return None
        raw = message.read(0, message.size).lower()
        if b"base64" in raw or b"quoted-printable" in raw or b"=?" in raw or b"utf-" in raw or b"iso-2022" in raw:
            return None
        return needle in raw


def _text(part: Part, raw: bytes) -> str:
    return words.decode_charset(bodies.decode(raw, part.encoding), part.param(b"charset"))


def _fold(text: str) -> str:
    """Text for comparison without case."""
    return text.lower() if text.isascii() else unicodedata.normalize("NFKC", text).casefold()


def _holds(key: Key, message: _Candidate) -> bool:
    return _TESTS[type(key)](key, message)


def _holds_sql(key: Key, message: _Candidate) -> bool:
    """Keys that SQL knows too, where they stand beside one that it does not know."""
    match key:
        case keys.All():
            return True
        case keys.Flag(bit, on):
            return bool(message.flags & bit) == on
        case keys.Keyword(word, on):
            return (word.lower() in message.keywords.lower().split()) == on
        case keys.Size(larger, size):
            return bool(message.size > size if larger else message.size < size)
        case keys.Uids(ranges):
            return numbers.contains(ranges, message.uid)
        case keys.And(parts):
            return all(_holds(part, message) for part in parts)
        case keys.Or(one, other):
            return _holds(one, message) or _holds(other, message)
        case keys.Not(inner):
            return not _holds(inner, message)
    raise ValueError(f"{type(key).__name__} is for the session to resolve")


def _holds_day(key: keys.Day, message: _Candidate) -> bool:
    if key.field is keys.Field.SENT:
        value = header.find(message.header, b"date")
        found = zoned_date_time(value) if value is not None else None
        if found is None:
            return False
        day = (found[0] + found[1] * 60_000_000) // _DAY  # the day its author saw, RFC 9051 section 6.4.4
    else:
        day = message.received // _DAY
    return (key.first is None or day >= key.first) and (key.end is None or day < key.end)


def _holds_header(key: keys.Header, message: _Candidate) -> bool:
    name = key.name.encode("latin-1", "replace")
    raw = message.header
    if (
        key.text.isascii()
        and not any(c in key.text for c in " @")
        and b"=?" not in raw
        and key.text.lower().encode() not in raw.lower()
    ):
        return False  # decoding brings nothing else to light: most messages are done with here
    values = header.find_all(raw, name)
    wanted = _fold(key.text)
    if any(wanted in _fold(words.decode(value)) for value in values):
        return True
    if key.name not in _ADDRESSES or "@" not in wanted:
        return False
    return any(
        wanted in _fold(f"{address.local.decode('utf-8', 'replace')}@{address.domain.decode('utf-8', 'replace')}")
        for value in values
        for address in addresses(value)
    )


def _holds_text(key: keys.Text, message: _Candidate) -> bool:
    wanted = _fold(key.text)
    if wanted.isascii() and not any(c in wanted for c in " \r\n\t"):
        known = message.raw_holds(wanted.encode())
        if known is False or (known and key.scope is keys.Scope.TEXT):
            message.loaded += message.size
            return known
    if key.scope is keys.Scope.TEXT and wanted in _fold(words.decode(message.header)):
        return True
    return any(wanted in _fold(text) for text in message.body_texts())


_TESTS: dict[type, Callable[..., bool]] = {
    keys.Header: _holds_header,
    keys.Text: _holds_text,
    keys.Day: _holds_day,
    **dict.fromkeys(
        (
            keys.All,
            keys.Flag,
            keys.Keyword,
            keys.Size,
            keys.Uids,
            keys.And,
            keys.Or,
            keys.Not,
            keys.Recent,
            keys.Numbers,
        ),
        _holds_sql,
    ),
}

"""Find messages: a tree of search keys (imap/keys.py) to UIDs, slice by slice.

What the columns can tell becomes one SQL condition; what only the message can tell (header fields, texts, the
Date field) is then looked at message by message, among those that are left. `find` does a bounded piece
of that work and says where to go on, so that a search through a whole mailbox never holds a reader for long.

Texts are compared without case, decoded: encoded words, transfer encodings, charsets. There is no index yet, so
a search for a text costs the reading of every candidate, once for all texts of the search; of a header only
`MAX_HEADER` octets are read, of the text parts of a message `MAX_TEXTS` together.
"""

import functools
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
MAX_HEADER = 1024 * 1024
MAX_TEXTS = 8 * 1024 * 1024
_CHUNK = 256 * 1024
_MAX_RANGES = 100  # of UIDs in SQL; beyond that they are looked up here
_DAY = 86_400_000_000
_FAR = (1 << 62) - 1  # microseconds: after everything

_ADDRESSES = frozenset(("from", "to", "cc", "bcc", "sender", "reply-to"))


class Query(NamedTuple):
    """A tree made ready: the condition in SQL, and what is left to look at."""

    where: str
    args: tuple[object, ...]
    rest: Key | None
    needs_content: bool
    texts: tuple[keys.Text, ...] = ()  # all that `rest` looks for in bodies


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
    where = " AND ".join(conditions) or "1 = 1"
    if left is None:
        return Query(where, tuple(args), None, False)
    return Query(where, tuple(args), left, _needs_content(left), tuple(dict.fromkeys(_texts(left))))


def find(tx: Tx, mailbox_id: int, query: Query, first: int, last: int) -> Found:
    """Matches among the UIDs from `first` to `last`; a bounded piece of the work."""
    mailbox = tx.one("SELECT highestmodseq FROM mailbox WHERE id = ?", mailbox_id)
    modseq: int = mailbox[0] if mailbox else 0
    most = CANDIDATES if query.needs_content else ROWS
    columns = "e.uid, e.flags, e.keywords, m.size, m.received, e.savedate, e.modseq, e.email_id, m.thread_id"
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
        candidate = _Candidate(tx, row, query)
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
        case keys.Modseq(first):
            return "e.modseq >= ?", [first]
        case keys.Object(kind, number):
            return f"{'e.email_id' if kind == 'email' else 'm.thread_id'} = ?", [number]
        case keys.Received(first, end):
            return "m.received >= ? AND m.received < ?", [first or 0, _FAR if end is None else end]
        case keys.Uids(ranges) if len(ranges) <= _MAX_RANGES:
            if not ranges:
                return "1 = 0", []
            bounds = [bound for low, high in ranges for bound in (low, high - 1)]
            return f"({' OR '.join(['e.uid BETWEEN ? AND ?'] * len(ranges))})", [*bounds]
        case keys.Fuzzy(inner):
            return _sql(inner)
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
        case keys.Not(inner) | keys.Fuzzy(inner):
            return _needs_content(inner)
        case keys.And(parts):
            return any(map(_needs_content, parts))
        case keys.Or(one, other):
            return _needs_content(one) or _needs_content(other)
    return False


def _texts(key: Key) -> Iterator[keys.Text]:
    match key:
        case keys.Text():
            yield key
        case keys.Not(inner) | keys.Fuzzy(inner):
            yield from _texts(inner)
        case keys.And(parts):
            for part in parts:
                yield from _texts(part)
        case keys.Or(one, other):
            yield from _texts(one)
            yield from _texts(other)


# What the message tells


class _Candidate:
    """A message that may match. What is read and decoded is kept for the next key of the tree."""

    def __init__(self, tx: Tx, row: Row, query: Query) -> None:
        self.uid, self.flags, self.keywords, self.size, self.received, self.saved = row[:6]
        self.modseq, self.email_id, self.thread_id = row[6:9]
        self.loaded = 0
        self._message: Message | None = None
        self._header: bytes | None = None
        self._raw: bytes | None = None
        self._parts: bytes = b""
        self._texts = query.texts
        self._held: set[str] | None = None
        if query.needs_content:
            self._parts = row[9]
            self._message = Message(tx, row[10], row[11:15])

    @property
    def message(self) -> Message:
        assert self._message is not None
        return self._message

    @property
    def header(self) -> bytes:
        """The header, with what was put on top of it."""
        if self._header is None:
            message = self.message
            end = min(len(message.prefix) + sections.unpack(self._parts).root.body, MAX_HEADER)
            self._header = message.read(0, end)
            self.loaded += len(self._header) if message.size > _CHUNK else message.size
        return self._header

    @functools.cached_property
    def lower_header(self) -> bytes:
        """The header in lower case, not decoded."""
        return self.header.lower()

    @functools.cached_property
    def header_text(self) -> str:
        """The header decoded and folded."""
        return _fold(words.decode(self.header))

    def body_holds(self, wanted: str) -> bool:
        """Is the text (folded) in a text part, or in the header of a part or of a message inside?

        All texts of the search are looked for at once: a message is decoded once, however many there are.
        """
        if self._held is None:
            self._held = set()
            open_ = {_fold(key.text) for key in self._texts}
            for text in self._body_texts():
                folded = _fold(text)
                held = {one for one in open_ if one in folded}
                self._held |= held
                open_ -= held
                if not open_:
                    break
        return wanted in self._held

    def _body_texts(self) -> Iterator[str]:
        message = self.message
        self.loaded += message.size * (1 + len(self._texts) // 8)  # each text is looked for in all of it
        offset = len(message.prefix)
        scanner = Scanner()
        for at in range(offset, message.size, _CHUNK):
            scanner.feed(message.read(at, min(at + _CHUNK, message.size)))
        root = scanner.finish().root
        left = MAX_TEXTS
        waiting = [root]
        while waiting and left > 0:
            part = waiting.pop()
            if part is not root:
                left -= len(part.header_bytes)
                yield words.decode(part.header_bytes)
            waiting += reversed(part.parts)
            if part.message is not None:
                waiting.append(part.message)
            elif not part.parts and part.type in (b"text", b"multipart", b"message"):
                end = min(part.end, part.body + left)
                left -= end - part.body
                yield _text(part, message.read(part.body + offset, end + offset))

    def raw(self) -> bytes | None:
        """A small message, in lower case, if it is as it reads: nothing in it is encoded."""
        if self._raw is None:
            message = self.message
            raw = message.read(0, message.size).lower() if message.size <= _CHUNK else b"=?"
            self.loaded += message.size if message.size <= _CHUNK else 0
            encoded = any(mark in raw for mark in (b"base64", b"quoted-printable", b"=?", b"utf-", b"iso-2022"))
            self._raw = b"" if encoded else raw
        return self._raw or None


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
        case keys.Modseq(first):
            return bool(message.modseq >= first)
        case keys.Object(kind, number):
            return bool((message.email_id if kind == "email" else message.thread_id) == number)
        case keys.Received(first, end):
            return (first is None or message.received >= first) and (end is None or message.received < end)
        case keys.And(parts):
            return all(_holds(part, message) for part in parts)
        case keys.Or(one, other):
            return _holds(one, message) or _holds(other, message)
        case keys.Not(inner):
            return not _holds(inner, message)
        case keys.Fuzzy(inner):
            return _holds(inner, message)
    raise ValueError(f"{type(key).__name__} is for the session to resolve")


def _holds_day(key: keys.Day, message: _Candidate) -> bool:
    if key.field is keys.Field.SENT:
        value = header.find(message.header, b"date")
        found = zoned_date_time(value) if value is not None else None
        if found is None:
            return False
        day = (found[0] + found[1] * 60_000_000) // _DAY  # the day its author saw, RFC 9051 section 6.4.4
    else:
        day = (message.saved if key.field is keys.Field.SAVED else message.received) // _DAY
    return (key.first is None or day >= key.first) and (key.end is None or day < key.end)


def _holds_header(key: keys.Header, message: _Candidate) -> bool:
    name = key.name.encode("latin-1", "replace")
    raw = message.header
    if (
        key.text.isascii()
        and not any(c in key.text for c in " @")
        and b"=?" not in raw
        and key.text.lower().encode() not in message.lower_header
    ):
        return False  # decoding brings nothing else to light: most messages are done with here
    message.loaded += len(raw)
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
        raw = message.raw()
        if raw is not None:
            known = wanted.encode() in raw
            if not known or key.scope is keys.Scope.TEXT:
                return known
    if key.scope is keys.Scope.TEXT and wanted in message.header_text:
        return True
    return message.body_holds(wanted)


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
            keys.Modseq,
            keys.Object,
            keys.Received,
            keys.Uids,
            keys.And,
            keys.Or,
            keys.Not,
            keys.Fuzzy,
            keys.Recent,
            keys.Numbers,
        ),
        _holds_sql,
    ),
}

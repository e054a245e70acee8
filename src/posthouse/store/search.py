"""Find messages: a tree of search keys (imap/keys.py) to UIDs, slice by slice.

What the columns can tell becomes one SQL condition, and so does what the index (`store/index`) can tell of texts; what
only the message can tell (fields of the header that have no column there, the Date field, texts of emails that are not
in the index yet, and all texts where there is no index) is then looked at message by message, among those that are
left. `find` does a bounded piece of that work and says where to go on, so that a search through a whole mailbox never
holds a reader for long.

Texts are compared without case, decoded: encoded words, transfer encodings, charsets (`store/index/texts.py`). The
reading of a message costs the same for one text and for all texts of the search.
"""

import functools
from array import array
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from posthouse.imap import keys, numbers
from posthouse.imap.dates import start_of
from posthouse.imap.keys import Key
from posthouse.mime import header, sections
from posthouse.mime.fields import zoned_date_time
from posthouse.mime.folding import fold_wanted
from posthouse.mime.scan import Part
from posthouse.store.database import Row, Tx
from posthouse.store.index import fuzzy, texts
from posthouse.store.index.query import Answers, Leaf, leaves
from posthouse.store.select import Message

# UIDs one call finds when columns are enough. Each orders anew the ids that the index gave: 15 of 30 ms for 65,000.
ROWS = 100_000
CANDIDATES = 64  # messages one call reads
BUDGET = 2 * 1024 * 1024  # octets of content after which a call stops
WINDOW = 5000  # UIDs among which one call looks, where the columns do not tell at once
SCORED = 5000  # messages that one call scores
_COLUMNS = "e.uid, e.flags, e.keywords, m.size, m.received, e.savedate, e.modseq, e.email_id, m.thread_id"
_CONTENT = ", m.parts, m.prefix, b.size, b.encoding, b.data, b.file"
_SLOW = ("m.bodystructure", "entry le")  # in conditions: a look at a long value, or at other rows, for each message
_MAX_RANGES = 100  # of UIDs in SQL; beyond that they are looked up here
_FEW = 2000  # emails that are looked up by id, and not on a walk through the mailbox
_DAY = 86_400_000_000
_FAR = (1 << 62) - 1  # microseconds: after everything


class Query(NamedTuple):
    """A tree made ready: the condition in SQL, and what is left to look at."""

    where: str
    args: tuple[object, ...]
    rest: Key | None
    needs_content: bool
    texts: tuple[keys.Text, ...] = ()  # all that `rest` looks for in bodies
    key: Key = keys.All()  # the tree


class Found(NamedTuple):
    """Matching UIDs, ascending, and the UID to go on from; 0: that is all."""

    uids: list[int]
    following: int
    modseq: int  # of the last change of the mailbox that was seen


def prepare(key: Key) -> Query:
    """Split a tree into SQL and the rest, as far as that is known without an index."""
    return _split(fuzzy.spread(key), {})[0]


def find(tx: Tx, mailbox_id: int, query: Query, first: int, last: int) -> Found:
    """Matches among the UIDs from `first` to `last`; a bounded piece of the work."""
    mailbox = tx.one("SELECT highestmodseq, account_id FROM mailbox WHERE id = ?", mailbox_id)
    modseq, account_id = mailbox or (0, 0)
    found: list[int] = []
    following = 0
    for source, part in _parts(tx, account_id, query):
        uids, stopped = _run(tx, mailbox_id, source, part, first, following - 1 if following else last)
        # The UIDs of both parts are ascending: what lies behind the place where one stopped is for the next call.
        if stopped:
            found = [uid for uid in found if uid < stopped]
            following = stopped
        found = sorted(found + uids) if found else uids
    return Found(found, following, modseq)


def relevancy(tx: Tx, mailbox_id: int, query: Query, uids: Sequence[int]) -> list[int]:
    """Scores from 1 to 100 of the first of these UIDs (ascending), what a search with FUZZY found (RFC 6203 section 4):
    a bounded piece of the work, at least one. What is gone has 1."""
    fuzzies = [one for one in leaves(query.key) if isinstance(one, keys.Fuzzy)]
    mailbox = tx.one("SELECT account_id FROM mailbox WHERE id = ?", mailbox_id)
    look = tx.index.look(mailbox[0], fuzzies) if tx.index is not None and mailbox is not None else None
    position = look.position if look is not None and all(one in look.known for one in fuzzies) else 0
    some = array("q", uids[:SCORED])
    entries: dict[int, int] = dict(
        tx.all(
            "SELECT uid, email_id FROM entry WHERE mailbox_id = ? AND uid IN (SELECT value FROM carray(?))",
            mailbox_id,
            tx.numbers(some),
        )
    )
    scores: list[int] = []
    loaded = read = 0
    for uid in some:
        email_id = entries.get(uid, 0)
        if email_id <= position and look is not None:
            found = [look.scores[one].get(email_id, 0) for one in fuzzies]
        else:
            rows = tx.all(
                f"SELECT {_COLUMNS}{_CONTENT} FROM entry e JOIN email m ON m.id = e.email_id "  # noqa: S608
                "JOIN blob b ON b.id = m.blob_id WHERE e.mailbox_id = ? AND e.uid = ?",
                mailbox_id,
                uid,
            )
            candidates = [_Candidate(tx, row, query) for row in rows]
            found = [_score(one, candidate) for candidate in candidates for one in fuzzies]
            loaded += sum(candidate.loaded for candidate in candidates)
            read += 1
        alike = [one for one in found if one]
        # Where nothing was to be alike, all of it is as wanted.
        scores.append(sum(alike) // len(alike) if alike else 100 if not fuzzies else 1)
        if loaded > BUDGET or read == CANDIDATES:
            break
    return scores


class _Source(NamedTuple):
    """Where rows come from."""

    ids: "array[int] | None" = None  # these emails only
    by_id: bool = False  # looked up by their ids
    where: str = "1 = 1"
    args: tuple[object, ...] = ()


def _parts(tx: Tx, account_id: int, query: Query) -> Iterator[tuple[_Source, Query]]:
    """The search, or two that divide the messages among them: those that are in the index, and those that are not."""
    look = None
    if tx.index is not None and query.rest is not None and query.needs_content:
        look = tx.index.look(account_id, leaves(query.rest))
    if look is None or not look.known:
        yield _Source(), query
        return
    last = tx.one("SELECT max(id) FROM email")
    missing = (last[0] or 0) - look.position if last else 0
    if missing > 0:
        few = missing < _FEW
        yield _Source(None, few, "e.email_id > ?" if few else "+e.email_id > ?", (look.position,)), query
    rest, ids = _split(query.key, look.known)
    yield _Source(ids, ids is not None and len(ids) < _FEW, "+e.email_id <= ?", (look.position,)), rest


def _run(tx: Tx, mailbox_id: int, source: _Source, query: Query, first: int, last: int) -> tuple[list[int], int]:
    """Matching UIDs of one part, and the UID to go on from (0: that is all)."""
    if first > last or (source.ids is not None and not source.ids):
        return [], 0
    most = CANDIDATES if query.needs_content else ROWS
    beyond = 0
    if last - first >= WINDOW and any(word in query.where for word in _SLOW):
        last = first + WINDOW - 1
        beyond = last + 1
    columns = _COLUMNS
    tables, where, args = "entry e JOIN email m ON m.id = e.email_id", "", [*source.args, *query.args]
    if query.rest is None:
        columns = "e.uid AS uid"
        if "m." not in query.where:
            tables = "entry e"
    elif query.needs_content:
        columns += _CONTENT
        tables += " JOIN blob b ON b.id = m.blob_id"
    before: list[object] = []
    if source.by_id:  # else SQLite would walk through the mailbox
        tables = tables.replace("entry e", "entry e INDEXED BY entry_by_email", 1)
    if source.ids is not None and source.by_id:
        tables = f"carray(?) AS wanted CROSS JOIN {tables}"
        where = "e.email_id = wanted.value AND "
        before = [tx.numbers(source.ids)]
    elif source.ids is not None:
        where = "+e.email_id IN (SELECT value FROM carray(?)) AND "
        before = [tx.numbers(source.ids)]
    select = (
        f"SELECT {columns} FROM {tables} WHERE {where}"  # noqa: S608
        f"e.mailbox_id = ? AND e.uid BETWEEN ? AND ? AND e.expunged = 0 AND {source.where} AND {query.where} "
        "ORDER BY e.uid LIMIT ?"
    )
    numbered = (tx.numbers(one) if isinstance(one, array) else one for one in args)
    values = (*before, mailbox_id, first, last, *numbered, most)
    if query.rest is None:
        # One value: a row each would hand the interpreter lock to and fro for each.
        (text,) = tx.one(f"SELECT group_concat(uid) FROM ({select})", *values) or ("",)  # noqa: S608
        uids = list(map(int, text.split(","))) if text else []
        return uids, uids[-1] + 1 if len(uids) == most else beyond
    rows = tx.all(select, *values)
    following = rows[-1][0] + 1 if len(rows) == most else beyond
    found: list[int] = []
    loaded = 0
    for number, row in enumerate(rows):
        candidate = _Candidate(tx, row, query)
        if _holds(query.rest, candidate):
            found.append(row[0])
        loaded += candidate.loaded
        if loaded > BUDGET and number + 1 < len(rows):
            return found, rows[number + 1][0]
    return found, following


def _split(key: Key, known: Answers) -> "tuple[Query, array[int] | None]":
    """A tree as SQL and the rest; and the only emails that can match, if the index says which."""
    conditions: list[str] = []
    args: list[object] = []
    rest: list[Key] = []
    only: array[int] | None = None
    for part in key.keys if isinstance(key, keys.And) else (key,):
        bound = _bound(part, known)
        if bound is not None:
            only = bound if only is None else _both(only, bound)
            if isinstance(part, Leaf) and known[part].exact:
                continue
        sql = _sql(part, known)
        if sql is None:
            rest.append(part)
        else:
            conditions.append(sql[0])
            args += sql[1]
    left = None if not rest else rest[0] if len(rest) == 1 else keys.And(tuple(rest))
    where = " AND ".join(conditions) or "1 = 1"
    if left is None:
        return Query(where, tuple(args), None, False, (), key), only
    texts = tuple(dict.fromkeys(one for one in leaves(left) if isinstance(one, keys.Text)))
    return Query(where, tuple(args), left, _needs_content(left), texts, key), only


def _bound(key: Key, known: Answers) -> "array[int] | None":
    """Emails beside which none can match, if the index says which."""
    if isinstance(key, Leaf):
        return known[key].ids if key in known else None
    match key:
        case keys.And(parts):
            bounds = [bound for part in parts if (bound := _bound(part, known)) is not None]
            return functools.reduce(_both, sorted(bounds, key=len)) if bounds else None
        case keys.Or(one, other):
            left, right = _bound(one, known), _bound(other, known)
            return None if left is None or right is None else array("q", sorted({*left, *right}))
    return None


def _both(one: "array[int]", other: "array[int]") -> "array[int]":
    """What is in two ascending arrays."""
    return array("q", sorted(set(one).intersection(other)))


# What SQL can tell


def _sql(key: Key, known: Answers) -> tuple[str, list[object]] | None:
    """The key as a condition with its parameters, or None if it needs the message."""
    if isinstance(key, Leaf) and key in known:
        ids, exact = known[key]
        if not exact:
            return None
        return ("+e.email_id IN (SELECT value FROM carray(?))", [ids]) if ids else ("1 = 0", [])
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
        case keys.Not(inner):
            sql = _sql(inner, known)
            return None if sql is None else (f"NOT ({sql[0]})", sql[1])
        case keys.And(parts):
            return _joined(" AND ", parts, known)
        case keys.Or(one, other):
            return _joined(" OR ", (one, other), known)
        case keys.Label() | keys.Attachment():
            return _stored(key)
    return None


def _stored(key: keys.Label | keys.Attachment) -> tuple[str, list[object]]:
    """Keys that only SQL knows."""
    if isinstance(key, keys.Attachment):
        # As BODYSTRUCTURE has it (imap/structure.py); `is_attached` reads it only where it may find something.
        return (
            "((instr(m.bodystructure, CAST(? AS BLOB)) > 0 OR instr(m.bodystructure, CAST(? AS BLOB)) > 0) "
            "AND is_attached(m.bodystructure))"
        ), ['("attachment" ', '"name']
    name = "lb.name"
    if key.loose:
        name = "replace(replace(lower(lb.name), ' ', '-'), '/', '-')"
    wanted = f"{name} = ?" if not key.use else "lb.special_use = ?"
    return (
        "EXISTS (SELECT 1 FROM entry le JOIN mailbox lb ON lb.id = le.mailbox_id "  # noqa: S608
        f"WHERE le.email_id = e.email_id AND le.expunged = 0 AND {wanted})"
    ), [key.use or key.name]


def _holds_stored(key: keys.Label | keys.Attachment, message: "_Candidate") -> bool:
    condition, args = _stored(key)
    found = message.tx.one(
        f"SELECT 1 FROM entry e JOIN email m ON m.id = e.email_id WHERE e.email_id = ? AND {condition} LIMIT 1",  # noqa: S608
        message.email_id,
        *args,
    )
    return found is not None


def _joined(word: str, parts: tuple[Key, ...], known: Answers) -> tuple[str, list[object]] | None:
    conditions: list[str] = []
    args: list[object] = []
    for part in parts:
        sql = _sql(part, known)
        if sql is None:
            return None
        conditions.append(sql[0])
        args += sql[1]
    return f"({word.join(conditions)})", args


def _needs_content(key: Key) -> bool:
    match key:
        case keys.Header() | keys.Text() | keys.Fuzzy() | keys.Day(keys.Field.SENT):
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

    def __init__(self, tx: Tx, row: Row, query: Query) -> None:
        self.uid, self.flags, self.keywords, self.size, self.received, self.saved = row[:6]
        self.modseq, self.email_id, self.thread_id = row[6:9]
        self.tx = tx
        self.loaded = 0  # octets
        self._message: Message | None = None
        self._parts: bytes = b""
        self._texts = query.texts
        self._held: set[str] | None = None
        if query.needs_content:
            self._parts = row[9]
            self._message = Message(tx, row[10], row[11:15])
            self.loaded = 0 if row[13] is None else self._message.size  # a small one is unpacked whole

    def read(self, start: int, end: int) -> bytes:
        """Octets of the message."""
        assert self._message is not None
        if self._message.size > self.loaded:
            self.loaded += end - start
        return self._message.read(start, end)

    @functools.cached_property
    def root(self) -> Part:
        """The offsets of its parts."""
        return sections.unpack(self._parts).root

    @functools.cached_property
    def header(self) -> bytes:
        """The header, with what was put on top of it."""
        assert self._message is not None
        return self.read(0, min(len(self._message.prefix) + self.root.body, texts.MAX_HEADER))

    @functools.cached_property
    def lower_header(self) -> bytes:
        """The header in lower case, not decoded."""
        return self.header.lower()

    @functools.cached_property
    def header_text(self) -> str:
        """The header decoded and folded."""
        return texts.header_text(self.header)

    @functools.cached_property
    def body(self) -> list[str]:
        """The texts of the body: for FUZZY, which looks at all of them."""
        assert self._message is not None
        return list(texts.body_texts(self, self.root, len(self._message.prefix)))

    def body_holds(self, wanted: str) -> bool:
        """Is the text (folded) in the body?

        All texts of the search are looked for at once: a message is decoded once, however many there are.
        """
        if self._held is None:
            self._held = set()
            open_ = {fold_wanted(key.text) for key in self._texts}
            assert self._message is not None
            for text in texts.body_texts(self, self.root, len(self._message.prefix)):
                held = {one for one in open_ if one in text}
                self._held |= held
                open_ -= held
                self.loaded += len(text) * len(self._texts) // 8  # each text is looked for in all of it
                if not open_:
                    break
        return wanted in self._held


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
    raw = message.header
    plain = raw.isascii() and b"=?" not in raw and key.text.isascii() and key.text.isprintable()
    if plain and not any(c in " @" for c in key.text) and key.text.lower().encode() not in message.lower_header:
        return False  # decoding brings nothing else to light: most messages are done with here
    message.loaded += len(raw)
    text = texts.field(raw, key.name.encode("latin-1", "replace"))
    return text is not None and fold_wanted(key.text) in text


def _holds_text(key: keys.Text, message: _Candidate) -> bool:
    wanted = fold_wanted(key.text)
    if key.scope is keys.Scope.TEXT and wanted in message.header_text:
        return True
    return message.body_holds(wanted)


def _holds_fuzzy(key: keys.Fuzzy, message: _Candidate) -> bool:
    return _score(key, message) > 0


def _score(key: keys.Fuzzy, message: _Candidate) -> int:
    inner = key.key
    if isinstance(inner, keys.Header):
        return fuzzy.score(inner, [(texts.field(message.header, inner.name.encode()) or "", True)])
    assert isinstance(inner, keys.Text)
    found = [(text, True) for text in message.body]
    if inner.scope is keys.Scope.TEXT:
        found += [(text, True) for text in texts.fields(message.header)]
        found.append((message.header_text, False))
    return fuzzy.score(inner, found)


_TESTS: dict[type, Callable[..., bool]] = {
    keys.Header: _holds_header,
    keys.Text: _holds_text,
    keys.Fuzzy: _holds_fuzzy,
    keys.Day: _holds_day,
    keys.Label: _holds_stored,
    keys.Attachment: _holds_stored,
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
            keys.Recent,
            keys.Numbers,
        ),
        _holds_sql,
    ),
}

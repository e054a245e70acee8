"""SEARCH and UID SEARCH (RFC 9051 section 6.4.4, RFC 3501 section 6.4.4): text to a tree of keys.

The tree is bounded: `MAX_KEYS` keys in all, `MAX_TEXTS` of them texts, `MAX_DEPTH` parentheses, ORs and NOTs inside
each other.
"""

import re
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from posthouse.imap import flags as flag_bits
from posthouse.imap import gmail_query, keys
from posthouse.imap.commands.fetch import FetchRequest, fetch_atts, partial_range
from posthouse.imap.commands.store import label
from posthouse.imap.keys import Field, Key, Scope
from posthouse.imap.numbers import HIGHEST, match_set
from posthouse.imap.tokens import BadSyntax, Cursor

MAX_KEYS = 300  # each makes the SQL deeper, and SQLite has an end
MAX_DEPTH = 50
MAX_TEXTS = 100  # each costs a look at every message
MAX_TEXT = 4096  # characters looked for

# UPDATE and CONTEXT are of RFC 5267; CONTEXT is a hint that needs no answer. RELEVANCY is of RFC 6203.
_RETURN = frozenset((b"MIN", b"MAX", b"ALL", b"COUNT", b"SAVE", b"UPDATE", b"CONTEXT", b"RELEVANCY"))
_CHARSETS = {b"UTF-8": "utf-8", b"UTF8": "utf-8", b"US-ASCII": "ascii", b"ASCII": "ascii"}


@dataclass(frozen=True, slots=True)
class Search:
    """SEARCH"""

    key: Key
    uid: bool
    give: frozenset[bytes] | None = None  # RETURN options (RFC 4731, RFC 5182, RFC 5267); None: there was no RETURN
    partial: tuple[int, int] | None = None  # RETURN PARTIAL (RFC 9394)
    condstore: bool = False  # it looks at mod-sequences, and is told of them
    by_number: bool = field(default=False, compare=False)  # it names messages by sequence numbers
    update: FetchRequest | None = None  # what UPDATE tells of new messages (RFC 5465 section 7)


@dataclass(frozen=True, slots=True)
class BadCharset:
    """SEARCH with a charset that we do not know: answered NO [BADCHARSET]."""


def search(cursor: Cursor) -> Search | BadCharset:
    return _search(cursor, False)


def uid_search(cursor: Cursor) -> Search | BadCharset:
    return _search(cursor, True)


def _search(cursor: Cursor, uid: bool) -> Search | BadCharset:
    """search = "SEARCH" [search-return-opts] SP search-program
    search-program = ["CHARSET" SP charset SP] search-key *(SP search-key)"""
    cursor.space()
    give, partial, update = return_options(cursor)
    charset: str | None = "utf-8"
    if word_follows(cursor, b"CHARSET"):
        cursor.word()
        cursor.space()
        charset = charset_of(cursor)
        cursor.space()
    if charset is None:
        return BadCharset()
    found = program(cursor, charset, give is not None and b"RELEVANCY" in give)
    return Search(found.key, uid, give, partial, found.modseq, found.by_number, update)


Options = tuple[frozenset[bytes] | None, tuple[int, int] | None, FetchRequest | None]


def return_options(cursor: Cursor) -> Options:
    """["RETURN" SP "(" [return-option *(SP return-option)] ")" SP]: the options, None if there are none; what PARTIAL
    asks for, and what UPDATE does."""
    if not word_follows(cursor, b"RETURN"):
        return None, None, None
    cursor.word()
    cursor.space()
    options = cursor.items(lambda: _return_option(cursor), 10, empty=True)
    give = frozenset(name for name, _ in options)
    # RFC 5267 section 4.4: one of them, once
    if sum(name in (b"PARTIAL", b"ALL") for name, _ in options) > 1:
        raise BadSyntax("ALL and PARTIAL exclude each other")
    cursor.space()
    values = dict(options)
    return give, values.get(b"PARTIAL"), values.get(b"UPDATE")


def _return_option(cursor: Cursor) -> tuple[bytes, Any]:
    name = cursor.word()
    if name == b"PARTIAL":
        cursor.space()
        return name, partial_range(cursor)
    if name not in _RETURN:
        raise BadSyntax("a RETURN option that we do not know")
    if name == b"UPDATE" and cursor.text[cursor.at : cursor.at + 2].strip().startswith(b"("):
        cursor.skip_space()
        return name, fetch_atts(cursor)
    return name, None


def charset_of(cursor: Cursor) -> str | None:
    """A charset of search texts; None if we do not know it."""
    return _CHARSETS.get(cursor.astring().upper())


class Program(NamedTuple):
    """What is searched for."""

    key: Key
    modseq: bool  # MODSEQ is among it
    by_number: bool  # sequence numbers are


def program(cursor: Cursor, charset: str, scored: bool = False) -> Program:
    """search-key *(SP search-key), up to the end of the command; `scored`: scores are asked for, which only FUZZY has
    (RFC 6203 section 4)"""
    parser = _Parser(cursor, charset)
    found = [parser.key(0)]
    while cursor.skip_space():
        found.append(parser.key(0))
    cursor.end()
    if scored and not parser.fuzzy:
        raise BadSyntax("RELEVANCY is there with FUZZY only")
    return Program(found[0] if len(found) == 1 else keys.And(tuple(found)), parser.modseq, parser.by_number)


def word_follows(cursor: Cursor, word: bytes) -> bool:
    """Does this word, and a blank, stand here?"""
    end = cursor.at + len(word)
    return cursor.text[cursor.at : end].upper() == word and cursor.text[end : end + 1] == b" "


_FLAGS = {
    b"ANSWERED": flag_bits.ANSWERED,
    b"DELETED": flag_bits.DELETED,
    b"DRAFT": flag_bits.DRAFT,
    b"FLAGGED": flag_bits.FLAGGED,
    b"SEEN": flag_bits.SEEN,
}
_SIMPLE: dict[bytes, Key] = {
    b"ALL": keys.All(),
    b"SAVEDATESUPPORTED": keys.All(),
    b"RECENT": keys.Recent(),
    b"NEW": keys.And((keys.Recent(), keys.Flag(flag_bits.SEEN, False))),
    b"OLD": keys.Not(keys.Recent()),
    **{name: keys.Flag(bit, True) for name, bit in _FLAGS.items()},
    **{b"UN" + name: keys.Flag(bit, False) for name, bit in _FLAGS.items()},
}
_FIELDS = {b"BCC", b"CC", b"FROM", b"SUBJECT", b"TO"}
_TEXTS = {b"BODY": Scope.BODY, b"TEXT": Scope.TEXT}
_DATES = {
    b"BEFORE": Field.RECEIVED,
    b"ON": Field.RECEIVED,
    b"SINCE": Field.RECEIVED,
    b"SENTBEFORE": Field.SENT,
    b"SENTON": Field.SENT,
    b"SENTSINCE": Field.SENT,
    b"SAVEDBEFORE": Field.SAVED,  # RFC 8514
    b"SAVEDON": Field.SAVED,
    b"SAVEDSINCE": Field.SAVED,
}
_OBJECTS = {b"EMAILID": ("email", b"M"), b"THREADID": ("thread", b"T")}  # RFC 8474
_GMAIL = {b"X-GM-MSGID": "email", b"X-GM-THRID": "thread"}
_object = re.compile(rb"([A-Z])([0-9]{1,19})").fullmatch
# entry-name of RFC 7162: "/flags/" attr-flag, in quotes; entry-type-req
_entry = re.compile(rb'(?i)"/flags/[^"\r\n]{1,300}" (?:all|shared|priv) ').match
_unsigned = re.compile(rb"[0-9]{1,20}").match


class _Parser:
    """Recursive descent over search-key, with a budget."""

    def __init__(self, cursor: Cursor, charset: str) -> None:
        self._cursor = cursor
        self._charset = charset
        self._left = MAX_KEYS
        self.modseq = False  # MODSEQ was looked for
        self.by_number = False  # sequence numbers were
        self.fuzzy = False  # FUZZY was
        self._texts_left = MAX_TEXTS

    def key(self, depth: int) -> Key:
        """search-key"""
        cursor = self._cursor
        self._left -= 1
        if self._left < 0:
            raise BadSyntax(f"more than {MAX_KEYS} search keys")
        if depth > MAX_DEPTH:
            raise BadSyntax(f"search keys more than {MAX_DEPTH} levels deep")
        first = cursor.peek()
        if first == b"(":
            found = cursor.items(lambda: self.key(depth + 1), MAX_KEYS)
            return found[0] if len(found) == 1 else keys.And(tuple(found))
        if first and match_set(cursor.text, cursor.at):
            wanted = cursor.sequence_set()
            self.by_number = self.by_number or not wanted.saved
            return keys.Numbers(wanted, False)
        name = cursor.word()
        simple = _SIMPLE.get(name)
        if simple is not None:
            return simple
        cursor.space()
        if name == b"NOT":
            return keys.Not(self.key(depth + 1))
        if name == b"FUZZY":
            self.fuzzy = True
            return keys.Fuzzy(self.key(depth + 1))
        if name == b"OR":
            one = self.key(depth + 1)
            cursor.space()
            return keys.Or(one, self.key(depth + 1))
        return self._with_argument(name)

    def _with_argument(self, name: bytes) -> Key:
        cursor = self._cursor
        if name in _FIELDS:
            return keys.Header(name.decode().lower(), self._text())
        if name in _TEXTS:
            return keys.Text(_TEXTS[name], self._text())
        if name == b"HEADER":
            name_of_field = cursor.astring().decode("latin-1").lower()
            cursor.space()
            return keys.Header(name_of_field, self._text())
        if name in (b"KEYWORD", b"UNKEYWORD"):
            return keys.Keyword(cursor.atom().decode("ascii"), name == b"KEYWORD")
        if name in (b"LARGER", b"SMALLER"):
            return keys.Size(name == b"LARGER", cursor.number())
        if name == b"UID":
            return keys.Numbers(cursor.sequence_set(), True)
        if name in (b"UIDAFTER", b"UIDBEFORE"):  # RFC 9738 section 3.2
            uid = cursor.number()
            if not 0 < uid <= HIGHEST:
                raise BadSyntax("a number that is no UID")
            span = (uid + 1, HIGHEST + 1) if name == b"UIDAFTER" else (1, uid)
            return keys.Uids((span,) if span[0] < span[1] else ())
        if name == b"MODSEQ":
            # One mod-sequence stands for all that can change of a message: the name of a flag makes no difference.
            entry = _entry(cursor.text, cursor.at)
            cursor.at = entry.end() if entry is not None else cursor.at
            self.modseq = True
            return keys.Modseq(cursor.number())
        if name in (b"OLDER", b"YOUNGER"):
            seconds = cursor.number()
            if not seconds:
                raise BadSyntax("an interval of no length")
            return keys.Age(name == b"OLDER", min(seconds, keys.MAX_AGE))
        if name in _OBJECTS:
            kind, letter = _OBJECTS[name]
            match = _object(cursor.astring())
            number = int(match[2]) if match is not None and match[1] == letter else 0
            return keys.Object(kind, number if number < 1 << 63 else 0)
        if cursor.gmail and name.startswith(b"X-GM-"):
            return self._gmail(name)
        field_of = _DATES.get(name)
        if field_of is None:
            raise BadSyntax("a search key that we do not know")
        day = cursor.date()
        if name.endswith(b"BEFORE"):
            return keys.Day(field_of, None, day)
        return keys.Day(field_of, day, day + 1 if name.endswith(b"ON") else None)

    def _gmail(self, name: bytes) -> Key:
        """Gmail's X-GM-EXT-1"""
        cursor = self._cursor
        if name in _GMAIL:
            number = int(cursor.take(_unsigned, "a number")[0])
            return keys.Object(_GMAIL[name], number if number < 1 << 63 else 0)
        if name == b"X-GM-LABELS":
            wanted = label(cursor)
            return keys.Not(keys.All()) if wanted is None else gmail_query.key_of(wanted)
        if name != b"X-GM-RAW":
            raise BadSyntax("a search key that we do not know")
        found = gmail_query.parse(self._text())
        self._left -= found.terms
        self._texts_left -= found.texts
        if self._left < 0 or self._texts_left < 0:
            raise BadSyntax("more search keys than this server takes")
        return found.key

    def _text(self) -> str:
        self._texts_left -= 1
        if self._texts_left < 0:
            raise BadSyntax(f"more than {MAX_TEXTS} texts in one search")
        try:
            text = self._cursor.astring().decode(self._charset)
        except UnicodeDecodeError:
            raise BadSyntax(f"a text that is no {self._charset}") from None
        if len(text) > MAX_TEXT:
            raise BadSyntax("a search text that is too long")
        return text

"""SEARCH and UID SEARCH (RFC 9051 section 6.4.4, RFC 3501 section 6.4.4): text to a tree of keys.

The tree is bounded: `MAX_KEYS` keys in all, `MAX_TEXTS` of them texts, `MAX_DEPTH` parentheses, ORs and NOTs inside
each other.
"""

from dataclasses import dataclass

from posthouse.imap import flags as flag_bits
from posthouse.imap import keys
from posthouse.imap.keys import Field, Key, Scope
from posthouse.imap.numbers import match_set
from posthouse.imap.tokens import BadSyntax, Cursor

MAX_KEYS = 300  # each makes the SQL deeper, and SQLite has an end
MAX_DEPTH = 50
MAX_TEXTS = 100  # each costs a look at every message
MAX_TEXT = 4096  # characters looked for

_RETURN = frozenset((b"MIN", b"MAX", b"ALL", b"COUNT", b"SAVE"))
_CHARSETS = {b"UTF-8": "utf-8", b"UTF8": "utf-8", b"US-ASCII": "ascii", b"ASCII": "ascii"}


@dataclass(frozen=True, slots=True)
class Search:
    """SEARCH"""

    key: Key
    uid: bool
    give: frozenset[bytes] | None = None  # RETURN options (RFC 4731, RFC 5182); None: there was no RETURN


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
    give: frozenset[bytes] | None = None
    if _word_follows(cursor, b"RETURN"):
        cursor.word()
        cursor.space()
        give = frozenset(cursor.items(cursor.word, 10, empty=True))
        if not give <= _RETURN:
            raise BadSyntax("a RETURN option that we do not know")
        cursor.space()
    charset = "utf-8"
    if _word_follows(cursor, b"CHARSET"):
        cursor.word()
        cursor.space()
        named = _CHARSETS.get(cursor.astring().upper())
        if named is None:
            return BadCharset()
        charset = named
        cursor.space()
    parser = _Parser(cursor, charset)
    found = [parser.key(0)]
    while cursor.skip_space():
        found.append(parser.key(0))
    cursor.end()
    return Search(found[0] if len(found) == 1 else keys.And(tuple(found)), uid, give)


def _word_follows(cursor: Cursor, word: bytes) -> bool:
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
}


class _Parser:
    """Recursive descent over search-key, with a budget."""

    def __init__(self, cursor: Cursor, charset: str) -> None:
        self._cursor = cursor
        self._charset = charset
        self._left = MAX_KEYS
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
            return keys.Numbers(cursor.sequence_set(), False)
        name = cursor.word()
        simple = _SIMPLE.get(name)
        if simple is not None:
            return simple
        cursor.space()
        if name == b"NOT":
            return keys.Not(self.key(depth + 1))
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
            field = cursor.astring().decode("latin-1").lower()
            cursor.space()
            return keys.Header(field, self._text())
        if name in (b"KEYWORD", b"UNKEYWORD"):
            return keys.Keyword(cursor.atom().decode("ascii"), name == b"KEYWORD")
        if name in (b"LARGER", b"SMALLER"):
            return keys.Size(name == b"LARGER", cursor.number())
        if name == b"UID":
            return keys.Numbers(cursor.sequence_set(), True)
        field_of = _DATES.get(name)
        if field_of is None:
            raise BadSyntax("a search key that we do not know")
        day = cursor.date()
        if name.endswith(b"BEFORE"):
            return keys.Day(field_of, None, day)
        return keys.Day(field_of, day, day + 1 if name.endswith(b"ON") else None)

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

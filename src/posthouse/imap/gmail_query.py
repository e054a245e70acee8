"""Gmail's search language (X-GM-RAW of X-GM-EXT-1) as a tree of search keys: the part of it that docs/imap.md lists.

    query = term *(term); term = ["-"] (group / operator ":" value / text) *("OR" term)
    group = "(" query ")" / "{" query "}"; value = text / "(" texts ")"; text = word / DQUOTE words DQUOTE

OR binds more closely than "and", which nobody writes; "{a b}" is a OR b. An operator of Gmail's that cannot be answered
here is refused, not taken for a word: a search that finds something else is worse than none.
"""

import re
from collections.abc import Callable
from functools import reduce
from typing import NamedTuple

from posthouse.imap import keys
from posthouse.imap.dates import MONTHS, day_number
from posthouse.imap.flags import FLAGGED, SEEN
from posthouse.imap.keys import Field, Key, Scope
from posthouse.imap.labels import IMPORTANT, Label, label_of
from posthouse.imap.tokens import BadSyntax

MAX_TERMS = 100
MAX_DEPTH = 20

_token = re.compile(r'\s*(?:([(){}|]|-(?=[^\s]))|"([^"]*)"?|([A-Za-z_0-9]+):(?=[^\s/])|([^\s(){}|"]+))').match
_date = re.compile(r"(\d{4})[/-](\d{1,2})[/-](\d{1,2})").fullmatch
_american = re.compile(r"(\d{1,2})[/-](\d{1,2})[/-](\d{4})").fullmatch
_seconds = re.compile(r"\d{7,12}").fullmatch
_age = re.compile(r"(\d{1,6})([hdwmy])").fullmatch
_size = re.compile(r"(?i)(\d{1,15})([kmg]?)b?").fullmatch
_UNITS = {"h": 3600, "d": 86_400, "w": 7 * 86_400, "m": 30 * 86_400, "y": 365 * 86_400}
_FACTORS = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3}
_STARRED, _IMPORTANT = keys.Flag(FLAGGED, True), keys.Keyword(IMPORTANT, True)
_STATES: dict[str, Key] = {
    "unread": keys.Flag(SEEN, False),
    "read": keys.Flag(SEEN, True),
    "starred": _STARRED,
    "important": _IMPORTANT,
}
_PLACES = {"inbox": "\\Inbox", "sent": "\\Sent", "draft": "\\Draft", "drafts": "\\Draft", "trash": "\\Trash"}
_PLACES |= {"spam": "\\Spam"}
# Those that mean nothing here, or need what no search key can tell.
_UNKNOWN = frozenset(("filename", "category", "circle", "around", "has", "is"))


class Parsed(NamedTuple):
    """A query, and how much it costs."""

    key: Key
    terms: int
    texts: int


def parse(text: str) -> Parsed:
    """The query as a key; raises `BadSyntax`."""
    parser = _Parser(text)
    key = parser.query(0, "")
    return Parsed(key, parser.terms, parser.texts)


class _Token(NamedTuple):
    mark: str = ""  # one of ( ) { } | -
    text: str = ""
    quoted: bool = False
    operator: str = ""  # without its colon


class _Parser:
    """Recursive descent, with a budget."""

    def __init__(self, text: str) -> None:
        self._tokens = list(_tokens(text))
        self._at = 0
        self.terms = 0
        self.texts = 0

    def _peek(self) -> _Token | None:
        return self._tokens[self._at] if self._at < len(self._tokens) else None

    def query(self, depth: int, end: str, any_of: bool = False) -> Key:
        """Terms up to `end`."""
        if depth > MAX_DEPTH:
            raise BadSyntax("X-GM-RAW: groups are nested too deeply")
        found: list[Key] = []
        joined = False  # OR stood before
        while (token := self._peek()) is not None and token.mark != (end or "end"):
            if token.mark == "|" or (token.text == "OR" and not token.quoted):
                self._at += 1
                joined = bool(found)
                continue
            if token.text == "AND" and not token.quoted:
                self._at += 1
                continue
            term = self._term(depth)
            if joined:
                found[-1] = keys.Or(found[-1], term)
            else:
                found.append(term)
            joined = False
        if end:
            self._at += 1  # a group that is not closed ends with the query, as people write them
        if not found:
            return keys.All()
        if any_of:
            return reduce(keys.Or, found)
        return found[0] if len(found) == 1 else keys.And(tuple(found))

    def _term(self, depth: int) -> Key:
        token = self._tokens[self._at]
        self._at += 1
        self.terms += 1
        if self.terms > MAX_TERMS:
            raise BadSyntax("X-GM-RAW: too many terms")
        if token.mark == "-":
            if self._peek() is None or depth >= MAX_DEPTH:
                raise BadSyntax("X-GM-RAW: nothing follows a minus")
            return keys.Not(self._term(depth + 1))
        if token.mark in ("(", "{"):
            return self.query(depth + 1, ")" if token.mark == "(" else "}", token.mark == "{")
        if token.mark:
            raise BadSyntax("X-GM-RAW: a group ends that did not begin")
        if token.operator:
            return self._operator(token.operator)
        return self._text(token.text)

    def _text(self, text: str) -> Key:
        self.texts += 1
        return keys.Text(Scope.TEXT, text.removeprefix("+") or text)

    def _operator(self, name: str) -> Key:
        values, any_of = self._values()
        if not values:
            raise BadSyntax(f"X-GM-RAW: {name}: needs a value")
        made = [self._with_value(name, value) for value in values]
        self.terms += len(made) - 1
        if self.terms > MAX_TERMS:
            raise BadSyntax("X-GM-RAW: too many terms")
        if len(made) == 1:
            return made[0]
        return reduce(keys.Or, made) if any_of else keys.And(tuple(made))

    def _values(self) -> tuple[list[str], bool]:
        """One value, or those of a group; and whether one of them is enough."""
        token = self._peek()
        if token is None or token.mark not in ("", "(", "{"):
            return [], False
        self._at += 1
        if not token.mark:
            return [f"{token.operator}:{self._rest()}" if token.operator else token.text], False
        end, any_of, found = ")" if token.mark == "(" else "}", token.mark == "{", []
        while (inner := self._peek()) is not None and inner.mark != end:
            self._at += 1
            if inner.mark == "|" or (inner.text == "OR" and not inner.quoted):
                any_of = True
            elif inner.mark or inner.operator:
                raise BadSyntax("X-GM-RAW: a value holds words only")
            else:
                found.append(inner.text)
        self._at += 1
        return found, any_of

    def _rest(self) -> str:
        """What stands behind a colon in a value."""
        token = self._peek()
        if token is None or token.mark or token.operator:
            return ""
        self._at += 1
        return token.text

    def _with_value(self, name: str, value: str) -> Key:
        lower = value.lower()
        header = _HEADERS.get(name)
        if header is not None:
            if lower == "me" and name in ("from", "to", "cc", "bcc"):
                raise BadSyntax(f"X-GM-RAW: {name}:me is not known here: name an address")
            self.texts += len(header)
            found: list[Key] = [keys.Header(one, value) for one in header]
            return reduce(keys.Or, found)
        if name == "has" and lower == "attachment":
            return keys.Attachment()
        if name in ("is", "in", "label") and lower in _STATES:
            return _STATES[lower]
        if name == "in" and lower in ("anywhere", "all"):
            return keys.All()
        if name in ("in", "label"):
            return _label(value)
        made = _MAKERS.get(name)
        if made is not None:
            return made(lower)
        if name in _UNKNOWN:
            raise BadSyntax(f"X-GM-RAW: {name}:{value} is not known here")
        return self._text(f"{name}:{value}")  # no operator: what people write with a colon in it


def _tokens(text: str) -> "list[_Token]":
    found, at = [], 0
    while at < len(text):
        match = _token(text, at)
        if match is None:
            break
        at = match.end()
        mark, phrase, operator, word = match.groups()
        if mark:
            found.append(_Token(mark=mark))
        elif operator is not None:
            found.append(_Token(operator=operator.lower()))
        elif phrase is not None:
            found += [_Token(text=phrase, quoted=True)] if phrase.strip() else []
        else:
            found.append(_Token(text=word))
    return found


def _label(value: str) -> Key:
    system = value if value.startswith("\\") else _PLACES.get(value.lower(), "")
    if system:
        found = label_of(system.encode("ascii", "replace"))
        return key_of(found) if found is not None else keys.Not(keys.All())
    return keys.Label(value.lower().replace(" ", "-").replace("/", "-"), loose=True)


def key_of(label: Label) -> Key:
    """Messages with this label."""
    if label.bit:
        return keys.Flag(label.bit, True)
    if label.keyword:
        return keys.Keyword(label.keyword, True)
    return keys.Label(label.name, label.use)


def _day(value: str) -> int:
    if found := _date(value):
        year, month, day = (int(number) for number in found.groups())
    elif found := _american(value):
        month, day, year = (int(number) for number in found.groups())
    else:
        raise BadSyntax("X-GM-RAW: a date is written 2026/11/28")
    made = day_number(year, MONTHS[month - 1], day) if 1 <= month <= len(MONTHS) else None
    if made is None:
        raise BadSyntax("X-GM-RAW: a date that does not exist")
    return made


def _before(value: str) -> Key:
    if _seconds(value):
        return keys.Received(None, int(value) * 1_000_000)
    return keys.Day(Field.RECEIVED, None, _day(value))


def _after(value: str) -> Key:
    if _seconds(value):
        return keys.Received(int(value) * 1_000_000, None)
    return keys.Day(Field.RECEIVED, _day(value), None)


def _relative(older: bool) -> Callable[[str], Key]:
    def made(value: str) -> Key:
        found = _age(value)
        if found is None or not int(found[1]):
            raise BadSyntax("X-GM-RAW: an age is written 2d, 3m or 1y")
        return keys.Age(older, min(int(found[1]) * _UNITS[found[2]], keys.MAX_AGE))

    return made


def _sized(larger: bool) -> Callable[[str], Key]:
    def made(value: str) -> Key:
        found = _size(value)
        if found is None:
            raise BadSyntax("X-GM-RAW: a size is written 500000, 500K or 10M")
        return keys.Size(larger, min(int(found[1]) * _FACTORS[found[2].lower()], keys.MAX_SIZE))

    return made


_HEADERS: dict[str, tuple[str, ...]] = {
    "from": ("from",),
    "to": ("to", "cc", "bcc"),  # Gmail's "to" means all recipients
    "cc": ("cc",),
    "bcc": ("bcc",),
    "subject": ("subject",),
    "list": ("list-id",),
    "deliveredto": ("delivered-to",),
    "rfc822msgid": ("message-id",),
}
_MAKERS: dict[str, Callable[[str], Key]] = {
    "before": _before,
    "older": _before,
    "after": _after,
    "newer": _after,
    "older_than": _relative(True),
    "newer_than": _relative(False),
    "larger": _sized(True),
    "size": _sized(True),
    "smaller": _sized(False),
}

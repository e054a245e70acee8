"""Authentication-Results (RFC 8601): write the field, read it, and find those that claim to be ours. Pure.

`render` cleans what came from a peer: an address with a line end in it would forge header fields. `parse` is tolerant,
as many servers write what they like; what cannot be read is left out, nothing raises, and the cost is linear. `claims`
is the other way round: a field that some program may take for ours is one, however oddly it is written.
What the results mean is for the callers. ARC-Authentication-Results has the same form behind its instance (`arc.py`).
"""

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from posthouse.mime import header as headers
from posthouse.mime import words
from posthouse.wire.address import to_ascii

NAME = "Authentication-Results"
MAX_FIELD = 65_536  # octets; the scanner ends a header at four times that
MAX_METHODS = 100
MAX_PROPERTIES = 50  # of one method
MAX_CLAIM = 8_192  # octets of a field that is read to find out whose it is; ours have half of that at the most
MAX_FOREIGN = 8  # words in other letters that are looked at in such a field: each costs its conversion to A-labels
MOST = 400  # octets of a value that are written: an address has up to 320
_WIDTH = 76
_LONGEST = 900  # octets of a word

# RFC 8601 section 2.2 takes Keyword of RFC 5321 section 4.1.2; the underscore is in use.
_KEYWORD = r"[A-Za-z0-9][\w-]*+"
_QUOTED = r'"(?:[^"\\]++|\\.)*+"'
_keyword = re.compile(_KEYWORD, re.A).fullmatch
# value = token / quoted-string  (RFC 2045 section 5.1); RFC 6532 adds other letters. "/" and "=" are written by all who
# write a part of b=, and are quoted by those who follow the grammar.
_ATOM = r"[!#-'*+.0-9A-Z^_`a-z{|}~\x80-\U0010ffff-]++"
_token = re.compile(_ATOM).fullmatch
# pvalue = [CFWS] ( ( value / [ [ local-part ] "@" ] domain-name ) ) [CFWS]
_address = re.compile(r"[!#-'*+./0-9=?A-Z^_`a-z{|}~\x80-\U0010ffff-]*+@[0-9A-Za-z.\x80-\U0010ffff-]++").fullmatch
_OPEN = r'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)'  # one that is not closed goes on to the end
_special = re.compile(rf"{_OPEN}|[(;]", re.S).search
_in_comment = re.compile(r"[()]|\\.", re.S).search
_quoted_pair = re.compile(r"\\(.)", re.S).sub
_head = re.compile(rf"\s*+(?:({_QUOTED})|({_ATOM}))(?:\s++(\d{{1,9}}))?\s*+", re.S).fullmatch
_pair = re.compile(
    rf"(?<![\w.-])({_KEYWORD})\s*+(?:/\s*+(\d{{1,9}})\s*+|\.\s*+([\w.-]++)\s*+)?=\s*+({_OPEN}[^\s\"]*+|[^\s\"]++)",
    re.S | re.A,
).finditer
_blanks = re.compile(r"\s+").sub
_unseen = re.compile(r"[\x00-\x1f\x7f\ufeff\u200b-\u200f\u2060]+").sub
_no_word = re.compile(r"[^\w.\x80-\U0010ffff-]+").split


class Method(NamedTuple):
    """The result of one method."""

    method: str  # "spf", "dkim", "dmarc", "arc", "iprev", "auth", … (RFC 8601 section 2.7)
    result: str
    reason: str = ""
    properties: tuple[tuple[str, str], ...] = ()  # ("smtp.mailfrom", "ann@example.org"), …
    comment: str = ""


class Results(NamedTuple):
    """What one field says."""

    authserv_id: str  # who says it; "" where it is missing
    methods: tuple[Method, ...]  # of a version that we know


# Write


def render(authserv_id: str, methods: Iterable[Method], *, name: str = NAME) -> bytes:
    """The field, folded, with its line end. Names of methods and properties are ours, all else may be anybody's."""
    return fold(name, pieces(authserv_id, methods))


def pieces(authserv_id: str, methods: Iterable[Method]) -> list[str]:
    """What stands between the semicolons, each on one line: who says it, then the results, or "none"."""
    return [_value(authserv_id), *(list(map(resinfo, methods)) or ["none"])]


def resinfo(said: Method) -> str:
    """One result on one line: `resinfo` of RFC 8601 section 2.2 without the semicolon."""
    parts = [f"{said.method}={said.result}"]
    if said.comment:
        parts.append(comment(said.comment))
    if said.reason:
        parts.append(f"reason={quoted(said.reason)}")
    parts += [f"{name}={_value(value)}" for name, value in said.properties]
    return " ".join(parts)


def fold(name: str, pieces: Sequence[str]) -> bytes:
    """A field of pieces with semicolons between, each on a line of its own: who says it, then results."""
    lines = [f"{name}:"]
    for number, piece in enumerate(pieces):
        if number:
            lines[-1] += ";"
            lines.append("")
        for word in clean(piece).split(" "):
            if lines[-1] and len(lines[-1]) + len(word) >= _WIDTH:
                lines.append("")
            lines[-1] += " " + _cut(word, _LONGEST)
    return "\r\n".join([*lines, ""]).encode("utf-8", "replace")


def clean(text: str) -> str:
    """A text on one line, blanks that are seen and one at a time."""
    return _unseen("?", _blanks(" ", text)).strip(" ")


def _cut(text: str, octets: int) -> str:
    """So that no line is longer than 998 octets (RFC 5322 section 2.1.1)."""
    return text if len(text) * 4 <= octets else text.encode("utf-8", "replace")[:octets].decode("utf-8", "ignore")


def comment(text: str) -> str:
    """A comment (RFC 5322 section 3.2.2)."""
    return "(" + _cut(clean(text), MOST).replace("\\", "/").replace("(", "[").replace(")", "]") + ")"


def quoted(text: str) -> str:
    """A quoted string (RFC 5322 section 3.2.4)."""
    return '"' + _cut(clean(text), MOST).replace("\\", "\\\\").replace('"', '\\"') + '"'


def _value(text: str) -> str:
    text = _cut(clean(text), MOST)
    return text if _token(text) or _address(text) else quoted(text)


# Read


def parse(value: bytes) -> Results | None:
    """Read the value of a field; None if it is too long, or says nothing. RFC 8601 section 2.2."""
    if len(value) > MAX_FIELD:
        return None
    return read(split(value))


def read(pieces: Sequence[str]) -> Results | None:
    """`parse` for what `split` gave."""
    said = _authserv_id(pieces[0])
    authserv_id, version = said or ("", 1)
    methods = [found for piece in pieces[1 if said else 0 :][:MAX_METHODS] if (found := _method(piece)) is not None]
    if said is None and not methods:
        return None
    # Section 2.2: a version that is not known is not to be understood.
    return Results(authserv_id, tuple(methods) if version == 1 else ())


def gathered(header: bytes, authserv_id: str) -> list[str]:
    """What all fields of one name in a header say, as `pieces` has it: what goes into one ARC-Authentication-Results
    (RFC 8617 section 4.1.1). Results stay as they are written, comments too."""
    own, found = _normal(authserv_id), []
    for value in headers.find_all(header, NAME.encode()):
        first, *results = split(value)
        said = _authserv_id(first)
        if said is not None and _normal(said[0]) == own and len(value) <= MAX_FIELD:
            found += [piece for piece in results if _method(piece) is not None]
    return [_value(authserv_id), *(found[:MAX_METHODS] or ["none"])]


def split(value: bytes) -> list[str]:
    """The pieces between semicolons, which neither quoted strings nor comments have: first who says it, then results.

    Each is on one line as it was written, with single blanks.
    """
    text = headers.unfold(value).decode("utf-8", "replace")
    cut, start, at = [], 0, 0
    while (found := _special(text, at)) is not None:
        at = found.end()
        if found[0] == "(":
            at = _comment_end(text, at)
        elif found[0] == ";":
            cut.append(text[start : at - 1])
            start = at
    cut.append(text[start:])
    return [_blanks(" ", piece).strip(" ") for piece in cut]


def _comment_end(text: str, at: int) -> int:
    """Behind the comment whose "(" stands before `at`; comments nest."""
    depth = 1
    while (found := _in_comment(text, at)) is not None:
        at = found.end()
        if found[0] in "()":
            depth += 1 if found[0] == "(" else -1
            if not depth:
                return at
    return len(text)


def without_comments(text: str, instead: str = " ") -> str:
    """A text without its comments."""
    return _apart(text, instead)[0]


def _apart(text: str, instead: str = " ") -> tuple[str, list[str]]:
    """A text without its comments, and the comments."""
    if "(" not in text:
        return text, []
    pieces, comments, start, at = [], [], 0, 0
    while (found := _special(text, at)) is not None:
        at = found.end()
        if found[0] == "(":
            end = _comment_end(text, at)
            comments.append(text[at : end - 1 if text[end - 1] == ")" else end])
            pieces.append(text[start : found.start()])
            start = at = end
    return instead.join([*pieces, text[start:]]), comments


def _unquoted(text: str) -> str:
    """A value with what its quotes hide; `"a b"@example.org` too."""
    if not text.startswith('"'):
        return text
    inner, closed, rest = text[1:].rpartition('"')
    return _quoted_pair(r"\1", inner if closed else rest) + (rest if closed else "")


def _authserv_id(piece: str) -> tuple[str, int] | None:
    """Who says it, and the version of the field; None if this is no such thing."""
    head = _head(without_comments(piece))
    if head is None:
        return None
    return _unquoted(head[1]) if head[1] else head[2], int(head[3] or 1)


def _method(piece: str) -> Method | None:
    bare, comments = _apart(piece)
    method, reason, result = "", "", ""
    properties: list[tuple[str, str]] = []
    for number, found in enumerate(_pair(bare)):
        key, version, name, value = found.groups()
        value = _unquoted(value)
        if not number:
            if name or bare[: found.start()].strip() or not _keyword(value) or int(version or 1) != 1:
                return None
            method, result = key.lower(), value.lower()
        elif name is None and key.lower() == "reason":
            reason = value
        elif len(properties) < MAX_PROPERTIES:
            properties.append((f"{key}.{name}".lower() if name else key.lower(), value))
    if not method:
        return None
    return Method(method, result, reason, tuple(properties), comments[0].strip() if comments else "")


# Whose?


def claims(name: bytes, value: bytes, ours: str) -> bool:
    """Whether a field claims to be written by us, whose authserv-id is `ours`. One that comes from outside is forged,
    and has to go (RFC 8601 section 5).

    Case, folds, comments, quotes, a last dot and the form of an international name make no difference. A field that is
    wrong counts as ours if anyone may see our name in the place of the authserv-id, and so does one that would take
    long to read: nobody writes such a field, and the event loop waits while it is read.
    """
    if name.strip().lower() != b"authentication-results":
        return False
    if len(value) > MAX_CLAIM:
        return True
    own = _normal(ours)
    text = _blanks(" ", headers.unfold(value).decode("utf-8", "replace"))
    said = _authserv_id(split(value)[0])
    if said is not None and text.isprintable():
        return _normal(said[0]) == own
    # Whoever ignores what is wrong may skip comments or not, and decode words. Results begin with the first "=".
    text = words.decode(headers.unfold(value)) if "=?" in text else text
    for seen in (text, without_comments(text, "")):
        seen = _unseen("", seen.partition("=")[0].replace('"', "").replace("\\", ""))
        found = set(_no_word(seen))
        if sum(not word.isascii() for word in found) > MAX_FOREIGN or any(_normal(word) == own for word in found):
            return True
    return False


def _normal(name: str) -> str:
    name = name.strip().lower().rstrip(".")
    return name if name.isascii() or len(name) > 255 else to_ascii(name) or name

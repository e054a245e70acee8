"""Search keys as questions to the index.

A key that looks for a text becomes a `Question`, or None if the index cannot tell: then messages are read. The answer
is exact, or (`exact` is False) holds every match and maybe more, which reading them decides.
"""

import re
from array import array
from collections.abc import Iterator
from typing import NamedTuple

from posthouse.imap import keys
from posthouse.imap.keys import Key
from posthouse.mime.folding import fold_wanted
from posthouse.store.index.rows import is_unspaced

GRAM = 3  # characters in a token
MAX_EXACT = 64  # characters that the index is asked for; of longer texts it is the beginning

_COLUMNS = {"subject": "subject", "from": "from_", "to": "to_", "cc": "cc", "bcc": "bcc"}
_plain_name = re.compile(r"[a-z0-9_-]{1,80}").fullmatch


class Question(NamedTuple):
    """What is asked of which tables; the answers are one."""

    asked: tuple[tuple[str, str], ...]  # table, what FTS5 is to match
    exact: bool


class Known(NamedTuple):
    """What the index knows of a key: the emails that match, ascending."""

    ids: "array[int]"
    exact: bool


Leaf = keys.Header | keys.Text | keys.Fuzzy
Answers = dict[Leaf, Known]


def leaves(key: Key) -> Iterator[Leaf]:
    """The keys of a tree (`fuzzy.spread`) that look for texts."""
    match key:
        case keys.Header() | keys.Text() | keys.Fuzzy():
            yield key
        case keys.Not(inner):
            yield from leaves(inner)
        case keys.And(parts):
            for part in parts:
                yield from leaves(part)
        case keys.Or(one, other):
            yield from leaves(one)
            yield from leaves(other)


def union(found: "list[array[int]]") -> "array[int]":
    """What is in any of these."""
    return found[0] if len(found) == 1 else array("q", sorted(set().union(*found)))


def question(key: keys.Header | keys.Text) -> Question | None:
    """What to ask for a key."""
    wanted = fold_wanted(key.text)
    if isinstance(key, keys.Text):
        return _in_text(wanted, key.scope)
    column = _COLUMNS.get(key.name)
    if wanted and column is not None:
        return _in_columns(wanted, {"field": (column,)}, column)
    if not _plain_name(key.name):
        return None
    # Every field begins with a line feed, its name and a colon; whether the text is in that field, its header tells.
    named = _phrase(f"\n{key.name}:")
    if not wanted:
        return Question((("head", f"header : {named}"),), True)
    # Of addresses another form is searched too, which does not stand in the header.
    if len(wanted) < GRAM or key.name in ("sender", "reply-to"):
        return Question((("head", f"header : {named}"),), False)
    return Question((("head", f"header : ({named} AND {_phrase(wanted[:MAX_EXACT])})"),), False)


def _in_text(wanted: str, scope: keys.Scope) -> Question | None:
    if not wanted:
        return None
    if scope is keys.Scope.BODY:
        return _in_columns(wanted, {"body": ("texts",)}, "texts")
    return _in_columns(wanted, {"head": ("header",), "body": ("texts",)}, "header texts")


def _in_columns(wanted: str, tables: dict[str, tuple[str, ...]], paired: str) -> Question | None:
    if len(wanted) < GRAM:
        if not is_unspaced(wanted):
            return None
        return Question((("pair", f"{{{paired}}} : {_phrase(' '.join(wanted))}"),), True)
    asked = _phrase(wanted[:MAX_EXACT])
    return Question(
        tuple((table, f"{column} : {asked}") for table, columns in tables.items() for column in columns),
        len(wanted) <= MAX_EXACT,
    )


def _phrase(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'

"""Lines of a story laid out for a screen: times before them, folded to a width, nothing in them that a terminal would
execute. Pure: what comes out are rows of (text, style); who prints them gives the styles their colours.

What others said (replies, greetings) is hostile: every character that does not print is shown as an escape.
"""

import datetime
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from posthouse.cli.output import clean

Part = tuple[str, str]  # text and style: "", "good", "bad", "wait", "dim" or "head"
NARROW = 40  # columns: where there is less than that for the text, lines are not folded
_CLOCK, _SINCE = 12, 12  # columns of the two times
BEFORE = _CLOCK + _SINCE + 3


class Line(NamedTuple):
    """One line: at a time (microseconds), or one more of the line before (0)."""

    at: int
    parts: tuple[Part, ...]
    depth: int = 0


def rows(lines: Iterable[Line], width: int | None) -> Iterator[list[Part]]:
    """The rows of timed lines. `width`: columns of the screen, None if nobody minds."""
    begun, day = 0, ""
    for line in lines:
        first = [(" " * BEFORE, "")]
        if line.at:
            begun = begun or line.at
            if (date := clock(line.at)[:10]) != day:
                day = date
                yield [(f"{day} (UTC)", "head")]
            first = [(f"{clock(line.at)[11:]} {since(line.at - begun):>{_SINCE}}  ", "dim")]
        yield from _folded(first, line, width)


def plain(lines: Iterable[Line], width: int | None) -> Iterator[list[Part]]:
    """The rows of lines without times."""
    for line in lines:
        yield from _folded([], line, width)


def _folded(first: list[Part], line: Line, width: int | None) -> Iterator[list[Part]]:
    before = sum(len(text) for text, _ in first)
    indent = " " * (2 * line.depth)
    room = width - before - len(indent) if width is not None else None
    parts = [(clean(text).replace("\n", " "), style) for text, style in line.parts]
    pieces = [parts] if room is None or room < NARROW else fold(parts, room)
    for number, piece in enumerate(pieces):
        hang = "  " if number else ""
        yield [*(first if not number else [(" " * before, "")] * bool(before)), (indent + hang, ""), *piece]


def fold(parts: Sequence[Part], room: int) -> list[list[Part]]:
    """Parts in rows of `room` columns, the second and later ones with two less; parted at blanks where that leaves no
    row half empty."""
    text = "".join(text for text, _ in parts)
    found: list[list[Part]] = []
    start = 0
    while len(text) - start > room:
        blank = text.rfind(" ", start, start + room + 1)
        end = blank if blank > start + room // 2 else start + room
        found.append(_cut(parts, start, end))
        start = end + (end == blank)
        room -= 2 * (len(found) == 1)
    return [*found, _cut(parts, start, len(text))]


def _cut(parts: Sequence[Part], start: int, end: int) -> list[Part]:
    """What of parts lies between two places."""
    found, at = [], 0
    for text, style in parts:
        if piece := text[max(0, start - at) : max(0, end - at)]:
            found.append((piece, style))
        at += len(text)
    return found


def clock(at: int) -> str:
    """A time (microseconds) in UTC: "2026-09-21 14:13:20.123"."""
    moment = datetime.datetime.fromtimestamp(at // 1_000_000, datetime.UTC)
    return f"{moment:%Y-%m-%d %H:%M:%S}.{at // 1000 % 1000:03}"


def since(span: int) -> str:
    """A span (microseconds) after the beginning: "+140 ms", "+1 min 5 s"."""
    return ("+" if span >= 0 else "-") + lasted(abs(span))


def lasted(span: int) -> str:
    """A span (microseconds) in one or two units."""
    ms = span // 1000
    if ms < 1000:
        return f"{ms} ms"
    if ms < 60_000:
        return f"{ms / 1000:.1f} s"
    seconds = ms // 1000
    for unit, name, smaller, small_name in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if seconds >= unit:
            rest = seconds % unit // smaller
            return f"{seconds // unit} {name} {rest} {small_name}" if rest else f"{seconds // unit} {name}"
    return f"{seconds} s"

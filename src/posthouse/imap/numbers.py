"""Sets of sequence numbers and UIDs: read, write, and find in a list of UIDs.

A set is kept as the ranges the client wrote; `*` is `LAST`. What messages it means is decided
against a view (`view.py`), as index ranges: so `1:*` over a million messages is one pair.
"""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from typing import NamedTuple

LAST = 0  # stands for "*": no message has the number or UID 0
HIGHEST = 0xFFFFFFFF

Ranges = list[tuple[int, int]]


class SequenceSet(NamedTuple):
    """Ranges as written, `LAST` for "*"; or, with `saved`, the result of the last SEARCH (RFC 9051
    section 6.4.4.1)."""

    ranges: tuple[tuple[int, int], ...]
    saved: bool = False


SAVED = SequenceSet((), True)

# RFC 9051 section 9: sequence-set = (seq-number / seq-range) ["," sequence-set] / seq-last-command
match_set = re.compile(
    rb"\$|(?:[0-9]{1,10}|\*)(?::(?:[0-9]{1,10}|\*))?(?:,(?:[0-9]{1,10}|\*)(?::(?:[0-9]{1,10}|\*))?)*"
).match
_span = re.compile(rb"([0-9*]+)(?::([0-9*]+))?").findall


def parse_set(text: bytes) -> SequenceSet | None:
    """A set that `match_set` has found; None if a number is 0 or needs more than 32 bits."""
    if text == b"$":
        return SAVED
    ranges: list[tuple[int, int]] = []
    for first, last in _span(text):
        low = LAST if first == b"*" else int(first)
        high = low if not last else LAST if last == b"*" else int(last)
        if (low == LAST and first != b"*") or (high == LAST and (last or first) != b"*"):
            return None
        if low > HIGHEST or high > HIGHEST:
            return None
        ranges.append((low, high))
    return SequenceSet(tuple(ranges))


def merge(ranges: Iterable[tuple[int, int]]) -> Ranges:
    """Half-open ranges, sorted, without overlaps and empty ones; neighbours become one."""
    merged: Ranges = []
    for low, high in sorted(ranges):
        if low >= high:
            continue
        if merged and low <= merged[-1][1]:
            if high > merged[-1][1]:
                merged[-1] = (merged[-1][0], high)
        else:
            merged.append((low, high))
    return merged


def by_number(wanted: SequenceSet, count: int, strict: bool = True) -> Ranges | None:
    """Index ranges (from 0, half open) of sequence numbers in a view of `count` messages.

    None if the set names a message that is not there: a client that knows the view never does. Without `strict`
    (SEARCH, where it just does not match) such a message is passed over. A range that ends beyond the last message
    is cut short, and one with "*" is fine in an empty mailbox.
    """
    found: Ranges = []
    for low, high in wanted.ranges:
        starred = LAST in (low, high)
        low, high = low or count, high or count
        if low > high:
            low, high = high, low
        if low > count or low == 0:
            if not starred and strict:
                return None
            if not starred:
                continue
            low = max(count, 1)
        found.append((low - 1, min(high, count)))
    return merge(found)


def by_uid(wanted: SequenceSet, uids: Sequence[int], count: int) -> Ranges:
    """Index ranges (from 0, half open) of UIDs in the first `count` of `uids`; what is not there is passed
    over. "*" is the highest UID there is, so a range with it always holds the last message."""
    if not count:
        return []
    last = uids[count - 1]
    found: Ranges = []
    for low, high in wanted.ranges:
        low, high = low or last, high or last
        if low > high:
            low, high = high, low
        found.append((bisect_left(uids, low, 0, count), bisect_right(uids, high, 0, count)))
    return merge(found)


def of_uids(wanted: SequenceSet, last: int) -> Ranges:
    """UIDs as half-open ranges, "*" being `last`, whether there are messages of these UIDs or not."""
    pairs = [((low or last), (high or last)) for low, high in wanted.ranges]
    return merge((min(pair), max(pair) + 1) for pair in pairs)


def cut(ranges: Ranges, first: int, last: int) -> Ranges:
    """Those of the values in half-open ranges that stand at the places from `first` to `last`, counted from 1, or
    from the end if they are below 0 (RFC 9394 section 3.1)."""
    count = total(ranges)
    low, high = (first - 1, last) if first > 0 else (count + last, count + first + 1)
    low, found = max(low, 0), []
    for begin, end in ranges:
        size = end - begin
        if high <= 0:
            break
        if low < size:
            found.append((begin + low, begin + min(size, high)))
        low, high = max(low - size, 0), high - size
    return found


def common(one: Ranges, other: Ranges) -> Ranges:
    """What lies in both of two lists of merged, half-open ranges."""
    found: Ranges = []
    at = 0
    for low, high in one:
        while at < len(other) and other[at][1] <= low:
            at += 1
        place = at
        while place < len(other) and other[place][0] < high:
            found.append((max(low, other[place][0]), min(high, other[place][1])))
            place += 1
    return found


def contains(ranges: Sequence[tuple[int, int]], value: int) -> bool:
    """True if the value lies in one of the merged, half-open ranges."""
    at = bisect_right(ranges, (value, HIGHEST + 2)) - 1
    return at >= 0 and ranges[at][0] <= value < ranges[at][1]


def total(ranges: Iterable[tuple[int, int]]) -> int:
    """How many values half-open ranges hold."""
    return sum(high - low for low, high in ranges)


def runs(values: Iterable[int]) -> Ranges:
    """Ascending values as half-open ranges of neighbours."""
    found: Ranges = []
    start = end = -1
    for value in values:
        if value != end:
            if end >= 0:
                found.append((start, end))
            start = value
        end = value + 1
    if end >= 0:
        found.append((start, end))
    return found


def format_ranges(ranges: Iterable[tuple[int, int]]) -> bytes:
    """Half-open ranges as a set: [(1, 4), (7, 8)] is 1:3,7."""
    return b",".join(b"%d" % low if high == low + 1 else b"%d:%d" % (low, high - 1) for low, high in ranges)


def format_set(values: Iterable[int]) -> bytes:
    """Ascending values as a set: 1, 2, 3, 7 is 1:3,7."""
    return format_ranges(runs(values))

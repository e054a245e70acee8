"""LIST patterns (RFC 9051 section 6.3.9): "*" stands for anything, "%" for anything within one level.

Matching is linear in the name: the places in the pattern that the name read so far may lead to are the bits of one
number, and a letter moves all of them at once. A pattern is made ready once and then asked about many names.
"""

import re
from collections.abc import Callable
from functools import partial

from posthouse.imap.names import SEPARATOR, canonical

MAX_WILDCARDS = 100
_RUN = re.compile(r"[*%]{2,}")  # neighbours are as one: "*" if one of them is

Matcher = Callable[[str], bool]


def full(reference: str, pattern: str) -> str:
    """The pattern in the namespace: a reference is just put before it, and neighbours of "*" that add nothing
    go. INBOX is one name in any case."""
    joined = canonical(reference + pattern)
    if joined[:5].upper() == "INBOX" and joined[5:6] in ("*", "%"):
        joined = "INBOX" + joined[5:]
    return _RUN.sub(_merged, joined)


def _merged(run: re.Match[str]) -> str:
    return "*" if "*" in run[0] else "%"


def matcher(pattern: str) -> Matcher:
    """A function that says whether a whole name matches. Patterns with too many wildcards match nothing."""
    if "*" not in pattern and "%" not in pattern:
        return pattern.__eq__
    if pattern == "*":
        return lambda _: True
    if sum(map(pattern.count, "*%")) > MAX_WILDCARDS:
        return lambda _: False
    pattern = _RUN.sub(_merged, pattern)
    here: dict[str, int] = {}  # letter: the places where it stands in the pattern
    for place, letter in enumerate(pattern):
        here[letter] = here.get(letter, 0) | 1 << place
    everything, level = here.pop("*", 0), here.pop("%", 0)
    return partial(_walk, here, everything, everything | level, len(pattern))


def _walk(here: dict[str, int], everything: int, wild: int, end: int, name: str) -> bool:
    places = 1 | (wild & 1) << 1  # a wildcard may stand for nothing
    for letter in name:
        kept = places & (everything if letter == SEPARATOR else wild)
        places = kept | (places & here.get(letter, 0)) << 1
        places |= (places & wild) << 1
        if not places:
            return False
    return bool(places >> end & 1)

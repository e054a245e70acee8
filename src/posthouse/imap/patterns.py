"""LIST patterns (RFC 9051 section 6.3.9): "*" stands for anything, "%" for anything within one level.

Matching is linear in the name for each wildcard, never exponential: a pattern becomes a set of places in it
that the name may have reached.
"""

from posthouse.imap.names import SEPARATOR, canonical

MAX_WILDCARDS = 100


def full(reference: str, pattern: str) -> str:
    """The pattern in the namespace: a reference is just put before it, and neighbours of "*" that add nothing
    go. INBOX is one name in any case."""
    joined = canonical(reference + pattern)
    if joined[:5].upper() == "INBOX" and joined[5:6] in ("*", "%"):
        joined = "INBOX" + joined[5:]
    while "**" in joined:
        joined = joined.replace("**", "*")
    while "%%" in joined:
        joined = joined.replace("%%", "%")
    return joined


def matches(pattern: str, name: str) -> bool:
    """Does the whole name match? Patterns with too many wildcards match nothing."""
    if "*" not in pattern and "%" not in pattern:
        return pattern == name
    if pattern == "*":
        return True
    if sum(map(pattern.count, "*%")) > MAX_WILDCARDS:
        return False
    # Places in the pattern that the name read so far may lead to; after a wildcard also the place behind it.
    places = _open(pattern, {0})
    for letter in name:
        after: set[int] = set()
        for place in places:
            if place == len(pattern):
                continue
            expected = pattern[place]
            if expected == "*" or (expected == "%" and letter != SEPARATOR):
                after.add(place)
            elif expected == letter:
                after.add(place + 1)
        if not after:
            return False
        places = _open(pattern, after)
    return len(pattern) in places


def _open(pattern: str, places: set[int]) -> set[int]:
    """Wildcards may stand for nothing."""
    found = set(places)
    for place in places:
        while place < len(pattern) and pattern[place] in "*%":
            place += 1
            found.add(place)
    return found

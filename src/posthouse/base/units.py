"""Sizes and spans of time as people write them: "50 MiB", "5 min", "1 h 30 min".

The largest unit understood is the terabyte and the week. What is not understood is a ValueError
whose text says what would be.
"""

import re

_SIZES = {
    "": 1,
    "b": 1,
    "k": 1 << 10,
    "kb": 10**3,
    "kib": 1 << 10,
    "m": 1 << 20,
    "mb": 10**6,
    "mib": 1 << 20,
    "g": 1 << 30,
    "gb": 10**9,
    "gib": 1 << 30,
    "t": 1 << 40,
    "tb": 10**12,
    "tib": 1 << 40,
}

_SPANS = {
    "": 1.0,
    "ms": 0.001,
    **dict.fromkeys(("s", "sec", "second", "seconds"), 1.0),
    **dict.fromkeys(("m", "min", "minute", "minutes"), 60.0),
    **dict.fromkeys(("h", "hour", "hours"), 3600.0),
    **dict.fromkeys(("d", "day", "days"), 86400.0),
    **dict.fromkeys(("w", "week", "weeks"), 604800.0),
}

_UNITS = (
    *((1 << 10 * power, f"{prefix}iB") for power, prefix in enumerate("KMGT", 1)),
    *((1000**power, f"{prefix}B") for power, prefix in enumerate("KMGT", 1)),
)

_size = re.compile(r"([0-9]{1,19}(?:\.[0-9]{1,6})?) ?([a-z]{0,3})", re.IGNORECASE).fullmatch
_span = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,6})?) ?([a-z]{0,7})", re.IGNORECASE)


def parse_size(value: object) -> object:
    """Bytes from a number or from text like "50 MiB" (1024 based) or "50 MB" (1000 based)."""
    if not isinstance(value, str):
        return value
    if (found := _size(value.strip())) and (unit := _SIZES.get(found[2].lower())):
        return int(float(found[1]) * unit) if "." in found[1] else int(found[1]) * unit
    raise ValueError(f'{value!r} is not a size; write bytes as a number, or text like "50 MiB"')


def parse_span(value: object) -> object:
    """Seconds from a number or from text like "5 min" or "1 h 30 min"."""
    if not isinstance(value, str):
        return value
    total, at, text = 0.0, 0, value.strip()
    while at < len(text) and (found := _span.match(text, at)):
        unit = _SPANS.get(found[2].lower())
        if unit is None or (not found[2] and (at or found.end() < len(text))):
            break
        total += float(found[1]) * unit
        at = found.end()
        while at < len(text) and text[at] == " ":
            at += 1
    if at < len(text) or not text:
        raise ValueError(f'{value!r} is not a time; write seconds as a number, or text like "5 min" or "1 h"')
    return total


def format_size(size: int) -> str:
    """The exact text with the smallest number: 52428800 is "50 MiB", 2000000000 is "2 GB", as somebody wrote it; what
    is no whole number of units stays bytes."""
    amount, name = min(
        ((size // unit, name) for unit, name in _UNITS if size >= unit and size % unit == 0), default=(size, "B")
    )
    return f"{amount} {name}"


def format_span(seconds: float) -> str:
    """The shortest exact text: 300 is "5 min", 5400 is "90 min", 2.5 is "2.5 s"."""
    for unit, name in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= unit and seconds % unit == 0:
            return f"{int(seconds // unit)} {name}"
    return f"{seconds:.12g} s"


def human_size(size: int) -> str:
    """A size for people, rounded: "1.4 MiB"."""
    amount = float(size)
    for name in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{amount:.0f} {name}" if name == "B" or amount >= 100 else f"{amount:.1f} {name}"
        amount /= 1024
    return f"{amount:.1f} TiB"

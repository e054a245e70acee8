"""Ids that sort by time and fit a database integer, and their text for people.

An id is 63 bits: milliseconds since 1970 (43 bits, until 2248) and 20 bits that start at random
in each millisecond-window and count up. On the wire and on the screen it is 13 letters and digits
without I, L, O and U (Crockford's base 32), which survive being read out on the telephone.
"""

import random
import secrets

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_VALUES = {letter: value for value, letter in enumerate(_ALPHABET)} | {"I": 1, "L": 1, "O": 0}
_DIGITS = [_ALPHABET[i >> 5] + _ALPHABET[i & 31] for i in range(1024)]


class IdSource:
    """Makes increasing ids. One process has one; two processes differ by their random start."""

    def __init__(self) -> None:
        self._last = 0
        self._bits = random.Random(secrets.randbits(64)).getrandbits  # noqa: S311 - ids are no secrets

    def next(self, now: int) -> int:
        """A new id for the time `now` (microseconds), greater than any this source gave before."""
        base = (now // 1000) << 20
        self._last = self._last + 1 if self._last >= base else base | self._bits(19)
        return self._last


def to_text(number: int) -> str:
    """The 13 characters that stand for an id."""
    d = _DIGITS
    return (
        _ALPHABET[(number >> 60) & 31]
        + d[(number >> 50) & 1023]
        + d[(number >> 40) & 1023]
        + d[(number >> 30) & 1023]
        + d[(number >> 20) & 1023]
        + d[(number >> 10) & 1023]
        + d[number & 1023]
    )


def from_text(text: str) -> int | None:
    """The id that `text` stands for, or None if it is not one."""
    number = 0
    if len(text) != 13:
        return None
    for letter in text.upper():
        value = _VALUES.get(letter)
        if value is None:
            return None
        number = number << 5 | value
    return number if number < 1 << 63 else None

"""Flags: system flags are bits, keywords are words (RFC 9051 section 2.3.2).

The bits are those of store/model.py (the store lies a floor above; tests/imap/test_flags.py compares them).
"""

from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

SEEN, ANSWERED, FLAGGED, DELETED, DRAFT = 1, 2, 4, 8, 16
_NAMES = (
    (ANSWERED, b"\\Answered"),
    (FLAGGED, b"\\Flagged"),
    (DELETED, b"\\Deleted"),
    (SEEN, b"\\Seen"),
    (DRAFT, b"\\Draft"),
)
_BITS = {name.lower(): bit for bit, name in _NAMES}

# Keywords with a registered spelling; clients compare without case, people look at them.
_REGISTERED = {
    word.lower(): word
    for word in (
        "$Forwarded",
        "$MDNSent",
        "$Junk",
        "$NotJunk",
        "$Phishing",
        "$SubmitPending",
        "$Submitted",
        "$Important",
    )
}
MAX_KEYWORD = 255
USUAL = 200  # characters of keywords


class Flags(NamedTuple):
    """What a client named: system flags as bits, and keywords."""

    bits: int = 0
    keywords: tuple[str, ...] = ()


def flags_of(names: Iterable[bytes]) -> Flags | str:
    """The flags that the names of a flag list mean, or what is wrong with one of them.

    \\Recent belongs to the server; clients that copy messages send it back to us, and mean nothing by it.
    """
    bits = 0
    keywords: dict[str, str] = {}
    for name in names:
        if name[:1] == b"\\":
            bit = _BITS.get(name.lower())
            if bit is not None:
                bits |= bit
            elif name.lower() != b"\\recent":
                return "no such system flag"
        elif len(name) > MAX_KEYWORD:
            return "a keyword that is too long"
        else:
            word = name.decode("ascii")
            keywords.setdefault(word.lower(), _REGISTERED.get(word.lower(), word))
    return Flags(bits, tuple(keywords.values()))


def flag_text(bits: int, keywords: str, recent: bool = False) -> bytes:
    """Flags of a message as they stand in the parentheses of FLAGS (). Few and short keywords are remembered."""
    made = _flag_text if len(keywords) <= USUAL else _flag_text.__wrapped__
    return made(bits, keywords, recent)


@lru_cache(4096)
def _flag_text(bits: int, keywords: str, recent: bool) -> bytes:
    words = [name for bit, name in _NAMES if bits & bit]
    if keywords:
        words.append(keywords.encode())
    if recent:
        words.append(b"\\Recent")
    return b" ".join(words)

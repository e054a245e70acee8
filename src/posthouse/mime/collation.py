"""The order of texts: i;unicode-casemap (RFC 5051), which RFC 5256 sorts by.

A text is mapped once, when its message comes in; what is stored compares octet by octet. It is no order that a
dictionary has, but the one that all servers give.
"""

import unicodedata

MAX_KNOWN = 20_000  # characters that are remembered: more than any language has, fewer than all of them
_HANGUL = range(0xAC00, 0xD7A4)


class _Mapping(dict[int, str]):
    """What becomes of each character: its titlecase, decomposed as far as it can be (RFC 5051 section 2)."""

    def __missing__(self, code: int) -> str:
        char = chr(code)
        title = char.title()
        if len(title) == 1:  # longer ones are special casing, which the RFC does not use
            char = title
        # RFC 5051 goes by the property of UnicodeData.txt: syllables of Hangul have none there.
        mapped = char if ord(char) in _HANGUL else unicodedata.normalize("NFKD", char)
        if len(self) < MAX_KNOWN:
            self[code] = mapped
        return mapped


_mapping = _Mapping()


def casemap(text: str) -> bytes:
    """The octets that stand for a text in comparisons."""
    if text.isascii():
        return text.upper().encode("ascii")
    return text.translate(_mapping).encode("utf-8", "replace")

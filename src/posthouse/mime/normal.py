"""Unicode normalization in bounded time.

`unicodedata.normalize` sorts the marks on a character by insertion and holds the interpreter all the while: half a
million of them in a row, one message of 1 MB, stopped the whole server for 20 seconds. So a long text is normalized in
slices that begin with a character which nothing before it can change. In a run of marks that is longer than a slice,
which no honest text has, each slice has its marks in order. Nothing raises.
"""

import re
import unicodedata
from typing import Literal

SLICE = 256  # characters
# Letters that no mark is, and that never become one with what stands before them: ASCII, Latin, Greek, Cyrillic,
# Hebrew, Arabic, consonants of Devanagari, Thai, Kana, ideographs, syllables of Hangul.
_find_start = re.compile(
    "[ -~\n\u00c0-\u02af\u0370-\u0482\u048a-\u052f\u05d0-\u05ea\u0621-\u064a\u0915-\u0939\u0e01-\u0e30"
    "\u3041-\u3096\u30a1-\u30fa\u3400-\u9fff\uac00-\ud7a3]"
).search


def normalize(form: Literal["NFC", "NFKC"], text: str) -> str:
    """The text in a normal form of Unicode (UAX #15)."""
    if len(text) <= SLICE:
        return unicodedata.normalize(form, text)
    out: list[str] = []
    at = 0
    while at < len(text):
        found = _find_start(text, at + SLICE, at + 2 * SLICE)
        end = found.start() if found is not None else at + 2 * SLICE
        out.append(unicodedata.normalize(form, text[at:end]))
        at = end
    return "".join(out)

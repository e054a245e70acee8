"""Text made ready for comparison: without case, in one form of Unicode, every run of white space as one blank.

What is searched and what is searched for go through here, whether an index or a scan compares them: so both say the
same. A folded text holds no white space but single blanks, and none at its ends; a line feed can part texts that must
not run into each other. Nothing raises, and nothing holds the interpreter for long: long texts go piece by piece.
"""

import re

from posthouse.mime.normal import normalize

PIECE = 64 * 1024  # characters folded at once

_half = re.compile("[\ud800-\udfff]")  # of a pair of surrogates: nothing that UTF-8 can say
_find_blank = re.compile(r"\s").search


def fold(text: str) -> str:
    """A text to search in."""
    if len(text) <= PIECE:
        return " ".join(_plain(text).split())
    return "".join(_folded(text)).strip(" ")


def _folded(text: str) -> list[str]:
    """A long text in pieces, cut where there is white space; where there is none for long, anywhere."""
    out: list[str] = []
    at = 0
    while at < len(text):
        blank = _find_blank(text, at + PIECE, at + 2 * PIECE) if at + PIECE < len(text) else None
        end = blank.start() if blank is not None else min(at + 2 * PIECE, len(text))
        piece = fold_wanted(text[at:end])
        if out and piece[:1] == " " and out[-1][-1:] == " ":
            piece = piece[1:]
        out.append(piece)
        at = end
    return out


def fold_wanted(text: str) -> str:
    """A text to search for: blanks at its ends count."""
    plain = _plain(text)
    folded = " ".join(plain.split())
    if not folded:
        return " " if plain else ""
    return (" " if plain[0].isspace() else "") + folded + (" " if plain[-1].isspace() else "")


def _plain(text: str) -> str:
    if text.isascii():
        text = text.lower()
    else:
        text = normalize("NFKC", text).casefold()
        text = _half.sub("\ufffd", text)
    return text.replace("\0", " ") if "\0" in text else text

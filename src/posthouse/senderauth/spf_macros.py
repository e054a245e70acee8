"""Macros of SPF records (RFC 7208 section 7): parsed once, expanded with values that the caller has.

Pure: what needs the DNS (`%{p}`) is looked up by the caller, `uses` says when. A text that breaks the grammar raises
`BadMacro`; expanding never fails. Both are bounded: in the macros of one text, and in the length of what is made.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import quote

MAX_MACROS = 128  # in one text: a domain name has no more labels than that (RFC 1035 section 2.3.4)
MAX_NAME = 253  # characters of a name, section 7.3
MAX_LABEL = 63
MAX_EXPLANATION = 1000  # characters: what has room in a few lines of an SMTP reply

# macro-expand  = ( "%{" macro-letter transformers *delimiter "}" ) / "%%" / "%_" / "%-"
# macro-literal = %x21-24 / %x26-7E
# transformers  = *DIGIT [ "r" ]
# delimiter     = "." / "-" / "+" / "," / "/" / "_" / "="
_PIECE = re.compile(r"%\{([A-Za-z])([0-9]*)([rR]?)([-.+,/_=]*)\}|(%[%_-])|([ !-$&-~]+)")
_ESCAPES = {"%%": "%", "%_": " ", "%-": "%20"}
_EVERYWHERE = frozenset("slodiphv")
_EXPLAINING = frozenset("crt")  # in explanations only, section 7.2
# toplabel = ( *alphanum ALPHA *alphanum ) / ( 1*alphanum "-" *( alphanum / "-" ) alphanum )
_TOPLABEL = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?")


class BadMacro(ValueError):
    """A text that is none of the grammar."""


class Macro(NamedTuple):
    """One `%{…}`."""

    letter: str  # in lower case
    right: int = 0  # so many parts from the right; 0: all
    reverse: bool = False
    delimiters: str = "."
    escape: bool = False  # the letter was upper case: the value is for a URL


Macros = tuple[str | Macro, ...]


def macro_string(text: str, *, explaining: bool = False) -> Macros:
    """A macro-string, or with `explaining` an explain-string, which may hold spaces. Raises BadMacro."""
    return _pieces(text, explaining)[0]


def domain_spec(text: str) -> Macros:
    """A domain-spec: a macro-string that ends in a macro or in a label that can be a top level one. Raises BadMacro."""
    # domain-end = ( "." toplabel [ "." ] ) / macro-expand
    pieces, literal_end = _pieces(text, False)
    if not pieces:
        raise BadMacro("a domain is missing")
    if literal_end:
        _, dot, label = text.removesuffix(".").rpartition(".")
        if not dot or not _TOPLABEL.fullmatch(label) or label.isdigit():
            raise BadMacro(f"{text[:80]!r} does not end like the name of a domain")
    return pieces


def _pieces(text: str, explaining: bool) -> tuple[Macros, bool]:
    pieces: list[str | Macro] = []
    macros, at, literal = 0, 0, False
    while at < len(text):
        match = _PIECE.match(text, at)
        if match is None:
            raise BadMacro(f"{text[at : at + 20]!r} is no macro and no text that may stand here")
        at = match.end()
        letter, digits, reverse, delimiters, escape, plain = match.groups()
        literal = plain is not None
        if plain is not None:
            if " " in plain and not explaining:
                raise BadMacro("there is a space")
            pieces.append(plain)
        else:
            macros += 1
            if macros > MAX_MACROS:
                raise BadMacro(f"there are more than {MAX_MACROS} macros")
            pieces.append(_ESCAPES[escape] if escape else _macro(letter, digits, reverse, delimiters, explaining))
    return tuple(pieces), literal


def _macro(letter: str, digits: str, reverse: str, delimiters: str, explaining: bool) -> Macro:
    lower = letter.lower()
    if lower not in _EVERYWHERE and not (explaining and lower in _EXPLAINING):
        raise BadMacro(f"%{{{letter}}} is not a macro that may stand here")
    significant = digits.lstrip("0")
    if digits and not significant:
        raise BadMacro(f"%{{{letter}0}} asks for no part")
    # More parts than a name can have are all of them; and int() refuses thousands of digits.
    right = int(significant) if 0 < len(significant) < 6 else 0
    return Macro(lower, right, bool(reverse), "".join(dict.fromkeys(delimiters)) or ".", letter.isupper())


def uses(macros: Macros, letters: str) -> bool:
    """Whether one of the letters (in lower case) is expanded."""
    return any(isinstance(piece, Macro) and piece.letter in letters for piece in macros)


def domain_name(macros: Macros, values: Mapping[str, str]) -> str:
    """The name that a domain-spec stands for, as `queryable` gives it: "" if it cannot be the name of a domain."""
    # Only the end of a name that is too long is used (section 7.3), so expanding begins there.
    ends: list[str] = []
    length = 0
    for piece in reversed(macros):
        text = piece if isinstance(piece, str) else _value(piece, values)
        ends.append(text)
        length += len(text)
        if length > MAX_NAME + 2:
            break
    text = "".join(reversed(ends)).removesuffix(".")
    if len(text) > MAX_NAME:
        # Without the labels on the left that are too much; the first of the rest stands after a dot.
        cut = text.find(".", len(text) - MAX_NAME - 1)
        text = text[cut + 1 :] if cut >= 0 else ""
    return queryable(text)


def explanation(macros: Macros, values: Mapping[str, str]) -> str:
    """An explanation; "" if it is not printable ASCII (section 6.2), cut where it is too long."""
    made: list[str] = []
    length = 0
    for piece in macros:
        text = piece if isinstance(piece, str) else _value(piece, values)
        made.append(text)
        length += len(text)
        if length > MAX_EXPLANATION:
            break
    text = "".join(made)[:MAX_EXPLANATION]
    return text if text.isascii() and text.isprintable() else ""


def _value(macro: Macro, values: Mapping[str, str]) -> str:
    text = values[macro.letter]
    if macro.delimiters != "." or macro.reverse or macro.right:
        for delimiter in macro.delimiters[1:]:
            text = text.replace(delimiter, macro.delimiters[0])
        parts = text.split(macro.delimiters[0])
        if macro.reverse:
            parts.reverse()
        text = ".".join(parts[-macro.right :])
    return quote(text, safe="", errors="replace") if macro.escape else text


def queryable(name: str) -> str:
    """A name that the DNS can be asked for, without its last dot; "" for what cannot be one: labels that are empty or
    too long, a single one, or anything but ASCII (RFC 8616 section 4: such a local part matches nothing)."""
    name = name.removesuffix(".")
    if not name.isascii() or not 0 < len(name) <= MAX_NAME or "." not in name:
        return ""
    return name if all(0 < len(label) <= MAX_LABEL for label in name.split(".")) else ""

"""xtext (RFC 3461 section 4), and the form of internationalised addresses in ORCPT (RFC 6533 section 3).

Both write a text in printable ASCII without blanks, "+" and "=", so that it fits into a parameter. What is
not of the form, or hides control characters, is answered with None.
"""

import re

# xtext = *( xchar / hexchar ) ; hexchar = "+" 2(%x30-39 / %x41-46)
_xtext = re.compile(rb"(?:[!-*,-<>-~\x80-\xff]|\+[0-9A-F]{2})*").fullmatch
_hexchar = re.compile(rb"\+([0-9A-F]{2})").sub
_not_xchar = re.compile(r"[^!-*,-<>-~]").sub

# utf-8-addr-xtext   = 1*(QCHAR / EmbeddedUnicodeChar)      ; QCHAR: printable, but not "+", "=", "\"
# utf-8-addr-unitext = 1*(QUCHAR / EmbeddedUnicodeChar)     ; QUCHAR: QCHAR, or any that is not ASCII
# EmbeddedUnicodeChar = "\x{" HEXPOINT "}"
_unitext = re.compile(r"(?:[!-*,-<>-\[\]-~\u0080-\U0010ffff]|\\x\{[0-9A-Fa-f]{2,6}\})+").fullmatch
_hexpoint = re.compile(r"\\x\{([0-9A-Fa-f]{2,6})\}").sub
_not_qchar = re.compile(r"[^!-*,-<>-\[\]-~]").sub


def xtext_decode(text: str, utf8: bool = False) -> str | None:
    """The text behind xtext. It must be ASCII; with `utf8`, its octets may be UTF-8 (RFC 6531 section 3)."""
    octets = text.encode()
    if not _xtext(octets):
        return None
    try:
        decoded = _hexchar(lambda match: bytes([int(match[1], 16)]), octets).decode("utf-8" if utf8 else "ascii")
    except UnicodeDecodeError:
        return None
    return decoded if decoded.isprintable() else None


def xtext_encode(text: str) -> str:
    """`text` as xtext."""
    return _not_xchar(lambda match: "".join(f"+{octet:02X}" for octet in match[0].encode()), text)


def unitext_decode(text: str) -> str | None:
    """The address behind utf-8-addr-xtext or utf-8-addr-unitext."""
    if not _unitext(text):
        return None
    try:
        decoded = _hexpoint(lambda match: chr(int(match[1], 16)), text)
    except ValueError:  # beyond U+10FFFF
        return None
    return decoded if decoded.isprintable() else None  # which leaves out surrogates, too


def unitext_encode(text: str) -> str:
    """`text` as utf-8-addr-xtext, which goes through servers without SMTPUTF8."""
    return _not_qchar(lambda match: f"\\x{{{ord(match[0]):02X}}}", text)

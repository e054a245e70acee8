"""Undo the transfer encoding of a part in pieces, for BINARY (RFC 3516; the encodings are RFC 2045 section 6).

What is broken is passed over, as every mail reader does: stray characters in base64, a lone "=" in
quoted-printable. Nothing here raises, and no more is held than one line.
"""

import binascii
import re
from typing import Protocol

_MAX_LINE = 64 * 1024  # a quoted-printable line is held until its end, but not beyond this
_not_base64 = re.compile(rb"[^A-Za-z0-9+/]+").sub


class Decoder(Protocol):
    """Encoded pieces in, decoded pieces out."""

    def feed(self, data: bytes) -> bytes:
        """What these bytes complete."""
        ...

    def finish(self) -> bytes:
        """What is left at the end."""
        ...


class Base64:
    """base64: padding ends a run of data, but what follows it (two encodings joined) is data too."""

    def __init__(self) -> None:
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        *ended, data = data.split(b"=")
        if ended:
            out = [self._take(piece) + self.finish() for piece in ended]
            return b"".join(out) + self._take(data)
        return self._take(data)

    def _take(self, data: bytes) -> bytes:
        clean = self._held + _not_base64(b"", data)
        whole = len(clean) - len(clean) % 4
        self._held = clean[whole:]
        return binascii.a2b_base64(clean[:whole])

    def finish(self) -> bytes:
        held, self._held = self._held, b""
        return binascii.a2b_base64(held + b"=" * (4 - len(held))) if len(held) > 1 else b""


class QuotedPrintable:
    """quoted-printable, line by line: only the end of a line tells if its blanks count."""

    def __init__(self) -> None:
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        whole, newline, rest = (self._held + data).rpartition(b"\n")
        if len(rest) > _MAX_LINE:
            cut = rest.rfind(b"=", len(rest) - 2)
            cut = len(rest) if cut < 0 else cut
            whole, newline, rest = whole + newline + rest[:cut], b"", rest[cut:]
        self._held = rest
        return _undo_quoted(whole + newline)

    def finish(self) -> bytes:
        held, self._held = self._held, b""
        return _undo_quoted(held)


# RFC 2045 section 6.7 rule 3: blanks at the end of a line were added on the way.
_trailing = re.compile(rb"(?<![ \t])[ \t]++(?=\r?\n|\Z)").sub


def _undo_quoted(data: bytes) -> bytes:
    if b" \r\n" in data or b" \n" in data or b"\t\r\n" in data or b"\t\n" in data:
        data = _trailing(b"", data)
    return binascii.a2b_qp(data)


def decoder(encoding: bytes) -> Decoder:
    """A decoder for base64 or quoted-printable."""
    return Base64() if encoding == b"base64" else QuotedPrintable()

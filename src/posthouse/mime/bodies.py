"""Transfer encodings (RFC 2045 section 6): decode bodies, whole or in chunks, whatever state they are in.

Nothing raises. base64: what is not of its alphabet is passed over, padding ends it (a footer that a
mailing list put below is not decoded), missing padding is made up for. quoted-printable: "=" that
starts no escape stays, blanks at the end of a line are dropped. Unknown encodings: as it is.
"""

import binascii
import re
from typing import Protocol

_ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_NOT_BASE64 = bytes(sorted(set(range(256)) - set(_ALPHABET)))

_BLANKS = 998  # more in a row are text, wherever they stand: a line has not that many octets (RFC 5322 section 2.1.1)
_trailing = re.compile(rb"(?<![ \t])[ \t]{1,%d}(?=\r?\n)" % _BLANKS)
_no_escape = re.compile(rb"=(?![0-9A-Fa-f]{2}|\r?\n)")
_half_escape = re.compile(rb"=[0-9A-Fa-f]\Z")


class Decoder(Protocol):
    """Undoes a transfer encoding."""

    def feed(self, chunk: bytes) -> bytes:
        """Take encoded bytes, return decoded ones."""
        ...

    def finish(self) -> bytes:
        """The end: return what is left."""
        ...


class Base64Decoder:
    """base64, tolerantly."""

    def __init__(self) -> None:
        self._quad = b""
        self._ended = False

    def feed(self, chunk: bytes) -> bytes:
        if self._ended:
            return b""
        out: list[bytes] = []
        at = 0
        while (pad := chunk.find(b"=", at)) >= 0:
            letters = self._quad + chunk[at:pad].translate(None, _NOT_BASE64)
            at = pad + 1
            if len(letters) % 4 >= 2:
                self._quad = b""
                self._ended = True
                out.append(_whole(letters))
                return b"".join(out)
            out.append(self._keep_quad(letters))  # an "=" that pads nothing
        out.append(self._keep_quad(self._quad + chunk[at:].translate(None, _NOT_BASE64)))
        return b"".join(out)

    def finish(self) -> bytes:
        letters, self._quad, self._ended = self._quad, b"", True
        return _whole(letters)

    def _keep_quad(self, letters: bytes) -> bytes:
        whole = len(letters) & ~3
        self._quad = letters[whole:]
        return binascii.a2b_base64(letters[:whole]) if whole else b""


def _whole(letters: bytes) -> bytes:
    extra = len(letters) % 4
    if extra == 1:  # six bits make no byte
        letters = letters[:-1]
    elif extra:
        letters += b"=" * (4 - extra)
    return binascii.a2b_base64(letters)


class QuotedPrintableDecoder:
    """quoted-printable, tolerantly."""

    def __init__(self) -> None:
        self._held = b""  # what the next chunk decides about: blanks, "=" and what follows it
        self._running = False  # what came ended with more blanks than a line may end with

    def feed(self, chunk: bytes) -> bytes:
        data = self._held + chunk if self._held else chunk
        kept = b""
        if self._running:
            rest = data.lstrip(b" \t")
            kept, data = data[: len(data) - len(rest)], rest
            if not data:
                return kept
            self._running = False
        line = data[:-1] if data.endswith(b"\r") else data
        end = len(line.rstrip(b" \t"))
        if len(line) - end > _BLANKS:
            end = len(line)
            self._running = line is data
        elif data.endswith(b"=", 0, end):
            end -= 1
        elif end == len(data) and _half_escape.search(data, max(end - 2, 0)) is not None:
            end -= 2
        self._held = data[end:]
        return kept + _unquote(data[:end])

    def finish(self) -> bytes:
        data, self._held, self._running = self._held, b"", False
        # "=" alone: a soft line break whose line end belongs to the delimiter.
        return b"" if data.rstrip(b" \t\r") == b"=" else _unquote(data.rstrip(b" \t"))


def _unquote(data: bytes) -> bytes:
    # RFC 2045 section 6.7, rule 3: blanks at the end of a line were added on the way.
    if b" \n" in data or b"\t\n" in data or b" \r\n" in data or b"\t\r\n" in data:
        data = _trailing.sub(b"", data)
    if b"==" in data or b"=\r" in data or data.endswith(b"="):
        data = _no_escape.sub(b"=3D", data)
    return binascii.a2b_qp(data)


class UuDecoder:
    """uuencode, as old programs put it into Content-Transfer-Encoding: x-uuencode."""

    def __init__(self) -> None:
        self._held = b""
        self._inside = False
        self._ended = False

    def feed(self, chunk: bytes) -> bytes:
        # In slices: an object for each line of 50 MiB would be many.
        return b"".join([self._feed(chunk[at : at + 65_536]) for at in range(0, len(chunk), 65_536)])

    def _feed(self, chunk: bytes) -> bytes:
        *lines, self._held = (self._held + chunk).split(b"\n")
        if len(self._held) > 1000:  # no line of it is that long
            self._held = b""
        return b"".join([self._line(line) for line in lines])

    def finish(self) -> bytes:
        line, self._held = self._held, b""
        return self._line(line)

    def _line(self, line: bytes) -> bytes:
        line = line.rstrip(b"\r")
        if self._ended or not line:
            return b""
        if not self._inside:
            self._inside = line.startswith(b"begin ")
            return b""
        if line == b"end":
            self._ended = True
            return b""
        try:
            return binascii.a2b_uu(line)
        except binascii.Error:
            # Broken encoders add letters: keep the length that the first one says.
            try:
                return binascii.a2b_uu(line[: (((line[0] - 32) & 63) * 4 + 5) // 3])
            except binascii.Error:
                return b""


class Identity:
    """7bit, 8bit, binary, and what nobody knows."""

    def feed(self, chunk: bytes) -> bytes:
        return chunk

    def finish(self) -> bytes:
        return b""


_DECODERS: dict[bytes, type[Decoder]] = {
    b"base64": Base64Decoder,
    b"quoted-printable": QuotedPrintableDecoder,
    b"x-uuencode": UuDecoder,
    b"uuencode": UuDecoder,
    b"x-uue": UuDecoder,
    b"uue": UuDecoder,
}


def is_known(encoding: bytes) -> bool:
    """True if this transfer encoding can be undone: else BINARY must refuse (RFC 3516 section 4.3)."""
    return encoding in _DECODERS or encoding in (b"", b"7bit", b"8bit", b"binary")


def is_encoded(encoding: bytes) -> bool:
    """True if a body with this transfer encoding is not what it stands for: there is something to undo."""
    return encoding in _DECODERS


def decoder(encoding: bytes) -> Decoder:
    """A decoder for a Content-Transfer-Encoding (in lower case)."""
    return _DECODERS.get(encoding, Identity)()


def decode(data: bytes, encoding: bytes) -> bytes:
    """A whole body without its transfer encoding."""
    if encoding not in _DECODERS:
        return data
    machine = decoder(encoding)
    return machine.feed(data) + machine.finish()

"""DKIM's canonical forms: the bytes that are hashed in place of what was sent. Pure.

Lines end with CRLF; a CR or LF alone is a byte like any other in a body, and in a header, where it ended a line, is
removed with the fold. Bodies come in pieces of any size; what is kept between two pieces is a few bytes and a number,
so the cost is linear whatever comes.
"""

import hashlib
from collections.abc import Iterable
from typing import Literal

Canon = Literal["simple", "relaxed"]

_LINES = 4096  # empty lines that are written at once
_EMPTY = b"\r\n" * _LINES


def field(canon: Canon, name: bytes, value: bytes, raw: bytes) -> bytes:
    """A header field, CRLF included. `raw` is the whole of it as it stands. RFC 6376 section 3.4.1, 3.4.2."""
    if canon == "relaxed":
        return name.lower() + b":" + _one_blank(_unfolded(value)).strip(b" ") + b"\r\n"
    if raw.endswith(b"\r\n"):
        return raw
    return raw.removesuffix(b"\n") + b"\r\n"


def _unfolded(value: bytes) -> bytes:
    if b"\n" not in value:
        return value
    value = value.replace(b"\r\n", b"")
    return value.replace(b"\n", b"")


def _one_blank(data: bytes) -> bytes:
    """Each run of blanks becomes one space; a run halves with every pass."""
    if b"\t" in data:
        data = data.replace(b"\t", b" ")
    while b"  " in data:
        data = data.replace(b"  ", b" ")
    return data


class BodyHash:
    """SHA-256 of a canonical body that comes in pieces; of several beginnings of it, too, for l=."""

    def __init__(self, canon: Canon, lengths: Iterable[int] = ()) -> None:
        self._relaxed = canon == "relaxed"
        self._hash = hashlib.sha256()
        self._limits = sorted(set(lengths), reverse=True)
        self._digests: dict[int, bytes] = {}
        self._blanks = b""  # relaxed: " ", "\r" or " \r" at the end of what came, which the next piece decides about
        self._lines = 0  # empty lines that count only if something follows
        self._cr = False  # a CR after them that may be half of one more
        self._finished = False
        self.size = 0  # octets of the canonical body

    def feed(self, data: bytes) -> None:
        """The next piece."""
        if self._relaxed:
            self._lines_of(self._relax(data))
        else:
            self._lines_of(data)

    def finish(self) -> bytes:
        """The hash of the whole; no piece follows."""
        if not self._finished:
            self._finished = True
            if self._blanks.endswith(b"\r"):
                self._lines_of(self._blanks)
            if self._cr:
                self._write_lines()
                self._write(b"\r")
            # RFC 6376 section 3.4.3: a simple body has a last line end even if there is nothing else, section
            # 3.4.4: a relaxed one only if there is something.
            self._write(b"\r\n" if self.size or not self._relaxed else b"")
        return self._hash.digest()

    def of(self, length: int | None) -> bytes | None:
        """The hash of the first `length` octets (one of those asked for), None for all. None: there are not so many."""
        whole = self.finish()
        return whole if length is None else self._digests.get(length)

    def _relax(self, data: bytes) -> bytes:
        data = _one_blank(self._blanks + data)
        body = data[:-1] if data.endswith(b"\r") else data
        if body.endswith(b" "):
            body = body[:-1]
        self._blanks = data[len(body) :]
        return body.replace(b" \r\n", b"\r\n")

    def _lines_of(self, data: bytes) -> None:
        """Write what came, except the empty lines at its end. The line end of the last line is one of them."""
        if self._cr:
            data, self._cr = b"\r" + data, False
        if data.endswith(b"\r"):
            data, self._cr = data[:-1], True
        solid = len(data.rstrip(b"\r\n"))
        tail = data[solid:]
        if tail:
            # Of "\n\n" the second is no half of a CRLF, of "\r\r" the first, and an LF after another byte is alone.
            start = 1 if tail[0] == 10 else 0
            if (two := tail.rfind(b"\n\n")) >= 0:
                start = max(start, two + 2)
            if (two := tail.rfind(b"\r\r")) >= 0:
                start = max(start, two + 1)
            if tail[-1] == 13:  # before the CR that is kept
                start = len(tail)
            solid += start
        if solid:
            self._write_lines()
            self._write(data[:solid])
        self._lines += (len(data) - solid) // 2

    def _write_lines(self) -> None:
        while self._lines:
            some = min(self._lines, _LINES)
            self._write(_EMPTY[: 2 * some])
            self._lines -= some

    def _write(self, data: bytes) -> None:
        while self._limits and self._limits[-1] <= self.size + len(data):
            limit = self._limits.pop()
            upto = self._hash.copy()
            upto.update(data[: limit - self.size])
            self._digests[limit] = upto.digest()
        self._hash.update(data)
        self.size += len(data)

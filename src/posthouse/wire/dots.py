"""Dot transparency for SMTP mail data and POP3 multi-line replies (RFC 5321 section 4.5.2).

Both ways work on chunks of any size with a few passes at the speed of C. Only <CRLF>.<CRLF> ends the
data, and a bare CR or LF is noticed on the way in and repaired on the way out: the two halves of SMTP
smuggling, where two servers disagree about which dot ends a message (RFC 5321 section 2.3.8).
Nothing here fails; limits of size are for the caller.
"""

import re

_NOT_CRLF = bytes(octet for octet in range(256) if octet not in b"\r\n")
_any_line_end = re.compile(rb"\r\n|[\r\n]")


def has_bare(data: bytes) -> bool:
    """Whether a CR or LF in `data` is not part of a CRLF.

    Counting is faster than every pattern tried: 0.7 GB/s against 0.2 for the best regular expression.
    """
    return len(data.translate(None, _NOT_CRLF)) != 2 * data.count(b"\r\n")


class DotDecoder:
    """Undo dot transparency, and find the end of the data.

    `bare` is set once a bare CR or LF was seen in the data, its end included; `nul` once a line began with a NUL, or
    with a dot and a NUL: what drops NULs on its way further may see the end there.
    """

    __slots__ = ("_held", "_skip", "bare", "nul")

    def __init__(self) -> None:
        # Data begins at the start of a line, so we pretend to have seen CRLF and skip it on the way out.
        self._held = b"\r\n"
        self._skip = 2
        self.bare = self.nul = False

    def feed(self, chunk: bytes) -> tuple[bytes, bytes | None]:
        """Return (data, what follows its end); the second is None until the end."""
        buf = self._held + chunk if self._held else chunk
        out: list[bytes] = []
        begin, at = self._skip, 0
        while (at := buf.find(b"\r\n.", at)) >= 0 and at + 5 <= len(buf):
            out.append(buf[begin : at + 2])
            if buf[at + 3 : at + 5] == b"\r\n":
                self._look(buf[: at + 5])
                return b"".join(out), buf[at + 5 :]
            begin = at = at + 3
        if at >= 0:
            hold = at  # CRLF "." and not enough behind it to decide
        elif buf.endswith(b"\r\n"):
            hold = len(buf) - 2
        else:
            hold = len(buf) - buf.endswith(b"\r")
        self._look(buf[:hold])
        out.append(buf[begin:hold])
        self._held, self._skip = buf[hold:], max(begin - hold, 0)
        return b"".join(out), None

    def _look(self, data: bytes) -> None:
        # Chunks are cut where no CRLF can be torn apart, so each can be judged alone.
        if not self.bare:
            self.bare = has_bare(data)
        if b"\0" in data and (b"\n\0" in data or b"\n.\0" in data):
            self.nul = True


class DotEncoder:
    """Apply dot transparency; bare CR and bare LF become CRLF. Without `dots` that is all, and no end is marked.

    `clean`: there are none, so nobody has to look for them.
    """

    __slots__ = ("_clean", "_cr", "_dots", "_line_start")

    def __init__(self, dots: bool = True, clean: bool = False) -> None:
        self._dots = dots
        self._clean = clean
        self._line_start = True
        self._cr = False  # the last chunk ended with a CR: its LF may come with the next

    def encode(self, chunk: bytes) -> bytes:
        """The bytes to send for `chunk`."""
        if self._cr:
            chunk = b"\r" + chunk
            self._cr = False
        if chunk.endswith(b"\r"):
            self._cr = True
            chunk = chunk[:-1]
        if not chunk:
            return b""
        if not self._clean and has_bare(chunk):
            chunk = _any_line_end.sub(b"\r\n", chunk)
        encoded = chunk.replace(b"\r\n.", b"\r\n..") if self._dots else chunk
        if self._dots and self._line_start and encoded.startswith(b"."):
            encoded = b"." + encoded
        self._line_start = encoded.endswith(b"\n")
        return encoded

    def finish(self) -> bytes:
        """The end of the data: completes an unfinished last line first."""
        unfinished = self._cr or not self._line_start
        self._cr, self._line_start = False, True
        return b"\r\n" * unfinished + b".\r\n" * self._dots


def dot_encode(data: bytes) -> bytes:
    """All of `data` with dot transparency and its end, for what is in memory anyway."""
    encoder = DotEncoder()
    return encoder.encode(data) + encoder.finish()

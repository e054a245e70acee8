"""Cut the stream of an IMAP client into whole commands, by lines and literal sizes alone.

The grammar then sees whole commands only, so a syntax error never costs us our place in the stream
(RFC 9051 section 4.3). What to do with a literal is the engine's decision: each one is announced, and
the engine says `collect`, `stream`, `skip` or `drop` before anything else happens.

Both CRLF and a bare LF end a line: people type commands, and nothing behind us reads the same bytes.
Nothing here raises; a line beyond the limit comes out as `Discarded`, once its end was seen.
"""

import re
from typing import NamedTuple

# RFC 9051 section 9, RFC 7888:
#   literal  = "{" number64 ["+"] "}" CRLF *CHAR8
#   literal8 = "~{" number64 ["+"] "}" CRLF *OCTET
_literal = re.compile(rb"(~?)\{([0-9]{1,18})([+-]?)\}\Z").search
_LONGEST = 24  # the end of a line in which "~{", 18 digits, "+}" and CR can stand


class Command(NamedTuple):
    """A whole command. In its text a literal is marked by `{n}` CRLF; the bytes are in `literals`."""

    text: bytes
    literals: list[bytes]


class Announced(NamedTuple):
    """The client is about to send a literal; `text` is the command up to it."""

    text: bytes
    literals: list[bytes]
    size: int
    waits: bool  # a synchronising literal: the client waits for "+"
    binary: bool  # literal8: may hold NUL


class Piece(NamedTuple):
    """Some bytes of a literal that is being streamed."""

    data: bytes
    last: bool


class Discarded(NamedTuple):
    """The end of a command that was thrown away; `text` is how it began."""

    text: bytes
    overlong: bool  # because of a line beyond the limit; else because the engine said `skip`


Found = Command | Announced | Piece | Discarded


class Framer:
    """Bytes in, pieces of commands out. At most `max_line` bytes of text belong to one command."""

    __slots__ = ("_buffer", "_discarding", "_literals", "_mode", "_searched", "_size", "_text", "max_line")

    LINE, ASK, COLLECT, STREAM, SKIP = range(5)

    def __init__(self, max_line: int) -> None:
        self.max_line = max_line
        self._buffer = bytearray()
        self._searched = 0  # no line feed in the buffer before this
        self._text = b""
        self._literals: list[bytes] = []
        self._mode = Framer.LINE
        self._size = 0  # what is missing of the literal at hand
        self._discarding = 0  # 1: because the engine said so, 2: because the line is too long

    @property
    def buffered(self) -> int:
        """Bytes held and not yet handed out."""
        return len(self._buffer)

    def feed(self, data: bytes) -> None:
        """Take bytes from the client."""
        self._buffer += data

    def take_rest(self) -> bytes:
        """What was received and not looked at yet; it is no longer here."""
        return self._cut(len(self._buffer))

    def forget(self) -> None:
        """Drop everything held, as after STARTTLS (RFC 9051 section 6.2.1)."""
        self._buffer.clear()
        self._searched = 0
        self._finish()

    def next(self) -> Found | None:
        """The next thing, or None: more bytes, or a decision about the literal announced, come first."""
        while True:
            if self._mode == Framer.LINE:
                line = self._line()
                if line is None:
                    return None
                found = self._take(line)
                if found is not None:
                    return found
            elif self._mode == Framer.COLLECT:
                if len(self._buffer) < self._size:
                    return None
                self._literals.append(self._cut(self._size))
                self._mode = Framer.LINE
            elif self._mode == Framer.STREAM:
                return self._piece()
            elif self._mode == Framer.SKIP:
                skipped = min(self._size, len(self._buffer))
                del self._buffer[:skipped]
                self._size -= skipped
                if self._size:
                    return None
                self._mode = Framer.LINE
            else:
                return None

    def next_line(self) -> bytes | Discarded | None:
        """The next line as it is, for what is no command: DONE, a SASL response."""
        line = self._line()
        if line is not None and self._discarding:
            self._finish()
            return Discarded(b"", True)
        return line

    def _line(self) -> bytes | None:
        """One line without its end. Of a line beyond the limit only the tail comes out (a literal may be
        announced in it), and the command it belongs to is marked as discarded."""
        buffer = self._buffer
        end = buffer.find(b"\n", self._searched)
        room = self.max_line - len(self._text)
        if (len(buffer) if end < 0 else end) > room + 1:
            if self._discarding != 2:
                self._discarding = 2
                self._text = self._text or bytes(buffer[: min(room, 200)])
                self._literals = []
            del buffer[: max((len(buffer) if end < 0 else end) - _LONGEST, 0)]
            end = buffer.find(b"\n") if end >= 0 else -1
        if end < 0:
            self._searched = len(buffer)
            return None
        self._searched = 0
        line = self._cut(end + 1)
        return line[:-2] if line.endswith(b"\r\n") else line[:-1]

    def _take(self, line: bytes) -> Command | Announced | Discarded | None:
        literal = _literal(line, max(len(line) - _LONGEST, 0)) if line.endswith(b"}") else None
        if self._discarding:
            if literal and literal[3]:
                self._size, self._mode = int(literal[2]), Framer.SKIP
                return None
            discarded = Discarded(self._text, self._discarding == 2)
            self._finish()
            return discarded
        if literal:
            text = self._text = self._text + line + b"\r\n"
            self._size, self._mode = int(literal[2]), Framer.ASK
            return Announced(text, self._literals, self._size, not literal[3], bool(literal[1]))
        command = Command(self._text + line, self._literals)
        self._finish()
        return command

    def _finish(self) -> None:
        self._text, self._literals, self._mode, self._size, self._discarding = b"", [], Framer.LINE, 0, 0

    def _cut(self, size: int) -> bytes:
        cut = bytes(self._buffer[:size])
        del self._buffer[:size]
        return cut

    def _piece(self) -> Piece | None:
        if not self._buffer and self._size:
            return None
        piece = self._cut(min(self._size, len(self._buffer)))
        self._size -= len(piece)
        if not self._size:
            self._mode = Framer.LINE
        return Piece(piece, not self._size)

    # What to do with the literal announced

    def collect(self) -> None:
        """Hand it out with the whole command."""
        self._mode = Framer.COLLECT

    def stream(self) -> None:
        """Hand it out in pieces as they come."""
        self._mode = Framer.STREAM

    def skip(self) -> None:
        """Throw it and the rest of the command away (it comes in any case); then comes `Discarded`."""
        self._mode = Framer.SKIP
        self._discarding = self._discarding or 1

    def drop(self) -> None:
        """The client waits for leave to send it and is refused: the command ends here."""
        self._finish()

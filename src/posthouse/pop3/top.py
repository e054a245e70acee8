"""TOP: the header, the empty line after it, and so many lines of the body (RFC 1939 section 7)."""


class Top:
    """Cuts a message that comes in chunks of any size. A line ends with LF, with or without CR before it."""

    __slots__ = ("_lines", "_tail", "done")

    def __init__(self, lines: int) -> None:
        self._lines = lines
        self._tail: bytes | None = b"\n"  # the end of the last chunk while in the header; None in the body
        self.done = False

    def feed(self, chunk: bytes) -> bytes:
        """What of `chunk` belongs to the answer; `done` once nothing more does."""
        at = 0
        if self._tail is not None:
            at = self._header_end(chunk)
            if self._tail is not None:
                return chunk
        ends = chunk.count(b"\n", at)
        if ends < self._lines:  # all of it, without a look at each line: they may be empty ones
            self._lines -= ends
            return chunk
        while self._lines > 0:
            end = chunk.find(b"\n", at)
            if end < 0:
                return chunk
            at = end + 1
            self._lines -= 1
        self.done = True
        return chunk[:at]

    def _header_end(self, chunk: bytes) -> int:
        """Where in `chunk` the body begins; leaves `_tail` set while it does not begin there."""
        assert self._tail is not None
        window = self._tail + chunk
        # An empty line is LF CR LF or LF LF; the start of the message counts as after an LF.
        ends = [at + len(end) for end in (b"\n\r\n", b"\n\n") if (at := window.find(end)) >= 0]
        if ends:
            begins = min(ends) - len(self._tail)
            self._tail = None
            return begins
        self._tail = window[-2:]
        return 0

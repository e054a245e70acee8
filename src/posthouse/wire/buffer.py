"""The bytes a peer has sent and the engine has not used yet.

Lines end with CRLF and nothing else: a bare CR or LF stays inside its line, and what to do about it is
for the protocol (RFC 5321 section 2.3.8). Cost is linear in the bytes received: arriving chunks are
joined only when somebody asks for data, taking advances an offset, and a search never starts over.
A line without an end is reported by `LineTooLong`; the buffer itself sets no other limit, because the
runtime stops reading while the engine holds much (see `buffered` of the engines).
"""

from posthouse.base.errors import ProtocolError


class LineTooLong(ProtocolError):
    """More bytes than the limit came without a CRLF. They are still in the buffer."""


class ReceiveBuffer:
    """Bytes in by `feed`, out by `take_line`, `take` or `take_all`."""

    __slots__ = ("_at", "_data", "_more", "_more_size", "_searched")

    def __init__(self) -> None:
        self._data = b""
        self._at = 0  # what is before it has been taken
        self._searched = 0  # no CRLF begins before it
        self._more: list[bytes] = []  # arrived since, not joined yet
        self._more_size = 0

    def __len__(self) -> int:
        return len(self._data) - self._at + self._more_size

    def feed(self, data: bytes) -> None:
        """Add bytes from the peer."""
        if not self._more and self._at == len(self._data):
            self._data = data
            self._at = self._searched = 0
        else:
            self._more.append(data)
            self._more_size += len(data)

    def take_line(self, limit: int) -> bytes | None:
        """The next line without its CRLF; None if its end has not come. `limit` does not count the CRLF."""
        while True:
            begin = self._at
            end = self._data.find(b"\r\n", self._searched)
            if end >= 0:
                if end - begin > limit:
                    raise LineTooLong(f"line of {end - begin} bytes, limit {limit}")
                self._at = self._searched = end + 2
                return self._data[begin:end]
            # The last byte may be the CR of a CRLF whose LF comes with the next chunk.
            self._searched = max(begin, len(self._data) - 1)
            if not self._more:
                break
            self._join()
        if len(self._data) - self._at > limit + 1:
            raise LineTooLong(f"no end of line in {len(self._data) - self._at} bytes, limit {limit}")
        return None

    def take(self, size: int) -> bytes:
        """Up to `size` bytes."""
        self._join()
        end = min(self._at + size, len(self._data))
        taken = self._data[self._at : end]
        self._at = end
        self._searched = max(self._searched, end)
        return taken

    def take_all(self) -> bytes:
        """Everything."""
        self._join()
        taken = self._data[self._at :] if self._at else self._data
        self.clear()
        return taken

    def peek(self, size: int) -> bytes:
        """Up to `size` bytes, which stay."""
        self._join()
        return self._data[self._at : self._at + size]

    def find(self, needle: bytes) -> int:
        """How many bytes are before `needle`, or -1. For looking at a line that has not ended."""
        self._join()
        at = self._data.find(needle, self._at)
        return at - self._at if at >= 0 else -1

    def unread(self, data: bytes) -> None:
        """Put bytes back in front: what followed the part that another reader wanted."""
        if data:
            self._join()
            self._data = data + self._data[self._at :]
            self._at = self._searched = 0

    def clear(self) -> None:
        """Forget everything."""
        self._data = b""
        self._at = self._searched = self._more_size = 0
        self._more.clear()

    def _join(self) -> None:
        if self._more:
            self._data = b"".join([self._data[self._at :], *self._more])
            self._searched = max(self._searched - self._at, 0)
            self._at = self._more_size = 0
            self._more.clear()

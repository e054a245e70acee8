"""COMPRESS=DEFLATE (RFC 4978): both directions of a connection as raw deflate streams. Pure.

What comes in is inflated in bounded pieces, when it is asked for: a few octets that would become gigabytes wait as what
they are. A piece ends where the client flushed: what comes behind that may not be compressed any more (RFC 8437
section 4.1). What goes out is flushed with every write, so that nothing is held back.
"""

import zlib

PIECE = 64 * 1024  # octets inflated at a time
# Level 1 takes a third of the time of the usual 6, for a tenth more octets.
_LEVEL = 1
_RAW = -15  # no zlib header (RFC 4978 section 4)
_FLUSHED = b"\0\0\xff\xff"  # the end of what is flushed (an empty block)
_FINISHED = b"\3\0"  # a last block with nothing in it


class Deflate:
    """The state of one connection."""

    __slots__ = ("_at", "_deflater", "_held", "_inflater")

    def __init__(self, held: bytes = b"") -> None:
        self._inflater = zlib.decompressobj(_RAW)
        self._deflater = zlib.compressobj(_LEVEL, zlib.DEFLATED, _RAW, 8)
        self._held = held
        self._at = 0  # from here on it is not inflated yet

    @property
    def held(self) -> int:
        """Octets that wait to be inflated."""
        return len(self._held) - self._at

    def feed(self, data: bytes) -> None:
        """Take octets from the peer."""
        self._held, self._at = self._held[self._at :] + data, 0

    def take(self) -> bytes:
        """The next piece of what the peer means; b"": more has to come. Raises `zlib.error` for what is no stream."""
        while self._at < len(self._held):
            if self._inflater.eof:
                raise zlib.error("something follows the end of the stream")
            flushed = self._held.find(_FLUSHED, self._at)
            end = flushed + len(_FLUSHED) if flushed >= 0 else len(self._held)
            with memoryview(self._held) as held:
                data = self._inflater.decompress(held[self._at : end], PIECE)
            self._at = end - len(self._inflater.unconsumed_tail or self._inflater.unused_data)
            if data:
                return data
        return b""

    def rest(self) -> bytes:
        """What came and was not inflated: it is not compressed any more.

        The end of the last flush must have come with what it flushed: later it cannot be told from a command.
        """
        rest = self._held[self._at :]
        return rest if self._inflater.eof else rest.removeprefix(_FINISHED)

    def finish(self, data: bytes) -> bytes:
        """The last octets for the peer that are compressed."""
        return self._deflater.compress(data) + self._deflater.flush(zlib.Z_FINISH)

    def compress(self, data: bytes) -> bytes:
        """Octets for the peer, complete as far as they go."""
        return self._deflater.compress(data) + self._deflater.flush(zlib.Z_SYNC_FLUSH)

"""COMPRESS=DEFLATE (RFC 4978): both directions of a connection as raw deflate streams. Pure.

What comes in is inflated in bounded pieces, when it is asked for: a few octets that would become gigabytes wait as what
they are. What goes out is flushed with every write, so that nothing is held back.
"""

import zlib

PIECE = 64 * 1024  # octets inflated at a time
# Level 1 takes a third of the time of the usual 6, for a tenth more octets.
_LEVEL = 1
_RAW = -15  # no zlib header (RFC 4978 section 4)


class Deflate:
    """The state of one connection."""

    __slots__ = ("_deflater", "_held", "_inflater")

    def __init__(self, held: bytes = b"") -> None:
        self._inflater = zlib.decompressobj(_RAW)
        self._deflater = zlib.compressobj(_LEVEL, zlib.DEFLATED, _RAW, 8)
        self._held = held  # not inflated yet

    @property
    def held(self) -> int:
        """Octets that wait to be inflated."""
        return len(self._held)

    def feed(self, data: bytes) -> None:
        """Take octets from the peer."""
        self._held += data

    def take(self) -> bytes:
        """The next piece of what the peer means; b"": more has to come. Raises `zlib.error` for what is no stream."""
        while self._held:
            if self._inflater.eof:
                raise zlib.error("something follows the end of the stream")
            data = self._inflater.decompress(self._held, PIECE)
            self._held = self._inflater.unconsumed_tail or self._inflater.unused_data
            if data:
                return data
        return b""

    def compress(self, data: bytes) -> bytes:
        """Octets for the peer, complete as far as they go."""
        return self._deflater.compress(data) + self._deflater.flush(zlib.Z_SYNC_FLUSH)

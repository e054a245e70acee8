"""The content of one transaction on its way in: by DATA, with dots to undo, or by BDAT, in counted chunks.

Size is watched and bare line ends are refused, except in BINARYMIME, where they mean nothing. A message
that is refused on its way is swallowed to its true end without being kept, because what a client sends
after DATA must never be taken for commands. A client that goes on far beyond every limit is `hopeless`:
the connection is closed on it.
"""

from posthouse.smtp import replies
from posthouse.smtp.events import Content, ContentAborted
from posthouse.smtp.replies import Reply
from posthouse.wire.dots import DotDecoder, has_bare

# How much more than twice the maximum is swallowed in the hope of the end.
_SWALLOW = 1024 * 1024


class DataReader:
    """From 354 to <CRLF>.<CRLF>. `refusal` is the reply to give at the end, if it is not the session's."""

    __slots__ = ("_decoder", "_max_size", "_size", "refusal")

    def __init__(self, max_size: int) -> None:
        self._decoder = DotDecoder()
        self._max_size = max_size
        self._size = 0
        self.refusal: Reply | None = None

    def read(self, data: bytes) -> tuple[Content | ContentAborted | None, bytes | None]:
        """Take bytes; return the event they make and, once the end has come, what follows it."""
        data, rest = self._decoder.feed(data)
        self._size += len(data)
        if self.refusal is not None:
            return None, rest
        if self._decoder.bare:
            self.refusal = replies.BARE_CONTENT
        elif self._decoder.nul:
            self.refusal = replies.NUL_CONTENT
        elif self._size > self._max_size:
            self.refusal = replies.MESSAGE_TOO_BIG
        elif data or rest is not None:
            return Content(data, rest is not None), rest
        else:
            return None, rest
        return ContentAborted(self.refusal), rest

    def refuse(self, reply: Reply) -> None:
        """The session wants no more of it."""
        self.refusal = reply

    @property
    def hopeless(self) -> bool:
        """Whether so much has come that waiting for the end makes no sense."""
        return self._size > 2 * self._max_size + _SWALLOW


class ChunkReader:
    """The chunks of one transaction (RFC 3030 section 2). `left` octets of the one at hand are to come.

    With a refusal from the start it swallows one chunk that came out of place.
    """

    __slots__ = ("_binary", "_cr", "_max_size", "_size", "last", "left", "refusal", "total")

    def __init__(self, max_size: int, binary: bool, refusal: Reply | None = None) -> None:
        self._max_size = max_size
        self._binary = binary
        self._size = 0
        self._cr = False  # the last octet was a CR; its LF may come with the next chunk
        self.left = 0
        self.last = False
        self.total = 0  # octets of the chunk at hand
        self.refusal = refusal

    def begin(self, size: int, last: bool) -> None:
        """A BDAT command: so many octets follow it."""
        self.left = self.total = size
        self.last = last
        self._size += size

    def read(self, data: bytes) -> Content | ContentAborted | None:
        """Take up to `left` octets; return the event they make."""
        self.left -= len(data)
        if self.refusal is not None:
            return None
        ended = self.last and not self.left
        if not self._binary:
            data = b"\r" + data if self._cr else data
            self._cr = not ended and data.endswith(b"\r")
            data = data[:-1] if self._cr else data
        if self._size > self._max_size:
            self.refusal = replies.MESSAGE_TOO_BIG
        elif not self._binary and has_bare(data):
            self.refusal = replies.BARE_CONTENT
        elif data or ended:
            return Content(data, ended)
        else:
            return None
        return ContentAborted(self.refusal)

    def refuse(self, reply: Reply) -> None:
        """The session wants no more of it."""
        self.refusal = reply

    @property
    def ended(self) -> bool:
        """Whether the chunk at hand is complete and needs a reply of ours."""
        return not self.left and not (self.last and self.refusal is None)

    @property
    def hopeless(self) -> bool:
        """Whether the chunk announced is too long to be swallowed."""
        return self._size > 2 * self._max_size + _SWALLOW

"""The mail data of one transaction on its way in: dots undone, size watched, bare line ends refused.

A message that is refused on its way is swallowed to its true end without being kept, because what a
client sends after DATA must never be taken for commands. A client that goes on far beyond every limit
is `hopeless`: the connection is closed on it.
"""

from posthouse.smtp import replies
from posthouse.smtp.events import Content, ContentAborted
from posthouse.smtp.replies import Reply
from posthouse.wire.dots import DotDecoder

# How much more than twice the maximum is swallowed in the hope of the end.
_SWALLOW = 1024 * 1024


class ContentReader:
    """From 354 to <CRLF>.<CRLF>. `refusal` is the reply to give at the end, if it is not the session's."""

    __slots__ = ("_decoder", "_max_size", "_size", "refusal")

    def __init__(self, max_size: int) -> None:
        self._decoder = DotDecoder()
        self._max_size = max_size
        self._size = 0
        self.refusal: Reply | None = None

    def read(self, chunk: bytes) -> tuple[Content | ContentAborted | None, bytes | None]:
        """Take bytes; return the event they make and, once the end has come, what follows it."""
        data, rest = self._decoder.feed(chunk)
        self._size += len(data)
        if self.refusal is not None:
            return None, rest
        if self._decoder.bare:
            self.refusal = replies.BARE_CONTENT
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

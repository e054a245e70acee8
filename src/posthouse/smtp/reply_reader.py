"""Replies as they come from another server, out of a buffer into `Reply` values (RFC 5321 section 4.2).

    Reply-line     = *( Reply-code "-" [ textstring ] CRLF ) Reply-code [ SP textstring ] CRLF

Lines may be longer than the 512 octets of the rule, because many are; both their length and their
number are bounded. `BadReply` is raised for what is no reply: one cannot go on with such a server.
"""

import re

from posthouse.base.errors import ProtocolError
from posthouse.smtp.replies import Reply
from posthouse.wire.buffer import LineTooLong, ReceiveBuffer

MAX_LINE = 2048
MAX_LINES = 256  # the longest EHLO answers in the field have about 30
MAX_REPLY = 16 * 1024  # characters kept of one reply; what is beyond them is left out

_line = re.compile(rb"([2-5][0-9][0-9])(?:([ -])(.*))?", re.DOTALL).fullmatch
# RFC 2034 section 4: the same code at the start of each line
_status = re.compile(r"([245]\.[0-9]{1,3}\.[0-9]{1,3})(?: +|$)").match
_unprintable = re.compile(r"[\x00-\x1f\x7f-\x9f]")


class BadReply(ProtocolError):
    """What the server sent is not a reply."""


class ReplyReader:
    """Puts replies together. `lines` are those of the last reply, as they came, for the transcript."""

    __slots__ = ("_count", "_hidden", "_kept", "_texts", "lines")

    def __init__(self) -> None:
        self._texts: list[str] = []
        self._hidden: list[str] = []
        self._count = self._kept = 0
        self.lines: list[str] = []

    def hide(self, secret: str) -> None:
        """A secret that the server is told. Some repeat what they do not understand: then it is not in the reply."""
        if len(secret) >= 4:
            self._hidden.append(secret)

    def next(self, buffer: ReceiveBuffer) -> Reply | None:
        """The next reply, or None if it has not come whole."""
        while True:
            try:
                line = buffer.take_line(MAX_LINE)
            except LineTooLong as error:
                raise BadReply(f"a reply with a {error}") from None
            if line is None:
                return None
            if not self._count:
                self.lines = []
            text = _unprintable.sub("?", line.decode("utf-8", "replace"))
            for secret in self._hidden:
                text = text.replace(secret, "(secret)")
            match = _line(line)
            self._count += 1
            self._kept += len(text)
            if self._kept <= MAX_REPLY:
                self.lines.append(text)
                self._texts.append(text[4:])
            if match is None:
                raise BadReply(f"not a reply: {text[:100]!r}")
            if match[2] != b"-":
                texts, self._texts = self._texts, []
                self._count = self._kept = 0
                return _reply(int(match[1]), texts)
            if self._count >= MAX_LINES:
                raise BadReply(f"a reply of more than {MAX_LINES} lines")


def _reply(code: int, texts: list[str]) -> Reply:
    status = ""
    if (match := _status(texts[-1])) and match[1][0] == str(code)[0]:
        status = match[1]
        texts = [text[len(m[0]) :] if (m := _status(text)) and m[1] == status else text for text in texts]
    return Reply(code, status, "\n".join(texts))


def extensions_of(text: str) -> dict[str, str]:
    """What the text of a reply to EHLO offers: keywords in upper case, each with its parameters."""
    # ehlo-line = ehlo-keyword *( SP ehlo-param ); the first line is the greeting.
    extensions: dict[str, str] = {}
    for line in text.split("\n")[1:]:
        # "AUTH=LOGIN PLAIN" is what servers say to please clients of the last century.
        keyword, _, parameters = line.strip().partition(" ")
        keyword = keyword.upper()
        if keyword.startswith("AUTH="):
            keyword, parameters = "AUTH", f"{keyword[5:]} {parameters}"
        known = extensions.get(keyword)
        extensions[keyword] = f"{known} {parameters}" if known else parameters
    return extensions

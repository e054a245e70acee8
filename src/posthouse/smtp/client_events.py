"""What `SmtpClient` tells its driver, and which of its methods may come next."""

from collections.abc import Mapping
from typing import NamedTuple

from posthouse.smtp.replies import Reply


class Ready(NamedTuple):
    """Greeted; nothing under way. Next: start_tls, authenticate, send, quit."""

    extensions: Mapping[str, str]  # "SIZE": "52428800"; empty after HELO


class StartTls(NamedTuple):
    """The server waits for the handshake. Next: `tls_started()` once it is done."""


class TlsRefused(NamedTuple):
    """No TLS; the connection is as it was. Next: as after Ready."""

    reply: Reply


class Authenticated(NamedTuple):
    """Next: send, quit."""

    reply: Reply


class AuthRefused(NamedTuple):
    """Next: as after Ready."""

    reply: Reply
    remote: bool


class NeedContent(NamedTuple):
    """Send the message: `content(chunk)` as often as needed, `end_content()`; `abort()` if it breaks off."""


class Result(NamedTuple):
    """What became of one recipient."""

    recipient: str
    reply: Reply
    command: str  # what it answers: "RCPT", "end" (of the content), ... or "" for a lost connection
    remote: bool  # whether the server said it; if not, it is ours

    @property
    def accepted(self) -> bool:
        """Whether the server took the message for this recipient."""
        return self.reply.code < 300


class Sent(NamedTuple):
    """The transaction is over: one result for each recipient, in their order. Next: send, quit, unless closed."""

    results: tuple[Result, ...]


class Failed(NamedTuple):
    """The connection is of no more use, and no transaction was under way. `closed` is set."""

    reply: Reply
    command: str
    remote: bool


class Closed(NamedTuple):
    """QUIT is done."""


Event = Ready | StartTls | TlsRefused | Authenticated | AuthRefused | NeedContent | Sent | Failed | Closed

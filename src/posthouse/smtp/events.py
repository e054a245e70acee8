"""What `SmtpServer` hands to the session. Each event says how it is answered.

"reply" means `engine.reply(Reply)`: an accepted reply (below 400) lets the engine take the next state.
"""

from collections.abc import Mapping
from typing import NamedTuple

from posthouse.smtp.params import MailParams, RcptParams
from posthouse.smtp.replies import Reply
from posthouse.wire.address import Address


class Hello(NamedTuple):
    """EHLO, HELO or LHLO (`verb`) with the client's name; it ends a transaction under way (RFC 5321 section 4.1.4).

    reply: any accepted reply makes the engine send its greeting and capabilities in its place.
    """

    verb: str
    name: str


class StartTls(NamedTuple):
    """STARTTLS was asked for.

    reply(READY_FOR_TLS), then flush and shake hands, then `engine.tls_started()`; or a refusal.
    """


class Auth(NamedTuple):
    """AUTH began; `mechanism` is one of those offered, `initial` is decoded, None if there was none.

    `engine.challenge(data)`, or `engine.authenticated(name)` and reply(AUTH_SUCCEEDED), or a refusal.
    """

    mechanism: str
    initial: bytes | None

    def __repr__(self) -> str:
        return f"Auth({self.mechanism!r}, ...)"


class AuthResponse(NamedTuple):
    """The answer to a challenge, decoded. Answered like Auth. A cancelled exchange shows no event."""

    data: bytes

    def __repr__(self) -> str:
        return "AuthResponse(...)"


class Mail(NamedTuple):
    """A transaction begins. reply."""

    sender: Address
    params: MailParams


class Rcpt(NamedTuple):
    """One recipient more. reply."""

    recipient: Address
    params: RcptParams


class Content(NamedTuple):
    """Mail data in pieces as they came: by DATA with dots undone, or the octets of BDAT chunks.

    The last is answered by reply, which ends the transaction (or by `reply_each`, for LMTP); the others by
    `engine.proceed()`.
    """

    data: bytes
    last: bool


class Burl(NamedTuple):
    """BURL: a chunk of content that lies somewhere else, as its client says where (RFC 4468).

    `engine.fetched(size, last)`, then `engine.fetched_data` for its octets, which says what becomes of them, and
    `engine.fetched_end()` if it is not the last, or reply; or a refusal.
    """

    url: bytes
    last: bool

    def __repr__(self) -> str:
        return f"Burl(..., {self.last})"  # who has the URL may read the message


class ContentAborted(NamedTuple):
    """The data is refused and the transaction over: drop what there is. Needs no answer.

    It comes as soon as that is known; the engine swallows the rest and sends `reply` at the true end.
    """

    reply: Reply


class Reset(NamedTuple):
    """RSET: the transaction, if any, is over. reply(OK)."""


class Vrfy(NamedTuple):
    """VRFY with its argument, or EXPN, which asks for the members behind it. reply, normally CANNOT_VRFY."""

    text: str
    expand: bool = False


class Xclient(NamedTuple):
    """XCLIENT: a proxy says for whom it speaks. Attributes by name in upper case, None where it does not know.

    reply(greeting), and the connection begins anew; or a refusal.
    """

    attributes: Mapping[str, str | None]


Event = Hello | StartTls | Auth | AuthResponse | Mail | Rcpt | Content | Burl | ContentAborted | Reset | Vrfy | Xclient

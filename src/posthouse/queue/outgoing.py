"""A message on its way out, as those see it who send or convert it."""

from collections.abc import AsyncIterator, Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from posthouse.smtp.params import NO_MAIL_PARAMS, MailParams, RcptParams


class Outgoing(NamedTuple):
    """What is to be sent. `pieces` reads it anew each time it is called."""

    sender: str
    recipients: tuple[str, ...]
    size: int
    eight_bit: bool
    pieces: Callable[[], AsyncIterator[bytes]]
    mail: MailParams = NO_MAIL_PARAMS
    rcpt: Mapping[str, RcptParams] = MappingProxyType({})  # by recipient
    utf8_header: bool = False
    start: bytes = b""  # of the content: at least its header, unless that is very long
    prefix: bytes = b""  # the fields that this server put on top; `pieces` begin with them

    @property
    def requires_tls(self) -> bool:
        """Whether it must not go where REQUIRETLS is not kept. Bounces that say so go all the same, and say it only
        where it is kept (RFC 8689 sections 4.2.1 and 5)."""
        return self.mail.requiretls and bool(self.sender)

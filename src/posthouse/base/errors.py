"""The few general errors. A refusal of mail is a value (a reply), not one of these.

`Temporary` and `Permanent` carry two texts: `for_peer`, which gives nothing away and may go
on the wire, and the cause, which is for the log. What is not known to be permanent is temporary.
"""


class PosthouseError(Exception):
    """Base of the errors that Posthouse raises on purpose."""

    def __init__(self, cause: str, for_peer: str = "") -> None:
        super().__init__(cause)
        self.for_peer = for_peer


class Temporary(PosthouseError):
    """It failed now and may work later: 4yz on SMTP, NO [UNAVAILABLE] on IMAP."""


class Permanent(PosthouseError):
    """It will fail again in the same way: 5yz on SMTP, NO on IMAP."""


class StorageFull(Temporary):
    """The disk (or the configured share of it) is full: 452 4.3.1 on SMTP, NO [OVERQUOTA] on IMAP."""


class OverQuota(Temporary):
    """An account would hold more than it may: 452 4.2.2 on SMTP, NO [OVERQUOTA] on IMAP."""


class NotFound(Permanent):
    """A named thing (domain, account, address, mailbox) does not exist."""


class AlreadyExists(Permanent):
    """A named thing exists already."""


class ProtocolError(Exception):
    """A protocol engine cannot go on: the connection sends its last output and closes."""

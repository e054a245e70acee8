"""The header fields by which mail programs list a mailbox, cut out of a header once, when a message comes in.

Whoever wants some of them (`covers`) gets the same octets from these few lines as from the whole header. Messages with
unusually many of them have none kept: `None`.
"""

from collections.abc import Iterable

from posthouse.mime.header import selector

FIELDS = (
    b"bcc",
    b"cc",
    b"content-description",
    b"content-transfer-encoding",
    b"content-type",
    b"date",
    b"disposition-notification-to",
    b"from",
    b"importance",
    b"in-reply-to",
    b"lines",
    b"list-id",
    b"list-post",
    b"list-unsubscribe",
    b"message-id",
    b"mime-version",
    b"newsgroups",
    b"priority",
    b"references",
    b"reply-to",
    b"sender",
    b"subject",
    b"to",
    b"x-label",
    b"x-mailer",
    b"x-priority",
)
MOST = 8192  # octets that are kept of a message
_known = frozenset(FIELDS)
_select = selector(FIELDS)


def listed(header: bytes) -> bytes | None:
    """The lines to keep, as a header of their own, without NUL (no literal of IMAP holds one)."""
    lines = _select(header)
    if len(lines) > MOST:
        return None
    return lines.replace(b"\0", b"\x80") if b"\0" in lines else lines


def covers(names: Iterable[bytes]) -> bool:
    """Are all these fields (in lower case) kept?"""
    return _known.issuperset(names)

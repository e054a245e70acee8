"""IMAP URLs that name a message or a part of one (RFC 5092), and those that say who may read it (RFC 4467). Pure.

What a URL names is looked up by the session. An absolute URL is only understood for this server, which is the caller's
to compare; a relative one starts at the root of the mailboxes ("/INBOX/;UID=1") or, without a mailbox, at the selected
one. Anything else is no URL for us: None.
"""

import re
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from posthouse.imap.dates import parse_rfc3339

MAX_URL = 4096  # octets

# imapurl = "imap://" [enc-user [";AUTH=" …] "@"] host [":" port] "/" enc-mailbox [uidvalidity]
#           "/;UID=" nz-number ["/;SECTION=" enc-section] ["/;PARTIAL=" number ["." nz-number]]
#           [";EXPIRE=" date-time] [";URLAUTH=" access [":" mechanism ":" token]]
_url = re.compile(
    rb"(?i)(?:imaps?://(?:(?P<user>[^@/;:]*)(?:;AUTH=[^@/]*)?@)?(?P<host>\[[0-9a-f:.]+\]|[^/:@;]+)(?::[0-9]{1,5})?)?"
    rb"(?:/?(?P<mailbox>[^;/][^;]*?)(?:;UIDVALIDITY=(?P<validity>[1-9][0-9]{0,9}))?/|/)?"
    rb";UID=(?P<uid>[1-9][0-9]{0,9})"
    rb"(?:/?;SECTION=(?P<section>[^;]+?))?"
    rb"(?:/?;PARTIAL=(?P<first>[0-9]{1,18})(?:\.(?P<count>[1-9][0-9]{0,17}))?)?"
    rb"(?P<auth>(?:;EXPIRE=(?P<expire>[0-9TZ:+.\-]{1,40}))?"
    rb";URLAUTH=(?P<access>[^:;]+)(?::(?P<mechanism>[A-Za-z0-9._\-]{1,40}):(?P<token>[0-9A-Fa-f]{32,200}))?)?"
).fullmatch


class Auth(NamedTuple):
    """Who may use a URL, until when, and the proof that its mailbox's owner said so."""

    access: str  # "anonymous", "authuser", "user+NAME", "submit+NAME"
    expires: int  # microseconds; 0: never
    mechanism: str
    token: bytes  # b"": it is to be made yet
    rump: bytes  # what the token stands for


class MessageUrl(NamedTuple):
    """A message, or a section of it."""

    user: str  # whose mailbox; "" as a rule: the reader's own
    host: str  # "": relative
    mailbox: bytes  # decoded; b"": the selected one
    uidvalidity: int  # 0: not named
    uid: int
    section: bytes  # as in BODY[…]; b"": all of it
    partial: tuple[int, int] | None  # first octet, number of octets
    auth: Auth | None = None


def parse(url: bytes) -> MessageUrl | None:
    """The message that a URL names, or None."""
    if len(url) > MAX_URL:
        return None
    found = _url(url)
    if found is None:
        return None
    first, count = found["first"], found["count"]
    partial = None if first is None else (int(first), int(count) if count is not None else (1 << 62))
    auth = None
    if found["auth"] is not None:
        expires = 0
        if found["expire"] is not None:
            at = parse_rfc3339(found["expire"])
            if at is None:
                return None
            expires = at
        token = bytes.fromhex(found["token"].decode()) if found["token"] and len(found["token"]) % 2 == 0 else b""
        if found["token"] and not token:
            return None
        rump = url[: found.end("access")]
        mechanism = (found["mechanism"] or b"").decode().upper()
        auth = Auth(_text(found["access"]).lower(), expires, mechanism, token, rump)
    return MessageUrl(
        _text(found["user"] or b""),
        (found["host"] or b"").decode("ascii", "replace").lower(),
        unquote_to_bytes(found["mailbox"] or b""),
        int(found["validity"] or 0),
        int(found["uid"]),
        unquote_to_bytes(found["section"] or b""),
        partial,
        auth,
    )


def owner(url: MessageUrl, hostname: str) -> str | None:
    """The account whose mailbox it is, "" if none is named; None: the URL is for another server.

    Besides our name the domain of the account stands for us: there clients look for their server (RFC 6186), and "bob"
    there is bob@ that domain.
    """
    user = url.user.lower()
    domain = user.rpartition("@")[2] if "@" in user else ""
    if not url.host or url.host in (hostname, domain):
        return user
    return f"{user}@{url.host}" if user and not domain else None


def _text(value: bytes) -> str:
    return unquote_to_bytes(value).decode("utf-8", "replace")

"""Status responses as values, and the untagged responses as bytes (RFC 9051 section 7)."""

import re
from collections.abc import Iterable
from typing import NamedTuple

from posthouse.imap import names


class Status(NamedTuple):
    """OK, NO, BAD or BYE with a response code (b"" for none) and a text for people."""

    condition: bytes
    text: str
    code: bytes = b""

    def encode(self) -> bytes:
        """Without the tag and CRLF."""
        code = b"[%b] " % self.code if self.code else b""
        return b"%b %b%b" % (self.condition, code, _one_line(self.text))


_plain_url = re.compile(rb"[!-~]*").fullmatch
_control = re.compile("[\x00-\x1f\x7f]+").sub


def _one_line(text: str) -> bytes:
    """resp-text: never empty, never with a line end in it."""
    return _control(" ", text).encode("utf-8", "replace") or b"."


def ok(text: str, code: bytes = b"") -> Status:
    return Status(b"OK", text, code)


def no(text: str, code: bytes = b"") -> Status:
    return Status(b"NO", text, code)


def bad(text: str, code: bytes = b"") -> Status:
    return Status(b"BAD", text, code)


def bye(text: str, code: bytes = b"") -> Status:
    return Status(b"BYE", text, code)


def modified(numbers: bytes) -> bytes:
    """The code of a STORE that left messages alone, because others had changed them (RFC 7162 section 3.1.3)."""
    return b"MODIFIED " + numbers


def bad_url(url: bytes) -> Status:
    """CATENATE with a URL that names nothing here (RFC 4469 section 5)."""
    shown = url[:500] if _plain_url(url[:500]) else b""
    return Status(b"NO", "That URL names nothing that can be read here", b"BADURL %b" % quoted(shown))


def highest_modseq(value: int) -> bytes:
    """The code that tells the state of a mailbox (RFC 7162 section 3.1.2.1)."""
    return b"HIGHESTMODSEQ %d" % value


def in_progress(tag: bytes, done: int | None = None, goal: int | None = None) -> bytes:
    """How far a command is (RFC 9585 section 4)."""
    known = quoted(tag) if b"]" not in tag else b"NIL"
    state = b"NIL NIL" if done is None else b"%d %b" % (done, b"NIL" if goal is None else b"%d" % goal)
    return b"OK [INPROGRESS (%b %b)] Still at it" % (known, state)


def no_update(tag: bytes) -> bytes:
    """The result of this command is not kept up to date (RFC 5267 section 4.3.1)."""
    return b"NO [NOUPDATE %b] Changes of this result are not told" % quoted(tag)


def message_limit(most: int, lowest: int = 0) -> bytes:
    """The code that says where a command stopped: at the message with this UID (RFC 9738 section 3.1)."""
    return b"MESSAGELIMIT %d %d" % (most, lowest) if lowest else b"MESSAGELIMIT %d" % most


# Object identifiers (RFC 8474 section 4): a letter says what it is, and no two things share one.


def mailbox_id(number: int) -> bytes:
    return b"F%d" % number


def email_id(number: int) -> bytes:
    return b"M%d" % number


def thread_id(number: int) -> bytes:
    return b"T%d" % number


# Refusals, each once. The codes are those of RFC 5530 and RFC 9051 section 7.1.
NO_SUCH_MAILBOX = no("No such mailbox", b"NONEXISTENT")
TRY_CREATE = no("No such mailbox; create it first", b"TRYCREATE")
MAILBOX_EXISTS = no("The mailbox exists already", b"ALREADYEXISTS")
COMPRESSED = no("The connection is compressed already", b"COMPRESSIONACTIVE")  # RFC 4978 section 3
UID_REQUIRED = bad("UIDONLY is enabled: name messages by UIDs", b"UIDREQUIRED")  # RFC 9586 section 3.3
NO_PERMISSION = no("That is not permitted in this mailbox", b"NOPERM")  # RFC 5530
READ_ONLY = no("The mailbox is open for reading only", b"READ-ONLY")
TOO_BIG = no("The message is larger than this server takes", b"TOOBIG")
UNASKED = bad("A literal of more than 4096 octets has to ask first: LITERAL-", b"TOOBIG")  # RFC 7888 section 5
STORAGE_FULL = no("There is no room for it", b"OVERQUOTA")
OVER_QUOTA = no("The account has no room for that: remove messages first", b"OVERQUOTA")  # RFC 9208
NO_SUCH_ROOT = no("No such quota root", b"NONEXISTENT")
UNAVAILABLE = no("That is not possible right now; try again later", b"UNAVAILABLE")
BAD_CHARSET = no("Search texts may be in US-ASCII or UTF-8", b"BADCHARSET (US-ASCII UTF-8)")
BAD_CREDENTIALS = no("Wrong name or password", b"AUTHENTICATIONFAILED")
LOGIN_LATER = no("Logging in is not possible right now; try again in a minute", b"UNAVAILABLE")
NEEDS_TLS = no("Logging in needs TLS: use STARTTLS first", b"PRIVACYREQUIRED")
NO_MECHANISM = no("That way to log in is not offered", b"CANNOT")
CANCELLED = bad("Cancelled")
NOT_SELECTED = bad("No mailbox is selected")
NO_SUCH_MESSAGE = bad("There is no message with that number")
# OK, as in RFC 5530: the rest was done, and clients take NO for a failure of all of it.
NONE_LEFT = no("These messages no longer exist", b"EXPUNGEISSUED")
# RFC 2180 section 4.2: a STORE that cannot show the new flags of all its messages has not succeeded.
NOT_ALL_STORED = no("Done, but some of the messages have been deleted", b"EXPUNGEISSUED")
EXPUNGED = ok("Completed, but some of the messages no longer exist", b"EXPUNGEISSUED")
TOO_MANY_TO_SORT = no("That is more than this server sorts or threads at a time", b"LIMIT")  # RFC 5530
TOO_MANY_MAILBOXES = no("That is more mailboxes than this server searches at a time", b"LIMIT")
UNKNOWN_CTE = no("A part has a transfer encoding that we do not know, or is broken", b"UNKNOWN-CTE")
TOO_MANY_ERRORS = bye("Too many errors")
TOO_LATE = bye("Nothing was said for too long")
GOING_DOWN = bye("The server is going down", b"UNAVAILABLE")
GOODBYE = bye("Goodbye")
DELETED = bye("The selected mailbox was deleted")
REVOKED = bye("The selected mailbox is shared with you no more", b"NOPERM")


def failure(connection_id: str) -> Status:
    """Something that should not happen did."""
    return no(f"Internal error; the log has it under {connection_id}", b"SERVERBUG")


# Strings

_bare = re.compile(rb"[^(){ %*\"\\\x00-\x1f\x7f-\xff]+").fullmatch
_quotable = re.compile(rb"[^\r\n\x00\x80-\xff]*").fullmatch


def quoted(value: bytes, utf8: bool = False) -> bytes:
    """A string: quoted if it can be, else a literal."""
    if len(value) > 1000 or (_quotable(value) is None and not (utf8 and not re.search(rb"[\r\n\x00]", value))):
        return b"{%d}\r\n%b" % (len(value), value)
    if b'"' in value or b"\\" in value:
        value = value.replace(b"\\", b"\\\\").replace(b'"', b'\\"')
    return b'"%b"' % value


def astring(value: bytes, utf8: bool = False) -> bytes:
    """A string, bare if it can be; NIL is quoted so that nobody takes it for nothing."""
    if _bare(value) and value.upper() != b"NIL":
        return value
    return quoted(value, utf8)


def mailbox(name: str, utf8: bool) -> bytes:
    """A mailbox name as it goes to the client."""
    return astring(names.encode(name, utf8), utf8)


# Untagged responses, without "* " and CRLF


def flags(keywords: Iterable[str]) -> bytes:
    """FLAGS and PERMANENTFLAGS lists name the system flags and the keywords in use."""
    return b" ".join([_SYSTEM, *(word.encode() for word in keywords)])


_SYSTEM = rb"\Answered \Flagged \Deleted \Seen \Draft"


def list_item(kind: bytes, attributes: Iterable[bytes], name: str, utf8: bool, extended: bytes = b"") -> bytes:
    """LIST and LSUB: (attributes) "/" name, and what RFC 5258 puts behind it."""
    line = b'%b (%b) "/" %b' % (kind, b" ".join(attributes), mailbox(name, utf8))
    return line + b" " + extended if extended else line


def search_source(name: str, uidvalidity: int, utf8: bool) -> bytes:
    """The correlators of a mailbox that was searched (RFC 7377 section 2.1)."""
    return b" MAILBOX %b UIDVALIDITY %d" % (mailbox(name, utf8), uidvalidity)


def status_item(name: str, utf8: bool, values: Iterable[tuple[bytes, int | bytes]]) -> bytes:
    """STATUS name (item value …)"""
    items = [b"%b %b" % (item, value if isinstance(value, bytes) else b"%d" % value) for item, value in values]
    return b"STATUS %b (%b)" % (mailbox(name, utf8), b" ".join(items))


def esearch(tag: bytes, uid: bool, values: Iterable[tuple[bytes, bytes]], source: bytes = b"") -> bytes:
    """ESEARCH (TAG "…") UID item value … (RFC 4731); `source`: further correlators (RFC 7377)"""
    parts = [b"ESEARCH (TAG %b%b)" % (quoted(tag), source)]
    if uid:
        parts.append(b"UID")
    parts += [b"%b %b" % pair for pair in values]
    return b" ".join(parts)

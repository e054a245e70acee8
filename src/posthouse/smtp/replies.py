"""SMTP replies as values, and every reply we give (RFC 5321 section 4.2, RFC 3463, RFC 2034).

A session that refuses something picks one from here, or makes its own with an enhanced status code.
Texts are for the person who reads a bounce or a log: they say what is wrong and what would be right.
"""

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

# RFC 5321 section 4.5.3.1.5: 512 octets a reply line with code and CRLF; we stay well below.
_MAX_TEXT = 400
_unsendable = re.compile(r"[^ -~]")


class Reply(NamedTuple):
    """One reply; `text` may have several lines."""

    code: int
    status: str  # enhanced status code (RFC 3463); "" for 3yz, the greeting and EHLO (RFC 2034 section 4)
    text: str

    @property
    def accepted(self) -> bool:
        """Whether the command did, or began to do, what was asked."""
        return self.code < 400

    @property
    def temporary(self) -> bool:
        """Whether the same may work later."""
        return 400 <= self.code < 500

    def encode(self) -> bytes:
        """The bytes on the wire. What cannot be sent in a reply becomes "?"."""
        return _encode(self)

    def __str__(self) -> str:
        return f"{self.code} {self.status} {self.text}" if self.status else f"{self.code} {self.text}"


@lru_cache(1024)
def _encode(reply: Reply) -> bytes:
    if not 200 <= reply.code < 600:
        raise ValueError(f"{reply.code} is no reply code")
    prefix = reply.status + " " if reply.status else ""
    lines = [_unsendable.sub("?", prefix + line)[:_MAX_TEXT].encode() for line in reply.text.split("\n")]
    last = lines.pop()
    return b"".join([b"%d-%b\r\n" % (reply.code, line) for line in lines]) + b"%d %b\r\n" % (reply.code, last)


# Greeting and goodbye


def greeting(hostname: str, text: str = "Posthouse ESMTP") -> Reply:
    """The first line of a connection; "ESMTP" in it tells old clients to try EHLO."""
    return Reply(220, "", f"{hostname} {text}")


BYE = Reply(221, "2.0.0", "Goodbye")
SHUTTING_DOWN = Reply(421, "4.3.2", "The server is going down for a moment; try again")
TIMEOUT = Reply(421, "4.4.2", "You were silent for too long; closing the connection")
TOO_MANY_CONNECTIONS = Reply(421, "4.7.0", "Too many connections from your address; try again later")
TOO_MANY_ERRORS = Reply(421, "4.7.0", "Too many errors; closing the connection")
EARLY_TALKER = Reply(554, "5.5.0", "You spoke before the greeting; that is not how mail servers do it")
NOT_HTTP = Reply(421, "4.7.0", "This is a mail server and speaks SMTP, not HTTP")
NOT_TLS_YET = Reply(421, "4.7.0", "This port begins without TLS: use STARTTLS, or the port for implicit TLS (465)")

# Success

OK = Reply(250, "2.0.0", "OK")
SENDER_OK = Reply(250, "2.1.0", "Sender OK")
RECIPIENT_OK = Reply(250, "2.1.5", "Recipient OK")
START_MAIL = Reply(354, "", "Send the message; end it with <CRLF>.<CRLF>")
READY_FOR_TLS = Reply(220, "2.0.0", "Ready to start TLS")
AUTH_SUCCEEDED = Reply(235, "2.7.0", "Authentication succeeded")
HELP = Reply(
    214,
    "2.0.0",
    "Commands: EHLO HELO MAIL RCPT DATA BDAT RSET NOOP QUIT VRFY EXPN HELP STARTTLS AUTH\n"
    "The rules are in RFC 5321: https://www.rfc-editor.org/rfc/rfc5321",
)
CANNOT_VRFY = Reply(252, "2.5.2", "Addresses are not verified here; send the message and see")


# ETRN: we deliver as soon as a server can be reached, whoever asks (RFC 1985 section 5.3)
NO_ETRN = Reply(459, "4.7.1", "Mail for you is sent as soon as your server can be reached; nothing to ask for")
VRFY_UNKNOWN = Reply(550, "5.1.1", "No such address here")
CANNOT_EXPAND = Reply(252, "2.5.2", "Lists are not expanded here; send the message and see")


# Lines and commands

UNRECOGNIZED = Reply(500, "5.5.2", "Command not recognized")
# RFC 2033 section 4.1: LMTP has LHLO, SMTP has the others, so that neither is taken for the other.
SAY_LHLO = Reply(500, "5.5.1", "This is LMTP: say LHLO")
SAY_EHLO = Reply(500, "5.5.1", "This is SMTP: say EHLO")
NOT_IMPLEMENTED = Reply(502, "5.5.1", "Command not implemented")
LINE_TOO_LONG = Reply(500, "5.5.2", "Line too long")
AUTH_LINE_TOO_LONG = Reply(500, "5.5.6", "Authentication exchange line too long")
BARE_LINE_END = Reply(500, "5.5.2", "Lines must end with CR LF; a CR or LF alone is refused")
CONTROL_CHARACTER = Reply(500, "5.5.2", "Control character in the command")
NO_ARGUMENTS = Reply(501, "5.5.4", "This command takes no arguments")
EARLY_INPUT = Reply(554, "5.5.0", "You sent more before this reply; wait for it (RFC 2920 section 3.1)")

HELLO_SYNTAX = Reply(501, "5.5.4", "Give your host name: EHLO host.example")
MAIL_SYNTAX = Reply(501, "5.5.4", "Syntax: MAIL FROM:<address> [parameters]")
RCPT_SYNTAX = Reply(501, "5.5.4", "Syntax: RCPT TO:<address> [parameters]")
SENDER_SYNTAX = Reply(501, "5.1.7", "This is not a valid sender address")
RECIPIENT_SYNTAX = Reply(501, "5.1.3", "This is not a valid recipient address")
SENDER_NEEDS_DOMAIN = Reply(553, "5.1.7", "The sender address needs a domain: <name@example.org>")
RECIPIENT_NEEDS_DOMAIN = Reply(553, "5.1.3", "The recipient address needs a domain: <name@example.org>")
NEEDS_SMTPUTF8 = Reply(553, "5.6.7", "The address is not ASCII: SMTPUTF8 is needed")
VRFY_SYNTAX = Reply(501, "5.5.4", "Say which address: VRFY name@example.org")
BDAT_SYNTAX = Reply(501, "5.5.4", "Syntax: BDAT octets [LAST]; closing the connection, as the data cannot be told")
BURL_SYNTAX = Reply(501, "5.5.4", "Syntax: BURL url [LAST]")
# RFC 4468 section 3.3: why is not told apart, so that nobody learns which messages there are.
BURL_UNRESOLVED = Reply(554, "5.7.0", "The URL names nothing that you may send: is it authorized for your login?")
BURL_NEEDS_LOGIN = Reply(530, "5.7.0", "Log in first")
XCLIENT_SYNTAX = Reply(501, "5.5.4", "Syntax: XCLIENT name=value ...; values are xtext")
XCLIENT_DENIED = Reply(550, "5.7.0", "XCLIENT is not for you")
ETRN_SYNTAX = Reply(501, "5.5.4", "Say for which domain: ETRN example.org")
AUTH_SYNTAX = Reply(501, "5.5.4", "Syntax: AUTH mechanism [initial-response]")


def bad_parameter(name: str) -> Reply:
    """A parameter of MAIL or RCPT whose value makes no sense."""
    return Reply(501, "5.5.4", f"Bad value of the parameter {name[:40]}")


def unknown_parameter(name: str) -> Reply:
    """A parameter of MAIL or RCPT that we do not know (RFC 5321 section 4.1.1.11)."""
    return Reply(555, "5.5.4", f"Parameter {name[:40]} not recognized")


# Sequence

SAY_HELLO = Reply(503, "5.5.1", "Say EHLO or HELO first")
NESTED_MAIL = Reply(503, "5.5.1", "A message is under way: finish it or send RSET")
NEED_MAIL = Reply(503, "5.5.1", "MAIL comes first")
NEED_RCPT = Reply(503, "5.5.1", "RCPT comes first")
NO_VALID_RECIPIENTS = Reply(554, "5.5.1", "No valid recipients")
BDAT_UNDER_WAY = Reply(503, "5.5.1", "Chunks have come already: end the message with BDAT ... LAST")
BINARY_NEEDS_BDAT = Reply(503, "5.5.1", "BODY=BINARYMIME goes with BDAT only (RFC 3030)")
BAD_SEQUENCE = Reply(503, "5.5.1", "Bad sequence of commands")
SERVICE_REFUSED = Reply(503, "5.5.1", "Service refused; only QUIT is possible")

# What a message may not ask for

ENCRYPTION_NEEDED = Reply(530, "5.7.0", "REQUIRETLS needs TLS here as well: issue STARTTLS first")
REQUIRETLS_NOT_OFFERED = Reply(550, "5.7.30", "The message must go by TLS only: REQUIRETLS is not offered")
DELIVERBY_NOT_OFFERED = Reply(550, "5.4.7", "The message has a time limit, and the server does not offer DELIVERBY")
HOLD_TOO_LONG = Reply(501, "5.5.4", "The message would be held for longer than is possible here")
HOLD_PAST = Reply(501, "5.5.4", "The time until which the message should be held is not in the future")


def by_too_soon(minimum: int) -> Reply:
    """BY with mode R asks for more than we promise (RFC 2852 section 4)."""
    return Reply(501, "5.5.4", f"At least {minimum} seconds are needed to deliver")


# TLS and AUTH

TLS_NOT_OFFERED = Reply(502, "5.5.1", "STARTTLS is not offered here")
TLS_ACTIVE = Reply(503, "5.5.1", "TLS is active already")
TLS_REQUIRED = Reply(530, "5.7.0", "Issue STARTTLS first")
TLS_UNAVAILABLE = Reply(454, "4.7.0", "TLS is not available at the moment")
AUTH_REQUIRED = Reply(530, "5.7.0", "Authentication required")
AUTH_NOT_OFFERED = Reply(502, "5.5.1", "AUTH is not offered here")
AUTH_ACTIVE = Reply(503, "5.5.1", "You are authenticated already")
AUTH_NEEDS_EHLO = Reply(503, "5.5.1", "Say EHLO first: HELO knows no AUTH")
AUTH_NEEDS_TLS = Reply(538, "5.7.11", "This mechanism shows the password: issue STARTTLS first")
UNKNOWN_MECHANISM = Reply(504, "5.5.4", "Authentication mechanism not offered")
AUTH_BASE64 = Reply(501, "5.5.2", "This is not base64")
AUTH_MALFORMED = Reply(501, "5.5.2", "The response does not fit the mechanism")
AUTH_CANCELLED = Reply(501, "5.7.0", "Authentication cancelled")
AUTH_FAILED = Reply(535, "5.7.8", "User name or password is wrong; with a second factor on, use an app password")
AUTH_TEMPORARY = Reply(454, "4.7.0", "Authentication is not possible at the moment; try again later")

# Sender and recipient

NO_SUCH_USER = Reply(550, "5.1.1", "No such mailbox here")
RELAY_DENIED = Reply(550, "5.7.1", "We do not relay for you: authenticate, or check the recipient's domain")
SENDER_NOT_YOURS = Reply(553, "5.7.1", "You may not send with this sender address")
MAILBOX_FULL = Reply(452, "4.2.2", "This mailbox is full; try again later")
TOO_MANY_RECIPIENTS = Reply(452, "4.5.3", "Too many recipients; send the rest in another transaction")

# Content

MESSAGE_TOO_BIG = Reply(552, "5.3.4", "The message is too big")
STILL_TOO_BIG = Reply(421, "4.3.4", "The message is far too big; closing the connection")
NUL_CONTENT = Reply(550, "5.6.0", "A line of the message begins with a NUL; send it encoded (RFC 2045 section 2.8)")
BARE_CONTENT = Reply(
    550, "5.6.11", "The message has a CR or LF that is not part of a CRLF; it is refused (RFC 5321, 2.3.8)"
)
STORAGE_FULL = Reply(452, "4.3.1", "Not enough storage; try again later")
LOCAL_ERROR = Reply(451, "4.3.0", "Something went wrong here; try again later")
MAIL_LOOP = Reply(554, "5.4.6", "The message goes in circles: too many Received fields")


ODD_HEADER = Reply(550, "5.6.0", "The header has lines that are no fields; correct it (RFC 5322 section 2.2)")
ODD_FROM = Reply(
    550, "5.6.0", "From must have few addresses, and names with @ in quotation marks (RFC 5322 section 3.4)"
)


def with_id(reply: Reply, text: str) -> Reply:
    """A refusal that says under which id the trace of it is kept."""
    *lines, last = reply.text.split("\n")
    return reply._replace(text="\n".join([*lines, f"{last[: _MAX_TEXT - 40]} (id {text})"]))


def from_not_yours(address: str, field: str = "From") -> Reply:
    """The From field, or another that says who sends it, names somebody else."""
    return Reply(550, "5.7.1", f"You may not send as {address[:100]}: ask for the right to, or correct {field}")


def chunk_taken(octets: int) -> Reply:
    """A BDAT that is not the last."""
    return Reply(250, "2.0.0", f"{octets} octets received")


def too_big(max_size: int) -> Reply:
    """SIZE on MAIL says that the message cannot be taken (RFC 1870 section 6.1)."""
    return Reply(552, "5.3.4", f"The message is too big: at most {max_size} octets")


# Hello


def capabilities(hostname: str, name: str, keywords: Iterable[str]) -> Reply:
    """What EHLO answers (RFC 5321 section 4.1.1.1); without keywords, what HELO answers."""
    return Reply(250, "", "\n".join([f"{hostname} greets {name}", *keywords]))

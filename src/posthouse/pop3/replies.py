"""Every reply this server gives on POP3. A reply is a value; the engine turns it into bytes.

Response codes are those of RFC 2449 section 8 and RFC 3206.
"""

from typing import NamedTuple


class Reply(NamedTuple):
    """One status line."""

    accepted: bool
    text: str
    code: str = ""  # extended response code, for refusals

    def encode(self) -> bytes:
        """The bytes on the wire."""
        if self.accepted:
            return f"+OK {self.text}\r\n".encode()
        return f"-ERR [{self.code}] {self.text}\r\n".encode() if self.code else f"-ERR {self.text}\r\n".encode()


OK = Reply(True, "OK")
BYE = Reply(True, "Bye")
BEGIN_TLS = Reply(True, "Begin TLS negotiation")
SEND_PASSWORD = Reply(True, "Send the password")
CAPABILITIES = Reply(True, "Capability list follows")
LISTING = Reply(True, "Listing follows")
MECHANISMS = Reply(True, "Mechanisms follow")
CONTENT = Reply(True, "Message follows")
RESET = Reply(True, "Nothing is marked for deletion")
DELETED = Reply(True, "Marked for deletion")

UNKNOWN_COMMAND = Reply(False, "Unknown command")
BAD_STATE = Reply(False, "Not possible in this state")
BAD_ARGUMENTS = Reply(False, "Wrong arguments")
NO_SUCH_MESSAGE = Reply(False, "No such message")
ALREADY_DELETED = Reply(False, "Message is marked for deletion")
MESSAGE_GONE = Reply(False, "Message was removed by another client")
TOO_LONG = Reply(False, "Line too long")
BARE_LF = Reply(False, "Lines must end with CR LF")
TOO_MANY_ERRORS = Reply(False, "Too many errors")
AFTER_STLS = Reply(False, "Nothing may follow STLS before the TLS handshake")
NO_TLS = Reply(False, "TLS is not available here")
TLS_ACTIVE = Reply(False, "TLS is active already")

TLS_REQUIRED = Reply(False, "Passwords are taken over TLS only: use STLS", "AUTH")
USER_FIRST = Reply(False, "Send USER first")
BAD_MECHANISM = Reply(False, "Unknown authentication mechanism")
BAD_BASE64 = Reply(False, "Response is not base64")
CANCELLED = Reply(False, "Authentication cancelled")
AUTH_FAILED = Reply(False, "Wrong name or password", "AUTH")
LOGIN_LATER = Reply(False, "Logging in is not possible right now; try again in a minute", "SYS/TEMP")
AUTH_MALFORMED = Reply(False, "Malformed authentication message", "AUTH")
LOCKED = Reply(False, "Another POP3 session has this mailbox", "IN-USE")
NOT_REMOVED = Reply(False, "Some messages could not be removed", "SYS/TEMP")
SHUTTING_DOWN = Reply(False, "The server is shutting down", "SYS/TEMP")


def greeting(hostname: str) -> Reply:
    """The first line of a connection. No timestamp in it: APOP needs passwords kept in clear."""
    return Reply(True, f"{hostname} POP3 server ready")


def opened(count: int, size: int) -> Reply:
    """The answer to a login."""
    return Reply(True, f"{count} messages, {size} octets")


def failure(session: str) -> Reply:
    """Something went wrong on our side."""
    return Reply(False, f"Something went wrong here, try again later (session {session})", "SYS/TEMP")

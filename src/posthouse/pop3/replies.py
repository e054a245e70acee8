"""Every reply this server gives on POP3. A reply is a value; the engine turns it into bytes, in the client's language.

Response codes are those of RFC 2449 section 8, RFC 3206 and RFC 6856. Translations are in `languages`.
"""

from typing import NamedTuple

from posthouse.pop3 import languages


class Reply(NamedTuple):
    """One status line. `text` is English and has `{}` where each of the `values` stands."""

    accepted: bool
    text: str
    code: str = ""  # extended response code, for refusals
    values: tuple[object, ...] = ()

    def encode(self, language: str = languages.DEFAULT) -> bytes:
        """The bytes on the wire."""
        text = languages.translated(self.text, language)
        if self.values:
            text = text.format(*self.values)
        if self.accepted:
            return f"+OK {text}\r\n".encode()
        return f"-ERR [{self.code}] {text}\r\n".encode() if self.code else f"-ERR {text}\r\n".encode()


OK = Reply(True, "OK")
BYE = Reply(True, "Bye")
BEGIN_TLS = Reply(True, "Begin TLS negotiation")
SEND_PASSWORD = Reply(True, "Send the password")
CAPABILITIES = Reply(True, "Capability list follows")
LISTING = Reply(True, "Listing follows")
MECHANISMS = Reply(True, "Mechanisms follow")
LANGUAGES = Reply(True, "Language listing follows")
CONTENT = Reply(True, "Message follows")
RESET = Reply(True, "Nothing is marked for deletion")
DELETED = Reply(True, "Marked for deletion")
UTF8 = Reply(True, "UTF-8 from now on")

UNKNOWN_COMMAND = Reply(False, "Unknown command")
BAD_STATE = Reply(False, "Not possible in this state")
BAD_ARGUMENTS = Reply(False, "Wrong arguments")
NO_SUCH_MESSAGE = Reply(False, "No such message")
NO_SUCH_LANGUAGE = Reply(False, "This language is not spoken here")
ALREADY_DELETED = Reply(False, "Message is marked for deletion")
MESSAGE_GONE = Reply(False, "Message was removed by another client")
TOO_LONG = Reply(False, "Line too long")
BARE_LF = Reply(False, "Lines must end with CR LF")
TOO_MANY_ERRORS = Reply(False, "Too many errors")
AFTER_STLS = Reply(False, "Nothing may follow STLS before the TLS handshake")
STLS_AFTER_UTF8 = Reply(False, "STLS comes before UTF8")
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
    return Reply(True, "{} POP3 server ready", values=(hostname,))


def opened(count: int, size: int) -> Reply:
    """The answer to a login."""
    return Reply(True, "{} messages, {} octets", values=(count, size))


def too_soon(seconds: int) -> Reply:
    """The last login was a moment ago (RFC 2449 section 8.1.1)."""
    return Reply(False, "Logins are {} seconds apart here; wait a little", "LOGIN-DELAY", (seconds,))


def language(tag: str) -> Reply:
    """LANG was taken: the line begins with the tag (RFC 6856 section 3.2)."""
    return Reply(True, "{} This language is spoken from now on", values=(tag,))


def failure(session: str) -> Reply:
    """Something went wrong on our side."""
    return Reply(False, "Something went wrong here, try again later (session {})", "SYS/TEMP", (session,))

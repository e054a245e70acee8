"""Commands before login: STARTTLS, LOGIN, AUTHENTICATE (RFC 9051 section 6.2).

The SASL exchange itself is `wire.sasl`; the engine does the base64 and the "*" that cancels.
"""

import binascii
from dataclasses import dataclass

from posthouse.imap.tokens import BadSyntax, Cursor

MAX_NAME = 255
MAX_PASSWORD = 1024
MAX_RESPONSE = 12_288  # octets of base64 (RFC 4954 section 4 has the same bound)


@dataclass(frozen=True, slots=True)
class StartTls:
    """STARTTLS"""


@dataclass(frozen=True, slots=True)
class Login:
    """LOGIN"""

    name: str
    password: str

    def __repr__(self) -> str:
        return f"Login({self.name!r}, ...)"  # never a password in a log


@dataclass(frozen=True, slots=True)
class Authenticate:
    """AUTHENTICATE, with the initial response if there was one (RFC 4959)."""

    mechanism: str
    initial: bytes | None

    def __repr__(self) -> str:
        return f"Authenticate({self.mechanism!r}, ...)"


@dataclass(frozen=True, slots=True)
class AuthResponse:
    """The client's answer to a challenge."""

    data: bytes

    def __repr__(self) -> str:
        return "AuthResponse(...)"


def starttls(cursor: Cursor) -> StartTls:
    cursor.end()
    return StartTls()


def login(cursor: Cursor) -> Login:
    """login = "LOGIN" SP userid SP password"""
    cursor.space()
    name = cursor.astring()
    cursor.space()
    password = cursor.astring()
    cursor.end()
    if len(name) > MAX_NAME or len(password) > MAX_PASSWORD:
        raise BadSyntax("a name or password that is too long")
    try:
        return Login(name.decode("utf-8"), password.decode("utf-8"))
    except UnicodeDecodeError:
        raise BadSyntax("a name or password that is not UTF-8") from None


def authenticate(cursor: Cursor) -> Authenticate:
    """authenticate = "AUTHENTICATE" SP auth-type [SP initial-resp]; initial-resp = base64 / "=" """
    cursor.space()
    mechanism = cursor.atom().decode("ascii").upper()
    initial = None
    if cursor.skip_space():
        text = cursor.text[cursor.at :].strip(b" ")
        cursor.at = len(cursor.text)
        initial = b"" if text == b"=" else decode(text)
        if initial is None:
            raise BadSyntax("an initial response that is not base64")
    return Authenticate(mechanism, initial)


def decode(text: bytes) -> bytes | None:
    """The bytes behind base64, or None."""
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except ValueError:
        return None

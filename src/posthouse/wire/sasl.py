"""SASL mechanisms as small machines (RFC 4422): responses in; a challenge, credentials or a failure out.

The engines of SMTP, IMAP and POP3 do the base64 and the "*" that cancels; whether a password is right
is for `auth`. Nothing here raises for what a peer sent.

Server: `mechanism = server(name)`, then `step(data)` for the initial response (None if there was none)
and for each answer to a Challenge. Client: `client(name, authcid, password)`, then `step(challenge)`.
"""

from collections.abc import Callable
from typing import NamedTuple, Protocol

# RFC 4616 section 2 asks for at least 1 and allows 255 octets; password managers make long passwords.
_MAX_NAME = 255
_MAX_PASSWORD = 1024

# Mechanisms that show the password to whoever listens: offered under TLS only (RFC 4954 section 4).
PLAINTEXT = frozenset({"PLAIN", "LOGIN"})


class Challenge(NamedTuple):
    """Send this (b"" is a challenge too), then step again with the response."""

    data: bytes


class Credentials(NamedTuple):
    """What the client claims. An empty `authzid` means: act as `authcid`."""

    authcid: str
    authzid: str
    password: str

    def __repr__(self) -> str:
        return f"Credentials({self.authcid!r}, {self.authzid!r}, ...)"  # never a password in a log


class Failure(NamedTuple):
    """The exchange is over; the reason is for the log."""

    reason: str


Step = Challenge | Credentials | Failure


class Mechanism(Protocol):
    """One exchange, server side."""

    def step(self, data: bytes | None) -> Step:
        """Take the client's response; None only at the start, without an initial response."""
        ...


class Plain:
    """PLAIN: all in one message (RFC 4616)."""

    def step(self, data: bytes | None) -> Step:
        if data is None:
            return Challenge(b"")
        # message = [authzid] UTF8NUL authcid UTF8NUL passwd
        try:
            authzid, authcid, password = data.decode("utf-8").split("\0")
        except ValueError:  # UnicodeDecodeError too
            return Failure("malformed PLAIN message")
        return _credentials(authcid, authzid, password)


class Login:
    """LOGIN: never standardised, and asked for by Outlook and many devices (draft-murchison-sasl-login).

    The prompts are fixed by habit. An initial response, where the protocol has one, is the name.
    """

    def __init__(self) -> None:
        self._name: bytes | None = None

    def step(self, data: bytes | None) -> Step:
        if data is None:
            return Challenge(b"Username:")
        if self._name is None:
            self._name = data[: _MAX_NAME + 1]
            return Challenge(b"Password:")
        try:
            name, password = self._name.decode("utf-8"), data.decode("utf-8")
        except UnicodeDecodeError:
            return Failure("malformed LOGIN response")
        return _credentials(name, "", password)


def _credentials(authcid: str, authzid: str, password: str) -> Step:
    if not authcid or not password:
        return Failure("empty name or password")
    if len(authcid) > _MAX_NAME or len(authzid) > _MAX_NAME or len(password) > _MAX_PASSWORD:
        return Failure("name or password too long")
    if "\0" in authcid or "\0" in password:
        return Failure("NUL in name or password")
    return Credentials(authcid, authzid, password)


_SERVERS: dict[str, Callable[[], Mechanism]] = {"PLAIN": Plain, "LOGIN": Login}


def server(name: str) -> Mechanism | None:
    """A new exchange of the mechanism, or None if we do not know it."""
    make = _SERVERS.get(name.upper())
    return make() if make is not None else None


class ClientMechanism(Protocol):
    """One exchange, client side."""

    initial: bytes | None  # the initial response, for protocols that can carry one

    def step(self, challenge: bytes) -> bytes | None:
        """The response to a challenge; None: it makes no sense, cancel."""
        ...


class ClientPlain:
    """PLAIN, client side."""

    def __init__(self, authcid: str, password: str) -> None:
        self.initial: bytes | None = f"\0{authcid}\0{password}".encode()

    def step(self, challenge: bytes) -> bytes | None:  # noqa: ARG002  (some servers put text in it)
        message, self.initial = self.initial, None
        return message


class ClientLogin:
    """LOGIN, client side: the order of the prompts is fixed, their words are not."""

    def __init__(self, authcid: str, password: str) -> None:
        self.initial: bytes | None = None
        self._answers = [password.encode(), authcid.encode()]

    def step(self, challenge: bytes) -> bytes | None:  # noqa: ARG002
        return self._answers.pop() if self._answers else None


_CLIENTS: dict[str, Callable[[str, str], ClientMechanism]] = {"PLAIN": ClientPlain, "LOGIN": ClientLogin}


def client(name: str, authcid: str, password: str) -> ClientMechanism | None:
    """A new exchange, client side, or None if we do not know the mechanism."""
    make = _CLIENTS.get(name.upper())
    return make(authcid, password) if make is not None else None

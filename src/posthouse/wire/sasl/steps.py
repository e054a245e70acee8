"""What a mechanism asks of its session, step by step. No value shows a secret when it is printed."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

# RFC 4616 section 2 asks for at least 1 and allows 255 octets; password managers make long passwords.
MAX_NAME = 255
MAX_PASSWORD = 1024
MAX_TOKEN = 10_000  # characters: JWTs with many claims have about 4,000


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


class WantSecret(NamedTuple):
    """The client can prove that it knows a secret: look it up and call `mechanism.secret(...)` for the next step.

    `kind` is "SCRAM-SHA-1" or "SCRAM-SHA-256" (one ScramKeys or more are wanted, all with one salt) or "CRAM-MD5"
    (passwords). For a name that is nobody's hand in something made up: the exchange must look the same.
    """

    authcid: str
    authzid: str
    kind: str


class Proved(NamedTuple):
    """The client knows a secret: that number `which` of those handed in."""

    authcid: str
    authzid: str
    which: int = 0


class Bearer(NamedTuple):
    """A token to be verified. If it is not good, `mechanism.refuse(...)` gives the challenge that says so."""

    authzid: str
    token: str

    def __repr__(self) -> str:
        return f"Bearer({self.authzid!r}, ...)"


class Certificate(NamedTuple):
    """The client's certificate says who it is; an empty `authzid` means: whoever that is."""

    authzid: str


class Failure(NamedTuple):
    """The exchange is over; the reason is for the log. Not `malformed`: all was in form, and wrong."""

    reason: str
    authcid: str = ""
    malformed: bool = True


Step = Challenge | Credentials | WantSecret | Proved | Bearer | Certificate | Failure


class Mechanism(Protocol):
    """One exchange, server side."""

    def step(self, data: bytes | None) -> Step:
        """Take the client's response; None only at the start, without an initial response."""
        ...

    def secret(self, values: Sequence[object]) -> Step:
        """The answer to WantSecret."""
        ...

    def refuse(self, status: str = "invalid_token", scope: str = "mail", configuration: str = "") -> Challenge:
        """The answer to a Bearer whose token is not good (RFC 7628 section 3.2.2): what a good one would be for, and
        the address of the document that says where to get one ("openid-configuration")."""
        ...


class Base:
    """What a mechanism answers where it has nothing to say: its session asked out of turn."""

    def secret(self, _values: Sequence[object]) -> Step:
        return Failure("no secret was wanted")

    def refuse(
        self,
        status: str = "invalid_token",
        scope: str = "mail",  # noqa: ARG002
        configuration: str = "",  # noqa: ARG002
    ) -> Challenge:
        return Challenge(status.encode("ascii", "replace"))

"""What the POP3 engine asks its session to decide or to do. How each is answered stands with it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StartTls:
    """STLS was asked: `reply`, upgrade the connection, then `tls_started`."""


@dataclass(frozen=True, slots=True)
class Login:
    """USER and PASS: `authenticated`, or `reply` with a refusal."""

    name: str
    password: str

    def __repr__(self) -> str:
        return f"Login({self.name!r}, ...)"  # never a password in a log


@dataclass(frozen=True, slots=True)
class Auth:
    """AUTH: `challenge`, `authenticated`, or `reply` with a refusal."""

    mechanism: str
    initial: bytes | None


@dataclass(frozen=True, slots=True)
class AuthResponse:
    """The response to a challenge: answered like `Auth`."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Retrieve:
    """RETR, or TOP if `lines` is not None: `content` until it returns True or all is sent, then
    `end_content`; or `reply` with a refusal before the first `content`."""

    number: int  # from 1
    lines: int | None


@dataclass(frozen=True, slots=True)
class Pause:
    """Much output is waiting: let the peer take it, then `proceed`."""


@dataclass(frozen=True, slots=True)
class Update:
    """QUIT in the transaction state: remove these messages, then `reply`; the engine closes after it."""

    deleted: tuple[int, ...]  # numbers, from 1


Event = StartTls | Login | Auth | AuthResponse | Retrieve | Pause | Update

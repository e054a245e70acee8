"""SASL mechanisms, client side, and the choice among those that a server offers.

A server is not believed more than it must be: SCRAM wants its proof, few iterations and endless ones are refused, and
a challenge that makes no sense is answered with None (cancel). Nothing raises for what a server sent.
"""

import hashlib
import hmac
import re
from base64 import b64encode
from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType
from typing import NamedTuple, Protocol

from posthouse.wire.sasl.prepare import saslprep
from posthouse.wire.sasl.scram import DIGESTS, EXTENSIONS, MAX_MESSAGE, from_base64
from posthouse.wire.sasl.server import NEEDS_TLS, SHOWN

# RFC 7677 section 4. Who asks for less wants to guess the password from the proof at leisure; who asks for more
# keeps the client computing.
_ITERATIONS = range(4096, 1_000_001)
_server_first = re.compile(rf"r=([!-+\--~]+),s=([A-Za-z0-9+/=]+),i=([0-9]{{1,7}}){EXTENSIONS}").fullmatch
_server_final = re.compile(rf"v=([A-Za-z0-9+/=]+){EXTENSIONS}").fullmatch


class ClientMechanism(Protocol):
    """One exchange, client side."""

    initial: bytes | None  # the initial response, for protocols that can carry one

    @property
    def finished(self) -> bool:
        """Whether a success that the server claims now can be believed."""
        ...

    def step(self, challenge: bytes) -> bytes | None:
        """The response to a challenge; None: it makes no sense, cancel."""
        ...


class Secrets(NamedTuple):
    """What a client has to log in with."""

    authcid: str
    password: str = ""
    authzid: str = ""
    token: str = ""
    nonce: str = ""
    bindings: Mapping[str, bytes] = MappingProxyType({})

    def __repr__(self) -> str:
        return f"Secrets({self.authcid!r}, ...)"


class Single:
    """One message and done: PLAIN, EXTERNAL, OAUTHBEARER, XOAUTH2."""

    finished = True

    def __init__(self, message: bytes, apology: bytes | None = None) -> None:
        self.initial: bytes | None = message
        self._apology = apology  # what an error is answered with

    def step(self, challenge: bytes) -> bytes | None:  # noqa: ARG002  (some servers put text in the first one)
        message, self.initial = self.initial, None
        if message is None:
            message, self._apology = self._apology, None  # one is enough
        return message


class Login:
    """LOGIN: the order of the prompts is fixed, their words are not."""

    def __init__(self, secrets: Secrets) -> None:
        self.initial: bytes | None = None
        self._answers = [secrets.password.encode(), secrets.authcid.encode()]

    @property
    def finished(self) -> bool:
        return not self._answers

    def step(self, challenge: bytes) -> bytes | None:  # noqa: ARG002
        return self._answers.pop() if self._answers else None


class CramMd5:
    """CRAM-MD5."""

    def __init__(self, secrets: Secrets) -> None:
        self.initial: bytes | None = None
        self._secrets = secrets
        self.finished = False

    def step(self, challenge: bytes) -> bytes | None:
        if self.finished or not challenge:
            return None
        self.finished = True
        digest = hmac.new(self._secrets.password.encode(), challenge, "md5").hexdigest()
        return f"{self._secrets.authcid} {digest}".encode()


class Scram:
    """SCRAM: the server must prove that it knows the password, too."""

    def __init__(self, secrets: Secrets, kind: str, binding: str, offered: Collection[str]) -> None:
        self._digest = DIGESTS[kind]
        self._password = secrets.password
        # "y": we could bind the channel, and the server was not seen to offer it (RFC 5802 section 6).
        can_bind = bool(secrets.bindings and offered) and f"{kind}-PLUS" not in {name.upper() for name in offered}
        flag = f"p={binding}" if binding else "y" if can_bind else "n"
        acting = f"a={_escape(secrets.authzid)}" if secrets.authzid else ""
        self._header = f"{flag},{acting},"
        self._bound = self._header.encode() + secrets.bindings.get(binding, b"")
        self._nonce = secrets.nonce
        self._bare = f"n={_escape(secrets.authcid)},r={secrets.nonce}"
        self.initial: bytes | None = (self._header + self._bare).encode()
        self._stage: Callable[[bytes], bytes | None] = self._first
        self._signature = b""
        self.finished = False

    def step(self, challenge: bytes) -> bytes | None:
        return self._stage(challenge) if len(challenge) <= MAX_MESSAGE else None

    def _first(self, challenge: bytes) -> bytes | None:
        if not challenge:  # the protocol carried no initial response
            message, self.initial = self.initial, None
            return message
        text = challenge.decode("utf-8", "replace")
        match = _server_first(text)
        if match is None or not match[1].startswith(self._nonce) or match[1] == self._nonce:
            return None
        salt, iterations = from_base64(match[2]), int(match[3])
        if not salt or iterations not in _ITERATIONS:
            return None
        salted = hashlib.pbkdf2_hmac(self._digest, self._password.encode(), salt, iterations)
        client_key = hmac.digest(salted, b"Client Key", self._digest)
        final = f"c={b64encode(self._bound).decode()},r={match[1]}"
        signed = f"{self._bare},{text},{final}".encode()
        signature = hmac.digest(hashlib.new(self._digest, client_key).digest(), signed, self._digest)
        self._signature = hmac.digest(hmac.digest(salted, b"Server Key", self._digest), signed, self._digest)
        self._stage = self._last
        proof = bytes(a ^ b for a, b in zip(client_key, signature, strict=True))
        return f"{final},p={b64encode(proof).decode()}".encode()

    def _last(self, challenge: bytes) -> bytes | None:
        match = _server_final(challenge.decode("utf-8", "replace"))
        self._stage = self._nothing
        if match is None or not hmac.compare_digest(match[1].encode(), b64encode(self._signature)):
            return None  # whoever that is does not know the password
        self.finished = True
        return b""

    def _nothing(self, _challenge: bytes) -> bytes | None:
        return None


def _escape(name: str) -> str:
    return name.replace("=", "=3D").replace(",", "=2C")


def _scram(kind: str, plus: bool) -> Callable[[Secrets, Collection[str]], ClientMechanism | None]:
    def make(secrets: Secrets, offered: Collection[str]) -> ClientMechanism | None:
        binding = next(iter(secrets.bindings), "") if plus else ""
        name, password, acting = map(saslprep, (secrets.authcid, secrets.password, secrets.authzid))
        if not name or not password or acting is None or (plus and not binding):
            return None
        return Scram(secrets._replace(authcid=name, password=password, authzid=acting), kind, binding, offered)

    return make


def _plain(s: Secrets, _offered: Collection[str]) -> ClientMechanism:
    return Single(f"{s.authzid}\0{s.authcid}\0{s.password}".encode())


def _oauthbearer(s: Secrets, _offered: Collection[str]) -> ClientMechanism:
    return Single(f"n,a={_escape(s.authcid)},\x01auth=Bearer {s.token}\x01\x01".encode(), b"\x01")


def _xoauth2(s: Secrets, _offered: Collection[str]) -> ClientMechanism:
    return Single(f"user={s.authcid}\x01auth=Bearer {s.token}\x01\x01".encode(), b"")


# The strongest first. What a mechanism needs: a password, a token, a certificate.
_CLIENTS: dict[str, tuple[str, Callable[[Secrets, Collection[str]], ClientMechanism | None]]] = {
    "EXTERNAL": ("certificate", lambda s, _: Single(s.authzid.encode())),
    "OAUTHBEARER": ("token", _oauthbearer),
    "XOAUTH2": ("token", _xoauth2),
    "SCRAM-SHA-256-PLUS": ("password", _scram("SCRAM-SHA-256", True)),
    "SCRAM-SHA-1-PLUS": ("password", _scram("SCRAM-SHA-1", True)),
    "SCRAM-SHA-256": ("password", _scram("SCRAM-SHA-256", False)),
    "SCRAM-SHA-1": ("password", _scram("SCRAM-SHA-1", False)),
    "PLAIN": ("password", _plain),
    "LOGIN": ("password", lambda s, _: Login(s)),
    "CRAM-MD5": ("password", lambda s, _: CramMd5(s)),
}


def client(
    name: str,
    authcid: str,
    password: str = "",
    *,
    authzid: str = "",
    token: str = "",
    nonce: str = "",
    bindings: Mapping[str, bytes] = MappingProxyType({}),
    offered: Collection[str] = (),
) -> ClientMechanism | None:
    """A new exchange, client side; None if we do not know the mechanism, or it cannot carry such a name or password.

    `nonce` is for SCRAM and must be random (ValueError without one); of `bindings` the first is used; `offered` is
    what the server offers, so that it can tell us that somebody has shortened the list.
    """
    known = _CLIENTS.get(name.upper())
    if name.upper().startswith("SCRAM-") and known is not None and not nonce:
        raise ValueError(f"{name} without a nonce could be replayed")
    return known[1](Secrets(authcid, password, authzid, token, nonce, bindings), offered) if known is not None else None


def choose(
    offered: Collection[str],
    *,
    secure: bool,
    bindings: Collection[str] = (),
    password: bool = True,
    token: bool = False,
    certificate: bool = False,
    plaintext: bool = False,
) -> str | None:
    """The strongest mechanism that the server offers and the client has the means for; `plaintext` allows to show
    the password without TLS."""
    have = {"password": password, "token": token, "certificate": certificate}
    names = {name.upper() for name in offered}
    for name, (needs, _) in _CLIENTS.items():
        if name not in names or not have[needs]:
            continue
        if name.endswith("-PLUS") and not bindings:
            continue
        if name in NEEDS_TLS and not (secure or (plaintext and name in SHOWN)):
            continue
        return name
    return None

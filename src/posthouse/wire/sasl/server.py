"""The table of mechanisms, server side, and those that need no file of their own.

PLAIN (RFC 4616), LOGIN (never standardised, asked for by Outlook and many devices), CRAM-MD5 (RFC 2195), EXTERNAL
(RFC 4422 appendix A), OAUTHBEARER (RFC 7628), XOAUTH2 (Google's form of it). SCRAM is in `scram.py`.

Names and passwords of PLAIN and LOGIN are taken as they come: hashes of old passwords must go on fitting.
"""

import hmac
import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from types import MappingProxyType

from posthouse.wire.sasl.scram import DIGESTS, Scram
from posthouse.wire.sasl.steps import (
    MAX_NAME,
    MAX_PASSWORD,
    MAX_TOKEN,
    Base,
    Bearer,
    Certificate,
    Challenge,
    Credentials,
    Failure,
    Mechanism,
    Proved,
    Step,
    WantSecret,
)

# Mechanisms that show the password or token to whoever listens: offered under TLS only (RFC 4954 section 4).
BEARER = frozenset({"OAUTHBEARER", "XOAUTH2"})
SHOWN = frozenset(
    {"PLAIN", "LOGIN"}
)  # what a closed network may allow without TLS; tokens never (RFC 6750 section 5.3)
PLAINTEXT = SHOWN | BEARER
NEEDS_TLS = PLAINTEXT | {"EXTERNAL", "SCRAM-SHA-1-PLUS", "SCRAM-SHA-256-PLUS"}


class Plain(Base):
    """PLAIN: all in one message."""

    def step(self, data: bytes | None) -> Step:
        if data is None:
            return Challenge(b"")
        # message = [authzid] UTF8NUL authcid UTF8NUL passwd
        try:
            authzid, authcid, password = data.decode("utf-8").split("\0")
        except ValueError:  # UnicodeDecodeError too
            return Failure("malformed PLAIN message")
        return _credentials(authcid, authzid, password)


class Login(Base):
    """LOGIN: the prompts are fixed by habit. An initial response, where the protocol has one, is the name."""

    def __init__(self) -> None:
        self._name: bytes | None = None

    def step(self, data: bytes | None) -> Step:
        if data is None:
            return Challenge(b"Username:")
        if self._name is None:
            self._name = data  # whole, however long: cut off it could be the name of somebody else
            return Challenge(b"Password:")
        try:
            name, password = self._name.decode("utf-8"), data.decode("utf-8")
        except UnicodeDecodeError:
            return Failure("malformed LOGIN response")
        return _credentials(name, "", password)


def _credentials(authcid: str, authzid: str, password: str) -> Step:
    if not authcid or not password:
        return Failure("empty name or password")
    if len(authcid) > MAX_NAME or len(authzid) > MAX_NAME or len(password) > MAX_PASSWORD:
        return Failure("name or password too long")
    if "\0" in authcid or "\0" in password:
        return Failure("NUL in name or password")
    return Credentials(authcid, authzid, password)


class CramMd5(Base):
    """CRAM-MD5: the password is not shown, but the server must be able to read it. Old, and weak by today's measure."""

    def __init__(self, nonce: str) -> None:
        self._challenge = f"<{nonce}>".encode()
        self._name = self._digest = ""
        self._sent = False

    def step(self, data: bytes | None) -> Step:
        if data is None:
            self._sent = True
            return Challenge(self._challenge)
        if not self._sent:
            return Failure("CRAM-MD5 has no initial response")  # an answer to what was never asked
        if self._name:
            return Failure("a response where none is due", self._name)
        # RFC 2195 section 2: the name, a blank, the digest in lower-case hexadecimal; a name may have blanks itself
        name, blank, digest = data.decode("utf-8", "replace").rpartition(" ")
        if not blank or not 0 < len(name) <= MAX_NAME or not _hex_digest(digest):
            return Failure("malformed CRAM-MD5 response")
        if "\0" in name or "\ufffd" in name:
            return Failure("malformed CRAM-MD5 response")
        self._name, self._digest = name, digest.lower()
        return WantSecret(name, "", "CRAM-MD5")

    def secret(self, values: Sequence[object]) -> Step:
        if not self._name:
            return Failure("no secret was wanted")
        for number, value in enumerate(values):
            expected = hmac.new(str(value).encode(), self._challenge, "md5").hexdigest()
            if hmac.compare_digest(expected, self._digest):
                return Proved(self._name, "", number)
        return Failure("wrong password", self._name, malformed=False)


_hex_digest = re.compile(r"[0-9A-Fa-f]{32}").fullmatch


class External(Base):
    """EXTERNAL: TLS has told already."""

    def step(self, data: bytes | None) -> Step:
        if data is None:
            return Challenge(b"")
        try:
            authzid = data.decode("utf-8")
        except UnicodeDecodeError:
            return Failure("malformed EXTERNAL response")
        return Certificate(authzid) if len(authzid) <= MAX_NAME and "\0" not in authzid else Failure("malformed name")


#   client-resp = (gs2-header kvsep *kvpair kvsep) / kvsep ; kvsep = %x01      RFC 7628 section 3.1
_oauth = re.compile(r"[ny],(?:a=((?:[^,=\0\x01]|=2C|=3D)*))?,\x01((?:[A-Za-z]+=[^\0\x01]*\x01)+)\x01").fullmatch
_xoauth = re.compile(r"user=([^\0\x01]*)\x01((?:[A-Za-z]+=[^\0\x01]*\x01)+)\x01").fullmatch
# RFC 6750 section 2.1: b64token
_token = re.compile(r"Bearer +([A-Za-z0-9\-._~+/]+=*) *", re.IGNORECASE).fullmatch


class OAuth(Base):
    """OAUTHBEARER and XOAUTH2: a token that somebody else gave out."""

    def __init__(self, form: Callable[[str], "re.Match[str] | None"], *, escaped: bool) -> None:
        self._form = form
        self._escaped = escaped  # the name is a saslname (RFC 5801 section 4)
        self._refused = False

    def step(self, data: bytes | None) -> Step:
        if data is None:
            return Challenge(b"")
        if self._refused:
            # The client answers the error with %x01 (OAUTHBEARER) or nothing (XOAUTH2): a courtesy.
            return Failure("the token was refused", malformed=False)
        match = self._form(data.decode("utf-8", "replace")) if len(data) <= MAX_TOKEN + 1000 else None
        if match is None:
            return Failure("malformed bearer message")
        authzid = match[1] or ""
        if self._escaped:
            authzid = authzid.replace("=2C", ",").replace("=3D", "=")
        # two tokens are none: somebody before us may have looked at the other
        pairs = [pair.partition("=")[::2] for pair in match[2].split("\x01")]
        tokens = [value for key, value in pairs if key == "auth"]
        token = _token(tokens[0]) if len(tokens) == 1 else None
        if token is None or len(token[1]) > MAX_TOKEN or len(authzid) > MAX_NAME or "\ufffd" in authzid:
            return Failure("malformed bearer message")
        return Bearer(authzid, token[1])

    def refuse(self, status: str = "invalid_token", scope: str = "mail", configuration: str = "") -> Challenge:
        self._refused = True
        error = {"status": status, "schemes": "bearer", "scope": scope, "openid-configuration": configuration}
        return Challenge(json.dumps({key: value for key, value in error.items() if value}).encode())


def usable(
    mechanisms: Collection[str], *, secure: bool, certified: bool, plaintext: bool, require_tls: bool = False
) -> tuple[str, ...]:
    """Those that a connection may be offered: `secure` under TLS, `certified` with a client certificate; `plaintext`
    allows showing passwords without TLS, `require_tls` allows nothing without it."""
    if require_tls and not secure:
        return ()
    return tuple(
        name
        for name in mechanisms
        if (certified or name != "EXTERNAL") and (secure or name not in NEEDS_TLS or (plaintext and name in SHOWN))
    )


Make = Callable[[Mapping[str, bytes], Collection[str], str], Mechanism]


def _scram(kind: str, plus: bool) -> Make:
    return lambda bindings, offered, nonce: Scram(kind, plus, bindings, offered, nonce)


# In the order in which they are offered: the best first.
_SERVERS: dict[str, Make] = {
    "SCRAM-SHA-256-PLUS": _scram("SCRAM-SHA-256", True),
    "SCRAM-SHA-1-PLUS": _scram("SCRAM-SHA-1", True),
    "SCRAM-SHA-256": _scram("SCRAM-SHA-256", False),
    "SCRAM-SHA-1": _scram("SCRAM-SHA-1", False),
    "PLAIN": lambda *_: Plain(),
    "LOGIN": lambda *_: Login(),
    "CRAM-MD5": lambda _bindings, _offered, nonce: CramMd5(nonce),
    "OAUTHBEARER": lambda *_: OAuth(_oauth, escaped=True),
    "XOAUTH2": lambda *_: OAuth(_xoauth, escaped=False),
    "EXTERNAL": lambda *_: External(),
}
MECHANISMS = tuple(_SERVERS)
_NEED_NONCE = frozenset(name for name in MECHANISMS if name.startswith(("SCRAM-", "CRAM-")))
assert {name.removesuffix("-PLUS") for name in MECHANISMS} >= set(DIGESTS)


def server(
    name: str,
    nonce: str = "",
    bindings: Mapping[str, bytes] = MappingProxyType({}),
    offered: Collection[str] = (),
) -> Mechanism | None:
    """A new exchange of the mechanism, or None if we do not know it. ValueError: it needs a nonce and got none.

    `nonce` is random text that was never used before (printable, no comma), for CRAM-MD5 and SCRAM; `bindings` are
    the channel bindings of the connection by type; `offered` are the mechanisms that the client was told of.
    """
    make = _SERVERS.get(name.upper())
    if name.upper() in _NEED_NONCE and not nonce:
        raise ValueError(f"{name} without a nonce could be replayed")
    return make(bindings, offered, nonce) if make is not None else None

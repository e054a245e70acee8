"""SCRAM, server side: the client proves that it knows the password, and the server that it did (RFC 5802, RFC 7677).

The server keeps keys from which the password cannot be got back. With -PLUS both sides prove as well that they see
the same TLS connection (RFC 5929), so that nobody can sit between them. SMTP, IMAP and POP3 have no place for the
server's proof beside their "done", so it is one more challenge.
"""

import hashlib
import hmac
import re
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

from posthouse.wire.sasl.prepare import saslprep
from posthouse.wire.sasl.steps import MAX_NAME, Base, Challenge, Failure, Proved, Step, WantSecret

DIGESTS = {"SCRAM-SHA-1": "sha1", "SCRAM-SHA-256": "sha256"}
MAX_MESSAGE = 4096
_MAX_NONCE = 256

#   gs2-header = gs2-cbind-flag "," [ authzid ] "," ; gs2-cbind-flag = ("p=" cb-name) / "n" / "y"
#   client-first-message-bare = [reserved-mext ","] username "," nonce ["," extensions]
#   RFC 5802 section 7
_SASLNAME = r"(?:[^,=\0]|=2C|=3D)+"
# Extensions that we do not know are passed over, but never "m=", which says that they may not be (section 5.1),
# nor a second attribute of those that have a meaning.
EXTENSIONS = r"(?:,(?![aceimnprsv]=)[A-Za-z]=[^\0,]+)*"
_first = re.compile(
    rf"((n|y|p=([A-Za-z0-9.-]+)),(?:a=({_SASLNAME}))?,)(n=({_SASLNAME}),r=([!-+\--~]+){EXTENSIONS})"
).fullmatch
#   client-final-message = channel-binding "," nonce ["," extensions] "," proof
_final = re.compile(rf"(c=([A-Za-z0-9+/=]+),r=([!-+\--~]+){EXTENSIONS}),p=([A-Za-z0-9+/=]+)").fullmatch
_stored = re.compile(
    r"(SCRAM-SHA-(?:1|256))\$(\d{1,7}):([A-Za-z0-9+/=]+)\$([A-Za-z0-9+/=]+):([A-Za-z0-9+/=]+)"
).fullmatch


class ScramKeys(NamedTuple):
    """What a server keeps of a password."""

    kind: str
    iterations: int
    salt: bytes
    stored_key: bytes
    server_key: bytes

    def __repr__(self) -> str:
        return f"ScramKeys({self.kind!r}, ...)"

    def to_text(self) -> str:
        """For storage, in the form of RFC 5803 section 3."""
        salt, stored, server = (b64encode(part).decode() for part in self[2:])
        return f"{self.kind}${self.iterations}:{salt}${stored}:{server}"

    @classmethod
    def parse(cls, text: str) -> "ScramKeys | None":
        """The keys in such a text; None if it is not one."""
        match = _stored(text)
        if match is None:
            return None
        salt, stored, server = (from_base64(match[n]) for n in (3, 4, 5))
        size, iterations = hashlib.new(DIGESTS[match[1]]).digest_size, int(match[2])
        if not salt or stored is None or server is None or {len(stored), len(server)} != {size} or not iterations:
            return None
        return cls(match[1], iterations, salt, stored, server)


def from_base64(text: str) -> bytes | None:
    """The octets, if this is the one way to write them: a proof has no second spelling (RFC 4648 section 3.5)."""
    try:
        data = b64decode(text, validate=True)
    except Base64Error:
        return None
    return data if b64encode(data) == text.encode() else None


def scram_keys(kind: str, password: str, salt: bytes, iterations: int) -> ScramKeys | None:
    """The keys of a password; None for one that SCRAM cannot use. Slow on purpose: call it on a worker thread."""
    prepared = saslprep(password, stored=True)
    if not prepared:
        return None
    digest = DIGESTS[kind]
    salted = hashlib.pbkdf2_hmac(digest, prepared.encode(), salt, iterations)
    client_key = hmac.digest(salted, b"Client Key", digest)
    stored_key = hashlib.new(digest, client_key).digest()
    return ScramKeys(kind, iterations, salt, stored_key, hmac.digest(salted, b"Server Key", digest))


class Scram(Base):
    """One exchange."""

    def __init__(
        self, kind: str, plus: bool, bindings: Mapping[str, bytes], offered: Collection[str], nonce: str
    ) -> None:
        self._kind = kind
        self._digest = DIGESTS[kind]
        self._plus = plus
        self._bindings = bindings
        self._plus_offered = f"{kind}-PLUS" in offered
        self._nonce = nonce
        self._stage: Callable[[str], Step] = self._begin
        self._binding = b""  # what c= must hold
        self._bare = self._server_first = ""
        self._names = ("", "")
        self._keys: tuple[ScramKeys, ...] = ()
        self._which = 0

    def step(self, data: bytes | None) -> Step:
        if data is None:
            return Challenge(b"") if self._stage == self._begin else Failure("a response is missing")
        if len(data) > MAX_MESSAGE:
            return Failure("SCRAM message too long")
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError:
            return Failure("SCRAM message is not UTF-8")
        return self._stage(text)

    def _begin(self, text: str) -> Step:
        match = _first(text)
        if match is None:
            return Failure("malformed SCRAM message, or an extension that we do not know")
        header, flag, binding, authzid, self._bare, name, nonce = match.groups()
        if self._plus != (binding is not None):
            return Failure("channel binding and mechanism do not fit")
        if binding is not None and binding not in self._bindings:
            return Failure(f"channel binding {binding[:40]} is not known")
        if flag == "y" and self._plus_offered:
            # RFC 5802 section 6: the client could bind the channel and thinks that we cannot. Somebody lied to it.
            return Failure("somebody hid the -PLUS mechanisms from the client")
        self._binding = header.encode() + (self._bindings[binding] if binding is not None else b"")
        authcid, acting = _name(name), _name(authzid or "")
        if not authcid or acting is None or len(nonce) > _MAX_NONCE:
            return Failure("malformed name or nonce in a SCRAM message")
        self._names = (authcid, acting)
        self._nonce = nonce + self._nonce
        self._stage = self._out_of_turn
        return WantSecret(authcid, acting, self._kind)

    def secret(self, values: Sequence[object]) -> Step:
        keys = tuple(value for value in values if isinstance(value, ScramKeys))
        if not keys or self._stage != self._out_of_turn or len({key[:3] for key in keys}) != 1:
            return Failure("no secret was wanted, or those known have more than one salt", self._names[0])
        self._keys = keys
        salt = b64encode(keys[0].salt).decode()
        self._server_first = f"r={self._nonce},s={salt},i={keys[0].iterations}"
        self._stage = self._end
        return Challenge(self._server_first.encode())

    def _end(self, text: str) -> Step:
        match = _final(text)
        self._stage = self._out_of_turn
        if match is None:
            return Failure("malformed SCRAM message", self._names[0])
        without_proof, binding, nonce, proof = match.groups()
        bound, given = from_base64(binding), from_base64(proof)
        if bound is None or given is None:
            return Failure("malformed SCRAM message", self._names[0])
        signed = f"{self._bare},{self._server_first},{without_proof}".encode()
        right = [number for number, keys in enumerate(self._keys) if self._proves(keys, given, signed)]
        if not right or nonce != self._nonce:
            return Failure("wrong password", self._names[0], malformed=False)
        if not hmac.compare_digest(bound, self._binding):
            return Failure("the client sees another TLS connection", self._names[0], malformed=False)
        self._which = right[0]
        self._stage = self._last
        server_key = self._keys[right[0]].server_key
        return Challenge(b"v=" + b64encode(hmac.digest(server_key, signed, self._digest)))

    def _proves(self, keys: ScramKeys, proof: bytes, signed: bytes) -> bool:
        signature = hmac.digest(keys.stored_key, signed, self._digest)
        if len(proof) != len(signature):
            return False
        client_key = bytes(a ^ b for a, b in zip(proof, signature, strict=True))
        return hmac.compare_digest(hashlib.new(self._digest, client_key).digest(), keys.stored_key)

    def _last(self, text: str) -> Step:
        return (
            Proved(*self._names, self._which) if not text else Failure("a response where none is due", self._names[0])
        )

    def _out_of_turn(self, _text: str) -> Step:
        return Failure("a response where none is due", self._names[0])


def _name(text: str) -> str | None:
    """A saslname without its escapes, prepared; None for one that cannot be."""
    name = saslprep(text.replace("=2C", ",").replace("=3D", "="))
    return name if name is not None and len(name) <= MAX_NAME else None

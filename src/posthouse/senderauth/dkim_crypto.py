"""Keys of signatures: those in the DNS, and our own; to sign with them and to verify.

What a stranger publishes never raises: it is a `Fault` with the result it leads to. `private_key` raises `Permanent`.
"""

import asyncio
import hashlib
from base64 import b64encode
from collections.abc import Awaitable, Callable
from functools import lru_cache
from typing import NamedTuple

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA256

from posthouse.base.errors import Permanent, Temporary
from posthouse.senderauth import dkim_tags
from posthouse.senderauth.dkim_tags import Fault, Record

MAX_RECORDS = 10  # TXT records of one name
MIN_RSA, MAX_RSA = 1024, 8192  # RFC 8301 section 3.2 asks for 1024 to 4096
MAX_EXPONENT = 64  # bits: the work of a check grows with them

Lookup = Callable[[str], Awaitable[list[bytes]]]
PublicKey = RSAPublicKey | Ed25519PublicKey
PrivateKey = RSAPrivateKey | Ed25519PrivateKey


class PublishedKey(NamedTuple):
    public: PublicKey
    record: Record
    bits: int


async def ask_all(lookup: Lookup, names: list[str]) -> list[list[bytes] | Fault]:
    return list(await asyncio.gather(*(ask(lookup, name) for name in names)))


async def ask(lookup: Lookup, name: str) -> list[bytes] | Fault:
    try:
        records = await lookup(name)
    except Permanent as error:
        return Fault("permerror", f"no key: {error}")
    except (Temporary, TimeoutError, OSError) as error:
        return Fault("temperror", f"the key could not be looked up: {error}")
    return records or Fault("permerror", f"no key: {name} has no TXT record")


def key_for(algorithm: str, answer: list[bytes] | Fault) -> tuple[PublishedKey | Fault, str]:
    """The key for an algorithm of `dkim_tags` in an answer of `ask`, and the key record, cut."""
    if isinstance(answer, Fault):
        return answer, ""
    key, text = _choose(answer)
    if isinstance(key, PublishedKey) and key.record.kind != algorithm.partition("-")[0]:
        key = Fault("permerror", f"the key is for {key.record.kind}")
    return key, text[:2000].decode("utf-8", "replace")


def _choose(records: list[bytes]) -> tuple[PublishedKey | Fault, bytes]:
    """The key among TXT records: others may stand beside it, by a wildcard."""
    if len(records) > MAX_RECORDS:
        return Fault("permerror", f"more than {MAX_RECORDS} TXT records"), b""
    read = [(_key(text) if len(text) <= dkim_tags.MAX_RECORD else _read(text), text) for text in records]
    usable = [(key, text) for key, text in read if isinstance(key, PublishedKey)]
    if len(usable) > 1:
        return Fault("permerror", "more than one key record"), usable[0][1]
    return (usable or read)[0]


def _read(text: bytes) -> PublishedKey | Fault:
    record = dkim_tags.record(text)
    if isinstance(record, Fault):
        return record
    try:
        if record.kind == "ed25519":  # RFC 8463 section 4: the bare key
            return PublishedKey(Ed25519PublicKey.from_public_bytes(record.key), record, 256)
        # RFC 6376 section 3.6.1 says RSAPublicKey, erratum 3017 and the world SubjectPublicKeyInfo: both can be read.
        public = serialization.load_der_public_key(record.key)
    except (ValueError, TypeError, UnsupportedAlgorithm, OverflowError):
        return Fault("permerror", f"p= is no {record.kind} key")
    if not isinstance(public, RSAPublicKey):
        return Fault("permerror", "p= is no rsa key")
    if public.key_size < MIN_RSA:
        return Fault("permerror", f"a key of {public.key_size} bits proves nothing (RFC 8301)")
    if public.key_size > MAX_RSA:
        return Fault("policy", f"a key of {public.key_size} bits is larger than {MAX_RSA}")
    if public.public_numbers().e.bit_length() > MAX_EXPONENT:
        return Fault("policy", f"the exponent of the key has more than {MAX_EXPONENT} bits")
    return PublishedKey(public, record, public.key_size)


_key = lru_cache(1024)(_read)  # making a key of its bytes costs more than the check by it


def is_signed(public: PublicKey, signature: bytes, digest: bytes) -> bool:
    try:
        if isinstance(public, RSAPublicKey):
            public.verify(signature, digest, PKCS1v15(), Prehashed(SHA256()))
        else:
            public.verify(signature, digest)  # RFC 8463 section 3: the hash is what is signed
    except InvalidSignature:
        return False
    return True


def private_key(pem: bytes) -> PrivateKey:
    """The key of a PEM file (PKCS #1 or #8, without password). Raises `Permanent`. It takes a while: keep it."""
    try:
        key = serialization.load_pem_private_key(pem, None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise Permanent(f"no private key in PEM without a password: {error}") from error
    if isinstance(key, RSAPrivateKey):
        if not MIN_RSA <= key.key_size <= MAX_RSA:
            raise Permanent(f"an RSA key of {key.key_size} bits is not usable: {MIN_RSA} to {MAX_RSA}, better 2048")
        return key
    if isinstance(key, Ed25519PrivateKey):
        return key
    raise Permanent("the key is neither RSA nor Ed25519")


def record_of(key: PrivateKey) -> str:
    """The key record to publish for a private key. RFC 6376 section 3.6.1, RFC 8463 section 4."""
    public = key.public_key()
    if isinstance(public, Ed25519PublicKey):
        return f"v=DKIM1; k=ed25519; p={base64(public.public_bytes_raw())}"
    der = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return f"v=DKIM1; k=rsa; p={base64(der)}"


def sign_digest(key: PrivateKey, digest: bytes) -> bytes:
    if isinstance(key, RSAPrivateKey):
        return key.sign(digest, PKCS1v15(), Prehashed(SHA256()))
    return key.sign(digest)


def sha256(*pieces: bytes) -> bytes:
    return hashlib.sha256(b"".join(pieces)).digest()


def base64(data: bytes) -> str:
    return b64encode(data).decode("ascii")

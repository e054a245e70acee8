"""Keys and messages for the tests of signatures."""

from functools import cache

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

from posthouse.net.dns import ZoneResolver
from posthouse.senderauth.dkim import PrivateKey, record_of

NOW = 1_800_000_000
MESSAGE = (
    b'From: "Anna,  who\r\n\twrites" <anna@example.org>\r\nTo: b@example.net\r\nSubject:  hello   there \r\n'
    b"Date: Mon, 01 Jan 2024 00:00:00 +0000\r\nMessage-ID: <1@example.org>\r\nX-Other: not signed\r\n\r\n"
    b"Hello, \t you.\r\n\r\n  two \r\n\r\n\r\n"
)


@cache
def rsa_key(bits: int = 2048, exponent: int = 65537) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(exponent, bits)


@cache
def ed_key() -> ed25519.Ed25519PrivateKey:
    return ed25519.Ed25519PrivateKey.generate()


def key(kind: str) -> PrivateKey:
    return rsa_key() if kind == "rsa" else ed_key()


def pem(private: PrivateKey) -> bytes:
    return private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def resolver(**records: str) -> ZoneResolver:
    """Key records of example.org; those of `key` have the names "rsa" and "ed"."""
    texts = {"rsa": record_of(rsa_key()), "ed": record_of(ed_key())} | records
    return ZoneResolver({f"{name}._domainkey.example.org": {"TXT": [text.encode()]} for name, text in texts.items()})

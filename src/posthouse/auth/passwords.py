"""Secrets of accounts: password hashes, SCRAM keys, app passwords and tokens.

Passwords that people choose are hashed with argon2id: 19 MiB and two passes are what OWASP's password storage sheet
asks for at least, and what a small server can bear many of at a time. App passwords and tokens are made here from 80
and 160 random bits: nobody can guess those, so a fast hash will do. Hashing is slow on purpose (tens of milliseconds,
with SCRAM keys more): call it on a worker thread.
"""

import hashlib
import secrets
from base64 import b32encode
from typing import NamedTuple

import argon2
from argon2.exceptions import InvalidHashError, VerificationError

from posthouse.auth.strength import weakness
from posthouse.base.errors import Permanent
from posthouse.wire import sasl

MIN_LENGTH = 8  # NIST SP 800-63B section 3.1.1.2
MAX_LENGTH = 1024
# For SCRAM: what a phone computes without its owner noticing. The keys are as hard to guess from as such a hash is.
ITERATIONS = 50_000
SALT = 16  # octets
TOKEN = "pht_"  # noqa: S105 - how our own tokens begin, so that people and scanners recognize them

_hasher = argon2.PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)


def check_password(password: str, least: int, about: tuple[str, ...] = ()) -> None:
    """Raise `Permanent` with the reason if a new password is no good. `least` is 0 to 4 (auth/strength.py); `about`
    are words that are easy to guess for this account."""
    _check_form(password, MIN_LENGTH)
    if why := weakness(password, least, about):
        raise Permanent(why)


def hash_password(password: str, *, shortest: int = MIN_LENGTH) -> str:
    """The hash to store; raises `Permanent` with the reason if the password cannot be one."""
    _check_form(password, shortest)
    return _hasher.hash(password)


class Made(NamedTuple):
    """What is stored of a password."""

    hash: str
    scram: str

    def __repr__(self) -> str:
        return "Made(...)"


def make(password: str, *, shortest: int = MIN_LENGTH, salt: bytes = b"") -> Made:
    """Hash and SCRAM keys of a password; `salt` is that of the account's other keys, if it has any."""
    return Made(hash_password(password, shortest=shortest), scram_keys(password, salt or secrets.token_bytes(SALT)))


def _check_form(password: str, shortest: int) -> None:
    if len(password) < shortest:
        raise Permanent(f"the password is too short: use at least {shortest} characters")
    if len(password) > MAX_LENGTH:
        raise Permanent(f"the password is too long: use at most {MAX_LENGTH} characters")
    if "\0" in password:
        raise Permanent("the password holds a NUL character, which no mail client can send")


def verify(secret: str, password: str) -> bool:
    """Does the password fit the hash?"""
    try:
        return _hasher.verify(secret, password)
    except (VerificationError, InvalidHashError):
        return False


def needs_rehash(secret: str) -> bool:
    """Was the hash made with other parameters than today's?"""
    try:
        return _hasher.check_needs_rehash(secret)
    except InvalidHashError:
        return False


def scram_keys(password: str, salt: bytes) -> str:
    """SCRAM keys of a password for storage; "" for one that SCRAM cannot use. All credentials of an account have one
    salt, because a server must name it before it knows which of them the client has."""
    keys = [sasl.scram_keys(kind, password, salt, ITERATIONS) for kind in ("SCRAM-SHA-256", "SCRAM-SHA-1")]
    return " ".join(key.to_text() for key in keys if key is not None)


def new_app_password() -> str:
    """Four groups of four letters and digits: 80 bits that can be typed."""
    text = b32encode(secrets.token_bytes(10)).decode().lower()
    return "-".join(text[at : at + 4] for at in range(0, 16, 4))


def new_token() -> str:
    """A bearer token of our own: 160 bits."""
    return TOKEN + b32encode(secrets.token_bytes(20)).decode().lower()


def plain_app_password(password: str) -> str:
    """An app password however it was typed: with blanks, hyphens or neither, in letters of any case."""
    text = password.replace("-", "").replace(" ", "").lower()
    return "-".join(text[at : at + 4] for at in range(0, 16, 4)) if len(text) == 16 else password


def fast_hash(secret: str) -> str:
    """The hash of something that is random."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()

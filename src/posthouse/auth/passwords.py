"""Password hashes: argon2id with parameters that a small server can bear many of at a time.

19 MiB and two passes are what OWASP's password storage sheet asks of argon2id at least. Every function here
is slow on purpose (tens of milliseconds): call it on a worker thread.
"""

import argon2
from argon2.exceptions import InvalidHashError, VerificationError

from posthouse.base.errors import Permanent

MIN_LENGTH = 8  # NIST SP 800-63B section 3.1.1.2
MAX_LENGTH = 1024

_hasher = argon2.PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)


def hash_password(password: str, *, shortest: int = MIN_LENGTH) -> str:
    """The hash to store; raises `Permanent` with the reason if the password is no good."""
    if len(password) < shortest:
        raise Permanent(f"the password is too short: use at least {shortest} characters")
    if len(password) > MAX_LENGTH:
        raise Permanent(f"the password is too long: use at most {MAX_LENGTH} characters")
    if "\0" in password:
        raise Permanent("the password holds a NUL character, which no mail client can send")
    return _hasher.hash(password)


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

"""One-time codes that change every 30 seconds: the second factor (RFC 6238 with SHA-1, six digits, as every
authenticator app has them)."""

import hmac
import secrets
import struct
import urllib.parse
from base64 import b32decode, b32encode

STEP = 30  # seconds
DIGITS = 6
SLACK = 1  # steps that clocks may differ


def new_secret() -> str:
    """160 random bits as base32 (RFC 4226 section 4 asks for 128 at least)."""
    return b32encode(secrets.token_bytes(20)).decode()


def code(secret: str, at: int) -> str:
    """The code at a time (seconds since 1970)."""
    digest = hmac.digest(b32decode(secret), struct.pack(">Q", at // STEP), "sha1")
    offset = digest[-1] & 15
    number = struct.unpack(">I", digest[offset : offset + 4])[0] & 0x7FFFFFFF
    return f"{number % 10**DIGITS:0{DIGITS}}"


def matches(secret: str, given: str, at: int) -> bool:
    """Is this the code of now, or of one step before or after?"""
    text = given.replace(" ", "")
    steps = range(-SLACK, SLACK + 1)
    return any(hmac.compare_digest(code(secret, at + step * STEP).encode(), text.encode()) for step in steps)


def uri(secret: str, account: str, issuer: str) -> str:
    """What an authenticator app scans."""
    label = urllib.parse.quote(f"{issuer}:{account}")
    return f"otpauth://totp/{label}?secret={secret}&issuer={urllib.parse.quote(issuer)}"

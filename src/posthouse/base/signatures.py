"""Signatures of what we send by HTTP, so that the receiver knows that it came from here and when.

    X-Posthouse-Signature: t=1790000000,v1=9f86d0…

`v1` is the HMAC-SHA-256, in hexadecimal, of the time as it stands in `t`, a full stop, and the body. The time is signed
too, so that what somebody recorded cannot be sent again later. Pure: the time is handed in.
"""

import hashlib
import hmac
import re

HEADER = "X-Posthouse-Signature"
TOLERANCE = 300  # seconds that a signature may be old, or that clocks may differ

_parts = re.compile(r"t=([0-9]{1,15}),v1=([0-9a-f]{64})").fullmatch


def sign(secret: bytes, timestamp: int, body: bytes) -> str:
    """The value of the header for a body that is sent at `timestamp` (seconds since 1970)."""
    return f"t={timestamp},v1={_digest(secret, str(timestamp), body)}"


def verify(secret: bytes, value: str, body: bytes, now: int, tolerance: int = TOLERANCE) -> bool:
    """Whether the header's value is ours for this body, made at most `tolerance` seconds from `now`."""
    found = _parts(value)
    if found is None or abs(now - int(found[1])) > tolerance:
        return False
    return hmac.compare_digest(_digest(secret, found[1], body), found[2])


def _digest(secret: bytes, timestamp: str, body: bytes) -> str:
    return hmac.new(secret, timestamp.encode("ascii") + b"." + body, hashlib.sha256).hexdigest()

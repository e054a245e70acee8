"""Signatures: a fixed example for receivers in other languages, and all that must not pass."""

import hashlib
import hmac

import pytest

from posthouse.base.signatures import sign, verify

SECRET, BODY, NOW = b"a secret of the receiver", b"Subject: x\r\n\r\nHello\r\n", 1_790_000_000


def test_the_form() -> None:
    expected = hmac.new(SECRET, b"1790000000." + BODY, hashlib.sha256).hexdigest()
    assert sign(SECRET, NOW, BODY) == f"t=1790000000,v1={expected}"


def test_what_was_signed_is_verified() -> None:
    header = sign(SECRET, NOW, BODY)
    assert verify(SECRET, header, BODY, NOW)
    assert verify(SECRET, header, BODY, NOW + 300)
    assert verify(b"", sign(b"", NOW, b""), b"", NOW)


@pytest.mark.parametrize(
    ("secret", "header", "body", "now"),
    [
        (b"another", sign(SECRET, NOW, BODY), BODY, NOW),
        (SECRET, sign(SECRET, NOW, BODY), BODY + b" ", NOW),
        (SECRET, sign(SECRET, NOW, BODY).replace("t=1790000000", "t=1790000001"), BODY, NOW),
        (SECRET, sign(SECRET, NOW, BODY), BODY, NOW + 301),
        (SECRET, sign(SECRET, NOW, BODY), BODY, NOW - 301),
        (SECRET, sign(SECRET, NOW, BODY) + ",t=1790000000", BODY, NOW),
        (SECRET, sign(SECRET, NOW, BODY).partition(",")[0], BODY, NOW),
        (SECRET, sign(SECRET, NOW, BODY).partition(",")[2], BODY, NOW),
        (SECRET, "", BODY, NOW),
        (SECRET, "t=,v1=", BODY, NOW),
        (SECRET, "t=²,v1=x", BODY, NOW),
        (SECRET, "t=-1,v1=x", BODY, NOW),
        (SECRET, f"t={'9' * 5000},v1=x", BODY, NOW),
        (SECRET, sign(SECRET, NOW, BODY) + ",v1=x" * 1000, BODY, NOW),
    ],
)
def test_nothing_else_is(secret: bytes, header: str, body: bytes, now: int) -> None:
    assert not verify(secret, header, body, now)

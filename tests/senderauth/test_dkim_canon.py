"""Canonical forms: the examples of RFC 6376, the obvious slow version, and any way to cut a body."""

import hashlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.senderauth.dkim_canon import BodyHash, Canon, field
from tests.support.growth import assert_linear

CANONS: list[Canon] = ["simple", "relaxed"]
bodies = st.lists(st.sampled_from([b"\r\n", b"\r\n", b" ", b"\t", b"\r", b"\n", b"a", b"b ", b"  "])).map(b"".join)


def slow(canon: Canon, body: bytes) -> bytes:
    """RFC 6376 section 3.4.3 and 3.4.4, word by word."""
    lines = body.split(b"\r\n")
    if canon == "relaxed":
        lines = [re.sub(rb"[ \t]+", b" ", line.rstrip(b" \t")) for line in lines]
    while lines and not lines[-1]:
        lines.pop()
    if not lines:
        return b"\r\n" if canon == "simple" else b""
    return b"".join(line + b"\r\n" for line in lines)


def digest(canon: Canon, body: bytes, step: int = 0) -> bytes:
    made = BodyHash(canon)
    for at in range(0, len(body), step or len(body) or 1):
        made.feed(body[at : at + (step or len(body))])
    return made.finish()


def sha(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def test_the_example_of_the_rfc() -> None:
    """RFC 6376 section 3.4.5."""
    a, b = (b"A", b" X\r\n"), (b"B ", b" Y\t\r\n\tZ  \r\n")
    body = b" C \r\nD \t E\r\n\r\n\r\n"
    relaxed = [field("relaxed", name.strip(), value[:-2], name + b":" + value) for name, value in (a, b)]
    simple = [field("simple", name.strip(), value[:-2], name + b":" + value) for name, value in (a, b)]
    assert relaxed == [b"a:X\r\n", b"b:Y Z\r\n"]
    assert simple == [b"A: X\r\n", b"B : Y\t\r\n\tZ  \r\n"]
    assert digest("relaxed", body) == sha(b" C\r\nD E\r\n")
    assert digest("simple", body) == sha(b" C \r\nD \t E\r\n")


def test_nothing() -> None:
    assert digest("simple", b"") == digest("simple", b"\r\n\r\n") == sha(b"\r\n")
    assert digest("relaxed", b"") == digest("relaxed", b" \r\n\t\r\n") == sha(b"")


@pytest.mark.parametrize("canon", CANONS)
@given(body=bodies, step=st.integers(1, 4))
def test_any_body_in_any_pieces(canon: Canon, body: bytes, step: int) -> None:
    wanted = sha(slow(canon, body))
    assert digest(canon, body) == wanted
    assert digest(canon, body, step) == wanted


@pytest.mark.parametrize("canon", CANONS)
@given(body=bodies, lengths=st.lists(st.integers(0, 30)), step=st.integers(1, 4))
def test_beginnings(canon: Canon, body: bytes, lengths: list[int], step: int) -> None:
    made = BodyHash(canon, lengths)
    for at in range(0, len(body), step):
        made.feed(body[at : at + step])
    whole = slow(canon, body)
    for length in lengths:
        assert made.of(length) == (sha(whole[:length]) if length <= len(whole) else None)
    assert made.of(None) == sha(whole)
    assert made.size == len(whole)


@pytest.mark.parametrize("canon", CANONS)
@pytest.mark.parametrize("piece", [b" ", b"\t", b"\r", b"\n", b"\r\n", b" \r", b" \r\n", b"\r\n\r\nx", b"\n\r"])
def test_hostile_bodies_cost_what_they_weigh(canon: Canon, piece: bytes) -> None:
    assert_linear(lambda body: digest(canon, body), lambda size: piece * size * 200)
    assert_linear(lambda body: digest(canon, body, 3), lambda size: piece * size)


@pytest.mark.parametrize("piece", [b" ", b"\t", b"\r\n ", b" \r\n\t"])
def test_hostile_fields_cost_what_they_weigh(piece: bytes) -> None:
    assert_linear(lambda value: field("relaxed", b"A", value, value), lambda size: piece * size * 200)

"""Header fields as raw bytes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.mime import header
from posthouse.mime.scan import scan
from tests.mime.strategies import messages
from tests.support.growth import assert_linear

RAW = (
    b"From ann@example.com Mon Jun  2\r\n"
    b"Received: one\r\n\tby two\r\n"
    b"Subject:a\r\n  b \r\n"
    b"received : three\r\n"
    b"X-Subject: no\r\n"
    b"To: bob\r\n"
    b"\r\n"
)


def test_split() -> None:
    fields = header.split(RAW)
    assert [(field.name, field.value) for field in fields] == [
        (b"Received", b" one\r\n\tby two"),
        (b"Subject", b"a\r\n  b "),
        (b"received", b" three"),
        (b"X-Subject", b" no"),
        (b"To", b" bob"),
    ]
    assert RAW[fields[0].start : fields[0].end] == b"Received: one\r\n\tby two\r\n"
    assert RAW[fields[-1].start : fields[-1].end] == b"To: bob\r\n"


def test_find() -> None:
    assert header.find(RAW, b"subject") == b"a\r\n  b "
    assert header.find(RAW, b"X") is None
    assert header.find_all(RAW, b"RECEIVED") == [b" one\r\n\tby two", b" three"]
    assert header.find_many(RAW, (b"to", b"received", b"cc")) == {b"to": b" bob", b"received": b" one\r\n\tby two"}
    assert header.find_many(RAW, ()) == {}


def test_unfold() -> None:
    assert header.unfold(b" one\r\n\tby\n  two \r\n") == b"one\tby  two"


@pytest.mark.parametrize(
    ("names", "invert", "expected"),
    [
        ((b"SUBJECT", b"to"), False, b"Subject:a\r\n  b \r\nTo: bob\r\n\r\n"),
        ((b"received",), False, b"Received: one\r\n\tby two\r\nreceived : three\r\n\r\n"),
        ((b"nothing",), False, b"\r\n"),
        ((), False, b"\r\n"),
        ((b"received", b"x-subject"), True, b"Subject:a\r\n  b \r\nTo: bob\r\n\r\n"),
        ((b"Received", b"X-Subject", b"Subject", b"To"), True, b"\r\n"),
        ((b"s.bject",), False, b"\r\n"),
    ],
)
def test_select(names: tuple[bytes, ...], invert: bool, expected: bytes) -> None:
    assert header.select(RAW, names, invert) == expected


def test_select_from_a_header_that_was_cut_off() -> None:
    assert header.select(b"To: a\r\nSubject: b", [b"subject"]) == b"Subject: b\r\n\r\n"
    assert header.select(b"To: a\r\nSubject: b", [b"to"]) == b"To: a\r\n\r\n"
    assert header.select(b"To: a\nSubject: b\n\n", [b"to"]) == b"To: a\n\r\n"


@given(messages, st.sampled_from([(), (b"subject",), (b"From", b"to", b"CONTENT-TYPE")]))
def test_select_like_the_slow_one(raw: bytes, names: tuple[bytes, ...]) -> None:
    head = scan(raw).root.header_bytes
    wanted = {name.lower() for name in names}
    for invert in (False, True):
        fields = [field for field in header.split(head) if (field.name.lower() in wanted) != invert]
        expected = b"".join([head[field.start : field.end] for field in fields])
        if expected and not expected.endswith(b"\n"):
            expected += b"\r\n"
        assert header.select(head, names, invert) == expected + b"\r\n"


@given(messages)
def test_fields_lie_in_the_header(raw: bytes) -> None:
    at = 0
    if b"\n" not in raw:
        raw = raw.replace(b"\r", b"\n")
    for field in header.split(raw):
        assert at <= field.start < field.end <= len(raw)
        assert raw[field.start : field.end].startswith(field.name)
        assert field.value in raw[field.start : field.end]
        at = field.end


@pytest.mark.parametrize(
    "piece", [b"X: y\n", b"X: y\n z\n", b"X", b":", b"\n", b"To \t:", b"\xef\xbb\xbfTo: x\n", b"\r", b"To: x\r", b" \n"]
)
def test_linear_time(piece: bytes) -> None:
    for work in (header.split, header.selector((b"To", b"x"), False), header.selector((b"To", b"x"), True)):
        assert_linear(work, lambda n: piece * n, 2000)

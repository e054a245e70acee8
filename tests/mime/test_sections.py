"""Sections by number (RFC 9051 section 6.4.5.1) and the packed offsets."""

import pytest
from hypothesis import given

from posthouse.mime.scan import Part, scan
from posthouse.mime.sections import find_part, find_section, pack, unpack
from tests.mime.strategies import messages

# The example of RFC 9051 section 6.4.5.1, as a message.
#  HEADER, TEXT, 1 TEXT/PLAIN, 2 APPLICATION/OCTET-STREAM, 3 MESSAGE/RFC822 with 3.1 and 3.2,
#  4 MULTIPART/MIXED with 4.1 IMAGE/GIF and 4.2 MESSAGE/RFC822, which has 4.2.1 and 4.2.2 (MULTIPART/ALTERNATIVE)
RAW = (
    b"Subject: outer\nContent-Type: multipart/mixed; boundary=a\n\n"
    b"--a\nContent-Type: text/plain\n\none\n"
    b"--a\nContent-Type: application/octet-stream\nContent-Transfer-Encoding: base64\n\nAAAA\n"
    b"--a\nContent-Type: message/rfc822\n\n"
    b"Subject: three\nContent-Type: multipart/mixed; boundary=b\n\n--b\n\nthree.one\n--b\n\nthree.two\n--b--\n\n"
    b"--a\nContent-Type: multipart/mixed; boundary=c\n\n"
    b"--c\nContent-Type: image/gif\n\nfour.one\n"
    b"--c\nContent-Type: message/rfc822\n\n"
    b"Subject: four.two\nContent-Type: multipart/mixed; boundary=d\n\n--d\n\nfour.two.one\n"
    b"--d\nContent-Type: multipart/alternative; boundary=e\n\n--e\n\nfour.two.two.one\n"
    b"--e\nX: y\n\nfour.two.two.two\n--e--\n"
    b"--d--\n--c--\n--a--\n"
)
HEADER_3 = b"Subject: three\nContent-Type: multipart/mixed; boundary=b\n\n"
TEXT_3 = b"--b\n\nthree.one\n--b\n\nthree.two\n--b--\n"


def section(raw: bytes, path: tuple[int, ...], what: bytes = b"") -> bytes | None:
    result = scan(raw)
    found = find_section(result, path, what)
    again = find_section(unpack(pack(result)), path, what)
    assert (found and found[:2]) == (again and again[:2])
    return None if found is None else raw[found.start : found.end]


@pytest.mark.parametrize(
    ("path", "what", "expected"),
    [
        ((), b"", RAW),
        ((), b"HEADER", b"Subject: outer\nContent-Type: multipart/mixed; boundary=a\n\n"),
        ((1,), b"", b"one"),
        ((1,), b"MIME", b"Content-Type: text/plain\n\n"),
        ((1,), b"HEADER", None),
        ((1,), b"TEXT", None),
        ((1, 1), b"", None),
        ((2,), b"", b"AAAA"),
        ((3,), b"", HEADER_3 + TEXT_3),
        ((3,), b"HEADER", HEADER_3),
        ((3,), b"TEXT", TEXT_3),
        ((3,), b"MIME", b"Content-Type: message/rfc822\n\n"),
        ((3, 1), b"", b"three.one"),
        ((3, 2), b"", b"three.two"),
        ((3, 2), b"MIME", b"\n"),
        ((3, 3), b"", None),
        ((4, 1), b"", b"four.one"),
        ((4, 1), b"MIME", b"Content-Type: image/gif\n\n"),
        ((4, 2), b"HEADER", b"Subject: four.two\nContent-Type: multipart/mixed; boundary=d\n\n"),
        ((4, 2, 1), b"", b"four.two.one"),
        ((4, 2, 2), b"MIME", b"Content-Type: multipart/alternative; boundary=e\n\n"),
        ((4, 2, 2, 1), b"", b"four.two.two.one"),
        ((4, 2, 2, 2), b"", b"four.two.two.two"),
        ((4, 2, 2, 2), b"MIME", b"X: y\n\n"),
        ((4,), b"HEADER", None),
        ((0,), b"", None),
        ((5,), b"", None),
        ((1,), b"ELSE", None),
        ((3,), b"ELSE", None),
        ((), b"MIME", None),
    ],
)
def test_sections_of_the_rfc(path: tuple[int, ...], what: bytes, expected: bytes | None) -> None:
    assert section(RAW, path, what) == expected


@pytest.mark.parametrize("kind", [b"rfc822", b"global"])
def test_a_message_that_is_encoded_is_fetched_whole_and_seems_empty(kind: bytes) -> None:
    raw = (
        b"Content-Type: multipart/mixed; boundary=a\n\n--a\n\nx\n"
        b"--a\nContent-Type: message/%b\nContent-Transfer-Encoding: base64\n\nU3ViamVjdDogeA==\n--a--\n" % kind
    )
    assert section(raw, (2,)) == b"U3ViamVjdDogeA=="
    assert section(raw, (2,), b"HEADER") == section(raw, (2,), b"TEXT") == b""
    assert section(raw, (2, 1)) == section(raw, (2, 1), b"MIME") == b""
    assert section(raw, (2, 2)) is section(raw, (2, 1, 1)) is section(raw, (1, 1)) is None


@pytest.mark.parametrize("encoding", [b"8bit", b"8-bit", b"none", b"x-nobody-knows", b"utf-8"])
def test_an_encoding_that_changes_nothing_hides_no_message(encoding: bytes) -> None:
    raw = b"Content-Type: message/rfc822\nContent-Transfer-Encoding: %b\n\nSubject: x\n\ny" % encoding
    assert section(raw, (1,), b"HEADER") == b"Subject: x\n\n"
    assert section(raw, (1, 1)) == b"y"


def test_a_message_of_one_part_has_part_one() -> None:
    raw = b"Subject: x\n\nbody"
    assert section(raw, (1,)) == b"body"
    assert section(raw, (), b"TEXT") == b"body"
    assert section(raw, (1,), b"MIME") == b"Subject: x\n\n"
    assert section(raw, (2,)) is None
    assert section(raw, (1, 1)) is None


def test_a_message_that_is_a_message() -> None:
    raw = b"Content-Type: message/rfc822\n\nSubject: inner\n\nbody"
    assert section(raw, (1,)) == b"Subject: inner\n\nbody"
    assert section(raw, (1,), b"HEADER") == b"Subject: inner\n\n"
    assert section(raw, (1,), b"TEXT") == b"body"
    assert section(raw, (1, 1)) == b"body"
    assert section(raw, (1, 1, 1)) is None


def same(one: Part, two: Part) -> bool:
    return (
        (one.header, one.body, one.end) == (two.header, two.body, two.end)
        and len(one.parts) == len(two.parts)
        and all(same(a, b) for a, b in zip(one.parts, two.parts, strict=True))
        and (one.message is None) == (two.message is None)
        and (one.message is None or two.message is None or same(one.message, two.message))
    )


@given(messages)
def test_pack(raw: bytes) -> None:
    result = scan(raw)
    packed = pack(result)
    again = unpack(packed)
    assert same(result.root, again.root)
    assert again.size == len(raw)
    assert pack(again) == packed


def test_pack_is_small_and_keeps_encodings() -> None:
    assert len(pack(scan(b"Subject: x\n\n" + b"y" * 3000))) == 5
    for encoding in (b"", b"7bit", b"8bit", b"binary", b"base64", b"quoted-printable"):
        raw = b"Content-Transfer-Encoding: " + encoding + b"\n\n"
        part = find_part(unpack(pack(scan(raw))), (1,))
        assert part is not None
        assert part.encoding == encoding
    assert unpack(pack(scan(b"Content-Transfer-Encoding: x-odd\n\n"))).root.encoding == b"unknown"

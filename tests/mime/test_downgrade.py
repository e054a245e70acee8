"""Conversion for servers that take less: the email package finds the same contents behind it."""

import email
from email.message import Message
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.mime import downgrade
from posthouse.mime.downgrade import Obstacle, convert
from tests.mime.strategies import entities, heaps
from tests.support.growth import assert_linear

MESSAGES = Path(__file__).parent.parent / "messages"


def crlf(text: str | bytes) -> bytes:
    data = text.encode() if isinstance(text, str) else text
    return data.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


def leaves(message: bytes) -> list[tuple[str, bytes]]:
    """Content type and decoded content of all that is no container."""
    return [
        (part.get_content_type(), _decoded(part))
        for part in email.message_from_bytes(message).walk()
        if not part.is_multipart()
    ]


def _decoded(part: Message) -> bytes:
    content = part.get_payload(decode=True)
    assert isinstance(content, bytes)
    return content.removesuffix(b"\r\n")


def converted(message: bytes, **options: bool) -> bytes:
    result = convert(message, **options)
    assert isinstance(result, bytes), result
    if not options.get("eight_bit"):
        assert result.isascii()
    assert max(map(len, result.split(b"\n"))) <= 999
    assert leaves(result) == leaves(message)
    return result


MIXED = crlf(
    """\
From: a@b.test
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary="b"
Content-Transfer-Encoding: 8bit

Preamble with ü
--b
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: 8bit

Grüße,@@
.
From here =20 to there
--b
Content-Type: text/plain

plain stays
--b
Content-Type: application/octet-stream
Content-Transfer-Encoding: 8bit

ÄÖÜ
--b
Content-Type: message/rfc822
Content-Transfer-Encoding: 8bit

Subject: inner
Content-Type: text/html; charset=iso-8859-1
Content-Transfer-Encoding: 8bit

<p>ä</p>
--b--
Epilogue with ü
""".replace("@@", "  ")
)


def test_parts_are_encoded_where_they_must_be() -> None:
    result = converted(MIXED)
    assert b"Content-Type: text/plain\r\n\r\nplain stays\r\n" in result
    assert result.count(b"quoted-printable") == 2
    assert result.count(b"base64") == 1
    assert b"8bit" not in result
    assert b"reamble" not in result
    assert b"pilogue" not in result
    assert convert(result) == result  # nothing is left to do
    assert converted(MIXED, eight_bit=True) == MIXED


def test_ascii_stays_as_it_is() -> None:
    message = b"Subject: x\r\n\r\nHello\r\n"
    assert convert(message) is message


def test_text_without_a_type_gets_one() -> None:
    result = converted(b"Subject: x\r\n\r\nGr\xfc\xdfe\r\n")
    assert b"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=unknown-8bit\r\n" in result
    assert result.count(b"\r\n\r\n") == 1
    result = converted(b"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n\xc3\xa4\r\n")
    assert result.count(b"MIME-Version") == 1
    assert b"unknown-8bit" not in result


@pytest.mark.parametrize("eight_bit", [False, True])
def test_binary_parts(eight_bit: bool) -> None:
    body = bytes(range(256)) * 20
    message = (
        b"Content-Type: multipart/mixed; boundary=b\r\nContent-Transfer-Encoding: binary\r\n\r\n"
        b"--b\r\nContent-Type: image/png\r\nContent-Transfer-Encoding: BINARY\r\n\r\n" + body + b"\r\n"
        b"--b\r\nContent-Transfer-Encoding: binary\r\n\r\nplain text\r\n"
        b"--b\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: binary\r\n\r\n\xc3\xa4\nb\r\n"
        b"--b\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: binary\r\n\r\n\xc3\xa4\r\n"
        b"--b--\r\n"
    )
    result = convert(message, eight_bit=eight_bit)
    assert isinstance(result, bytes)
    assert b"binary" not in result.lower()
    assert b"\0" not in result
    assert result.count(b"\n") == result.count(b"\r\n") == result.count(b"\r")
    assert result.isascii() is not eight_bit
    parts = [part.get_payload(decode=True) for part in email.message_from_bytes(result).walk()][1:]
    assert parts[0] == body
    assert parts[1] == b"plain text"
    assert parts[2] == b"\xc3\xa4\nb"
    assert parts[3] == b"\xc3\xa4"


def test_octets_that_have_no_place_in_an_encoding() -> None:
    for encoding, body, meant in (("quoted-printable", b"a=20\xe4", b"a \xe4"), ("base64", b"aGVs\xe4bG8=", b"hello")):
        head = f"MIME-Version: 1.0\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n".encode()
        result = convert(head + body)
        assert isinstance(result, bytes)
        assert result.isascii()
        assert email.message_from_bytes(result).get_payload(decode=True) == meant


SIGNED = """\
Content-Type: multipart/signed; boundary=s

--s
Content-Type: text/plain; charset=utf-8

{}
--s
Content-Type: application/pgp-signature

x
--s--
"""


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (SIGNED.format("Grüße"), "signed"),
        ("Content-Type: multipart/mixed; boundary=b\n\n--b\n" + SIGNED.format("ü") + "--b--\n", "signed"),
        ("Subject: ü\n\nx\n", "header"),
        ("Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Disposition: x; filename=ü\n\n\n--b--\n", "header"),
        ("Content-Type: message/partial\n\nü\n", "message/partial"),
        ("Content-Type: multipart/mixed; boundary=b\n\nü\n", "no parts"),
        ("Content-Transfer-Encoding: x-uuencode\n\nü\n", "nobody knows"),
        (
            "Content-Type: multipart/mixed; boundary=b\nContent-Transfer-Encoding: base64\n\n--b\n\nü\n--b--\n",
            "must not have",
        ),
    ],
)
def test_what_cannot_be_converted(message: str, why: str) -> None:
    result = convert(crlf(message))
    assert isinstance(result, Obstacle)
    assert why in result.text


def test_what_is_signed_stays_as_it_is_beside_what_is_not() -> None:
    signed = crlf(SIGNED.format("Hello"))
    message = crlf("Content-Type: multipart/mixed; boundary=b\n\n--b\n") + signed + crlf("--b\n\nü\n--b--\n")
    result = convert(message)
    assert isinstance(result, bytes)
    assert result.isascii()
    assert signed in result


def test_utf8_in_headers_stays_where_it_may() -> None:
    message = crlf("Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Description: ü\n\nx\n--b--\n")
    assert convert(message, eight_bit=True) == message
    assert isinstance(convert(message, eight_bit=True, utf8_header=False), Obstacle)


def test_a_message_with_utf8_in_its_header_may_be_encoded_as_a_whole() -> None:
    """RFC 6532 section 3.7: message/global has no ban on encodings."""
    message = crlf(
        "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n"
        "--b\nContent-Type: message/global\n\nSubject: ü\n\nü\n--b--\n"
    )
    result = convert(message)
    assert isinstance(result, bytes)
    assert result.isascii()
    assert b"Content-Transfer-Encoding: base64" in result


def test_no_line_that_is_broken_becomes_a_delimiter() -> None:
    line = "ü" * 12 + "x" * 3
    for pad in range(80):
        body = f"{line}{'y' * pad}--b--"
        message = crlf(
            "Content-Type: multipart/mixed; boundary=b\n\n"
            f"--b\nContent-Type: text/plain; charset=utf-8\n\n{body}\n--b\n\nsecond\n--b--\n"
        )
        converted(message)


def test_hostile_preambles_do_not_become_parts() -> None:
    message = crlf(
        b'Content-Type: multipart/mixed; boundary="b?"\n\n--b\xff\n\nfake\n--b?\n\n\xc3\xbc\n--b?--\n--b\xff\n'
    )
    result = convert(message)
    assert isinstance(result, bytes)
    assert len(leaves(result)) == 1
    assert b"fake" not in result


def test_bounds() -> None:
    many = crlf("Content-Type: multipart/mixed; boundary=b\n\n" + "--b\n\nü\n" * (downgrade.MAX_PARTS + 1) + "--b--\n")
    deep = b"Content-Type: message/rfc822\r\n\r\n" * (downgrade.MAX_DEPTH + 1) + b"\r\n\xfc\r\n"
    wide = b"X: " + b"y" * downgrade.MAX_HEADER + b"\r\n\r\n\xfc\r\n"
    for message in (many, deep, wide):
        assert isinstance(convert(message), Obstacle)


@pytest.mark.parametrize(
    "piece",
    [b"\xfc", b"\xfc\r\n", b"\r", b"\n", b"--b\xfc\r\n", b"x" * 997 + b"\r\n", b"=\xfc", b"--b\r\n\r\n\xfc\r\n"],
)
def test_time_is_linear(piece: bytes) -> None:
    head = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n\xfc"

    def make(size: int) -> bytes:
        return head + piece * (size // len(piece)) + b"\r\n--b--\r\n"

    assert_linear(convert, make, 200_000)


_text = st.text(st.sampled_from("aü=. -\n\t€"), max_size=300)


@given(st.lists(st.tuples(_text, st.sampled_from(["8bit", "binary", ""])), min_size=1, max_size=4))
def test_whatever_the_parts_hold(parts: list[tuple[str, str]]) -> None:
    message = "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=frontier\n\n"
    for text, encoding in parts:
        message += "--frontier\nContent-Type: text/plain; charset=utf-8\n"
        message += f"Content-Transfer-Encoding: {encoding}\n" * bool(encoding) + f"\n{text}\n"
    converted(crlf(message + "--frontier--\n"))


@given(entities() | heaps, st.booleans(), st.booleans())
def test_whatever_comes(message: bytes, eight_bit: bool, utf8_header: bool) -> None:
    result = convert(message, eight_bit=eight_bit, utf8_header=utf8_header)
    if not isinstance(result, Obstacle):
        assert eight_bit or result.isascii()
        assert convert(result, eight_bit=eight_bit, utf8_header=utf8_header) == result


@pytest.mark.parametrize("path", sorted(MESSAGES.rglob("*.eml")), ids=lambda path: path.name)
def test_the_corpus(path: Path) -> None:
    """Broken messages are converted or refused, and never raise."""
    result = convert(path.read_bytes())
    assert isinstance(result, Obstacle) or result.isascii()

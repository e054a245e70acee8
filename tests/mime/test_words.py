"""Encoded words in every state of disrepair, charsets, and the way back."""

import email.header
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.mime import words
from tests.support.growth import assert_linear


# RFC 2047 section 8, then what is met in the wild.
@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"=?ISO-8859-1?Q?a?=", "a"),
        (b"=?ISO-8859-1?Q?a?= b", "a b"),
        (b"=?ISO-8859-1?Q?a?= =?ISO-8859-1?Q?b?=", "ab"),
        (b"=?ISO-8859-1?Q?a?=  =?ISO-8859-1?Q?b?=", "ab"),
        (b"=?ISO-8859-1?Q?a?=\r\n    =?ISO-8859-1?Q?b?=", "ab"),
        (b"=?ISO-8859-1?Q?a_b?=", "a b"),
        (b"=?ISO-8859-1?Q?a?= =?ISO-8859-2?Q?_b?=", "a b"),
        (b"a =?utf-8?q?b?= c", "a b c"),
        (b" folded\r\n value ", "folded value"),
        (b"=?utf-8?b?R3LDvMOfZQ==?=", "Grüße"),
        (b"=?utf-8?B?R3LDvMOfZQ?=", "Grüße"),
        (b"=?UTF-8?B?R3LDvA?= =?utf-8?q?=C3=9Fe?=", "Grüße"),
        (b"=?utf-8?q?=C3?= =?utf-8?q?=A4?=", "ä"),
        (b"=?utf-8?b?w6Q?==?utf-8?q?x?=", "äx"),
        (b"=?utf-8?q?a?==?utf-8?q?b?=", "ab"),
        (b"=?utf-8*de?q?=C3=A4?=", "ä"),
        (b"x=?utf-8?q?=C3=A4?=y", "xäy"),
        (b'"=?utf-8?q?=C3=A4?=" <a@b>', '"ä" <a@b>'),
        (b"=?utf-8?q?blanks inside?=", "blanks inside"),
        (b"=?utf-8?q?what?now?=", "what?now"),
        (b"=?utf-8?q?=C3=A4", "ä"),
        (b"=?utf-8?q?=C3=A4 and more", "ä and more"),
        (b"=?utf-8?q?one =?utf-8?q?two?=", "onetwo"),
        (b"=?utf-8?b?R3LDvA== rest", "Grü rest"),
        (b"=?utf-8?q?bad =ZZ escape=?=", "bad =ZZ escape="),
        (b"=?utf-8?q??=", ""),
        (b"=?utf-8?b?!!!!?=", ""),
        (b"=?utf-8?b?A?=", ""),
        (b"=?utf-8?x?abc?=", "=?utf-8?x?abc?="),
        (b"=??q?abc?=", "=??q?abc?="),
        (b"=?x-nowhere?q?=C3=A4?=", "ä"),
        (b"=?x-nowhere?q?=E4?=", "ä"),
        (b"=?us-ascii?q?=E4?=", "ä"),
        (b"=?utf-8?q?=E4?=", "�"),
        (b"=?iso-8859-1?q?=80?=", "€"),
        (b"=?gb2312?b?xOO6ww==?=", "你好"),
        (b"=?ks_c_5601-1987?b?vsiz5w==?=", "안녕"),
        (b"=?iso-2022-jp?b?GyRCJDMbKEI=?=", "こ"),
        (b"=?koi8-r?b?8NLJ18XU?=", "Привет"),
        (b"=?unicode-1-1-utf-7?q?+AOQ-?=", "ä"),
        (b"=?utf-7?q?+2AA-?=", "\ufffd"),  # half a pair
        (b"=?utf-7?q?+2D3cqQ-?=", "\U0001f4a9"),
        (b"=?utf-7?q?+2AA-\xff?=", "\ufffd\ufffd"),
        (b"=?hex?q?41?=", "41"),
        (b"=?unicode_escape?q?=5Cn?=", "\\n"),
        (b"=?idna?q?xn--4ca?=", "xn--4ca"),
        (b"=?undefined?q?a?=", "a"),
        (b"caf\xc3\xa9", "café"),
        (b"caf\xe9", "café"),
        (b"a\0b\x07c\x7f", "a b c "),
        (b"=?utf-8?q?a=0D=0AX:_y=00?=", "a  X: y "),
        (b"=?utf-8?q?a=C2=9B31m?=", "a 31m"),  # a control sequence of eight bits
        (b"", ""),
        (b"=?", "=?"),
        (b"=?=?=?=", "=?=?=?="),
    ],
)
def test_decode(value: bytes, expected: str) -> None:
    assert words.decode(value) == expected


_pieces = [b"=?", b"?=", b"?", b"utf-8", b"q", b"b", b"=?utf-8?q?", b"=?utf-8?b?", b" ", b"\r\n ", b"=", b"=C3", b"A4"]


@given(st.lists(st.sampled_from(_pieces) | st.binary(max_size=3)).map(b"".join))
def test_decode_never_fails(value: bytes) -> None:
    text = words.decode(value)
    assert not re.search(r"[\0-\x1f\x7f-\x9f]", text)
    text.encode("utf-8")


@given(st.text(max_size=60))
def test_decode_like_cpython_where_the_words_are_right(text: str) -> None:
    text = " ".join(text.encode("utf-8", "replace").decode().split())
    if not text.isprintable():
        return
    sound = email.header.Header(text, "utf-8", maxlinelen=60).encode(linesep="\r\n")
    assert words.decode(sound.encode()) == text


@given(st.text(max_size=200))
def test_encode_comes_back(text: str) -> None:
    encoded = words.encode(text)
    assert encoded.isascii()
    assert all(len(word) <= 75 for word in encoded.split(" ") if word.startswith("=?"))
    if text.isprintable() and text.strip() == text:
        assert words.decode(encoded.encode()) == text.encode("utf-8", "replace").decode()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("Grüße an alle", "=?utf-8?q?Gr=C3=BC=C3=9Fe_an_alle?="),
        ("Grüße", "=?utf-8?b?R3LDvMOfZQ==?="),
        ("你好", "=?utf-8?b?5L2g5aW9?="),
        ("a =?b", "=?utf-8?q?a_=3D=3Fb?="),
        ("line\r\nX: y", "=?utf-8?q?line=0D=0AX=3A_y?="),
    ],
)
def test_encode(text: str, expected: str) -> None:
    assert words.encode(text) == expected


@pytest.mark.parametrize(
    "charset", [b"", b"utf-8", b"us-ascii", b"x" * 100, b"\xff\0", b"zip", b"..", b"utf-16", b"rot13"]
)
def test_charsets_never_fail(charset: bytes) -> None:
    for data in (b"", b"abc", b"\xff\xfe\x80", b"\xc3\xa4", bytes(range(256))):
        assert isinstance(words.decode_charset(data, charset), str)


@pytest.mark.parametrize(
    "charset",
    [b"utf-7", b"utf-16", b"utf-32", b"iso-2022-jp", b"iso-2022-kr", b"hz", b"gb18030", b"big5", b"euc-jp", b"cp932",
     b"johab", b"koi8-r", b"utf-8", b"x-nowhere"],
)  # fmt: skip
@pytest.mark.parametrize("piece", [b"\xff", b"+2AA", b"+\xff", b"~{\xff", b"\x1b$B\xff", b"a\x81", b"\xd8\0"])
def test_no_charset_takes_more_than_linear_time(charset: bytes, piece: bytes) -> None:
    assert_linear(lambda data: words.decode_charset(data, charset), lambda n: piece * n, 4000)


@pytest.mark.parametrize(
    "piece", [b"=?", b"=?utf-8?q?", b"=?utf-8?q?x?= ", b"=?utf-8?b?", b"?", b"=", b"a ", b"\xff", b"=41"]
)
def test_linear_time(piece: bytes) -> None:
    assert_linear(words.decode, lambda n: piece * n)
    assert_linear(words.decode, lambda n: b"=?utf-8?q?" + piece * n)

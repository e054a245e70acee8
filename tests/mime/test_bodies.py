"""Transfer encodings, sound and broken, whole and in chunks."""

import base64
import binascii
import quopri

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.mime import bodies
from tests.support.growth import assert_linear

ENCODINGS = [b"base64", b"quoted-printable", b"x-uuencode", b"7bit", b"x-nobody-knows"]


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"aGVsbG8=", b"hello"),
        (b"aGVs\r\nbG8=\r\n", b"hello"),
        (b"aGVsbG8", b"hello"),
        (b"aGVsbG8=\r\n-- \r\nfooter", b"hello"),
        (b"aG*Vs!b G8=", b"hello"),
        (b"=aGVsbG8=", b"hello"),
        (b"aGVsbG8x", b"hello1"),
        (b"aGVsb", b"hel"),
        (b"a", b""),
        (b"", b""),
        (b"====", b""),
        (b"aGVsbG8=aGVsbG8=", b"hello"),
        (b"\xff\xfeaGVs", b"hel"),
    ],
)
def test_base64(raw: bytes, expected: bytes) -> None:
    assert bodies.decode(raw, b"base64") == expected


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"a=3Db", b"a=b"),
        (b"a=3db", b"a=b"),
        (b"soft=\r\nbreak=\nagain", b"softbreakagain"),
        (b"padded= \t\r\nbreak", b"paddedbreak"),
        (b"no = escape, =ZZ, =4", b"no = escape, =ZZ, =4"),
        (b"==41", b"=A"),
        (b"===", b"=="),
        (b"end=", b"end"),
        (b"end=\r", b"end"),
        (b"end= ", b"end"),
        (b"bare=\rCR", b"bare=\rCR"),
        (b"trailing blank \r\n", b"trailing blank\r\n"),
        (b"and tab \t \nat the end \t", b"and tab\nat the end"),
        (b"one that is meant=20\r\n", b"one that is meant \r\n"),
        (b" leading \r carriage return\r\n", b" leading \r carriage return\r\n"),
        (b"998" + b" " * 998 + b"\r\n999" + b" " * 999 + b"\r\n", b"998\r\n999" + b" " * 999 + b"\r\n"),
        (b"8-bit \xfc", b"8-bit \xfc"),
        (b"under_score", b"under_score"),
        (b"", b""),
    ],
)
def test_quoted_printable(raw: bytes, expected: bytes) -> None:
    assert bodies.decode(raw, b"quoted-printable") == expected


def test_uuencode() -> None:
    data = bytes(range(200))
    lines = b"".join([binascii.b2a_uu(data[at : at + 45]) for at in range(0, 200, 45)])
    raw = b"some words\r\nbegin 644 a.bin\r\n" + lines.replace(b"\n", b"\r\n") + b"`\r\nend\r\nmore words\r\n"
    assert bodies.decode(raw, b"x-uuencode") == data
    assert bodies.decode(b"nothing here", b"uuencode") == b""
    assert bodies.decode(b"begin 644 x\n\x80\x81\nM\nend", b"uue") is not None


def test_identity() -> None:
    assert bodies.decode(b"a=3D\0", b"8bit") == b"a=3D\0"
    assert bodies.decode(b"a=3D\0", b"x-odd") == b"a=3D\0"
    assert [bodies.is_known(one) for one in (b"", b"7bit", b"base64", b"x-uue", b"x-odd")] == [True] * 4 + [False]


@given(st.binary())
def test_sound_base64(data: bytes) -> None:
    assert bodies.decode(base64.encodebytes(data), b"base64") == data


@given(st.binary())
def test_sound_quoted_printable(data: bytes) -> None:
    data = data.replace(b"\r\n", b"\n")  # of two kinds of line ends the encoder makes one
    assert bodies.decode(quopri.encodestring(data, quotetabs=True), b"quoted-printable") == data


_pieces = st.lists(
    st.sampled_from(
        [b"=", b"\r", b"\n", b"\r\n", b" ", b"\t", b"4", b"1", b"A", b"aGVs", b"=E4", b" " * 500, b"begin 1 x\n", b"*"]
    )
    | st.binary(max_size=3)
)


@given(_pieces.map(b"".join), st.sampled_from(ENCODINGS), st.sampled_from([1, 2, 3, 7]))
def test_any_chunks(raw: bytes, encoding: bytes, size: int) -> None:
    machine = bodies.decoder(encoding)
    pieces = [machine.feed(raw[at : at + size]) for at in range(0, len(raw), size)]
    assert b"".join([*pieces, machine.finish()]) == bodies.decode(raw, encoding)
    if encoding != b"x-uuencode":  # there, lines may be cut where only blanks follow
        assert len(bodies.decode(raw, encoding)) <= len(raw)


def test_what_is_held_back_is_bounded() -> None:
    for encoding in ENCODINGS:
        for piece in (b"=", b" ", b"=    ", b"A", b"=\r", b"*"):
            machine = bodies.decoder(encoding)
            for _ in range(500):
                machine.feed(piece * 10)
            held = getattr(machine, "_held", b"") + getattr(machine, "_quad", b"")
            assert len(held) <= 1000


@pytest.mark.parametrize("encoding", [b"base64", b"quoted-printable", b"x-uuencode"])
@pytest.mark.parametrize(
    "piece",
    [b"=", b"==", b"A=", b"AA=", b"= ", b"=\t", b"=\r", b"=\r\n", b"=4", b"\n", b" \n", b"M\n", b"begin \n", b"\xff"],
)
def test_linear_time(encoding: bytes, piece: bytes) -> None:
    assert_linear(lambda data: bodies.decode(data, encoding), lambda n: b"begin 644 x\n" + piece * n, 2000)

    def in_pieces(data: bytes) -> None:
        machine = bodies.decoder(encoding)
        for at in range(0, len(data), 50):
            machine.feed(data[at : at + 50])
        machine.finish()

    assert_linear(in_pieces, lambda n: piece * n, 2000)

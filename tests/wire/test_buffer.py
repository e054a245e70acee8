"""The receive buffer: lines at any chunk size, limits, and that work grows with the bytes and not faster."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.wire.buffer import LineTooLong, ReceiveBuffer
from tests.support.play import cut


@given(st.lists(st.sampled_from([b"\r\n", b"\r", b"\n", b"a", b"bcd"]), max_size=30).map(b"".join), st.integers(1, 9))
def test_lines_are_what_split_finds(data: bytes, size: int) -> None:
    buffer, lines = ReceiveBuffer(), []
    for piece in cut(data, size):
        buffer.feed(piece)
        while (line := buffer.take_line(1000)) is not None:
            lines.append(line)
    *expected, rest = data.split(b"\r\n")
    assert lines == expected
    assert len(buffer) == len(rest)
    assert buffer.take_all() == rest


@pytest.mark.parametrize("size", [1, 2, 5, 100])
def test_the_limit_is_exact(size: int) -> None:
    def take(data: bytes) -> bytes | None:
        buffer, line = ReceiveBuffer(), None
        for piece in cut(data, size):
            buffer.feed(piece)
            line = buffer.take_line(4) if line is None else line
        return line

    assert take(b"abcd\r\n") == b"abcd"
    assert take(b"abcd\r") is None
    with pytest.raises(LineTooLong):
        take(b"abcde\r\n")
    with pytest.raises(LineTooLong):
        take(b"abcdef")


def test_take_peek_find_and_unread() -> None:
    buffer = ReceiveBuffer()
    buffer.feed(b"one\r\ntw")
    buffer.feed(b"o\r\nrest")
    assert buffer.take_line(10) == b"one"
    assert buffer.peek(3) == b"two"
    assert buffer.find(b"\r\n") == 3
    assert buffer.find(b"x") == -1
    assert buffer.take(2) == b"tw"
    buffer.feed(b"!")
    assert len(buffer) == 8
    assert buffer.take_line(10) == b"o"
    buffer.unread(b"more\r\n")
    assert buffer.take_line(10) == b"more"
    assert buffer.take(100) == b"rest!"
    assert buffer.take(1) == b""
    assert not buffer
    buffer.feed(b"x")
    buffer.clear()
    assert buffer.take_all() == b""


def test_bytes_that_wait_are_joined_once() -> None:
    """Feeding byte by byte while nobody takes must not copy what is held each time."""
    buffer = ReceiveBuffer()
    for _ in range(50_000):
        buffer.feed(b"x")
    assert len(buffer._more) >= 49_999
    assert len(buffer.take_all()) == 50_000
    assert not buffer._more


def test_the_search_does_not_start_over() -> None:
    buffer = ReceiveBuffer()
    for number in range(5000):
        buffer.feed(b"x")
        assert buffer.take_line(10_000) is None
        assert buffer._searched >= number
    buffer.feed(b"\r")
    assert buffer.take_line(10_000) is None
    buffer.feed(b"\n")
    assert buffer.take_line(10_000) == b"x" * 5000

"""The framer finds the same commands however the stream is cut, and never holds more than it may."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.imap.framer import Announced, Command, Discarded, Framer, Piece

STEPS = [1, 2, 3, 7, 1_000_000]


def run(stream: bytes, step: int, decide: str = "collect", max_line: int = 1000) -> list[object]:
    """All that comes out of a stream fed in steps; pieces of a streamed literal are joined."""
    framer = Framer(max_line)
    out: list[object] = []
    streamed = b""
    for at in range(0, len(stream), step):
        framer.feed(stream[at : at + step])
        while (found := framer.next()) is not None:
            if isinstance(found, Announced):
                out.append(("announced", found.size, found.waits, found.binary))
                getattr(framer, decide)()
            elif isinstance(found, Piece):
                streamed += found.data
                if found.last:
                    out.append(("streamed", streamed))
                    streamed = b""
            elif isinstance(found, Command):
                out.append((found.text, found.literals))
            else:
                out.append(found)
    return out


@pytest.mark.parametrize("step", STEPS)
def test_commands_and_literals(step: int) -> None:
    stream = b'a NOOP\r\nb LOGIN {3}\r\nbob {4+}\r\nx\r\ny\r\nc NOOP\nd X "{3}"\r\n'
    assert run(stream, step) == [
        (b"a NOOP", []),
        ("announced", 3, True, False),
        ("announced", 4, False, False),
        (b"b LOGIN {3}\r\n {4+}\r\n", [b"bob", b"x\r\ny"]),
        (b"c NOOP", []),
        (b'd X "{3}"', []),
    ]


@pytest.mark.parametrize("step", STEPS)
def test_a_streamed_literal_comes_in_pieces(step: int) -> None:
    stream = b"a APPEND INBOX ~{10+}\r\n0123456789\r\nb NOOP\r\n"
    assert run(stream, step, "stream") == [
        ("announced", 10, False, True),
        ("streamed", b"0123456789"),
        (b"a APPEND INBOX ~{10+}\r\n", []),
        (b"b NOOP", []),
    ]


@pytest.mark.parametrize("step", STEPS)
def test_an_empty_literal(step: int) -> None:
    assert run(b"a X {0+}\r\n\r\n", step)[1] == (b"a X {0+}\r\n", [b""])
    assert run(b"a X {0+}\r\n\r\n", step, "stream")[1:] == [("streamed", b""), (b"a X {0+}\r\n", [])]


@pytest.mark.parametrize("step", STEPS)
def test_a_skipped_literal_takes_the_rest_of_its_command_with_it(step: int) -> None:
    stream = b"a X {10+}\r\nb LOGIN\r\n1 {3+}\r\nc \r\nd NOOP\r\n"
    assert run(stream, step, "skip") == [
        ("announced", 10, False, False),
        Discarded(b"a X {10+}\r\n", False),
        (b"d NOOP", []),
    ]


@pytest.mark.parametrize("step", STEPS)
def test_a_dropped_literal_ends_the_command(step: int) -> None:
    assert run(b"a X {10}\r\nb NOOP\r\n", step, "drop") == [
        ("announced", 10, True, False),
        (b"b NOOP", []),
    ]


@pytest.mark.parametrize("step", STEPS)
def test_an_overlong_line_is_discarded_with_its_literals(step: int) -> None:
    stream = b"a X " + b"y" * 5000 + b" {6+}\r\nb BAD\n more\r\nc NOOP\r\n"
    found = run(stream, step)
    assert isinstance(found[0], Discarded)
    assert found[0].overlong
    assert found[0].text.startswith(b"a X")
    assert found[1:] == [(b"c NOOP", [])]


def test_a_line_of_exactly_the_limit_passes() -> None:
    line = b"a " + b"x" * 998
    for step in STEPS:
        assert run(line + b"\n", step) == [(line, [])]
        assert run(line + b"\r\n", step) == [(line, [])]


def test_many_short_lines_of_one_command_share_its_limit() -> None:
    found = run(b"a X" + b" {1+}\r\ny" * 200 + b"\r\nb NOOP\r\n", 1_000_000)
    assert isinstance(found[-2], Discarded)
    assert found[-1] == (b"b NOOP", [])


def test_an_endless_line_is_not_kept() -> None:
    framer = Framer(1000)
    for _ in range(1000):
        framer.feed(b"x" * 1000)
        assert framer.next() is None
        assert framer.buffered <= 1001


def test_the_same_bytes_are_not_searched_twice() -> None:
    framer = Framer(1 << 30)
    found: list[int] = []

    class Counting(bytearray):
        def find(self, *args: Any) -> int:
            found.append(len(self) - (args[1] if len(args) > 1 else 0))
            return super().find(*args)

    framer._buffer = Counting()
    for _ in range(2000):
        framer.feed(b"x" * 10)
        framer.next()
    assert sum(found) == 20_000


@given(
    st.lists(st.sampled_from([b"a NOOP\r\n", b"x {3+}\r\n", b"{5}\r\n", b"abc", b"\n", b"\r", b"y" * 90, b"{2+}\r\n"]))
)
def test_cuts_make_no_difference(parts: list[bytes]) -> None:
    stream = b"".join(parts)
    for decide in ("collect", "stream", "skip", "drop"):
        whole = run(stream, 1_000_000, decide, max_line=64)
        for step in (1, 2, 3, 7):
            assert run(stream, step, decide, max_line=64) == whole

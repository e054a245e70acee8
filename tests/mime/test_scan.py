"""The scanner: offsets of parts, whatever the message, however it comes in, in linear time."""

import email
import itertools
from collections.abc import Callable
from email.message import Message

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from posthouse.mime.scan import HeadText, Limits, Part, Scan, Scanner, scan
from tests.mime.reference import reference, tree_of
from tests.mime.strategies import entities, messages
from tests.support.growth import assert_linear

DEFAULT = Limits()


def in_chunks(raw: bytes, size: int, limits: Limits = DEFAULT) -> Scan:
    scanner = Scanner(limits)
    buffer = bytearray(size)
    for start in range(0, len(raw), size):
        piece = raw[start : start + size]
        buffer[: len(piece)] = piece
        scanner.feed(memoryview(buffer)[: len(piece)])  # what is fed may be overwritten afterwards
    return scanner.finish()


def everything(part: Part) -> list[object]:
    """All that a scan found, to compare."""
    return [
        (part.header, part.body, part.end, part.lines, part.type, part.subtype, part.encoding),
        (part.header_bytes, part.params, part.content),
        [everything(child) for child in part.parts],
        part.message and everything(part.message),
    ]


def parts_of(part: Part) -> list[Part]:
    inside = [*part.parts, *([part.message] if part.message else [])]
    return [part, *itertools.chain.from_iterable(parts_of(one) for one in inside)]


def test_parts_end_before_the_line_end_of_the_delimiter() -> None:
    raw = b"Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n\r\none\r\n--x\r\n\r\ntwo\r\n\r\n--x--\r\n"
    assert [raw[part.body : part.end] for part in scan(raw).root.parts] == [b"one", b"two\r\n"]


@given(messages)
@example(b"")
@example(b"\r\n")
@example(b"--a")
def test_offsets_nest(raw: bytes) -> None:
    result = scan(raw)
    assert (result.root.header, result.root.end, result.size) == (0, len(raw), len(raw))
    if b"\n" not in raw:
        raw = raw.replace(b"\r", b"\n")

    def check(part: Part, low: int, high: int) -> None:
        assert low <= part.header <= part.body <= part.end <= high
        assert part.header_bytes == raw[part.header : part.body]
        counted = part.type == b"text" or part.type == b"message" or (part.type == b"multipart" and not part.parts)
        assert part.lines == (raw.count(b"\n", part.body, part.end) if counted else 0)
        at = part.body
        for child in part.parts:
            check(child, at, part.end)
            at = child.end
        if part.message:
            assert (part.message.header, part.message.end) == (part.body, part.end)
            check(part.message, part.body, part.end)

    check(result.root, 0, len(raw))


@given(messages)
def test_like_the_slow_one(raw: bytes) -> None:
    assert tree_of(scan(raw).root) == reference(raw)


LIMITS = [
    DEFAULT,
    Limits(header=20),
    Limits(headers=100),
    Limits(parts=3),
    Limits(depth=2),
    Limits(head_text=3, head_html=5),
]


@given(messages, st.sampled_from(LIMITS))
def test_any_chunks(raw: bytes, limits: Limits) -> None:
    whole = scan(raw, limits)
    for size in (1, 2, 3, 7, 50):
        pieces = in_chunks(raw, size, limits)
        assert everything(pieces.root) == everything(whole.root)
        assert pieces.head_text == whole.head_text
        assert pieces.size == whole.size


def leaves(message: Message) -> list[tuple[str, bytes]]:
    """What CPython sees."""
    return [
        (part.get_content_type(), part.get_payload().encode("ascii", "surrogateescape"))  # type: ignore[union-attr]
        for part in message.walk()
        if not part.is_multipart()
    ]


@given(entities())
def test_like_cpython_where_the_message_is_right(raw: bytes) -> None:
    ours = [
        ((part.type + b"/" + part.subtype).decode(), raw[part.body : part.end])
        for part in parts_of(scan(raw).root)
        if not part.parts and not part.message
    ]
    assert ours == leaves(email.message_from_bytes(raw))


def test_boundary_line_length_limit() -> None:
    # The line is looked at as a whole or not at all, so a delimiter with a page of blanks behind it is none.
    head = b"Content-Type: multipart/mixed; boundary=x\n\n"
    assert len(scan(head + b"--x" + b" " * 2000 + b"\n\none").root.parts) == 1
    assert len(scan(head + b"--x" + b" " * 3000 + b"\n\none").root.parts) == 0


@pytest.mark.parametrize("size", [1000, 70_000])
def test_header_limit(size: int) -> None:
    limits = Limits(header=1000)
    raw = b"Subject: " + b"x" * 500 + b"\nX: " + b"y" * size + b"\n\nbody"
    for result in (scan(raw, limits), in_chunks(raw, 333, limits)):
        assert result.root.header_bytes == b"Subject: " + b"x" * 500 + b"\n"
    assert len(scan(b"X: " + b"y" * size, limits).root.header_bytes) == 1000


def nested(depth: int) -> bytes:
    lines = []
    for level in range(depth):
        lines.append(b"Content-Type: multipart/mixed; boundary=b%dx\n\n--b%dx" % (level, level))
    return b"\n".join([*lines, b"\ninnermost"])


def test_depth_limit() -> None:
    assert len(parts_of(scan(nested(99)).root)) == 100
    assert len(parts_of(scan(nested(1000)).root)) == 101
    assert len(parts_of(scan(b"Content-Type: message/rfc822\n\n" * 1000).root)) == 101


def test_parts_limit() -> None:
    raw = b"Content-Type: multipart/mixed; boundary=b\n\n" + b"--b\n\nx\n" * 12_000 + b"--b--\n"
    result = scan(raw)
    assert len(parts_of(result.root)) == 10_000
    assert result.root.parts[-1].end == len(raw)


def test_memory_limit() -> None:
    part = b"--b\nX: " + b"y" * 200_000 + b"\n\nx\n"
    raw = b"Content-Type: multipart/mixed; boundary=b\n\n" + part * 60
    kept = sum(len(part.header_bytes) for part in parts_of(scan(raw).root))
    assert 8 * 1024 * 1024 <= kept <= 8 * 1024 * 1024 + 256 * 1024
    scanner = Scanner()
    for _ in range(300):
        scanner.feed(b"z" * 65_536)
    assert len(scanner._rest) + scanner._pending_size <= 256 * 1024 + 65_536 * 2


def head(raw: bytes, limits: Limits = DEFAULT) -> HeadText | None:
    return scan(raw, limits).head_text


def test_head_text() -> None:
    assert head(b"Content-Type: text/plain; charset=x\n\nhello") == HeadText(b"plain", b"x", b"", b"hello")
    assert head(b"\n" + b"x" * 9999) == HeadText(b"plain", b"", b"", b"x" * 4096)
    alternative = (
        b"Content-Type: multipart/alternative; boundary=b\n\n--b\nContent-Type: text/%b\n\n%b\n--b\n\n%b\n--b--"
    )
    assert head(alternative % (b"html", b"<p>", b"plain")) == HeadText(b"plain", b"", b"", b"plain")
    assert head(alternative % (b"html", b"<p>", b"   ")) == HeadText(b"html", b"", b"", b"<p>")
    assert head(alternative % (b"calendar", b"x", b"plain")) == HeadText(b"plain", b"", b"", b"plain")
    assert head(b"Content-Type: image/png\n\nx") is None
    assert head(b"Content-Disposition: attachment\n\nx") is None
    assert head(b"Content-Type: multipart/mixed\n\nno boundary") == HeadText(b"plain", b"", b"", b"no boundary")


def nothing_but(line: bytes) -> Callable[[int], bytes]:
    return lambda n: line * n


def many_open(n: int) -> bytes:
    """As many distinct boundaries as may be open, and lines that look like delimiters."""
    return nested(99) + b"\n--b50" * n + b"\n--b98x\n\nx" * (n // 10)


def alike(n: int) -> bytes:
    """Boundaries that are prefixes of each other, and lines that begin like all of them."""
    lines = [b"Content-Type: multipart/mixed; boundary=%b\n\n--%b" % (b"b" * k, b"b" * k) for k in range(1, 90)]
    return b"\n".join([*lines, b"\n"]) + (b"\n--" + b"b" * 100) * n + b"\n--" + b"b" * 89 + b"\n\nx"


def encoded(n: int) -> bytes:
    return MULTIPART + b"--b\nContent-Type: message/rfc822\nContent-Transfer-Encoding: base64\n\nAAAA\n" * (n // 10)


MULTIPART = b"Content-Type: multipart/mixed; boundary=b\n\n"
SEPARATOR = b"From a@b Mon Jan  1 00:00:00 2024\n"
GROWING: dict[str, Callable[[int], bytes]] = {
    "fields": nothing_but(b"X: y\n"),
    "folded": lambda n: b"X: y\n" + b" y\n" * n,
    "no line end": nothing_but(b"xxxx"),
    "empty lines": nothing_but(b"\n\n"),
    "dashes": lambda n: MULTIPART + b"\n--" * n,
    "delimiters": lambda n: MULTIPART + b"--b\n" * n,
    "parts": lambda n: MULTIPART + b"--b\n\nx\n" * n,
    "parts of lf only and no empty line": lambda n: MULTIPART + b"--b\nX: y\n" * n,
    "closed": lambda n: MULTIPART + b"--b--\n" * n,
    "long lines": lambda n: MULTIPART + (b"\n--b" + b" " * 2100) * (n // 500),
    "many open": many_open,
    "inner ones": lambda n: MULTIPART + b"--b\nContent-Type: multipart/mixed; boundary=c\n\n--c\n\nx\n" * (n // 10),
    "alike": alike,
    "encoded messages": encoded,
    "separators": lambda n: b"X: y\n" + SEPARATOR * n,
    "no line end but CR": lambda n: (MULTIPART + b"--b\n\nx\n" * n).replace(b"\n", b"\r"),
    "CR and at last an LF": lambda n: b"x\r" * n + b"\n",
    "byte order marks": lambda n: b"\xef\xbb\xbfX: y\n" * n,
    "one long parameter": lambda n: b"Content-Type: multipart/mixed; boundary=" + b"b" * n + b"\n\n",
    "many parameters": lambda n: b"Content-Type: a/b" + b"; a*0*=b" * n + b"\n\n",
    "digest": lambda n: MULTIPART.replace(b"mixed", b"digest") + b"--b\n\nX: y\n\nz\n" * (n // 10),
    "messages": lambda n: MULTIPART + b"--b\nContent-Type: message/rfc822\n\nSubject: x\n\ny\n" * (n // 10),
}


@pytest.mark.parametrize("name", GROWING)
def test_linear_time(name: str) -> None:
    assert_linear(scan, GROWING[name], 1000)
    assert_linear(lambda raw: in_chunks(raw, 1500), GROWING[name], 1000)
    assert_linear(lambda raw: in_chunks(raw, 20), GROWING[name], 500)

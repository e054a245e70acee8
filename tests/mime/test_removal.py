"""Fields that are taken out of a stream: what goes, what stays, and that the cut of the stream does not matter."""

import itertools
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from posthouse.mime.removal import Removal
from tests.support.growth import assert_linear


def without_bcc(name: bytes, _value: bytes) -> bool:
    return name.lower() == b"bcc"


def claims_us(name: bytes, value: bytes) -> bool:
    return name.lower() == b"authentication-results" and b"mx.example.org" in value


def run(pieces: list[bytes], limit: int = 1000) -> bytes:
    removal = Removal(lambda name, value: without_bcc(name, value) or claims_us(name, value), limit)
    out = [removal.feed(piece) for piece in pieces]
    return b"".join([*out, removal.finish()])


def naive(message: bytes, limit: int = 1000) -> bytes:
    """Line by line, with all of the message at hand."""
    lines = re.findall(rb"[^\n]*\n|[^\n]+\Z", message)
    fields: list[bytes] = []
    for number, line in enumerate(lines):
        if line in (b"\n", b"\r\n"):
            rest = b"".join(lines[number:])
            break
        if line[:1] in (b" ", b"\t") and fields:
            fields[-1] += line
        else:
            fields.append(line)
    else:
        rest = b""
    return b"".join([field for field in fields if not _goes(field, limit)]) + rest


def _goes(field: bytes, limit: int) -> bool:
    name, colon, value = field[:limit].removeprefix(b"\xef\xbb\xbf").partition(b":")
    name = name.rstrip(b" \t")
    if not colon or not name or re.search(rb"[\x00-\x20\x7f]", name):
        return False
    return without_bcc(name, value) or claims_us(name, value)


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (b"Bcc: a@example.org\r\nTo: b\r\n\r\nBcc: body\r\n", b"To: b\r\n\r\nBcc: body\r\n"),
        (b"To: b\r\nBCC : a,\r\n c,\r\n\td\r\nDate: x\r\n\r\n", b"To: b\r\nDate: x\r\n\r\n"),
        (b"Bcc: only\r\n\r\nbody", b"\r\nbody"),
        (b"Bcc: only", b""),
        (b"To: b\nBcc: last\n", b"To: b\n"),
        (b"To: b\r\nBcc: last", b"To: b\r\n"),
        (b"\xef\xbb\xbfBcc: marked\r\nTo: b\r\n\r\n", b"To: b\r\n\r\n"),
        # A line that is no field ends the header for some programs, and not for others.
        (b"no field here\r\nBcc: a\r\n\r\n", b"no field here\r\n\r\n"),
        (b"From me Sat Jan  1\r\nBcc: a\r\n\r\n", b"From me Sat Jan  1\r\n\r\n"),
        (b" Bcc: of nothing\r\nTo: b\r\n\r\n", b" Bcc: of nothing\r\nTo: b\r\n\r\n"),
        (b"\r\nBcc: body\r\n", b"\r\nBcc: body\r\n"),
        (b"Bcc:\r\n \r\nTo: b\r\n\r\n", b"To: b\r\n\r\n"),  # a line of blanks goes on
        (b"Bcc: a\rTo: b\r\n\r\n", b"\r\n"),  # CR alone ends no line
        (b"X-Bcc: a\r\nBcc-: b\r\nB cc: d\r\n\r\n", b"X-Bcc: a\r\nBcc-: b\r\nB cc: d\r\n\r\n"),
        (
            b"Authentication-Results: mx.example.org; spf=pass\r\nAuthentication-Results: other.test; spf=pass\r\n\r\n",
            b"Authentication-Results: other.test; spf=pass\r\n\r\n",
        ),
        (b"Authentication-Results:\r\n mx.example.org;\r\n spf=pass\r\n\r\n", b"\r\n"),
        (b"Bcc: " + b"long " * 300 + b"\r\n folded\r\nTo: b\r\n\r\n", b"To: b\r\n\r\n"),
        # What claims our name only behind the limit is kept: nobody reads a result there.
        (
            b"Authentication-Results: " + b" " * 1000 + b"mx.example.org\r\n\r\n",
            b"Authentication-Results: " + b" " * 1000 + b"mx.example.org\r\n\r\n",
        ),
    ],
)
def test_fields_go_and_the_rest_stays(message: bytes, expected: bytes) -> None:
    assert run([message]) == expected == naive(message)
    assert run([message[at : at + 1] for at in range(len(message))]) == expected


_words = [b"Bcc: a", b"To: b", b"Bcc", b":", b"\r\n", b"\n", b"\r", b" ", b"\t", b"x" * 30, b"\xef\xbb\xbf", b"\0"]
_words += [b"Authentication-Results: mx.example.org", b"Authentication-Results: ", b"mx.example.org", b"\r\n "]


@given(st.lists(st.sampled_from(_words), max_size=40), st.lists(st.integers(0, 400)), st.integers(1, 60))
@example([b"Bcc: a", b"\r\n", b"To: b", b"\r\n", b"\r\n"], [7, 8], 3)
def test_the_cut_does_not_matter(words: list[bytes], cuts: list[int], limit: int) -> None:
    message = b"".join(words)
    at = [0, *sorted(cut for cut in cuts if cut < len(message)), len(message)]
    pieces = [message[start:end] for start, end in itertools.pairwise(at)]
    assert run(pieces, limit) == naive(message, limit)


def test_how_many_went_is_counted() -> None:
    removal = Removal(without_bcc, 100)
    assert removal.feed(b"Bcc: a\r\nBcc: " + b"b" * 200) + removal.feed(b"\r\nTo: c\r\nBcc: d") == b"To: c\r\n"
    assert (removal.finish(), removal.removed) == (b"", 3)


@pytest.mark.parametrize("piece", [b"Bcc: a\r\n", b"To: b\r\n", b" folded\r\n", b"x", b"\r", b"\n ", b"X: y\r\n z\r\n"])
def test_little_is_held_and_nothing_twice(piece: bytes) -> None:
    removal = Removal(without_bcc, 1000)
    came = went = 0
    for _ in range(20_000):
        went += len(removal.feed(piece))
        came += len(piece)
        if not removal.removed:
            assert came - went <= 4 * 1000

    def feed(size: int) -> None:
        stream = Removal(without_bcc)
        for _ in range(size):
            stream.feed(piece)
        stream.finish()

    assert_linear(feed, lambda size: size, 4000)


@pytest.mark.parametrize(
    ("message", "expected", "body"),
    [
        (b"Bcc: a\r\nTo: b\r\n\r\nbody", b"To: b\r\nDate: now\r\n\r\nbody", b"body"),
        (b"To: b\n\nbody\n", b"To: b\nDate: now\r\n\nbody\n", b"body\n"),
        (b"\r\nbody", b"Date: now\r\n\r\nbody", b"body"),
        (b"To: b\r\n", b"To: b\r\nDate: now\r\n", b""),
        (b"To: b", b"To: b\r\nDate: now\r\n", b""),
        (b"", b"Date: now\r\n", b""),
        (b"Date: x\r\n\r\n\r\n", b"Date: x\r\n\r\n\r\n", b"\r\n"),
        (b"To: b\r\nBcc: " + b"x" * 100, b"To: b\r\nDate: now\r\n", b""),
        (b"To: " + b"x" * 100, b"To: " + b"x" * 100 + b"\r\nDate: now\r\n", b""),
    ],
)
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_what_is_missing_goes_below_the_last_field(message: bytes, expected: bytes, body: bytes, size: int) -> None:
    seen: set[bytes] = set()

    def unwanted(name: bytes, value: bytes) -> bool:
        seen.add(name)
        return without_bcc(name, value)

    removal = Removal(unwanted, 50, lambda: b"" if b"Date" in seen else b"Date: now\r\n")
    went = b"".join([removal.feed(message[at : at + size]) for at in range(0, len(message), size)]) + removal.finish()
    assert went == expected
    assert removal.body is not None
    assert went[removal.body :] == body

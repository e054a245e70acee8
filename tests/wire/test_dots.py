"""Dot transparency: against a slow obvious version, at all chunk sizes, and every smuggling sequence."""

import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.wire.dots import DotDecoder, DotEncoder, dot_encode, has_bare
from tests.support.play import cut


def obvious_decode(data: bytes) -> tuple[bytes, bool, bytes | None]:
    """(decoded, bare seen, what follows the end or None): line by line."""
    out, bare, rest = b"", False, data
    while b"\r\n" in rest:
        line, _, rest = rest.partition(b"\r\n")
        bare = bare or b"\r" in line or b"\n" in line
        if line == b".":
            return out, bare, rest
        out += (line[1:] if line.startswith(b".") else line) + b"\r\n"
    return out, bare, None


def decode(data: bytes, size: int) -> tuple[bytes, bool, bytes | None]:
    decoder, out = DotDecoder(), b""
    pieces = list(cut(data, size))
    for number, piece in enumerate(pieces):
        got, rest = decoder.feed(piece)
        out += got
        if rest is not None:
            return out, decoder.bare, rest + b"".join(pieces[number + 1 :])
    return out, decoder.bare, None


# Dense in what matters: random bytes would hardly ever make a CRLF.
_texts = st.lists(st.sampled_from([b"\r\n", b".", b"\r", b"\n", b"a", b"..", b"\r\n.", b"bc"]), max_size=24).map(
    b"".join
)


@given(_texts, st.integers(1, 9))
def test_decodes_as_the_obvious_version_does(text: bytes, size: int) -> None:
    data = text + b"\r\n.\r\nQUIT\r\n"
    assert decode(data, size) == obvious_decode(data)


@pytest.mark.parametrize("size", [1, 2, 3, 1000])
def test_all_short_texts(size: int) -> None:
    for length in range(5):
        for text in map(bytes, itertools.product(b"\r\n.a", repeat=length)):
            data = text + b"x\r\n.\r\nrest"
            assert decode(data, size) == obvious_decode(data), data


@given(_texts, st.integers(1, 9))
def test_nothing_is_held_back_but_the_end(text: bytes, size: int) -> None:
    decoder = DotDecoder()
    fed = out = 0
    for piece in cut(text, size):
        got, rest = decoder.feed(piece)
        if rest is not None:
            return
        fed, out = fed + len(piece), out + len(got)
        assert fed - out <= 4 + text.count(b"\r\n.") + text.startswith(b".")


ENDS = [
    b"\r\n",
    b"\n",
    b"\r",
    b"\r\r\n",
    b"\n\r",
    b"\r\n\0",
    b"\0\r\n",
    b"\r\0\n",
    b" \r\n",
    b"\n\n",
    b"\r\r",
]
SMUGGLING = [
    before + b"." + after
    for before in ENDS
    for after in ENDS
    if not (before.endswith(b"\r\n") and after.startswith(b"\r\n"))
]


@pytest.mark.parametrize("sequence", SMUGGLING, ids=repr)
@pytest.mark.parametrize("size", [1, 2, 1000])
def test_only_crlf_dot_crlf_ends(sequence: bytes, size: int) -> None:
    smuggled = b"a" + sequence + b"MAIL FROM:<evil@example.com>\r\n"
    out, bare, rest = decode(smuggled + b".\r\n", size)
    assert rest == b""
    assert out.endswith(b"MAIL FROM:<evil@example.com>\r\n")
    assert bare == bool(re.search(rb"\r(?!\n)|(?<!\r)\n", sequence))


@given(st.lists(_texts, max_size=5))
def test_encoding_repairs_and_comes_back(chunks: list[bytes]) -> None:
    encoder = DotEncoder()
    sent = b"".join([encoder.encode(chunk) for chunk in chunks]) + encoder.finish()
    data = b"".join(chunks)
    repaired = re.sub(rb"\r\n|[\r\n]", b"\r\n", data)
    if repaired and not repaired.endswith(b"\r\n"):
        repaired += b"\r\n"
    assert not has_bare(sent)
    assert obvious_decode(sent) == (repaired, False, b"")
    assert dot_encode(data) == sent


@given(_texts)
def test_has_bare_is_exact(text: bytes) -> None:
    assert has_bare(text) == bool(re.search(rb"\r(?!\n)|(?<!\r)\n", text))


def test_a_clean_chunk_is_not_copied_into_pieces() -> None:
    decoder = DotDecoder()
    decoder.feed(b"start")
    chunk = b"no line end, no dot" * 1000
    assert decoder.feed(chunk)[0] is chunk

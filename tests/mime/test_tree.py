"""The tree of `posthouse mime tree`: always JSON of its three forms, whatever the message; right where CPython is."""

import base64
import email
import itertools
import json
import quopri
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.mime import bodies, tree
from posthouse.mime.scan import Limits, scan
from posthouse.mime.sections import find_section
from tests.mime.strategies import entities, messages
from tests.support.growth import assert_linear

PATHS = sorted((Path(__file__).parent.parent / "messages").glob("*/*.eml"))


def seen(raw: bytes) -> dict[str, Any]:
    """What the JSON says, checked against the three forms."""
    text = "".join(tree.to_json(tree.read(raw)))
    assert text.isascii()
    found: dict[str, Any] = json.loads(text)
    check(found)
    json.dumps(found, ensure_ascii=False).encode()  # no half of a surrogate pair
    return found


def check(node: dict[str, Any]) -> None:
    kind = node["type"]
    assert kind == kind.lower()
    assert "/" in kind
    if "parts" in node:
        assert list(node) == ["type", "parts"]
        assert kind.startswith("multipart/")
        assert node["parts"]
        for child in node["parts"]:
            check(child)
    elif "message" in node:
        assert list(node) == ["type", "message"]
        assert kind in ("message/rfc822", "message/global")
        check(node["message"])
    else:
        assert list(node) == ["type", "filename", "body"] + ["text"] * kind.startswith("text/")
        assert node["filename"] is None or (node["filename"] and "/" not in node["filename"])
        base64.b64decode(node["body"], validate=True)
        assert not kind.startswith("multipart/")


def leaves(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if "message" in node:
        yield from leaves(node["message"])
    elif "parts" in node:
        for child in node["parts"]:
            yield from leaves(child)
    else:
        yield node


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_the_corpus(path: Path) -> None:
    raw = path.read_bytes()
    seen(raw)
    assert all(line.strip() for line in tree.to_lines(tree.read(raw)))


@given(messages | st.binary(max_size=200))
def test_anything(raw: bytes) -> None:
    seen(raw)
    list(tree.to_lines(tree.read(raw)))


_RAW = {path.stem: path.read_bytes() for path in PATHS}
_cuts = st.lists(
    st.tuples(st.integers(0, 1 << 16), st.integers(0, 40), st.sampled_from([b"", b"\n", b"--b", b"\0", b'"', b"=?"])),
    max_size=6,
)


@given(st.sampled_from(sorted(_RAW)), _cuts)
def test_mutations_of_the_corpus(name: str, cuts: list[tuple[int, int, bytes]]) -> None:
    raw = _RAW[name]
    for at, size, new in cuts:
        at %= len(raw) + 1
        raw = raw[:at] + new + raw[at + size :]
    seen(raw)


@given(entities())
def test_like_cpython_where_the_message_is_right(raw: bytes) -> None:
    theirs = [
        (part.get_content_type(), part.get_payload(decode=True))
        for part in email.message_from_bytes(raw).walk()
        if not part.is_multipart()
    ]
    assert [(one["type"], base64.b64decode(one["body"])) for one in leaves(seen(raw))] == theirs


def test_the_three_forms() -> None:
    raw = (
        b"Content-Type: MULTIPART/Mixed; boundary=b\n\n--b\n"
        b'Content-Type: Text/Plain; charset=iso-8859-1; name="\xfc.txt"\n'
        b"Content-Transfer-Encoding: quoted-printable\n\n=E4=F6\n--b\nContent-Type: image/png\nContent-Disposition: "
        b'attachment; filename="../a/b.png"\nContent-Transfer-Encoding: base64\n\nAAEC\n'
        b"--b\nContent-Type: message/rfc822\n\nSubject: x\n\ny\n--b--\n"
    )
    assert seen(raw) == {
        "type": "multipart/mixed",
        "parts": [
            {"type": "text/plain", "filename": "ü.txt", "body": base64.b64encode(b"\xe4\xf6").decode(), "text": "äö"},
            {"type": "image/png", "filename": "b.png", "body": "AAEC"},
            {
                "type": "message/rfc822",
                "message": {"type": "text/plain", "filename": None, "body": "eQ==", "text": "y"},
            },
        ],
    }


def test_for_people() -> None:
    raw = (
        b"Subject: outer\nContent-Type: multipart/mixed; boundary=b\n\n--b\n\none\n"
        b"--b\nContent-Type: message/rfc822\n\n"
        b"Subject: =?utf-8?q?=C3=BC?=\nContent-Type: multipart/mixed; boundary=c\n\n"
        b"--c\nContent-Type: application/pdf; name=a.pdf\nContent-Transfer-Encoding: base64\n\nAAAA\n--c--\n"
        b"--b\nContent-Type: message/rfc822\nContent-Transfer-Encoding: base64\n\nCng=\n--b--\n"
    )
    assert list(tree.to_lines(tree.read(raw))) == [
        "multipart/mixed  3 parts",
        "  1 text/plain  no charset, 3 octets",
        "  2 message/rfc822",
        "    Subject: ü",
        "    multipart/mixed  1 part",
        '      2.1 application/pdf  base64, 4 octets, "a.pdf"',
        "  3 message/rfc822  base64: IMAP does not look into it",
        "    (no subject)",
        "    text/plain  no charset, 1 octet",
    ]


def test_a_multipart_whose_delimiters_never_came_is_text() -> None:
    assert seen(b"Content-Type: multipart/mixed; boundary=b\n\nall there is") == {
        "type": "text/plain",
        "filename": None,
        "body": base64.b64encode(b"all there is").decode(),
        "text": "all there is",
    }


def test_half_a_surrogate_pair_is_no_text() -> None:
    for charset, body in ((b"utf-7", b"a+2AA-"), (b"utf-16-le", b"a\0\0\xd8"), (b"utf-8", b"\xed\xa0\x80")):
        (leaf,) = leaves(seen(b"Content-Type: text/plain; charset=%b; name*=utf-7''%%2B2AA-\n\n%b" % (charset, body)))
        assert "\ufffd" in leaf["text"]


def wrapped(raw: bytes, encoding: bytes) -> bytes:
    body = base64.encodebytes(raw) if encoding == b"base64" else quopri.encodestring(raw)
    return b"Content-Type: message/rfc822\nContent-Transfer-Encoding: %b\n\n%b" % (encoding, body)


@pytest.mark.parametrize("encoding", [b"base64", b"quoted-printable"])
def test_encoded_messages_are_looked_into_to_a_depth(encoding: bytes) -> None:
    raw = b"Subject: innermost\n\nx"
    for _ in range(8):
        raw = wrapped(raw, encoding)
    node, depth = seen(raw), 0
    while "message" in node:
        node, depth = node["message"], depth + 1
    assert depth == tree.ENCODED
    assert node["type"] == "message/rfc822"
    assert set(node) == {"type", "filename", "body"}


def depth_of(node: tree.Node) -> int:
    inside = [*node.parts, *([node.message] if node.message else [])]
    return 1 + max((depth_of(one) for one in inside), default=0)


def count_of(node: tree.Node) -> int:
    return 1 + sum(count_of(one) for one in [*node.parts, *([node.message] if node.message else [])])


def test_depth_and_number_are_bounded_over_all() -> None:
    deep = b"Content-Type: message/rfc822\n\n" * 60 + wrapped(
        b"Content-Type: message/rfc822\n\n" * 60 + b"\nx", b"base64"
    )
    assert depth_of(tree.read(deep)) == 101
    assert depth_of(tree.read(b"Content-Type: message/rfc822\n\n" * 300)) == 101
    multipart = b"Content-Type: multipart/mixed; boundary=b\n\n"
    inner = wrapped(multipart + b"--b\n\nx\n" * 700 + b"--b--\n", b"base64")
    many = multipart + (b"--b\n" + inner) * 50 + b"--b--\n"
    assert 9_900 <= count_of(tree.read(many)) <= 10_000
    limits = Limits(parts=20, depth=3)
    assert count_of(tree.read(many, limits)) == 20
    assert depth_of(tree.read(deep, limits)) == 4


def test_numbers_are_those_of_imap() -> None:
    for raw in _RAW.values():
        found = scan(raw)
        for node in walk(tree.read(raw)):
            if node.number:
                section = find_section(found, tuple(int(n) for n in node.number.split(".")))
                assert section is not None
                assert raw[section.start : section.end] == node.raw


def walk(node: tree.Node) -> Iterator[tree.Node]:
    yield node
    yield from itertools.chain.from_iterable(walk(one) for one in node.parts)
    if node.message is not None:
        yield from walk(node.message)


MULTIPART = b"Content-Type: multipart/mixed; boundary=b\n\n"
GROWING = {
    "text": b"x\n",
    "parts": b"--b\n\nx\n",
    "names": b"--b\nContent-Disposition: attachment; filename*0*=utf-8''%41; filename*1=b\n\nx\n",
    "encoded words": b'--b\nContent-Type: text/plain; name="=?utf-8?q?a?= =?utf-8?b?"\n\nx\n',
    "charsets": b"--b\nContent-Type: text/plain; charset=utf-7\n\n+2AA-\xff\n",
    "encoded messages": b"--b\n" + wrapped(b"\n" + wrapped(b"Subject: x\n\ny", b"quoted-printable"), b"base64"),
    "uuencode": b"--b\nContent-Type: text/plain\nContent-Transfer-Encoding: x-uue\n\nbegin 644 x\n#86)C\n`\nend\n",
}


@pytest.mark.parametrize("name", GROWING)
def test_linear_time(name: str) -> None:
    def work(raw: bytes) -> None:
        node = tree.read(raw)
        for _ in itertools.chain(tree.to_json(node), tree.to_lines(node)):
            pass

    assert_linear(work, lambda n: MULTIPART + GROWING[name] * n, 100)


def test_a_body_is_not_decoded_for_people() -> None:
    raw = b"Content-Transfer-Encoding: base64\n\n" + b"AAAA\n" * 1000
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bodies, "decode", lambda *_: pytest.fail("decoded"))
        assert list(tree.to_lines(tree.read(raw))) == ["1 text/plain  no charset, base64, 5,000 octets"]

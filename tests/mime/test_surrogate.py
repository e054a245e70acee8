"""International messages for programs that do not know them: ASCII headers, and nothing else changes."""

import email
import email.policy
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.mime.addresses import addresses
from posthouse.mime.header import find
from posthouse.mime.scan import Part, scan
from posthouse.mime.sections import pack, unpack
from posthouse.mime.surrogate import Surrogate, converted, ranges
from tests.mime.strategies import messages
from tests.support.growth import assert_linear

PATHS = sorted((Path(__file__).parent.parent / "messages").glob("*/*.eml"))


def surrogate(raw: bytes, step: int = 1 << 20, prefix: bytes = b"") -> bytes:
    whole = prefix + raw
    made = Surrogate(ranges(unpack(pack(scan(raw))).root, len(prefix)))
    return b"".join([made.feed(whole[at : at + step]) for at in range(0, len(whole), step)]) + made.finish()


def headers(part: Part) -> list[bytes]:
    inside = [*part.parts, *([part.message] if part.message else [])]
    return [part.header_bytes, *[head for one in inside for head in headers(one)]]


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        ("Subject: ü\r\n", "Subject: =?utf-8?q?=C3=BC?=\r\n"),
        ("Subject: plain\r\nX-Odd: a\tb\r\n", "Subject: plain\r\nX-Odd: a\tb\r\n"),
        ("To: b@example.org\r\nX-Ü: x\r\n", "To: b@example.org\r\n"),
        ("Cc: Ü <a@example.org>, b@example.org\r\n", "Cc: =?utf-8?q?=C3=9C?= <a@example.org>, b@example.org\r\n"),
        ("Bcc: Gruppe ü: Ä <a@x>;\r\n", "Bcc: =?utf-8?q?Gruppe_=C3=BC?=: =?utf-8?q?=C3=84?= <a@x>;\r\n"),
        ("References: <a@x> <ü@x>\r\nContent-ID: <ü>\r\n", ""),
        ("Content-Description: über\r\n", "Content-Description: =?utf-8?q?=C3=BCber?=\r\n"),
        ("content-type: MESSAGE/Global ; x=y\r\n", "content-type: message/rfc822 ; x=y\r\n"),
        ("Content-Type: message/global-headers\r\n", "Content-Type: message/global-headers\r\n"),
        ("Content-Type: message/global; name=ü\r\n", "Content-Type: message/rfc822; name*=utf-8''%C3%BC\r\n"),
        (
            'Content-Type: text/plain; name="ü";\r\n charset=utf-8\r\n',
            "Content-Type: text/plain; name*=utf-8''%C3%BC; charset=utf-8\r\n",
        ),
        (
            "Content-Disposition: attachment; filename=ü.txt; size=3\r\n",
            "Content-Disposition: attachment; filename*=utf-8''%C3%BC.txt; size=3\r\n",
        ),
        ("Subject: message/global\r\n", "Subject: message/global\r\n"),
    ],
)
def test_fields(head: str, expected: str) -> None:
    assert converted(head.encode()) == expected.encode()
    assert converted(head.encode() + b"\r\n") == expected.encode() + b"\r\n"


def test_an_address_that_has_no_ascii_form_stays_visible() -> None:
    made = converted("From: ü@example.com, Ä <ö@exämple.com>\r\n".encode())
    parsed = email.message_from_bytes(made, policy=email.policy.default)["from"].addresses
    assert [one.display_name for one in parsed] == ["ü@example.com", "Ä ö@exämple.com"]
    assert {one.domain for one in parsed} == {"internationalized-address.invalid"}


def test_what_is_no_utf8_stays() -> None:
    for head in (b"Subject: \xfc\r\n", b"From: \xff <a@b>\r\nX: y\r\n"):
        assert converted(head) == head
    assert converted(b"A: \xfc\r\nB: \xc3\xbc\r\n") == b"A: \xfc\r\nB: =?utf-8?q?=C3=BC?=\r\n"


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_the_corpus(path: Path) -> None:
    raw = path.read_bytes()
    made = surrogate(raw)
    for step in (1, 7, 100):
        assert surrogate(raw, step) == made
    prefix = "Return-Path: <ü@x>\r\nReceived: from x\r\n".encode()
    assert surrogate(raw, 13, prefix) == surrogate(raw, prefix=prefix)
    if raw.isascii() and b"message/global" not in raw:
        assert made == raw
    old, new = scan(raw), scan(made)
    kinds = {part.type for part in (old.root, new.root)}
    assert len(kinds) == 1
    for head in headers(new.root):
        try:
            head.decode("utf-8")
        except UnicodeDecodeError:
            continue
        assert head.removeprefix(b"\xef\xbb\xbf").isascii()


@given(messages, st.integers(1, 40))
def test_in_any_pieces(raw: bytes, step: int) -> None:
    assert surrogate(raw, step) == surrogate(raw)


@given(messages)
def test_bodies_stay(raw: bytes) -> None:
    old = scan(raw).root
    made = surrogate(raw)
    if not old.parts and old.message is None:
        assert made.endswith(raw[old.body :])
        assert made[: len(made) - (len(raw) - old.body)] == converted(raw[: old.body])


@given(st.text(max_size=30), st.text(max_size=30))
def test_texts_come_back(subject: str, name: str) -> None:
    subject, name = ("".join(c for c in text if c.isprintable()).strip() for text in (subject, name))
    head = f'Subject: {subject}\r\nFrom: "{name}" <a@example.com>\r\n\r\n'.encode("utf-8", "replace")
    made = converted(head)
    assert made.isascii()
    if subject and "=?" not in subject and '"' not in name and "\\" not in name and "=?" not in name:
        parsed = email.message_from_bytes(made, policy=email.policy.default)
        assert str(parsed["subject"]).split() == subject.encode("utf-8", "replace").decode().split()
        assert addresses(find(made, b"from") or b"")[0].local == b"a"


@pytest.mark.parametrize(
    "piece",
    ["Subject: ü\r\n", "From: ü <ü@x>,\r\n", "From: ü\r\n a@b,\r\n", "Content-Type: a/b; c=ü\r\n", "X: ü\r\n ü\r\n",
     "Content-Disposition: a; b*0=ü; b*1*=%41\r\n", "ü: x\r\n", "To: (ü\r\n", 'To: "ü\r\n'],
)  # fmt: skip
def test_linear_time(piece: str) -> None:
    assert_linear(surrogate, lambda n: piece.encode() * n + b"\r\nx")
    assert_linear(
        surrogate,
        lambda n: b"Content-Type: multipart/mixed; boundary=b\n\n" + (b"--b\n" + piece.encode() + b"\nx\n") * n,
        100,
    )

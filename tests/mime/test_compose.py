"""Messages that we write, read by ourselves and by CPython."""

import email
import email.policy
from email.message import EmailMessage
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.imap.structure import body_structure
from posthouse.mime import compose, text
from posthouse.mime.addresses import addresses
from posthouse.mime.scan import scan
from posthouse.mime.words import decode

VALUES: dict[str, Any] = {
    "sender": compose.mailbox("ann@example.com", "Ann"),
    "to": ["bob@example.org"],
    "subject": "Hello",
    "date": 1_748_851_200_000_000,
    "message_id": "1@example.com",
}


def read(raw: bytes) -> EmailMessage:
    return email.message_from_bytes(raw, policy=email.policy.default)


def test_a_plain_message() -> None:
    assert compose.message(**VALUES, text="Hi Bob,\nhow are you?\n") == (
        b"Date: Mon, 2 Jun 2025 08:00:00 +0000\r\n"
        b"From: Ann <ann@example.com>\r\n"
        b"To: bob@example.org\r\n"
        b"Message-ID: <1@example.com>\r\n"
        b"Subject: Hello\r\n"
        b"MIME-Version: 1.0\r\n"
        b"Content-Type: text/plain; charset=utf-8\r\n"
        b"Content-Transfer-Encoding: 7bit\r\n"
        b"\r\n"
        b"Hi Bob,\r\nhow are you?\r\n"
    )


def test_everything_in_one() -> None:
    inner = compose.message(**VALUES, text="inner")
    raw = compose.message(
        **(VALUES | {"subject": "Grüße aus München und von vielen anderen Orten an diesem schönen Tag im Mai"}),
        text="Grüße\n" + "x" * 2000,
        html="<p>Grüße</p>",
        cc=[compose.mailbox("j@example.com", "Jürgen"), compose.mailbox("d@example.com", "Doe, J.")],
        attachments=[
            compose.Attachment(bytes(range(256)) * 10, "application/pdf", "Übersicht.pdf"),
            compose.Attachment(inner, "message/rfc822"),
        ],
        fields=[("Auto-Submitted", "auto-replied"), ("X-Evil", "a\r\nBcc: all@example.com")],
    )
    message = read(raw)
    assert not message.defects
    assert str(message["Subject"]).startswith("Grüße aus München und von vielen")
    assert str(message["Cc"]) == 'Jürgen <j@example.com>, "Doe, J." <d@example.com>'
    assert message["Bcc"] is None
    assert message["X-Evil"] == "a Bcc: all@example.com"
    assert [part.get_content_type() for part in message.walk()] == [
        "multipart/mixed",
        "multipart/alternative",
        "text/plain",
        "text/html",
        "application/pdf",
        "message/rfc822",
        "text/plain",
    ]
    pdf = list(message.walk())[4]
    assert pdf.get_filename() == "Übersicht.pdf"
    assert pdf.get_payload(decode=True) == bytes(range(256)) * 10
    assert raw.isascii()
    assert all(line.endswith(b"\r") and len(line) <= 999 for line in raw.split(b"\n")[:-1])
    ours = scan(raw).root
    assert text.filename(ours.parts[1]) == "Übersicht.pdf"
    inside = ours.parts[2].message
    assert inside is not None
    assert raw[inside.header : inside.end] == inner
    assert body_structure(scan(raw)).count(b'"attachment"') == 2


@given(st.text(max_size=300), st.text(max_size=300))
def test_texts_come_back(plain: str, markup: str) -> None:
    raw = compose.message(**VALUES, text=plain, html=markup)
    assert raw.isascii()
    assert max(len(line) for line in raw.split(b"\r\n")) <= 998
    assert b"\n" not in raw.replace(b"\r\n", b"")
    root = scan(raw).root
    for part, source in zip(root.parts or [root], [plain, markup], strict=False):
        shown = text.decoded(raw[part.body : part.end], part.encoding, part.param(b"charset"))
        expected = (
            "\n".join(source.replace("\r\n", "\n").replace("\r", "\n").split("\n")).encode("utf-8", "replace").decode()
        )
        assert shown.replace("\r\n", "\n").rstrip("\n") == expected.rstrip("\n")


@given(st.text(max_size=300))
def test_fields_come_back(value: str) -> None:
    raw = compose.header_field("Subject", value)
    assert raw.isascii()
    assert raw.count(b"\r\n") == raw.count(b"\n") == raw.count(b"\r")
    assert all(line.startswith(b" ") for line in raw.split(b"\r\n")[1:-1])
    assert all(len(line) <= 998 for line in raw.split(b"\r\n"))
    if value.isprintable() and "  " not in value and "=?" not in value and len(value) < 60:
        expected = value.strip().encode("utf-8", "replace").decode()
        assert decode(raw.partition(b":")[2]) == expected


@given(st.text(alphabet='ab ",.;<>@()\\ü', max_size=20), st.text(alphabet='ab." +ü', min_size=1, max_size=10))
def test_mailboxes_come_back(name: str, local: str) -> None:
    if local.startswith('"'):  # already quoted: taken as it is
        return
    value = compose.header_field("To", compose.mailbox(local + "@example.com", name)).partition(b":")[2]
    if not local.isascii():
        return
    (address,) = addresses(value)
    assert (address.local.decode(), address.domain) == (local, b"example.com")
    if "  " not in name:
        assert decode(address.name) == name.strip()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("a.txt", "; filename=a.txt"),
        ("my file.txt", '; filename="my file.txt"'),
        ('a"b\\c', '; filename="a\\"b\\\\c"'),
        ("ä", "; filename*=utf-8''%C3%A4"),
        ("", '; filename=""'),
    ],
)
def test_parameter(value: str, expected: str) -> None:
    assert compose.parameter("filename", value) == expected


def test_boundaries_are_not_in_the_parts() -> None:
    first = compose.multipart("mixed", [b"\r\nx"])
    boundary = first.partition(b'boundary="')[2].partition(b'"')[0]
    second = compose.multipart("mixed", [b"\r\n--" + boundary])
    root = scan(compose.whole(second, **VALUES)).root
    assert len(root.parts) == 1

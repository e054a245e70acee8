"""What messages are sorted and threaded by."""

import pytest

from posthouse.imap.headings import MAX_IDS, MAX_KEY, Heading, heading, references, unpack_ids
from posthouse.imap.structure import envelope_fields
from posthouse.mime.threads import message_id_hash
from tests.support.growth import assert_linear


def of(header: bytes) -> Heading:
    fields = envelope_fields(header)
    return heading(fields, 0, references(fields))


@pytest.mark.parametrize(
    ("value", "local", "shown"),
    [
        (b"a@b.example", b"A", b"A@B.EXAMPLE"),
        (b'"Doe, Jane" <jane@b.example>, c@d.example', b"JANE", b"DOE, JANE"),
        (b"=?utf-8?q?J=C3=B6rg?= <j@b>", b"J", "JO\u0308RG".encode()),
        (b"=?utf-8?q??= <j@b>", b"J", b"J@B"),  # an encoded word of nothing shows nothing
        (b"Friends: x@y, z@y;", b"FRIENDS", b"FRIENDS"),
        (b"undisclosed-recipients:;", b"UNDISCLOSED-RECIPIENTS", b"UNDISCLOSED-RECIPIENTS"),
        (b"\xc3\xb6@b", b"O\xcc\x88", b"O\xcc\x88@B"),
        (b"nobody", b"NOBODY", b"NOBODY@MISSING_DOMAIN"),  # as its ENVELOPE says
        (b"", b"", b""),
        (b",,;", b"", b""),
    ],
)
def test_addresses(value: bytes, local: bytes, shown: bytes) -> None:
    found = of(b"From: %b\r\nTo: %b\r\nCc: %b\r\n\r\n" % (value, value, value))
    assert (found.author, found.author_shown) == (local, shown)
    assert (found.recipient, found.recipient_shown) == (local, shown)
    assert found.copied == local


def test_nothing() -> None:
    assert of(b"\r\n") == Heading()


def test_subject_and_date() -> None:
    found = of(b"Subject: Re: =?utf-8?q?=C3=84rger?=\r\nDate: Fri, 31 Dec 2000 16:01:33 -0800\r\n\r\n")
    assert found.subject == "A\u0308RGER".encode()
    assert found.reply
    assert found.sent == 978_307_293_000_000
    assert of(b"Date: never\r\n\r\n").sent is None


def test_references() -> None:
    def ids(header: bytes) -> list[int]:
        return list(unpack_ids(of(header).ids)[1:])

    one, two = message_id_hash("1@x"), message_id_hash("2@x")
    assert ids(b"References: <1@x>\r\n <2@x>\r\nIn-Reply-To: <3@x>\r\n\r\n") == [one, two]
    assert ids(b"References: nonsense\r\nIn-Reply-To: <1@x> <2@x>\r\n\r\n") == [one]
    assert ids(b'References: <"1"@x>\r\n\r\n') == [one]
    assert ids(b"In-Reply-To: message of bob@example.org\r\n\r\n") == []
    many = b" ".join(b"<%d@x>" % n for n in range(MAX_IDS + 100))
    kept = ids(b"References: " + many + b"\r\n\r\n")
    assert len(kept) == MAX_IDS
    assert kept[0] == message_id_hash("0@x")
    assert kept[-1] == message_id_hash(f"{MAX_IDS + 99}@x")


def test_keys_are_bounded() -> None:
    found = of(b"Subject: %b\r\nFrom: %b <a@b>\r\n\r\n" % (b"x" * 5000, b"y" * 5000))
    assert len(found.subject) == len(found.author_shown) == MAX_KEY


def test_time_is_linear() -> None:
    assert_linear(lambda text: of(b"References: " + text + b"\r\n\r\n"), lambda n: b"<a@b> " * n)
    assert_linear(lambda text: of(b"Subject: " + text + b"\r\n\r\n"), lambda n: b"Re: [x] (" * n)
    assert_linear(lambda text: of(b"From: " + text + b"\r\n\r\n"), lambda n: b"a@b, " * n)

"""In whose name a user may send: what From and Sender say, however they say it."""

import pytest

from posthouse.mime import addresses
from posthouse.servers.smtp import senders
from posthouse.smtp import replies
from posthouse.smtp.replies import Reply
from tests.support.growth import assert_linear


@pytest.mark.parametrize(
    ("head", "is_fine"),
    [
        (b"From: Me <me@example.org>\r\n\r\n", True),
        (b'From: "boss@example.org" <me@example.org>\r\n\r\n', True),
        (b"From: me@example.org, Me <me@example.org>\r\n\r\n", True),
        (b"From: boss@example.org <me@example.org>\r\n\r\n", False),
        (b"Subject: hi\rFrom: Boss <boss@example.org>\r\nFrom: me@example.org\r\n\r\n", False),
        (b"Subject: hi\nFrom: me@example.org\r\n\r\n", False),
        (b"From: " + b"me@example.org, " * 60 + b"boss@example.org\r\n\r\n", False),
        (b"From: " + b"me@example.org, " * 20_000 + b"boss@example.org\r\n\r\n", False),
        (b"From: me@example.org (Me)\r\nSender: <me@example.org>\r\n\r\n", True),
        (b"From: <me@example.org> boss@example.org\r\n\r\n", False),
        (b"From: (boss@example.org)\r\n\r\n", False),
        (b"From: me@example.org, boss@example.org <me@example.org>\r\n\r\n", False),
        (b'From: "unfinished boss@example.org <me@example.org>\r\n\r\n', False),
        (b'From: Me "<me@example.org>\r\n\r\n', False),
        (b'From: "Me \\" <me@example.org>\r\n\r\n', False),
        (b" From: boss@example.org\r\nFrom: me@example.org\r\n\r\n", False),
        (b"\tboss@example.org\r\n\r\n", False),
    ],
)
def test_a_from_that_programs_may_read_differently(head: bytes, is_fine: bool) -> None:
    assert (senders.check_header({"me@example.org"}, head, len(head) + 10) is None) is is_fine


@pytest.mark.parametrize("unit", [b"@", b'\\"', b"a@b@c ", b"<", b'"', b"(", "ü@ü.de,".encode()])
def test_a_long_from_costs_little_and_a_longer_one_nothing(unit: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    def check(value: bytes) -> Reply | None:
        head = b"From: " + value + b"\r\n\r\n"
        return senders.check_header({"me@example.org"}, head, len(head) + 10)

    assert_linear(check, lambda size: unit * (size // len(unit)), 2000)
    monkeypatch.setattr(addresses, "addresses", None)  # it would be called
    assert check(unit * 20_000) == replies.ODD_FROM
    assert check(b"\r\nFrom: ".join([b"me@example.org"] * 60)) == replies.ODD_FROM

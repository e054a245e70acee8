"""In whose name a user may send: what From, Sender and Resent-From say, however they say it."""

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


@pytest.mark.parametrize("field", [b"Sender", b"Resent-From", b"resent-from ", b"Resent-Sender"])
def test_who_sends_it_or_sends_it_again_is_held_against_it_as_well(field: bytes) -> None:
    def check(value: bytes, above: bytes = b"") -> Reply | None:
        head = above + b"From: me@example.org\r\n" + field + b": " + value + b"\r\n\r\n"
        return senders.check_header({"me@example.org"}, head, len(head) + 10)

    assert check(b"Me <me+detail@example.org>") is None
    assert check(b"") is None
    name = field.strip().title().decode()
    for value in (b"boss@example.org", b"me@example.org, Boss <boss@example.org>", b"all: boss@example.org;"):
        assert check(value) == replies.from_not_yours("boss@example.org", name)
    assert f"or correct {name}" in replies.from_not_yours("boss@example.org", name).text
    # The newest stands on top: one further down is no excuse.
    assert check(b"boss@example.org", field + b": me@example.org\r\n") is not None
    for value in (
        b'"unfinished boss@example.org <me@example.org>',
        b"boss@example.org <me@example.org>",
        b"(boss@b.test)",
    ):
        assert check(value) == replies.ODD_FROM


@pytest.mark.parametrize("unit", [b"@", b'\\"', b"a@b@c ", b"<", b'"', b"(", "ü@ü.de,".encode()])
def test_a_long_from_costs_little_and_a_longer_one_nothing(unit: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    def check(value: bytes) -> Reply | None:
        head = b"From: " + value + b"\r\n\r\n"
        return senders.check_header({"me@example.org"}, head, len(head) + 10)

    assert_linear(check, lambda size: unit * (size // len(unit)), 2000)
    monkeypatch.setattr(addresses, "addresses", None)  # it would be called
    assert check(unit * 20_000) == replies.ODD_FROM
    assert check(b"me@example.org\r\nResent-From: " + unit * 20_000) == replies.ODD_FROM
    assert check(b"\r\nFrom: ".join([b"me@example.org"] * 60)) == replies.ODD_FROM

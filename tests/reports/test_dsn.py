"""Bounces: what people read, what programs read, and that nothing a server said can break them."""

import email
from email.message import Message
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.reports.dsn import MAX_HEADER, FailedRecipient, Original, explain, report

NOW = 1_800_000_000_000_000  # Fri, 15 Jan 2027 08:00:00 +0000
HEADER = (
    b"From: alice@posthouse.test\r\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\nMessage-ID: <x@y>\r\n\r\nsecret body\r\n"
)
BOB = FailedRecipient(
    "bob@example.org",
    "5.1.1",
    "550-5.1.1 no such user here\n550 5.1.1 see https://example.org/help",
    "mx.example.org",
    last_attempt=NOW,
)


def written(*recipients: FailedRecipient, header: bytes = HEADER, arrived: int = NOW - 60_000_000) -> bytes:
    return report(
        to="alice@posthouse.test",
        hostname="mx.posthouse.test",
        now=NOW,
        message_id="0ABC@mx.posthouse.test",
        original=Original(header, arrived, "env-1"),
        recipients=recipients,
    )


def parts(raw: bytes) -> tuple[Message, str, list[Message], str]:
    """(message, text, the groups of fields, the original header) as the standard library reads them."""
    message: Any = email.message_from_bytes(raw)
    text, status, original = message.get_payload()
    assert text.get_content_type() == "text/plain"
    assert status.get_content_type() == "message/delivery-status"
    assert original.get_content_type() == "text/rfc822-headers"
    return message, text.get_payload(decode=True).decode("utf-8"), status.get_payload(), original.get_payload()


def test_a_bounce_reads_well() -> None:
    message, text, groups, original = parts(written(BOB))
    assert message["Auto-Submitted"] == "auto-replied"
    assert message["To"] == "alice@posthouse.test"
    assert message["In-Reply-To"] == "<x@y>"
    assert message.get_param("report-type") == "delivery-status"
    assert "NOT delivered" in text
    assert 'Your message "Grüße"' in text
    assert "<bob@example.org>" in text
    assert "does not exist at the recipient's server" in text
    assert "What to do: Check the spelling" in text
    assert "      550-5.1.1 no such user here\r\n      550 5.1.1 see https://example.org/help\r\n" in text
    of_message, of_bob = groups
    assert of_message["Reporting-MTA"] == "dns; mx.posthouse.test"
    assert of_message["Original-Envelope-Id"] == "env-1"
    assert of_message["Arrival-Date"] == "Fri, 15 Jan 2027 07:59:00 +0000"
    assert of_bob["Final-Recipient"] == "rfc822; bob@example.org"
    assert (of_bob["Action"], of_bob["Status"]) == ("failed", "5.1.1")
    assert of_bob["Remote-MTA"] == "dns; mx.example.org"
    assert of_bob["Diagnostic-Code"].split() == BOB.diagnostic.join(["smtp; ", ""]).split()
    assert original.startswith("From: alice@posthouse.test")
    assert "secret body" not in written(BOB).decode()


def test_several_recipients_and_what_we_found_ourselves() -> None:
    carol = FailedRecipient("grün@other.example", "4.4.7", why="No server of other.example answered for 5 days.")
    _, text, groups, _ = parts(written(BOB, carol))
    assert "these recipients" in text
    assert "No server of other.example answered for 5 days." in text
    assert len(groups) == 3
    assert groups[2]["Final-Recipient"] == "utf-8; gr\\x{FC}n@other.example"
    assert groups[2]["Diagnostic-Code"] is None


def test_a_delay_says_that_nothing_need_be_done() -> None:
    late = FailedRecipient("bob@example.org", "4.4.1", action="delayed", retry_until=NOW + 86_400_000_000)
    message, text, groups, _ = parts(written(late))
    assert message["Subject"].startswith("=?utf-8?")
    assert "need not do anything" in text
    assert "What to do" not in text
    assert groups[1]["Action"] == "delayed"
    assert groups[1]["Will-Retry-Until"] == "Sat, 16 Jan 2027 08:00:00 +0000"


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (b"", ""),
        (b"\r\nbody", ""),
        (b"A: b\n\nbody", "A: b\n"),
        (b"A: b", "A: b\n"),
        (b"A: b\r\n", "A: b\n"),
        (b"A: " + b"x\r\n " * MAX_HEADER, None),
    ],
)
def test_any_header_is_cut_to_a_header(header: bytes, expected: str | None) -> None:
    raw = written(BOB, header=header, arrived=0)
    _, _, _, original = parts(raw)
    if expected is not None:
        assert original.replace("\r\n", "\n") == expected
    assert len(raw) < MAX_HEADER + 5000


@given(st.text(max_size=80), st.text(max_size=80), st.binary(max_size=200), st.text(max_size=40))
def test_nothing_breaks_out(diagnostic: str, why: str, header: bytes, address: str) -> None:
    bad = FailedRecipient(address, "5.9.9", diagnostic, "mx\r\nEvil: 1", why, original=f"rfc822;{diagnostic}")
    raw = written(bad, header=header)
    assert b"\r\nEvil" not in raw
    assert b"\n" not in raw.replace(b"\r\n", b"")
    assert max(map(len, raw.split(b"\r\n"))) <= 998 or max(map(len, header.split(b"\n"))) > 900
    _, _, groups, _ = parts(raw)
    assert len(groups) == 2
    assert groups[1]["Action"] == "failed"


@pytest.mark.parametrize("status", ["5.1.1", "4.4.7", "5.7.26", "5.7.99", "5.3.9", "9", "", "5.99.99"])
def test_every_status_is_explained(status: str) -> None:
    what, cure = explain(status)
    assert what.endswith(".")
    assert cure.endswith(".")

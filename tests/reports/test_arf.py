"""Reports of complaints: forms of the real world, hostile ones, and that nothing is ever raised."""

import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posthouse.mime import trace
from posthouse.reports import arf
from posthouse.reports.arf import Feedback, parse
from tests.support.growth import assert_linear

CASES = tomllib.loads((Path(__file__).parents[1] / "tables" / "feedback.toml").read_text("utf-8"))["case"]


def expected(said: dict[str, Any] | None) -> Feedback | None:
    if said is None:
        return None
    values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in said.items()}
    if "received" in values:
        values["received"] = tuple((by, id_) for by, id_ in values["received"])
    return Feedback(**{"mailer": "", **values})


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"][:60])
def test_forms(case: dict[str, Any], ending: str) -> None:
    assert parse(case["text"].lstrip("\n").replace("\n", ending).encode()) == expected(case.get("said"))


def test_what_is_a_complaint() -> None:
    assert [Feedback(kind, "").is_complaint for kind in ("abuse", "fraud", "opt-out", "not-spam", "auth-failure")] == [
        True,
        True,
        True,
        False,
        False,
    ]


def report(fields: bytes, original: bytes = b"") -> bytes:
    return (
        b"Content-Type: multipart/report; report-type=feedback-report; boundary=b\r\n\r\n"
        b"--b\r\nContent-Type: message/feedback-report\r\n\r\n" + fields + b"\r\n"
        b"--b\r\nContent-Type: message/rfc822\r\n\r\n" + original + b"\r\n--b--\r\n"
    )


def test_our_own_received_field_is_read_in_all_its_forms() -> None:
    for options in (
        {},
        {"hello": "client.test", "ip": "192.0.2.1", "protocol": "ESMTPSA", "recipient": "bob@there.test"},
        {"hello": "by evil.test id 0000000000000", "ip": "2001:db8::1", "protocol": "ESMTPS", "tls": "TLSv1.3 X"},
        {"hello": "x" * 255, "ip": "192.0.2.1", "protocol": "ESMTP", "tls": 'TLSv1.3 X client "a" verified'},
    ):
        field = trace.received(by="mail.here.test", id="01KZX3MG00001", at=0, **options)
        read = parse(report(b"Feedback-Type: abuse", field + b"\r\n"))
        assert read is not None
        assert read.received == (("mail.here.test", "01KZX3MG00001"),), field


def test_everything_is_bounded() -> None:
    many = b"".join(b"Original-Rcpt-To: <a%d@x.test>\r\nReported-Domain: d%d.test\r\n" % (n, n) for n in range(1000))
    received = b"".join(b"Received: by x%d.test id %d;\r\n" % (n, n) for n in range(1000))
    long = b"Message-ID: <" + b"i" * 5000 + b"@x>\r\n\r\n"
    read = parse(
        report(b"Feedback-Type: " + b"t" * 999 + b"\r\nUser-Agent: " + b"u" * 999 + b"\r\n" + many, received + long)
    )
    assert read is not None
    assert (len(read.recipients), len(read.domains), len(read.received)) == (100, 100, 100)
    assert (len(read.type), len(read.mailer), len(read.message_id)) == (40, 320, 998)
    # What is beyond the limit of octets is not there.
    assert parse(report(b"X: " + b"x" * arf.MAX_FIELDS + b"\r\nFeedback-Type: fraud")) == Feedback("abuse", "")
    assert parse(b"X: " + b"x" * arf.MAX_REPORT + b"\r\n" + report(b"Feedback-Type: abuse")) is None


def test_no_control_character_comes_through() -> None:
    read = parse(
        report(b"Feedback-Type: a\x1b[2Jb\r\nUser-Agent: x\x00\x7f\xff\xe2\x80\xae\r\nOriginal-Rcpt-To: <a\x07@b.test>")
    )
    assert read is not None
    assert (read.type, read.recipients) == ("a[2jb", ("a@b.test",))
    assert read.mailer == "x\ufffd"


@pytest.mark.parametrize("octets", [b" ", b"(", b"by ", b"id ", b")", b"by a id ", b"\t", b"<", b"a", b"\n "])
def test_time_is_linear(octets: bytes) -> None:
    def make(size: int) -> bytes:
        return report(
            b"Feedback-Type: abuse\r\nOriginal-Rcpt-To: " + octets * size,
            b"Received: " + octets * size + b"\r\nMessage-ID: " + octets * size,
        )

    assert_linear(parse, make)


_WORDS = st.sampled_from(
    [
        b"Content-Type: multipart/report; report-type=feedback-report; boundary=b\r\n",
        b"Content-Type: multipart/mixed; boundary=b\n",
        b"Content-Type: message/feedback-report\r\n",
        b"Content-Type: message/rfc822\r\n",
        b"Content-Transfer-Encoding: base64\r\n",
        b"Feedback-Type: abuse\r\n",
        b"Original-Rcpt-To: <",
        b"Received: by mail.here.test id 01KZX3MG00001;\r\n",
        b"Message-ID: <",
        b"\r\n--b\r\n",
        b"--b--\r\n",
        b"\r\n\r\n",
        b"\n",
    ]
)


@settings(max_examples=400, deadline=None)
@given(st.lists(st.one_of(_WORDS, st.binary(max_size=30)), max_size=30).map(b"".join))
def test_nothing_is_raised(raw: bytes) -> None:
    read = parse(raw)
    if read is not None:
        for one in (read.type, read.mailer, read.sender, read.message_id, *read.recipients, *read.domains):
            one.encode("utf-8")
        parse(report(raw, raw))

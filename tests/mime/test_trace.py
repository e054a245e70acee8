"""Trace fields: written so that they can be read, forged by nobody, counted."""

import email
import email.policy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.mime import header, trace

AT = 1_748_851_200_000_000


def test_return_path() -> None:
    assert trace.return_path("ann@example.com") == b"Return-Path: <ann@example.com>\r\n"
    assert trace.return_path("") == b"Return-Path: <>\r\n"
    assert trace.return_path("jürgen@exämple.de") == "Return-Path: <jürgen@exämple.de>\r\n".encode()
    assert trace.return_path("a\r\nX: y@z") == b"Return-Path: <aX: y@z>\r\n"


def test_received() -> None:
    line = trace.received(
        hello="mail.example.com",
        ip="192.0.2.1",
        by="mx.example.org",
        protocol="ESMTPS",
        id="0ABC",
        recipient="bob@example.org",
        tls="TLSv1.3 TLS_AES_256_GCM_SHA384",
        at=AT,
    )
    assert line == (
        b"Received: from mail.example.com ([192.0.2.1])\r\n"
        b"\tby mx.example.org (TLSv1.3 TLS_AES_256_GCM_SHA384)\r\n"
        b"\twith ESMTPS id 0ABC for <bob@example.org>;\r\n"
        b"\tMon, 2 Jun 2025 08:00:00 +0000\r\n"
    )


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, b"Received: by mx.example.org id 1;\r\n\tMon, 2 Jun 2025 08:00:00 +0000\r\n"),
        (
            {"ip": "2001:db8::1", "hello": ""},
            b"Received: from [IPv6:2001:db8::1] ([IPv6:2001:db8::1])\r\n\tby mx.example.org id 1;\r\n"
            b"\tMon, 2 Jun 2025 08:00:00 +0000\r\n",
        ),
        (
            {"ip": "192.0.2.1", "hello": "a b\r\nX: (y);"},
            b"Received: from a?b??X:??y?? ([192.0.2.1])\r\n\tby mx.example.org id 1;\r\n"
            b"\tMon, 2 Jun 2025 08:00:00 +0000\r\n",
        ),
    ],
)
def test_received_with_less(values: dict[str, str], expected: bytes) -> None:
    assert trace.received(by="mx.example.org", id="1", at=AT, **values) == expected


@given(st.text(max_size=300), st.text(max_size=100), st.text(max_size=60))
def test_received_is_one_field(hello: str, recipient: str, tls: str) -> None:
    recipient, tls, hello = (text.encode("utf-8", "replace").decode() for text in (recipient, tls, hello))
    line = trace.received(by="b", id="1", at=AT, ip="192.0.2.1", hello=hello, recipient=recipient, tls=tls)
    fields = header.split(line + b"Next: x\r\n\r\n")
    assert [field.name for field in fields] == [b"Received", b"Next"]
    assert email.message_from_bytes(line, policy=email.policy.default).keys() == ["Received"]
    assert all(len(one) <= 998 for one in line.split(b"\r\n"))


def test_count_received() -> None:
    raw = b"Received: a\r\n\tb\r\nreceived : c\nX-Received: d\r\nRECEIVED:e\r\n\r\n"
    assert trace.count_received(raw) == 3
    assert trace.count_received(b"") == 0


def test_date_time() -> None:
    assert trace.date_time(0) == "Thu, 1 Jan 1970 00:00:00 +0000"
    assert trace.date_time(1_709_210_096_999_999) == "Thu, 29 Feb 2024 12:34:56 +0000"

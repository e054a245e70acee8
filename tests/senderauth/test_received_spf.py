"""The Received-SPF field."""

from typing import get_args

import pytest

from posthouse.mime import header as headers
from posthouse.senderauth import received_spf
from posthouse.senderauth.spf import Result, Word

OURS = "mx.example.net"
PASS = Result("pass", "mailfrom", "example.org", mechanism="ip4:192.0.2.1")


def test_the_field_that_is_written() -> None:
    assert received_spf.render(PASS, OURS, "192.0.2.1", "mail.example.org", "<ann@example.org>") == (
        b"Received-SPF: pass (mx.example.net: example.org says that 192.0.2.1 may send\r\n"
        b" for it) receiver=mx.example.net; identity=mailfrom; client-ip=192.0.2.1;\r\n"
        b' envelope-from="ann@example.org"; helo=mail.example.org;\r\n'
        b' mechanism="ip4:192.0.2.1"\r\n'
    )


@pytest.mark.parametrize("word", get_args(Word))
def test_every_result(word: Word) -> None:
    said = Result(word, "helo", "example.org", problem="no answer")
    written = received_spf.render(said, OURS, "2001:db8::1", "a.test", "")
    text = headers.unfold(written).decode()
    assert text.startswith(f"Received-SPF: {word} (mx.example.net: ")
    assert text.endswith('client-ip="2001:db8::1"; envelope-from=""; helo=a.test; problem="no answer"')
    assert "{" not in text


def test_what_a_peer_says_stays_where_it_is() -> None:
    evil = 'a"; \r\nBcc: x; receiver=y \\ ) (\x00' + "x" * 5000
    said = Result("permerror", "mailfrom", evil, problem=evil, mechanism=evil)
    written = received_spf.render(said, OURS, "192.0.2.1", evil, evil)
    (field,) = headers.split(written)
    assert field.end == len(written)
    assert max(map(len, written.split(b"\r\n"))) <= 998
    assert len(written) < 4000


def test_fields_that_claim_our_name() -> None:
    for value, ours in [
        (b" pass (x) receiver=mx.example.net; helo=a", True),
        (b' pass receiver = "MX.example.net."', True),
        (b" pass client-ip=1.2.3.4;receiver=mx.example.net", True),
        (b" pass receiver=other.test; helo=mx.example.net", False),
        (b" pass (mx.example.net: says so)", False),
    ]:
        assert received_spf.claims(b"received-SPF", value, OURS) is ours
        assert not received_spf.claims(b"Received", value, OURS)
    written = received_spf.render(PASS, OURS, "192.0.2.1", "a", "b@c.test")
    assert received_spf.claims(*headers.split(written)[0][:2], OURS)

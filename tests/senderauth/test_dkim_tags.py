"""Signatures and key records: what is read, and the word for what is not."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.senderauth import dkim_tags
from posthouse.senderauth.dkim_tags import Fault, Record, Signature
from tests.support.growth import assert_linear

HASH = base64.b64encode(bytes(32))
GOOD = {
    b"v": b"1",
    b"a": b"rsa-sha256",
    b"d": b"example.org",
    b"s": b"sel.2026",
    b"h": b"From : to:\r\n subject",
    b"bh": HASH,
    b"b": b"AA\r\n AA",
}


def signature(**changes: bytes | None) -> Signature | Fault:
    tags = GOOD | {name.encode(): value for name, value in changes.items() if value is not None}
    for name, value in changes.items():
        if value is None:
            del tags[name.encode()]
    return dkim_tags.signature(b"; ".join(name + b"=" + value for name, value in tags.items()))


def test_what_a_signature_says() -> None:
    said = signature(c=b"relaxed", l=b"12", t=b"5", x=b"9", i=b"joe@mail.example.org", q=b"x:dns/txt", unknown=b"1")
    assert isinstance(said, Signature)
    assert said.record == "sel.2026._domainkey.example.org"
    assert said.names == (b"from", b"to", b"subject")
    assert (said.header_canon, said.body_canon) == ("relaxed", "simple")
    assert (said.length, said.signed, said.expires) == (12, 5, 9)
    assert said.signature == bytes(3)
    assert said.identity == "joe@mail.example.org"


def test_u_labels() -> None:
    """RFC 8616 section 3."""
    said = signature(d="bücher.example".encode())
    assert isinstance(said, Signature)
    assert said.domain == "xn--bcher-kva.example"


@pytest.mark.parametrize(
    ("changes", "word", "reason"),
    [
        *(({name: None}, "permerror", f"no {name}=") for name in ("v", "a", "b", "bh", "d", "h", "s")),
        ({"v": b"2"}, "neutral", "version"),
        ({"a": b"rsa-sha1"}, "permerror", "RFC 8301"),
        ({"a": b"rsa-sha512"}, "neutral", "unknown algorithm"),
        ({"c": b"nofws/simple"}, "neutral", "c="),
        ({"q": b"http"}, "neutral", "q="),
        ({"h": b"to:subject"}, "permerror", "From field is not signed"),
        ({"h": b"from:" * 401}, "neutral", "more than 400 names"),
        ({"d": b"exa mple.org"}, "neutral", "no domain name"),
        ({"d": b"a" * 64 + b".org"}, "neutral", "no domain name"),
        ({"d": b"a." * 119 + b"org"}, "neutral", "no domain name"),
        ({"s": b""}, "neutral", "no domain name"),
        ({"d": b"\xff.org"}, "neutral", "no domain name"),
        ({"i": b"joe@notexample.org"}, "permerror", "i="),
        ({"i": b"example.org"}, "permerror", "i="),
        ({"l": b"-1"}, "neutral", "l= is no number"),
        ({"t": b"1" * 77}, "neutral", "t= is no number"),
        ({"t": b"9", "x": b"9"}, "permerror", "x= is not later"),
        ({"b": b"A"}, "neutral", "not base64"),
        ({"b": b""}, "neutral", "not base64"),
        ({"bh": b"AAA*"}, "neutral", "not base64"),
        ({"bh": b"AAAA"}, "neutral", "no SHA-256"),
        ({"z": b"x" * 20_000}, "neutral", "longer than 16384"),
        ({"z": b";".join(b"a%d=" % n for n in range(99))}, "neutral", "more than 64 tags"),
        ({"z": b"1; a=2"}, "neutral", "tag a= twice"),
        ({"z": b"1; what"}, "neutral", "not a list of tags"),
    ],
)
def test_signatures_that_say_nothing(changes: dict[str, bytes | None], word: str, reason: str) -> None:
    fault = signature(**changes)
    assert isinstance(fault, Fault)
    assert fault.word == word
    assert reason in fault.reason


def test_a_key_record() -> None:
    assert dkim_tags.record(b"p=AAAA") == Record("rsa", bytes(3), False, False)
    everything = b"v=DKIM1; g=*; h=sha1:sha256; k=ed25519; n=x; p=AA AA; s=a:email; t=y:s;"
    assert dkim_tags.record(everything) == Record("ed25519", bytes(3), True, True)


@pytest.mark.parametrize(
    ("text", "word", "reason"),
    [
        (b"v=DKIM2; p=AAAA", "permerror", "DKIM1"),
        (b"p=AAAA; v=DKIM1", "permerror", "DKIM1"),
        (b"v=DKIM1", "permerror", "no p="),
        (b"v=DKIM1; p=", "permerror", "revoked"),
        (b"p=AAAA; h=sha1", "permerror", "SHA-256"),
        (b"p=AAAA; s=tlsrpt", "permerror", "not for mail"),
        (b"p=AAAA; k=dsa", "permerror", "k="),
        (b"p=AAA", "permerror", "base64"),
        (b"v=spf1 -all", "permerror", "DKIM1"),
        (b"hello", "permerror", "not a list of tags"),
        (b"p=" + b"A" * 9000, "policy", "longer than"),
    ],
)
def test_key_records_without_a_key(text: bytes, word: str, reason: str) -> None:
    fault = dkim_tags.record(text)
    assert isinstance(fault, Fault)
    assert fault.word == word
    assert reason in fault.reason


def test_the_own_value() -> None:
    assert dkim_tags.without_own_value(b" b=x; bh=y") == b" b=; bh=y"
    assert dkim_tags.without_own_value(b" bh=b=; \r\n b \r\n = x\r\n y") == b" bh=b=; \r\n b \r\n ="


@given(st.binary() | st.text("vabdhslx=;: \r\n1").map(str.encode))
def test_whatever_comes(value: bytes) -> None:
    dkim_tags.signature(value)
    dkim_tags.record(value)
    dkim_tags.without_own_value(value)
    dkim_tags.host(value)


@pytest.mark.parametrize("piece", [b";", b"; ", b"b=", b" ", b";b ", b":", b"A", b"\xc3\xbc."])
def test_hostile_values_cost_what_they_weigh(piece: bytes) -> None:
    def work(value: bytes) -> None:
        dkim_tags.tag_list(value)
        dkim_tags.without_own_value(value)
        dkim_tags.decoded(value)
        dkim_tags.signature(b"v=1;a=rsa-sha256;b=AAAA;bh=AAAA;s=a;h=from;d=" + value)

    assert_linear(work, lambda size: piece * size * 20)

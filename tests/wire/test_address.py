"""Envelope addresses: a table of paths, and that every address can be written and read again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.wire.address import NULL, Address, parse_domain, parse_path

VALID = [
    (b"<alice@example.org>", "alice", "example.org", "alice@example.org"),
    (b"<Alice@EXAMPLE.Org>", "Alice", "example.org", "Alice@example.org"),
    (b"<>", "", "", ""),
    (b"<Postmaster>", "postmaster", "", "postmaster"),
    (b"<POSTMASTER@example.org>", "POSTMASTER", "example.org", "POSTMASTER@example.org"),
    (b"<a.b+c/d=e@x-1.example>", "a.b+c/d=e", "x-1.example", "a.b+c/d=e@x-1.example"),
    (b'<"alice"@example.org>', "alice", "example.org", "alice@example.org"),
    (b'<"a b"@example.org>', "a b", "example.org", '"a b"@example.org'),
    (b'<"a@b>c"@example.org>', "a@b>c", "example.org", '"a@b>c"@example.org'),
    (b'<"a\\"b\\\\c\\d"@example.org>', 'a"b\\cd', "example.org", '"a\\"b\\\\cd"@example.org'),
    (b"<a..b.@docomo.example>", "a..b.", "docomo.example", '"a..b."@docomo.example'),
    (b"<@relay.example,@[10.1.1.1]:bob@example.org>", "bob", "example.org", "bob@example.org"),
    (b"<bob@[192.0.2.1]>", "bob", "[192.0.2.1]", "bob@[192.0.2.1]"),
    (b"<bob@[IPV6:2001:DB8:0::1]>", "bob", "[IPv6:2001:db8::1]", "bob@[IPv6:2001:db8::1]"),
    (b"<bob@[x400:something]>", "bob", "[x400:something]", "bob@[x400:something]"),
    (b"<bob@localhost>", "bob", "localhost", "bob@localhost"),
    (b"<bob@_under.score.example>", "bob", "_under.score.example", "bob@_under.score.example"),
    (b"<%b@%b>" % (b"a" * 64, b".".join([b"b" * 62] * 4)), "a" * 64, ".".join(["b" * 62] * 4), None),
]

INVALID = [
    b"",
    b"<",
    b"alice@example.org",
    b"<alice>",
    b"<alice@>",
    b"<@example.org>",
    b"<alice@example.org",
    b"<alice@@example.org>",
    b"<alice@example..org>",
    b"<alice@.example.org>",
    b"<alice@example.org.>",
    b"<alice@-example.org>",
    b"<alice@example-.org>",
    b"<ali ce@example.org>",
    b"<alice@exa mple.org>",
    b'<"alice@example.org>',
    b'<"ali\nce"@example.org>',
    b'<"ali\\\nce"@example.org>',
    b'<""@example.org>',
    b"<alice\r\n@example.org>",
    b"<alice\0@example.org>",
    b"<alice@[192.0.2.256]>",
    b"<alice@[192.0.2.1>",
    b"<alice@[]>",
    b"<alice@[ipv6:x]>",
    b"<alice@[ipv6:fe80::1%eth0]>",
    b"<alice@[192.0.2.1]x>",
    b"<gr\xc3\xbcn@example.org>",
    b"<a@b\xc3\xbc.example>",
    b"<%b@example.org>" % (b"a" * 65),
    b"<a@%b.c>" % b".".join([b"b" * 63] * 4),
    b"<a@%b.example>" % (b"b" * 64),
    b"<%b>" % (b"a" * 2000),
]


@pytest.mark.parametrize(("path", "local_part", "domain", "text"), VALID)
def test_valid(path: bytes, local_part: str, domain: str, text: str | None) -> None:
    address = parse_path(path)
    assert address == Address(local_part, domain)
    if text is not None:
        assert str(address) == text
    if domain:
        assert parse_path(f"<{address}>".encode()) == address
        assert Address.parse(str(address)) == address


@pytest.mark.parametrize("path", INVALID)
def test_invalid(path: bytes) -> None:
    assert parse_path(path) is None


def test_utf8() -> None:
    address = parse_path("<grün@BÜCHER.example>".encode(), utf8=True)
    assert address == Address("grün", "xn--bcher-kva.example")
    assert not address.is_ascii
    assert str(address) == "grün@xn--bcher-kva.example"
    assert parse_path(b"<gr\xfcn@example.org>", utf8=True) is None
    assert parse_path("<a\u2028b@example.org>".encode(), utf8=True) is None
    assert parse_domain("ex\u3002ample", utf8=True) == "ex.ample"
    assert parse_domain("\ud800.example", utf8=True) is None
    assert parse_domain("ü" * 300, utf8=True) is None


def test_null() -> None:
    assert parse_path(b"<>") == NULL
    assert NULL.is_null
    assert str(NULL) == ""
    assert not Address("postmaster", "").is_null


@given(st.text(min_size=1, max_size=64, alphabet=st.characters(min_codepoint=32, max_codepoint=126)))
def test_every_local_part_can_be_written_and_read(local_part: str) -> None:
    address = Address(local_part, "example.org")
    assert parse_path(f"<{address}>".encode()) == address


@given(st.binary(max_size=60), st.booleans())
def test_random_bytes_never_raise(path: bytes, utf8: bool) -> None:
    address = parse_path(b"<" + path + b">", utf8)
    if address is not None and address.domain:
        again = f"<{address}>".encode()
        assert not set(again) & set(range(32))
        assert parse_path(again, True) == address


@given(st.text(max_size=60))
def test_random_text_never_raises(text: str) -> None:
    address = Address.parse(text)
    assert address is None or "\n" not in str(address)

"""Authentication-Results: written, read, and recognised when they claim to be ours."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posthouse.mime import header as headers
from posthouse.senderauth import authres
from posthouse.senderauth.authres import Method, Results
from tests.support.growth import assert_linear

SPF = Method("spf", "pass", properties=(("smtp.mailfrom", "ann@example.org"),))
DKIM = Method("dkim", "fail", "body changed", (("header.d", "example.org"), ("header.b", "ab/c+=")), "2048-bit key")


def test_the_field_that_is_written() -> None:
    assert authres.render("mx.example.net", [SPF, DKIM]) == (
        b"Authentication-Results: mx.example.net;\r\n"
        b" spf=pass smtp.mailfrom=ann@example.org;\r\n"
        b' dkim=fail (2048-bit key) reason="body changed" header.d=example.org\r\n'
        b' header.b="ab/c+="\r\n'
    )
    assert authres.render("mx.example.net", []) == b"Authentication-Results: mx.example.net;\r\n none\r\n"
    assert authres.render("müller.test", [SPF]).startswith("Authentication-Results: müller.test;".encode())


@pytest.mark.parametrize(
    "evil", ["a\r\nBcc: x@example.org", 'a" x="y', "a; dkim=pass", "a (b", "a\\", "a\x00b", "x" * 3000, "é" * 3000, ""]
)
def test_what_a_peer_says_stays_where_it_is(evil: str) -> None:
    written = authres.render("mx.example.net", [Method("spf", "fail", evil, (("smtp.mailfrom", evil),), evil), DKIM])
    (field,) = headers.split(written)
    assert field.end == len(written)
    assert max(map(len, written.split(b"\r\n"))) <= 998
    found = authres.parse(field.value)
    assert found is not None
    assert [method.method for method in found.methods] == ["spf", "dkim"]
    assert found.methods[1] == DKIM
    assert [name for name, _ in found.methods[0].properties] == ["smtp.mailfrom"]


READ: list[tuple[str, Results | None]] = [
    ("example.org 1; none", Results("example.org", ())),
    ("example.org;none", Results("example.org", ())),
    ("example.org", Results("example.org", ())),
    ("example.org 2; spf=pass", Results("example.org", ())),  # another version
    ("example.org; dkim/2=pass; spf/1=pass", Results("example.org", (Method("spf", "pass"),))),
    (
        " (a (nested; one)) example.org (c) 1 (d) ; (e) SPF (f) = (g) Pass (h) smtp (i) . (j) MailFrom (k) = (l) a@b.c",
        Results("example.org", (Method("spf", "pass", "", (("smtp.mailfrom", "a@b.c"),), "e"),)),
    ),
    ('"example.org"; a=b reason="c;\\"d"', Results("example.org", (Method("a", "b", 'c;"d'),))),
    (
        "x;\r\n\tdkim=pass\r\n header.i=@example.org header.b=ab/c+==;\r\n spf=none",
        Results(
            "x",
            (
                Method("dkim", "pass", "", (("header.i", "@example.org"), ("header.b", "ab/c+=="))),
                Method("spf", "none"),
            ),
        ),
    ),
    (
        'x; spf=pass smtp.mailfrom="a b"@example.org',
        Results("x", (Method("spf", "pass", "", (("smtp.mailfrom", "a b@example.org"),)),)),
    ),
    # Without a name of who says it, and with a property without a type: so one large provider writes.
    (
        "spf=pass (sender IP is 192.0.2.1) smtp.mailfrom=b.c; dmarc=pass action=none",
        Results(
            "",
            (
                Method("spf", "pass", "", (("smtp.mailfrom", "b.c"),), "sender IP is 192.0.2.1"),
                Method("dmarc", "pass", "", (("action", "none"),)),
            ),
        ),
    ),
    ("", None),
    (";", None),
    ("a b c", None),
    ("a b; dkim=pass; rubbish; =x; spf=;; x=y", Results("", (Method("dkim", "pass"), Method("x", "y")))),
    ("x; dkim=pass (never closed; spf=pass", Results("x", (Method("dkim", "pass", "", (), "never closed; spf=pass"),))),
    ('x; dkim=pass reason="never closed; spf=pass', Results("x", (Method("dkim", "pass", "never closed; spf=pass"),))),
    ("x; header.d=y", Results("x", ())),
]


@pytest.mark.parametrize(("text", "found"), READ, ids=[text[:30] for text, _ in READ])
def test_what_is_read(text: str, found: Results | None) -> None:
    assert authres.parse(text.encode()) == found


OURS = "mx.example.net"
CLAIMS = [
    ("mx.example.net; spf=pass", True),
    ("mx.example.net", True),
    ("MX.Example.NET 1; none", True),
    ("mx.example.net.; none", True),
    ("\r\n\tmx.example.net\r\n ; none", True),
    ("(hello (you)) mx.example.net (x); none", True),
    ('"mx.example.net"; none', True),
    ('"mx.ex\\ample.net"; none', True),
    ("\u200bmx.example.net; none", True),
    ("mx.exa\x00mple.net; none", True),
    ("mx.example.net\xa0; none", True),
    ("ｍｘ.example.net; none", True),  # full width: the same domain to whoever maps it
    # Wrong, and some program may see our name in it.
    ("; mx.example.net; none", True),
    ("mx.example.net and more; spf=pass", True),
    ("mx.exam(x)ple.net; spf=pass", True),
    ('"mx".example.net; spf=pass', True),
    ("(never closed mx.example.net; spf=pass", True),
    ('"mx.example.net; spf=pass', True),
    ("=?utf-8?q?mx.example.net?=; spf=pass", True),
    ("mx.example.net spf=pass", True),
    # Those of others
    ("mx.example.org; spf=pass", False),
    ("example.net; spf=pass", False),
    ("in.mx.example.net; spf=pass", False),
    ("other.test (by mx.example.net); spf=pass", False),
    ("other.test; spf=pass smtp.helo=mx.example.net", False),
    ("spf=pass smtp.helo=mx.example.net", False),
    ("mx.example.net.test; none", False),
    ("=?utf-8?q?other?=; none", False),
    ("", False),
]


@pytest.mark.parametrize(("value", "ours"), CLAIMS)
def test_fields_that_claim_our_name(value: str, ours: bool) -> None:
    for name in (b"Authentication-Results", b"AUTHENTICATION-results "):
        assert authres.claims(name, value.encode(), OURS) is ours
    assert not authres.claims(b"ARC-Authentication-Results", value.encode(), OURS)


def test_what_takes_long_to_read_counts_as_ours() -> None:
    """A name behind more than is read, or among words that each cost a conversion."""
    for value in (
        b"(" + b"x" * 70_000 + b") mx.example.net; dmarc=pass",
        b"\r\n " * 3_000 + b"mx.example.net; dmarc=pass",
        b" ".join(b"\xc3\xa4" + str(number).encode() for number in range(1_000)),
    ):
        assert authres.claims(b"Authentication-Results", value, OURS)


def test_an_international_name_is_one_name() -> None:
    for said in ("mx.müller.test", "MX.MÜLLER.test", "mx.xn--mller-kva.test"):
        for ours in ("mx.müller.test", "mx.xn--mller-kva.test"):
            assert authres.claims(b"Authentication-Results", f"{said}; none".encode(), ours)


# Properties

_words = st.from_regex(r"[a-z][a-z0-9_-]{0,8}", fullmatch=True)
_texts = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")) | st.just(" "), max_size=30).map(
    authres.clean
)
_comments = _texts.map(lambda text: re.sub(r"[()\\]", "", text).strip())
_names = st.builds(lambda a, b: f"{a}.{b}", _words, _words)
_methods = st.builds(
    Method, _words, _words, _texts, st.lists(st.tuples(_names, _texts), max_size=4).map(tuple), _comments
)


@settings(deadline=None)
@given(st.from_regex(r"[a-z0-9.-]{1,30}", fullmatch=True), st.lists(_methods, max_size=5))
def test_what_is_written_is_read(authserv_id: str, methods: list[Method]) -> None:
    (field,) = headers.split(authres.render(authserv_id, methods))
    assert authres.parse(field.value) == Results(authserv_id, tuple(methods))
    assert authres.claims(field.name, field.value, authserv_id)


_pieces = st.lists(
    st.sampled_from([*'";()=. \\/1', "a", "none", "spf=pass", "\r\n ", OURS, "\xff", "=?utf-8?q?a?="]), max_size=30
)


@settings(deadline=None)
@given(st.binary() | _pieces.map(lambda pieces: "".join(pieces).encode("latin-1")))
def test_whatever_comes(value: bytes) -> None:
    found = authres.parse(value)
    if found is not None and found.authserv_id.lower() == OURS:
        assert authres.claims(b"Authentication-Results", value, OURS)
    assert len(authres.split(value)) <= value.count(b";") + 1


@pytest.mark.parametrize(
    "piece", ['"', '"\\', "(", "()", "a", "a.", "a ", " ", ";", "a=b ", 'a="', "a=\\", "=?", "(\\"]
)
def test_costs_grow_with_the_length(piece: str) -> None:
    def work(value: bytes) -> None:
        authres.parse(value)
        authres.claims(b"Authentication-Results", value, OURS)

    for start in ("", "x; a=b "):
        assert_linear(work, lambda size, start=start: (start + piece * size).encode())  # type: ignore[misc]


def test_there_are_limits() -> None:
    assert authres.parse(b"x;" + b" " * authres.MAX_FIELD) is None
    found = authres.parse(b"x" + b"; a=b" + b" c.d=e" * 60 + b"; a=b" * 200)
    assert found is not None
    assert (len(found.methods), len(found.methods[0].properties)) == (authres.MAX_METHODS, authres.MAX_PROPERTIES)

"""authres, another implementation: it reads what we write, and we read what it writes."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posthouse.mime import header as headers
from posthouse.senderauth import authres
from posthouse.senderauth.authres import Method, Results
from tests.support.clients import package

oracle = package("authres")

_words = st.from_regex(r"[a-z][a-z0-9]{0,8}", fullmatch=True).filter(
    lambda word: not word.startswith(("none", "reason"))
)
_types = st.sampled_from(["smtp", "header", "body", "policy"])
# Its quoting leaves texts with "@" alone, and it takes quoted strings only at the end of a result and
# leaves their quoted pairs as they are.
_text = st.text("abz019.,;:<>()[]/=? +-_'", min_size=1, max_size=20).map(authres.clean).filter(bool)
_plain = st.sampled_from(["ann@example.org", "@example.org", "example.org", "a+b@example.org", "192.0.2.1", "x_y"])
_names = st.builds(lambda a, b: f"{a}.{b}", _types, _words)
_properties = st.builds(
    lambda first, last: (*first, *last),
    st.lists(st.tuples(_names, _plain), max_size=3),
    st.lists(st.tuples(_names, _text), max_size=1),
)
_methods = st.lists(
    st.builds(Method, _words, _words, _text | st.just(""), _properties, st.just("")), min_size=1, max_size=4
)


def seen(header: Any) -> Results:
    """What the other one read, in our values."""
    return Results(
        header.authserv_id,
        tuple(
            Method(
                one.method,
                one.result,
                str(one.reason or ""),
                tuple((f"{prop.type}.{prop.name}", str(prop.value)) for prop in one.properties),
            )
            for one in header.results
        ),
    )


@settings(deadline=None)
@given(_methods)
def test_it_reads_what_we_write(methods: list[Method]) -> None:
    written = authres.render("mx.example.net", methods)
    unfolded = headers.unfold(written).decode()
    assert seen(oracle.AuthenticationResultsHeader.parse(unfolded)) == Results("mx.example.net", tuple(methods))


@settings(deadline=None)
@given(_methods)
def test_we_read_what_it_writes(methods: list[Method]) -> None:
    results = [
        oracle.AuthenticationResult(
            one.method,
            result=one.result,
            reason=one.reason or None,
            properties=[
                oracle.core.AuthenticationResultProperty(*name.split("."), value=value)
                for name, value in one.properties
            ],
        )
        for one in methods
    ]
    header = oracle.AuthenticationResultsHeader(authserv_id="mx.example.net", results=results)
    assert authres.parse(header.header_value().encode()) == Results("mx.example.net", tuple(methods))


@pytest.mark.parametrize(
    "text",
    [
        "example.org 1; none",
        "example.com; auth=pass (cram-md5) smtp.auth=sender@example.net; spf=pass smtp.mailfrom=example.net",
        'example.com; dkim=fail reason="bad signature" header.i=@a.example.net; dkim=pass header.i=@b.example.com',
        "foo.example.net (a) 1 (b); dkim (c) / 1 = (e) fail policy (f) . (g) expired (h) = (i) 1362471462",
    ],
)
def test_examples_of_rfc_8601(text: str) -> None:
    """The shapes of appendix B, comments included."""
    found = authres.parse(text.encode())
    assert found is not None
    bare = Results(found.authserv_id, tuple(one._replace(comment="") for one in found.methods))
    assert bare == seen(oracle.AuthenticationResultsHeader.parse_value(text))

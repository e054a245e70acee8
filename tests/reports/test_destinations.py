"""Where reports go: the rua of DMARC and TLSRPT, and the agreement of strangers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.reports.destinations import MAX_TARGETS, Target, confirms, destinations, tags, the_record

A = Target("mailto", "a@example.org", "example.org")


@pytest.mark.parametrize(
    ("rua", "expected"),
    [
        ("mailto:a@example.org", (A,)),
        (" MAILTO:a@Example.org , mailto:a@example.org", (A._replace(address="a@example.org"),)),
        ("mailto:a@example.org!10m", (A._replace(most=10 << 20),)),
        ("mailto:a@example.org!500", (A._replace(most=500),)),
        ("mailto:a%21b@example.org", (A._replace(address="a!b@example.org"),)),
        ("mailto:a@example.org?subject=x", (A,)),
        ("mailto:a@example.org,https://example.org/r", (A,)),
        ("mailto:a@example.org,,mailto:b", (A,)),
        ("mailto:", ()),
        ("a@example.org", ()),
        ("mailto:a@[192.0.2.1]", ()),
        ("mailto:a@example.org%0d%0aBcc:x@y.test", ()),
        ("", ()),
    ],
)
def test_addresses_of_mail(rua: str, expected: tuple[Target, ...]) -> None:
    assert destinations(rua) == expected


def test_there_is_an_end_to_addresses() -> None:
    assert len(destinations(",".join(f"mailto:a{n}@example.org" for n in range(100)))) == MAX_TARGETS


@pytest.mark.parametrize(
    ("uri", "good"),
    [
        ("https://example.org/tls?x=1", True),
        ("https://example.org:443/", True),
        ("https://example.org:8443/", False),
        ("https://localhost/", False),
        ("https://127.0.0.1/", False),
        ("https://[::1]/", False),
        ("https://user@example.org/", False),
        ("http://example.org/", False),
        ("https://example.org:x/", False),
        ("https://ex ample.org/", False),
    ],
)
def test_addresses_of_web_servers(uri: str, good: bool) -> None:
    assert bool(destinations(uri, ("mailto", "https"))) is good


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ([b"v=DMARC1"], A),
        ([b"v=DMARC1;"], A),
        ([b"other", b"v=DMARC1; x=y"], A),
        ([b"v=DMARC1; rua=mailto:b@example.org"], A._replace(address="b@example.org")),
        ([b"v=DMARC1; rua=mailto:b@victim.test"], None),
        ([b"v=DMARC1; rua=nonsense"], None),
        ([b"v=DMARC12"], None),
        ([b"v=spf1 -all"], None),
        ([], None),
    ],
)
def test_who_agrees(texts: list[bytes], expected: Target | None) -> None:
    assert confirms(texts, A) == expected


def test_several_records_are_none() -> None:
    record = b"v=TLSRPTv1; rua=mailto:a@example.org"
    assert the_record([b"v=spf1", record], "TLSRPTv1") == record.decode()
    assert the_record([record, record], "TLSRPTv1") is None
    assert the_record([], "TLSRPTv1") is None


@given(st.text(), st.binary())
def test_nothing_raises(text: str, data: bytes) -> None:
    destinations(text, ("mailto", "https"))
    tags(text, "DMARC1")
    tags("v=DMARC1;" + text, "DMARC1")
    confirms([data, b"v=DMARC1;rua=" + data], A)

"""The tree walk: which names are asked, with real packets, and where an organization ends."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.net.dns import SystemResolver
from posthouse.senderauth.organization import MAX_QUERIES, Walker, names, registrable
from tests.support.clock import FakeClock
from tests.support.loop import on_loop
from tests.support.nameserver import NameServer, Table

NONE = "v=DMARC1; p=none"
PSD = "v=DMARC1; p=reject; psd=y"
OWN = "v=DMARC1; p=reject; psd=n"


@asynccontextmanager
async def walker(records: dict[str, str], **options: float) -> AsyncIterator[tuple[Walker, NameServer]]:
    """A walker over a name server that has these records; a word stands for what it does instead."""
    table: Table = {
        (f"_dmarc.{name}.", "TXT"): said if said in ("SERVFAIL", "NXDOMAIN", "LOOP") else [f'"{said}"']
        for name, said in records.items()
    }
    server = NameServer(table)
    port = await server.start()
    try:
        yield Walker(SystemResolver(FakeClock(), ["127.0.0.1"], port=port, **options)), server  # type: ignore[arg-type]
    finally:
        await server.stop()


# RFC 9989 section 4.10 and appendix B.4
@pytest.mark.parametrize(
    ("domain", "expected"),
    [
        ("org", ["org"]),
        ("a.mail.example.com", ["a.mail.example.com", "mail.example.com", "example.com", "com"]),
        (
            "a.b.c.d.e.f.g.h.i.j.mail.example.com",
            [
                "a.b.c.d.e.f.g.h.i.j.mail.example.com",
                "g.h.i.j.mail.example.com",
                "h.i.j.mail.example.com",
                "i.j.mail.example.com",
                "j.mail.example.com",
                "mail.example.com",
                "example.com",
                "com",
            ],
        ),
        ("8.7.6.5.4.3.2.1", [".".join("87654321"[at:]) for at in range(8)]),
        ("9.8.7.6.5.4.3.2.1", ["9.8.7.6.5.4.3.2.1", *(".".join("7654321"[at:]) for at in range(7))]),
    ],
)
@on_loop
async def test_which_names_are_asked(domain: str, expected: list[str]) -> None:
    assert list(names(domain)) == expected
    async with walker({}) as (one, server):
        await one.walk(domain)
        assert sorted(server.questions) == sorted(("udp", f"_dmarc.{name}.", "TXT") for name in expected)
        await one.walk(domain)
        await one.at(domain)
        assert len(server.questions) == len(expected)  # each is asked once


@given(st.integers(1, 120).map(lambda count: ".".join("x" * count)))
def test_never_more_than_eight(domain: str) -> None:
    asked = names(domain)
    assert len(asked) <= MAX_QUERIES
    assert asked[0] == domain
    assert asked[-1] == "x"
    assert all(domain.endswith(name) for name in asked)


BANK = {"bank.example": PSD, "giant.bank.example": NONE}
CASES: list[tuple[str, dict[str, str], str, str]] = [
    # start; records; organization; whose record is for a name that has none itself
    # RFC 9989 section 4.10.2
    ("a.mail.example.com", {"mail.example.com": NONE, "example.com": NONE}, "example.com", "example.com"),
    ("a.mail.example.com", {"mail.example.com": OWN, "example.com": NONE}, "mail.example.com", "mail.example.com"),
    ("a.mail.example.com", {"com": PSD}, "example.com", "com"),
    ("mail.example.com", {"mail.example.com": NONE, "example.com": PSD}, "mail.example.com", "mail.example.com"),
    # appendix B.4
    ("signing.example.com", {"signing.example.com": NONE, "example.com": NONE}, "example.com", "example.com"),
    ("a.b.c.d.e.f.g.h.i.j.k.example.com", {"example.com": NONE}, "example.com", "example.com"),
    ("giant.bank.example", BANK, "giant.bank.example", "giant.bank.example"),
    ("mail.giant.bank.example", BANK, "giant.bank.example", "giant.bank.example"),
    ("mail.mega.bank.example", BANK, "mega.bank.example", "bank.example"),
    # psd=y of the start itself is no border; psd=n above psd=y is never read
    ("bank.example", BANK, "bank.example", "bank.example"),
    ("a.b.bank.example", {**BANK, "example": OWN}, "b.bank.example", "bank.example"),
    ("mail.brand", {"brand": OWN}, "brand", "brand"),
    # The walk is the rule: a record on a subdomain alone makes it the organization
    ("a.mail.example.org", {"mail.example.org": NONE}, "mail.example.org", "mail.example.org"),
    # Nothing says psd, and the top is a public suffix: it counts as one
    ("a.mail.example.org", {"org": NONE}, "example.org", "org"),
    ("a.mail.example.co.uk", {"co.uk": NONE}, "example.co.uk", "co.uk"),
    ("a.mail.example.co.uk", {"uk": NONE, "example.co.uk": NONE}, "example.co.uk", "example.co.uk"),
    ("a.ann.blogspot.com", {"blogspot.com": NONE}, "ann.blogspot.com", "blogspot.com"),
    ("blogspot.com", {"blogspot.com": NONE, "com": NONE}, "blogspot.com", "blogspot.com"),
    ("co.uk", {"uk": NONE}, "co.uk", "uk"),
    ("a.xn--55qx5d.cn", {"xn--55qx5d.cn": NONE}, "a.xn--55qx5d.cn", "xn--55qx5d.cn"),
    # Nothing is there at all
    ("a.b.example.co.uk", {}, "example.co.uk", ""),
    ("a.b.nowhere.test", {}, "nowhere.test", ""),
    ("test", {}, "test", ""),
    # What counts as a record
    ("a.example.org", {"a.example.org": "v=DMARC2; p=none", "example.org": NONE}, "example.org", "example.org"),
    ("a.example.org", {"a.example.org": "hello", "example.org": "v=DMARC1"}, "example.org", "example.org"),
    ("a.example.org", {"a.example.org": NONE + '" "; psd=n', "example.org": NONE}, "a.example.org", "a.example.org"),
    ("a.example.org", {"a.example.org": "NXDOMAIN", "example.org": NONE}, "example.org", "example.org"),
]


@pytest.mark.parametrize(("start", "records", "organization", "policy"), CASES)
@on_loop
async def test_organizations(start: str, records: dict[str, str], organization: str, policy: str) -> None:
    async with walker(records) as (one, server):
        found = await one.walk(start)
        assert (found.organization, found.policy.domain if found.policy else "", found.failure) == (
            organization,
            policy,
            "",
        )
        assert len(one.lookups) == len(server.questions) == len(names(start))


@on_loop
async def test_several_records_are_none() -> None:
    async with walker({"example.org": NONE}) as (one, server):
        server.table["_dmarc.a.example.org.", "TXT"] = [f'"{NONE}"', f'"{OWN}"']
        server.table["_dmarc.b.example.org.", "TXT"] = ['"hello"', f'"{OWN}"']
        assert (await one.walk("a.example.org")).organization == "example.org"
        assert (await one.walk("b.example.org")).organization == "b.example.org"
        assert await one.at("a.example.org") is None


@pytest.mark.parametrize(
    ("records", "found", "fails"),
    [
        ({"a.example.org": "SERVFAIL", "example.org": NONE}, [], True),
        ({"a.example.org": NONE, "example.org": "SERVFAIL"}, ["a.example.org"], True),
        (
            {"a.example.org": OWN, "example.org": "SERVFAIL"},
            ["a.example.org"],
            False,
        ),  # what is above is of no interest
        ({"example.org": NONE, "org": "SERVFAIL"}, ["example.org"], False),  # a top-level domain that does not answer
        ({"org": "SERVFAIL"}, [], True),
        ({"example.org": "LOOP", "org": NONE}, [], True),
    ],
)
@on_loop
async def test_failures_of_the_dns(records: dict[str, str], found: list[str], fails: bool) -> None:
    async with walker(records) as (one, _):
        walk = await one.walk("a.example.org")
        assert [each.domain for each in walk.found] == found
        assert bool(walk.failure) is fails
        failed = [lookup.name for lookup in one.lookups if lookup.failure == "no answer"]
        assert failed == [f"_dmarc.{name}" for name, said in records.items() if said in ("SERVFAIL", "LOOP")]


@on_loop
async def test_a_name_that_cannot_be_one_is_asked_nowhere() -> None:
    async with walker({}) as (one, server):
        long = ".".join(["x" * 62] * 4)  # 251 octets, with _dmarc too many
        walk = await one.walk(long)
        assert walk.organization == registrable(long)
        assert not walk.found
        assert ("udp", f"_dmarc.{long}.", "TXT") not in server.questions


def test_the_list_knows_names_in_all_scripts() -> None:
    assert registrable("a.example.xn--p1ai") == "example.xn--p1ai"
    assert registrable("a.www.ck") == "www.ck"  # an exception
    assert registrable("a.b.ck") == "a.b.ck"  # a wildcard
    assert registrable("com") == "com"

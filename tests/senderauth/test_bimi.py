"""BIMI: for which messages, under which name, and what a record says."""

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.net.dns import ZoneResolver, zone_of_text
from posthouse.senderauth import spf as spfs
from posthouse.senderauth.bimi import Assertion, Indicator, find, parse, selector_of
from posthouse.senderauth.dmarc import author_domains, evaluate
from tests.support.loop import on_loop

LOGO, MARK = "https://example.org/logo.svg", "https://example.org/mark.pem"


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        (f"l={LOGO}", Assertion(LOGO, "", "brand")),
        (f" l = {LOGO} ; a = {MARK} ;", Assertion(LOGO, MARK, "brand")),
        (f"a={MARK}; l={LOGO}; avp=personal", Assertion(LOGO, MARK, "personal")),
        (f"l={LOGO}; avp=neither; foo=bar", Assertion(LOGO, "", "brand")),
        (f"l=; a={MARK}", Assertion("", MARK, "brand")),
        ("l=; a=;", Assertion("", "", "brand")),
        ("l=", Assertion("", "", "brand")),
        (f"a={MARK}", "the record has no l="),
        ("", "the record has no l="),
        (f"L={LOGO}", "the record has no l="),
        ("l=http://example.org/logo.svg", "l= is not the address of a document with https"),
        (f"l={LOGO}, {LOGO}", "l= is not the address of a document with https"),
        ("l=https://localhost/logo.svg", "l= is not the address of a document with https"),
        ("l=https://192.0.2.1/logo.svg", "l= is not the address of a document with https"),
        ("l=https://a:b@example.org/logo.svg", "l= is not the address of a document with https"),
        ("l=https://example.org:99999/logo.svg", "l= is not the address of a document with https"),
        ("l=https://[::1/logo.svg", "l= is not the address of a document with https"),
        ("l=javascript:alert(1)", "l= is not the address of a document with https"),
        (f"l={LOGO}?{'x' * 3000}", "l= is not the address of a document with https"),
        (f"l={LOGO}; a=mark.pem", "a= is not the address of a document with https"),
        ("l=https://example.org/logo.PNG", "l= is not an SVG image"),
        (f"l={LOGO}; l={LOGO}", "the record is not a list of tags, each once"),
        (f"l={LOGO}; hello", "the record is not a list of tags, each once"),
        (f"l={LOGO}" + ";x=" * 100, "the record is not a list of tags, each once"),
        (f"l={LOGO};x=" + "y" * 5000, "the record is longer than 4096 octets"),
    ],
)
def test_what_a_record_says(tags: str, expected: Assertion | str) -> None:
    assert parse(f"v=BIMI1; {tags}".encode()) == expected


@given(st.binary(max_size=200))
def test_no_record_breaks_the_reader(tags: bytes) -> None:
    found = parse(b"v=BIMI1; l=https://example.org/" + tags)
    assert isinstance(found, str) or found.location.startswith("https://")
    assert selector_of(b"BIMI-Selector: v=BIMI1; s=" + tags + b"\r\n").replace("-", "").replace(".", "").isalnum()


@pytest.mark.parametrize(
    ("fields", "selector"),
    [
        (b"", "default"),
        (b"BIMI-Selector: v=BIMI1; s=myselector;\r\n", "myselector"),
        (b"bimi-selector:v=BIMI1;s=Brand.One\r\n", "brand.one"),
        (b"BIMI-Selector: s=myselector;\r\n", "default"),
        (b"BIMI-Selector: v=BIMI2; s=myselector;\r\n", "default"),
        (b"BIMI-Selector: v=BIMI1; s=a..b\r\n", "default"),
        (b"BIMI-Selector: v=BIMI1; s=-a\r\n", "default"),
        (b"BIMI-Selector: v=BIMI1; s=*\r\n", "default"),
        (b"BIMI-Selector: v=BIMI1\r\n", "default"),
        (b"BIMI-Selector: v=BIMI1; s=" + b"a." * 300 + b"a\r\n", "default"),
        (b"BIMI-Selector: v=BIMI1; s=a\r\nBIMI-Selector: v=BIMI1; s=b\r\n", "default"),
    ],
)
def test_selectors(fields: bytes, selector: str) -> None:
    assert selector_of(b"From: a@example.org\r\n" + fields + b"\r\n") == selector


STRONG = "v=DMARC1; p=reject"
RECORD = f"v=BIMI1; l={LOGO}"
ORG, SUB, AT = "example.org", "a.example.org", "default._bimi.example.org"

# DMARC records, BIMI records, From, BIMI-Selector; word, domain, selector
CASES: list[tuple[dict[str, str], dict[str, str], str, str, tuple[str, str, str]]] = [
    ({ORG: STRONG}, {AT: RECORD}, ORG, "", ("found", ORG, "default")),
    ({ORG: STRONG}, {"s._bimi.example.org": RECORD}, ORG, "s", ("found", ORG, "s")),
    ({ORG: STRONG}, {}, ORG, "", ("none", "", "default")),
    # The organization's for a subdomain; not its default for another selector
    ({ORG: STRONG}, {AT: RECORD}, SUB, "", ("found", ORG, "default")),
    ({ORG: STRONG}, {"s._bimi.example.org": RECORD}, SUB, "s", ("found", ORG, "s")),
    ({ORG: STRONG}, {AT: RECORD}, SUB, "s", ("none", "", "s")),
    (
        {ORG: STRONG},
        {AT: RECORD, "default._bimi.a.example.org": "v=BIMI1; l=; a=;"},
        SUB,
        "",
        ("declined", SUB, "default"),
    ),
    ({ORG: STRONG}, {AT: "v=BIMI1; l=x"}, ORG, "", ("fail", ORG, "default")),
    ({ORG: STRONG}, {AT: "v=bimi1; l="}, ORG, "", ("none", "", "default")),
    ({ORG: STRONG}, {AT: "down"}, SUB, "", ("temperror", ORG, "default")),
    # Policies that are not enough, of the author and of its organization
    *(
        ({ORG: f"v=DMARC1; {tags}"}, {AT: RECORD}, ORG, "", ("skipped", "", ""))
        for tags in ("p=none", "p=reject; sp=none", "p=quarantine; pct=99", "p=reject; pct=50", "p=reject; t=y", "p=x")
    ),
    (
        {ORG: "v=DMARC1; p=none", SUB: STRONG},
        {"default._bimi.a.example.org": RECORD},
        SUB,
        "",
        ("skipped", "", ""),
    ),
    (
        {ORG: STRONG, SUB: "v=DMARC1; p=none"},
        {"default._bimi.a.example.org": RECORD},
        SUB,
        "",
        ("skipped", "", ""),
    ),
    (
        {ORG: "v=DMARC1; p=none", SUB: STRONG + "; psd=n"},
        {"default._bimi.a.example.org": RECORD},
        SUB,
        "",
        ("found", SUB, "default"),
    ),
    ({}, {AT: RECORD}, ORG, "", ("skipped", "", "")),
]  # fmt: skip


async def look(dmarc: dict[str, str], bimi: dict[str, str], header: bytes, proved: str) -> Indicator:
    texts = {**{f"_dmarc.{name}": said for name, said in dmarc.items()}, **bimi}
    zone: dict[str, Any] = dict(zone_of_text({name: {"TXT": [said]} for name, said in texts.items()}))
    zone |= dict.fromkeys(name for name, said in texts.items() if said == "down")
    resolver = ZoneResolver(zone)
    found = await evaluate(resolver, author_domains(header), [spfs.Result("pass", "mailfrom", proved)], [], dice=0)
    return await find(resolver, found, header)


@pytest.mark.parametrize(("dmarc", "bimi", "author", "selector", "expected"), CASES)
@on_loop
async def test_which_record_is_found(
    dmarc: dict[str, str], bimi: dict[str, str], author: str, selector: str, expected: tuple[str, str, str]
) -> None:
    header = f"From: a@{author}\r\n" + (f"BIMI-Selector: v=BIMI1; s={selector}\r\n" if selector else "") + "\r\n"
    found = await look(dmarc, bimi, header.encode(), author)
    assert (found.word, found.domain, found.selector) == expected, found.because
    assert (found.location == LOGO) is (found.word == "found")
    assert bool(found.because) is (found.word != "found")


@pytest.mark.parametrize(
    "header",
    [
        b"From: a@example.org, b@example.org\r\n\r\n",
        b"From: a@example.org\r\nFrom: a@example.org\r\n\r\n",
        b"From: us: a@example.org;\r\n\r\n",
    ],
)
@on_loop
async def test_only_for_one_author(header: bytes) -> None:
    bimi = {"default._bimi.example.org": RECORD}
    assert (await look({"example.org": STRONG}, bimi, header, "example.org")).word == "skipped"
    assert (await look({"example.org": STRONG}, bimi, b"From: a@example.org\r\n\r\n", "example.org")).word == "found"


@on_loop
async def test_only_for_who_passed() -> None:
    bimi = {"default._bimi.example.org": RECORD}
    found = await look({"example.org": STRONG}, bimi, b"From: a@example.org\r\n\r\n", "evil.test")
    assert (found.word, found.because, found.lookups) == ("skipped", "DMARC says fail", ())


def test_a_dns_that_never_answers_ends_in_time() -> None:
    async def run() -> Indicator:
        header = b"From: a@example.org\r\n\r\n"
        good = ZoneResolver(zone_of_text({"_dmarc.example.org": {"TXT": [STRONG]}}))
        proved = [spfs.Result("pass", "mailfrom", "example.org")]
        evaluated = await evaluate(good, ["example.org"], proved, [], dice=0)

        class Silent(ZoneResolver):
            async def answer(self, name: str, kind: str) -> Any:
                await asyncio.get_running_loop().create_future()

        return await find(Silent({}), evaluated, header, patience=0.01)

    assert asyncio.run(run()).word == "temperror"

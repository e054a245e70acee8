"""DMARC: who is the author, and what follows from what SPF and DKIM proved."""

import asyncio
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from posthouse.net.dns import Answer, Unavailable, ZoneResolver, zone_of_text
from posthouse.senderauth import dkim as dkims
from posthouse.senderauth import spf as spfs
from posthouse.senderauth.dmarc import MAX_AUTHORS, MORE, Result, author_domains, claims_nobody, evaluate
from tests.support.growth import assert_linear
from tests.support.loop import on_loop

WORDS = {"none", "pass", "fail", "temperror", "permerror"}


# Authors


@pytest.mark.parametrize(
    ("header", "domains"),
    [
        (b"From: ann@example.org\r\n", ("example.org",)),
        (b"from : Ann <ann@Example.ORG.>\r\n", ("example.org",)),
        (b'From: "bank@bank.test" <x@evil.test>\r\n', ("evil.test",)),
        (b"From: x@evil.test (bank@bank.test)\r\n", ("evil.test",)),
        (b"From: a@example.org,\r\n b@example.net\r\n", ("example.org", "example.net")),
        (b"From: a@example.org\r\nTo: x@y.test\r\nFrom: b@example.net\r\n", ("example.org", "example.net")),
        (b"From: a@example.org\r\nFrom: b@EXAMPLE.org\r\n", ("example.org",)),
        (b"From: <a@example.org> <b@example.net>\r\n", ("example.org", "example.net")),
        (b"From: people: a@example.org, b@example.net;\r\n", ("example.org", "example.net")),
        (b"From: undisclosed:;\r\n", ()),
        (b"From: Smith, Ann <ann@example.org>\r\n", ("example.org",)),
        (b"From: ann\r\n", ()),
        (b"From:\r\n", ()),
        (b"From: <>\r\n", ()),
        (b"To: ann@example.org\r\n", ()),
        (b"X-From: ann@example.org\r\nReply-To: b@example.org\r\n", ()),
        (b"", ()),
        ("From: ann@bücher.example\r\n".encode(), ("xn--bcher-kva.example",)),
        ("From: bücher@example.org\r\n".encode(), ("example.org",)),
        ("From: ann@EXAMPLE。org\r\n".encode(), ("example.org",)),
        ("From: ann@ｅｘａｍｐｌｅ.org\r\n".encode(), ("example.org",)),
        (b"From: ann@b\xfccher.example\r\n", ("b\\xef\\xbf\\xbdcher.example",)),
        (b"From: ann@[192.0.2.1]\r\n", ("[192.0.2.1]",)),
        (b"From: ann@bank.test\x00\x1b\r\n", ("bank.test\\x00\\x1b",)),
        (b"From: ann@a..b\r\n", ("a..b",)),
        (b"From: ann@=?utf-8?q?bank.test?=\r\n", ("=?utf-8?q?bank.test?=",)),
        (b"From: <@relay.test:ann@example.org>\r\n", ("example.org",)),
        (b"From: ann@ example . org\r\n", ("example.org",)),
        (b"From: ann@localhost\r\n", ("localhost",)),
    ],
)
def test_the_domains_of_from(header: bytes, domains: tuple[str, ...]) -> None:
    assert author_domains(header) == author_domains(header + b"\r\n") == domains


def test_many_authors_are_counted_and_not_all_looked_at() -> None:
    many = b", ".join(b"a@d%d.test" % number for number in range(400))
    assert author_domains(b"From: " + many + b"\r\n") == tuple(f"d{number}.test" for number in range(MAX_AUTHORS + 1))
    same = b",".join([b"a@b.test"] * 500)
    assert author_domains(b"From: " + same + b", b@bank.test\r\n") == ("b.test", MORE)
    half = b"From: a@example.org (" + b"x" * 5_000 + b")\r\n"
    assert author_domains(half) == ("example.org",)
    assert author_domains(half + half + b"From: b@bank.test\r\n") == ("example.org", MORE)
    long = b"From: a@example.org " + b"(" + b"x" * 200_000 + b") <b@bank.test>\r\n"
    assert MORE in author_domains(long)
    assert author_domains(b"From: a@example.org\r\n" * 30) == ("example.org", MORE)


@pytest.mark.parametrize(
    "header",
    [
        b"From: MAILER-DAEMON\r\n",
        b"To: ann@example.org\r\nfrom :\r\n MAILER-DAEMON (Mail Delivery\r\n\tSubsystem)\r\nX-From: a@b.test\r\n",
        b'From: "Mail Delivery System" <MAILER-DAEMON>\r\nTo: ann@example.org\r\n',
        b"From: <>\r\n",
        b"From:\r\nSender: postmaster\r\n",
        b"From: System Admin. (St. Nicholas)\r\nReply-To: help@example.org\r\n",
        b"From mx Mon Sep 21 14:13:20 2026\r\nFrom: postmaster\r\n",
        b"From: MAILER-DAEMON\nTo: ann@example.org\n",
    ],
)
def test_a_from_that_names_nobody(header: bytes) -> None:
    assert author_domains(header) == ()
    assert claims_nobody(header)


@pytest.mark.parametrize(
    "value",
    [
        b"bank.test",
        b'"bank.test" <MAILER-DAEMON>',
        b"MAILER-DAEMON (ceo@bank.test)",
        b'"ceo@bank.test" <MAILER-DAEMON>',
        b"ceo (at) bank.test",
        b"ceo=40bank",
        b"=?utf-8?q?ceo=40bank=2Etest?=",
        b"=?utf-8?b?Y2VvQGJhbmsudGVzdA==?= <MAILER-DAEMON>",
        b"ceo&#64;bank&#46;test",
        b"ceo%bank",
        b"bank!ceo",
        b"<@bank:ceo>",
        b"ceo\\@bank",
        b"bank: ceo;",
        b"undisclosed:;",
        b"ceo, MAILER-DAEMON",
        b"MAILER-DAEMON;",
        b"<[192.0.2.1]>",
        b"a@",
        b"@",
        b"ceo\xef\xbc\xa0bank",  # a full-width at
        b"ceo\xc2\xa0",
        b"MAILER\0DAEMON",
        b"MAILER\x0bDAEMON",
        b"MAILER-DAEMON\rX",
    ],
)
def test_what_is_more_than_plain_words_claims_somebody(value: bytes) -> None:
    assert not claims_nobody(b"From: " + value + b"\r\n")
    for field in (b"Sender", b"Resent-From", b"resent-sender"):
        assert not claims_nobody(b"From: MAILER-DAEMON\r\n" + field + b": " + value + b"\r\n")


@pytest.mark.parametrize(
    "beside",
    [
        b"From: postmaster\r\n",
        b"FROM\t: ceo@bank.test\r\n",
        b"\xef\xbb\xbfFrom: ceo@bank.test\r\n",
        b" From: ceo@bank.test\r\n",
        b"From\0: ceo@bank.test\r\n",
        b"Fr\0om: ceo@bank.test\r\n",
        b"\x1b\x01From\x0e: ceo@bank.test\r\n",
        b"\x7fFrom\xa0: ceo@bank.test\r\n",
        b"X: x\rFrom: ceo@bank.test\r\n",
        b"X: x\x0cFrom: ceo@bank.test\r\n",
        b"X: x\r\n\tFrom: ceo@bank.test\r\n",
    ],
)
def test_nothing_beside_it_may_be_taken_for_another_from(beside: bytes) -> None:
    assert not claims_nobody(b"From: MAILER-DAEMON\r\n" + beside)
    assert not claims_nobody(beside + b"From: MAILER-DAEMON\r\n")


def test_without_a_from_nobody_is_claimed_by_no_field() -> None:
    assert not claims_nobody(b"")
    assert not claims_nobody(b"Sender: MAILER-DAEMON\r\n")
    assert not claims_nobody(b"no field\r\n\r\nFrom")


@pytest.mark.parametrize("unit", [b"\n", b"\xff", b"From\n", b"From:", b"a. ", b"\r\n ", b"\0", b"Sender: a\r\n"])
def test_to_claim_nobody_costs_little(unit: bytes) -> None:
    assert_linear(claims_nobody, lambda size: b"From: a\r\n" + unit * (size // len(unit)), 2000)


@on_loop
async def test_only_a_bounce_that_claims_nobody_has_no_result() -> None:
    found = await evaluate(ZoneResolver({}), (), (), (), dice=0, nobody=True)
    assert (found.word, found.disposition, found.is_malformed, found.authors) == ("none", "none", False, 0)
    other = await evaluate(ZoneResolver({}), (), (), (), dice=0)
    assert (other.word, other.is_malformed) == ("permerror", True)
    # It says nothing about a From that has a domain.
    forged = await evaluate(
        ZoneResolver(zone_of_text({"_dmarc.a.test": {"TXT": [STRICT]}})), ("a.test",), (), (), dice=0, nobody=True
    )
    assert (forged.word, forged.disposition) == ("fail", "reject")


parts = st.sampled_from(
    [
        *(
            b"From:",
            b"from :",
            b" ",
            b"\r\n",
            b"\r\n ",
            b"a@b.test",
            b"<",
            b">",
            b"@",
            b",",
            b";",
            b":",
            b'"',
            b"(",
            b")",
        ),
        *(b"\\", b"\xff", b"\xe3\x80\x82", b"[1.2.3.4]", b"\x00", b"=?utf-8?q?a?=", b".", b"xn--a", b"x" * 70, b"\n"),
    ]
)


@given(st.one_of(st.binary(max_size=300), st.lists(parts, max_size=40).map(b"".join)))
@example(b"From: " + b"(" * 50_000 + b"\r\n")
@example(b"From: " + b"a@b," * 20_000 + b"\r\n")
@example(b"From: a@" + b"b." * 30_000 + b"\r\n")
@example(b"From: a@" + "ß".encode() * 9_000 + b"\r\n")
@settings(deadline=None)
def test_no_from_breaks_the_reader(header: bytes) -> None:
    found = author_domains(header)
    claims_nobody(header)
    assert len(found) <= MAX_AUTHORS + 1
    assert all(name and len(name) <= 1_020 and name.isascii() and name.isprintable() for name in found)
    result = asyncio.run(evaluate(ZoneResolver({}), found, (), (), dice=0))
    assert result.word in ("none", "permerror")
    assert result.disposition == "none"


# Evaluation. p: the record of example.org; everything else that is in the DNS:
AROUND: dict[str, dict[str, list[str]]] = {
    "there.example.org": {"A": ["192.0.2.1"]},
    "alias.example.org": {"CNAME": ["gone.test"]},
    "below.deep.example.org": {"A": ["192.0.2.1"]},
    "_dmarc.own.example.org": {"TXT": ["v=DMARC1; p=quarantine; rua=mailto:own@example.org"]},
    "_dmarc.apart.example.org": {"TXT": ["v=DMARC1; p=reject; psd=n"]},
    "_dmarc.psd.test": {"TXT": ["v=DMARC1; p=reject; sp=quarantine; psd=y"]},
    "_dmarc.one.psd.test": {"TXT": ["v=DMARC1; p=reject"]},
    "_dmarc.broken.test": {"TXT": ["v=DMARC1; p=nothing"]},
    "_dmarc.two.test": {"TXT": ["v=DMARC1; p=reject", "v=DMARC1; p=none"]},
    "_dmarc.wish.test": {"TXT": ["v=DMARC1; p=nothing; rua=mailto:a@wish.test"]},
    "_dmarc.xn--bcher-kva.test": {"TXT": ["v=DMARC1; p=reject"]},
    "_dmarc.blogspot.com": {"TXT": ["v=DMARC1; p=quarantine"]},
}
DOWN = {"_dmarc.down.test": None, "_dmarc.sub.down.example.org": None, "_dmarc.maybe.example.org": None}


def spf(domain: str, result: Any = "pass", identity: Any = "mailfrom") -> spfs.Result:
    return spfs.Result(result, identity, domain)


def dkim(domain: str, word: Any = "pass") -> dkims.Result:
    return dkims.Result(word, "", domain, "s")


async def check(
    record: str, authors: str, *proved: spfs.Result | dkims.Result, dice: float = 0.5, down: tuple[str, ...] = ()
) -> Result:
    zone = dict(zone_of_text({**AROUND, **({"_dmarc.example.org": {"TXT": [record]}} if record else {})}))
    zone |= DOWN | dict.fromkeys(down)
    return await evaluate(
        ZoneResolver(zone),
        authors.split(),
        [one for one in proved if isinstance(one, spfs.Result)],
        [one for one in proved if isinstance(one, dkims.Result)],
        dice=dice,
    )


REJECT = "v=DMARC1; p=reject; sp=quarantine; np=none; rua=mailto:a@example.org!5m; ruf=mailto:b@example.org"
STRICT = "v=DMARC1; p=reject; adkim=s; aspf=s"

# record of example.org; From; what is proved; word, aligned ("s", "d"), policy, disposition
CASES: list[tuple[str, str, tuple[Any, ...], str, str, str, str]] = [
    # RFC 9989 section 4.4, appendix B.1
    (REJECT, "example.org", (spf("example.org"),), "pass", "s", "reject", "none"),
    (REJECT, "example.org", (spf("child.example.org"),), "pass", "s", "reject", "none"),
    (REJECT, "there.example.org", (spf("example.net"),), "fail", "", "quarantine", "quarantine"),
    (REJECT, "example.org", (dkim("example.org"),), "pass", "d", "reject", "none"),
    (REJECT, "there.example.org", (dkim("example.org"),), "pass", "d", "quarantine", "none"),
    (REJECT, "there.example.org", (dkim("example.net"),), "fail", "", "quarantine", "quarantine"),
    (REJECT, "there.example.org", (dkim("foo.example.org"),), "pass", "d", "quarantine", "none"),
    (STRICT, "example.org", (spf("example.org"), dkim("a.example.org")), "pass", "s", "reject", "none"),
    (STRICT, "example.org", (spf("a.example.org"), dkim("example.org")), "pass", "d", "reject", "none"),
    (STRICT, "example.org", (spf("a.example.org"), dkim("a.example.org")), "fail", "", "reject", "reject"),
    (STRICT, "a.example.org", (spf("example.org"), dkim("a.example.org")), "pass", "d", "reject", "none"),
    # Names are compared in any case
    (REJECT, "EXAMPLE.org", (spf("Example.Org."), dkim("A.EXAMPLE.ORG")), "pass", "sd", "reject", "none"),
    # Results that prove nothing
    (REJECT, "example.org", (), "fail", "", "reject", "reject"),
    *(
        (REJECT, "example.org", (spf("example.org", word),), "fail", "", "reject", "reject")
        for word in ("none", "neutral", "fail", "softfail", "permerror")
    ),
    *(
        (REJECT, "example.org", (dkim("example.org", word),), "fail", "", "reject", "reject")
        for word in ("fail", "neutral", "permerror", "policy")
    ),
    # One that passes is enough
    (REJECT, "example.org", (dkim("b.test"), dkim("c.test"), dkim("example.org")), "pass", "d", "reject", "none"),
    # HELO counts for an empty reverse-path only
    (REJECT, "example.org", (spf("example.org", "pass", "helo"), spf("b.test")), "fail", "", "reject", "reject"),
    (REJECT, "example.org", (spf("example.org", "pass", "helo"),), "pass", "s", "reject", "none"),
    # A temperror of what would have counted
    (REJECT, "example.org", (spf("example.org", "temperror"),), "temperror", "", "reject", "none"),
    (REJECT, "example.org", (dkim("a.example.org", "temperror"),), "temperror", "", "reject", "none"),
    (REJECT, "example.org", (dkim("b.test", "temperror"), spf("c.org", "temperror")), "fail", "", "reject", "reject"),
    (REJECT, "example.org", (dkim("example.org", "temperror"), spf("example.org")), "pass", "s", "reject", "none"),
    # sp, np, and whether a name exists
    (REJECT, "gone.example.org", (), "fail", "", "none", "none"),
    (REJECT, "a.gone.example.org", (), "fail", "", "none", "none"),
    (REJECT, "there.example.org", (), "fail", "", "quarantine", "quarantine"),
    (REJECT, "alias.example.org", (), "fail", "", "quarantine", "quarantine"),
    (REJECT, "deep.example.org", (), "fail", "", "quarantine", "quarantine"),  # there is a name below it
    ("v=DMARC1; p=none; np=reject", "gone.example.org", (), "fail", "", "reject", "reject"),
    ("v=DMARC1; p=none; np=reject", "example.org", (), "fail", "", "none", "none"),
    ("v=DMARC1; p=reject", "gone.example.org", (), "fail", "", "reject", "reject"),
    # A record of its own
    (REJECT, "own.example.org", (), "fail", "", "quarantine", "quarantine"),
    (REJECT, "own.example.org", (spf("example.org"),), "pass", "s", "quarantine", "none"),
    (REJECT, "apart.example.org", (spf("example.org"),), "fail", "", "reject", "reject"),
    (REJECT, "apart.example.org", (spf("x.apart.example.org"),), "pass", "s", "reject", "none"),
    (REJECT, "example.org", (spf("x.apart.example.org"),), "fail", "", "reject", "reject"),
    # appendix B.4.3
    ("", "one.psd.test", (spf("mail.one.psd.test"), dkim("mail.two.psd.test")), "pass", "s", "reject", "none"),
    ("", "one.psd.test", (spf("psd.test"), dkim("mail.two.psd.test")), "fail", "", "reject", "reject"),
    ("", "three.psd.test", (), "fail", "", "quarantine", "quarantine"),
    ("", "psd.test", (spf("psd.test"),), "pass", "s", "reject", "none"),
    # a public suffix that does not say that it is one
    ("", "ann.blogspot.com", (spf("bob.blogspot.com"), dkim("blogspot.com")), "fail", "", "quarantine", "quarantine"),
    ("", "ann.blogspot.com", (dkim("x.ann.blogspot.com"),), "pass", "d", "quarantine", "none"),
    # Testing and sampling (dice: 0.5)
    ("v=DMARC1; p=reject; t=y", "example.org", (), "fail", "", "reject", "quarantine"),
    ("v=DMARC1; p=quarantine; t=y", "example.org", (), "fail", "", "quarantine", "none"),
    ("v=DMARC1; p=none; t=y", "example.org", (), "fail", "", "none", "none"),
    ("v=DMARC1; p=reject; pct=0", "example.org", (), "fail", "", "reject", "quarantine"),
    ("v=DMARC1; p=reject; pct=50", "example.org", (), "fail", "", "reject", "quarantine"),
    ("v=DMARC1; p=reject; pct=51", "example.org", (), "fail", "", "reject", "reject"),
    ("v=DMARC1; p=quarantine; pct=20", "example.org", (), "fail", "", "quarantine", "none"),
    ("v=DMARC1; p=reject; pct=20; t=n", "example.org", (), "fail", "", "reject", "reject"),
    # No record, and records that cannot be used
    ("", "example.org", (spf("example.org"),), "none", "", "", "none"),
    ("", "two.test", (), "none", "", "", "none"),
    ("", "broken.test", (spf("broken.test"),), "permerror", "", "", "none"),
    ("", "wish.test", (), "fail", "", "none", "none"),
    ("", "wish.test", (spf("wish.test"),), "pass", "s", "none", "none"),
    # EAI
    ("", "bücher.test", (dkim("xn--bcher-kva.test"),), "pass", "d", "reject", "none"),
    # No domain
    (REJECT, "", (spf("example.org"),), "permerror", "", "", "none"),
    (REJECT, "a..b", (spf("example.org"),), "permerror", "", "", "none"),
    (REJECT, "[192.0.2.1]", (spf("[192.0.2.1]"),), "none", "", "", "none"),
    (REJECT, "localhost", (), "none", "", "", "none"),
    # The DNS does not answer
    ("", "down.test", (spf("down.test"),), "temperror", "", "", "none"),
    ("", "sub.down.test", (spf("sub.down.test"),), "temperror", "", "", "none"),
    (REJECT, "example.org", (spf("maybe.example.org"),), "temperror", "", "reject", "none"),
    (REJECT, "example.org", (spf("maybe.example.org"), dkim("example.org")), "pass", "d", "reject", "none"),
    # Several authors
    (REJECT, "example.org one.psd.test", (spf("example.org"),), "fail", "", "reject", "reject"),
    (REJECT, "example.org one.psd.test", (spf("example.org"), dkim("one.psd.test")), "pass", "s", "reject", "none"),
    (REJECT, "own.example.org one.psd.test", (), "fail", "", "reject", "reject"),
    (REJECT, "evil.test example.org", (spf("evil.test"),), "fail", "", "reject", "reject"),
    (REJECT, "evil.test example.org", (spf("example.org"),), "none", "", "", "none"),
    (REJECT, "a..b example.org", (spf("example.org"),), "permerror", "", "", "none"),
    (REJECT, "a..b example.org", (spf("b.test"),), "fail", "", "reject", "reject"),
    (REJECT, "down.test example.org", (spf("b.test"),), "fail", "", "reject", "reject"),
    (REJECT, "down.test example.org", (spf("example.org"),), "temperror", "", "", "none"),
    (REJECT, "example.org " * (MAX_AUTHORS + 1), (spf("example.org"),), "permerror", "", "", "none"),
    (REJECT, "example.org " * (MAX_AUTHORS + 1), (), "fail", "", "reject", "reject"),
]  # fmt: skip


@pytest.mark.parametrize(("record", "authors", "proved", "word", "aligned", "policy", "disposition"), CASES)
@on_loop
async def test_results(
    record: str, authors: str, proved: tuple[Any, ...], word: str, aligned: str, policy: str, disposition: str
) -> None:
    found = await check(record, authors, *proved)
    said = "s" * found.aligned_spf + "d" * found.aligned_dkim
    assert (found.word, said, found.policy, found.disposition) == (word, aligned, policy, disposition), found.because
    assert found.because
    assert found.authors == len(authors.split())
    assert found.is_malformed is (word == "permerror" and found.published is None)


@on_loop
async def test_what_a_result_holds() -> None:
    found = await check(REJECT, "there.example.org", spf("b.test"), dkim("bounce.example.org", "fail"))
    assert found._replace(because=(), lookups=(), published=None) == Result(
        "fail",
        "there.example.org",
        "quarantine",
        "quarantine",
        "example.org",
        "example.org",
        REJECT,
        rua=("mailto:a@example.org",),
        ruf=("mailto:b@example.org",),
    )
    assert found.published is not None
    assert found.published.rua[0].limit == 5 << 20
    assert [(one.name, one.kind, one.failure) for one in found.lookups] == [
        ("_dmarc.there.example.org", "TXT", "no such domain"),
        ("_dmarc.example.org", "TXT", ""),
        ("_dmarc.org", "TXT", "no such domain"),
        ("there.example.org", "CNAME", ""),
        ("there.example.org", "A", ""),
    ]
    assert found.because == (
        "the record of example.org applies to there.example.org",
        "SPF proves b.test, but it is of another organization",
        "no domain that SPF or DKIM proves belongs to there.example.org: it asks for quarantine",
    )


@pytest.mark.parametrize(
    ("record", "dice", "disposition", "override"),
    [
        ("v=DMARC1; p=reject; t=y", 0.0, "quarantine", "policy_test_mode"),
        ("v=DMARC1; p=reject; pct=0", 0.0, "quarantine", "policy_test_mode"),
        ("v=DMARC1; p=reject; pct=30", 0.29, "reject", ""),
        ("v=DMARC1; p=reject; pct=30", 0.3, "quarantine", "sampled_out"),
        ("v=DMARC1; p=reject; pct=100", 0.9999, "reject", ""),
        ("v=DMARC1; p=none; pct=1", 0.9999, "none", ""),
    ],
)
@on_loop
async def test_dice(record: str, dice: float, disposition: str, override: str) -> None:
    found = await check(record, "example.org", dice=dice)
    assert (found.disposition, found.override) == (disposition, override)


@on_loop
async def test_whether_a_name_exists_may_not_be_known() -> None:
    record = "v=DMARC1; p=reject; np=none"
    found = await check(record, "lost.example.org", down=("lost.example.org",))
    assert (found.word, found.policy, found.disposition) == ("temperror", "none", "none")
    found = await check(record, "lost.example.org", spf("example.org"), down=("lost.example.org",))
    assert (found.word, found.policy) == ("pass", "none")
    found = await check("v=DMARC1; p=reject", "lost.example.org", down=("lost.example.org",))
    assert (found.word, found.policy) == ("fail", "reject")


class Counting:
    """A resolver that counts, and may never answer for some names."""

    def __init__(self, beyond: ZoneResolver, silent: str = "") -> None:
        self._beyond = beyond
        self._silent = silent
        self.asked: list[tuple[str, str]] = []

    async def answer(self, name: str, kind: str) -> Answer:
        self.asked.append((name, kind))
        if self._silent and name.endswith(self._silent):
            await asyncio.get_running_loop().create_future()
        return await self._beyond.answer(name, kind)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._beyond, name)


@on_loop
async def test_a_domain_with_a_record_that_proves_itself_costs_one_question() -> None:
    resolver = Counting(ZoneResolver(zone_of_text({"_dmarc.example.org": {"TXT": [REJECT]}})))
    proved = [dkim("example.org"), dkim("elsewhere.test")]
    assert (await evaluate(resolver, ["example.org"], [], proved, dice=0)).word == "pass"
    assert resolver.asked == [("_dmarc.example.org", "TXT")]


@on_loop
async def test_hostile_signatures_cost_little() -> None:
    resolver = Counting(ZoneResolver(zone_of_text({"_dmarc.example.org": {"TXT": [REJECT]}})))
    proved = [dkim(f"{number}.a.b.c.d.e.f.g.h.example.org") for number in range(200)]
    authors = [f"{number}.x.y.z.u.v.w.example.org" for number in range(MAX_AUTHORS)]
    found = await evaluate(resolver, authors, [], proved, dice=0)
    assert found.word == "pass"
    assert len(set(resolver.asked)) < 60
    assert len(resolver.asked) < 150  # authors are looked at side by side; a resolver with a cache asks once
    assert len(found.because) <= 40


@on_loop
async def test_a_dns_that_never_answers_ends_in_time() -> None:
    zone = ZoneResolver(zone_of_text({"_dmarc.example.org": {"TXT": [REJECT]}}))
    found = await evaluate(Counting(zone, "example.org"), ["example.org"], [], [], dice=0, patience=0.01)
    assert (found.word, found.because) == ("temperror", ("the DNS took longer than 0.01 s",))
    # A slow one hides no other.
    both = ["slow.test", "example.org"]
    found = await evaluate(Counting(zone, "slow.test"), both, [], [], dice=0, patience=0.5)
    assert (found.word, found.domain, found.disposition) == ("fail", "example.org", "reject")


names = st.builds(
    lambda labels, end: ".".join([*labels, end]),
    st.lists(st.sampled_from(["a", "b", "c"]), max_size=9),
    st.sampled_from(["x.test", "x.test", "y.test"]),
)
records = st.sampled_from(
    ["v=DMARC1; p=reject", "v=DMARC1; p=none; sp=reject; psd=y", "v=DMARC1; psd=n; p=quarantine; t=y", "v=DMARC1;", "x"]
)


@given(
    st.dictionaries(names, st.one_of(st.none(), records), max_size=6),
    st.lists(names, min_size=1, max_size=3),
    st.lists(st.tuples(names, st.sampled_from(["pass", "fail", "temperror"])), max_size=5),
    st.floats(0, 1),
)
def test_whatever_is_in_the_dns(
    zone: dict[str, str | None], authors: list[str], signed: list[tuple[str, str]], dice: float
) -> None:
    table = {f"_dmarc.{name}": None if said is None else {"TXT": [said.encode()]} for name, said in zone.items()}
    proved = [dkim(*one) for one in signed]
    found = asyncio.run(evaluate(ZoneResolver(table), authors, [], proved, dice=dice))
    assert found.word in WORDS
    strength = ["none", "quarantine", "reject"].index
    assert strength(found.disposition) <= strength(found.policy or "none")
    if found.word != "fail":
        assert found.disposition == "none"
    if found.word == "pass":
        assert found.aligned_dkim
        ends = {name[-6:] for name, word in signed if word == "pass"}
        assert all(any(author.endswith(end) for end in ends) for author in authors)
    if not any(word == "temperror" for _, word in signed) and None not in zone.values():
        assert found.word != "temperror"
    assert len({(one.name, one.kind) for one in found.lookups}) == len(found.lookups)


def test_an_unavailable_answer_is_no_exception() -> None:
    class Broken(ZoneResolver):
        async def answer(self, name: str, kind: str) -> Answer:
            raise Unavailable("no")

    found = asyncio.run(evaluate(Broken({}), ["example.org"], [spf("example.org")], [], dice=0))
    assert found.word == "temperror"


def test_no_author_hides_another() -> None:
    """Who may be refused, or cannot be read, counts, whatever domain of the sender stands beside."""
    zone = {
        "_dmarc.lax.test": {"TXT": [b"v=DMARC1; p=none"]},
        "_dmarc.down.test": None,
        "_dmarc.bank.test": {"TXT": [b"v=DMARC1; p=reject"]},
        "_dmarc.lame.bank.test": None,
    }

    def judged(*authors: str) -> Result:
        return asyncio.run(evaluate(ZoneResolver(zone), authors, [], [], dice=0.5))

    for beside in ("lax.test", "down.test", "plain.test"):
        for order in (1, -1):
            assert judged(*(beside, "bank.test\\x00")[::order]).is_malformed
            assert judged(*(beside, "bank.test")[::order])[:4] == ("fail", "bank.test", "reject", "reject")
            assert judged(*(beside, "lame.bank.test")[::order])[:3] == ("temperror", "lame.bank.test", "reject")
    assert judged("lax.test", "down.test")[:3] == ("fail", "lax.test", "none")


def test_below_name_servers_that_are_down_the_domain_above_tells_what_it_asks_for() -> None:
    zone = {
        "_dmarc.bank.test": {"TXT": [b"v=DMARC1; p=none; sp=reject"]},
        "_dmarc.lame.bank.test": None,
        "_dmarc.down.test": None,
    }

    def judged(author: str) -> Result:
        return asyncio.run(evaluate(ZoneResolver(zone), [author], [], [], dice=0.5))

    found = judged("lame.bank.test")
    assert (found.word, found.policy, found.disposition) == ("temperror", "reject", "none")
    assert found.policy_domain == "bank.test"
    assert judged("x.lame.bank.test")[:3] == ("temperror", "x.lame.bank.test", "reject")
    assert judged("down.test").policy == ""

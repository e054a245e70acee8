"""DMARC records: which is one, what it says, what is wrong with it."""

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from posthouse.senderauth import dmarc_record
from posthouse.senderauth.dmarc_record import MAX_RECORD, Record, Uri, explain, parse, select

ONE = (Uri("mailto:a@example.org"),)


@pytest.mark.parametrize(
    ("value", "is_one"),
    [
        (b"v=DMARC1", True),
        (b"v=DMARC1;", True),
        (b"v=DMARC1; p=none", True),
        (b"v = DMARC1 ;p=none", True),
        (b"V=DMARC1;p=none", True),
        (b"v=dmarc1; p=none", False),
        (b"v=DMARC10; p=none", False),
        (b"v=DMARC1 p=none", False),
        (b" v=DMARC1; p=none", False),
        (b"p=none; v=DMARC1", False),
        (b"v=DMARC2; p=none", False),
        (b"v=spf1 -all", False),
        (b"", False),
    ],
)
def test_which_record_is_one(value: bytes, is_one: bool) -> None:
    assert select([b"something else", value]) == ([value] if is_one else [])


CASES: list[tuple[str, dict[str, Any]]] = [
    ("p=none", {"p": "none"}),
    ("p=quarantine", {"p": "quarantine"}),
    (" P = Reject ", {"p": "reject"}),
    ("p=", {}),
    ("p=rejected", {}),
    ("p=none;sp=quarantine;np=reject", {"p": "none", "sp": "quarantine", "np": "reject"}),
    ("p=none; sp=x", {"p": "none", "broken": True}),
    ("p=none; np=", {"p": "none", "broken": True}),
    ("p=none; adkim=s; aspf=S", {"p": "none", "adkim": "s", "aspf": "s"}),
    ("p=none; adkim=strict; aspf=", {"p": "none"}),
    ("p=none; psd=y", {"p": "none", "psd": "y"}),
    ("p=none; psd=n; t=y", {"p": "none", "psd": "n", "t": "y"}),
    ("p=none; psd=x; t=1", {"p": "none"}),
    ("p=none; pct=0", {"p": "none", "pct": 0}),
    ("p=none; pct=100", {"p": "none", "pct": 100}),
    ("p=none; pct=101", {"p": "none"}),
    ("p=none; pct=-1", {"p": "none"}),
    ("p=none; pct=٥", {"p": "none"}),
    ("p=none; pct=5%", {"p": "none"}),
    ("p=none; ri=3600; rf=iodef; foo=bar", {"p": "none"}),
    ("p=none; fo=1:d:s; ruf=mailto:a@example.org", {"p": "none", "fo": ("1", "d", "s"), "ruf": ONE}),
    ("p=none; fo=s:0", {"p": "none", "fo": ("s", "0")}),
    ("p=none; fo=0:1", {"p": "none"}),
    ("p=none; fo=x", {"p": "none"}),
    ("p=none; rua=mailto:a@example.org", {"p": "none", "rua": ONE}),
    ("rua = mailto:a@example.org", {"rua": ONE}),
    (
        "p=none; rua=mailto:a@example.org!10m , https://example.org/r",
        {"p": "none", "rua": (Uri("mailto:a@example.org", 10 << 20), Uri("https://example.org/r"))},
    ),
    ("p=none; rua=mailto:a@example.org!7,x,mailto:b", {"p": "none", "rua": (Uri(ONE[0].uri, 7), Uri("mailto:b"))}),
    ("p=none; rua=a@example.org", {"p": "none"}),
    ("p=none; rua=mailto:a b@example.org", {"p": "none"}),
    ("p=none; rua=mailto:a%2cb@example.org", {"p": "none", "rua": (Uri("mailto:a%2cb@example.org"),)}),
    ("p=none; rua=mailto:a!b@example.org", {"p": "none"}),
    ("p=none; rua=", {"p": "none"}),
    ("p=none; p=reject", {"p": "none"}),
    ("p=none;; ;", {"p": "none"}),
    ("\r\n\tp =\tnone\r\n;\n sp=reject", {"p": "none", "sp": "reject"}),
    ("p=none\x00", {}),
    ("reject; p=none", {"p": "none"}),
    ("=reject; p=none", {"p": "none"}),
    ("p=none; sp=reject" + ";x=y" * 70 + "; np=reject", {"p": "none", "sp": "reject"}),
    ("p=none; rua=" + ",".join(["mailto:a@example.org"] * 30), {"p": "none", "rua": ONE * 10}),
    ("p=none; rua=mailto:" + "a" * 600, {"p": "none"}),
    ("p=none; x=" + "y" * MAX_RECORD + "; sp=reject", {"p": "none"}),
]
FINE = {"p=none", "p=quarantine", " P = Reject ", "p=none;sp=quarantine;np=reject", "p=none; psd=y", "p=none;; ;"}


@pytest.mark.parametrize(("tags", "expected"), CASES, ids=[tags[:40] for tags, _ in CASES])
def test_what_a_record_says(tags: str, expected: dict[str, Any]) -> None:
    found = parse(f"v=DMARC1;{tags}".encode())
    assert found._replace(mistakes=()) == Record(**expected)
    if tags in FINE:
        assert not found.mistakes


@pytest.mark.parametrize(
    ("tags", "mistake"),
    [
        ("p=rejected", "p=rejected is not none, quarantine or reject"),
        ("", "p= is missing"),
        ("p=none; rua=a@example.org", "'a@example.org' is no URI: write mailto: before it"),
        ("p=none; p=reject", "p= is there twice; the first counts"),
        ("p=none; ri=1", "ri= is of RFC 7489, and ignored: reports come once a day"),
        ("p=none; pct=5", "pct= is of RFC 7489: t=y says that a policy is only tried"),
        ("p=none; reject", "'reject' is no tag"),
        ("p=none; foo=1", "foo= is no tag of DMARC, and ignored"),
        ("p=none; sp=", "as a policy cannot be read, it is none for all of the domain"),
        ("p=none; fo=1", "fo= means nothing without ruf="),
    ],
)
def test_mistakes_are_told(tags: str, mistake: str) -> None:
    assert mistake in parse(f"v=DMARC1;{tags}".encode()).mistakes


# p, sp, np; policy for the domain, for a name below it, for one that does not exist
@pytest.mark.parametrize(
    ("tags", "own", "below", "absent"),
    [
        ("p=reject", "reject", "reject", "reject"),
        ("p=reject; sp=none", "reject", "none", "none"),
        ("p=none; np=reject", "none", "none", "reject"),
        ("p=reject; sp=none; np=quarantine", "reject", "none", "quarantine"),
        ("p=reject; sp=x", "none", "none", "none"),
        ("sp=reject; rua=mailto:a@example.org", "none", "none", "none"),
    ],
)
def test_which_policy_is_for_whom(tags: str, own: str, below: str, absent: str) -> None:
    found = parse(f"v=DMARC1;{tags}".encode())
    assert (found.policy(False), found.policy(True), found.policy(True, exists=False)) == (own, below, absent)


@pytest.mark.parametrize(
    ("tags", "usable", "testing", "percent"),
    [
        ("p=reject", True, False, 100),
        ("p=reject; t=y", True, True, 100),
        ("p=reject; pct=0", True, True, 0),
        ("p=reject; pct=30", True, False, 30),
        ("p=reject; pct=30; t=n", True, False, 100),
        ("p=reject; sp=x", False, False, 100),
        ("p=reject; sp=x; rua=mailto:a@example.org", True, False, 100),
        ("", False, False, 100),
        ("rua=mailto:a@example.org", True, False, 100),
        ("rua=nonsense", False, False, 100),
    ],
)
def test_whether_a_record_is_meant(tags: str, usable: bool, testing: bool, percent: int) -> None:
    found = parse(f"v=DMARC1;{tags}".encode())
    assert (found.usable, found.testing, found.percent) == (usable, testing, percent)


def test_a_record_in_words() -> None:
    said = explain(b"v=DMARC1; p=reject; sp=x; np=none; adkim=s; rua=mailto:a@example.org; pct=7; ri=1; fo=1:s")
    assert [(line.tag, line.meaning) for line in said] == [
        ("v", "this is a DMARC record"),
        ("p", "mail that fails, from the domain: it is to be refused"),
        ("sp", "not none, quarantine or reject: ignored"),
        ("np", "mail that fails, from names below it that do not exist: nothing happens"),
        ("adkim", "DKIM counts with the very domain of From"),
        ("rua", "daily reports go to mailto:a@example.org"),
        ("pct", "the policy is meant for 7 messages in 100, the next milder one for the others"),
        ("ri", "is of RFC 7489, and ignored: reports come once a day"),
        ("fo", "a failure report when one of SPF and DKIM fails, or when SPF fails"),
        ("aspf", "not said: SPF counts with any domain of the organization"),
    ]


pieces = st.sampled_from(
    [
        *(
            "v=DMARC1",
            ";",
            "=",
            " ",
            "p",
            "sp=",
            "np=reject",
            "none",
            "rua=",
            "mailto:a@example.org",
            "!10m",
            ",",
            "\x00",
        ),
        *("fo=", "0:1:d", "pct=", "100", "é", "\\", "psd=y", "t=y", "%", "p=reject", ";;"),
    ]
)


@given(st.one_of(st.binary(max_size=300), st.lists(pieces, max_size=25).map(lambda some: "".join(some).encode())))
@example(b"v=DMARC1;" * 2000)
@example(b"v=DMARC1;rua=" + b"mailto:a," * 7000)
@example(b"v=DMARC1;" + b"a" * 65_000 + b"=")
@example(b"v=DMARC1;fo=" + b":" * 60_000)
def test_no_record_breaks_the_reader(value: bytes) -> None:
    found = parse(value)
    policies = {"none", "quarantine", "reject"}
    assert {found.policy(False), found.policy(True), found.policy(True, exists=False)} <= policies
    assert 0 <= found.percent <= 100
    assert found.adkim in "rs"
    assert found.psd in "ynu"
    assert len(found.rua) <= 10
    assert all("!" not in one.uri and "," not in one.uri and len(one.uri) <= 512 for one in found.rua + found.ruf)
    assert len(found.mistakes) <= 100
    assert sum(map(len, found.mistakes)) < 20_000
    assert all(mistake.isprintable() for mistake in found.mistakes)
    assert all(line.meaning for line in explain(value))
    assert dmarc_record.select([value]) in ([], [value])

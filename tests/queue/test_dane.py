"""Which TLSA records count, and which certificates fit them. With openssl as a second opinion, if it is there."""

import asyncio
import hashlib
import random
from typing import NamedTuple

import pytest
from cryptography.x509 import Certificate

from posthouse.net.dns import Tlsa
from posthouse.queue import certificates as reading
from posthouse.queue.certificates import Malformed, covers, parse, spki
from posthouse.queue.dane import MOST_RECORDS, Match, check, usable
from tests.net.test_tls_sessions import server
from tests.support.certificates import NOW, Pair, context_of, issue
from tests.support.clients import client
from tests.support.loop import on_loop

DAY = 86_400 * 1_000_000
TA = issue("Some CA", None)
MIDDLE = issue("Some middle", TA, authority=True)
LEAF = issue("mx.a.test", MIDDLE)
CHAIN = (LEAF, MIDDLE, TA)
NAMES = ("mx.a.test", "a.test")


def record(pair: Pair, usage: int = 3, selector: int = 1, matching: int = 1) -> Tlsa:
    data = pair.key_der if selector else pair.der
    if matching:
        data = (hashlib.sha256 if matching == 1 else hashlib.sha512)(data).digest()
    return Tlsa(usage, selector, matching, data)


def judged(records: list[Tlsa], chain: tuple[Pair, ...], names: tuple[str, ...] = NAMES, now: int = NOW) -> Match:
    return check(usable(records), [one.der for one in chain], names, now)


@pytest.mark.parametrize("selector", [0, 1])
@pytest.mark.parametrize("matching", [0, 1, 2])
def test_every_kind_of_record(selector: int, matching: int) -> None:
    end = record(LEAF, 3, selector, matching)
    assert judged([end], CHAIN) == Match(True, f"DANE-EE matched 3 {selector} {matching}")
    assert judged([end], (LEAF,), names=("other.test",), now=NOW + 9999 * DAY).ok  # no names, no dates
    other = judged([end], (issue("mx.a.test", MIDDLE), MIDDLE))
    assert (other.ok, other.result) == (False, "validation-failure")
    for above in (MIDDLE, TA):
        anchor = record(above, 2, selector, matching)
        assert judged([anchor], CHAIN) == Match(True, f"DANE-TA matched 2 {selector} {matching}")
        assert not judged([anchor._replace(usage=3)], CHAIN).ok  # it is not the server's own
    assert not judged([end._replace(usage=2)], CHAIN).ok  # it is not above the server's


class Case(NamedTuple):
    why: str
    records: list[Tlsa]
    chain: tuple[Pair, ...]
    result: str = ""  # "": it is accepted
    names: tuple[str, ...] = NAMES
    oracle: bool = True  # openssl is asked, too


def _case(why: str, result: str = "", *, leaf: Pair = LEAF, middle: Pair = MIDDLE, **options: object) -> Case:
    """With `leaf` under `middle` under TA, and a record for TA."""
    values: dict[str, object] = {"records": [record(TA, 2)], "chain": (leaf, middle, TA), "result": result} | options
    return Case(why, **values)  # type: ignore[arg-type]


def _below(**options: object) -> Pair:
    return issue("Some middle", TA, authority=True, **options)  # type: ignore[arg-type]


_SHORT = _below(path_length=0)
_DEEPER = issue("Deeper", _SHORT, authority=True)
_BOUND = _below(permitted=("a.test",))
_BARRED = _below(excluded=("mx.a.test",))
_NO_CA = issue("Some middle", TA)
_OLD = _below(expired=True)
_WIDE = issue("x", MIDDLE, names=("*.test",))
_OTHER = issue("mx.a.test", MIDDLE, names=("b.test",))
_FORGED = issue("Some middle", TA, authority=True, signed_by=issue("Nobody", None))

CASES = [
    _case("an anchor in the chain"),
    _case("the order of the rest of the chain does not matter", chain=(LEAF, TA, MIDDLE)),
    _case("another certificate in between", chain=(LEAF, issue("Stranger", None), MIDDLE, TA)),
    _case("an anchor that is not sent", "validation-failure", chain=(LEAF, MIDDLE)),
    _case("an anchor that is in the record", records=[record(TA, 2, 0, 0)], chain=(LEAF, MIDDLE)),
    _case("a key that is in the record", records=[record(TA, 2, 1, 0)], chain=(LEAF, MIDDLE)),
    _case(
        "a key in the record of another", "validation-failure", records=[record(LEAF, 2, 1, 0)], chain=(LEAF, MIDDLE)
    ),
    _case("a middle that is missing", "validation-failure", chain=(LEAF, TA)),
    _case("the middle as the anchor", records=[record(MIDDLE, 2, 0, 2)], chain=(LEAF, MIDDLE)),
    _case("the name of the next hop", leaf=issue("a.test", MIDDLE)),
    _case("a wildcard", leaf=issue("x", MIDDLE, names=("*.a.test",))),
    _case(
        "a wildcard is one label",
        "certificate-host-mismatch",
        leaf=issue("x", MIDDLE, names=("*.test",)),
        names=NAMES[:1],
    ),
    _case("another name", "certificate-host-mismatch", leaf=issue("mx.b.test", MIDDLE)),
    _case("the common name, without others", leaf=issue("mx.a.test", MIDDLE, names=())),
    _case(
        "the common name, beside others",
        "certificate-host-mismatch",
        leaf=issue("mx.a.test", MIDDLE, names=("b.test",)),
    ),
    _case("a server's that has ended", "certificate-expired", leaf=issue("mx.a.test", MIDDLE, expired=True)),
    _case("a middle that has ended", "certificate-expired", leaf=issue("mx.a.test", _OLD), middle=_OLD),
    _case("a middle that is no CA", "certificate-not-trusted", leaf=issue("mx.a.test", _NO_CA), middle=_NO_CA),
    _case("a signature that is not the CA's", "validation-failure", leaf=issue("mx.a.test", _FORGED), middle=_FORGED),
    _case("a path as long as allowed", leaf=issue("mx.a.test", _SHORT), middle=_SHORT),
    _case(
        "a path that is longer",
        "certificate-not-trusted",
        chain=(issue("mx.a.test", _DEEPER), _DEEPER, _SHORT, TA),
    ),
    _case("within the bounds of names", leaf=issue("mx.a.test", _BOUND), middle=_BOUND),
    _case(
        "out of the bounds of names",
        "certificate-not-trusted",
        leaf=issue("mx.b.test", _BOUND),
        middle=_BOUND,
        names=("mx.b.test",),
    ),
    _case("a name that is excluded", "certificate-not-trusted", leaf=issue("mx.a.test", _BARRED), middle=_BARRED),
    _case("a certificate for clients", "certificate-not-trusted", leaf=issue("mx.a.test", MIDDLE, for_clients=True)),
    _case("a critical extension", "certificate-not-trusted", leaf=issue("mx.a.test", MIDDLE, strange=True)),
    _case("one of two records", records=[record(TA, 3), record(MIDDLE, 2)]),
    _case(
        "the stronger digest alone counts", "validation-failure", records=[record(LEAF, 3, 1, 1), record(TA, 3, 1, 2)]
    ),
    _case("digests of different selectors", records=[record(LEAF, 3, 1, 1), record(TA, 3, 0, 2)]),
    _case("the full key counts beside a digest", records=[record(LEAF, 3, 1, 0), record(TA, 3, 1, 2)]),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.why)
def test_cases(case: Case) -> None:
    match = judged(case.records, case.chain, case.names)
    assert (match.ok, match.result) == (not case.result, case.result), match.text


@on_loop
async def test_openssl_says_the_same() -> None:
    openssl, different = client("openssl"), []
    for case in CASES:
        async with server(context_of(case.chain[0], *case.chain[1:])) as port:
            options = ["-dane_tlsa_domain", case.names[0], "-dane_ee_no_namechecks"]
            for one in case.records:
                options += ["-dane_tlsa_rrdata", f"{one} {one.data.hex()}"]
            # s_client knows one name; the others it takes as names to accept as well.
            if case.why == "the name of the next hop":
                continue
            running = await asyncio.create_subprocess_exec(
                *(openssl, "s_client", "-connect", f"127.0.0.1:{port}", "-verify_return_error", "-brief", *options),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
            )
            said, _ = await running.communicate()
        if (b"Verification: OK" in said) is not (not case.result):
            different.append((case.why, said.decode()))
    assert not different


def test_records_that_nobody_can_use() -> None:
    good = record(LEAF)
    bad = [
        good._replace(usage=0),
        good._replace(usage=1),  # PKIX-TA, PKIX-EE (RFC 7672 section 3.1.3)
        good._replace(usage=4),
        good._replace(usage=255),
        good._replace(selector=2),
        good._replace(matching=3),
        good._replace(data=b""),
        good._replace(data=good.data[:31]),
        good._replace(matching=2),
        good._replace(matching=0, data=b""),
        good._replace(matching=0, data=b"no DER"),
    ]
    assert usable(bad) == ()
    assert usable([*bad, good, good]) == (good,)
    many = [good._replace(data=number.to_bytes(32, "big")) for number in range(MOST_RECORDS + 10)]
    assert len(usable(many)) == MOST_RECORDS


def test_without_usable_records_tls_alone_is_wanted() -> None:
    assert check((), [], NAMES, NOW).ok
    nothing = check((record(LEAF),), [], NAMES, NOW)
    assert (nothing.ok, nothing.result) == (False, "validation-failure")


def test_the_words_say_what_is_wrong() -> None:
    text = judged([record(TA, 2)], (issue("mx.b.test", MIDDLE), MIDDLE, TA)).text
    assert text == "DANE: the certificate is for mx.b.test, wanted is mx.a.test or a.test"
    assert "ended on 20" in judged([record(TA, 2)], (issue("mx.a.test", MIDDLE, expired=True), MIDDLE, TA)).text
    assert "no TLSA record (3 1 1, 2 0 2)" in judged([record(TA), record(LEAF, 2, 0, 2)], CHAIN).text


def test_a_certificate_that_is_not_yet_good() -> None:
    match = judged([record(TA, 2)], CHAIN, now=NOW - 20 * DAY)
    assert (match.ok, match.result) == (False, "certificate-not-trusted")
    assert "begins on" in match.text


def test_the_key_is_cut_out_as_it_stands() -> None:
    for pair in CHAIN:
        assert spki(pair.der) == pair.key_der


@pytest.mark.filterwarnings("ignore")  # the library warns of serial numbers that are not positive
def test_hostile_certificates_are_refused_and_nothing_else() -> None:
    """Cut off and with flipped bits: no error but ours, and never a match by accident."""
    chance = random.Random(4)
    records = (record(LEAF, 3, 0, 1), record(TA, 2, 0, 0), record(TA, 2, 1, 0), record(MIDDLE, 2))
    for step in range(1500):
        if step < 500:
            bad = LEAF.der[: chance.randrange(len(LEAF.der))]
        else:
            mutable = bytearray(LEAF.der)
            for _ in range(chance.randint(1, 3)):
                mutable[chance.randrange(len(mutable))] ^= 1 << chance.randrange(8)
            bad = bytes(mutable)
        if bad == LEAF.der:
            continue
        for reader in (spki, parse):
            try:
                reader(bad)
            except Malformed:
                pass
        assert not check(records, [bad, MIDDLE.der, TA.der], NAMES, NOW).ok
        check(records, [LEAF.der, bad, bad], NAMES, NOW)


def test_der_that_lies_about_its_length() -> None:
    for bad in (
        b"",
        b"\x30",
        b"\x30\x80",
        b"\x30\x85\x01\x01\x01\x01\x01",
        b"\x30\x84\xff\xff\xff\xff\x30",
        b"\x30\x02\x30\x00",
    ):
        with pytest.raises(Malformed):
            spki(bad)


def test_the_search_for_a_path_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Certificates of one name that could all have issued each other: the number of signatures checked is small."""
    checked = 0
    real = reading._issued

    def counted(*both: Certificate) -> bool:
        nonlocal checked
        checked += 1
        return real(*both)

    monkeypatch.setattr(reading, "_issued", counted)
    key = issue("Same", None)
    same = [issue("Same", key, authority=True, signed_by=key) for _ in range(30)]
    # Every one is signed by the same key, so each names each as its issuer.
    leaf = issue("mx.a.test", same[0])
    match = check((record(TA, 2, 0, 0),), [leaf.der, *(one.der for one in same)], NAMES, NOW)
    assert not match.ok
    assert 0 < checked <= reading._MOST_CHECKS


@pytest.mark.parametrize(
    ("pattern", "name", "fits"),
    [
        ("mx.a.test", "mx.a.test", True),
        ("*.a.test", "mx.a.test", True),
        ("*.a.test", "a.test", False),
        ("*.a.test", "x.mx.a.test", False),
        ("*.a.test", ".a.test", False),
        ("m*.a.test", "mx.a.test", False),
        ("*", "test", False),
        ("", "", False),
        ("mx.*.test", "mx.a.test", False),
    ],
)
def test_patterns(pattern: str, name: str, fits: bool) -> None:
    assert covers(pattern, name) is fits

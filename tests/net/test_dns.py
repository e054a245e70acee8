"""The resolvers: what they answer, how long they keep it, and how they tell "no" from "not now"."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from posthouse.net import dns as dns_module
from posthouse.net.dns import (
    Answer,
    NoSuchDomain,
    SystemResolver,
    Tlsa,
    Unavailable,
    ZoneResolver,
    normal,
    reverse_name,
    side_by_side,
    zone_of_text,
)
from tests.support.clock import FakeClock
from tests.support.loop import on_both_loops, on_loop
from tests.support.nameserver import NameServer, Table


@asynccontextmanager
async def asked(
    table: Table, ttl: int = 300, **options: float
) -> AsyncIterator[tuple[SystemResolver, NameServer, FakeClock]]:
    server, clock = NameServer(table, ttl), FakeClock()
    port = await server.start()
    try:
        yield SystemResolver(clock, ["127.0.0.1"], port=port, **options), server, clock  # type: ignore[arg-type]
    finally:
        await server.stop()


@on_both_loops
async def test_mx_records_come_by_preference() -> None:
    async with asked({("a.test.", "MX"): ["20 Backup.a.test.", "10 mx.a.test.", "10 alt.a.test."]}) as (
        resolver,
        _,
        _,
    ):
        assert await resolver.mx("A.Test.") == [(10, "alt.a.test"), (10, "mx.a.test"), (20, "backup.a.test")]


@on_loop
async def test_name_servers_may_have_ports_of_their_own() -> None:
    table: Table = {("a.test.", "MX"): ["10 mx.a.test."]}
    first, second = NameServer({("a.test.", "MX"): "SERVFAIL"}), NameServer(table)
    ports = [await first.start(), await second.start()]
    try:
        named = [f"127.0.0.1:{port}" for port in ports]
        resolver = SystemResolver(FakeClock(), named, cache_size=0)
        assert await resolver.mx("a.test") == [(10, "mx.a.test")]
        assert first.questions
        assert second.questions
        assert resolver.trusted  # loopback, whatever the port
        # One without a port is asked at `port`.
        assert await SystemResolver(FakeClock(), ["127.0.0.1"], port=ports[1]).mx("a.test") == [(10, "mx.a.test")]
        assert await SystemResolver(FakeClock(), named[1:], port=ports[0]).mx("a.test") == [(10, "mx.a.test")]
    finally:
        await first.stop()
        await second.stop()


@on_loop
async def test_null_mx_is_an_empty_host() -> None:
    async with asked({("a.test.", "MX"): ["0 ."]}) as (resolver, _, _):
        assert await resolver.mx("a.test") == [(0, "")]


@on_loop
async def test_no_records_is_an_empty_list() -> None:
    async with asked({}) as (resolver, _, _):
        assert await resolver.mx("a.test") == []
        assert await resolver.addresses("a.test") == []
        assert await resolver.txt("a.test") == []


@on_loop
async def test_nxdomain() -> None:
    async with asked({("no.test.", kind): "NXDOMAIN" for kind in ("MX", "A", "AAAA")}) as (resolver, _, _):
        with pytest.raises(NoSuchDomain):
            await resolver.mx("no.test")
        with pytest.raises(NoSuchDomain):
            await resolver.addresses("no.test")


@on_loop
async def test_servfail_and_silence_are_unavailable() -> None:
    table: Table = {("bad.test.", "MX"): "SERVFAIL", ("quiet.test.", "MX"): "SILENCE"}
    async with asked(table, timeout=0.05) as (resolver, _, _):
        for name, why in (("bad.test", "answers SERVFAIL"), ("quiet.test", "is silent")):
            with pytest.raises(Unavailable) as raised:
                await resolver.mx(name)
            said = str(raised.value)
            assert re.fullmatch(rf"no answer from the DNS for {name} MX: 127\.0\.0\.1@\d+ {why}", said), said


@pytest.mark.parametrize("name", ["a" * 64 + ".test", "a..test", "a." * 130 + "test"])
@on_loop
async def test_an_impossible_name_does_not_exist(name: str) -> None:
    async with asked({}) as (resolver, server, _):
        with pytest.raises(NoSuchDomain):
            await resolver.mx(name)
        assert not server.questions


@on_both_loops
async def test_addresses_of_both_families() -> None:
    async with asked({("h.test.", "A"): ["127.0.0.1"], ("h.test.", "AAAA"): ["::1"]}) as (resolver, _, _):
        assert await resolver.addresses("h.test") == ["::1", "127.0.0.1"]


@on_loop
async def test_one_family_may_fail() -> None:
    table: Table = {
        ("h.test.", "A"): ["127.0.0.1"],
        ("h.test.", "AAAA"): "SERVFAIL",
        ("none.test.", "AAAA"): "SERVFAIL",
    }
    async with asked(table, timeout=0.05) as (resolver, _, _):
        assert await resolver.addresses("h.test") == ["127.0.0.1"]
        with pytest.raises(Unavailable):  # nobody said that it has no AAAA
            await resolver.addresses("none.test")


@on_loop
async def test_aliases_are_followed() -> None:
    async with asked({("www.test.", "A"): ["CNAME h.test.", "127.0.0.9"]}) as (resolver, _, _):
        assert await resolver.addresses("www.test") == ["127.0.0.9"]


@on_loop
async def test_txt_ptr_tlsa() -> None:
    table: Table = {
        ("a.test.", "TXT"): ['"v=spf1 " "-all"', '"other"'],
        ("1.0.0.127.in-addr.arpa.", "PTR"): ["h.test."],
        ("_25._tcp.h.test.", "TLSA"): ["SECURE", "3 1 1 " + "ab" * 32],
    }
    async with asked(table) as (resolver, _, _):
        assert sorted(await resolver.txt("a.test")) == [b"other", b"v=spf1 -all"]
        assert await resolver.ptr("127.0.0.1") == ["h.test"]
        answer = await resolver.answer("_25._tcp.h.test", "TLSA")
        assert answer.values == (Tlsa(3, 1, 1, b"\xab" * 32),)
        assert str(answer.values[0]) == "3 1 1"
        assert answer.secure
        assert not (await resolver.answer("a.test", "TXT")).secure


@on_loop
async def test_the_verdict_of_a_validating_resolver_is_asked_for_and_believed_on_loopback() -> None:
    table: Table = {
        ("a.test.", "MX"): ["SECURE", "10 mx.a.test."],
        ("mx.a.test.", "A"): ["SECURE", "CNAME h.test.", "127.0.0.1"],
        ("mx.a.test.", "AAAA"): ["CNAME h.test.", "::1"],
        ("mx.a.test.", "CNAME"): ["SECURE", "h.test."],
    }
    async with asked(table) as (resolver, server, _):
        assert resolver.trusted
        assert await resolver.answer("a.test", "MX") == Answer(((10, "mx.a.test"),), True, "a.test")
        assert await resolver.answer("mx.a.test", "A") == Answer(("127.0.0.1",), True, "h.test")
        assert await resolver.answer("mx.a.test", "AAAA") == Answer(("::1",), False, "h.test")
        assert await resolver.answer("mx.a.test", "CNAME") == Answer(("h.test",), True, "mx.a.test")
        assert all(server.asked_ad)
        for validating in (True, None, False):
            other = SystemResolver(FakeClock(), ["127.0.0.1"], port=resolver._port, validating=validating)
            assert (await other.answer("a.test", "MX")).secure is (validating is not False)


@pytest.mark.parametrize(
    ("servers", "validating", "trusted"),
    [
        (["127.0.0.53"], None, True),
        (["::1", "127.0.0.1"], None, True),
        (["127.0.0.1", "192.0.2.1"], None, False),
        (["192.0.2.1"], None, False),
        (["fe80::1%eth0"], None, False),
        (["192.0.2.1"], True, True),
        (["127.0.0.1"], False, False),
    ],
)
def test_who_is_trusted_to_validate(servers: list[str], validating: bool | None, trusted: bool) -> None:
    assert SystemResolver(FakeClock(), servers, validating=validating).trusted is trusted


@on_loop
async def test_whether_a_resolver_validates_is_found_out_by_asking() -> None:
    good: Table = {("iana.org.", "A"): ["SECURE", "192.0.2.1"], ("dnssec-failed.org.", "A"): "SERVFAIL"}
    async with asked(good) as (resolver, _, _):
        found = await resolver.validation()
        assert found.works
        assert found.text == (
            "iana.org is marked as validated; dnssec-failed.org, whose signatures are broken, is refused"
        )
        distrusted = SystemResolver(FakeClock(), ["127.0.0.1"], port=resolver._port, validating=False)
        found = await distrusted.validation()
        assert (found.trusted, found.vouches, found.refuses, found.works) == (False, True, True, False)
    async with asked({("iana.org.", "A"): ["192.0.2.1"], ("dnssec-failed.org.", "A"): ["192.0.2.1"]}) as (plain, _, _):
        found = await plain.validation()
        assert (found.trusted, found.vouches, found.refuses, found.works) == (True, False, False, False)
        assert "not marked as validated" in found.text
    async with asked({("iana.org.", "A"): "SILENCE"}, timeout=0.05) as (silent, _, _):
        assert (await silent.validation()).text.startswith("no answer for iana.org")
    async with asked(good | {("dnssec-failed.org.", "A"): "SILENCE"}, timeout=0.05) as (half, _, _):
        found = await half.validation()  # silence is not a refusal
        assert (found.vouches, found.refuses) == (True, False)


@on_both_loops
async def test_truncated_answers_are_asked_again_by_tcp() -> None:
    async with asked({("big.test.", "TXT"): ["TRUNCATE", '"' + "x" * 200 + '"']}) as (resolver, server, _):
        assert await resolver.txt("big.test") == [b"x" * 200]
        assert [transport for transport, _, _ in server.questions] == ["udp", "tcp"]


@on_loop
async def test_answers_are_kept_for_their_time_to_live() -> None:
    async with asked({("a.test.", "MX"): ["10 mx.test."]}, ttl=120) as (resolver, server, clock):
        await resolver.mx("a.test")
        clock.move(119)
        await resolver.mx("A.TEST")
        assert len(server.questions) == 1
        clock.move(2)
        await resolver.mx("a.test")
        assert len(server.questions) == 2


@on_loop
async def test_a_long_time_to_live_is_cut() -> None:
    async with asked({("a.test.", "MX"): ["10 mx.test."]}, ttl=604800) as (resolver, server, clock):
        await resolver.mx("a.test")
        clock.move(3601)
        await resolver.mx("a.test")
        assert len(server.questions) == 2


@on_loop
async def test_no_is_kept_as_long_as_the_zone_says() -> None:
    async with asked({("no.test.", "MX"): "NXDOMAIN"}) as (resolver, server, clock):
        for seconds, questions in ((0, 1), (59, 1), (2, 2)):
            clock.move(seconds)
            with pytest.raises(NoSuchDomain):
                await resolver.mx("no.test")
            assert await resolver.mx("empty.test") == []
            assert len(server.questions) == 2 * questions


@on_loop
async def test_failures_are_not_kept() -> None:
    table: Table = {("a.test.", "MX"): "SERVFAIL"}
    async with asked(table, timeout=0.05) as (resolver, _, _):
        with pytest.raises(Unavailable):
            await resolver.mx("a.test")
        table["a.test.", "MX"] = ["10 mx.test."]
        assert await resolver.mx("a.test") == [(10, "mx.test")]


@on_loop
async def test_the_cache_is_bounded() -> None:
    async with asked({}, cache_size=3) as (resolver, server, _):
        for number in range(5):
            await resolver.mx(f"d{number}.test")
        assert len(resolver._cache) == 3
        await resolver.mx("d4.test")  # kept
        await resolver.mx("d0.test")  # gone, asked again
        assert [name for _, name, _ in server.questions].count("d4.test.") == 1
        assert [name for _, name, _ in server.questions].count("d0.test.") == 2


@on_loop
async def test_no_without_an_soa_is_kept_for_a_minute() -> None:
    async with asked({("no.test.", "TXT"): "NXDOMAIN"}) as (resolver, server, clock):
        server.no_soa |= {"no.test.", "empty.test."}
        for seconds, questions in ((0, 1), (59, 1), (2, 2)):
            clock.move(seconds)
            with pytest.raises(NoSuchDomain):
                await resolver.txt("no.test")
            assert await resolver.txt("empty.test") == []
            assert len(server.questions) == 2 * questions


@on_loop
async def test_the_cache_is_bounded_by_the_size_of_answers_too() -> None:
    records = [f'"{k}' + "x" * 250 + '"' for k in range(8)]
    table: Table = {(f"d{n}.test.", "TXT"): ["TRUNCATE", *records] for n in range(8)}
    async with asked(table, cache_octets=10_000) as (resolver, server, clock):
        for number in range(8):
            assert len(await resolver.txt(f"d{number}.test")) == 8
            assert resolver._octets <= 10_000
        assert 1 <= len(resolver._cache) < 8
        clock.move(301)
        for number in range(8):
            await resolver.txt(f"d{number}.test")
        for question in list(resolver._cache):
            resolver._forget(question)
        assert resolver._octets == 0
    async with asked(table, cache_octets=1000) as (small, server, _):
        for _ in range(2):
            assert len(await small.txt("d0.test")) == 8  # too large to be kept, but answered
        assert not small._cache
        assert len(server.questions) == 4


@on_both_loops
async def test_an_answer_of_64_kib_comes_by_tcp() -> None:
    records = [f'"{number:04}' + "x" * 240 + '" "' + "y" * 250 + '"' for number in range(120)]
    async with asked({("big.test.", "TXT"): ["TRUNCATE", *records]}) as (resolver, server, _):
        values = await resolver.txt("big.test")
        assert len(values) == 120
        assert sum(map(len, values)) == 120 * 494
        assert {len(value) for value in values} == {494}
        assert [transport for transport, _, _ in server.questions] == ["udp", "tcp"]


@on_loop
async def test_aliases_that_go_round_in_a_circle_are_no_answer_and_soon() -> None:
    async with asked({("a.test.", "TXT"): "LOOP"}) as (resolver, server, _):
        with pytest.raises(Unavailable):
            await resolver.txt("a.test")
        assert len(server.questions) <= 2


@on_loop
async def test_equal_questions_together_are_one() -> None:
    async with asked({("a.test.", "MX"): ["10 mx.test."]}) as (resolver, server, _):
        answers = await asyncio.gather(*(resolver.mx("a.test") for _ in range(10)))
        assert answers == [[(10, "mx.test")]] * 10
        assert len(server.questions) == 1


@on_loop
async def test_one_of_several_who_ask_may_be_cancelled() -> None:
    async with asked({("a.test.", "MX"): ["10 mx.test."]}) as (resolver, _, _):
        first = asyncio.ensure_future(resolver.mx("a.test"))
        second = asyncio.ensure_future(resolver.mx("a.test"))
        await asyncio.sleep(0)
        first.cancel()
        assert await second == [(10, "mx.test")]


@on_both_loops
async def test_questions_side_by_side() -> None:
    table: Table = {
        ("a.test.", "TXT"): ['"x"'],
        ("no.test.", "TXT"): "NXDOMAIN",
        ("bad.test.", "TXT"): "SERVFAIL",
    }
    async with asked(table, timeout=0.05) as (resolver, server, _):
        questions = [("a.test", "TXT"), ("no.test", "TXT"), ("A.test", "TXT"), ("bad.test", "TXT"), ("c.test", "MX")]
        for _ in range(2):
            answers = await side_by_side(resolver, questions)
            assert answers[0] == answers[2] == Answer((b"x",), False, "a.test")
            assert isinstance(answers[1], NoSuchDomain)
            assert isinstance(answers[3], Unavailable)
            assert isinstance(answers[4], Answer)
            names = [name for _, name, _ in server.questions]
            assert names.count("a.test.") == names.count("no.test.") == 1
        before = len(server.questions)
        assert await side_by_side(resolver, [("a.test", "TXT"), ("c.test", "MX")]) == [answers[0], answers[4]]
        assert await side_by_side(resolver, []) == []
        assert len(server.questions) == before
        zone = ZoneResolver({"a.test": {"TXT": [b"x"]}})
        assert (await side_by_side(zone, [("a.test", "TXT")]))[0] == Answer((b"x",), False, "a.test")


@on_loop
async def test_zone_resolver() -> None:
    resolver = ZoneResolver(
        {
            "a.test": {"MX": [(20, "b.test"), (10, "h.test")], "TXT": [b"x"]},
            "h.test": {"A": ["127.0.0.1"], "AAAA": ["::1"]},
            "www.a.test": {"CNAME": ["H.test."]},
            "loop.test": {"CNAME": ["loop.test"]},
            "down.test": None,
            reverse_name("127.0.0.1"): {"PTR": ["h.test"]},
        }
    )
    assert await resolver.mx("A.test") == [(10, "h.test"), (20, "b.test")]
    assert await resolver.mx("h.test") == []
    assert await resolver.mx("test") == []  # it exists: there are names below it
    assert await resolver.addresses("www.a.test.") == ["::1", "127.0.0.1"]
    assert await resolver.txt("a.test") == [b"x"]
    assert await resolver.ptr("127.0.0.1") == ["h.test"]
    for name in ("down.test", "loop.test"):
        with pytest.raises(Unavailable):
            await resolver.addresses(name)
    with pytest.raises(NoSuchDomain):
        await resolver.mx("elsewhere.example")


@on_loop
async def test_a_zone_as_text_with_another_resolver_beyond() -> None:
    zone = zone_of_text(
        {"A.test.": {"MX": ["10 H.test."], "A": ["127.0.0.1"], "TXT": ["v=x"]}, "b.test": {"MX": ["0 ."]}}
    )
    beyond = ZoneResolver({"far.test": {"A": ["127.0.0.2"]}})
    resolver = ZoneResolver(zone, beyond)
    assert await resolver.mx("a.test") == [(10, "h.test")]
    assert await resolver.mx("b.test") == [(0, "")]
    assert await resolver.txt("a.test") == [b"v=x"]
    assert await resolver.addresses("far.test") == ["127.0.0.2"]
    with pytest.raises(NoSuchDomain):
        await resolver.mx("nowhere.test")
    tlsa = ZoneResolver(zone_of_text({"_25._tcp.h.test": {"TLSA": ["3 1 1 ab cd"]}}))
    assert (await tlsa.answer("_25._tcp.h.test", "TLSA")).values == (Tlsa(3, 1, 1, b"\xab\xcd"),)
    for bad in (
        {"TLSA": ["3 1 1"]},
        {"TLSA": ["3 1 256 ab"]},
        {"TLSA": ["3 1 1 xy"]},
        {"MX": ["mail"]},
        {"MX": ["x mail"]},
        {"A": ["mail"]},
    ):
        with pytest.raises(ValueError, match=r"."):
            zone_of_text({"a.test": bad})


@on_loop
async def test_a_zone_may_stand_for_all_names_below_one() -> None:
    zone: dict[str, Any] = {
        "*.test": {"A": ["127.0.0.2"], "MX": [(5, "mx.test")]},
        "there.test": {"A": ["127.0.0.3"]},
        "x.deep.test": {"A": ["127.0.0.4"]},
    }
    resolver = ZoneResolver(zone, ZoneResolver({"b.test": {"A": ["127.0.0.9"]}, "else.example": {"A": ["127.0.0.5"]}}))
    assert await resolver.addresses("a.test") == await resolver.addresses("c.b.test") == ["127.0.0.2"]
    assert await resolver.addresses("b.test") == ["127.0.0.2"]  # the zone comes first
    assert await resolver.mx("a.test") == [(5, "mx.test")]
    assert await resolver.addresses("there.test") == ["127.0.0.3"]
    assert await resolver.addresses("else.example") == ["127.0.0.5"]
    alone = ZoneResolver(zone)
    assert await alone.addresses("deep.test") == []  # it exists: x.deep.test is below it
    for name in ("x.there.test", "test.example", "x"):
        with pytest.raises(NoSuchDomain):
            await alone.addresses(name)
    assert await alone.addresses("test") == []


@on_loop
async def test_a_zone_says_which_of_its_answers_are_secure() -> None:
    zone = {"a.test": {"A": ["127.0.0.1"]}, "b.test": {"A": ["127.0.0.2"]}, "c.test": {"CNAME": ["b.test"]}}
    beyond = ZoneResolver({"far.test": {"A": ["127.0.0.3"]}})
    some = ZoneResolver(zone | {"d.test": {"CNAME": ["far.test"]}}, beyond, secure={"a.test", "c.test", "d.test"})
    assert await some.answer("a.test", "A") == Answer(("127.0.0.1",), True, "a.test")
    assert (await some.answer("a.test", "MX")).secure  # that there is none is certain
    assert not (await some.answer("b.test", "A")).secure
    assert await some.answer("c.test", "A") == Answer(("127.0.0.2",), False, "b.test")
    assert await some.answer("c.test", "CNAME") == Answer(("b.test",), True, "c.test")
    assert await some.answer("d.test", "A") == Answer(("127.0.0.3",), False, "far.test")
    assert (await ZoneResolver(zone, secure=True).answer("c.test", "A")).secure
    assert not (await ZoneResolver(zone).answer("a.test", "A")).secure


def test_names() -> None:
    assert normal("Mail.Example.ORG.") == "mail.example.org"
    assert reverse_name("192.0.2.1") == "1.2.0.192.in-addr.arpa"
    assert reverse_name("2001:db8::1").endswith("8.b.d.0.1.0.0.2.ip6.arpa")


@on_loop
async def test_an_answer_that_takes_long_to_read_is_none() -> None:
    """A stranger's message may ask for many, and all else would wait."""
    table: Table = {
        ("many.test.", "A"): ["TRUNCATE", *[f"10.0.{n // 250}.{n % 250}" for n in range(dns_module.MAX_RECORDS + 1)]],
        ("enough.test.", "A"): ["TRUNCATE", *[f"10.0.{n // 250}.{n % 250}" for n in range(dns_module.MAX_RECORDS - 1)]],
    }
    async with asked(table) as (resolver, _, _):
        with pytest.raises(Unavailable):
            await resolver.answer("many.test", "A")
        assert len((await resolver.answer("enough.test", "A")).values) == dns_module.MAX_RECORDS - 1

"""SPF: what records mean, one case a line, and the limits."""

import asyncio
from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from posthouse.net.dns import Answer, Unavailable, ZoneResolver, zone_of_text
from posthouse.senderauth.spf import Lookup, Result, check_helo, check_mail_from
from posthouse.senderauth.spf_macros import queryable
from tests.support.loop import on_loop

V4, V6 = "192.0.2.7", "2001:db8::7"
WORDS = {"none", "neutral", "pass", "fail", "softfail", "temperror", "permerror"}

# What the cases have around them: a name maps to its records, as in a zone file.
AROUND: dict[str, dict[str, list[str]]] = {
    "here.test": {"A": [V4], "AAAA": [V6]},
    "near.test": {"A": ["192.0.2.99"], "AAAA": ["2001:db8::99"]},
    "four.test": {"A": [V4]},
    "six.test": {"AAAA": [V6]},
    "mx.test": {"MX": ["10 near.test", "20 here.test"]},
    "null.test": {"MX": ["0 ."]},
    "alias.test": {"CNAME": ["here.test"]},
    "txt.test": {"TXT": ["something else"]},
    "ok.test": {"TXT": [f"v=spf1 ip4:{V4} ip6:{V6} -all"]},
    "no.test": {"TXT": ["v=spf1 -all exp=whyno.test"]},
    "soft.test": {"TXT": ["v=spf1 ~all"]},
    "bad.test": {"TXT": ["v=spf1 nonsense"]},
    "two.test": {"TXT": ["v=spf1 +all", "V=SPF1 -all"]},
    "loop.test": {"TXT": ["v=spf1 include:loop.test"]},
    "again.test": {"TXT": ["v=spf1 redirect=again.test"]},
    "implicit.test": {"TXT": ["v=spf1 a -all"], "A": [V4]},
    "why.test": {"TXT": ["%{i} is not %{d}%_at all; see http://x.test/?s=%{S}&r=%{r}&t=%{t}"]},
    "whyno.test": {"TXT": ["no"]},
    "whytwo.test": {"TXT": ["one", "two"]},
    "whybad.test": {"TXT": ["%{z}"]},
    "whylong.test": {"TXT": ["w" * 5000]},
    "whybell.test": {"TXT": ["ring\x07"]},
    "whyname.test": {"TXT": ["%{l}"]},
    "whohas.test": {"TXT": ["%{p}"]},
    "7.2.0.192.in-addr.arpa": {"PTR": ["liar.test", "here.test", "host.sender.test"]},
    "liar.test": {"A": ["192.0.2.200"]},
    "host.sender.test": {"A": [V4]},
    "joe.of.sender.test.there.test": {"A": ["127.0.0.2"]},
    "192.0.2.7.there.test": {"A": ["127.0.0.2"]},
    "0.192.there.test": {"A": ["127.0.0.2"]},
    "in-addr.there.test": {"A": ["127.0.0.2"]},
    "odd:name/x.test": {"A": [V4]},
    "a%b c%20d.test": {"A": [V4]},
    "mail.sender.test": {"A": [V4]},
}

CASES = [
    # record of sender.test; result; what differs from joe.of@sender.test at 192.0.2.7
    ("v=spf1", "neutral", {}),
    ("v=spf1 ", "neutral", {}),
    ("V=sPf1 +ALL", "pass", {}),
    ("v=spf10 all", "none", {}),
    ("v=spf1all", "none", {}),
    ("v=spf2 all", "none", {}),
    ("v=spf1   -all  ", "fail", {}),
    ("v=spf1 ~all", "softfail", {}),
    ("v=spf1 ?all", "neutral", {}),
    ("v=spf1 -all.", "permerror", {}),
    ("v=spf1 -all:x.test", "permerror", {}),
    ("v=spf1 ?all nonsense", "permerror", {}),
    ("v=spf1\t-all", "none", {}),
    ("v=spf1 a\t-all", "permerror", {}),
    ("v=spf1 -all ümlaut", "permerror", {}),
    ("v=spf1 =all", "permerror", {}),
    ("v=spf1 1st=x -all", "permerror", {}),
    ("v=spf1 moo.cow-far_out=man:dog/cat -all", "fail", {}),
    ("v=spf1 moo/cow=x -all", "permerror", {}),
    ("v=spf1 moo=%x -all", "permerror", {}),
    ("v=spf1 -moo=x -all", "permerror", {}),
    # ip4, ip6
    ("v=spf1 ip4:192.0.2.7 -all", "pass", {}),
    ("v=spf1 ip4:192.0.2.7 -all", "pass", {"ip": "::ffff:192.0.2.7"}),
    ("v=spf1 ip6:::ffff:192.0.2.7 -all", "fail", {"ip": "::ffff:192.0.2.7"}),
    ("v=spf1 ip4:192.0.2.0/29 -all", "pass", {}),
    ("v=spf1 ip4:192.0.2.8/29 -all", "fail", {}),
    ("v=spf1 ip4:10.1.1.1/0 -all", "pass", {}),
    ("v=spf1 ip4:10.1.1.1/0 -all", "fail", {"ip": V6}),
    ("v=spf1 ip6:::/0 -all", "fail", {}),
    ("v=spf1 ip6:2001:DB8::/32 -all", "pass", {"ip": V6}),
    ("v=spf1 ip6:2001:db8:1::/48 -all", "fail", {"ip": V6}),
    ("v=spf1 ip4:192.0.2.7/33 -all", "permerror", {}),
    ("v=spf1 ip4:192.0.2.7/024 -all", "permerror", {}),
    ("v=spf1 ip4:192.0.2.7//32 -all", "permerror", {}),
    ("v=spf1 ip4:192.0.2 -all", "permerror", {}),
    ("v=spf1 ip4:192.0.2.007 -all", "permerror", {}),
    ("v=spf1 ip4:192.0.2.7:25 -all", "permerror", {}),
    ("v=spf1 ip4:2001:db8::7 -all", "permerror", {}),
    ("v=spf1 ip4 -all", "permerror", {}),
    ("v=spf1 ip4/24 -all", "permerror", {}),
    ("v=spf1 ip6:2001:db8::7/129 -all", "permerror", {}),
    ("v=spf1 ip6:fe80::1%eth0 -all", "permerror", {}),
    ("v=spf1 ip6::2001::7 -all", "permerror", {}),
    # a
    ("v=spf1 a:here.test -all", "pass", {}),
    ("v=spf1 a:here.test. -all", "pass", {}),
    ("v=spf1 a:HERE.test -all", "pass", {"ip": V6}),
    ("v=spf1 a:alias.test -all", "pass", {}),
    ("v=spf1 a:near.test -all", "fail", {}),
    ("v=spf1 a:near.test/24 -all", "pass", {}),
    ("v=spf1 a:near.test//64 -all", "pass", {"ip": V6}),
    ("v=spf1 a:near.test//64 -all", "fail", {}),
    ("v=spf1 a:near.test/24//64 -all", "pass", {"ip": V6}),
    ("v=spf1 a:near.test/24/64 -all", "permerror", {}),
    ("v=spf1 a:near.test/33 -all", "permerror", {}),
    ("v=spf1 a:near.test//129 -all", "permerror", {}),
    ("v=spf1 a/ -all", "permerror", {}),
    ("v=spf1 a: -all", "permerror", {}),
    ("v=spf1 a/0 -all", "fail", {}),
    ("v=spf1 a:six.test/0 -all", "fail", {}),
    ("v=spf1 a:odd:name/x.test -all", "pass", {}),
    ("v=spf1 a:a%%b%_c%-d.test -all", "pass", {}),
    ("v=spf1 a:test -all", "permerror", {}),
    ("v=spf1 a:1.2.3.4 -all", "permerror", {}),
    ("v=spf1 a:here.-test -all", "permerror", {}),
    ("v=spf1 a:here.test:25 -all", "permerror", {}),
    ("v=spf1 a:here..test -all", "fail", {}),
    (f"v=spf1 a:{'x' * 64}.test -all", "fail", {}),
    ("v=spf1 a:%{h} -all", "pass", {}),
    ("v=spf1 a:%{h} -all", "fail", {"helo": "[192.0.2.7]"}),
    ("v=spf1 a:%{h} -all", "fail", {"helo": "SINGLE"}),
    ("v=spf1 a:gone.test -all", "temperror", {}),
    # mx
    ("v=spf1 mx:mx.test -all", "pass", {}),
    ("v=spf1 mx:mx.test -all", "pass", {"ip": V6}),
    ("v=spf1 mx:here.test -all", "fail", {}),
    ("v=spf1 mx:null.test -all", "fail", {}),
    ("v=spf1 mx/24//64 mx: -all", "permerror", {}),
    # ptr
    ("v=spf1 ptr -all", "pass", {}),
    ("v=spf1 ptr:Here.test -all", "pass", {}),
    ("v=spf1 ptr:liar.test -all", "fail", {}),
    ("v=spf1 ptr:ere.test -all", "fail", {}),
    ("v=spf1 ptr -all", "fail", {"ip": V6}),
    ("v=spf1 ptr/24 -all", "permerror", {}),
    # exists
    ("v=spf1 exists:here.test -all", "pass", {"ip": V6}),
    ("v=spf1 exists:six.test -all", "fail", {"ip": V6}),
    ("v=spf1 exists -all", "permerror", {}),
    ("v=spf1 exists:here.test/24 -all", "permerror", {}),
    # include
    ("v=spf1 include:ok.test -all", "pass", {}),
    ("v=spf1 ?include:ok.test -all", "neutral", {}),
    ("v=spf1 include:no.test ~all", "softfail", {}),
    ("v=spf1 include:soft.test ?all", "neutral", {}),
    ("v=spf1 include:bad.test -all", "permerror", {}),
    ("v=spf1 include:two.test -all", "permerror", {}),
    ("v=spf1 include:txt.test -all", "permerror", {}),
    ("v=spf1 include:nowhere.test -all", "permerror", {}),
    ("v=spf1 include:gone.test -all", "temperror", {}),
    ("v=spf1 include:%{h} -all", "permerror", {"helo": "SINGLE"}),
    ("v=spf1 include -all", "permerror", {}),
    ("v=spf1 include:ok.test/24 -all", "permerror", {}),
    ("v=spf1 include:loop.test -all", "permerror", {}),
    ("v=spf1 include:again.test -all", "permerror", {}),
    # redirect
    ("v=spf1 redirect=ok.test", "pass", {}),
    ("v=spf1 redirect=ok.test a:here.test/32", "pass", {"ip": V6}),
    ("v=spf1 redirect=soft.test -ip4:192.0.2.7", "fail", {}),
    ("v=spf1 redirect=again.test ?all", "neutral", {}),
    ("v=spf1 redirect=implicit.test", "pass", {}),
    ("v=spf1 redirect=txt.test", "permerror", {}),
    ("v=spf1 redirect=gone.test", "temperror", {}),
    ("v=spf1 redirect=again.test", "permerror", {}),
    ("v=spf1 redirect= ?all", "permerror", {}),
    ("v=spf1 redirect=ok.test redirect=ok.test", "permerror", {}),
    ("v=spf1 redirect:ok.test", "permerror", {}),
    ("v=spf1 exp= -all", "permerror", {}),
    ("v=spf1 exp=why.test exp=why.test -all", "permerror", {}),
    ("v=spf1 exp=%{c}.test -all", "permerror", {}),
    # macros in names
    ("v=spf1 exists:%{l}.%{o}.there.test -all", "pass", {}),
    ("v=spf1 exists:%{L}.%{d}.there.test -all", "pass", {}),
    ("v=spf1 exists:%{i}.there.test -all", "pass", {}),
    ("v=spf1 exists:%{i2r}.there.test -all", "pass", {}),
    ("v=spf1 exists:%{i2R}.there.test -all", "pass", {}),
    ("v=spf1 exists:%{i2}.there.test -all", "fail", {}),
    ("v=spf1 exists:%{ir2}.there.test -all", "permerror", {}),
    ("v=spf1 exists:%{l2-+r}.there.test -all", "permerror", {}),
    ("v=spf1 exists:%{l1r+=/_,}.there.test -all", "pass", {"mail_from": "192.0.2.7=b_c/d,e+f@sender.test"}),
    ("v=spf1 exists:%{v}.there.test -all", "pass", {}),
    ("v=spf1 exists:%{l0}.there.test -all", "permerror", {}),
    ("v=spf1 exists:%{l-.there.test -all", "permerror", {}),
    ("v=spf1 exists:%(l).there.test -all", "permerror", {}),
    ("v=spf1 exists:%{l!}.there.test -all", "permerror", {}),
    ("v=spf1 exists:%{i}.%{d}x -all", "permerror", {}),
    ("v=spf1 exists:%{l}.there.test -all", "fail", {"mail_from": "jö@sender.test"}),
    ("v=spf1 exists:%{l}.there.test -all", "fail", {"mail_from": "back\\slash\\0@sender.test"}),
    # who is checked
    ("v=spf1 all", "none", {"mail_from": "joe@nowhere.test"}),
    ("v=spf1 all", "none", {"mail_from": "joe@[192.0.2.7]"}),
    ("v=spf1 all", "none", {"mail_from": "joe@single"}),
    ("v=spf1 all", "none", {"mail_from": "joe@a..test"}),
    ("v=spf1 all", "none", {"mail_from": f"joe@{'x' * 64}.test"}),
    ("v=spf1 all", "none", {"mail_from": "joe"}),
    ("v=spf1 all", "none", {"mail_from": "joe@\udcff.test"}),
    ("v=spf1 all", "temperror", {"mail_from": "joe@gone.test"}),
    ("v=spf1 all", "none", {"mail_from": "", "helo": "single"}),
    ("v=spf1 all", "pass", {"mail_from": "", "helo": "Sender.test."}),
    ("v=spf1 all", "pass", {"mail_from": "<>", "helo": "sender.test"}),
]


def zone(record: str | None = None, **more: Any) -> ZoneResolver:
    names: dict[str, Any] = dict(zone_of_text(AROUND))
    names["gone.test"] = None
    if record is not None:
        names["sender.test"] = {"TXT": [record.encode()]}
    return ZoneResolver({**names, **more})


async def check(
    resolver: ZoneResolver,
    ip: str = V4,
    helo: str = "mail.sender.test",
    mail_from: str = "joe.of@sender.test",
    **o: Any,
) -> Result:
    return await check_mail_from(resolver, ip_address(ip), helo, mail_from, **o)


@pytest.mark.parametrize(("record", "result", "differs"), CASES)
def test_result(record: str, result: str, differs: dict[str, str]) -> None:
    found = asyncio.run(check(zone(record), **differs))
    assert found.result == result, found
    assert bool(found.problem) == (result in ("none", "temperror", "permerror"))


EXPLANATIONS = [
    # what follows "v=spf1 -all "; the explanation; what differs
    ("", "", {}),
    (
        "exp=why.test",
        "192.0.2.7 is not sender.test at all; see http://x.test/?s=joe.of%40sender.test&r=mx.host.test&t=1234",
        {},
    ),
    ("exp=whyno.test", "no", {}),
    ("exp=whytwo.test", "", {}),
    ("exp=whybad.test", "", {}),
    ("exp=whybell.test", "", {}),
    ("exp=whylong.test", "w" * 1000, {}),
    ("exp=nowhere.test", "", {}),
    ("exp=gone.test", "", {}),
    ("exp=here.test", "", {}),
    ("exp=a..test", "", {}),
    ("exp=whyname.test", "joe.of", {}),
    ("exp=whyname.test", "a b", {"mail_from": "a b@sender.test"}),
    ("exp=whyname.test", "", {"mail_from": "a\r\nb@sender.test"}),
    ("exp=whyname.test", "", {"mail_from": "jö@sender.test"}),
    ("exp=whyname.test", "postmaster", {"mail_from": "@sender.test"}),
    ("exp=whohas.test", "host.sender.test", {}),
    ("exp=whohas.test", "unknown", {"ip": "192.0.2.1"}),
    ("exp=why%{o}", "", {"mail_from": ("x" * 60 + ".") * 4 + "test"}),
]


@pytest.mark.parametrize(("exp", "text", "differs"), EXPLANATIONS)
def test_explanation(exp: str, text: str, differs: dict[str, str]) -> None:
    found = asyncio.run(check(zone(f"v=spf1 -all {exp}"), receiver="mx.host.test", now=1_234_000_000, **differs))
    assert found.explanation == text


@on_loop
async def test_the_explanation_is_that_of_the_domain_which_decided() -> None:
    redirected = await check(zone("v=spf1 exp=why.test redirect=no.test"))
    assert (redirected.result, redirected.explanation) == ("fail", "no")
    included = await check(zone("v=spf1 include:no.test -all exp=whyname.test"))
    assert (included.result, included.explanation) == ("fail", "joe.of")


@on_loop
async def test_the_result_says_what_it_rests_on() -> None:
    found = await check(zone("v=spf1 include:ok.test mx:mx.test -all"), ip="192.0.2.8")
    assert found == Result(
        "fail",
        "mailfrom",
        "sender.test",
        record="v=spf1 include:ok.test mx:mx.test -all",
        mechanism="-all",
        lookups=(
            Lookup("sender.test", "TXT", ("v=spf1 include:ok.test mx:mx.test -all",)),
            Lookup("ok.test", "TXT", (f"v=spf1 ip4:{V4} ip6:{V6} -all",)),
            Lookup("mx.test", "MX", ("10 near.test", "20 here.test")),
            Lookup("near.test", "A", ("192.0.2.99",)),
            Lookup("here.test", "A", (V4,)),
        ),
    )
    redirected = await check(zone("v=spf1 redirect=ok.test"))
    assert (redirected.record, redirected.mechanism) == (f"v=spf1 ip4:{V4} ip6:{V6} -all", f"ip4:{V4}")
    own = "v=spf1 include:soft.test include:nowhere.test -all"
    assert (
        await check(zone(own))
    ).record == own  # what is wrong with it is not wrong with one that was included before
    assert (await check(zone("v=spf1 include:soft.test include:bad.test -all"))).record == "v=spf1 nonsense"
    lost = await check(zone("v=spf1 a:gone.test"))
    assert lost.lookups[-1] == Lookup("gone.test", "A", failure="no answer")
    assert "gone.test" in lost.problem


@on_loop
async def test_helo_is_an_identity_of_its_own() -> None:
    found = await check_helo(zone("v=spf1 exists:%{l}.%{h}.there.test -all"), ip_address(V4), "sender.test")
    assert (found.identity, found.domain, found.result) == ("helo", "sender.test", "fail")
    assert found.lookups[-1].name == "postmaster.sender.test.there.test"


@on_loop
async def test_names_in_other_scripts_are_asked_for_as_a_labels() -> None:
    more: dict[str, Any] = {
        "xn--bcher-kva.test": {"TXT": [b"v=spf1 a:%{h} exists:%{o}.there.test -all exp=whydomain.test"]},
        "whydomain.test": {"TXT": [b"%{d} %{h}"]},
    }
    found = await check(zone(**more), helo="grün.test", mail_from="jörg@Bücher.test")
    assert (found.result, found.domain) == ("fail", "xn--bcher-kva.test")
    assert [lookup.name for lookup in found.lookups[1:3]] == ["xn--grn-ioa.test", "xn--bcher-kva.test.there.test"]
    assert found.explanation == "xn--bcher-kva.test xn--grn-ioa.test"


# The limits


@pytest.mark.parametrize(("terms", "result"), [(10, "pass"), (11, "permerror")])
def test_ten_terms_may_ask_the_dns(terms: int, result: str) -> None:
    record = "v=spf1" + " a:near.test" * terms + f" ip4:{V4}"
    assert asyncio.run(check(zone(record))).result == result


def test_terms_of_included_records_count() -> None:
    inner = {"inner.test": {"TXT": [b"v=spf1" + b" a:near.test" * 8]}}
    passes = asyncio.run(check(zone(f"v=spf1 a:near.test include:inner.test ip4:{V4}", **inner)))
    fails = asyncio.run(check(zone(f"v=spf1 a:near.test a:near.test include:inner.test ip4:{V4} -all", **inner)))
    over = asyncio.run(check(zone(f"v=spf1 a:near.test include:inner.test redirect=inner.test {'mx:x.test'}", **inner)))
    assert [passes.result, fails.result, over.result] == ["pass", "permerror", "permerror"]


@pytest.mark.parametrize(("terms", "result"), [(2, "pass"), (3, "permerror")])
@pytest.mark.parametrize("term", ["a:nowhere.test", "a:six.test", "mx:here.test", "exists:nowhere.test", "ptr"])
def test_two_terms_may_find_nothing(term: str, terms: int, result: str) -> None:
    record = f"v=spf1 {f'{term} ' * terms} all"
    assert asyncio.run(check(zone(record), ip="192.0.2.8")).result == result


def test_an_explanation_that_is_missing_does_not_count() -> None:
    found = asyncio.run(check(zone("v=spf1 a:nowhere.test a:nowhere.test -all exp=nowhere.test")))
    assert found.result == "fail"


@pytest.mark.parametrize(("hosts", "result"), [(10, "fail"), (11, "permerror")])
def test_ten_hosts_of_an_mx_are_looked_at(hosts: int, result: str) -> None:
    more = {"many.test": {"MX": [(n, "near.test") for n in range(hosts)]}}
    assert asyncio.run(check(zone("v=spf1 mx:many.test -all", **more))).result == result


@pytest.mark.parametrize(("others", "result"), [(9, "pass"), (10, "fail")])
def test_ten_names_of_an_address_are_looked_at(others: int, result: str) -> None:
    more = {"7.2.0.192.in-addr.arpa": {"PTR": ["near.test"] * others + ["here.test"]}}
    found = asyncio.run(check(zone("v=spf1 ptr:here.test -all", **more)))
    assert found.result == result
    assert len(found.lookups) <= 12


def test_a_name_of_the_address_that_cannot_be_asked_for_is_passed_over() -> None:
    more = {"7.2.0.192.in-addr.arpa": {"PTR": ["gone.test", "", "here.test"]}}
    assert asyncio.run(check(zone("v=spf1 ptr:here.test -all", **more))).result == "pass"
    gone: dict[str, Any] = {"7.2.0.192.in-addr.arpa": None}
    assert asyncio.run(check(zone("v=spf1 ptr:here.test -all", **gone))).result == "fail"


def test_one_host_that_is_out_of_reach_does_not_hide_another() -> None:
    more = {"many.test": {"MX": [(1, "gone.test"), (2, "here.test")]}}
    assert asyncio.run(check(zone("v=spf1 mx:many.test -all", **more))).result == "pass"
    assert asyncio.run(check(zone("v=spf1 mx:many.test -all", **more), ip="192.0.2.8")).result == "temperror"


def test_names_of_the_address_are_asked_for_once() -> None:
    found = asyncio.run(check(zone("v=spf1 exists:%{p}.a.test exists:%{p}.b.test ptr:c.test -all exp=whohas.test")))
    assert [lookup.kind for lookup in found.lookups].count("PTR") == 1


class Slow(ZoneResolver):
    """Never answers for names below slow.test."""

    async def answer(self, name: str, kind: str) -> Answer:
        if name.endswith("slow.test"):
            await asyncio.Event().wait()
        return await super().answer(name, kind)


@on_loop
async def test_there_is_a_time_for_everything() -> None:
    names = {**zone().zone, "sender.test": {"TXT": [b"v=spf1 a:x.slow.test -all"]}}
    found = await check(Slow(names), patience=0.01)
    assert (found.result, found.problem) == ("temperror", "the DNS took longer than 0.01 s")
    names["sender.test"] = {"TXT": [b"v=spf1 -all exp=x.slow.test"]}
    found = await check(Slow(names), patience=0.01)
    assert (found.result, found.explanation, found.problem) == ("fail", "", "")


HUGE = [
    ("v=spf1" + " a" * 10_000 + " +all", "permerror"),
    ("v=spf1" + " ip4:192.0.2.7" * 10_000, "permerror"),
    ("v=spf1 " + "x" * 60_000, "permerror"),
    ("v=spf1 " + "x" * 6_000_000, "permerror"),
    ("v=spf1 " + " " * 60_000 + "all", "pass"),
    ("v=spf1 exists:" + "%{s}" * 10_000 + " all", "permerror"),
    ("v=spf1 exists:" + "%{s}." * 120 + "test -all", "fail"),
    ("v=spf1 exists:" + "x" * 60_000 + ".test -all", "fail"),
    ("v=spf1 exists:" + "x." * 30_000 + "test -all", "fail"),
    ("v=spf1 exists:" + "." * 60_000 + "test -all", "fail"),
    ("v=spf1 a" + "/" * 60_000, "permerror"),
    ("v=spf1 exists:%{d" + "9" * 60_000 + "}.there.test -all", "fail"),
    ("v=spf1 exists:%{d" + "0" * 60_000 + "1}.there.test -all", "fail"),
    ("v=spf1 exists:%{d" + "-." * 30_000 + "}.there.test -all", "fail"),
    ("v=spf1 ip4:192.0.2.7/" + "9" * 60_000, "permerror"),
    ("v=spf1 ip6:" + ":" * 60_000, "permerror"),
    ("v=spf1 " + "r=%{s} " * 1_999 + "all", "pass"),
]


@pytest.mark.parametrize(("record", "result"), HUGE, ids=[f"{record[:24]} {len(record)}" for record, _ in HUGE])
def test_a_huge_record_is_bounded(record: str, result: str) -> None:
    found = asyncio.run(check(zone(record)))
    assert found.result == result
    assert sum(len(text) for lookup in found.lookups for text in (lookup.name, *lookup.values)) < 20_000
    assert len(found.record) + len(found.mechanism) + len(found.problem) < 2_000


def test_long_names_lose_labels_on_the_left() -> None:
    tail = ".".join(["x" * 49] * 5)  # 249 characters
    for label, name in (("abc", f"abc.{tail}"), ("abcd", tail)):
        found = asyncio.run(check(zone(f"v=spf1 exists:more.labels.{label}.{tail} -all")))
        assert found.lookups[-1].name == name


_TERM = st.one_of(
    st.text(max_size=20),
    st.sampled_from(
        [*list("%/:=-~"), "all", "a", "mx", "ptr", "include:", "exists:", "redirect=", "exp=", "ip4:", "%{", "%{s2r-}"]
    ),
    st.sampled_from([term for record, _, _ in CASES for term in record.split(" ")[1:]]),
)
_RECORD = st.one_of(
    st.binary(max_size=200),
    st.lists(_TERM, max_size=12).map(lambda terms: " ".join(terms).encode("utf-8", "replace")),
    st.lists(_TERM, max_size=12).map(lambda terms: "".join(terms).encode("utf-8", "replace")),
)


@settings(max_examples=400, deadline=None)
@given(_RECORD, _RECORD, st.text(max_size=80), st.text(max_size=80), st.ip_addresses())
@example(b"a:%{l}.there.test", b"", "\\", "@@\\1.sender.test", ip_address("::"))
def test_nothing_is_raised_for_garbage(first: bytes, second: bytes, helo: str, local: str, ip: Any) -> None:
    more: dict[str, Any] = {
        "sender.test": {"TXT": [b"v=spf1 " + first, second]},
        "here.test": {"TXT": [b"v=spf1 " + second], "A": [V4]},
        "why.test": {"TXT": [second]},
    }
    for mail_from in (f"{local}@sender.test", local):
        found = asyncio.run(check_mail_from(zone(**more), ip, helo, mail_from))
        assert found.result in WORDS
        assert found.explanation.isascii()
        assert all(queryable(lookup.name) == lookup.name for lookup in found.lookups)


class Broken(ZoneResolver):
    """Answers at random."""

    def __init__(self, draw: Any) -> None:
        super().__init__({})
        self._draw = draw

    async def answer(self, name: str, kind: str) -> Answer:
        values: dict[str, list[Any]] = {
            "TXT": [b"v=spf1 mx ptr a include:%{d} exists:%{p}.test redirect=%{h} exp=e.test", b"v=spf1 -all", b"x"],
            "A": [V4, "10.0.0.1"],
            "AAAA": [V6],
            "MX": [(1, "a.test"), (1, "")],
            "PTR": ["a.test", "", "x\\.y.test"],
        }
        chosen = self._draw(st.none() | st.lists(st.sampled_from(values[kind]), max_size=12))
        if chosen is None:
            raise Unavailable("drawn")
        return Answer(tuple(chosen))


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_nothing_is_raised_for_odd_answers(data: st.DataObject) -> None:
    found = asyncio.run(check(Broken(data.draw), ip=data.draw(st.sampled_from([V4, V6]))))
    assert found.result in WORDS
    assert len(found.lookups) <= 10 * 12 + 12


def test_terms_whose_hosts_have_no_address_of_this_kind_count_once() -> None:
    more = {"many.test": {"MX": [(n, "four.test") for n in range(5)]}}
    found = asyncio.run(check(zone(f"v=spf1 mx:many.test a:four.test ip6:{V6} -all", **more), ip=V6))
    assert found.result == "pass"

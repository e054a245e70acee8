"""Routes: who takes which; MX and without, null MX, aliases, loops, pools; and what the DNS did not say."""

import random
from typing import Any

import pytest

from posthouse.net.dns import Zone, ZoneResolver
from posthouse.queue.pools import Pool, Source
from posthouse.queue.routes import MAX_HOSTS, Credentials, Host, Patterns, Route, Router, Row, Table
from posthouse.smtp.replies import Reply
from tests.support.loop import on_loop

ZONE: Zone = {
    "a.test": {"MX": [(20, "backup.a.test"), (10, "mx.a.test")]},
    "mx.a.test": {"A": ["192.0.2.1"], "AAAA": ["2001:db8::1"]},
    "backup.a.test": {},
    "plain.test": {"A": ["192.0.2.2"]},
    "empty.test": {"TXT": [b"x"]},
    "null.test": {"MX": [(0, "")]},
    "half-null.test": {"MX": [(0, ""), (5, "mx.a.test")]},
    "equal.test": {"MX": [(5, "first.test"), *((10, f"mx{n}.test") for n in range(6)), (20, "last.test")]},
    "many.test": {"MX": [(n, f"mx{n}.test") for n in range(30)]},
    "twice.test": {"MX": [(1, "mx.a.test"), (2, "mx.a.test")]},
    "backup-is-us.test": {"MX": [(10, "mx.a.test"), (20, "mail.here.test"), (30, "far.test"), (20, "b.test")]},
    "first-is-us.test": {"MX": [(10, "mail.here.test"), (20, "mx.a.test")]},
    "mail.here.test": {"A": ["192.0.2.9"]},
    "down.test": None,
    "down-mx.test": {"MX": [(1, "down.test")]},
    "nowhere.test": {"MX": [(1, "127.test")]},
    "127.test": {"A": ["127.0.0.1"], "AAAA": ["::", "::ffff:127.0.0.1"]},
    "128.test": {"A": ["127.0.0.1", "192.0.2.3"]},
    "alias.test": {"CNAME": ["a.test"]},
    "alias-of-plain.test": {"CNAME": ["plain.test"]},
    "alias-mx.test": {"MX": [(1, "to-mx.a.test")]},
    "to-mx.a.test": {"CNAME": ["mx.a.test"]},
    "alias-of-us.test": {"CNAME": ["mail.here.test"]},
    "mx-alias-of-us.test": {"MX": [(1, "alias-of-us.test")]},
    "round.test": {"CNAME": ["about.test"]},
    "about.test": {"CNAME": ["round.test"]},
    "round-mx.test": {"MX": [(1, "round.test")]},
    "six.test": {"AAAA": ["2001:db8::6"]},
    "four.test": {"A": ["192.0.2.4"]},
    "shared.test": {"A": ["192.0.2.3", "192.0.2.9"]},
}


def router(seed: int = 1, **options: Any) -> Router:
    options.setdefault("is_local", {"192.0.2.9", "2001:db8::9"}.__contains__)
    return Router(ZoneResolver(ZONE), ["Mail.Here.Test"], random.Random(seed), **options)


async def hosts(destination: str, seed: int = 1, **options: Any) -> tuple[Host, ...] | Reply:
    here = router(seed, **options)
    return await here.hosts(here.route("", "", f"x@{destination}", destination))


async def names(destination: str, **options: Any) -> list[str]:
    found = await hosts(destination, **options)
    assert not isinstance(found, Reply), found
    return [host.name for host in found]


def of_dns(name: str, port: int = 25, **options: Any) -> Host:
    return Host(name, port, validated=False, **options)


@on_loop
async def test_by_preference() -> None:
    assert await names("a.test") == ["mx.a.test", "backup.a.test"]
    assert await names("half-null.test") == ["mx.a.test"]
    assert await names("twice.test") == ["mx.a.test"]


@on_loop
async def test_without_mx_the_domain_itself() -> None:
    assert await names("plain.test") == ["plain.test"]


@on_loop
async def test_equal_ones_in_random_order() -> None:
    orders = set()
    for seed in range(10):
        found = await names("equal.test", seed=seed)
        assert (found[0], found[-1]) == ("first.test", "last.test")
        assert set(found[1:-1]) == {f"mx{n}.test" for n in range(6)}
        orders.add(tuple(found))
    assert len(orders) > 5


@on_loop
async def test_a_bounded_number_of_hosts() -> None:
    assert await names("many.test") == [f"mx{n}.test" for n in range(MAX_HOSTS)]


@on_loop
async def test_hosts_behind_ourselves_are_cut_off() -> None:
    assert await names("backup-is-us.test") == ["mx.a.test"]


@on_loop
async def test_aliases_are_followed_and_end() -> None:
    assert await names("alias.test") == ["mx.a.test", "backup.a.test"]
    assert await names("alias-of-plain.test") == ["alias-of-plain.test"]
    here = router()
    assert await here.addresses(of_dns("alias-of-plain.test")) == ["192.0.2.2"]
    assert await names("alias-mx.test") == ["to-mx.a.test"]  # RFC 2181 section 10.3 forbids it; it is in use
    assert await here.addresses(of_dns("to-mx.a.test")) == ["2001:db8::1", "192.0.2.1"]
    for answer in (await hosts("round.test"), await here.addresses(of_dns("round.test"))):
        assert isinstance(answer, Reply)
        assert answer[:2] == (451, "4.4.3")


@pytest.mark.parametrize(
    ("destination", "code", "status"),
    [
        ("null.test", 556, "5.1.10"),
        ("no-such-domain.test", 550, "5.1.2"),
        ("first-is-us.test", 550, "5.4.6"),
        ("mail.here.test", 550, "5.4.6"),
        ("alias-of-us.test", 550, "5.4.6"),
        ("down.test", 451, "4.4.3"),
        ("[300.1.1.1]", 550, "5.1.2"),
        ("[x-tag:1]", 550, "5.1.2"),
    ],
)
@on_loop
async def test_no_route(destination: str, code: int, status: str) -> None:
    reply = await hosts(destination)
    assert isinstance(reply, Reply)
    assert reply[:2] == (code, status)


@on_loop
async def test_address_literals() -> None:
    assert await names("[192.0.2.7]") == ["192.0.2.7"]
    assert await names("[IPv6:2001:DB8::7]") == ["2001:db8::7"]


@on_loop
async def test_hosts_of_the_dns_say_whether_it_was_validated() -> None:
    for secure in (False, True):
        here = Router(ZoneResolver(ZONE, secure=secure), [], random.Random())
        found = await here.hosts(Route(destination="a.test"))
        assert [host.validated for host in found] == [secure, secure]  # type: ignore[union-attr]
    assert [host.validated for host in await hosts("[192.0.2.7]")] == [False]  # type: ignore[union-attr]


@on_loop
async def test_addresses() -> None:
    here = router()
    assert await here.addresses(of_dns("mx.a.test")) == ["2001:db8::1", "192.0.2.1"]
    assert await here.addresses(of_dns("192.0.2.7")) == ["192.0.2.7"]
    assert await here.addresses(Host("localhost", 0, path="/run/x.sock")) == ["/run/x.sock"]
    for name, code, status in (
        ("backup.a.test", 550, "5.4.4"),
        ("no-such-host.test", 550, "5.4.4"),
        ("down.test", 451, "4.4.3"),
    ):
        reply = await here.addresses(of_dns(name))
        assert isinstance(reply, Reply)
        assert reply[:2] == (code, status)


@on_loop
async def test_addresses_that_lead_nowhere() -> None:
    here = router(listening=[("*", 25)])
    reply = await here.addresses(of_dns("127.test"))
    assert isinstance(reply, Reply)
    assert reply.status == "5.4.4"
    assert await here.addresses(of_dns("128.test")) == ["192.0.2.3"]
    there = ["::", "::ffff:127.0.0.1", "127.0.0.1"]
    assert await here.addresses(of_dns("127.test", 2525)) == there  # another server on this machine
    assert await here.addresses(Host("127.test")) == there  # named by the settings: as it is written


@pytest.mark.parametrize(
    ("listening", "name", "loops"),
    [
        ([("*", 25)], "mail.here.test", True),
        ([("0.0.0.0", 25)], "mail.here.test", True),
        ([("192.0.2.9", 25)], "mail.here.test", True),
        ([("192.0.2.8", 25)], "mail.here.test", False),  # another server on another address of this machine
        ([("*", 2525)], "mail.here.test", False),
        ([("*", 25)], "shared.test", True),  # what else has this name is us, too
        ([("*", 25)], "192.0.2.9", True),
        ([("*", 25)], "2001:db8::9", True),
        ([("*", 25)], "mx.a.test", False),
    ],
)
@on_loop
async def test_our_own_addresses(listening: Any, name: str, loops: bool) -> None:
    here = Router(ZoneResolver(ZONE), [], random.Random(), listening=listening, is_local=router()._is_local)
    answer = await here.addresses(of_dns(name))
    assert (isinstance(answer, Reply) and answer.status == "5.4.6") is loops
    assert not isinstance(await here.addresses(Host(name)), Reply)


@on_loop
async def test_an_mx_that_is_an_alias_of_ours_is_ours() -> None:
    assert await names("mx-alias-of-us.test") == ["alias-of-us.test"]
    reply = await router().addresses(of_dns("alias-of-us.test"))
    assert isinstance(reply, Reply)
    assert reply.status == "5.4.6"


@on_loop
async def test_a_pool_has_families() -> None:
    four = Pool("four", [Source("192.0.2.50", "out.test")])
    six = Pool("six", [Source("2001:db8::50", "out.test")])
    both = Pool("both", [Source("192.0.2.50", "a.test"), Source("2001:db8::50", "b.test")])
    here = router()
    assert await here.addresses(of_dns("mx.a.test", pool=four)) == ["192.0.2.1"]
    assert await here.addresses(of_dns("mx.a.test", pool=six)) == ["2001:db8::1"]
    assert await here.addresses(of_dns("mx.a.test", pool=both)) == ["2001:db8::1", "192.0.2.1"]
    for name, pool in (("six.test", four), ("four.test", six)):
        reply = await here.addresses(of_dns(name, pool=pool))
        assert isinstance(reply, Reply)
        assert (reply.code, pool.name in reply.text) == (451, True)


def test_a_pool_takes_turns_in_each_family() -> None:
    pool = Pool(
        "p", [Source("192.0.2.1", "a"), Source("2001:db8::1", "b"), Source("192.0.2.2", "c"), Source("192.0.2.3", "d")]
    )
    assert [pool.turn() for _ in range(4)] == [
        ("2001:db8::1", "192.0.2.1"),
        ("2001:db8::1", "192.0.2.2"),
        ("2001:db8::1", "192.0.2.3"),
        ("2001:db8::1", "192.0.2.1"),
    ]
    assert pool.helo("192.0.2.2") == "c"
    assert pool.names == {"a", "b", "c", "d"}


@on_loop
async def test_a_smart_host_takes_everything() -> None:
    smart = Host("smart.test", 587, "starttls", Credentials("me", "secret"))
    here = router(table=Table(default=Route(next_hop="smart.test", hosts=(smart,))))
    for destination in ("a.test", "null.test", "down.test", "[192.0.2.1]"):
        route = here.route("", "", f"x@{destination}", destination)
        assert await here.hosts(route) == (smart,)
        assert route.next_hop == "smart.test"
    assert "secret" not in repr(smart)
    assert router().route("", "", "x@a.test", "a.test").next_hop == "a.test"


# Which route


def rows(*rows: tuple[str, list[str], list[str]]) -> Table:
    return Table([Row(Patterns(to), Patterns(from_), Route(name=name)) for name, to, from_ in rows])


TABLE = rows(
    ("address", ["joe@big.test"], []),
    ("account", ["big.test"], ["alice@here.test"]),
    ("domain", ["big.test", "*.big.test"], ["here.test"]),
    ("below", ["*.big.test"], []),
    ("bounces", ["only.test"], ["<>"]),
    ("sender", [], ["news@here.test", "*.lists.test"]),
)


@pytest.mark.parametrize(
    ("sender", "account", "recipient", "name"),
    [
        ("x@y.test", "", "Joe@big.test", "address"),
        ("news@here.test", "alice@here.test", "ann@big.test", "account"),  # by the name of the account
        ("Alice@here.test", "", "ann@big.test", "account"),  # by the address
        ("bob@here.test", "bob@here.test", "ann@big.test", "domain"),
        ("bob@here.test", "", "ann@mx.eu.big.test", "domain"),
        ("bob@far.test", "", "ann@mx.eu.big.test", "below"),
        ("bob@far.test", "", "ann@big.test", ""),
        ("bob@far.test", "", "ann@notbig.test", ""),
        ("", "", "ann@only.test", "bounces"),
        ("ann@only.test", "", "ann@only.test", ""),
        ("news@here.test", "", "a@b.test", "sender"),
        ("x@y.lists.test", "", "a@b.test", "sender"),
        ("x@lists.test", "", "a@b.test", ""),
    ],
)
def test_the_first_that_fits(sender: str, account: str, recipient: str, name: str) -> None:
    here = router(table=TABLE)
    destination = recipient.rpartition("@")[2]
    route = here.route(sender, account, recipient, destination)
    assert route.name == name
    assert route.destination == destination
    assert route.next_hop == (f"{destination} route:{name}" if name else destination)


def test_many_patterns_cost_nothing_much() -> None:
    domain = ".".join(["a"] * 120) + ".test"
    assert not Patterns(["*.b.test"]).fits((f"x@{domain}",), domain)
    assert Patterns(["*.a.test"]).fits((f"x@{domain}",), domain)


@pytest.mark.parametrize(
    ("chosen", "name", "port"),
    [
        ("host:mx.far.test:2525", "mx.far.test", 2525),
        ("host:MX.far.test", "mx.far.test", 25),
        ("host:192.0.2.1:26", "192.0.2.1", 26),
        ("host:[2001:db8::1]:26", "2001:db8::1", 26),
        ("host:[2001:db8::1]", "2001:db8::1", 25),
    ],
)
@on_loop
async def test_a_host_that_an_operator_chose(chosen: str, name: str, port: int) -> None:
    pool = Pool("p", [Source("192.0.2.50", "out.test")])
    smart = Host("smart.test", 587, "starttls", Credentials("me", "secret"), pool)
    here = router(table=Table(default=Route(next_hop="smart.test", hosts=(smart,), host=Host("", pool=pool))))
    route = here.route("", "", "x@a.test", "a.test", chosen)
    assert route.next_hop == f"{name} host:{name}:{port}"
    assert await here.hosts(route) == (Host(name, port, pool=pool),)


def test_a_route_that_an_operator_chose() -> None:
    route = router(table=TABLE).route("", "", "x@a.test", "a.test", "route:Below")
    assert (route.name, route.next_hop) == ("below", "a.test route:below")


@pytest.mark.parametrize(
    "chosen", ["route:gone", "host:", "host:a b", "host:x:0", "host:x:65536", "host:x:" + "9" * 99, "?", "host:::1"]
)
def test_a_choice_that_makes_no_sense_waits(chosen: str) -> None:
    route = router(table=TABLE).route("", "", "x@a.test", "a.test", chosen)
    assert route.kind == "error"
    assert route.reply is not None
    assert route.reply[:2] == (451, "4.3.5")
    assert "queue reroute" in route.reply.text
    assert len(route.next_hop) < 200

"""Routes: MX and without, null MX, loops, smart host, and what the DNS did not say."""

import random
from typing import Any

import pytest

from posthouse.net.dns import Zone, ZoneResolver
from posthouse.queue.routes import MAX_HOSTS, Credentials, Host, Router
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
    "equal.test": {"MX": [(10, f"mx{n}.test") for n in range(6)]},
    "many.test": {"MX": [(n, f"mx{n}.test") for n in range(30)]},
    "twice.test": {"MX": [(1, "mx.a.test"), (2, "mx.a.test")]},
    "backup-is-us.test": {"MX": [(10, "mx.a.test"), (20, "mail.here.test"), (30, "far.test"), (20, "b.test")]},
    "first-is-us.test": {"MX": [(10, "mail.here.test"), (20, "mx.a.test")]},
    "mail.here.test": {"A": ["192.0.2.9"]},
    "down.test": None,
    "down-mx.test": {"MX": [(1, "down.test")]},
    "nowhere.test": {"MX": [(1, "127.test")]},
    "127.test": {"A": ["127.0.0.1"], "AAAA": ["::"]},
    "128.test": {"A": ["127.0.0.1", "192.0.2.3"]},
}


def router(seed: int = 1, **options: Any) -> Router:
    return Router(ZoneResolver(ZONE), ["Mail.Here.Test"], random.Random(seed), **options)


async def names(destination: str, **options: Any) -> list[str]:
    hosts = await router(**options).hosts(destination)
    assert not isinstance(hosts, Reply), hosts
    return [host.name for host in hosts]


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
        hosts = await router(seed).hosts("equal.test")
        assert not isinstance(hosts, Reply)
        assert {host.name for host in hosts} == {f"mx{n}.test" for n in range(6)}
        orders.add(tuple(host.name for host in hosts))
    assert len(orders) > 5


@on_loop
async def test_a_bounded_number_of_hosts() -> None:
    assert await names("many.test") == [f"mx{n}.test" for n in range(MAX_HOSTS)]


@on_loop
async def test_hosts_behind_ourselves_are_cut_off() -> None:
    assert await names("backup-is-us.test") == ["mx.a.test"]


@pytest.mark.parametrize(
    ("destination", "code", "status"),
    [
        ("null.test", 556, "5.1.10"),
        ("no-such-domain.test", 550, "5.1.2"),
        ("first-is-us.test", 550, "5.4.6"),
        ("mail.here.test", 550, "5.4.6"),
        ("down.test", 451, "4.4.3"),
        ("[300.1.1.1]", 550, "5.1.2"),
        ("[x-tag:1]", 550, "5.1.2"),
    ],
)
@on_loop
async def test_no_route(destination: str, code: int, status: str) -> None:
    reply = await router().hosts(destination)
    assert isinstance(reply, Reply)
    assert reply[:2] == (code, status)


@on_loop
async def test_address_literals() -> None:
    assert await names("[192.0.2.7]") == ["192.0.2.7"]
    assert await names("[IPv6:2001:DB8::7]") == ["2001:db8::7"]


@on_loop
async def test_addresses() -> None:
    here = router()
    assert await here.addresses(Host("mx.a.test")) == ["2001:db8::1", "192.0.2.1"]
    assert await here.addresses(Host("192.0.2.7")) == ["192.0.2.7"]
    for name, code, status in (
        ("backup.a.test", 550, "5.4.4"),
        ("no-such-host.test", 550, "5.4.4"),
        ("down.test", 451, "4.4.3"),
    ):
        reply = await here.addresses(Host(name))
        assert isinstance(reply, Reply)
        assert reply[:2] == (code, status)


@on_loop
async def test_addresses_that_are_this_server() -> None:
    here = router(own_ports=[25])
    reply = await here.addresses(Host("127.test"))
    assert isinstance(reply, Reply)
    assert reply.status == "5.4.6"
    assert await here.addresses(Host("128.test")) == ["192.0.2.3"]
    assert await here.addresses(Host("127.test", 2525)) == ["::", "127.0.0.1"]  # another server on this machine


@on_loop
async def test_a_smart_host_takes_everything() -> None:
    smart = Host("smart.test", 587, "starttls", Credentials("me", "secret"))
    here = router(smarthost=smart)
    for destination in ("a.test", "null.test", "down.test", "[192.0.2.1]"):
        assert await here.hosts(destination) == (smart,)
        assert here.next_hop(destination) == "smart.test"
    assert "secret" not in repr(smart)
    assert router().next_hop("a.test") == "a.test"

"""Whom policies do not concern, and how kept connections and TLS sessions are shared: only where as much is asked."""

import asyncio

import pytest

from posthouse.queue import manager
from posthouse.queue.tls_counts import Count
from tests.queue.site import ALICE, Site, counted, site
from tests.queue.test_dane import record
from tests.queue.test_secured import (
    BOB,
    LAB,
    LEAF,
    MX,
    POLICY,
    STRANGER,
    TA,
    TRUSTED,
    attempt,
    host,
    now,
    one_host,
    tlsa,
)
from tests.support.certificates import Pair, context_of, root_file, server_context
from tests.support.loop import on_both_loops, on_loop
from tests.support.policies import policy
from tests.support.remote import DROP, Remote


@pytest.fixture(autouse=True)
def kept_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow the machine is, idle connections stay open."""
    monkeypatch.setattr(manager, "KEEP", 600.0)


async def close_kept(here: Site) -> None:
    """End idle connections, so that the next message opens one."""
    await here.manager._sender.sessions.close()


# Hosts that the settings name


@pytest.mark.parametrize(("name", "taken"), [("localhost", 1), ("wrong.test", 0)])
@on_loop
async def test_a_smart_host_is_asked_what_the_settings_say(name: str, taken: int) -> None:
    probe = Remote()
    port = await probe.start("127.0.0.2")
    await probe.stop()
    async with site(relay={"smarthost": {"host": "localhost", "port": port}}, **LAB) as here:
        now(here)
        here.port = port
        here.resolver.secure = True
        here.zone["localhost"] = {"A": ["127.0.0.2"]}
        here.zone[f"_{port}._tcp.localhost"] = {"TLSA": [record(LEAF)]}  # nobody asks
        here.publish("there.test", POLICY)
        remote = await here.remote("smart.test", tls=server_context(name))
        for number in range(2):
            trace = await here.run(BOB)
            assert len(remote.taken) == (number + 1) * taken
            tried = await host(here, trace)
            assert (tried["policy"], tried["reason"]) == ("pkix", "the settings say so")
            if taken:
                assert tried["tls"]["verified"] == "pkix"
                assert tried["tls"]["resumed"] is (number == 1)
            else:
                assert tried["result"] == "certificate-host-mismatch"
                assert (await here.waiting())[BOB].last_status == "4.7.5"
            await close_kept(here)
        assert counted(here.guard.counts) == {}


@on_loop
async def test_an_address_has_no_policy() -> None:
    async with site() as here:
        remote = await one_host(here, STRANGER)
        here.resolver.secure = True
        trace = await here.run("bob@[127.0.0.2]")
        assert [taken.secure for taken in remote.taken] == [True]
        assert (await host(here, trace))["reason"] == "an address has no policy"


ROUTE = {"name": "r", "to": ["there.test"], "via": "direct"}


@pytest.mark.parametrize(
    ("pair", "dane", "policy_", "ok"),
    [
        (TRUSTED, False, "pkix", True),
        (STRANGER, False, "pkix", False),
        (LEAF, True, "dane", True),  # the records say whom to trust
        (TRUSTED, True, "dane", False),
    ],
)
@on_loop
async def test_a_route_by_mx_records_may_want_certificates_that_are_verified(
    pair: Pair, dane: bool, policy_: str, ok: bool
) -> None:
    async with site(route=[{**ROUTE, "tls": "starttls"}], **LAB) as here:
        remote = await one_host(here, pair)
        if dane:
            tlsa(here, LEAF)
        trace = await here.run(BOB)
        assert [taken.secure for taken in remote.taken] == [True] * ok
        assert (await host(here, trace))["policy"] == policy_
        assert [domain for domain, _ in here.guard.counts.take()] == ["there.test"] * dane


@on_loop
async def test_a_route_by_mx_records_may_do_without_tls_whatever_the_domain_asks_for() -> None:
    """Nobody writes that by mistake."""
    async with site(route=[{**ROUTE, "tls": "none"}], **LAB) as here:
        remote = await one_host(here, TRUSTED)
        here.publish("there.test", POLICY)
        tried = await host(here, await here.run(BOB))
        assert [taken.secure for taken in remote.taken] == [False]
        assert (tried["policy"], tried["tls"]) == ("", {})


@on_loop
async def test_routes_have_certificate_authorities_of_their_own() -> None:
    probe = Remote()
    port = await probe.start("127.0.0.2")
    await probe.stop()
    own = {"name": "own", "to": ["own.test"], "via": "smarthost", "host": "localhost", "port": port, "ca": root_file()}
    usual = {"name": "usual", "to": ["usual.test"], "via": "smarthost", "host": "localhost", "port": port}
    async with site(route=[own, usual]) as here:
        here.port = port
        here.zone["localhost"] = {"A": ["127.0.0.2"]}
        remote = await here.remote("smart.test", tls=server_context("localhost"))
        for resumed in (False, True):
            tried = await host(here, await here.run("bob@own.test"))
            assert (tried["tls"]["verified"], tried["tls"]["resumed"]) == ("pkix", resumed)
            await close_kept(here)
        # Sessions of one do not lead around the other's doubts.
        await here.run("bob@usual.test")
        assert len(remote.taken) == 2
        assert (await here.waiting())["bob@usual.test"].last_status == "4.7.5"


# Kept connections and resumed sessions


@on_loop
async def test_a_kept_connection_serves_only_what_asks_for_the_same() -> None:
    """Three domains at one host: what each asks for counts for it alone."""
    async with site(**LAB) as here:
        remote = await one_host(here, TRUSTED)
        for name in ("plain.test", "enforce.test", "testing.test"):
            here.domain(name, MX)
        here.publish("enforce.test", POLICY)
        here.publish("testing.test", policy("testing", (MX,)))
        seen = []
        for name in ("plain.test", "enforce.test", "testing.test", "there.test", "enforce.test"):
            tried = await host(here, await here.run(f"bob@{name}"))
            seen.append((tried["policy"], tried["message"], remote.connections))
        assert seen == [
            ("opportunistic", 1, 1),
            ("sts-enforce", 1, 2),
            ("sts-testing", 1, 3),
            ("opportunistic", 2, 3),
            ("sts-enforce", 2, 3),
        ]
        assert counted(here.guard.counts) == {
            ("plain.test", "no-policy-found"): Count(1, {}),
            ("enforce.test", "sts"): Count(1, {}),
            ("testing.test", "sts"): Count(1, {}),
            ("there.test", "no-policy-found"): Count(1, {}),
        }


@on_loop
async def test_a_kept_connection_without_tls_carries_no_mail_that_needs_it() -> None:
    async with site(**LAB) as here:
        remote = await one_host(here)
        here.domain("enforce.test", MX)
        here.publish("enforce.test", POLICY)
        await here.run(BOB)
        await here.run("bob@enforce.test")
        assert [taken.recipients for taken in remote.taken] == [(BOB,)]
        assert (await here.waiting())["bob@enforce.test"].last_status == "4.7.5"


@on_loop
async def test_a_kept_connection_is_judged_again_when_the_records_changed() -> None:
    async with site() as here:
        remote = await one_host(here, LEAF, TA)
        tlsa(here, LEAF)
        await here.run(BOB)
        tlsa(here, TA, usage=2)
        tried = await host(here, await here.run(BOB))
        assert (tried["finding"], tried["message"], remote.connections) == ("DANE-TA matched 2 1 1", 2, 1)
        tlsa(here, STRANGER)
        trace = await here.run(BOB)
        assert len(remote.taken) == 2
        assert remote.connections == 2  # it looks whether the server shows another one by now
        data = await attempt(here, trace)
        assert any("does not serve any more" in line for line in data["transcript"])
        assert data["hosts"][0]["result"] == "validation-failure"
        assert data["hosts"][0]["message"] == 1


@on_loop
async def test_domains_that_share_a_host_share_connections_if_both_find_it_good() -> None:
    async with site() as here:
        remote = await one_host(here, LEAF)
        here.domain("other.test", MX)
        tlsa(here, LEAF)
        traces = [await here.run(BOB), await here.run("bob@other.test"), await here.run("eve@other.test")]
        assert [(await host(here, trace))["message"] for trace in traces] == [1, 2, 3]
        assert remote.connections == 1
        assert counted(here.guard.counts) == {
            ("there.test", "tlsa"): Count(1, {}),
            ("other.test", "tlsa"): Count(1, {}),
        }


@on_both_loops
async def test_sessions_are_resumed_and_judged_by_the_records_of_the_day() -> None:
    async with site() as here:
        remote = await one_host(here, LEAF, TA)
        tlsa(here, LEAF)
        seen = []
        for number in range(5):
            if number == 2:
                tlsa(here, TA, usage=2)
            if number == 3:
                tlsa(here, STRANGER)
            tried = await host(here, await here.run(f"bob{number}@there.test"))
            seen.append((tried["tls"]["resumed"], tried["tls"]["verified"]))
            await close_kept(here)
        # What does not fit the records any more is not offered, so that the server shows what it has now.
        assert seen == [(False, "dane"), (True, "dane"), (True, "dane"), (False, ""), (False, "")]
        assert len(remote.taken) == 3


@on_loop
async def test_a_session_that_began_unverified_is_not_resumed_under_a_policy() -> None:
    async with site(**LAB) as here:
        remote = await one_host(here, STRANGER)
        for resumed in (False, True):
            assert (await host(here, await here.run(BOB)))["tls"]["resumed"] is resumed
            await close_kept(here)
        here.publish("there.test", POLICY)
        trace = await here.run(BOB)
        assert len(remote.taken) == 2
        tried = await host(here, trace)
        assert (tried["policy"], tried["result"]) == ("sts-enforce", "certificate-not-trusted")
        remote.tls = context_of(TRUSTED)
        await here.pass_time(70)
        tried = await host(here, trace)
        assert (tried["tls"]["resumed"], tried["tls"]["verified"]) == (False, "pkix")
        await close_kept(here)
        tried = await host(here, await here.run(ALICE.replace("here", "there")))
        assert (tried["tls"]["resumed"], tried["tls"]["verified"]) == (True, "pkix")


@on_loop
async def test_a_dead_connection_leaves_nothing_in_the_trace_of_the_next() -> None:
    async with site() as here:
        remote = await one_host(here, LEAF, script={"MAIL": ["", DROP, ""]})
        await here.run(BOB)
        remote.tls = None
        tried = await host(here, await here.run(BOB))
        assert (tried["message"], tried["tls"], tried["result"]) == (1, {}, "starttls-not-supported")
        assert [taken.secure for taken in remote.taken] == [True, False]


@pytest.mark.parametrize("pipelining", [True, False])
@on_both_loops
async def test_a_conversation_that_was_cut_in_the_midst_is_not_kept(pipelining: bool) -> None:
    async with site() as here:
        remote = await here.remote("there.test", extensions=("PIPELINING",) * pipelining)
        remote.gate = asyncio.Event()
        await here.queue(BOB)
        await remote.arrived.wait()
        for task in list(here.manager._tasks):  # as its own limit of time does it
            task.cancel()
        await asyncio.wait(list(here.manager._tasks))
        remote.gate = None
        await here.run("carol@there.test")
        assert [taken.recipients for taken in remote.taken] == [("carol@there.test",)]
        assert remote.connections == 2
        assert "QUIT" not in remote.commands

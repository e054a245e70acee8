"""Messages that must go by TLS all the way (REQUIRETLS), and messages for which no policy counts (TLS-Required: No)."""

from typing import Any

import pytest

from posthouse.queue import manager
from posthouse.queue.transport_security import is_tls_optional
from posthouse.smtp.params import MailParams
from tests.queue.site import MESSAGE, Site, site
from tests.queue.test_asked import ask, said
from tests.queue.test_secured import (
    BOB,
    EXPIRED,
    LAB,
    LEAF,
    MX,
    MX2,
    OTHER,
    POLICY,
    STRANGER,
    TRUSTED,
    attempt,
    host,
    now,
    one_host,
    tlsa,
    without_tls_ciphers,
)
from tests.support.certificates import Pair, context_of, issue, root
from tests.support.loop import on_both_loops, on_loop
from tests.support.policies import policy
from tests.support.remote import DROP, Remote

REQUIRED = MailParams(requiretls=True)
PROMISES: dict[str, Any] = {"extensions": ("PIPELINING", "REQUIRETLS")}
OPTIONAL = b"TLS-Required: No\r\n" + MESSAGE


@pytest.fixture(autouse=True)
def kept_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow the machine is, idle connections stay open."""
    monkeypatch.setattr(manager, "KEEP", 600.0)


def signed(here: Site) -> None:
    """The zone is signed; there are no TLSA records."""
    here.resolver.secure = True


def enforced(here: Site) -> None:
    here.publish("there.test", POLICY)


def dane(here: Site) -> None:
    tlsa(here, LEAF)


def unusable(here: Site) -> None:
    """TLS is required, nobody authenticated: a public CA must vouch for the server then."""
    tlsa(here, LEAF, usage=1)


def signed_trial(here: Site) -> None:
    signed(here)
    here.publish("there.test", policy("testing", (MX,)))


@pytest.mark.parametrize(
    ("way", "pair", "level", "verified"),
    [
        (dane, LEAF, "dane", "dane"),
        (enforced, TRUSTED, "sts-enforce", "pkix"),
        (signed, TRUSTED, "pkix", "pkix"),
        (unusable, TRUSTED, "pkix", "pkix"),
        (signed_trial, TRUSTED, "pkix", "pkix"),
    ],
)
@on_loop
async def test_where_the_way_is_certain_it_goes(way: Any, pair: Pair, level: str, verified: str) -> None:
    async with site(**LAB) as here:
        remote = await one_host(here, pair, **PROMISES)
        way(here)
        trace = await ask(here, REQUIRED)
        assert [taken.secure for taken in remote.taken] == [True]
        assert said(remote, "MAIL").endswith(" REQUIRETLS")
        tried = await host(here, trace)
        assert (tried["policy"], tried["tls"]["verified"]) == (level, verified)
        assert await here.bounces() == []
        # What the message asked for says nothing about the domain.
        assert len(here.guard.counts.take()) == (level != "pkix")


def nothing(here: Site) -> None:
    """Anybody may have written the MX record."""


def trial(here: Site) -> None:
    here.publish("there.test", policy("testing", (MX,)))


@pytest.mark.parametrize("way", [nothing, trial])
@on_loop
async def test_where_the_name_is_not_certain_it_comes_back(way: Any) -> None:
    async with site(**LAB) as here:
        remote = await one_host(here, TRUSTED, **PROMISES)
        way(here)
        trace = await ask(here, REQUIRED)
        assert remote.connections == 0
        assert "name is certain" in (await host(here, trace))["outcome"]
        (report,) = await here.bounces()
        assert b"Status: 5.7.30" in report
        assert b"asked for TLS all the way" in report
        assert b"send it again without" in report.replace(b"\r\n    ", b" ")


@pytest.mark.parametrize("way", [dane, enforced, signed])
@on_loop
async def test_a_server_that_does_not_promise_it_does_not_get_it(way: Any) -> None:
    async with site(**LAB) as here:
        remote = await one_host(here, LEAF if way is dane else TRUSTED)
        way(here)
        await ask(here, REQUIRED)
        assert not remote.taken
        assert not [command for command in remote.commands if command.startswith("MAIL")]
        (report,) = await here.bounces()
        assert b"Status: 5.7.30" in report
        # The connection is good for other mail.
        await here.run(BOB)
        assert len(remote.taken) == 1
        assert remote.connections == (2 if way is signed else 1)


@on_both_loops
async def test_the_next_host_may_promise_it() -> None:
    async with site(**LAB) as here:
        first = await one_host(here, TRUSTED)
        second = await here.remote(MX2, tls=context_of(issue(MX2, root())), **PROMISES)
        here.domain("there.test", MX, MX2)
        signed(here)
        trace = await ask(here, REQUIRED)
        assert not first.taken
        assert [taken.secure for taken in second.taken] == [True]
        assert "does not promise it" in (await attempt(here, trace))["hosts"][0]["outcome"]
        assert await here.bounces() == []


@pytest.mark.parametrize("pair", [EXPIRED, OTHER, STRANGER, None])
@pytest.mark.parametrize("way", [signed, enforced, unusable, dane])
@on_loop
async def test_without_safe_tls_it_comes_back(way: Any, pair: Pair | None) -> None:
    async with site(**LAB) as here:
        remote = await one_host(here, *((pair,) if pair else ()), **PROMISES)
        way(here)
        trace = await ask(here, REQUIRED)
        assert not remote.taken
        assert not [command for command in remote.commands if command.startswith("MAIL")]
        assert (await attempt(here, trace))["results"][BOB]["state"] == "failed"
        (report,) = await here.bounces()
        assert b"Status: 5.7.10" in report
        assert b"there is no safe TLS" in report


@pytest.mark.parametrize("step", ["handshake", "STARTTLS", "connect", "refused"])
@on_loop
async def test_what_may_pass_is_tried_again(step: str) -> None:
    async with site(**LAB) as here:
        now(here)
        here.domain("there.test", MX)
        remote = await here.remote(MX, {step: DROP}, tls=without_tls_ciphers(), **PROMISES)
        if step == "refused":
            here.zone[MX] = {"A": ["127.0.0.99"]}
        signed(here)
        await ask(here, REQUIRED)
        assert not remote.taken
        assert await here.bounces() == []
        assert BOB in await here.waiting()


@pytest.mark.parametrize(("tls", "name", "taken"), [("opportunistic", "localhost", 1), ("opportunistic", "x.test", 0)])
@on_loop
async def test_the_settings_vouch_for_the_name_of_a_smart_host(tls: str, name: str, taken: int) -> None:
    probe = Remote()
    port = await probe.start("127.0.0.2")
    await probe.stop()
    async with site(relay={"smarthost": {"host": "localhost", "port": port, "tls": tls}}, **LAB) as here:
        here.port = port
        here.zone["localhost"] = {"A": ["127.0.0.2"]}
        remote = await here.remote("smart.test", tls=context_of(issue(name, root())), **PROMISES)
        trace = await ask(here, REQUIRED)
        assert len(remote.taken) == taken
        assert (await host(here, trace))["policy"] == "pkix"
        assert len(await here.bounces()) == 1 - taken


@on_loop
async def test_a_route_that_wants_tls_makes_no_name_certain() -> None:
    route = {"name": "r", "to": ["there.test"], "via": "direct", "tls": "starttls"}
    async with site(route=[route], **LAB) as here:
        remote = await one_host(here, TRUSTED, **PROMISES)
        await ask(here, REQUIRED)
        assert remote.connections == 0
        (report,) = await here.bounces()
        assert b"Status: 5.7.30" in report
        signed(here)
        await ask(here, REQUIRED)
        assert len(remote.taken) == 1


@on_loop
async def test_an_address_literal_is_no_certain_name() -> None:
    async with site() as here:
        remote = await one_host(here, TRUSTED, **PROMISES)
        signed(here)
        await ask(here, REQUIRED, to="bob@[127.0.0.2]")
        assert remote.connections == 0


@on_loop
async def test_a_smart_host_without_tls_gets_none() -> None:
    async with site(relay={"smarthost": {"host": "127.0.0.2", "port": 25, "tls": "none"}}) as here:
        remote = await here.remote("smart.test", **PROMISES)
        await ask(here, REQUIRED)
        assert remote.connections == 0
        (report,) = await here.bounces()
        assert b"Status: 5.7.30" in report
        assert b"the settings send it to" in report


@pytest.mark.parametrize(
    ("way", "promises", "says"), [(nothing, PROMISES, False), (enforced, {}, False), (enforced, PROMISES, True)]
)
@on_loop
async def test_a_bounce_goes_all_the_same(way: Any, promises: dict[str, Any], says: bool) -> None:
    async with site(**LAB) as here:
        remote = await one_host(here, TRUSTED, **promises)
        way(here)
        await ask(here, REQUIRED, sender="")
        assert len(remote.taken) == 1
        assert said(remote, "MAIL").endswith(" REQUIRETLS") == says


@on_loop
async def test_a_kept_connection_that_was_not_verified_carries_none() -> None:
    async with site(**LAB) as here:
        remote = await one_host(here, TRUSTED, **PROMISES)
        signed(here)
        await here.run(BOB)
        tried = await host(here, await ask(here, REQUIRED))
        assert (tried["policy"], tried["message"], remote.connections) == ("pkix", 1, 2)
        tried = await host(here, await ask(here, REQUIRED))
        assert (tried["policy"], tried["message"], remote.connections) == ("pkix", 2, 2)


# TLS-Required: No


@pytest.mark.parametrize("way", [dane, enforced])
@on_loop
async def test_a_message_may_waive_the_policies(way: Any) -> None:
    async with site(**LAB) as here:
        remote = await one_host(here, STRANGER)
        way(here)
        trace = await here.run(BOB, content=OPTIONAL)
        assert [taken.secure for taken in remote.taken] == [True]
        tried = await host(here, trace)
        assert (tried["policy"], tried["tls"]["verified"]) == ("opportunistic", "")
        assert "TLS-Required: No" in tried["reason"]
        assert here.guard.counts.take() == {}
        await here.run("carol@there.test")
        assert len(remote.taken) == 1, "the connection that was opened for it carries no other mail"


@on_loop
async def test_waived_policies_go_without_tls_and_by_hosts_they_do_not_name() -> None:
    async with site(**LAB) as here:
        remote = await one_host(here)
        here.publish("there.test", policy(mx=("other.test",)))
        await here.run(BOB, content=OPTIONAL)
        assert [taken.secure for taken in remote.taken] == [False]


@on_loop
async def test_requiretls_counts_more_than_the_field() -> None:
    async with site(**LAB) as here:
        remote = await one_host(here, STRANGER, **PROMISES)
        dane(here)
        await ask(here, REQUIRED, content=OPTIONAL)
        assert not remote.taken
        (report,) = await here.bounces()
        assert b"Status: 5.7.10" in report


@on_loop
async def test_the_field_is_found_in_a_large_message() -> None:
    body = b"\r\n" + (b"y" * 70 + b"\r\n") * 10_000
    async with site(**LAB) as here:
        remote = await one_host(here, STRANGER)
        enforced(here)
        await here.run(BOB, content=b"Subject: x\r\nTLS-Required: No\r\n" + body)
        assert len(remote.taken) == 1
        await here.run("carol@there.test", content=b"Subject: x\r\n" + body + b"TLS-Required: No\r\n")
        # A header of more than 64 KiB is not read to its end.
        await here.run("eve@there.test", content=(b"X: " + b"y" * 900 + b"\r\n") * 100 + b"TLS-Required: No\r\n" + body)
        await here.run(
            "dave@there.test", content=(b"X: " + b"y" * 900 + b"\r\n") * 300 + b"TLS-Required: No\r\n" + body
        )
        assert len(remote.taken) == 1


@pytest.mark.parametrize(
    ("head", "optional"),
    [
        (b"TLS-Required: No\r\n", True),
        (b"Subject: x\r\ntls-required:no (please)\r\n", True),
        (b"TLS-Required:\r\n No\r\n", True),
        (b"TLS-Required: No\r\nTLS-Required: No\r\n", True),
        (b"TLS-Required: Yes\r\n", False),
        (b"TLS-Required: No\r\nTLS-Required: Yes\r\n", False),
        (b"TLS-Required: Not\r\n", False),
        (b"TLS-Required:\r\n", False),
        (b"X-TLS-Required: No\r\n", False),
        (b"Subject: TLS-Required: No\r\n", False),
        (b"Subject: x\r\n\r\nTLS-Required: No\r\n", False),
    ],
)
def test_the_field(head: bytes, optional: bool) -> None:
    assert is_tls_optional(head + b"\r\nbody\r\n\r\n") is optional


@pytest.mark.parametrize("start", [b"", b"\r\n\r\n", b"TLS-Required: No\r\nX: y", b"TLS-Required: No" + b"(" * 60_000])
def test_without_the_end_of_the_header_nothing_is_waived(start: bytes) -> None:
    assert not is_tls_optional(start)

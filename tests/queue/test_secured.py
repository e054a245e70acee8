"""DANE, MTA-STS and kept connections on the whole way: queue, real servers with real certificates, trace, retries."""

import asyncio
import ssl
from pathlib import Path
from typing import Any

import pytest

from posthouse.base.errors import Permanent
from posthouse.net.http import HttpFailed
from posthouse.queue.manager import QueueManager
from posthouse.queue.tls_counts import Count, Failure
from tests.queue.site import SECOND, Site, counted, site
from tests.queue.test_dane import record
from tests.support import house
from tests.support.certificates import NOW, Pair, context_of, issue, root, root_file, server_context
from tests.support.loop import on_both_loops, on_loop
from tests.support.policies import policy, serving
from tests.support.remote import Remote, Script

BOB = "bob@there.test"
MX, MX2 = "mx.there.test", "mx2.there.test"
TA = issue("Some CA", None)
LEAF = issue(MX, TA)  # nobody knows its CA
STRANGER = issue(MX, issue("Nobody", None))
TRUSTED = issue(MX, root())
EXPIRED = issue(MX, root(), expired=True)
OTHER = issue("x.test", root())
LAB: dict[str, Any] = {"transport_security": {"ca": root_file()}}
POLICY = policy(mx=(MX,))


def now(here: Site) -> None:
    """The certificates are of today."""
    here.clock.move((NOW - here.clock.now()) / SECOND)


def tlsa(here: Site, pair: Pair, host: str = MX, **options: int) -> None:
    """A signed zone with this record."""
    here.resolver.secure = True
    here.zone[f"_25._tcp.{host}"] = {"TLSA": [record(pair, **options)]}


def without_tls_ciphers() -> ssl.SSLContext:
    """A context that agrees with no client."""
    context = server_context("broken.test")
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("PSK-AES128-GCM-SHA256")
    return context


async def one_host(here: Site, *chain: Pair, script: Script | None = None, **options: Any) -> Remote:
    """The mail server of there.test, with a certificate if `chain` is given."""
    now(here)
    here.domain("there.test", MX)
    return await here.remote(MX, script, tls=context_of(*chain) if chain else None, **options)


async def attempt(here: Site, trace: int) -> dict[str, Any]:
    """The last one."""
    return (await here.attempts(trace))[-1].data


async def host(here: Site, trace: int) -> dict[str, Any]:
    """The one host of the last attempt."""
    (tried,) = (await attempt(here, trace))["hosts"]
    assert isinstance(tried, dict)
    return tried


# DANE


@on_both_loops
async def test_dane() -> None:
    async with site() as here:
        remote = await one_host(here, LEAF, TA)
        tlsa(here, LEAF)
        trace = await here.run(BOB)
        assert [taken.secure for taken in remote.taken] == [True]
        data = await attempt(here, trace)
        (tried,) = data["hosts"]
        assert tried.pop("tls") == {"version": "TLSv1.3", "cipher": "TLS_AES_256_GCM_SHA384", "verified": "dane",
                                    "resumed": False}  # fmt: skip
        assert tried == {
            "host": MX,
            "address": f"[127.0.0.2]:{here.port}",
            "policy": "dane",
            "reason": f"DANE: TLSA records of _25._tcp.{MX}: 3 1 1",
            "finding": "DANE-EE matched 3 1 1",
            "result": "",
            "outcome": "answered",
            "message": 1,
            "ms": 0,
        }
        assert data["security"] == "DANE-EE matched 3 1 1"
        assert "! DANE-EE matched 3 1 1" in data["transcript"]
        assert counted(here.guard.counts) == {("there.test", "tlsa"): Count(1, {})}


@on_loop
async def test_a_wrong_tlsa_record_keeps_mail_until_it_is_right() -> None:
    async with site() as here:
        remote = await one_host(here, LEAF)
        tlsa(here, STRANGER)
        trace = await here.run(BOB)
        row = (await here.waiting())[BOB]
        assert (row.last_code, row.last_status, row.last_host) == (451, "4.7.5", MX)
        assert "no TLSA record (3 1 1) fits" in row.last_text
        assert [command.split()[0] for command in remote.commands] == ["EHLO", "STARTTLS"]
        tried = await host(here, trace)
        assert (tried["policy"], tried["result"], tried["tls"]["verified"]) == ("dane", "validation-failure", "")
        assert "no TLSA record (3 1 1) fits" in tried["outcome"]
        assert counted(here.guard.counts) == {("there.test", "tlsa"): Count(0, {Failure("validation-failure", MX): 1})}
        await here.pass_time(70)
        assert len(await here.attempts(trace)) == 2
        assert not remote.taken
        tlsa(here, LEAF)
        await here.pass_time(220)
        assert [taken.secure for taken in remote.taken] == [True]
        assert await here.waiting() == {}


@on_loop
async def test_the_next_host_is_tried_and_each_is_told() -> None:
    async with site() as here:
        first = await one_host(here, LEAF)
        good = issue(MX2, TA)
        second = await here.remote(MX2, tls=context_of(good))
        here.domain("there.test", MX, MX2)
        tlsa(here, STRANGER)
        tlsa(here, good, MX2)
        trace = await here.run(BOB)
        assert not first.taken
        assert [taken.secure for taken in second.taken] == [True]
        data = await attempt(here, trace)
        assert [(one["host"], one["tls"]["verified"]) for one in data["hosts"]] == [(MX, ""), (MX2, "dane")]
        assert data["host"] == MX2
        assert data["results"][BOB]["state"] == "delivered"
        assert counted(here.guard.counts) == {("there.test", "tlsa"): Count(1, {Failure("validation-failure", MX): 1})}


@pytest.mark.parametrize(("usage", "taken"), [(3, 1), (2, 0)])
@on_loop
async def test_dates_count_below_an_anchor_alone(usage: int, taken: int) -> None:
    expired = issue(MX, TA, expired=True)
    async with site() as here:
        remote = await one_host(here, expired, TA)
        tlsa(here, expired if usage == 3 else TA, usage=usage)
        trace = await here.run(BOB)
        assert len(remote.taken) == taken
        assert (await host(here, trace))["result"] == ("" if taken else "certificate-expired")


@pytest.mark.parametrize("script", [None, {"STARTTLS": "454 4.7.0 not now"}, {"STARTTLS": "502 5.5.1 what?"}])
@pytest.mark.parametrize("level", ["dane", "sts-enforce"])
@on_loop
async def test_no_mail_without_tls_where_it_is_required(level: str, script: Script | None) -> None:
    """Somebody on the way who strips STARTTLS gets nothing but EHLO."""
    async with site(**LAB) as here:
        remote = await one_host(here, *((TRUSTED,) if script else ()), script=script)
        if level == "dane":
            tlsa(here, TRUSTED)
        else:
            here.publish("there.test", POLICY)
        trace = await here.run(BOB)
        assert not remote.taken
        assert not [command for command in remote.commands if command.startswith(("MAIL", "RCPT"))]
        row = (await here.waiting())[BOB]
        assert row.last_status == "4.7.5"
        assert "does not do TLS, which is required" in row.last_text
        tried = await host(here, trace)
        assert (tried["policy"], tried["result"], tried["tls"]) == (level, "starttls-not-supported", {})
        assert remote.connections == 1


@pytest.mark.parametrize("level", ["dane", "sts-enforce"])
@on_loop
async def test_a_handshake_that_breaks_off_is_not_followed_by_mail_without_tls(level: str) -> None:
    async with site(**LAB) as here:
        now(here)
        here.domain("there.test", MX)
        remote = await here.remote(MX, tls=without_tls_ciphers())
        if level == "dane":
            tlsa(here, TRUSTED)
        else:
            here.publish("there.test", POLICY)
        trace = await here.run(BOB)
        assert remote.connections == 1
        assert not remote.taken
        assert (await here.waiting())[BOB].last_status == "4.7.5"
        assert "the TLS handshake failed" in (await host(here, trace))["finding"]


@on_loop
async def test_what_the_dns_does_not_say_for_certain_puts_the_host_off() -> None:
    async with site() as here:
        remote = await one_host(here, LEAF)
        tlsa(here, LEAF)
        here.zone[f"_25._tcp.{MX}"] = None
        trace = await here.run(BOB)
        assert remote.connections == 0
        tried = await host(here, trace)
        assert (tried["policy"], tried["result"], tried["address"]) == ("dane", "dnssec-invalid", "")
        assert "did not say for certain" in tried["outcome"]
        assert (await here.waiting())[BOB].last_status == "4.7.5"
        assert counted(here.guard.counts) == {("there.test", "tlsa"): Count(0, {Failure("dnssec-invalid", MX): 1})}


@on_loop
async def test_records_that_nobody_can_use_want_tls_and_no_more() -> None:
    async with site() as here:
        remote = await one_host(here, STRANGER)
        tlsa(here, LEAF, usage=1)
        trace = await here.run(BOB)
        assert [taken.secure for taken in remote.taken] == [True]
        tried = await host(here, trace)
        assert (tried["policy"], tried["result"], tried["tls"]["verified"]) == ("dane", "tlsa-invalid", "")


@pytest.mark.parametrize("options", [{"dane": False}, {}])
@on_loop
async def test_without_dane_the_records_are_not_looked_at(options: dict[str, bool]) -> None:
    """It is off by the settings, or no resolver validates."""
    async with site(transport_security=options) as here:
        remote = await one_host(here, LEAF)
        tlsa(here, STRANGER)
        here.resolver.secure = bool(options)
        trace = await here.run(BOB)
        assert [taken.secure for taken in remote.taken] == [True]
        tried = await host(here, trace)
        assert tried["policy"] == "opportunistic"
        assert "DANE is off" in tried["reason"] if options else "not signed, or not validated" in tried["reason"]


# MTA-STS


@on_both_loops
async def test_an_enforced_policy() -> None:
    async with site(**LAB) as here:
        remote = await one_host(here, TRUSTED)
        here.publish("there.test", POLICY)
        trace = await here.run(BOB)
        assert [taken.secure for taken in remote.taken] == [True]
        tried = await host(here, trace)
        assert (tried["policy"], tried["tls"]["verified"]) == ("sts-enforce", "pkix")
        assert tried["finding"] == f"the certificate is for {MX}, as MTA-STS wants"
        assert tried["reason"].endswith("MTA-STS policy 7 of there.test (enforce)")
        assert counted(here.guard.counts) == {("there.test", "sts"): Count(1, {})}


BAD = [
    (EXPIRED, "certificate-expired"),
    (OTHER, "certificate-host-mismatch"),
    (STRANGER, "certificate-not-trusted"),
]


@pytest.mark.parametrize(("pair", "result"), BAD)
@on_loop
async def test_enforced_mail_does_not_go_to_bad_certificates(pair: Pair, result: str) -> None:
    async with site(**LAB) as here:
        remote = await one_host(here, pair)
        here.publish("there.test", POLICY)
        trace = await here.run(BOB)
        assert not remote.taken
        assert (await here.waiting())[BOB].last_status == "4.7.5"
        assert (await host(here, trace))["result"] == result
        assert counted(here.guard.counts) == {("there.test", "sts"): Count(0, {Failure(result, MX): 1})}


@pytest.mark.parametrize(("pair", "result"), BAD)
@on_loop
async def test_under_a_policy_that_is_tested_mail_goes_and_is_counted(pair: Pair, result: str) -> None:
    async with site(**LAB) as here:
        remote = await one_host(here, pair)
        here.publish("there.test", policy("testing", (MX,)))
        trace = await here.run(BOB)
        assert [taken.secure for taken in remote.taken] == [True]
        tried = await host(here, trace)
        assert (tried["policy"], tried["result"], tried["tls"]["verified"]) == ("sts-testing", result, "")
        assert counted(here.guard.counts) == {("there.test", "sts"): Count(0, {Failure(result, MX): 1})}


@pytest.mark.parametrize("broken", [False, True])
@on_loop
async def test_under_a_policy_that_is_tested_mail_goes_without_tls_too(broken: bool) -> None:
    async with site(**LAB) as here:
        now(here)
        here.domain("there.test", MX)
        remote = await here.remote(MX, tls=without_tls_ciphers() if broken else None)
        here.publish("there.test", policy("testing", (MX,)))
        trace = await here.run(BOB)
        assert [taken.secure for taken in remote.taken] == [False]
        result = "validation-failure" if broken else "starttls-not-supported"
        tried = await host(here, trace)
        assert (tried["policy"], tried["result"], tried["tls"]) == ("sts-testing", result, {})
        assert counted(here.guard.counts) == {("there.test", "sts"): Count(0, {Failure(result, MX): 1})}


@on_loop
async def test_a_host_that_the_policy_does_not_name_is_not_even_connected_to() -> None:
    async with site(**LAB) as here:
        first = await one_host(here, TRUSTED)
        second = await here.remote(MX2, tls=context_of(issue(MX2, root())))
        here.domain("there.test", MX, MX2)
        here.publish("there.test", policy(mx=(MX2,)))
        trace = await here.run(BOB)
        assert first.connections == 0
        assert len(second.taken) == 1
        tried = (await attempt(here, trace))["hosts"]
        assert [(one["policy"], one["result"]) for one in tried] == [
            ("sts-enforce", "validation-failure"),
            ("sts-enforce", ""),
        ]


@on_loop
async def test_a_policy_that_cannot_be_fetched() -> None:
    async with site(**LAB) as here:
        remote = await one_host(here, STRANGER)
        here.publish("there.test", HttpFailed("it is down"))
        trace = await here.run(BOB)
        assert len(remote.taken) == 1
        tried = await host(here, trace)
        assert (tried["policy"], tried["result"]) == ("opportunistic", "sts-policy-fetch-error")
        assert "it is down" in tried["reason"]
        assert counted(here.guard.counts) == {
            ("there.test", "no-policy-found"): Count(0, {Failure("sts-policy-fetch-error", MX): 1})
        }
        # One that was seen before stays in force when a newer one cannot be had.
        here.publish("there.test", POLICY, "8")
        await here.run(BOB)
        assert len(remote.taken) == 1
        here.publish("there.test", HttpFailed("it is down"), "9")
        trace = await here.run("carol@there.test")
        assert len(remote.taken) == 1
        assert (await host(here, trace))["policy"] == "sts-enforce"


@on_loop
async def test_a_policy_from_a_real_web_server() -> None:
    async with site(**LAB) as here:
        remote = await one_host(here, OTHER)
        here.publish("there.test", b"")
        with serving({"there.test": POLICY}, name="mta-sts.there.test") as web:
            here.mta_sts._fetcher = web.fetch
            trace = await here.run(BOB)
            assert web.asked == ["https://mta-sts.there.test/.well-known/mta-sts.txt"]
        assert not remote.taken
        assert (await host(here, trace))["result"] == "certificate-host-mismatch"


@on_loop
async def test_without_mta_sts_nobody_is_asked() -> None:
    async with site(transport_security={"mta_sts": False}) as here:
        remote = await one_host(here, STRANGER)
        here.publish("there.test", POLICY)
        trace = await here.run(BOB)
        assert len(remote.taken) == 1
        assert "MTA-STS is off" in (await host(here, trace))["reason"]


# Nothing is asked


@pytest.mark.parametrize("pair", [EXPIRED, OTHER, STRANGER, TRUSTED])
@on_loop
async def test_opportunistic_tls_takes_every_certificate(pair: Pair) -> None:
    async with site(**LAB) as here:
        remote = await one_host(here, pair)
        trace = await here.run(BOB)
        assert [taken.secure for taken in remote.taken] == [True]
        tried = await host(here, trace)
        assert (tried["policy"], tried["result"], tried["tls"]["verified"]) == ("opportunistic", "", "")
        assert counted(here.guard.counts) == {("there.test", "no-policy-found"): Count(1, {})}


@on_loop
async def test_opportunistic_tls_that_fails_is_one_host_and_one_count() -> None:
    async with site() as here:
        now(here)
        here.domain("there.test", MX)
        remote = await here.remote(MX, tls=without_tls_ciphers())
        trace = await here.run(BOB)
        assert [taken.secure for taken in remote.taken] == [False]
        tried = await host(here, trace)
        assert tried["tls"] == {}
        assert "the TLS handshake failed" in tried["finding"]
        assert tried["outcome"] == "answered"
        assert counted(here.guard.counts) == {
            ("there.test", "no-policy-found"): Count(0, {Failure("validation-failure", MX): 1})
        }


@on_loop
async def test_a_host_that_nobody_answers_at_is_told_with_its_addresses() -> None:
    async with site() as here:
        await one_host(here)
        here.zone[MX2] = {"A": ["127.0.0.99", "127.0.0.98"]}
        here.domain("there.test", MX2, MX)
        trace = await here.run(BOB)
        first, second = (await attempt(here, trace))["hosts"]
        assert first["address"] == ""
        assert "127.0.0.99: connection refused; 127.0.0.98: connection refused" in first["outcome"]
        assert second["outcome"] == "answered"
        assert (await here.attempts(trace))[0].data["address"] == second["address"]


@on_loop
async def test_each_host_has_its_time() -> None:
    async with site() as here:
        first = await one_host(here, script={"connect": "421 4.3.2 busy"})
        second = await here.remote(MX2)
        here.domain("there.test", MX, MX2)
        second.gate = asyncio.Event()
        trace = await here.queue(BOB)
        await second.arrived.wait()
        here.clock.move(1.5)
        second.gate.set()
        await here.settled()
        assert first.connections == 1
        assert [one["ms"] for one in (await attempt(here, trace))["hosts"]] == [0, 1500]


@on_loop
async def test_long_words_are_cut_in_the_trace() -> None:
    async with site() as here:
        await one_host(here, script={"connect": "421 4.3.2 " + "x" * 1900})
        trace = await here.run(BOB)
        assert len((await host(here, trace))["outcome"]) == 1000


# The settings of a whole server


@pytest.mark.parametrize(("dane", "sts"), [(True, True), (False, False)])
@on_loop
async def test_the_server_hands_its_settings_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dane: bool, sts: bool
) -> None:
    given: list[Any] = []

    class Noted(QueueManager):
        def __init__(self, **options: Any) -> None:
            given.append(options["guard"])
            super().__init__(**options)

    monkeypatch.setattr("posthouse.app.QueueManager", Noted)
    async with house.opened(tmp_path, transport_security={"dane": dane, "mta_sts": sts, "ca": root_file()}) as here:
        assert given == [here.app.guard]
        assert (here.app.guard._uses_dane, here.app.guard._policies is not None) == (dane, sts)


@on_loop
async def test_a_ca_that_cannot_be_used_ends_the_start(tmp_path: Path) -> None:
    with pytest.raises(Permanent, match=r"the CA file .*none\.pem cannot be used"):
        async with house.opened(tmp_path, transport_security={"ca": tmp_path / "none.pem"}):
            pass

"""MTA-STS: records and policies as texts; fetching from a real web server; what is kept, for how long."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from posthouse.base.errors import StorageFull
from posthouse.net.dns import ZoneResolver
from posthouse.net.http import HttpFailed, Response
from posthouse.queue import mta_sts
from posthouse.queue.mta_sts import (
    AGAIN,
    MOST_AGE,
    FetchFailed,
    Policies,
    Policy,
    PolicyInvalid,
    fetch_policy,
    parse_policy,
    parse_record,
)
from posthouse.store import sts
from tests.support.clock import FakeClock, turns
from tests.support.loop import on_both_loops, on_loop
from tests.support.policies import policy, serving
from tests.support.store import opened

DAY = 86_400


@pytest.mark.parametrize(
    ("texts", "found"),
    [
        ([b"v=STSv1; id=20160831085700Z;"], "20160831085700Z"),
        ([b"v=STSv1;id=1"], "1"),
        ([b"v=STSv1 ; id=1 ;"], "1"),
        ([b"v=STSv1; ext=x; id=abc; id=def;"], "abc"),
        ([b"v=spf1 -all", b"v=STSv1; id=1;"], "1"),
        ([], None),
        ([b"v=spf1 -all"], None),
        ([b"v=STSv2; id=1;"], None),
        ([b" v=STSv1; id=1;"], None),
        ([b"v=STSv1; id=1;", b"v=STSv1; id=2;"], None),  # several are none
        ([b"v=STSv1"], None),
    ],
)
def test_records(texts: list[bytes], found: str | None) -> None:
    assert parse_record(texts) == found


@pytest.mark.parametrize(
    "text",
    [
        b"v=STSv1;",
        b"v=STSv1; id;",
        b"v=STSv1; id=;",
        b"v=STSv1; id=a b;",
        b"v=STSv1; id=" + b"1" * 33,
        b"v=STSv1; x y=1; id=1",
        b"v=STSv1;; id=1",
        b"v=STSv1; id=\xff;",
        b"v=STSv1; other=1;",
    ],
)
def test_records_that_are_none(text: bytes) -> None:
    with pytest.raises(PolicyInvalid):
        parse_record([text])


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (policy(), Policy("enforce", ("mx.a.test",), DAY)),
        (policy().replace(b"\r\n", b"\n"), Policy("enforce", ("mx.a.test",), DAY)),
        (policy().rstrip(), Policy("enforce", ("mx.a.test",), DAY)),
        (policy("testing", ("*.A.test", "mx.b.test", "mx.b.test")), Policy("testing", ("*.a.test", "mx.b.test"), DAY)),
        (policy("none", (), 0), Policy("none", (), 0)),
        (policy(age=9_999_999_999), Policy("enforce", ("mx.a.test",), MOST_AGE)),
        (b"max_age:1\nmode:testing\nmx:a\nversion:STSv1", Policy("testing", ("a",), 1)),
        (
            policy() + b"mode: none\nmax_age: 5\nversion: x\n",
            Policy("enforce", ("mx.a.test",), DAY),
        ),  # the first counts
        (policy() + b"ext: a: b \xc3\xa9 \t\n\n", Policy("enforce", ("mx.a.test",), DAY)),
    ],
)
def test_policies(body: bytes, found: Policy) -> None:
    assert parse_policy(body) == found


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "version"),
        (policy().replace(b"STSv1", b"STSv2"), "version"),
        (policy().replace(b"version: STSv1\r\n", b""), "version"),
        (policy("report"), "mode"),
        (policy("enforce", ()), "names no mx"),
        (policy().replace(b"86400", b"1 day"), "max_age"),
        (policy().replace(b"86400", b"-1"), "max_age"),
        (policy().replace(b"86400", b"1" * 11), "max_age"),
        (policy().replace(b"86400", "١".encode()), "max_age"),
        (policy(mx=("mx.*.test",)), "no host name"),
        (policy(mx=("*",)), "no host name"),
        (policy(mx=("*.*.test",)), "no host name"),
        (policy(mx=("",)), "no host name"),
        (policy(mx=("mx a",)), "no host name"),
        (policy(mx=("ü.test",)), "no host name"),
        (policy() + b"<html>\n", "key: value"),
        (policy() + b": x\n", "key: value"),
        (b"\xff" + policy(), "UTF-8"),
        (policy(mx=tuple(f"mx{n}.test" for n in range(201))), "more than 200"),
        (policy() + b"\n" * 1001, "more than 1000"),
        (policy() + b"x: " + b"y" * 65_536, "65536 octets"),
    ],
)
def test_policies_that_are_none(body: bytes, why: str) -> None:
    with pytest.raises(PolicyInvalid, match=why):
        parse_policy(body)


@on_both_loops
async def test_fetching() -> None:
    with serving({"a.test": policy()}) as server:
        assert await fetch_policy("a.test", server.fetch) == Policy("enforce", ("mx.a.test",), DAY)
        assert server.asked == ["https://mta-sts.a.test/.well-known/mta-sts.txt"]


@pytest.mark.parametrize(
    ("answer", "options", "result", "why"),
    [
        ((404, "text/plain", b""), {}, "sts-policy-fetch-error", "status 404"),
        ((302, "text/plain", policy()), {}, "sts-policy-fetch-error", "status 302"),  # not followed
        ((500, "text/plain", policy()), {}, "sts-policy-fetch-error", "status 500"),
        ((200, "text/html", policy()), {}, "sts-policy-invalid", "text/html"),
        (b"nonsense", {}, "sts-policy-invalid", "key: value"),
        (b"x" * 70_000, {}, "sts-policy-fetch-error", "more than 65536"),
        (policy(), {"name": "a.test"}, "sts-webpki-invalid", "certificate"),
        (policy(), {"name": "mta-sts.a.test", "expired": True}, "sts-webpki-invalid", "certificate"),
    ],
)
@on_loop
async def test_fetches_that_fail(answer: Any, options: dict[str, Any], result: str, why: str) -> None:
    with serving({"a.test": answer}, **options) as server, pytest.raises(FetchFailed, match=why) as failed:
        await fetch_policy("a.test", server.fetch)
    assert failed.value.result == result


@on_loop
async def test_a_web_server_that_is_not_there() -> None:
    with serving({}) as server:
        pass
    with pytest.raises(FetchFailed) as failed:
        await fetch_policy("a.test", server.fetch)
    assert failed.value.result == "sts-policy-fetch-error"


@on_loop
async def test_a_web_server_that_takes_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(_: str) -> Response:
        answer: Response = await asyncio.get_running_loop().create_future()
        return answer

    monkeypatch.setattr(mta_sts, "PATIENCE", -5)
    with pytest.raises(FetchFailed, match="too long") as failed:
        await fetch_policy("a.test", never)
    assert failed.value.result == "sts-policy-fetch-error"


class Site:
    """Policies over a store, a zone, a clock, and a fetcher that answers from a table."""

    def __init__(self, database: Any, clock: FakeClock) -> None:
        self.database = database
        self.clock = clock
        self.zone: dict[str, Any] = {"a.test": {}}
        self.bodies: dict[str, bytes | Exception] = {}
        self.asked: list[str] = []
        self.gate: asyncio.Event | None = None
        self.policies = self.again()

    def again(self) -> Policies:
        """As after a restart."""
        self.policies = Policies(self.database, ZoneResolver(self.zone), self.clock, self.fetch)
        return self.policies

    async def fetch(self, url: str) -> Response:
        domain = url.removeprefix("https://mta-sts.").partition("/")[0]
        self.asked.append(domain)
        if self.gate is not None:
            await self.gate.wait()
        body = self.bodies.get(domain, HttpFailed("nobody is there"))
        if isinstance(body, Exception):
            raise body
        return Response(200, "text/plain", body)

    def publish(self, policy_id: str, body: bytes | Exception, domain: str = "a.test") -> None:
        self.zone[f"_mta-sts.{domain}"] = {"TXT": [f"v=STSv1; id={policy_id};".encode()]}
        self.bodies[domain] = body

    async def mode(self) -> str:
        found = await self.policies.of("A.test.")
        return found.policy.mode if found.policy else ""


@asynccontextmanager
async def site() -> AsyncIterator[Site]:
    async with opened() as database:
        made = Site(database, FakeClock())
        try:
            yield made
        finally:
            await made.policies.close()


@on_both_loops
async def test_a_policy_is_fetched_once_and_kept_for_its_time() -> None:
    async with site() as here:
        assert await here.policies.of("a.test") == (None, "no MTA-STS policy of a.test", "")
        here.publish("1", policy(age=7 * DAY))
        found = await here.policies.of("a.test")
        assert found.policy is not None
        assert found.policy.mx == ("mx.a.test",)
        assert found.text == "MTA-STS policy 1 of a.test (enforce)"
        assert found.result == ""
        here.clock.move(6 * DAY)
        here.again()
        assert await here.mode() == "enforce"
        assert here.asked == ["a.test"]
        here.clock.move(DAY)
        assert await here.mode() == "enforce"
        assert here.asked == ["a.test"] * 2  # its time was over


@on_loop
async def test_a_new_id_brings_a_new_policy_and_none_ends_it() -> None:
    async with site() as here:
        here.publish("1", policy())
        assert await here.mode() == "enforce"
        here.publish("2", policy("testing"))
        assert await here.mode() == "testing"
        here.publish("3", policy("none", ()))
        assert await here.mode() == "none"
        assert await here.mode() == "none"
        assert here.asked == ["a.test"] * 3


@pytest.mark.parametrize(
    ("change", "result", "why"),
    [
        (lambda here: here.publish("2", HttpFailed("it is down")), "sts-policy-fetch-error", "it is down"),
        (lambda here: here.publish("2", b"nonsense"), "sts-policy-invalid", "key: value"),
        (lambda here: here.zone.update({"_mta-sts.a.test": {"TXT": [b"v=STSv1;"]}}), "sts-policy-invalid", "no id"),
        (lambda here: here.zone.pop("_mta-sts.a.test"), "", "is gone"),
        (lambda here: here.zone.update({"_mta-sts.a.test": {"TXT": []}}), "", "is gone"),
        (lambda here: here.zone.update({"_mta-sts.a.test": None}), "", "could not be asked for"),
    ],
)
@on_loop
async def test_the_old_policy_stays_until_it_ends(change: Any, result: str, why: str) -> None:
    async with site() as here:
        here.publish("1", policy(age=2 * DAY))
        assert await here.mode() == "enforce"
        change(here)
        found = await here.policies.of("a.test")
        assert found.policy is not None
        assert (found.policy.id, found.result) == ("1", result)
        assert ", kept: " in found.text
        assert why in found.text
        here.clock.move(2 * DAY)
        found = await here.policies.of("a.test")
        assert (found.policy, found.result) == (None, result)


@on_loop
async def test_a_failed_fetch_is_not_repeated_at_once() -> None:
    async with site() as here:
        here.publish("1", HttpFailed("it is down"))
        for _ in range(3):
            found = await here.policies.of("a.test")
            assert (found.policy, found.result) == (None, "sts-policy-fetch-error")
            assert "it is down" in found.text
        assert len(here.asked) == 1
        here.publish("2", HttpFailed("still down"))  # another id is another policy
        await here.mode()
        assert len(here.asked) == 2
        here.clock.move(AGAIN + 1)
        here.bodies["a.test"] = policy()
        assert await here.mode() == "enforce"
        assert len(here.asked) == 3


@on_loop
async def test_those_who_ask_together_share_a_fetch_and_may_give_up() -> None:
    async with site() as here:
        here.publish("1", policy())
        here.gate = asyncio.Event()
        asking = [asyncio.ensure_future(here.policies.of("a.test")) for _ in range(5)]
        while not here.asked:
            await turns()
        asking[0].cancel()
        here.gate.set()
        found = await asyncio.gather(*asking[1:])
        assert len(here.asked) == 1
        assert all(one.policy is not None for one in found)


@on_loop
async def test_what_was_fetched_while_the_database_was_read_is_not_fetched_again() -> None:
    async with site() as here:
        here.publish("1", policy())
        assert await here.mode() == "enforce"
        await here.policies._database.write(lambda tx: tx.run("DELETE FROM sts_policy"))
        stored, _, _ = await here.policies._renewed("a.test", "1", None)
        assert stored is not None
        assert len(here.asked) == 1


@on_loop
async def test_few_fetches_run_at_one_time() -> None:
    async with site() as here:
        here.gate = asyncio.Event()
        names = [f"d{number}.test" for number in range(10)]
        for name in names:
            here.publish("1", policy(), name)
        asking = [asyncio.ensure_future(here.policies.of(name)) for name in names]
        while len(here.asked) < mta_sts.FETCHES or len(here.policies._fetching) < len(names):
            await turns()
        assert len(here.asked) == mta_sts.FETCHES
        here.gate.set()
        await asyncio.gather(*asking)
        assert sorted(here.asked) == names


@on_loop
async def test_a_place_in_the_queue_of_fetches_is_not_waited_for_forever(monkeypatch: pytest.MonkeyPatch) -> None:
    async with site() as here:
        for _ in range(mta_sts.FETCHES):
            await here.policies._slots.acquire()
        monkeypatch.setattr(mta_sts, "PATIENCE", 0)
        here.publish("1", policy())
        found = await here.policies.of("a.test")
        assert (found.policy, found.result) == (None, "sts-policy-fetch-error")


@on_loop
async def test_another_process_may_have_fetched_it() -> None:
    async with site() as here:
        first = here.policies
        here.publish("1", policy())
        assert await here.mode() == "enforce"
        here.publish("2", policy("testing"))
        await here.again().of("a.test")
        found = await first.of("a.test")
        assert found.policy is not None
        assert found.policy.mode == "testing"
        assert len(here.asked) == 2


@on_loop
async def test_a_policy_that_cannot_be_stored_holds_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    async with site() as here:

        async def full(*_: object) -> None:
            raise StorageFull("the disk is full")

        here.publish("1", policy())
        monkeypatch.setattr(here.database, "write", full)
        assert await here.mode() == "enforce"
        assert await here.mode() == "enforce"
        assert len(here.asked) == 1
        monkeypatch.undo()


@pytest.mark.parametrize("name", ["[192.0.2.1]", "a b.test", "a/b.test", "a@b.test:443", "", "x" * 300, "ü.test"])
@on_loop
async def test_names_that_are_none_are_not_asked_for(name: str) -> None:
    async with site() as here:
        assert (await here.policies.of(name)).policy is None
        assert not here.asked


@on_loop
async def test_policies_in_use_are_refreshed_before_they_end() -> None:
    async with site() as here:
        here.publish("1", policy(age=20 * DAY))
        assert await here.mode() == "enforce"
        here.clock.move(9 * DAY)
        await here.policies.refresh()
        assert len(here.asked) == 1  # not yet half of its time
        here.clock.move(2 * DAY)
        await here.policies.refresh()
        assert len(here.asked) == 2
        stored = await here.database.read(sts.get, "a.test", here.clock.now())
        assert stored is not None
        assert stored.fetched == here.clock.now()
        # One that cannot be had stays as it was.
        here.clock.move(11 * DAY)
        here.bodies["a.test"] = HttpFailed("it is down")
        await here.policies.refresh()
        assert len(here.asked) == 3
        assert await here.mode() == "enforce"
        # The id it has then is the one that is kept with it; a DNS that does not answer hinders nothing.
        here.publish("9", policy(age=20 * DAY))
        here.clock.move(AGAIN + 1)
        await here.policies.refresh()
        stored = await here.database.read(sts.get, "a.test", here.clock.now())
        assert stored is not None
        assert stored.id == "9"
        here.zone["_mta-sts.a.test"] = None
        here.clock.move(11 * DAY)
        await here.policies.refresh()
        stored = await here.database.read(sts.get, "a.test", here.clock.now())
        assert stored is not None
        assert (stored.id, stored.fetched) == ("9", here.clock.now())


@on_loop
async def test_what_nobody_uses_is_left_to_end() -> None:
    async with site() as here:
        here.publish("1", policy(age=100 * DAY))
        assert await here.mode() == "enforce"
        here.clock.move(8 * DAY)
        assert await here.mode() == "enforce"  # this is noted as use
        stored = await here.database.read(sts.get, "a.test", here.clock.now())
        assert stored is not None
        assert stored.used == here.clock.now()
        here.clock.move(60 * DAY)
        await here.policies.refresh()
        assert len(here.asked) == 1


@on_loop
async def test_once_a_day() -> None:
    async with site() as here:
        here.publish("1", policy(age=DAY))
        here.publish("1", policy(age=20 * DAY), "b.test")
        await here.policies.of("a.test")
        await here.policies.of("b.test")
        here.clock.move(11 * DAY)
        await here.policies.tidy()
        assert here.policies._refreshing is not None
        await here.policies._refreshing
        rows = await here.database.read(lambda tx: tx.all("SELECT domain FROM sts_policy"))
        assert rows == [("b.test",)]
        assert here.asked == ["a.test", "b.test", "b.test"]


@on_loop
async def test_closing_ends_what_runs() -> None:
    async with site() as here:
        here.publish("1", policy())
        here.gate = asyncio.Event()
        asking = asyncio.ensure_future(here.policies.of("a.test"))
        while not here.asked:
            await turns()
        await here.policies.close()
        with pytest.raises(asyncio.CancelledError):
            await asking


@on_loop
async def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mta_sts, "REMEMBERED", 3)
    async with site() as here:
        for number in range(6):
            here.publish("1", HttpFailed("it is down"), f"d{number}.test")
            await here.policies.of(f"d{number}.test")
        assert len(here.policies._known) == len(here.policies._failed) == 3

"""Who gets what of the queue, and when: senders in turn, pauses, draining, several nodes on one database."""

import asyncio
import json
from collections import Counter
from typing import Any

import pytest

from posthouse.base.errors import StorageFull
from posthouse.queue import manager as manager_module
from posthouse.queue import sessions
from posthouse.store import outbox, pauses
from posthouse.store.sqlite import SqliteDatabase
from tests.queue.site import SECOND, site
from tests.support.clock import START, turns
from tests.support.loop import on_loop, until
from tests.support.remote import SILENCE

BOB = "bob@there.test"
ONE_AT_A_TIME: dict[str, Any] = {"queue": {"concurrency": 1, "concurrency_per_destination": 1}}


@on_loop
async def test_one_message_does_not_wait_for_the_many_of_another_sender() -> None:
    async with site(**ONE_AT_A_TIME) as here:
        remote, gate = await here.closed("there.test")
        for number in range(400):  # more than is held here at one time
            await here.queue(f"r{number}@there.test")
        await remote.arrived.wait()
        await here.queue(BOB, sender="carol@away.test", submitted=False)
        gate.set()
        await here.settled()
        order = [message.recipients[0] for message in remote.taken]
        assert len(order) == 401
        assert order.index(BOB) <= here.manager._held.share + 2


@on_loop
async def test_a_slow_destination_of_one_sender_leaves_room_for_others() -> None:
    """However many destinations of the one are slow."""
    options: dict[str, Any] = {"queue": {"concurrency": 20, "concurrency_per_destination": 2}}
    async with site(**options) as here:
        slow, gate = await here.closed("slow.test")
        quick = await here.remote("quick.test")
        for number in range(9):
            here.zone[f"d{number}.test"] = {"MX": [(1, "slow.test")]}
            await here.queue(*(f"r{n}@d{number}.test" for n in range(100)))
        await slow.arrived.wait()
        held = here.manager._held
        assert held.total <= held.most // 2
        await here.queue("x@quick.test", sender="carol@away.test", submitted=False)
        await quick.wait_for(1)
        gate.set()
        await here.settled()
        assert await here.waiting() == {}


@on_loop
async def test_a_paused_destination_waits_and_goes_at_once_when_it_may() -> None:
    async with site() as here:
        remote = await here.remote("there.test")
        await here.remote("other.test")
        await here.database.write(pauses.pause, "there.test", START)
        await here.run(BOB, "x@other.test")
        assert list(await here.waiting()) == [BOB]
        await here.pass_time(7200)
        assert not remote.connections
        await here.database.write(pauses.resume, "there.test")
        await here.settled()
        assert len(remote.taken) == 1
        assert await here.waiting() == {}


@on_loop
async def test_mail_goes_in_the_moment_its_pause_ends() -> None:
    async with site() as here:
        remote = await here.remote("deep.there.test")
        await here.database.write(pauses.pause, "*.there.test", START, START + 100 * SECOND)
        await here.run("bob@deep.there.test")
        await here.pass_time(99)
        assert not remote.connections
        await here.pass_time(1)
        assert len(remote.taken) == 1


@on_loop
async def test_a_pause_lets_what_is_on_its_way_arrive() -> None:
    async with site() as here:
        remote, gate = await here.closed("there.test")
        await here.queue(BOB)
        await remote.arrived.wait()
        await here.database.write(pauses.pause, "*", START)
        await here.queue("carol@there.test")
        gate.set()
        await here.settled()
        assert [message.recipients for message in remote.taken] == [(BOB,)]
        assert list(await here.waiting()) == ["carol@there.test"]


@on_loop
async def test_a_sender_with_mail_for_many_silent_servers_leaves_places_for_others() -> None:
    async with site(queue={"concurrency": 10}) as here:
        silent = await here.remote("silent.test", {"connect": SILENCE})
        good = await here.remote("good.test")
        for number in range(30):
            here.domain(f"d{number}.test", "silent.test")
            await here.queue(f"bob@d{number}.test")
        await until(lambda: silent.connections == 8)
        await here.queue(BOB.replace("there", "good"), sender="ann@other.test", submitted=False)
        await good.wait_for(1)  # five minutes later if there was no place
        await until(lambda: here.manager.state()["active"] == 8)
        assert silent.connections == 8


@on_loop
async def test_where_everything_is_paused_mail_that_falls_due_leaves_the_queue_at_rest() -> None:
    async with site() as here:
        remote = await here.remote("there.test", {"RCPT": ["451 4.3.0 later", ""]})
        await here.run(BOB)
        await here.database.write(pauses.pause, "*", START)
        await here.pass_time(600)  # ends, as nothing is done again and again
        assert list(await here.waiting()) == [BOB]
        await here.database.write(pauses.resume, "*")
        await here.settled()
        assert len(remote.taken) == 1


@on_loop
async def test_what_only_waits_here_is_given_back_when_its_destination_is_paused() -> None:
    limits = [{"domains": ["slow.test"], "concurrency": 1}]
    async with site(queue={"limit": limits}) as here:
        slow, gate = await here.closed("slow.test")
        for number in range(9):
            await here.queue(f"r{number}@slow.test")
        await slow.arrived.wait()
        await until(lambda: here.manager._held.total == 9)
        await here.database.write(pauses.pause, "slow.test", START)
        await until(lambda: here.manager._held.total == 1)
        gate.set()
        await here.settled()
        assert len(slow.taken) == 1
        assert {row.attempts for row in (await here.waiting()).values()} == {0}
        await here.database.write(pauses.resume, "slow.test")
        await here.settled()
        assert len(slow.taken) == 9


@on_loop
async def test_what_cannot_be_given_back_as_the_disk_is_full_is_not_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = [{"domains": ["slow.test"], "concurrency": 1}]
    async with site(queue={"limit": limits}) as here:
        slow, gate = await here.closed("slow.test")
        for number in range(9):
            await here.queue(f"r{number}@slow.test")
        await slow.arrived.wait()
        await until(lambda: here.manager._held.total == 9)

        def full(*_: object) -> None:
            raise StorageFull("on purpose")

        with monkeypatch.context() as patch:
            patch.setattr(outbox, "release", full)
            with pytest.raises(StorageFull):
                await here.manager.drain()
        assert here.manager.state()["next_hops"][0]["waiting"] == 8
        here.manager.undrain()
        gate.set()
        await here.settled()
        assert len(slow.taken) == 9


@on_loop
async def test_a_drained_node_finishes_and_takes_nothing_more() -> None:
    options: dict[str, Any] = {"queue": {"concurrency": 2, "concurrency_per_destination": 2}}
    async with site(**options) as here:
        remote, gate = await here.closed("there.test")
        for number in range(10):
            await here.queue(f"r{number}@there.test")
        await remote.arrived.wait()
        await until(lambda: here.manager._held.total == 10)
        draining = asyncio.ensure_future(here.manager.drain())
        await until(lambda: here.manager._held.total == 2)
        assert not draining.done()
        state = here.manager.state()
        assert (state["draining"], state["active"], state["held"]) == (True, 2, 2)
        gate.set()
        await draining
        rows = await here.waiting()
        assert len(remote.taken) == 2
        assert {(row.state, row.attempts) for row in rows.values()} == {("due", 0)}
        assert len(rows) == 8
        await here.queue("new@there.test")
        await here.settled()
        await here.pass_time(7200)
        assert len(remote.taken) == 2
        other = here.new_manager(node="other")
        await other.start()
        await other.settled()
        assert len(remote.taken) == 11
        await other.close()
        here.manager.undrain()
        await here.run("last@there.test")
        assert len(remote.taken) == 12
        assert not here.manager.state()["draining"]


@on_loop
async def test_draining_can_be_called_off() -> None:
    async with site() as here:
        remote, gate = await here.closed("there.test")
        await here.queue(BOB)
        await remote.arrived.wait()
        draining = asyncio.ensure_future(here.manager.drain())
        await turns()
        here.manager.undrain()
        gate.set()
        await draining
        await here.run("carol@there.test")
        assert len(remote.taken) == 2
        await here.manager.drain()
        await here.manager.drain()  # twice is once


@on_loop
async def test_the_state_can_be_told() -> None:
    options: dict[str, Any] = {"queue": {"limit": [{"domains": ["slow.test"], "per_minute": 1}]}}
    async with site(**options) as here:
        remote = await here.remote("there.test")
        await here.remote("slow.test")
        here.zone["dead.test"] = {"A": ["127.0.0.99"]}
        gate = remote.gate = asyncio.Event()
        await here.queue(BOB)
        for number in range(3):
            await here.queue(f"r{number}@slow.test")
            await here.queue(f"r{number}@dead.test")
        await remote.arrived.wait()
        await until(lambda: any(hop["rest_until"] for hop in here.manager.state()["next_hops"]))
        await until(lambda: any(hop["rate_wait"] for hop in here.manager.state()["next_hops"]))
        state = json.loads(json.dumps(here.manager.state()))
        hops: dict[str, Any] = {hop["next_hop"]: hop for hop in state["next_hops"]}
        assert hops["there.test"]["active"] == 1
        assert hops["slow.test"]["waiting"] > 0
        assert hops["dead.test"]["rest_until"] > START
        assert hops["dead.test"]["why"]
        assert state["node"] == "mail.here.test"
        gate.set()


@on_loop
async def test_a_claim_is_renewed_as_long_as_its_attempt_takes() -> None:
    async with site() as here:
        remote, gate = await here.closed("there.test")
        await here.queue(BOB)
        await remote.arrived.wait()
        other = here.new_manager(node="other")
        await other.start()
        for _ in range(40):  # four hours
            await here.clock.advance(360)
            for manager in (here.manager, other):
                manager.wake()
                await until(lambda: manager._recover_at > here.clock.now() and manager._looking is None)  # noqa: B023
        (row,) = (await here.waiting()).values()
        assert row.state == "claimed"
        gate.set()
        await until(lambda: not here.manager._tasks)
        assert remote.connections == 1
        assert len(remote.taken) == 1
        await other.close()


@on_loop
async def test_a_node_that_could_not_renew_lets_go_of_what_it_has_not_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else another one might claim it while it is tried here."""
    async with site(**ONE_AT_A_TIME) as here:
        remote, gate = await here.closed("there.test")
        await here.queue(BOB)
        await here.queue("carol@there.test")
        await remote.arrived.wait()
        await until(lambda: here.manager._held.total == 2)

        async def broken() -> None:
            raise RuntimeError("on purpose")

        monkeypatch.setattr(here.manager, "_keep_claims", broken)
        here.clock.move((manager_module.LEASE // SECOND) - 100)
        gate.set()
        await remote.wait_for(1)
        await until(lambda: not here.manager._tasks)
        assert (await here.waiting())["carol@there.test"].state == "due"
        monkeypatch.undo()
        here.manager.wake()
        await here.settled()
        assert len(remote.taken) == 2


@on_loop
async def test_two_nodes_with_a_database_each_deliver_thousands_once() -> None:
    """As two processes do: two writers, two sets of readers, one file."""
    async with site() as here:
        await here.manager.close()
        remotes = [await here.remote(f"d{number}.test") for number in range(4)]
        for number in range(30):
            await here.queue(*(f"r{number}-{n}@d{n % 4}.test" for n in range(100)), submitted=number % 2 == 0)
        second = await SqliteDatabase.open(here.settings.data, START)
        first = here.database
        nodes = []
        for database, name in ((first, "first"), (second, "second")):
            here.database = database
            nodes.append(here.new_manager(node=name))
        here.database = first
        tried = [count_attempts(node) for node in nodes]
        await asyncio.gather(*(node.start() for node in nodes))
        while await here.waiting():
            await asyncio.sleep(0.01)
            for node in nodes:
                node.wake()  # as a feed that spans processes would
        got = Counter(to for remote in remotes for message in remote.taken for to in message.recipients)
        assert len(got) == 3000
        assert set(got.values()) == {1}
        assert all(counts for counts in tried)
        for node in nodes:
            await node.close()
        await second.close()


def count_attempts(node: Any) -> list[str]:
    made: list[str] = []
    attempt = node._sender.attempt

    async def counted(destination: str, *args: Any, **options: Any) -> Any:
        made.append(destination)
        return await attempt(destination, *args, **options)

    node._sender.attempt = counted
    return made


@on_loop
async def test_idle_connections_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "MOST_IDLE", 3)
    async with site() as here:
        remote = await here.remote("there.test")
        for number in range(10):
            here.zone[f"d{number}.test"] = here.zone["there.test"]
            await here.run(f"r@d{number}.test")
        await until(lambda: remote.open == 3)
        await here.run("r@d9.test")
        assert remote.connections == 10  # the youngest are kept
        await here.run("r@d0.test")
        assert remote.connections == 11

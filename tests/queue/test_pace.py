"""The pace of a next hop: slow start, slowing down, rest, rates; alone and in the queue."""

import asyncio

import pytest

from posthouse.base.queue_settings import Limit, Queue
from posthouse.queue.pace import LONGEST_REST, REST, SECOND, START, Pace, is_slower
from tests.queue.site import site
from tests.support.loop import on_loop


def test_it_begins_small_doubles_and_never_passes_the_limit() -> None:
    pace = Pace(Limit(20))
    assert pace.places() == START
    for _ in range(int(START)):
        pace.answered()
    assert pace.places() == 2 * START
    for _ in range(50):
        pace.answered()
    assert pace.places() == 20


def test_it_halves_when_asked_and_then_grows_slowly() -> None:
    pace = Pace(Limit(20))
    for _ in range(16):
        pace.answered()
    pace.slower()
    assert pace.places() == 10
    for _ in range(5):
        pace.answered()
    assert pace.places() == 10, "one more takes a whole window now"
    for _ in range(10):
        pace.answered()
    assert pace.places() == 11
    for _ in range(10):
        pace.slower()
    assert pace.places() == 1


def test_a_hop_that_nobody_answers_at_rests_longer_and_longer() -> None:
    pace, now = Pace(Limit(20)), 10**15
    for _ in range(2):
        pace.unreached(now, "refused")
    assert not pace.resting(now)
    rests = []
    for _ in range(8):
        pace.unreached(now, "refused")
        assert pace.resting(now)
        rests.append((pace.rest_until - now) // SECOND)
        now = pace.rest_until
        assert not pace.resting(now)
    assert rests == [REST, 2 * REST, 4 * REST, 8 * REST, 16 * REST, LONGEST_REST, LONGEST_REST, LONGEST_REST]
    pace.answered()
    pace.unreached(now, "refused")
    assert not pace.resting(now), "one answer and all is well"


def test_a_rate_is_kept_with_a_burst_of_a_second() -> None:
    pace, now = Pace(Limit(20, 120)), 10**15
    assert pace.wait(now) == 0
    sent = 0
    for _ in range(100):
        if not pace.wait(now):
            pace.started(now)
            sent += 1
        now += 100_000
    assert 20 <= sent <= 22, "ten seconds at two a second, and the burst"


@pytest.mark.parametrize(
    ("code", "status", "slower"),
    [(421, "", True), (451, "4.7.1", True), (450, "4.2.1", True), (451, "4.4.3", False), (550, "5.7.1", False)],
)
def test_what_asks_us_to_slow_down(code: int, status: str, slower: bool) -> None:
    assert is_slower(code, status) is slower


def test_limits_of_the_settings() -> None:
    queue = Queue.model_validate(
        {"limit": [{"domains": ["*.big.test", "big.test"], "concurrency": 2}, {"domains": ["x.test"], "per_minute": 5}]}
    )
    assert queue.limit_of("big.test") == queue.limit_of("a.big.test") == Limit(2)
    assert queue.limit_of("x.test") == Limit(20, 5)
    assert queue.limit_of("notbig.test") == Limit(20)


@on_loop
async def test_connections_are_used_again() -> None:
    async with site(queue={"concurrency_per_destination": 1}) as here:
        remote = await here.remote("there.test")
        for number in range(5):
            await here.queue(f"r{number}@there.test")
        await here.settled()
        assert len(remote.taken) == 5
        assert remote.connections == 1


@on_loop
async def test_a_connection_that_was_closed_while_idle_costs_nothing() -> None:
    async with site() as here:
        remote = await here.remote("there.test", {"MAIL": ["250 OK", "421 4.4.2 idle for too long", "250 OK"]})
        first = await here.run("a@there.test")
        second = await here.run("b@there.test")
        assert [taken.recipients for taken in remote.taken] == [("a@there.test",), ("b@there.test",)]
        assert remote.connections == 2
        (attempt,) = await here.attempts(second)
        assert any("not open any more" in line for line in attempt.data["transcript"])
        assert len(await here.attempts(first)) == 1


@on_loop
async def test_an_attempt_that_failed_at_the_content_is_not_repeated_at_once() -> None:
    async with site() as here:
        remote = await here.remote("there.test", {"end": ["250 OK", "DROP"]})
        await here.run("a@there.test")
        trace = await here.run("b@there.test")
        assert remote.connections == 1
        assert len(await here.attempts(trace)) == 1
        assert "b@there.test" in await here.waiting()


@on_loop
async def test_a_dead_host_costs_few_connections() -> None:
    async with site(queue={"concurrency_per_destination": 1}) as here:
        here.zone["dead.test"] = {"A": ["127.0.0.77"]}
        for number in range(20):
            await here.queue(f"r{number}@dead.test")
        await here.settled()
        rows = await here.waiting()
        assert len(rows) == 20
        assert len(here.dialled) == 3
        texts = [row.last_text for row in rows.values()]
        assert sum(text.startswith("Not tried") for text in texts) == 17
        assert sorted(row.attempts for row in rows.values()) == [0] * 17 + [1] * 3, "what is not tried is no attempt"
        assert sum(text.startswith("No connection to dead.test") for text in texts) == 3
        remote = await here.remote("alive.test")
        here.zone["dead.test"] = here.zone["alive.test"]
        await here.pass_time(600)
        assert len(remote.taken) == 20
        assert await here.waiting() == {}


@on_loop
async def test_the_rate_of_a_destination() -> None:
    limits = [{"domains": ["slow.test"], "per_minute": 60}]
    async with site(queue={"limit": limits}) as here:
        slow, quick = await here.remote("slow.test"), await here.remote("quick.test")
        for number in range(6):
            await here.queue(f"r{number}@slow.test")
            await here.queue(f"r{number}@quick.test")
        await here.settled()
        assert len(quick.taken) == 6
        assert 1 <= len(slow.taken) <= 2
        await here.pass_time(2)
        assert 3 <= len(slow.taken) <= 4
        await here.pass_time(3)
        assert len(slow.taken) == 6
        assert await here.waiting() == {}


@on_loop
async def test_concurrency_grows_and_shrinks_with_the_replies() -> None:
    async with site(queue={"concurrency": 50}) as here:
        remote = await here.remote("there.test")
        remote.gate = asyncio.Event()
        for number in range(40):
            await here.queue(f"r{number}@there.test")
        await remote.arrived.wait()
        remote.gate.set()
        await here.settled()
        assert len(remote.taken) == 40
        assert START < remote.most_open <= 20
        assert here.manager._pace("there.test").places() == 20
        remote.script["RCPT"] = "451 4.7.1 too many messages from you"
        await here.run("again@there.test")
        assert here.manager._pace("there.test").places() == 10

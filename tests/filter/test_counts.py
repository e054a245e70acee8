"""The counts of the limits over a restart: kept in batches, read at the start, bounded."""

import io
from pathlib import Path

import pytest

from posthouse.base import log
from posthouse.base.errors import Temporary
from posthouse.base.filter_settings import Rate
from posthouse.filter import counts, limits
from posthouse.filter.counts import Counts
from posthouse.filter.limits import DAY, HOUR, Limiter
from posthouse.store import sending
from posthouse.store.sqlite import SqliteDatabase
from tests.servers.test_smtp_filter import run, send
from tests.servers.test_smtp_more import submitted
from tests.support.clock import FakeClock
from tests.support.house import House
from tests.support.loop import on_loop
from tests.support.store import opened

RATE = Rate(messages_per_hour=3, recipients_per_day=20)


def kept(database: SqliteDatabase, clock: FakeClock, kind: str = "account") -> tuple[Limiter, Counts]:
    limiter = Limiter(RATE, kind)
    return limiter, Counts(database, clock, log.get_logger(), {kind: limiter})


def seconds(clock: FakeClock) -> int:
    return clock.now() // 1_000_000


@on_loop
async def test_a_restart_forgets_nothing_and_time_goes_on() -> None:
    clock = FakeClock()
    async with opened() as database:
        limiter, memory = kept(database, clock)
        for _ in range(3):
            assert limiter.admit("1", "alice", seconds(clock), messages=1, recipients=6) is None
        await memory.flush()
        clock.move(HOUR / 2)
        limiter, memory = kept(database, clock)
        await memory.load()
        over = limiter.admit("1", "alice", seconds(clock), messages=1)
        assert over is not None
        assert limiter.admit("2", "bob", seconds(clock), messages=1) is None
        clock.move(HOUR)
        assert limiter.admit("1", "alice", seconds(clock), messages=1, recipients=2) is None
        over = limiter.admit("1", "alice", seconds(clock), recipients=1)
        assert over is not None, "the day is not over"
        await memory.close()
        clock.move(DAY + HOUR)
        limiter, memory = kept(database, clock)
        await memory.load()
        assert limiter.admit("1", "alice", seconds(clock), messages=3, recipients=20) is None
        await memory.tidy()
        assert await database.read(sending.since, "account", 0, 10) == []


@on_loop
async def test_who_is_far_from_every_limit_is_not_written_down() -> None:
    clock = FakeClock()
    async with opened() as database:
        limiter = Limiter(Rate(messages_per_hour=100), "network")
        memory = Counts(database, clock, log.get_logger(), {"network": limiter})
        limiter.admit("192.0.2.1", "", seconds(clock), messages=9)
        limiter.admit("192.0.2.2", "", seconds(clock), messages=10)
        await memory.flush()
        assert [sender for sender, _ in await database.read(sending.since, "network", 0, 10)] == ["192.0.2.2"]
        limiter.admit("192.0.2.1", "", seconds(clock), messages=1)
        await memory.flush()
        rows = dict(await database.read(sending.since, "network", 0, 10))
        assert "10, 0]" in rows["192.0.2.1"], "with all that it sent before"


@on_loop
async def test_what_is_forgotten_here_is_forgotten_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MOST", 5)
    monkeypatch.setattr(counts, "BATCH", 2)
    clock = FakeClock()
    async with opened() as database:
        limiter, memory = kept(database, clock, "network")
        for number in range(20):
            limiter.admit(f"192.0.2.{number}", "", seconds(clock), messages=1)
            await memory.flush()
        assert len(await database.read(sending.since, "network", 0, 100)) == 5


@on_loop
async def test_counts_that_cannot_be_kept_or_read(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = FakeClock()
    log.configure("json", "error", io.BytesIO())
    async with opened() as database:
        limiter, memory = kept(database, clock)
        limiter.admit("1", "alice", seconds(clock), messages=3)

        async def full(*_: object) -> None:
            raise Temporary("no room")

        with monkeypatch.context() as broken:
            broken.setattr(database, "write", full)
            await memory.flush()
        await memory.flush()
        odd = [("account", str(n + 2), text, seconds(clock)) for n, text in enumerate(("", "[]", "[[[1]],[]]", "7"))]
        await database.write(sending.keep, odd, [])
        limiter, memory = kept(database, clock)
        await memory.load()
        assert limiter.admit("1", "alice", seconds(clock), messages=1) is not None, "the next batch had it"
        assert limiter.admit("2", "bob", seconds(clock), messages=1) is None


def test_a_server_that_was_stopped_goes_on_counting(tmp_path: Path) -> None:
    async def first(house: House) -> None:
        for _ in range(2):
            assert (await submitted(house, "MAIL FROM:<alice@posthouse.test>"))[-1].startswith("250 ")
        assert (await send(house))[-1].startswith("250 ")

    async def second(house: House) -> None:
        assert (await submitted(house, "MAIL FROM:<alice@posthouse.test>"))[-1].startswith("450 4.7.28 At most 2")
        assert (await send(house))[3].startswith("450 4.7.28 At most 1 recipients")

    for test in (first, second):
        run(tmp_path, test, account_limit={"messages_per_hour": 2}, network_limit={"recipients_per_hour": 1})

"""Small reads on the event loop: when they are done there, when by a thread, and that they answer the same."""

import asyncio
import threading

import pytest

from posthouse.base.errors import Temporary
from posthouse.store import suppression
from posthouse.store.blobs import rows as blobs
from posthouse.store.blobs.writer import FILE
from posthouse.store.database import TooMuch, Tx
from posthouse.store.glances import FIRST_REST, LONGEST_REST, SLOW, TRUST, Glances
from tests.support.clock import START
from tests.support.store import opened


def test_quick_ones_stay_allowed() -> None:
    glances = Glances()
    for number in range(10):
        glances.took(number, number + SLOW)
    assert glances.allowed(10.0)


def test_after_a_slow_one_they_rest_twice_as_long_each_time() -> None:
    glances = Glances()
    now = 100.0
    rests = []
    for _ in range(9):
        assert glances.allowed(now)
        glances.took(now - 2 * SLOW, now)
        rest = FIRST_REST
        while not glances.allowed(now + rest):
            rest *= 2
        rests.append(rest)
        now += rest
    assert rests == [1, 2, 4, 8, 16, 32, 64, 64, 64]
    assert max(rests) == LONGEST_REST


def test_many_quick_ones_make_the_next_rest_short() -> None:
    glances = Glances()
    for _ in range(4):
        glances.took(0.0, 1.0)
    for _ in range(TRUST):
        glances.took(50.0, 50.0)
    glances.took(60.0, 61.0)
    assert not glances.allowed(61.9)
    assert glances.allowed(62.0)


def where(tx: Tx) -> tuple[bool, int]:
    return tx.brief, threading.get_ident()


def test_done_at_once_and_by_a_thread() -> None:
    async def main() -> None:
        async with opened() as database:
            assert await database.glance(where) == (True, threading.get_ident())
            brief, thread = await database.read(where)
            assert not brief
            assert thread != threading.get_ident()

            database._glances._until = float("inf")  # one was slow
            brief, thread = await database.glance(where)
            assert not brief
            assert thread != threading.get_ident()

    asyncio.run(main())


def test_too_much_goes_to_a_thread() -> None:
    def work(tx: Tx) -> int:
        if tx.brief:
            raise TooMuch
        return threading.get_ident()

    async def main() -> None:
        async with opened() as database:
            assert await database.glance(work) != threading.get_ident()

    asyncio.run(main())


def test_what_takes_many_steps_goes_to_a_thread() -> None:
    def count(tx: Tx, most: int) -> tuple[bool, int]:
        sql = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?) SELECT count(*) FROM n"
        row = tx.one(sql, most)
        return tx.brief, row[0] if row else 0

    async def main() -> None:
        async with opened() as database:
            for _ in range(100):  # what others did before does not count
                assert await database.glance(count, 500) == (True, 500)
            assert await database.glance(count, 100_000) == (False, 100_000)
            assert await database.glance(count, 500) == (True, 500)

    asyncio.run(main())


def test_a_content_in_a_file_is_not_read_at_once() -> None:
    async def main() -> None:
        async with opened() as database:
            with pytest.raises(TooMuch):
                database._glance(lambda tx: blobs.content_of_row(tx, (10, FILE, None, "a" * 32)))

    asyncio.run(main())


def test_it_sees_what_was_written_and_what_fails_is_told() -> None:
    def count(tx: Tx) -> int:
        row = tx.one("SELECT count(*) FROM suppression")
        return row[0] if row else -1

    def fails(tx: Tx) -> None:
        tx.all("SELECT nonsense")

    async def main() -> None:
        async with opened() as database:
            before = await database.glance(count)
            await database.write(
                suppression.add, suppression.Entry(suppression.EVERYBODY, "a@b.test", "x", "", START, 0)
            )
            assert await database.glance(count) == before + 1
            with pytest.raises(Temporary, match="nonsense"):
                await database.glance(fails)
            assert await database.glance(count) == before + 1

    asyncio.run(main())

"""The suppression list, warnings told once, and keys that can be changed: what the store keeps of them."""

import pytest

from posthouse.base.errors import Permanent
from posthouse.store import accounts, delays, keys, outbox, suppression
from posthouse.store.database import Tx
from posthouse.store.outbox import Outcome
from posthouse.store.suppression import EVERYBODY, MAX_REPLY, Entry
from tests.store.test_outbox import queue
from tests.support.clock import START
from tests.support.loop import on_loop
from tests.support.store import opened

DAY = 86_400_000_000
BOB = "bob@there.test"


@on_loop
async def test_an_entry_is_of_an_account_or_of_all() -> None:
    def work(tx: Tx) -> None:
        suppression.add(tx, Entry(7, "Bob@There.test", "user-unknown", "550 no", START, START + DAY))
        suppression.add(tx, Entry(EVERYBODY, "spam@trap.test", "by hand", "", START, 0))
        found = suppression.find(tx, 7, "BOB@there.test", START)
        assert found == Entry(7, BOB, "user-unknown", "550 no", START, START + DAY)
        assert suppression.find(tx, 8, BOB, START) is None
        assert suppression.find(tx, 7, BOB, START + DAY) is None, "its time is over"
        for account in (7, 8):
            assert suppression.find(tx, account, "spam@trap.test", START + 999 * DAY) is not None
        assert [e.address for _, e in suppression.listing(tx, START)] == [BOB, "spam@trap.test"]
        assert [e.address for _, e in suppression.listing(tx, START, 7)] == [BOB]
        assert [e.address for _, e in suppression.listing(tx, START, after=BOB)] == ["spam@trap.test"]
        assert suppression.remove(tx, BOB, 8) == 0
        assert suppression.remove(tx, "BOB@there.test") == 1
        assert suppression.find(tx, 7, BOB, START) is None

    async with opened() as database:
        await database.write(work)


@on_loop
async def test_a_later_failure_lasts_longer_and_an_entry_for_good_stays() -> None:
    def work(tx: Tx) -> None:
        for until in (START + DAY, START + 2 * DAY):
            suppression.add(tx, Entry(7, BOB, "user-unknown", "x" * 9999, START, until))
        found = suppression.find(tx, 7, BOB, START + DAY)
        assert found is not None
        assert len(found.reply) == MAX_REPLY
        suppression.add(tx, Entry(7, BOB, "by hand", "", START, 0))
        suppression.add(tx, Entry(7, BOB, "user-unknown", "", START, START + DAY))
        assert suppression.find(tx, 7, BOB, START + 99 * DAY) is not None
        suppression.add(tx, Entry(8, BOB, "user-unknown", "", START, START + DAY))
        assert suppression.expire(tx, START + DAY - 1) == 0
        assert suppression.expire(tx, START + DAY) == 1
        assert suppression.expire(tx, START + DAY) == 0
        with pytest.raises(Permanent, match="is not an address"):
            suppression.canonical("bob")
        suppression.add(tx, Entry(7, "not an address\0", "x", "\0", START, 0))

    async with opened() as database:
        await database.write(work)


@on_loop
async def test_the_list_of_an_account_goes_with_it() -> None:
    def work(tx: Tx) -> None:
        accounts.add_domain(tx, "here.test", START)
        alice = accounts.add_account(tx, "alice@here.test", "hash", START)
        suppression.add(tx, Entry(alice, BOB, "user-unknown", "", START, 0))
        assert suppression.listing(tx, START)[0][0] == "alice@here.test"
        accounts.remove_account(tx, "alice@here.test")
        assert suppression.listing(tx, START) == []

    async with opened() as database:
        await database.write(work)


@on_loop
async def test_a_sender_is_told_of_a_delay_once() -> None:
    def work(tx: Tx) -> None:
        queue(tx, 1, "a@x.test", "b@y.test")
        assert delays.untold(tx, 1) == [], "nobody was tried yet"
        (claim, *_) = outbox.claim(tx, "n", START, START + DAY, 1)
        outbox.record(tx, "n", [Outcome(claim.id, START + DAY, 450, "4.2.0", "later", "mx.x.test")])
        (waiting,) = delays.untold(tx, 1) or []
        assert (waiting.address, waiting.code, waiting.text) == (claim.address, 450, "later")
        assert delays.tell(tx, 1, START)
        assert not delays.tell(tx, 1, START)
        assert delays.untold(tx, 1) is None
        assert delays.untold(tx, 99) is None
        assert not delays.tell(tx, 99, START)

    async with opened() as database:
        await database.write(work)


@on_loop
async def test_a_key_is_changed_and_the_one_before_kept() -> None:
    def work(tx: Tx) -> None:
        (first,) = keys.usable(tx, "srs")
        assert keys.usable(tx, "srs") == (first,)
        keys.rotate(tx, "srs")
        second, before = keys.usable(tx, "srs")
        assert before == first != second
        keys.rotate(tx, "srs")
        third, before = keys.usable(tx, "srs")
        assert before == second
        assert third not in (first, second)

    async with opened() as database:
        await database.write(work)

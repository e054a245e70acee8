"""The queue's rows: claims, leases, outcomes."""

from collections.abc import Sequence
from typing import NamedTuple

from posthouse.store import outbox, outbox_admin
from posthouse.store.database import Tx
from posthouse.store.outbox import NewMessage, Outcome
from tests.support.clock import START
from tests.support.loop import on_loop
from tests.support.store import opened, put_blob

MINUTE = 60_000_000
LEASE = START + 10 * MINUTE


class To(NamedTuple):
    address: str
    destination: str
    options: str = ""


def queue(tx: Tx, id_: int, *addresses: str, created: int = START, sender: str = "alice@here.test") -> None:
    blob_id = put_blob(tx, b"Subject: %d\r\n\r\nHello\r\n" % id_)
    recipients = [To(a, a.partition("@")[2]) for a in addresses]
    outbox.add(tx, NewMessage(id_, sender, None, blob_id, b"Received: x\r\n", 42, created, created + 5), recipients)


def rows(tx: Tx, /, sql: str, *args: object) -> list[tuple[str, ...]]:
    return tx.all(sql, *args)


def claimed(
    tx: Tx, /, node: str = "a", now: int = START, most: int = 100, busy: Sequence[str] = (), each: int = 0
) -> list[str]:
    return [c.address for c in outbox.claim(tx, node, now, LEASE, most, busy, each)]


@on_loop
async def test_a_claim_brings_the_message() -> None:
    async with opened() as db:
        await db.write(queue, 1, "bob@there.test", "carol@other.test")
        first, second = await db.write(outbox.claim, "a", START, LEASE, 10)
        assert (first.address, first.destination, first.attempts) == ("bob@there.test", "there.test", 0)
        assert second.address == "carol@other.test"
        assert first.message == second.message
        assert (first.message.id, first.message.sender, first.message.prefix) == (
            1,
            "alice@here.test",
            b"Received: x\r\n",
        )


@on_loop
async def test_nothing_is_claimed_twice() -> None:
    async with opened() as db:
        for number in range(10):
            await db.write(queue, number + 1, f"r{number}@there.test")
        seen = []
        for node in "abcabc":
            seen += await db.write(claimed, node, START, 2)
        assert sorted(seen) == [f"r{number}@there.test" for number in range(10)]


@on_loop
async def test_the_longest_waiting_come_first_and_the_future_not_at_all() -> None:
    async with opened() as db:
        await db.write(queue, 1, "late@there.test", created=START + MINUTE)
        await db.write(queue, 2, "new@there.test", created=START)
        await db.write(queue, 3, "old@there.test", created=START - MINUTE)
        assert await db.read(outbox.next_due) == START - MINUTE
        assert await db.write(claimed) == ["old@there.test", "new@there.test"]
        assert await db.read(outbox.next_due) == START + MINUTE
        assert await db.write(claimed, now=START + MINUTE) == ["late@there.test"]
        assert await db.read(outbox.next_due) is None


@on_loop
async def test_busy_destinations_are_passed_over_and_none_takes_all() -> None:
    async with opened() as db:
        await db.write(queue, 1, *(f"r{n}@big.test" for n in range(6)), "x@small.test")
        assert await db.write(claimed, busy=["big.test"]) == ["x@small.test"]
        assert await db.read(outbox.next_due, ["big.test"]) is None
        assert len(await db.write(claimed, each=2)) == 2
        assert len(await db.write(claimed, most=3, each=5)) == 3


@on_loop
async def test_outcomes() -> None:
    async with opened() as db:
        await db.write(queue, 1, "ok@there.test", "later@there.test", "no@there.test")
        ok, later, no = await db.write(outbox.claim, "a", START, LEASE, 10)
        await db.write(
            outbox.record,
            "a",
            [
                Outcome(ok.id, None, 250),
                Outcome(later.id, START + MINUTE, 451, "4.3.0", "busy", "mx.there.test"),
                Outcome(no.id, None, 550),
            ],
        )
        message_and_recipients = await db.read(outbox_admin.show, 1)
        assert message_and_recipients is not None
        (row,) = message_and_recipients[1]
        assert row[2:] == (
            "later@there.test",
            "there.test",
            "due",
            1,
            START + MINUTE,
            451,
            "4.3.0",
            "busy",
            "mx.there.test",
            "",
        )
        (again,) = await db.write(outbox.claim, "a", START + MINUTE, LEASE, 10)
        assert again.attempts == 1
        await db.write(outbox.record, "a", [Outcome(again.id, None, 250)])
        assert await db.read(outbox_admin.show, 1) is None  # and the blob's count is checked at the end


@on_loop
async def test_a_crash_leaves_claims_that_come_back() -> None:
    async with opened() as db:
        await db.write(queue, 1, "a@there.test")
        await db.write(queue, 2, "b@there.test")
        assert await db.write(claimed, "a", START, 1) == ["a@there.test"]
        assert await db.write(claimed, "b", START, 1) == ["b@there.test"]
        assert await db.write(outbox.recover, "a", START) == 1  # its own, at once
        assert await db.write(claimed, "a") == ["a@there.test"]
        assert await db.write(outbox.recover, "", LEASE - 1) == 0
        assert await db.write(outbox.recover, "", LEASE) == 2  # anyone's, when the lease has run out


@on_loop
async def test_leases_can_be_renewed_and_given_back() -> None:
    async with opened() as db:
        await db.write(queue, 1, "a@there.test", "b@there.test")
        a, b = await db.write(outbox.claim, "n", START, LEASE, 10)
        await db.write(outbox.renew, "n", [a.id], LEASE + MINUTE)
        await db.write(outbox.renew, "stranger", [b.id], LEASE + MINUTE)
        assert await db.write(outbox.recover, "", LEASE) == 1
        await db.write(outbox.release, "n", [a.id])
        assert await db.write(claimed) == ["a@there.test", "b@there.test"]


@on_loop
async def test_a_lost_claim_cannot_put_off_but_a_delivery_counts() -> None:
    async with opened() as db:
        await db.write(queue, 1, "a@there.test")
        (slow,) = await db.write(outbox.claim, "slow", START, START + 1, 10)
        await db.write(outbox.recover, "", START + 1)
        (quick,) = await db.write(outbox.claim, "quick", START + 2, LEASE, 10)
        assert slow.id == quick.id
        await db.write(outbox.record, "slow", [Outcome(slow.id, LEASE, 451)])
        assert (await db.read(outbox_admin.counts, START)).claimed == 1
        await db.write(outbox.record, "slow", [Outcome(slow.id, None, 250)])
        await db.write(outbox.record, "quick", [Outcome(quick.id, None, 250)])  # nothing left: fine
        assert await db.read(outbox_admin.listing) == []


@on_loop
async def test_claiming_costs_by_the_batch_not_by_the_queue() -> None:
    """The plan must find the due rows by the index: no scan of the table, no sort."""
    async with opened() as db:
        for busy in ([], ["busy.test"]):
            sql = "EXPLAIN QUERY PLAN " + outbox._due(busy)
            plan = await db.read(rows, sql, START, *busy, 10)
            assert len(plan) == 1
            assert "SEARCH recipient USING COVERING INDEX recipient_due" in plan[0][3]

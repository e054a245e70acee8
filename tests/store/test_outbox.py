"""The queue's rows: claims, leases, outcomes."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import pytest

from posthouse.base.errors import Permanent
from posthouse.store import accounts, outbox, outbox_admin, pauses
from posthouse.store.database import Tx
from posthouse.store.model import QueueChanged
from posthouse.store.outbox import NewMessage, Outcome, Room, Taken
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
        assert await db.write(claimed) == ["old@there.test", "new@there.test"]
        assert await db.read(outbox.next_due, START) == START + MINUTE
        assert await db.write(claimed, now=START + MINUTE) == ["late@there.test"]
        assert await db.read(outbox.next_due, START + MINUTE) is None


@on_loop
async def test_busy_destinations_are_passed_over_and_none_takes_all() -> None:
    async with opened() as db:
        await db.write(queue, 1, *(f"r{n}@big.test" for n in range(6)), "x@small.test")
        assert await db.write(claimed, busy=["big.test"]) == ["x@small.test"]
        assert await db.read(outbox.next_due, START) is None
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
async def test_a_claim_knows_account_lane_and_route() -> None:
    async with opened() as db:
        account = await db.write(add_alice)

        def work(tx: Tx) -> None:
            blob_id = put_blob(tx, b"Subject: x\r\n\r\n")
            outbox.add(
                tx, NewMessage(1, "alice@here.test", account, blob_id, b"", 14, START, START + 5), [To("b@x", "x")]
            )
            tx.run("UPDATE recipient SET route = 'route:quiet'")

        await db.write(work)
        await db.write(queue, 2, "c@y", sender="News@Away.Test")
        await db.write(queue, 3, "d@z", sender="")
        mine, foreign, bounce = await db.write(outbox.claim, "a", START, LEASE, 10)
        assert (mine.route, mine.lane, mine.message.account) == ("route:quiet", account, "alice@here.test")
        assert (foreign.route, foreign.message.account) == ("", "")
        assert foreign.lane == outbox.lane_of(None, "other@away.test") < 0
        assert bounce.lane == 0


def add_alice(tx: Tx) -> int:
    accounts.add_domain(tx, "here.test", START)
    return accounts.add_account(tx, "alice@here.test", "hash", START)


@on_loop
async def test_senders_take_turns() -> None:
    async with opened() as db:
        await db.write(fill, 2000, "big.example")
        await db.write(queue, 1, "one@there.test", sender="x@small.test", created=START + 1)
        await db.write(queue, 2, *(f"m{n}@there.test" for n in range(50)), sender="x@middle.test", created=START + 2)
        taken = await db.write(outbox.take, "a", START + 9, LEASE, Room(300))
        got = Counter(claim.lane for claim in taken.claims)
        small, middle, big = (
            outbox.lane_of(None, f"x@{name}") for name in ("small.test", "middle.test", "big.example")
        )
        assert (got[small], got[middle]) == (1, 50)
        assert 100 < got[big] <= 125  # and as much stays free for who comes next
        assert taken.left == {big}
        again = await db.write(outbox.take, "a", START + 9, LEASE, Room(300 - got.total(), held=got))
        assert len(again.claims) <= 2
        await db.write(queue, 3, "late@there.test", sender="x@late.test")
        (late,) = (await db.write(outbox.take, "a", START + 9, LEASE, Room(20, held=got))).claims
        assert late.address == "late@there.test"


def fill(tx: Tx, count: int, domain: str, destination: str = "there.test", lanes: int = 1, first: int = 1) -> None:
    """Many recipients of one message, made by the database: quicker than one by one."""
    lane = outbox.lane_of(None, f"x@{domain}")
    queue(tx, 1_000_000 + first, "first@there.test", sender=f"x@{domain}")
    tx.run(
        "INSERT INTO recipient (queue_id, address, destination, state, next_attempt, lane) "
        "WITH RECURSIVE n (i) AS (SELECT ? UNION ALL SELECT i + 1 FROM n WHERE i < ?) "
        "SELECT ?, 'r' || i, ?, 'due', ?, ? + i % ? FROM n",
        first,
        first + count - 1,
        1_000_000 + first,
        destination,
        START,
        lane,
        lanes,
    )


@on_loop
async def test_priorities_hold_within_a_lane_and_not_against_others() -> None:
    async with opened() as db:

        def work(tx: Tx) -> None:
            for number, (sender, priority) in enumerate(
                [("a@a.test", 0), ("a@a.test", 5), ("a@a.test", -3), ("b@b.test", 0)], 1
            ):
                blob_id = put_blob(tx, b"Subject: %d\r\n\r\n" % number)
                message = NewMessage(number, sender, None, blob_id, b"", 14, START, START + 5, priority)
                outbox.add(tx, message, [To(f"r{number}@there.test", "there.test")])

        await db.write(work)
        later = START + 9_000_000
        assert set(await db.write(claimed, now=later, most=2)) == {"r2@there.test", "r4@there.test"}
        assert await db.write(claimed, now=later, most=1) == ["r1@there.test"]
        assert await db.write(claimed, now=later) == ["r3@there.test"]


@on_loop
async def test_more_lanes_than_a_batch_holds_all_get_their_turn() -> None:
    async with opened() as db:
        await db.write(fill, 30_000, "many.test", lanes=10_000)
        seen: Counter[int] = Counter()
        room = Room(250)
        for _ in range(40):
            taken = await db.write(outbox.take, "a", START, LEASE, room)
            assert len(taken.claims) == 250
            assert taken.full
            seen.update(claim.lane for claim in taken.claims)
            room = room._replace(lane=taken.lane, aside=taken.aside)
        assert len(seen) == 10_000
        assert set(seen.values()) == {1}


def test_the_room_that_lanes_may_fill() -> None:
    assert outbox._level(100, [0], 1) == 50
    assert outbox._level(100, [0, 0, 0], 1) == 25
    assert outbox._level(350, [150], 1) == 250
    assert outbox._level(250, [250], 1) == 250  # nothing more for it
    assert outbox._level(90, [0, 1000], 1) == 45
    assert outbox._level(100, [0, 0], 0) == 50
    assert outbox._level(100, [], 0) == 100


def steps(tx: Tx, room: Room, now: int = START) -> tuple[int, Taken]:
    """A take, and its cost in steps of SQLite's machine: the same on every computer."""
    con = tx._con  # type: ignore[attr-defined]
    count = 0

    def tick() -> bool:
        nonlocal count
        count += 1
        return False

    con.set_progress_handler(tick, 100)
    try:
        taken = outbox.take(tx, "a", now, now + LEASE, room)
    finally:
        con.set_progress_handler(None)
    return count * 100, taken


@pytest.mark.parametrize("count", [2_000, 100_000])
@on_loop
async def test_claiming_costs_by_the_batch_not_by_the_queue(count: int) -> None:
    async with opened() as db:
        await db.write(fill, count, "big.example")
        cost, taken = await db.write(steps, Room(200))
        assert len(taken.claims) == 100
        assert cost < 40_000


@pytest.mark.parametrize("count", [2_000, 100_000])
@on_loop
async def test_rows_of_a_busy_destination_are_passed_over_once(count: int) -> None:
    """A look moves a bounded number out of the way; then they cost nothing until their destination is free."""
    async with opened() as db:
        await db.write(fill, count, "big.example", "slow.test")
        await db.write(queue, 1, "behind@quick.test", sender="x@big.example", created=START + 1)
        await db.write(queue, 2, "other@quick.test", sender="x@other.test", created=START + 1)
        room = Room(200, busy=("slow.test",), each=50)
        got: list[str] = []
        for looks in range(1, 1000):
            cost, taken = await db.write(steps, room, START + 2)
            assert cost < 150_000
            got += [claim.address for claim in taken.claims]
            if looks == 1:
                assert "other@quick.test" in got  # nobody else waits for that
            if not taken.more:
                break
        assert looks <= count // 500 + 3
        assert sorted(got) == ["behind@quick.test", "first@there.test", "other@quick.test"]
        cost, taken = await db.write(steps, room, START + 2)
        assert cost < 2_000
        assert not taken.claims
        free = room._replace(busy=())
        assert len((await db.write(outbox.take, "a", START + 2, LEASE, free)).claims) == 50


@on_loop
async def test_lanes_that_wait_for_a_time_cost_nothing() -> None:
    async with opened() as db:
        await db.write(fill, 10_000, "many.test", lanes=10_000)
        room = Room(2 * 20_000)
        while True:
            taken = await db.write(outbox.take, "a", START, LEASE, room)
            retry = [Outcome(claim.id, START + MINUTE, 451) for claim in taken.claims]
            await db.write(outbox.record, "a", retry)
            room = room._replace(lane=taken.lane)
            if not taken.more and not taken.claims:
                break
        await db.write(queue, 1, "new@there.test", created=START)
        cost, taken = await db.write(steps, Room(200))
        assert [claim.address for claim in taken.claims] == ["new@there.test"]
        assert cost < 2_000
        assert await db.read(outbox.next_due, START) == START + MINUTE
        cost, taken = await db.write(steps, Room(200), START + MINUTE)
        assert len(taken.claims) == 200
        assert taken.more  # many fall due in one moment: so many a look
        assert cost < 150_000


@on_loop
async def test_those_aside_come_back_in_turn() -> None:
    async with opened() as db:
        for sender in ("a", "b", "c"):
            await db.write(fill, 3000, f"{sender}.test", "slow.test", first={"a": 1, "b": 10_000, "c": 20_000}[sender])
        room = Room(300, busy=("slow.test",), each=30)
        while (await db.write(outbox.take, "n", START, LEASE, room)).more:
            pass
        taken = await db.write(outbox.take, "n", START, LEASE, room._replace(busy=()))
        assert set(Counter(claim.lane for claim in taken.claims).values()) == {10}


@on_loop
async def test_a_place_is_a_matter_of_speed_only() -> None:
    """Whoever changes a row need not care for it."""
    async with opened() as db:
        for place in (0, 1, 2):
            await db.write(queue, place + 1, f"now{place}@there.test", f"then{place}@there.test")

            def misplace(tx: Tx, place: int) -> None:
                tx.run("UPDATE recipient SET place = ? WHERE queue_id = ?", place, place + 1)
                tx.run("UPDATE recipient SET next_attempt = ? WHERE address LIKE 'then%'", START + MINUTE)

            await db.write(misplace, place)
        assert sorted(await db.write(claimed)) == ["now0@there.test", "now1@there.test", "now2@there.test"]
        assert await db.read(outbox.next_due, START) == START + MINUTE
        assert sorted(await db.write(claimed, now=START + MINUTE)) == [f"then{n}@there.test" for n in range(3)]


def plans(tx: Tx, sql: str) -> str:
    return " ".join(row[3] for row in tx.all(f"EXPLAIN QUERY PLAN {sql}"))


@on_loop
async def test_the_searches_use_their_indexes() -> None:
    async with opened() as db:
        recover = (
            "UPDATE recipient SET state = 'due' WHERE state = 'claimed' AND (claimed_until <= 5 OR claimed_by = 'a')"
        )
        assert "USING INDEX recipient_claimed" in await db.read(plans, recover)
        later = "SELECT id FROM recipient WHERE state = 'due' AND place = 1 AND next_attempt <= 5 ORDER BY next_attempt"
        assert "recipient_later" in await db.read(plans, later)
        lane = (
            "SELECT id, destination, next_attempt FROM recipient WHERE state = 'due' AND place = 0 AND lane = 5 "
            "ORDER BY next_attempt, destination, id LIMIT 5"
        )
        plan = await db.read(plans, lane)
        assert "COVERING INDEX recipient_due" in plan
        assert "TEMP" not in plan


@on_loop
async def test_a_paused_destination_is_not_claimed() -> None:
    async with opened() as db:
        await db.write(queue, 1, "a@there.test", "b@deep.sub.there.test", "c@other.test", "d@xthere.test")
        await db.write(pauses.pause, "There.TEST", START, 0, "they asked")
        await db.write(pauses.pause, "*.there.test", START, START + MINUTE)
        assert await db.write(claimed) == ["c@other.test", "d@xthere.test"]
        assert await db.read(outbox.next_due, START) == START + MINUTE  # when the second pause ends
        assert await db.write(claimed, now=START + MINUTE) == ["b@deep.sub.there.test"]
        assert await db.write(claimed, now=START + 9 * MINUTE) == []
        assert await db.write(pauses.resume, "there.test.")
        assert not await db.write(pauses.resume, "there.test")
        assert await db.write(claimed) == ["a@there.test"]


@on_loop
async def test_where_everything_is_paused_no_time_but_its_end_makes_a_look_worth_it() -> None:
    async with opened() as db:
        await db.write(queue, 1, "bob@there.test")
        (claim,) = await db.write(outbox.claim, "a", START, LEASE, 10)
        await db.write(outbox.record, "a", [Outcome(claim.id, START + MINUTE)])
        await db.write(pauses.pause, "*", START)
        assert await db.read(outbox.next_due, START + 2 * MINUTE) is None
        await db.write(pauses.pause, "*", START, START + 9 * MINUTE)
        assert await db.read(outbox.next_due, START + 2 * MINUTE) == START + 9 * MINUTE
        assert await db.read(outbox.next_due, START + 9 * MINUTE) == START + MINUTE


@on_loop
async def test_looks_end_where_no_sender_of_very_many_may_have_one_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "LOOK", 5)
    senders = [f"s@{number}.test" for number in range(10)]
    async with opened() as db:
        for number, sender in enumerate(senders * 2):
            await db.write(queue, number + 1, f"bob@there{number}.test", sender=sender)
        held = dict.fromkeys([outbox.lane_of(None, sender) for sender in senders], 1)
        found = await db.write(outbox.take, "a", START, LEASE, Room(3, held=held))
        assert found.claims == []  # as much stays free as each holds
        assert len(found.left) == 5
        assert found.full
        assert not found.more


@on_loop
async def test_everything_can_be_paused() -> None:
    async with opened() as db:
        await db.write(fill, 100, "big.example")
        await db.write(pauses.pause, "*", START, START + MINUTE)
        assert await db.write(claimed) == []
        assert await db.read(outbox.next_due, START) == START + MINUTE
        assert len(await db.write(claimed, now=START + MINUTE)) == 100


@on_loop
async def test_pauses_are_told_and_end() -> None:
    async with opened() as db:
        changes: list[object] = []
        db.on_commit(changes.extend)
        await db.write(pauses.pause, "b.test", START, START + 5, "x" * 9999)
        await db.write(pauses.pause, "a.test", START, 0)
        await db.write(pauses.pause, "b.test", START + 1, START + 7, "again")
        assert await db.read(pauses.listing) == [("a.test", START, 0, ""), ("b.test", START + 1, START + 7, "again")]
        assert await db.write(pauses.expire, START + 6) == 0
        assert await db.write(pauses.expire, START + 7) == 1
        assert [row.destination for row in await db.read(pauses.listing)] == ["a.test"]
        await db.write(pauses.resume, "a.test")
        assert changes == [QueueChanged(0)] * 4


@on_loop
async def test_pauses_have_limits() -> None:
    async with opened() as db:

        def many(tx: Tx) -> None:
            for number in range(pauses.MOST):
                pauses.pause(tx, f"d{number}.test", START)

        await db.write(many)
        with pytest.raises(Permanent, match="1000 destinations are paused"):
            await db.write(pauses.pause, "one-more.test", START)
        await db.write(pauses.pause, "d7.test", START, START + 1)  # which stands: it is replaced
        await db.write(pauses.pause, "one-more.test", START + 2)  # one has ended
        await db.write(pauses.pause, "d8.test", START + 2, 0, "x" * 9999)
        assert max(len(row.reason) for row in await db.read(pauses.listing)) == pauses.MAX_REASON
        for nonsense in ("", "*.", "a b", "*.*", "a..b", "**", "x" * 300, "there.test\n.", "a@b"):
            with pytest.raises(Permanent, match="is not a destination"):
                await db.write(pauses.pause, nonsense, START)


def test_what_a_pause_covers() -> None:
    paused = pauses.Paused(frozenset({"a.test", "*.b.test", "[ipv6:::1]"}))
    for name in ("a.test", "A.test", "x.b.test", "y.x.b.test", "[IPv6:::1]"):
        assert paused.covers(name)
    for name in ("x.a.test", "b.test", "xb.test", "", "test"):
        assert not paused.covers(name)
    assert pauses.Paused(frozenset({"*"})).covers("")

"""What operators see of the queue and do to it: filters, numbers, actions in slices."""

from collections.abc import Sequence
from typing import Any

import pytest

from posthouse.base.errors import NotFound, Permanent
from posthouse.base.ids import IdSource
from posthouse.store import accounts, events, outbox, outbox_admin, pauses
from posthouse.store.database import Tx
from posthouse.store.outbox import NewMessage, Outcome
from posthouse.store.outbox_admin import MOST_IDS, MOST_TEXT, Filter, where
from tests.store.test_outbox import To
from tests.support.clock import START
from tests.support.loop import on_loop
from tests.support.store import opened, put_blob

HOUR = 3600 * 1_000_000
IDS = IdSource()
LATER = START + 10 * HOUR


def queue(
    tx: Tx,
    id_: int,
    *addresses: str,
    sender: str = "alice@here.test",
    created: int = START,
    account: int | None = None,
    due: int = 0,
) -> None:
    blob_id = put_blob(tx, b"Subject: the same\r\n\r\nHello\r\n")
    recipients = [To(a, a.rpartition("@")[2].lower()) for a in addresses]
    outbox.add(
        tx, NewMessage(id_, sender, account, blob_id, b"Received: x\r\n", 42, created, created + 5, due=due), recipients
    )


def said(tx: Tx, address: str, code: int, status: str, text: str, retry: int = LATER) -> None:
    """An attempt for one recipient was put off."""
    row = tx.one("SELECT id FROM recipient WHERE address = ?", address)
    assert row is not None
    tx.run("UPDATE recipient SET state = 'claimed', claimed_by = 'n' WHERE id = ?", row[0])
    outbox.record(tx, "n", [Outcome(row[0], retry, code, status, text, "mx.test")])


def fill(tx: Tx) -> None:
    accounts.add_domain(tx, "here.test", START)
    alice = accounts.add_account(tx, "alice@here.test", "hash", START)
    queue(tx, 1, "Bob@There.test", "carol@other.test", account=alice)
    queue(tx, 2, "dan@sub.there.test", sender="ann@100%.test", created=START - 5 * HOUR)
    queue(tx, 3, "eve@other.test", sender="", created=START - 2 * HOUR)
    queue(tx, 4, "bob@there.test.example", sender="alice@nothere.test")
    said(tx, "carol@other.test", 451, "4.3.0", "Queue full at 90%, Try LATER")
    said(tx, "eve@other.test", 421, "4.7.0", "too many_connections")
    tx.run("UPDATE recipient SET state = 'held' WHERE address = 'dan@sub.there.test'")


def found(tx: Tx, chosen: Filter, now: int = START) -> set[str]:
    outbox_admin.require(tx, chosen)
    listed = outbox_admin.listing(tx, 0, 100, where(chosen, now))
    return {r.address.partition("@")[0].lower() + str(m.id) for m, recipients in listed for r in recipients}


EVERYBODY = {"bob1", "carol1", "dan2", "eve3", "bob4"}
FILTERS: list[tuple[dict[str, Any], set[str]]] = [
    ({}, EVERYBODY),
    ({"ids": (1, 3)}, {"bob1", "carol1", "eve3"}),
    ({"older": 3600.0}, {"dan2", "eve3"}),
    ({"older": 3 * 3600.0}, {"dan2"}),
    ({"younger": 3600.0}, {"bob1", "carol1", "bob4"}),
    ({"older": 3600.0, "younger": 3 * 3600.0}, {"eve3"}),
    ({"sender": "<>"}, {"eve3"}),
    ({"sender": "ALICE@here.test"}, {"bob1", "carol1"}),
    ({"sender": "here.test"}, {"bob1", "carol1"}),
    ({"sender": "@here.test"}, {"bob1", "carol1"}),
    ({"sender": "*@here.test"}, {"bob1", "carol1"}),
    ({"recipient": "*@*.there.test"}, {"dan2"}),
    ({"sender": "*.test"}, EVERYBODY - {"eve3"}),
    ({"sender": "*.here.test"}, set()),
    ({"recipient": "bob@there.test"}, {"bob1"}),
    ({"recipient": "there.test"}, {"bob1"}),
    ({"recipient": "*.there.test"}, {"dan2"}),
    ({"domain": "There.TEST"}, {"bob1"}),
    ({"domain": "*.there.test"}, {"dan2"}),
    ({"domain": "münchen.test"}, set()),
    ({"reply": "try later"}, {"carol1"}),
    ({"reply": "90%"}, {"carol1"}),
    ({"reply": "9%"}, set()),
    ({"reply": "many_conn"}, {"eve3"}),
    ({"reply": "many connections"}, set()),
    ({"reply": "421 4.7.0"}, {"eve3"}),
    ({"reply": "' OR 1 = 1 --"}, set()),
    ({"state": "due"}, {"bob1", "bob4"}),
    ({"state": "waiting"}, {"carol1", "eve3"}),
    ({"state": "held"}, {"dan2"}),
    ({"state": "claimed"}, set()),
    ({"account": "Alice@here.test"}, {"bob1", "carol1"}),
    ({"account": "alice@here.test", "state": "waiting", "domain": "other.test"}, {"carol1"}),
]


@on_loop
async def test_filters() -> None:
    async with opened() as db:
        await db.write(fill)
        for values, expected in FILTERS:
            chosen = Filter(**values)
            assert await db.read(found, chosen) == expected, values
            numbers = await db.read(outbox_admin.count, where(chosen, START), START)
            assert numbers.recipients == len(expected), values
            assert numbers.messages == len({one[-1] for one in expected}), values


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"sender": "a b@c"}, "no address"),
    ({"sender": "%"}, "no domain"),
    ({"recipient": "not a domain"}, "no domain"),
    ({"domain": "*.[192.0.2.1]"}, "no domain"),
    ({"domain": ""}, ""),
    ({"state": "gone"}, "they are due, waiting, claimed, held"),
    ({"reply": "x" * (MOST_TEXT + 1)}, "longer than"),
    ({"ids": tuple(range(MOST_IDS + 1))}, "too many"),
]


def test_filters_that_make_no_sense_are_told() -> None:
    for values, expected in WRONG:
        if expected:
            with pytest.raises(Permanent, match=expected):
                where(Filter(**values), START)
    assert where(Filter(ids=tuple(range(MOST_IDS)), reply="x" * MOST_TEXT), START).args


@on_loop
async def test_what_is_named_has_to_be_there() -> None:
    async with opened() as db:
        await db.write(fill)
        with pytest.raises(NotFound, match="not in the queue: 0000000000009"):
            await db.read(outbox_admin.require, Filter(ids=(1, 9)))
        with pytest.raises(NotFound, match="and 2 more"):
            await db.read(outbox_admin.require, Filter(ids=tuple(range(10, 17))))
        with pytest.raises(NotFound, match="no account bob@here"):
            await db.read(outbox_admin.require, Filter(account="bob@here.test"))


@on_loop
async def test_the_list_goes_on_where_it_ended() -> None:
    async with opened() as db:
        await db.write(fill)
        seen: list[str] = []
        after = 0
        while listed := await db.read(outbox_admin.listing, after, 2):
            seen += [r.address for _, recipients in listed for r in recipients]
            after = listed[-1][1][-1].id
        assert len(seen) == len(EVERYBODY) == len(set(seen))


def rows(tx: Tx, sql: str, *args: object) -> list[Any]:
    return tx.all(sql, *args)


@on_loop
async def test_a_list_costs_by_what_it_shows() -> None:
    """The first rows come by the key of the table: nothing is sorted, whatever is queued."""
    async with opened() as db:
        for condition in (where(Filter(), START), where(Filter(reply="x", older=1.0), START)):
            sql = f"SELECT r.id FROM {outbox_admin._JOIN} WHERE r.id > ? AND {condition.sql} ORDER BY r.id LIMIT ?"
            plan = await db.read(rows, f"EXPLAIN QUERY PLAN {sql}", 0, *condition.args, 10)
            steps = [step[3] for step in plan]
            assert steps[0].startswith("SEARCH r USING INTEGER PRIMARY KEY (rowid>?)")
            assert not any("TEMP B-TREE" in step for step in steps), steps


def act(tx: Tx, do: str, chosen: Filter, now: int = START, route: str = "", ids: Sequence[int] = ()) -> int:
    slice_ = ids or outbox_admin.matching(tx, where(chosen, now), 0, outbox_admin.last_id(tx))
    return len(outbox_admin.act(tx, do, slice_, chosen, now, seq=IDS.next(now), at=now, route=route))


def state(tx: Tx, address: str) -> tuple[Any, ...] | None:
    return tx.one("SELECT state, next_attempt, route FROM recipient WHERE address = ?", address)


@on_loop
async def test_actions() -> None:
    async with opened() as db:
        await db.write(fill)
        assert await db.write(act, "retry", Filter()) == 2
        assert await db.read(state, "carol@other.test") == ("due", START, "")
        assert await db.write(act, "retry", Filter()) == 0
        assert await db.write(act, "hold", Filter(domain="other.test")) == 2
        assert await db.write(act, "retry", Filter(), START + 1) == 0, "what is held is not tried"
        assert await db.write(act, "reroute", Filter(), START + 1, "host:mx.test") == 5
        assert await db.read(state, "carol@other.test") == ("held", START, "host:mx.test"), "a hold is a hold"
        assert await db.read(state, "Bob@There.test") == ("due", START + 1, "host:mx.test")
        assert await db.write(act, "release", Filter(), START + 2) == 3
        assert await db.read(state, "dan@sub.there.test") == ("due", START + 2, "host:mx.test")
        claims = await db.write(outbox.claim, "n", START + 3, LATER, 1)
        assert len(claims) == 1
        for do in ("hold", "drop", "reroute", "retry"):
            which = Filter(recipient=claims[0].address)
            assert await db.write(act, do, which, START + 3) == 0, "what is being tried is left alone"
        assert await db.write(act, "drop", Filter()) == 4
        assert (await db.read(outbox_admin.counts, START)) == (1, 0, 0, 1, 0)
        await db.write(outbox.release, "n", [claims[0].id])
        assert await db.write(act, "drop", Filter()) == 1
        assert (await db.read(outbox_admin.counts, START)) == (0, 0, 0, 0, 0)  # blobs are counted at the end


@on_loop
async def test_actions_stand_in_the_trace() -> None:
    async with opened() as db:
        await db.write(fill)
        for number, (do, route) in enumerate((("hold", ""), ("release", ""), ("reroute", "route:x"), ("drop", ""))):
            assert await db.write(act, do, Filter(ids=(1,)), START + number, route) == 2
        trace = await db.read(events.of_trace, 1)
        assert [event.data["action"] for event in trace] == ["hold", "release", "reroute", "drop"]
        assert trace[2].data["route"] == "route:x"
        assert trace[3].data["recipients"] == ["Bob@There.test", "carol@other.test"]
        assert [event.data["action"] for event in await db.read(outbox_admin.history, 1, 2)] == ["reroute", "drop"]


@on_loop
async def test_events_name_a_bounded_number_of_recipients() -> None:
    async with opened() as db:
        await db.write(queue, 1, *(f"r{n}@there.test" for n in range(150)))
        assert await db.write(act, "hold", Filter()) == 150
        (event,) = await db.read(events.of_trace, 1)
        assert (event.data["count"], len(event.data["recipients"])) == (150, outbox_admin.MOST_TRACED)


@on_loop
async def test_what_changed_since_it_was_found_is_not_touched() -> None:
    async with opened() as db:
        await db.write(fill)
        chosen = Filter(state="held")
        ids = await db.read(outbox_admin.matching, where(chosen, START), 0, 100)
        assert len(ids) == 1
        await db.write(act, "release", Filter())
        assert await db.write(act, "drop", chosen, START, "", ids) == 0


@on_loop
async def test_mail_for_later_is_let_go_early_only_by_its_id() -> None:
    """RFC 4865: its sender wants it held until then."""
    async with opened() as db:
        await db.write(queue, 1, "bob@there.test", due=LATER)
        assert await db.write(act, "retry", Filter()) == 0
        assert await db.write(act, "reroute", Filter(), START, "host:x") == 1
        assert await db.write(act, "hold", Filter()) == 1
        assert await db.write(act, "release", Filter()) == 1
        assert await db.read(state, "bob@there.test") == ("due", LATER, "host:x")
        assert await db.write(act, "retry", Filter(ids=(1,))) == 1
        assert await db.read(state, "bob@there.test") == ("due", START, "host:x")


@on_loop
async def test_destinations() -> None:
    async with opened() as db:
        await db.write(fill)
        first, *others = await db.read(outbox_admin.destinations, START, 10)
        assert first == ("other.test", 2, 0, 0, 0, START, "421 4.7.0 too many_connections")
        assert [one.name for one in others] == ["sub.there.test", "there.test", "there.test.example"]
        assert len(await db.read(outbox_admin.destinations, START, 2)) == 2
        (one,) = await db.read(outbox_admin.destinations, START, 10, where(Filter(state="held"), START))
        assert (one.name, one.held) == ("sub.there.test", 1)


@on_loop
async def test_pauses() -> None:
    async with opened() as db:
        await db.write(pauses.pause, "there.test", START, 0, "they asked")
        await db.write(pauses.pause, "*", START, LATER, "")
        await db.write(pauses.pause, "there.test", START + 1, LATER, "again")
        star, one = await db.read(pauses.listing)
        assert (star.destination, one.until, one.reason) == ("*", LATER, "again")
        assert await db.write(pauses.resume, "there.test")
        assert not await db.write(pauses.resume, "there.test")

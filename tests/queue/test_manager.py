"""The queue at work: retries over days, bounces, limits, crashes, capture; with a clock that the test moves."""

import asyncio
import email
import io
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from posthouse.base import log
from posthouse.base.errors import StorageFull
from posthouse.delivery.inject import Kept
from posthouse.store import outbox
from posthouse.store.database import Tx
from tests.queue.site import ALICE, DAYS, MESSAGE, PREFIX, SECOND, site
from tests.support.clock import START, turns
from tests.support.loop import on_both_loops, on_loop
from tests.support.remote import DROP

BOB = "bob@there.test"


@on_loop
async def test_five_days_of_retries_then_a_bounce() -> None:
    async with site(queue={"delay_warning": "0"}) as here:
        remote = await here.remote("there.test", {"RCPT": "451 4.2.1 come back later"})
        trace = await here.run(BOB)
        times = []
        for _ in range(60):
            rows = await here.waiting()
            if not rows:
                break
            times.append((rows[BOB].next_attempt - START) // SECOND)
            await here.pass_time((rows[BOB].next_attempt - here.clock.now()) / SECOND)
        assert 60 <= times[0] <= 66
        assert times[4] < 3600 * 1.1
        assert times[-1] == 5 * 86_400  # the last one when its time is over
        assert len(times) == sum(command.startswith("MAIL") for command in remote.commands) - 1
        assert len(await here.attempts(trace)) == len(times) + 1
        (bounce,) = await here.bounces()
        assert b"come back later" in bounce
        assert b"Status: 5.4.7" in bounce
        assert b"Action: failed" in bounce


@on_loop
async def test_greylisting_is_over_in_a_minute() -> None:
    async with site() as here:
        remote = await here.remote("there.test", {"RCPT": ["450 4.2.0 greylisted", "250 2.1.5 OK"]})
        await here.run(BOB)
        assert not remote.taken
        await here.pass_time(59)
        assert remote.connections == 1
        await here.pass_time(10)
        assert len(remote.taken) == 1
        assert await here.waiting() == {}


@on_loop
async def test_trouble_of_the_dns_never_bounces_before_the_message_expires() -> None:
    async with site(queue={"delay_warning": "0"}) as here:
        remote = await here.remote("mx.test")
        here.zone["there.test"] = None
        await here.run(BOB)
        assert (await here.waiting())[BOB].last_status == "4.4.3"
        await here.pass_time(86_400)
        assert (await here.waiting())[BOB].attempts > 10
        assert await here.bounces() == []
        here.domain("there.test", "mx.test")
        await here.pass_time(4 * 3600 * 1.1)
        assert len(remote.taken) == 1


@pytest.mark.parametrize(
    ("domain", "status", "words"),
    [
        ("no-such.test", b"5.1.2", b"does not exist"),
        ("null.test", b"5.1.10", b"takes no mail"),
        ("ours.test", b"5.4.6", b"loop"),
        ("hollow.test", b"5.4.4", b"has no address"),
    ],
)
@on_loop
async def test_what_the_dns_says_for_certain_bounces_at_once(domain: str, status: bytes, words: bytes) -> None:
    async with site() as here:
        here.zone |= {
            "null.test": {"MX": [(0, "")]},
            "ours.test": {"MX": [(10, "mail.here.test")]},
            "hollow.test": {"MX": [(10, "hollow-mx.test")]},
            "hollow-mx.test": {},
        }
        await here.run(f"bob@{domain}")
        assert await here.waiting() == {}
        (bounce,) = await here.bounces()
        assert b"Status: " + status in bounce
        assert words in bounce.replace(b"\r\n    ", b" ")
        assert not here.dialled


@on_loop
async def test_the_null_sender_gets_no_bounce() -> None:
    written = io.BytesIO()
    log.configure("json", "info", written)
    async with site() as here:
        await here.remote("there.test", {"RCPT": "550 5.1.1 unknown"})
        trace = await here.run(BOB, sender="")
        told = [json.loads(line) for line in written.getvalue().splitlines()]
        assert [(line["event"], line["recipient"]) for line in told] == [("queue.dropped", BOB)]
        assert await here.waiting() == {}
        assert await here.bounces() == []
        assert len(await here.attempts(trace)) == 1


@on_loop
async def test_a_sender_who_is_gone_gets_none_either() -> None:
    async with site() as here:
        await here.remote("there.test", {"RCPT": "550 5.1.1 unknown"})
        await here.run(BOB, sender="nobody@here.test")
        assert await here.waiting() == {}


@on_loop
async def test_a_sender_elsewhere_gets_the_bounce_by_the_queue() -> None:
    async with site() as here:
        await here.remote("there.test", {"RCPT": "550 5.1.1 unknown"})
        away = await here.remote("away.test")
        await here.run(BOB, sender="dave@away.test")
        await here.settled()
        (bounce,) = away.taken
        assert (bounce.sender, bounce.recipients) == ("", ("dave@away.test",))
        assert email.message_from_bytes(bounce.content)["To"] == "dave@away.test"


@on_loop
async def test_limits_hold() -> None:
    """Forty messages to one destination and forty to others: so many at a time, and the one keeps none out."""
    options = {"queue": {"concurrency": 8, "concurrency_per_destination": 3}}
    async with site(**options) as here:
        big = await here.remote("big.test")
        small = await here.remote("small.test")
        big.gate = asyncio.Event()
        for number in range(10):
            here.zone[f"d{number}.test"] = {"MX": [(1, "small.test")]}
        for number in range(40):
            await here.queue(f"r{number}@big.test")
            await here.queue(f"r{number}@d{number % 10}.test")
        await big.arrived.wait()
        await small.wait_for(40)
        assert not big.taken
        assert big.open == big.most_open == 3
        big.gate.set()
        await here.settled()
        assert len(big.taken) == 40
        assert big.most_open == 3
        assert small.most_open <= 8
        assert await here.waiting() == {}


@on_loop
async def test_a_slow_destination_with_a_long_queue_keeps_nobody_out() -> None:
    """More is due for it than is ever held in memory."""
    options = {"queue": {"concurrency": 4, "concurrency_per_destination": 2}}
    async with site(**options) as here:
        slow = await here.remote("slow.test")
        quick = await here.remote("quick.test")
        slow.gate = asyncio.Event()
        for _ in range(3):
            await here.queue(*(f"r{n}@slow.test" for n in range(100)))
        await slow.arrived.wait()
        await here.queue("x@quick.test")
        await quick.wait_for(1)
        held = here.manager._held
        assert held.destinations["slow.test"] <= held.share * 2
        slow.gate.set()
        await here.settled()
        assert sum(len(t.recipients) for t in slow.taken) == 300
        assert max(len(t.recipients) for t in slow.taken) <= 100


@on_loop
async def test_a_full_queue_does_not_spin() -> None:
    options = {"queue": {"concurrency": 1, "concurrency_per_destination": 1}}
    async with site(**options) as here:
        remote = await here.remote("there.test")
        remote.gate = asyncio.Event()
        looks = Counter[str]()
        write = here.database.write

        async def counted(fn: Any, *args: Any, **kwargs: Any) -> Any:
            looks[fn.__name__] += 1
            return await write(fn, *args, **kwargs)

        here.database.write = counted  # type: ignore[method-assign, assignment]
        for number in range(500):
            await here.queue(f"r{number}@there.test")
        await remote.arrived.wait()
        for _ in range(50):
            await turns()
        before = looks["take"]
        assert before < 1000
        for _ in range(50):
            await turns()
        assert looks["take"] - before <= 1
        remote.gate.set()
        await here.settled()
        assert len(remote.taken) == 500
        assert looks["take"] - before < 100


@on_loop
async def test_two_nodes_deliver_each_message_once() -> None:
    async with site() as here:
        remote = await here.remote("there.test")
        other = here.new_manager(node="other")
        await other.start()
        for number in range(60):
            await here.queue(f"r{number}@there.test")
        await asyncio.gather(here.settled(), other.settled())
        assert sorted(t.recipients[0] for t in remote.taken) == sorted(f"r{n}@there.test" for n in range(60))
        await other.close()


@on_loop
async def test_a_crash_leaves_nothing_behind() -> None:
    """Claims of a node that died are its own again when it comes back, at once."""
    async with site() as here:
        await here.manager.close()
        await here.queue(BOB)
        claims = await here.database.write(outbox.claim, "mail.here.test", START, START + DAYS, 10)
        assert len(claims) == 1  # and here it dies
        remote = await here.remote("there.test")
        here.manager = here.new_manager()
        await here.manager.start()
        await here.settled()
        assert len(remote.taken) == 1


@on_loop
async def test_claims_of_a_node_that_is_gone_come_back_with_their_lease() -> None:
    async with site() as here:
        remote = await here.remote("there.test")
        await here.manager.close()
        await here.queue(BOB)
        await here.database.write(outbox.claim, "gone", START, START + 1800 * SECOND, 10)
        here.manager = here.new_manager()
        await here.manager.start()
        await here.pass_time(1700)
        assert not remote.taken
        await here.pass_time(1200)
        assert len(remote.taken) == 1


@on_loop
async def test_stopping_gives_back_what_was_not_tried() -> None:
    options = {"queue": {"concurrency": 2, "concurrency_per_destination": 2}}
    async with site(**options) as here:
        remote = await here.remote("there.test")
        remote.gate = asyncio.Event()
        for number in range(10):
            await here.queue(f"r{number}@there.test")
        await remote.arrived.wait()
        await here.manager.close(0.01)
        rows = await here.waiting()
        assert len(rows) == 10
        assert {row.state for row in rows.values()} == {"due"}
        assert {row.attempts for row in rows.values()} == {0}


@on_loop
async def test_stopping_lets_attempts_end() -> None:
    async with site() as here:
        remote = await here.remote("there.test")
        remote.gate = asyncio.Event()
        await here.queue(BOB)
        await remote.arrived.wait()
        closing = asyncio.ensure_future(here.manager.close(10.0))
        await turns()
        remote.gate.set()
        await closing
        assert len(remote.taken) == 1
        assert await here.waiting() == {}


@on_loop
async def test_a_delivery_is_written_down_even_if_the_disk_is_full_for_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    failures = [3]
    record = outbox.record

    def full(tx: Tx, *args: Any) -> None:
        if failures[0]:
            failures[0] -= 1
            raise StorageFull("on purpose")
        record(tx, *args)

    monkeypatch.setattr(outbox, "record", full)
    async with site() as here:
        remote = await here.remote("there.test")
        await here.queue(BOB)
        while failures[0]:
            if here.clock.next_end() is not None and remote.taken:
                await here.clock.advance(30)
            await asyncio.sleep(0.001)
        while await here.waiting():
            await here.clock.advance(30)
            await asyncio.sleep(0.001)
        await here.settled()
        assert len(remote.taken) == 1
        assert remote.connections == 1


@on_loop
async def test_an_error_of_our_own_puts_off(monkeypatch: pytest.MonkeyPatch) -> None:
    async with site() as here:

        async def broken(*_: object) -> None:
            raise RuntimeError("on purpose")

        monkeypatch.setattr(here.manager._sender, "attempt", broken)
        await here.run(BOB)
        row = (await here.waiting())[BOB]
        assert (row.last_status, row.attempts, row.state) == ("4.3.0", 1, "due")


@on_loop
async def test_the_same_address_twice() -> None:
    async with site() as here:
        remote = await here.remote("there.test")
        await here.run(BOB, BOB)
        assert remote.taken[0].recipients == (BOB,)
        assert await here.waiting() == {}


@on_both_loops
async def test_captured_mail_never_leaves() -> None:
    async with site(relay={"capture": True}) as here:
        remote = await here.remote("there.test")
        trace = await here.run(BOB, "carol@elsewhere.example")
        assert not remote.connections
        assert not here.dialled
        (captured,) = here.captured
        assert captured["recipients"] == (BOB, "carol@elsewhere.example")
        kept = Path(str(captured["file"])).read_bytes()
        assert kept.endswith(PREFIX + MESSAGE)
        parsed = email.message_from_bytes(kept)
        assert parsed["X-Envelope-From"] == f"<{ALICE}>"
        assert parsed.get_all("X-Envelope-To") == [f"<{BOB}>", "<carol@elsewhere.example>"]
        assert await here.waiting() == {}
        (event,) = await here.attempts(trace)
        assert event.data["results"][BOB]["host"] == "captured"


@on_loop
async def test_a_message_is_bounced_in_the_transaction_that_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A crash can neither lose a bounce nor send it twice: rows and bounce stand or fall together."""
    async with site() as here:
        await here.remote("there.test", {"RCPT": "550 5.1.1 unknown"})
        failures, failed, loop = [1], asyncio.Event(), asyncio.get_running_loop()
        prepare = here.manager._settler._prepare

        async def failing(*args: Any, **options: Any) -> Any:
            keep = await prepare(*args, **options)
            assert keep is not None

            def work(tx: Tx) -> None:
                keep(tx)
                if failures[0]:
                    failures[0] -= 1
                    loop.call_soon_threadsafe(failed.set)
                    raise StorageFull("on purpose")

            return Kept(work, keep.nobody, keep.trace)

        monkeypatch.setattr(here.manager._settler, "_prepare", failing)
        await here.queue(BOB)
        await failed.wait()
        assert await here.bounces() == []
        assert len(await here.waiting()) == 1
        while await here.waiting():
            await here.clock.advance(2)
            await asyncio.sleep(0.001)
        assert len(await here.bounces()) == 1


@on_loop
async def test_a_lost_answer_is_one_duplicate_at_the_most() -> None:
    async with site() as here:
        remote = await here.remote("there.test", {"end": DROP})
        await here.run(BOB)
        remote.script = {}
        await here.pass_time(70)
        assert len(remote.taken) == 2  # the one SMTP cannot avoid (RFC 5321 section 6.1)
        await here.pass_time(86_400)
        assert len(remote.taken) == 2

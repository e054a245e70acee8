"""Counting for DMARC reports: what is counted together, when it is due, and where it ends."""

import asyncio
from pathlib import Path

import pytest

from posthouse.base.log import get_logger
from posthouse.senderauth import tally as tally_module
from posthouse.senderauth.tally import Evaluated, Tally, day_of
from posthouse.store import report_counts
from posthouse.store.report_counts import DAY, Sent, due_of
from tests.support.clock import FakeClock, turns
from tests.support.loop import on_loop
from tests.support.store import opened

RECORD = "v=DMARC1; p=reject; rua=mailto:dmarc@example.org"
ONE = Evaluated(
    policy_domain="example.org",
    record=RECORD,
    source_ip="192.0.2.1",
    header_from="example.org",
    envelope_from="bounce.example.org",
    spf=("bounce.example.org", "mfrom", "pass"),
    dkim=(("example.org", "s1", "pass"),),
    aligned_spf="pass",
    aligned_dkim="pass",
    disposition="none",
)


@on_loop
async def test_equal_messages_are_counted_together_and_wait_for_the_end_of_the_day(tmp_path: Path) -> None:
    async with opened(tmp_path) as database:
        clock = FakeClock()
        today = day_of(clock.now())
        tally = Tally(database, clock, get_logger())
        for _ in range(3):
            tally.note(ONE)
        tally.note(ONE._replace(source_ip="2001:db8::1", record=RECORD.replace("reject", "none")))
        tally.note(ONE._replace(policy_domain="silent.test", record="v=DMARC1; p=none; x=rua=mailto:a@silent.test"))
        await tally.flush()
        tally.note(ONE)
        await tally.close()

        assert await database.read(report_counts.due, clock.now(), 10) == []
        at = await database.read(report_counts.next_due)
        assert at == due_of("dmarc", today, "example.org")
        assert (today + 1) * DAY < at < (today + 2) * DAY
        [period] = await database.read(report_counts.due, at, 10)
        assert (period.domain, period.day, period.lost) == ("example.org", today, 0)
        assert period.policy == [RECORD, "treewalk"]  # what was seen last
        counts = await database.read(report_counts.of_period, "dmarc", today, "example.org")
        assert [(facts[0], number) for facts, number in counts] == [("192.0.2.1", 4), ("2001:db8::1", 1)]

        await database.write(report_counts.later, period, at + DAY)
        [again] = await database.read(report_counts.due, at + DAY, 10)
        assert again.attempts == 1
        went = Sent(0, "dmarc", "example.org", today, "r1", "mailto:dmarc@example.org", at, 900, 5, 7, "sent", "")
        assert await database.write(report_counts.finish, again, [went])
        assert not await database.write(report_counts.finish, again, [went])  # once
        assert await database.read(report_counts.of_period, "dmarc", today, "example.org") == []
        assert await database.read(report_counts.next_due) is None
        [kept] = await database.read(report_counts.sent_since, 0)
        assert kept[1:] == went[1:]


@on_loop
async def test_strangers_fill_no_more_than_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tally_module, "MOST", 8)
    monkeypatch.setattr(report_counts, "MOST_DOMAINS", 2)
    monkeypatch.setattr(report_counts, "MOST_ROWS", 3)
    async with opened(tmp_path) as database:
        clock = FakeClock()
        today = day_of(clock.now())
        tally = Tally(database, clock, get_logger())
        for number in range(10):
            tally.note(ONE._replace(source_ip=f"192.0.2.{number}"))
        assert tally.lost == 2  # beyond MOST
        await tally.flush()
        assert tally.lost == 2 + 5  # beyond MOST_ROWS
        for number in range(5):
            tally.note(ONE._replace(policy_domain=f"d{number}.test", dkim=(("x" * 10_000, "s", "fail"),) * 1000))
        tally.note(ONE)
        await tally.close()
        assert tally.lost == 2 + 5 + 4  # beyond MOST_DOMAINS
        periods = {one.domain: one for one in await database.read(report_counts.due, clock.now() + 2 * DAY, 10)}
        assert periods.keys() == {"example.org", "d0.test"}
        assert periods["example.org"].lost == 5
        [(facts, _)] = await database.read(report_counts.of_period, "dmarc", today, "d0.test")
        assert len(facts[4]) == tally_module.MOST_SIGNATURES
        assert len(facts[4][0][0]) == 255


@on_loop
async def test_reports_about_reports_are_not_made(tmp_path: Path) -> None:
    """Nor if the record names our address with a +detail."""
    async with opened(tmp_path) as database:
        tally = Tally(database, FakeClock(), get_logger(), ["Reports@Here.test", "tls+x@here.test"])
        for to in ("reports@here.test", "REPORTS+dmarc@here.test", "tls@here.test", "tls+x@here.test"):
            tally.note(ONE, [to])
        await tally.flush()
        assert await database.read(report_counts.next_due) is None
        tally.note(ONE, ["reports@here.test", "bob@here.test"])
        await tally.close()
        assert await database.read(report_counts.next_due) is not None


@on_loop
async def test_a_store_that_fails_raises_nothing(tmp_path: Path) -> None:
    async with opened(tmp_path) as database:
        clock = FakeClock()
        tally = Tally(database, clock, get_logger())
        await database.write(lambda tx: tx.run("ALTER TABLE report_period RENAME TO away"))
        tally.note(ONE)
        await tally.close()
        await database.write(lambda tx: tx.run("ALTER TABLE away RENAME TO report_period"))
        assert await database.read(report_counts.next_due) is None


def test_reports_of_a_day_are_spread_over_hours() -> None:
    times = {due_of("dmarc", 20_000, f"d{number}.test") for number in range(50)}
    assert len(times) == 50
    assert max(times) - min(times) > 3600 * 1_000_000
    assert due_of("dmarc", 20_000, "a.test") != due_of("tls", 20_000, "a.test")


@on_loop
async def test_what_waits_is_written_down_by_itself(tmp_path: Path) -> None:
    written = asyncio.Event()

    class Told(Tally):
        async def flush(self) -> None:
            await super().flush()
            written.set()

    async with opened(tmp_path) as database:
        clock = FakeClock()
        tally = Told(database, clock, get_logger())
        tally.note(ONE)
        await turns()
        await clock.advance(tally_module.EVERY - 1)
        assert not written.is_set()
        await clock.advance(1)
        await written.wait()
        assert await database.read(report_counts.next_due) is not None
        await tally.close()

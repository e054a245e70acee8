"""Reading traces: whole, but not without end; links, names, what waits."""

import pytest

from posthouse.base import ids
from posthouse.store import accounts, events, traces
from posthouse.store.database import Tx
from tests.support.clock import START
from tests.support.loop import on_loop
from tests.support.store import opened

FIRST = START // 1000 << 20


@on_loop
async def test_a_long_trace_is_read_at_both_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traces, "MOST_EVENTS", 10)
    monkeypatch.setattr(traces, "FIRST", 3)

    def work(tx: Tx) -> None:
        for n in range(40):
            events.add(tx, FIRST, FIRST + n, "accepted" if not n else "attempt", {"n": n})

    async with opened() as database:
        await database.write(work)
        case = await database.read(traces.case, FIRST)
        assert case is not None
        assert [event.data["n"] for event in case.events] == [0, 1, 2, *range(33, 40)]
        assert case.left_out == 30
        assert await database.read(traces.case, FIRST + 1) is None


@on_loop
async def test_links_names_and_their_bounds() -> None:
    def work(tx: Tx) -> int:
        accounts.add_domain(tx, "here.test", START)
        bob = accounts.add_account(tx, "bob@here.test", "hash", START)
        led = [{"id": ids.to_text(FIRST + n), "why": "failed"} for n in range(1, 100)]
        became = [{"accounts": [bob, 99]}]
        events.add(tx, FIRST, FIRST, "accepted", {"became": became, "led_to": [*led, {"id": "nonsense"}, 7]})
        events.add(tx, FIRST + 1, FIRST + 1, "accepted", {"bounce_of": ids.to_text(FIRST)})
        return bob

    async with opened() as database:
        bob = await database.write(work)
        case = await database.read(traces.case, FIRST)
        assert case is not None
        assert case.accounts == {bob: "bob@here.test"}
        assert len(case.links) == traces.MOST_LINKS
        assert [link.case is not None for link in case.links[:2]] == [True, False]
        child = await database.read(traces.case, FIRST + 1)
        assert child is not None
        (link,) = child.links
        assert link[:3] == (True, "bounce_of", FIRST)
        assert link.case is not None
        assert link.case.links == (), "one level"

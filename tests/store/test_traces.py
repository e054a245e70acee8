"""Reading traces: whole, but not without end; links, names, what waits."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.base import ids
from posthouse.store import accounts, events, packed, traces
from posthouse.store.database import Tx
from tests.support.clock import START
from tests.support.loop import on_loop
from tests.support.store import opened

FIRST = START // 1000 << 20
VALUE = {"spf": [{"result": "pass", "identity": "mailfrom", "domain": "example.org"}] * 12, "sender": True}
STORED = "1:KLUv/WALAs0AAChvcmddfQUAUEUWSkKowF0ZD2LgC27tzEA="


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


_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(), lambda one: st.lists(one) | st.dictionaries(st.text(), one)
)


@given(_values, st.integers(0, 2000))
def test_what_is_packed_comes_back(value: Any, length: int) -> None:
    value = {"value": value, "text": "spf " * length}
    stored = packed.pack(value)
    assert (packed.unpack(stored) if isinstance(stored, str) else stored) == value


@given(st.text() | st.text("ABCDEFabcdef0123456789+/=").map("1:".__add__))
def test_what_cannot_be_unpacked_is_nothing(text: str) -> None:
    assert packed.unpack(text) is None


def test_a_packed_value_is_read_for_ever() -> None:
    """Databases have such texts: whoever changes the dictionary needs another form beside it."""
    assert packed.unpack(STORED) == VALUE


@on_loop
async def test_who_sent_it_is_small_in_the_store() -> None:
    said = {"result": "pass", "domain": "example.org", "record": "v=spf1 include:_spf.example.org mx -all"}
    found = {"spf": [said | {"identity": "mailfrom"}, said | {"identity": "helo"}] * 5}

    def work(tx: Tx) -> tuple[str, list[events.Event]]:
        events.add(tx, FIRST, FIRST, "accepted", {"sender": "a@b.test", "authentication": found})
        events.add(tx, FIRST + 1, FIRST + 1, "accepted", {"sender": "a@b.test", "authentication": found})
        tx.run("UPDATE event SET data = '1:AAAA' WHERE trace = ? AND seq < 0", FIRST + 1)
        stored = tx.all("SELECT data FROM event WHERE trace = ?", FIRST)
        return "".join(data for (data,) in stored), events.of_trace(tx, FIRST) + events.of_trace(tx, FIRST + 1)

    async with opened() as database:
        stored, (told, damaged) = await database.write(work)
        assert len(stored) < 350 < len(json.dumps(found))
        assert told.data == {"sender": "a@b.test", "authentication": found}
        assert damaged.data == {"sender": "a@b.test"}
        case = await database.read(traces.case, FIRST)
        assert case is not None
        assert case.events == (told,)

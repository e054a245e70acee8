"""What operators do to the queue: through all slices, and what they name."""

import pytest

from posthouse.base.clock import SystemClock
from posthouse.base.errors import NotFound, Permanent
from posthouse.queue import operating
from posthouse.queue.operating import MAX_HEADER, MAX_REASON, Changed
from posthouse.store import outbox, outbox_admin
from posthouse.store.database import Tx
from posthouse.store.outbox import NewMessage
from posthouse.store.outbox_admin import Filter
from posthouse.store.pauses import Pause
from tests.store.test_outbox import To
from tests.support.clock import START
from tests.support.loop import on_loop
from tests.support.store import opened, put_blob

CLOCK = SystemClock()


def queue(tx: Tx, id_: int, recipients: int, content: bytes = b"Subject: x\r\n\r\nHello\r\n") -> None:
    blob_id = put_blob(tx, content)
    prefix = b"Received: x\r\n"
    message = NewMessage(id_, "a@here.test", None, blob_id, prefix, len(prefix) + len(content), START, START + 5)
    outbox.add(tx, message, [To(f"r{n}@there.test", "there.test") for n in range(recipients)])


@on_loop
async def test_everything_is_done_in_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox_admin, "SLICE", 4)
    monkeypatch.setattr(outbox_admin.matching, "__defaults__", (4,))
    async with opened() as db:
        for number in range(1, 5):
            await db.write(queue, number, 3)
        told: list[Changed] = []
        done = await operating.act(db, CLOCK, "hold", Filter(), told=told.append)
        assert done == Changed(12, 12, 4), "a message that is in two slices is one"
        assert [one.seen for one in told] == [4, 8, 12]
        assert (await operating.count(db, CLOCK, Filter())).held == 12
        assert (await operating.act(db, CLOCK, "hold", Filter())).recipients == 0
        assert (await operating.act(db, CLOCK, "drop", Filter(ids=(2,)))) == Changed(3, 3, 1)
        assert (await operating.act(db, CLOCK, "drop", Filter())) == Changed(9, 9, 3)


@on_loop
async def test_what_comes_meanwhile_is_not_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox_admin, "SLICE", 1)
    monkeypatch.setattr(outbox_admin.matching, "__defaults__", (1,))
    async with opened() as db:
        await db.write(queue, 1, 2)
        upto = await db.read(outbox_admin.last_id)
        await db.write(queue, 2, 1)
        condition = outbox_admin.where(Filter(), START)
        assert len(await db.read(outbox_admin.matching, condition, 0, upto, 100)) == 2


ROUTES = [
    ("mx.Example.org", "host:mx.example.org"),
    ("mx.example.org:2525", "host:mx.example.org:2525"),
    ("mx.example.org:25", "host:mx.example.org"),
    ("192.0.2.1:26", "host:192.0.2.1:26"),
    ("[2001:DB8::1]", "host:[2001:db8::1]"),
    ("[2001:db8::1]:26", "host:[2001:db8::1]:26"),
]


def test_routes() -> None:
    for text, expected in ROUTES:
        assert operating.route(to=text) == expected
    assert operating.route(name="backup-1", known=["Backup-1"]) == "route:backup-1"
    assert operating.route() == ""
    for wrong in (
        "",
        " ",
        "a b",
        "mx:0",
        "mx:65536",
        "mx:x",
        "2001:db8::1",
        "[mx]extra",
        "x" * 300,
        "mx\0",
        "mx:25:25",
    ):
        if wrong:
            with pytest.raises(Permanent, match="is no host"):
                operating.route(to=wrong)
    for wrong in ("a b", "x" * 65, "host:mx", "../x"):
        with pytest.raises(Permanent, match="no name of a route"):
            operating.route(name=wrong)
    with pytest.raises(NotFound, match=r"there is no route bakcup in the settings; there are: backup, old$"):
        operating.route(name="bakcup", known=["backup", "old"])
    with pytest.raises(NotFound, match="there is none at all"):
        operating.route(name="backup")
    with pytest.raises(Permanent, match="not both"):
        operating.route(to="mx", name="x")


@on_loop
async def test_a_message_is_shown_with_a_bounded_header_and_read_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened() as db:
        endless = b"X: " + b"y" * (MAX_HEADER * 2)
        await db.write(queue, 1, 1, endless)
        await db.write(queue, 2, 2)
        shown = await db.read(operating.show, 1)
        assert len(shown.header) == MAX_HEADER + len(b"Received: x\r\n")
        shown = await db.read(operating.show, 2)
        assert shown.header == b"Received: x\r\nSubject: x"
        assert [one.address for one in shown.recipients] == ["r0@there.test", "r1@there.test"]
        monkeypatch.setattr(operating, "PIECE", 1000)
        pieces = [piece async for piece in operating.pieces(db, 1)]
        assert b"".join(pieces) == b"Received: x\r\n" + endless
        assert max(map(len, pieces)) == 1000
        with pytest.raises(NotFound):
            await db.read(operating.show, 3)


@on_loop
async def test_pauses() -> None:
    async with opened() as db:
        made = await db.write(operating.pause, "There.Test", START, 60.0, "x" * 1000)
        assert made == Pause("there.test", START, START + 60_000_000, "x" * MAX_REASON)
        assert await db.read(operating.current, START) == [made]
        assert await db.read(operating.current, made.until) == [], "its time is over"
        assert operating.is_paused("there.test", [made])
        assert not operating.is_paused("a.there.test", [made])
        assert operating.is_paused("a.there.test", [made._replace(destination="*.there.test")])
        assert operating.is_paused("", [made._replace(destination="*")])
        assert await db.write(operating.resume, "there.test") == "there.test"
        with pytest.raises(NotFound, match="is not paused"):
            await db.write(operating.resume, "there.test")
        for wrong in ("", "a b", "**", "*.*"):
            with pytest.raises(Permanent):
                await db.write(operating.pause, wrong, START, 0.0, "")
        with pytest.raises(Permanent, match="ten years"):
            await db.write(operating.pause, "there.test", START, 1e12, "")

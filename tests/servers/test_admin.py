"""The admin socket: what it does with the queue, and what it does with requests that are wrong, long, slow or many."""

import ast
import asyncio
import contextlib
import io
import json
import os
import re
import select
import socket
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from posthouse.base.errors import Permanent
from posthouse.cli import opening
from posthouse.servers.admin import MAX_LINE, Action, AdminSocket, Parameter, number, text, truth
from posthouse.servers.queue_admin import MOST_LISTED, QueueAdmin, message_id, span
from posthouse.store import outbox, outbox_admin
from posthouse.store.database import Tx
from posthouse.store.outbox import NewMessage
from tests.store.test_outbox import To
from tests.support.clock import turns
from tests.support.house import House, opened
from tests.support.loop import on_both_loops, on_loop
from tests.support.store import opened as opened_store
from tests.support.store import put_blob

DOCS = Path(__file__).parents[2] / "docs"
# Nothing is tried while a test looks: the time of it has not come.
LATER = 4_000_000_000_000_000


class Socket:
    """A socket of its own, with actions of a test."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.ran: list[dict[str, Any]] = []
        self.go = asyncio.Event()

    def note(self, **arguments: Any) -> dict[str, Any]:
        self.ran.append(arguments)
        return arguments

    async def wait(self) -> None:
        await self.go.wait()

    def fail(self) -> None:
        raise Permanent("that cannot be")

    def break_(self) -> None:
        raise RuntimeError("secret inside")

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_unix_connection(str(self.path))

    async def asked(self, line: bytes) -> dict[str, Any]:
        reader, writer = await self.open()
        try:
            writer.write(line)
            answer = json.loads(await reader.readline())
            assert await reader.read() == b"", "one answer, then the end"
        finally:
            writer.close()
        assert isinstance(answer, dict)
        return answer


@contextlib.asynccontextmanager
async def admin(folder: Path, **bounds: Any) -> AsyncIterator[Socket]:
    test = Socket(folder / "admin.sock")
    actions = {
        "note": Action(
            test.note,
            {"many": Parameter(number(1, 5)), "word": Parameter(text(3)), "kind": Parameter(text(9, "a", "b"))},
        ),
        "needs": Action(test.note, {"word": Parameter(text(3), needed=True), "sure": Parameter(truth)}),
        "wait": Action(test.wait),
        "fail": Action(test.fail),
        "break": Action(test.break_),
        "much": Action(lambda: {"text": "x" * 8_000_000}),
    }
    server = AdminSocket(test.path, actions, **bounds)
    await server.open()
    try:
        yield test
    finally:
        test.go.set()
        await server.close()
        assert not test.path.exists()


KNOWN = "known are break, fail, much, needs, note, wait"
WRONG: list[tuple[object, str]] = [
    ("", "no JSON"),
    ("{", "no JSON"),
    ("[" * 20_000, "no JSON"),
    ("[1]", "say what to do"),
    ({}, "say what to do"),
    ({"do": 1}, "say what to do"),
    ({"do": "x" * 1000}, KNOWN),
    ({"do": "note", "all": True}, "note does not know 'all'; it takes many, word, kind"),
    ({"do": "wait", "x": 1}, "wait does not know 'x'; it takes no arguments"),
    ({"do": "needs"}, "needs needs 'word'; it takes word, sure"),
    ({"do": "needs", "word": "x", "sure": 1}, "needs: sure: write true or false"),
    ({"do": "note", "many": 0}, "note: many: write a whole number from 1 to 5"),
    ({"do": "note", "many": 6}, "from 1 to 5"),
    ({"do": "note", "many": True}, "from 1 to 5"),
    ({"do": "note", "many": 1.5}, "from 1 to 5"),
    ({"do": "note", "many": "1"}, "from 1 to 5"),
    ({"do": "note", "word": "four"}, "at most 3 characters"),
    ({"do": "note", "word": None}, "at most 3 characters"),
    ({"do": "note", "kind": "c"}, "write one of a, b"),
    ({"do": "fail"}, "that cannot be"),
    ({"do": "break"}, "break failed: RuntimeError; the log says more"),
]


@on_both_loops
async def test_wrong_requests_are_told_what_would_be_right(tmp_path_factory: pytest.TempPathFactory) -> None:
    async with admin(tmp_path_factory.mktemp("admin")) as test:
        for wanted, expected in WRONG:
            line = wanted.encode() if isinstance(wanted, str) else json.dumps(wanted).encode()
            answer = await test.asked(line + b"\n")
            assert answer["ok"] is False, wanted
            assert expected in answer["error"], wanted
            assert len(answer["error"]) < 300
        assert test.ran == []
        assert await test.asked(b'{"do": "note", "many": 5, "word": "\xc3\xa4", "kind": "b"}\n') == {
            "ok": True,
            "many": 5,
            "word": "ä",
            "kind": "b",
        }


@on_loop
async def test_only_its_owner_may_open_it(tmp_path_factory: pytest.TempPathFactory) -> None:
    async with admin(tmp_path_factory.mktemp("admin")) as test:
        assert stat.S_IMODE(os.stat(test.path).st_mode) == 0o600


@on_both_loops
async def test_a_request_has_a_longest_line(tmp_path_factory: pytest.TempPathFactory) -> None:
    async with admin(tmp_path_factory.mktemp("admin")) as test:
        start, end = b'{"do": "note"', b"}\n"
        fits = start + b" " * (MAX_LINE - len(start) - len(end)) + end
        assert len(fits) == MAX_LINE
        assert (await test.asked(fits))["ok"] is True
        reader, writer = await test.open()
        writer.write(b"x" * (MAX_LINE * 2) + b"\n")
        answer = json.loads(await reader.readline())
        assert answer == {"ok": False, "error": f"a request has at most {MAX_LINE} octets"}
        writer.close()


@on_both_loops
async def test_so_many_at_one_time(tmp_path_factory: pytest.TempPathFactory) -> None:
    async with admin(tmp_path_factory.mktemp("admin"), connections=2) as test:
        waiting = [await test.open() for _ in range(2)]
        for _, writer in waiting:
            writer.write(b'{"do": "wait"}\n')
        while "try again" not in (await test.asked(b'{"do": "note"}\n')).get("error", ""):
            pass  # the two are not there yet
        test.go.set()
        for reader, writer in waiting:
            assert json.loads(await reader.readline()) == {"ok": True}
            writer.close()
        while not (await test.asked(b'{"do": "note"}\n'))["ok"]:
            pass


@on_both_loops
async def test_who_is_slow_is_cut(tmp_path_factory: pytest.TempPathFactory) -> None:
    async with admin(tmp_path_factory.mktemp("admin"), patience=0.05) as test:
        reader, writer = await test.open()
        assert "no request came" in json.loads(await reader.readline())["error"]
        writer.close()
        # An answer that nobody takes: what the system has of it already is all that comes.
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(test.path))
            client.sendall(b'{"do": "much"}\n')
            while not _is_cut(client):
                await turns()
            taken = 0
            with contextlib.suppress(OSError):
                while data := client.recv(1 << 20):
                    taken += len(data)
            assert taken < 8_000_000


def _is_cut(client: socket.socket) -> bool:
    """Has the other side closed? Asked without taking what it has sent."""
    poll = select.poll()
    poll.register(client, 0)
    return bool(poll.poll(0))


@on_loop
async def test_a_client_that_goes_leaves_nothing_behind(tmp_path_factory: pytest.TempPathFactory) -> None:
    async with admin(tmp_path_factory.mktemp("admin"), connections=1) as test:
        for line in (b"", b'{"do"', b'{"do": "much"}\n'):
            _, writer = await test.open()
            writer.write(line)
            writer.close()
        while not (await test.asked(b'{"do": "note"}\n'))["ok"]:
            pass


# The queue


def queue(tx: Tx, id_: int, *addresses: str, now: int = 1_000_000, due: int = LATER) -> None:
    blob_id = put_blob(tx, b"Subject: x\r\n\r\nHello\r\n")
    message = NewMessage(id_, "alice@posthouse.test", None, blob_id, b"Received: x\r\n", 34, now, LATER + 10, due=due)
    outbox.add(tx, message, [To(a, a.rpartition("@")[2]) for a in addresses])
    tx.run("UPDATE recipient SET attempts = 1 WHERE queue_id = ?", id_)


FIRST, SECOND = "0000000000001", "0000000000002"


async def ask(house: House, do: str, **arguments: Any) -> dict[str, Any]:
    answer = await asyncio.to_thread(opening.ask, house.app.settings.data, do, 20.0, **arguments)
    assert answer is not None
    return answer


def run(folder: Path, test: Callable[[House], Awaitable[None]]) -> None:
    async def main() -> None:
        async with asyncio.timeout(60), opened(folder) as house:
            await house.database.write(queue, 1, "bob@there.example", "carol@other.example")
            await house.database.write(queue, 2, "dan@there.example")
            await test(house)

    asyncio.run(main())


def test_the_actions(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        listed = await ask(house, "queue.list")
        assert [(m["id"], [r["address"] for r in m["recipients"]]) for m in listed["messages"]] == [
            (FIRST, ["bob@there.example", "carol@other.example"]),
            (SECOND, ["dan@there.example"]),
        ]
        assert listed["after"] is None
        part = await ask(house, "queue.list", most=1)
        assert part["after"] is not None
        rest = await ask(house, "queue.list", after=part["after"], domain="there.example")
        assert [m["id"] for m in rest["messages"]] == [SECOND]
        shown = await ask(house, "queue.show", id=FIRST.lower())
        assert (shown["sender"], shown["header"]) == ("alice@posthouse.test", "Received: x\r\nSubject: x")
        assert shown["recipients"][0]["state"] == "waiting"
        assert shown["created"] == "1970-01-01T00:00:01+00:00"
        counts = {"ok": True, "messages": 2, "due": 0, "waiting": 3, "claimed": 0, "held": 0}
        assert await ask(house, "queue.counts") == counts
        assert await ask(house, "queue.hold", domain="there.example") == {"ok": True, "recipients": 2, "messages": 2}
        assert (await ask(house, "queue.counts", state="held"))["held"] == 2
        assert (await ask(house, "queue.reroute", ids=[FIRST], to="mx.example:26"))["recipients"] == 2
        shown = await ask(house, "queue.show", id=FIRST)
        assert shown["history"][-1]["action"] == "reroute"
        assert (await ask(house, "queue.drop", all=True, state="held"))["recipients"] == 2

    run(tmp_path, test)


def test_a_queue_that_is_touched_moves(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        assert (await ask(house, "queue.retry", ids=[SECOND]))["recipients"] == 1
        # The house captures what would leave: once it is tried it is gone.
        while (await ask(house, "queue.counts"))["messages"] == 2:
            pass
        assert (await ask(house, "queue.hold", all=True))["recipients"] == 2
        assert (await ask(house, "queue.release", all=True))["recipients"] == 2
        while (await ask(house, "queue.counts"))["messages"]:
            pass
        gone = await ask(house, "queue.retry", ids=[SECOND])
        assert "not in the queue: 0000000000002" in gone["error"]

    run(tmp_path, test)


def test_pauses_and_drain(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        paused = await ask(house, "queue.pause", destination="There.example", duration="2 h", reason="they asked")
        assert paused["destination"] == "there.example"
        (one,) = (await ask(house, "queue.pauses"))["pauses"]
        assert (one["destination"], one["reason"], one["until"]) == (
            "there.example",
            "they asked",
            paused["until"],
        )
        listed = await ask(house, "queue.list", recipient="bob@there.example")
        assert listed["messages"][0]["recipients"][0]["paused"] is True
        assert (await ask(house, "queue.resume", destination="there.example"))["ok"]
        assert "is not paused" in (await ask(house, "queue.resume", destination="there.example"))["error"]
        assert await ask(house, "queue.drain", wait=20) == {"ok": True, "draining": True, "drained": True}
        assert (await ask(house, "queue.state"))["draining"] is True
        await ask(house, "queue.retry", ids=[SECOND])
        assert (await ask(house, "queue.drain"))["drained"] is True
        assert (await ask(house, "queue.counts"))["messages"] == 2, "a drained node takes nothing"
        assert await ask(house, "queue.undrain") == {"ok": True, "draining": False}
        while (await ask(house, "queue.counts"))["messages"] == 2:
            pass

    run(tmp_path, test)


def test_wrong_arguments(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        wrong: list[tuple[str, dict[str, Any], str]] = [
            ("queue.drop", {}, 'needs "ids", a filter, or "all": true'),
            ("queue.drop", {"sender": ""}, 'needs "ids", a filter, or "all": true'),
            ("queue.drop", {"all": 1}, "true or false"),
            ("queue.list", {"domian": "x"}, "it takes ids, older_than,"),
            ("queue.list", {"most": MOST_LISTED + 1}, f"from 1 to {MOST_LISTED}"),
            ("queue.list", {"ids": []}, "a list of 1 to 1000 ids"),
            ("queue.list", {"ids": [FIRST] * 1001}, "a list of 1 to 1000 ids"),
            ("queue.list", {"ids": ["x"]}, "'x' is no id"),
            ("queue.list", {"state": "gone"}, "due, waiting, claimed, held"),
            ("queue.list", {"older_than": -1}, "seconds"),
            ("queue.list", {"older_than": "soon"}, "is not a time"),
            ("queue.list", {"domain": "a b"}, "no domain"),
            ("queue.list", {"account": "nobody@posthouse.test"}, "no account"),
            ("queue.show", {}, "needs 'id'"),
            ("queue.reroute", {"all": True}, 'one of "to", "route" and "reset"'),
            ("queue.reroute", {"all": True, "to": "mx", "reset": True}, "one of"),
            ("queue.reroute", {"all": True, "to": "a b"}, "is no host"),
            ("queue.reroute", {"all": True, "route": "x"}, "there is no route x"),
            ("queue.list", {"reply": "\ud800"}, "whole characters"),
            ("queue.pause", {"destination": "a.b", "reason": "\udfff"}, "whole characters"),
            ("queue.pause", {}, "needs 'destination'"),
            ("queue.pause", {"destination": "a b"}, "a b"),
            ("queue.pause", {"destination": "a.b", "reason": "x" * 201}, "at most 200"),
            ("queue.drain", {"wait": 3601}, "from 0 to 3600"),
        ]
        for do, arguments, expected in wrong:
            answer = await ask(house, do, **arguments)
            assert answer["ok"] is False, (do, arguments)
            assert expected in answer["error"], (do, arguments, answer)
        assert (await ask(house, "queue.counts"))["messages"] == 2

    run(tmp_path, test)


def test_the_page_names_every_action_and_argument(tmp_path: Path) -> None:
    page = (DOCS / "admin-socket.md").read_text()

    async def test(house: House) -> None:
        known = (await ask(house, "?"))["error"].partition("known are ")[2].split(", ")
        assert {name for name in known if f"`{name}`" not in page} == set()
        said = set(re.findall(r"`(queue\.[a-z]+)`", page))
        assert said <= set(known)
        for do in known:
            takes = (await ask(house, do, **{"?": 1}))["error"].partition("it takes ")[2]
            for argument in takes.split(", "):
                assert argument == "no arguments" or f"`{argument}`" in page, argument

    run(tmp_path, test)


def test_the_example_of_the_page_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (DOCS / "admin-socket.md").read_text()
    code = page.partition("```python\n")[2].partition("```")[0]
    assert len(code.split("\n\n")[1].splitlines()) <= 4
    ast.parse(code)

    async def test(house: House) -> None:
        monkeypatch.chdir(house.app.settings.data.parent)
        out = io.StringIO()

        def example() -> None:
            exec(code.replace("slow.example", "there.example"), {"print": lambda *a: print(*a, file=out)})

        await asyncio.to_thread(example)
        assert out.getvalue() == "{'ok': True, 'recipients': 2, 'messages': 2}\n"

    run(tmp_path, test)


class Node:
    """A queue that takes its time to drain, and whose methods are coroutines."""

    def __init__(self) -> None:
        self.done = asyncio.Event()
        self.log: list[str] = []

    def wake(self) -> None:
        self.log.append("wake")

    async def drain(self) -> None:
        self.log.append("drain")
        await self.done.wait()

    async def undrain(self) -> None:
        self.log.append("undrain")

    async def state(self) -> dict[str, Any]:
        return {"hops": {}}


@on_loop
async def test_draining_can_be_waited_for_again_and_given_up() -> None:
    from posthouse.base.clock import SystemClock

    async with opened_store() as db:
        node = Node()
        actions = QueueAdmin(db, SystemClock(), node)
        table = actions.actions()
        drain, undrain, state = (table[f"queue.{name}"].run for name in ("drain", "undrain", "state"))
        assert await drain() == {"draining": True, "drained": False}  # type: ignore[misc]
        assert await drain() == {"draining": True, "drained": False}  # type: ignore[misc]
        assert node.log == ["drain"]
        assert await undrain() == {"draining": False}  # type: ignore[misc]
        node.done.set()
        assert await drain(wait=10) == {"draining": True, "drained": True}  # type: ignore[misc]
        assert await state() == {"hops": {}}  # type: ignore[misc]
        await actions.close()
        assert node.log == ["drain", "undrain", "drain"]


def test_readers() -> None:
    assert span("1 h 30 min") == span(5400) == 5400.0
    assert message_id("o000000000oil") == message_id("0000000000011")
    wrong: object
    for wrong in (True, float("nan"), float("inf"), None, [], 1e30, "-1"):
        with pytest.raises(ValueError, match=r"write|is not a time"):
            span(wrong)
    for wrong in (1, None, "Z" * 13, "x" * 12):
        with pytest.raises(ValueError, match="is no id"):
            message_id(wrong)
    assert outbox_admin.MOST_IDS * 16 < MAX_LINE

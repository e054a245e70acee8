"""`posthouse queue`: what people and programs see of the queue and do to it, with and without a running server."""

import asyncio
import json
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from posthouse.base import ids
from posthouse.base.errors import NotFound, Permanent
from posthouse.cli import output, queue_tables, queue_top
from posthouse.cli.main import app
from posthouse.store import check, events, outbox, outbox_admin
from posthouse.store.database import Tx
from posthouse.store.outbox import NewMessage
from posthouse.store.outbox_admin import Counts, Destination, Queued, Recipient
from posthouse.store.pauses import Pause
from posthouse.store.sqlite import SqliteDatabase
from tests.cli.test_commands import Server
from tests.store.test_outbox import To
from tests.support.clock import START
from tests.support.ports import free_port
from tests.support.program import Serve, Terminal, command, environment, run
from tests.support.store import put_blob

SECOND = 1_000_000
HOUR = 3600 * SECOND
NOW = time.time_ns() // 1000
FAR = NOW + 100 * 86_400 * SECOND
CONTENT = b"Subject: hello\r\nX-Evil: \x1b[2J[bold]\r\n\r\nHello\r\n"
PREFIX = b"Received: by here\r\n\tat once\r\n"
EVIL = "busy \x1b[31m[/nothing] [bold]\u202etxet"


class Queue(Server):
    """A configuration whose queue has some messages; every look at the end finds it consistent."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.folder = folder
        listen = f"[[listen]]\nservice = 'smtp'\naddress = '127.0.0.1'\nport = {free_port()}\n"
        self.path.write_text(
            f"hostname = 'mail.example.org'\ndata = 'data'\n{listen}[relay]\ncapture = true\n[log]\nformat = 'json'\n"
            "[[route]]\nname = 'backup'\nto = ['nowhere.test']\nvia = 'error'\nreply = '550 5.7.1 No'\n"
        )

    def store(self, work: Callable[[Tx], Any]) -> Any:
        async def main() -> Any:
            database = await SqliteDatabase.open(self.folder / "data", NOW)
            try:
                result = await database.write(work)
                assert await database.read(check.findings) == []
                return result
            finally:
                await database.close()

        return asyncio.run(main())

    def fill(self) -> list[str]:
        """Two messages for three recipients, and a bounce; their ids."""

        def work(tx: Tx) -> None:
            add(tx, A, "alice@example.org", "bob@there.test", "carol@other.test")
            add(tx, B, "ann@example.net", "dan@there.test", created=NOW - 5 * HOUR)
            add(tx, C, "", "eve@quiet.test", created=NOW - 48 * HOUR)
            reply = "last_code = 451, last_status = '4.3.0', last_text = ?, last_host = 'mx.there.test'"
            tx.run(f"UPDATE recipient SET {reply} WHERE destination = 'there.test'", EVIL)
            accepted = {"ip": "192.0.2.1", "sender": "alice@example.org", "became": [{"queued": "there.test"}]}
            events.add(tx, A, A, "accepted", accepted | {"recipients": ["bob@there.test", "carol@other.test"]})
            verdict = {"state": "deferred", "code": 451, "status": "4.3.0", "text": EVIL}
            attempt = {"host": "mx.there.test", "address": "[192.0.2.2]:25", "tls": {"version": "TLSv1.3"}}
            events.add(tx, A, A + 1, "attempt", attempt | {"results": {"bob@there.test": verdict}, "transcript": ["x"]})

        self.store(work)
        return [ids.to_text(one) for one in (A, B, C)]

    def states(self) -> dict[str, str]:
        return dict(self.store(lambda tx: tx.all("SELECT address, state FROM recipient")))


A, B, C = ((NOW // 1000 << 20) + n * 1000 for n in range(3))


def add(tx: Tx, id_: int, sender: str, *recipients: str, created: int = NOW) -> None:
    blob_id = put_blob(tx, CONTENT)
    size = len(PREFIX) + len(CONTENT)
    message = NewMessage(id_, sender, None, blob_id, PREFIX, size, created, FAR + HOUR, due=FAR)
    outbox.add(tx, message, [To(r, r.rpartition("@")[2]) for r in recipients])
    tx.run("UPDATE recipient SET attempts = 2 WHERE queue_id = ?", id_)


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[Queue]:
    made = Queue(tmp_path)
    yield made
    made.store(lambda tx: None)  # looks whether all fits together


def test_looking(queue: Queue) -> None:
    a, b, c = queue.fill()
    listed = queue.json("queue", "list")
    assert [(m["id"], m["sender"], [r["address"] for r in m["recipients"]]) for m in listed] == [
        (a, "alice@example.org", ["bob@there.test", "carol@other.test"]),
        (b, "ann@example.net", ["dan@there.test"]),
        (c, "", ["eve@quiet.test"]),
    ]
    assert listed[0]["recipients"][0]["reply"]["text"] == EVIL
    assert listed[0]["recipients"][0]["state"] == "waiting"

    def found(*options: str) -> list[str]:
        return [m["id"] for m in queue.json("queue", "list", *options)]

    assert found("--older-than", "4h") == [b, c]
    assert found("--older-than", "4h", "--younger-than", "1 d") == [b]
    assert found("--sender", "<>") == [c]
    assert found("--sender", "example.org") == [a]
    assert found("--recipient", "carol@other.test") == [a]
    assert found("--domain", "*.test") == [a, b, c]
    assert found("--reply", "BUSY") == [a, b]
    assert found("--state", "held") == []
    assert found(a.lower(), c) == [a, c]
    assert found(a, "--domain", "quiet.test") == []
    assert len(queue.json("queue", "list", "--most", "2")) == 1
    text = queue.text("queue", "list", "--most", "2")
    assert len(text.splitlines()) == 3, "a line a recipient: what more there is to say is no part of the table"
    assert queue.text("queue", "list", "--state", "held") == "Nothing in the queue matches.\n"
    assert queue.json("queue", "counts", "--domain", "there.test") == {
        "messages": 2,
        "due": 0,
        "waiting": 2,
        "claimed": 0,
        "held": 0,
    }
    assert "waiting           4  for a later attempt" in queue.text("queue", "counts")


def test_what_strangers_wrote_moves_nothing(queue: Queue) -> None:
    a, *_ = queue.fill()
    for shown in (queue.text("queue", "list"), queue.text("queue", "show", a), queue.text("queue", "top", "--once")):
        assert "\x1b" not in shown
        assert "\u202e" not in shown
        assert r"busy \x1b[31m[/nothing] [bold]\u202etxet" in shown


def test_showing_a_message(queue: Queue) -> None:
    a, _, c = queue.fill()
    text = queue.text("queue", "show", a.lower())
    for line in ("Sender      alice@example.org", "2 recipients", r"X-Evil: \x1b[2J[bold]", "Received: by here"):
        assert line in text
    assert "attempt   mx.there.test [192.0.2.2]:25 TLSv1.3: bob@there.test deferred 451 4.3.0 busy" in text
    assert "accepted  ip 192.0.2.1, sender alice@example.org, recipients bob@there.test carol@other.test\n" in text
    assert "  Received: by here\n      at once\n" in text, "tabs are no control characters to show"
    assert f"The whole story: posthouse explain {a}\n" in text
    assert "Hello" not in text
    assert "nobody hears if it fails" in queue.text("queue", "show", c)
    shown = queue.json("queue", "show", a)
    assert shown["history"][1]["results"]["bob@there.test"]["code"] == 451
    assert "transcript" not in shown["history"][1]
    raw = subprocess.run(command("--config", str(queue.path), "queue", "show", a, "--raw"), capture_output=True,
                         check=True, env=environment())  # fmt: skip
    assert raw.stdout == PREFIX + CONTENT


def test_mistakes_are_told(queue: Queue) -> None:
    a, *_ = queue.fill()
    gone = ids.to_text(A + 5)
    for arguments in (
        ("show", gone),
        ("show", gone, "--raw"),
        ("list", gone),
        ("hold", gone),
        ("drop", a, gone, "--yes"),
    ):
        with pytest.raises(NotFound, match=rf"not in the queue: {gone}\. Mail that was .* `posthouse explain {gone}`"):
            queue.text("queue", *arguments)
    for arguments in (("show", "x"), ("retry", "x")):
        with pytest.raises(Permanent, match="'x' is no id: ids are the 13 letters and digits"):
            queue.text("queue", *arguments)
    for do in ("retry", "hold", "release", "drop"):
        with pytest.raises(Permanent, match=f"say what to {do}: ids, filters"):
            queue.text("queue", do, "--yes")
        with pytest.raises(Permanent, match="--all is the whole queue: leave it out"):
            queue.text("queue", do, a, "--all", "--yes")
        with pytest.raises(Permanent, match="4 recipients of 3 messages: say --yes if you mean it"):
            queue.text("queue", do, "--all")
    with pytest.raises(Permanent, match="Drop 2 recipients of 1 message: say --yes"):
        queue.text("queue", "drop", a)
    with pytest.raises(Permanent, match="say where it goes"):
        queue.text("queue", "reroute", a)
    with pytest.raises(Permanent, match="say where it goes"):
        queue.text("queue", "reroute", a, "--to", "mx", "--reset")
    with pytest.raises(NotFound, match="there is no route bakcup in the settings; there are: backup"):
        queue.text("queue", "reroute", a, "--route", "bakcup")
    with pytest.raises(Permanent, match="say what to pause"):
        queue.text("queue", "pause")
    with pytest.raises(Permanent, match="'a b'"):
        queue.text("queue", "pause", "a b")
    with pytest.raises(NotFound, match="is not paused"):
        queue.text("queue", "resume", "there.test")
    for do in ("drain", "undrain"):
        with pytest.raises(NotFound, match=r"no server answers on .*data: this is about a running one"):
            queue.text("queue", do)
    for option, value in (("--older-than", "soon"), ("--state", "gone")):
        result = CliRunner().invoke(app, ["--config", str(queue.path), "queue", "list", option, value])
        assert result.exit_code == 2
    assert set(queue.states().values()) == {"due"}


def test_changing(queue: Queue) -> None:
    a, b, c = queue.fill()
    assert queue.text("queue", "hold", "--domain", "there.test") == "2 recipients of 2 messages are held.\n"
    assert queue.states() == {
        "bob@there.test": "held",
        "carol@other.test": "due",
        "dan@there.test": "held",
        "eve@quiet.test": "due",
    }
    assert queue.text("queue", "retry", a) == (
        "1 recipient of 1 message is due now. 1 stays held until `posthouse queue release`. "
        "They are tried as soon as the server runs.\n"
    )
    assert queue.text("queue", "retry", a).startswith("Nothing was changed. 1 was due already. 1 stays held")
    assert queue.text("queue", "release", c) == "Nothing was changed. None of it was held.\n"
    assert queue.json("queue", "release", "--all", "--yes") == {
        "ok": True,
        "recipients": 2,
        "messages": 2,
        "running": False,
    }
    assert queue.json("queue", "reroute", b, "--to", "backup.test:2525")["recipients"] == 1
    (shown,) = queue.json("queue", "list", b)
    assert shown["recipients"][0]["route"] == "host:backup.test:2525"
    assert "by host backup.test:2525" in queue.text("queue", "show", b)
    assert queue.json("queue", "reroute", b, "--route", "backup")["recipients"] == 1
    assert queue.json("queue", "reroute", b, "--reset")["recipients"] == 1
    assert queue.json("queue", "list", b)[0]["recipients"][0]["route"] == ""
    queue.store(lambda tx: tx.run("UPDATE recipient SET attempts = 0 WHERE queue_id = ?", C))
    assert queue.text("queue", "retry", "--domain", "quiet.test") == (
        "Nothing was changed. 1 waits for a time that the sender chose: only `retry ID` lets such mail go early.\n"
    )
    queue.store(lambda tx: tx.run("UPDATE recipient SET state = 'claimed' WHERE queue_id = ?", C))
    assert queue.text("queue", "drop", c, "--yes") == "Nothing was changed. 1 was being tried and was left alone.\n"
    assert "being tried" in queue.text("queue", "list", c)
    assert queue.text("queue", "drop", a, b, "--yes") == "3 recipients of 2 messages are dropped.\n"
    assert queue.text("queue", "drop", "--sender", "nobody.test", "--yes") == "Nothing in the queue matches.\n"
    assert list(queue.states()) == ["eve@quiet.test"]


def test_pauses(queue: Queue) -> None:
    queue.fill()
    assert queue.text("queue", "pause", "--list") == "Nothing is paused.\n"
    said = queue.text("queue", "pause", "There.test", "--for", "2h", "--reason", "they [b]asked")
    assert re.fullmatch(r"there.test is paused until 20[-0-9]{8} [0-9:]{8} UTC\.\n", said)
    assert queue.text("queue", "pause", "*") == "Everything is paused until `posthouse queue resume '*'`.\n"
    assert [(p["destination"], p["reason"]) for p in queue.json("queue", "pause", "--list")] == [
        ("*", ""),
        ("there.test", "they [b]asked"),
    ]
    assert "they [b]asked" in queue.text("queue", "pause", "--list")
    assert "Paused: everything, there.test (posthouse queue pause --list)." in queue.text("queue", "counts")
    assert queue.text("queue", "resume", "*") == "Everything is not paused any more.\n"
    assert [
        (r["address"], r["paused"]) for m in queue.json("queue", "list") for r in m["recipients"] if r["paused"]
    ] == [("bob@there.test", True), ("dan@there.test", True)]
    assert queue.text("queue", "list").count("  paused  ") == 2
    assert "Paused: there.test (posthouse" in queue.text("queue", "retry", "--domain", "there.test")
    assert queue.json("queue", "resume", "there.test")["destination"] == "there.test"


# On a terminal


def test_asking_first(queue: Queue) -> None:
    a, *_ = queue.fill()
    for answer, code, left in (("n", 1, 4), ("y", 0, 2)):
        terminal = Terminal("--config", str(queue.path), "queue", "drop", a)
        terminal.read_until("Drop 2 recipients of 1 message? [y/N]:")
        terminal.type(f"{answer}\n")
        assert terminal.end() == code
        assert len(queue.states()) == left


def test_a_bar_shows_how_far_it_is(queue: Queue) -> None:
    count = outbox_admin.SLICE * 2 + 1
    queue.store(lambda tx: add(tx, A, "a@example.org", *(f"r{n}@there.test" for n in range(count))))
    terminal = Terminal("--config", str(queue.path), "queue", "hold", "--all", "--yes", columns=100)
    assert terminal.end() == 0
    assert f"/{count}" in terminal.text
    assert f"{count:,} recipients of 1 message are held." in terminal.text


def listed(width: int, **changes: Any) -> str:
    message = Queued(A, "alice@example.org", "", 1, b"", 4321, START - HOUR, START + HOUR, 0, "")
    reply = (451, "4.3.0", "Try again later, this server is busy with other things than mail", "mx.there.test")
    one = Recipient(1, A, "bob@there.test", "there.test", "due", 3, START + 600 * SECOND, *reply, "")
    screen = Console(width=width, force_terminal=True, no_color=True, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    pause = [Pause("quiet.test", START, 0, "")]
    everybody = [
        one._replace(**changes),
        one._replace(state="claimed", last_text=""),
        one._replace(state="held"),
        one._replace(next_attempt=START),
        one._replace(destination="quiet.test"),
    ]
    queue_tables.listed(screen, [(message, everybody)], START, pause)
    screen.file.close()
    return screen.export_text()


def test_the_list_fits_narrow_and_wide_screens() -> None:
    wide, narrow = listed(160), listed(80)
    for text, width in ((wide, 160), (narrow, 80)):
        assert max(map(len, text.splitlines())) <= width
        assert text.count("bob@there.test") == 5, "addresses stay whole"
        for word in ("in 10 min", "being tried", "held", "now", "paused"):
            assert word in text
    assert wide.splitlines()[0].split() == " ".join(queue_tables.COLUMNS).split()
    assert narrow.splitlines()[0].rstrip() == f"{ids.to_text(A)}  1 h  4.2 KiB  from alice@example.org"
    long = "x" * 64 + "@" + "y" * 60 + ".test"
    assert "".join(listed(80, address=long).split()).count(long) == 1


COUNTS = Counts(1234, 1000, 200, 30, 4)
THERE = Destination("there.test", 1000, 900, 20, 4, START - HOUR, "451 4.3.0 " + "Try again later. " * 10)


def test_top_puts_the_store_and_the_server_together() -> None:
    state = {
        "draining": True,
        "next_hops": [
            {"next_hop": "there.test", "active": 7, "window": 2.5, "rest_until": START + 60 * SECOND, "why": "refused"},
            {"next_hop": "smart.test", "active": 3, "window": 20.0},
            {"next_hop": "idle.test", "active": 0, "window": 4.0},
            "x",
        ],
    }
    first = queue_top.combine(START, COUNTS, [THERE, THERE._replace(name="")], [Pause("*", START, 0, "")], None, None)
    assert (first.server, first.rows[0].running, first.rows[0].change) == (False, None, None)
    assert (first.rows[0].paused, first.rows[1].name) == (True, "here, later")
    fewer = THERE._replace(queued=940)
    tick = queue_top.combine(START + 30 * SECOND, COUNTS, [fewer], [], state, first)
    there, smart = tick.rows
    assert (there.running, there.window, there.change, tick.draining) == (7, 2.5, -120.0, True)
    assert (smart.name, smart.queued, smart.running) == ("smart.test", 0, 3)
    made = queue_top.as_dict(tick)
    assert made["hops"][0]["oldest"].endswith("+00:00")
    json.dumps(made)
    odd: dict[str, Any]
    for odd in ({}, {"next_hops": None}, {"next_hops": {}}, {"next_hops": [1, {}]}):
        assert queue_top.combine(START, COUNTS, [THERE], [], odd, None).rows[0].running == 0
    for width in (60, 80, 160):
        screen = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
        screen.print(queue_top.view(tick, width, 1))
        screen.file.close()
        text = screen.export_text()
        assert max(map(len, text.splitlines())) <= width
        assert "rests for 30 s: re" in text
        assert "940" in text
        assert "-120" in text or width == 60
        assert "1,234 messages" in text
        assert "and 1 more next hops" in text
        assert len([line for line in text.splitlines() if "there.test" in line]) == 1, "a line a next hop"


def test_top_once_and_in_a_pipe(queue: Queue) -> None:
    assert "Nothing is queued." in queue.text("queue", "top", "--once")
    queue.fill()
    text = queue.text("queue", "top", "--once")
    assert "3 messages: 0 due, 4 waiting, 0 being tried, 0 held (no server runs)" in text
    said = queue.json("queue", "top", "--once")
    assert [(hop["name"], hop["queued"]) for hop in said["hops"]] == [
        ("there.test", 2),
        ("other.test", 1),
        ("quiet.test", 1),
    ]
    assert [hop["name"] for hop in queue.json("queue", "top", "--once", "--sender", "<>")["hops"]] == ["quiet.test"]
    with subprocess.Popen(
        command("--config", str(queue.path), "queue", "top", "--json", "--interval", "0.2"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    ) as process:
        assert process.stdout is not None
        for _ in range(3):
            assert json.loads(process.stdout.readline())["counts"]["messages"] == 3
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
        assert (process.returncode, err) == (0, "")
    # Whoever read it goes.
    with subprocess.Popen(
        command("--config", str(queue.path), "queue", "top", "--interval", "0.2"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    ) as process:
        assert process.stdout is not None
        assert "3 messages" in process.stdout.readline()
        process.stdout.close()
        assert process.wait(60) == 1
        assert process.stderr is not None
        assert process.stderr.read() == ""


@pytest.mark.parametrize("key", ["q", "\x03"])
def test_top_on_a_terminal_ends_and_leaves_it_as_it_was(queue: Queue, key: str) -> None:
    queue.fill()
    terminal = Terminal("--config", str(queue.path), "queue", "top", "--interval", "600")
    terminal.read_until("quiet.test")
    terminal.type(key)
    assert terminal.end() == 0
    assert "\x1b[?1049l" in terminal.text, "the screen is given back"
    assert terminal.after == terminal.before
    assert "Traceback" not in terminal.text


def test_spans_for_people() -> None:
    said = [output.age(seconds * SECOND) for seconds in (-5, 0, 59, 60, 3599, 3600, 47 * 3600, 48 * 3600, 10**7)]
    assert said == ["0 s", "0 s", "59 s", "1 min", "59 min", "1 h", "47 h", "2 d", "115 d"]


# With a running server


def test_with_a_server(queue: Queue) -> None:
    a, b, c = queue.fill()

    def counts() -> str:
        return queue.text("queue", "counts")

    assert "No server runs: nothing is sent." in counts()
    served = Serve(queue.path)
    try:

        def left() -> set[str]:
            return {m["id"] for m in queue.json("queue", "list")}

        assert queue.json("queue", "drain") == {"ok": True, "drained": True}
        assert queue.json("queue", "top", "--once")["draining"] is True
        assert queue.json("queue", "retry", a)["running"] is True
        assert queue.json("queue", "counts")["due"] == 2
        assert "The server is draining: it begins nothing new until `posthouse queue undrain`." in counts()
        assert left() == {a, b, c}
        assert queue.json("queue", "undrain") == {"ok": True}
        assert "The server" not in counts()
        while a in left():  # the server captures it
            pass
        assert queue.json("queue", "top", "--once")["server"] is True
        assert queue.text("queue", "hold", "--all", "--yes") == "2 recipients of 2 messages are held.\n"
        assert queue.text("queue", "release", b) == "1 recipient of 1 message is released.\n"
        while b in left():
            pass
        assert queue.text("queue", "drop", "--all", "--yes") == "1 recipient of 1 message is dropped.\n"
        assert queue.text("queue", "list") == "The queue is empty.\n"
        assert queue.text("queue", "drain", "--no-wait").startswith(("Nothing is being sent", "The server finishes"))
        result = run("--config", str(queue.path), "queue", "drain")
        assert result.stdout.startswith("Nothing is being sent, and nothing will be until")
    finally:
        log = served.stop()
    assert "error" not in {json.loads(line)["level"] for line in log.splitlines()}

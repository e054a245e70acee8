"""`posthouse spf check`, against a name server on loopback."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread

import pytest
from typer.testing import CliRunner

from posthouse.cli.main import app
from tests.support.nameserver import NameServer, Table

TABLE: Table = {
    ("ok.test.", "TXT"): ['"v=spf1 ip4:192.0.2." "1 -all exp=why.test"', '"google-site-verification=x"'],
    ("why.test.", "TXT"): ['"%{i} is none of ours"'],
    ("tcp.test.", "TXT"): ["TRUNCATE", '"v=spf1 a:host.test ~all"'],
    ("host.test.", "A"): ["TRUNCATE", "192.0.2.1"],
    ("lost.test.", "TXT"): "SERVFAIL",
    ("gone.test.", "TXT"): "NXDOMAIN",
    ("rude.test.", "TXT"): ['"v=spf1 -all \\200"'],
}


@contextmanager
def name_server() -> Iterator[tuple[str, NameServer]]:
    """A name server in a thread, as the command has a loop of its own."""
    server, ready, port = NameServer(TABLE), Event(), 0
    done: asyncio.Event
    loop = asyncio.new_event_loop()

    async def serve() -> None:
        nonlocal port, done
        done = asyncio.Event()
        port = await server.start()
        ready.set()
        await done.wait()
        await server.stop()

    thread = Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    try:
        assert ready.wait(20)
        yield f"127.0.0.1:{port}", server
    finally:
        loop.call_soon_threadsafe(lambda: done.set())
        thread.join()
        loop.close()


def run(*arguments: str, lines: str = "") -> tuple[int, str]:
    done = CliRunner().invoke(app, ["spf", "check", *arguments], input=lines)
    return done.exit_code, done.stdout


def test_the_last_line_is_the_result() -> None:
    with name_server() as (where, _):
        who = ["--helo", "mail.test", "--mail-from", "joe@ok.test", "--resolver", where]
        code, said = run("--ip", "192.0.2.1", *who)
        assert (code, said.splitlines()[-1]) == (0, "pass")
        assert "ok.test TXT: " in said
        assert "ip4:192.0.2.1" in said
        code, said = run("--ip", "192.0.2.9", *who)
        assert (code, said.splitlines()[-1]) == (0, "fail\t192.0.2.9 is none of ours")


def test_json() -> None:
    with name_server() as (where, _):
        code, said = run("--ip", "192.0.2.9", "--helo", "ok.test", "--json", "--resolver", where)
    found = json.loads(said)
    assert code == 0
    assert (found["result"], found["identity"], found["mechanism"]) == ("fail", "helo", "-all")
    assert found["explanation"] == "192.0.2.9 is none of ours"
    assert found["lookups"][1]["name"] == "why.test"


def test_long_answers_come_by_tcp() -> None:
    with name_server() as (where, server):
        _, said = run("--ip", "192.0.2.1", "--mail-from", "joe@tcp.test", "--resolver", where)
        assert said.splitlines()[-1] == "pass"
        assert ("tcp", "tcp.test.", "TXT") in server.questions
        assert ("tcp", "host.test.", "A") in server.questions


def test_batch_answers_every_line() -> None:
    with name_server() as (where, _):
        asked = [
            {"ip": "192.0.2.1", "helo": "h", "mailfrom": "joe@ok.test", "resolver": where},
            {"ip": "192.0.2.9", "helo": "h", "mailfrom": "joe@ok.test", "resolver": where},
            {"ip": "2001:db8::1", "helo": "gone.test", "mailfrom": "", "resolver": where},
            {"ip": "192.0.2.1", "helo": "h", "mailfrom": "joe@lost.test", "resolver": where},
            {"ip": "192.0.2.1", "helo": "h", "mailfrom": "joe@rude.test", "resolver": where},
            {"ip": "192.0.2.1", "helo": "h", "mailfrom": "joe@gone.test"},
            {"ip": "nowhere", "helo": "h", "mailfrom": "joe@ok.test", "resolver": where},
            {"ip": "192.0.2.1", "helo": "h", "mailfrom": "joe@ok.test", "resolver": "a.b"},
            ["no", "object"],
        ]
        lines = "".join(f"{json.dumps(line)}\n" for line in asked) + "no JSON\n"
        code, said = run("--batch", "--resolver", where, lines=lines)
    answers = [json.loads(line) for line in said.splitlines()]
    assert code == 0
    results = ["pass", "fail", "none", "temperror", "permerror", "none", "error", "error", "error", "error"]
    assert [answer["result"] for answer in answers] == results
    assert answers[0] == {"result": "pass", "explanation": ""}
    assert answers[6]["error"] == "'nowhere' is not an IP address"
    assert [answer["error"].partition(" like")[0] for answer in answers[8:]] == ["this is no JSON object"] * 2
    assert answers[1] == {"result": "fail", "explanation": "192.0.2.9 is none of ours"}


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ([], 2),
        (["--ip", "192.0.2.1"], 2),
        (["--ip", "nowhere", "--helo", "x.test", "--resolver", "127.0.0.1:1"], 1),
        (["--ip", "192.0.2.1", "--helo", "x.test", "--resolver", "a.b"], 2),
        (["--batch", "--ip", "192.0.2.1"], 2),
    ],
)
def test_wrong_calls(arguments: list[str], code: int) -> None:
    assert run(*arguments)[0] == code

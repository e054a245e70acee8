"""`posthouse explain` against a real server and a remote one: the whole way of a message, and how it is found."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from posthouse.base import ids
from posthouse.base.errors import NotFound, Permanent
from posthouse.cli import explain
from posthouse.mime.threads import message_id_hash
from posthouse.store import accounts, events
from posthouse.store.database import Tx
from posthouse.store.sqlite import SqliteDatabase
from tests.cli.test_commands import Server
from tests.servers.test_smtp_more import CLEAR, submitted
from tests.support.clock import START
from tests.support.house import House, opened
from tests.support.loop import on_loop
from tests.support.program import run
from tests.support.remote import Remote
from tests.support.store import opened as store

MESSAGE = (
    "From: Alice <alice@posthouse.test>\r\nSubject: my secret\r\nMessage-ID: <one@posthouse.test>\r\n\r\nbody\r\n."
)


class Asking(Server):
    """Asks the command about the store of a house, which goes on meanwhile."""

    async def told(self, *arguments: str) -> str:
        return await asyncio.to_thread(self.text, "explain", *arguments)

    async def values(self, *arguments: str) -> Any:
        return json.loads(await self.told(*arguments, "--json"))


def served(
    folder: Path, test: Callable[[House, Remote, Asking], Awaitable[None]], script: Any = None, **changes: Any
) -> None:
    async def main() -> None:
        remote = Remote(script)
        port = await remote.start("127.0.0.1")
        smart = {"relay": {"smarthost": {"host": "127.0.0.1", "port": port, "tls": "none"}}}
        try:
            async with asyncio.timeout(60), opened(folder, **CLEAR | smart | changes) as house:
                await test(house, remote, Asking(folder))
        finally:
            await remote.stop()

    asyncio.run(main())


async def attempted(house: House, trace: int, count: int = 1) -> None:
    """Wait until so many attempts for a message are written down."""
    kinds: list[str] = []
    while kinds.count("attempt") < count:
        kinds = [event.kind for event in await house.database.read(events.of_trace, trace)]


def id_in(reply: str) -> str:
    return reply.rstrip(")\r\n").rpartition("id ")[2]


def test_the_whole_way_of_a_message(tmp_path: Path) -> None:
    async def test(house: House, remote: Remote, ask: Asking) -> None:
        replies = await submitted(
            house,
            "MAIL FROM:<alice@posthouse.test> BODY=8BITMIME RET=HDRS",
            "RCPT TO:<bob@posthouse.test>",
            "RCPT TO:<amy@there.test> NOTIFY=FAILURE",
            "RCPT TO:<late@there.test>",
            "RCPT TO:<nobody@posthouse.test>",
            "DATA",
            MESSAGE,
        )
        text = id_in(replies[-1])
        trace = ids.from_text(text)
        assert trace is not None
        await attempted(house, trace)

        told = await ask.told(text.lower())
        for line in (
            f"Message {text}  2 delivered, 1 waiting, 1 refused",
            "Connection from 127.0.0.1",
            "logged in as alice@posthouse.test (PLAIN)",
            "MAIL FROM:<alice@posthouse.test> BODY=8BITMIME RET=HDRS",
            "→ INBOX of bob@posthouse.test",
            "RCPT TO:<amy@there.test> NOTIFY=FAILURE",
            "→ queued for there.test",
            "RCPT TO:<nobody@posthouse.test>: 550 5.1.1 No such mailbox here",
            "Message-ID: <one@posthouse.test>",
            "Attempt 1 for there.test",
            "amy@there.test: delivered: 250 2.0.0 taken",
            "late@there.test: put off: 451 4.7.1 Greylisted, come again",
            "S: 451 4.7.1 Greylisted, come again",
            "late@there.test waits for attempt 2, in ",
        ):
            assert line in told
        assert "my secret" not in told
        # As people call it, into a pipe: the same, nothing folded.
        piped = await asyncio.to_thread(run, "--config", str(ask.path), "explain", text)
        assert piped.stdout.splitlines()[:-1] == told.splitlines()[:-1]
        assert "\x1b" not in told

        # A Message-ID with and without brackets, every recipient, the sender, the session: all mean this one.
        for what in ("one@posthouse.test", "<one@posthouse.test>", "bob@posthouse.test", "AMY@There.test",
                     "alice@posthouse.test", "nobody@posthouse.test", "@there.test"):  # fmt: skip
            assert (await ask.told(what)).startswith(f"Message {text}"), what
        found = await ask.values(text)
        assert found["query"] == text
        assert found["all"] is True
        assert [row["id"] for row in found["messages"]] == [text]
        one = found["story"]
        assert one["state"] == "2 delivered, 1 waiting, 1 refused"
        accepted, attempt = one["events"]
        data = accepted["data"]
        assert accepted["kind"] == "accepted"
        assert data["became"][1:] == [{"queued": "there.test"}] * 2
        assert one["accounts"] == {str(data["became"][0]["accounts"][0]): "bob@posthouse.test"}
        assert data["mail"] == {"body": "8BITMIME", "ret": "HDRS"}
        assert data["rcpt"] == {"amy@there.test": {"notify": ["FAILURE"]}}
        assert data["ms"] <= accepted["after_ms"]
        assert attempt["meanings"]["late@there.test"]["meaning"] == "greylisted"
        assert attempt["data"]["next"].keys() == {"late@there.test"}
        assert attempt["data"]["transcript"][-1] == "S: 250 2.0.0 taken"
        document = (Path(__file__).parents[2] / "docs/explain.md").read_text("utf-8")
        for key in (*found, *one, *data, *attempt, *attempt["data"], *one["waiting"][0]):
            assert f"`{key}`" in document, f"{key} is not explained"
        (waiting,) = one["waiting"]
        assert (waiting["address"], waiting["state"], waiting["attempts"]) == ("late@there.test", "due", 1)
        assert waiting["next_attempt"].endswith("Z")
        assert [row["state"] for row in one["recipients"]] == ["refused", "delivered", "delivered", "waiting"]
        assert (await ask.told(data["session"])).startswith(f"Message {text}")

    served(tmp_path, test, {"RCPT late@there.test": "451 4.7.1 Greylisted, come again"})


def test_messages_are_linked_both_ways(tmp_path: Path) -> None:
    async def test(house: House, remote: Remote, ask: Asking) -> None:
        for target in ("bob@posthouse.test", "fan@far.test"):
            await house.database.write(accounts.add_address, "all@posthouse.test", target)
        replies = await submitted(
            house, "MAIL FROM:<alice@posthouse.test>", "RCPT TO:<amy@there.test>", "DATA", MESSAGE
        )
        text = id_in(replies[-1])
        await attempted(house, ids.from_text(text) or 0)
        one = (await ask.values(text))["story"]
        (link,) = one["links"]
        assert (link["direction"], link["why"]) == ("led_to", "failed")
        assert link["message"]["to"] == ["alice@posthouse.test"]
        assert link["message"]["state"] == "delivered"
        told = await ask.told(text)
        assert f"→ Bounce {link['id']} to alice@posthouse.test: delivered, INBOX of alice@posthouse.test" in told
        assert f"posthouse explain {link['id']}" in told
        back = await ask.told(link["id"])
        assert f"This is a report about {text} from alice@posthouse.test: failed, 550 5.1.1 nobody" in back

        # Two traces, as what is passed on has a sender of ours and the rest has not.
        mail = "MAIL FROM:<x@friend.test>"
        replies = await house.said(
            "smtp", "EHLO c.example", mail, "RCPT TO:<all@posthouse.test>", "DATA", "Subject: x\r\n\r\nx\r\n."
        )
        first = id_in(replies[-1])
        told = await ask.told(first)
        assert "→ fan@far.test, by an alias" in told
        assert "Goes on with the sender <SRS0=" in told

    served(tmp_path, test, {"RCPT amy@there.test": "550 5.1.1 nobody"})


def test_what_is_forwarded_has_a_trace_of_its_own(tmp_path: Path) -> None:
    async def test(house: House, remote: Remote, ask: Asking) -> None:
        await house.database.write(accounts.add_address, "all@posthouse.test", "fan@far.test")
        replies = await house.said(
            "smtp", "EHLO c.example", "MAIL FROM:<x@friend.test>", "RCPT TO:<all@posthouse.test>",
            "RCPT TO:<amy@there.test>", "DATA", "Subject: x\r\n\r\nx\r\n.",
        )  # fmt: skip
        first = id_in(replies[-1])
        (link,) = (await ask.values(first))["story"]["links"]
        assert (link["direction"], link["why"], link["message"]["to"]) == ("led_to", "forwarded", ["fan@far.test"])
        await attempted(house, ids.from_text(link["id"]) or 0)
        own = (await ask.values(link["id"]))["story"]
        assert own["from"].startswith("SRS0=")
        assert own["state"] == "delivered"
        assert own["events"][0]["data"]["original_sender"] == "x@friend.test"
        assert [(one["direction"], one["why"], one["id"]) for one in own["links"]] == [
            ("came_from", "forwarded_from", first)
        ]
        assert f"→ Forwarded as {link['id']} to fan@far.test: delivered" in await ask.told(first)

    networks = ["127.0.0.0/8"]
    smart = {"host": "127.0.0.1", "port": 1, "tls": "none"}

    async def main() -> None:
        remote = Remote()
        smart["port"] = await remote.start("127.0.0.1")
        try:
            relay = {"smarthost": smart, "networks": networks}
            async with asyncio.timeout(60), opened(tmp_path, **CLEAR | {"relay": relay}) as house:
                await test(house, remote, Asking(tmp_path))
        finally:
            await remote.stop()

    asyncio.run(main())


def test_why_the_mail_of_a_friend_did_not_come(tmp_path: Path) -> None:
    (tmp_path / "policy.py").write_text(
        "from posthouse.filter.hooks import *\n"
        "def on_message(message):\n"
        "    return reject('There is a virus in it') if b'virus' in message.content else None\n"
    )

    async def test(house: House, remote: Remote, ask: Asking) -> None:
        mail = "MAIL FROM:<friend@far.test>"
        content = "Subject: x\r\nMessage-ID: <bad@far.test>\r\n\r\nvirus\r\n."
        replies = await house.said("smtp", "EHLO c.example", mail, "RCPT TO:<bob@posthouse.test>", "DATA", content)
        assert replies[-1].startswith("550 5.7.1 There is a virus in it (id ")
        text = id_in(replies[-1])
        for what in (text, "bad@far.test", "friend@far.test"):  # at once: the server is asked to write it down
            told = await ask.told(what)
            assert told.startswith(f"Message {text}  refused\n")
            assert "RCPT TO:<bob@posthouse.test>: taken" in told
            assert "The message: 550 5.7.1 There is a virus in it\n" in told
            assert "message: on_message: 550 5.7.1 There is a virus in it" in told
        await house.said("smtp", "EHLO c.example", mail, "RCPT TO:<bobby@posthouse.test>", "QUIT")
        table = await ask.told("friend@far.test")
        assert len(table.splitlines()) == 3
        assert "bobby@posthouse.test" in table.splitlines()[1], "the newest first"
        assert "550 5.1.1 No such mailbox here" in table
        newest = await ask.values("friend@far.test", "--last", "1")
        assert newest["all"] is False
        assert newest["messages"][0]["to"] == ["bobby@posthouse.test"]
        assert newest["story"]["events"][0]["data"]["refused"] == [
            {"recipient": "bobby@posthouse.test", "reply": "550 5.1.1 No such mailbox here"}
        ]

    served(tmp_path, test, filter={"policy": str(tmp_path / "policy.py")})


def test_what_there_is_nothing_of(tmp_path: Path) -> None:
    ask = Server(tmp_path)
    for what in ("1M8FFNFAN98JX", "<no@where.test>", "no@where.test", "nonsense", "@", "7ZZZZZZZZZZZZ"):
        with pytest.raises(NotFound, match=f"there is no trace of {what}"):
            ask.text("explain", what)
    with pytest.raises(NotFound, match=r"there is no trace of where\.test\. .* `posthouse explain @where\.test`"):
        ask.text("explain", "where.test")
    with pytest.raises(NotFound, match=r"no trace of a@where\.test since 2d\. Traces are kept"):
        ask.text("explain", "a@where.test", "--since", "2d")
    with pytest.raises(Permanent, match="say what to explain: an id, a Message-ID, an address"):
        ask.text("explain", " ")
    with pytest.raises(NotFound, match=r"no trace of \\x1b\[2J@x\."):
        ask.text("explain", "\x1b[2J@x")
    result = run("--config", str(ask.path), "explain", "a@b.test", "--since", "soon")
    assert result.returncode == 1
    assert "--since soon: write a span" in result.stderr


@pytest.mark.parametrize(
    ("since", "at"),
    [("2d", START - 2 * 86_400_000_000), ("1 h 30 min", START - 5_400_000_000), ("2026-09-21", 1_789_948_800_000_000),
     ("2026-09-21T14:13:20+00:00", START), ("", 0), ("9999 weeks", 0)],
)  # fmt: skip
def test_since(since: str, at: int) -> None:
    assert explain._oldest(since, START) == at // 1000 << 20


@pytest.mark.parametrize("since", ["soon", "20xx-1-1", "2026-99-99", "-1 d"])
def test_since_that_is_none(since: str) -> None:
    with pytest.raises(Permanent, match="write a span like"):
        explain._oldest(since, START)


async def filled(database: SqliteDatabase, count: int) -> list[int]:
    """So many messages, a second apart; the oldest first."""
    traces = [(START // 1000 + n * 1000) << 20 for n in range(count)]

    def work(tx: Tx) -> None:
        for n, trace in enumerate(traces):
            data = {"sender": f"s{n % 10}@from.test", "recipients": [f"r{n}@to.test", "Bob@to.test"], "local": 1}
            events.add(tx, trace, trace, "accepted", data, message_id_hash(f"m{n % 50}@from.test"))
            events.add(tx, trace, trace + 1, "attempt", {"results": {}, "transcript": ["s1@from.test"]})

    await database.write(work)
    return traces


@on_loop
async def test_an_address_is_looked_for_slice_by_slice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explain, "SLICE", 7)
    seen: list[int] = []
    async with store() as database:
        traces = await filled(database, 100)

        async def found(what: str, last: int = 20, oldest: int = 0) -> list[int]:
            seen.clear()
            result = await explain.find(database, what, last, oldest, lambda searched, _: seen.append(searched))
            return [case.trace for case in result.cases]

        assert await found("s3@from.test", 4) == [traces[n] for n in (93, 83, 73, 63)]
        assert seen == [7, 14, 21, 28, 35, 42, 49], "it goes no further than it must: one more than is wanted"
        assert await found("S3@FROM.test", 100) == [traces[n] for n in range(93, 0, -10)]
        assert await found("r1@to.test") == [traces[1]], "and neither r11 nor ar1"
        assert await found("1@to.test") == []
        assert len(await found("bob@to.test", 1000)) == 100
        assert len(await found("@to.test", 10)) == 10
        assert await found("@o.test") == []
        assert len(await found("bob@to.test", 1000, traces[90])) == 10
        assert await found("<m7@from.test>") == [traces[57], traces[7]]
        assert await found("m7@from.test", 1) == [traces[57]]
        assert await found("m7@from.test", 9, traces[50]) == [traces[57]]


@pytest.mark.parametrize(
    ("data", "what", "meant"),
    [
        ({"sender": '"a b"@x.test'}, '"a b"@x.test', True),
        ({"sender": "müller@x.test"}, "MÜLLER@x.test", True),
        ({"recipients": ["a@b.test"], "hello": "c@b.test"}, "c@b.test", False),
        ({"refused": [{"recipient": "a@b.test", "reply": "550"}]}, "A@b.test", True),
        ({"became": [{"elsewhere": ["a@b.test"]}]}, "a@b.test", True),
        ({"from": "a@b.test, c@d.test"}, "c@d.test", True),
        ({"login": "a@b.test"}, "a@b.test", True),
        ({"sender": "a@xb.test"}, "@b.test", False),
        ({"sender": None}, "@", False),
    ],
)
def test_what_an_address_means(data: dict[str, Any], what: str, meant: bool) -> None:
    assert explain.matcher(what)(json.dumps(data, ensure_ascii=False)) is meant

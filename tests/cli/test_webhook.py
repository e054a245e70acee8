"""`posthouse webhook`, with and without a running server, and the example of a receiver against a real run."""

import asyncio
import hashlib
import hmac
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from posthouse.base import ids
from posthouse.base.clock import SystemClock
from posthouse.base.errors import NotFound, Permanent
from posthouse.cli import opening
from posthouse.cli.output import Options
from posthouse.net.http import fetch
from posthouse.smtp.aio import Client
from posthouse.store import accounts, events, hook_calls
from posthouse.store.database import Tx
from posthouse.store.hook_calls import NewCall, Outcome
from tests.cli.test_commands import Server
from tests.queue.test_complaints import report
from tests.support.house import PASSWORD, House, opened
from tests.support.loop import on_loop
from tests.support.program import run
from tests.support.receiver import receiving

SECRET = "a secret of the tests"
EXAMPLE = Path(__file__).parents[2] / "examples" / "webhook.py"
CONFIG = """hostname = 'mail.posthouse.test'
data = 'data'
[storage]
reserve = 0
[[webhook]]
name = 'app'
url = '{url}'
secret_file = 'secret'
insecure = true
accounts = ['alice@posthouse.test']
"""


def configured(folder: Path, url: str) -> Path:
    (folder / "secret").write_text(SECRET + "\n")
    path = folder / "posthouse.toml"
    path.write_text(CONFIG.format(url=url))
    return path


@pytest.fixture
def server(tmp_path: Path) -> Server:
    server = Server(tmp_path)
    configured(tmp_path, "http://127.0.0.1:9/hook")
    return server


def owe(server: Server, *calls: NewCall, ended: Outcome | None = None) -> None:
    now = SystemClock().now()

    def work(tx: Tx) -> None:
        hook_calls.add(tx, calls, now, now + 1)
        if ended is not None:
            hook_calls.claim(tx, "app", "node", now, now, 1)
            hook_calls.record(tx, "node", ended)

    opening.write(Options(server.path), work)


def test_nothing_yet(server: Server) -> None:
    assert server.json("webhook", "list") == [
        {
            "name": "app",
            "url": "http://127.0.0.1:9/hook",
            "events": "delivered, deferred, bounced, complained",
            "only": "alice@posthouse.test",
            "waiting": 0,
            "done": 0,
            "failed": 0,
        }
    ]
    assert server.json("webhook", "history") == []
    assert server.text("webhook", "history") == "There are no calls.\n"
    with pytest.raises(NotFound, match="no such call"):
        server.text("webhook", "show", ids.to_text(7))
    with pytest.raises(Permanent, match="is no id"):
        server.text("webhook", "show", "seven")


def test_history_show_and_retry(server: Server) -> None:
    failed = Outcome(7, hook_calls.FAILED, SystemClock().now(), 410, "gone\nfor good")
    call = NewCall(7, "app", "bounced", 5, "bob@there.test", '{"id":"x"}')
    owe(server, call, ended=failed)
    owe(server, NewCall(8, "old", "delivered", 5, "bob@there.test", "{}"))
    (old, gone) = server.json("webhook", "history")
    assert (gone["id"], gone["webhook"], gone["event"], gone["state"]) == (ids.to_text(7), "app", "bounced", "failed")
    assert (gone["attempts"], gone["next"], gone["last_answer"]) == (1, None, "410 gone for good")
    assert (old["state"], old["last_answer"]) == ("due", "")
    assert len(server.json("webhook", "history", "--hook", "app")) == 1
    assert len(server.json("webhook", "history", "--state", "due")) == 1
    assert server.json("webhook", "history", "--event", "complained") == []
    assert len(server.json("webhook", "history", "--most", "1")) == 1
    assert [row["failed"] for row in server.json("webhook", "list")] == [1, 0]
    assert "(not in the settings)" in server.text("webhook", "list")

    shown = server.json("webhook", "show", ids.to_text(7).lower())
    assert shown["answer"] == {"code": 410, "text": "gone\nfor good"}
    assert shown["body"] == {"id": "x"}
    text = server.text("webhook", "show", ids.to_text(7))
    assert "Last answer    410 gone for good" in text
    assert '"id": "x"' in text

    said = server.json("webhook", "retry", ids.to_text(7))
    assert (said["webhook"], said["running"]) == ("app", False)
    assert server.json("webhook", "show", ids.to_text(7))["state"] == "due"
    with pytest.raises(Permanent, match="not in the settings any more"):
        server.text("webhook", "retry", ids.to_text(8))


@on_loop
async def test_the_test_shows_what_is_sent_and_answered(tmp_path: Path) -> None:
    async with receiving(lambda number: (202, {}, b"thanks") if number == 0 else 500) as receiver:
        path = str(configured(tmp_path, receiver.url))
        said = await asyncio.to_thread(run, "-c", path, "webhook", "test", "APP", "--json")
        facts: dict[str, Any] = json.loads(said.stdout)
        assert said.returncode == 0
        assert facts["ok"]
        assert facts["answer"] == {"code": 202, "text": "thanks"}
        (request,) = receiver.requests
        assert request.json == facts["body"]
        assert facts["body"]["test"] is True
        assert facts["body"]["message"]["account"] == "alice@posthouse.test"
        signature = request.headers["X-Posthouse-Signature"]
        assert facts["headers"]["X-Posthouse-Signature"] == signature
        at = signature[2:].partition(",")[0]
        digest = hmac.new(SECRET.encode(), at.encode() + b"." + request.body, hashlib.sha256).hexdigest()
        assert signature == f"t={at},v1={digest}"

        said = await asyncio.to_thread(run, "-c", path, "webhook", "test", "app")
        assert said.returncode == 1
        assert f"POST {receiver.url}\nContent-Type: application/json\n" in said.stdout
        assert said.stdout.endswith("\nHTTP 500\n")
        assert SECRET not in said.stdout
        said = await asyncio.to_thread(run, "-c", path, "webhook", "test", "other")
        assert "there is no webhook other" in said.stderr
        assert "app" in said.stderr
    said = await asyncio.to_thread(run, "-c", path, "webhook", "test", "app")
    assert said.returncode == 1
    assert said.stdout.endswith("\napp gives no answer: Connection refused\n")


async def submit(house: House, *recipients: str) -> list[bool]:
    port = house.ports["submission"]
    async with await Client.connect("localhost", port, context=house.context) as client:
        await client.login("alice@posthouse.test", PASSWORD)
        content = b"From: alice@posthouse.test\r\nMessage-ID: <m1@posthouse.test>\r\n\r\nhello\r\n"
        return [result.accepted for result in await client.send("alice@posthouse.test", list(recipients), content)]


@on_loop
async def test_retry_while_the_server_runs(tmp_path: Path) -> None:
    answers = [410, 200]
    async with receiving(lambda number: answers[number]) as receiver:
        path = str(configured(tmp_path, receiver.url))
        async with opened(tmp_path, webhook=[hook(tmp_path, receiver.url)]) as house:
            await submit(house, "bob@there.test")
            await receiver.got(1)
            await house.app.webhooks.settled()
            said = await asyncio.to_thread(run, "-c", path, "webhook", "history", "--json")
            (row,) = json.loads(said.stdout)
            assert (row["state"], row["event"]) == ("failed", "delivered")
            said = await asyncio.to_thread(run, "-c", path, "webhook", "retry", row["id"], "--json")
            assert json.loads(said.stdout)["running"]
            first, second = await receiver.got(2)
            assert first.body == second.body


def hook(folder: Path, url: str) -> dict[str, Any]:
    return {"name": "app", "url": url, "secret_file": str(folder / "secret"), "insecure": True}


@on_loop
async def test_the_example_hears_of_mail_and_of_a_complaint_about_it(tmp_path: Path) -> None:
    """A whole server: alice writes to somebody elsewhere, who complains; she is kept from writing again."""
    (tmp_path / "secret").write_text(SECRET)
    example = await asyncio.create_subprocess_exec(
        sys.executable, str(EXAMPLE), str(tmp_path / "secret"), "0", stdout=asyncio.subprocess.PIPE
    )
    try:
        assert example.stdout is not None
        url = (await example.stdout.readline()).decode().strip()
        feedback = {"feedback": ["fbl@posthouse.test"]}
        async with opened(tmp_path, webhook=[hook(tmp_path, url)], queue=feedback) as house:
            await house.database.write(accounts.add_address, "fbl@posthouse.test", "bob@posthouse.test")
            assert await submit(house, "carol@there.test") == [True]
            id_, event, recipient = (await example.stdout.readline()).decode().split()
            assert (event, recipient) == ("delivered", "carol@there.test")
            number = ids.from_text(id_)
            assert number is not None
            call = await house.database.read(hook_calls.find, number)
            complaint = report(call.trace, recipients=("carol@there.test",), by="mail.posthouse.test")
            replies = await house.said(
                "smtp",
                "EHLO there.test",
                "MAIL FROM:<reports@there.test>",
                "RCPT TO:<fbl@posthouse.test>",
                "DATA",
                complaint + b".",
            )
            assert replies[-1].startswith("250")
            told = (await example.stdout.readline()).decode().split()
            assert told[1:] == ["complained", "carol@there.test"]
            kinds = [event.kind for event in await house.database.read(events.of_trace, call.trace)]
            assert kinds == ["accepted", "attempt", "complained"]
            assert await submit(house, "carol@there.test") == [False]
            # Whoever has not the secret is not heard.
            forged = await fetch(url, body=b"{}", headers={"X-Posthouse-Signature": f"t={1 << 31},v1={'0' * 64}"})
            assert forged.status == 403
            assert (await fetch(url, body=b"{}", headers={"X-Posthouse-Signature": "nonsense"})).status == 403
    finally:
        example.kill()
        await example.wait()


def test_the_receiver_of_the_page_is_the_example() -> None:
    page = (EXAMPLE.parents[1] / "docs" / "webhooks.md").read_text("utf-8")
    code = page.partition("```python\n")[2].partition("```")[0]
    assert code.strip()
    assert code in EXAMPLE.read_text("utf-8")

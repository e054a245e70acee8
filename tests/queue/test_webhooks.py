"""Webhooks: what is told, when, how often; that nothing is lost or made up; that a dead one holds up no other."""

import asyncio
import hashlib
import hmac
import itertools
import json
import random
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from posthouse.base import ids
from posthouse.base.errors import Permanent
from posthouse.base.log import get_logger
from posthouse.base.settings import Settings
from posthouse.base.webhook_settings import MAX_SECRET, Webhook, secret_of
from posthouse.queue import hook_events, webhooks
from posthouse.queue.hook_events import LIFETIME
from posthouse.queue.webhooks import OVERDUE, WAITS, Answered, Hook, Webhooks, judge
from posthouse.store import events, hook_calls, outbox
from posthouse.store.database import Tx
from posthouse.store.hook_calls import Call, NewCall
from posthouse.store.model import QueueChanged
from posthouse.store.outbox import HERE, NewMessage
from tests.queue.site import ALICE, MESSAGE, SECOND, Site, To, site
from tests.support import certificates
from tests.support.clock import START, turns
from tests.support.loop import on_loop
from tests.support.ports import free_port
from tests.support.receiver import Receiver, receiving
from tests.support.store import put_blob

BOB, CAROL = "bob@there.test", "carol@there.test"
SECRET = b"a secret of more than sixteen octets"
DAY = 86_400 * SECOND


def hook(url: str, folder: Path, name: str = "app", **options: Any) -> dict[str, Any]:
    """A [[webhook]] of the settings."""
    path = folder / "secret"
    path.write_bytes(SECRET + b"\n")
    return {"name": name, "url": url, "secret_file": path, "insecure": True, **options}


class Hooked:
    """A site whose outcomes are told."""

    def __init__(self, here: Site) -> None:
        self.here = here
        self.calls = self.new()

    def new(self, node: str = "") -> Webhooks:
        here = self.here
        return Webhooks(here.settings, here.database, here.feed, here.clock, get_logger(), random.Random(2), node)

    async def settled(self) -> None:
        await self.here.settled()
        await self.calls.settled()

    async def run(self, *recipients: str, **options: Any) -> int:
        trace = await self.here.queue(*recipients, **options)
        await self.settled()
        return trace

    async def pass_time(self, seconds: float) -> None:
        clock = self.here.clock
        end = clock.now() + int(seconds * SECOND)
        await self.settled()
        while (due := clock.next_end()) is not None and due <= end:
            await clock.advance((due - clock.now()) / SECOND)
            self.here.manager.wake()
            self.calls.wake()
            await self.settled()
        clock.move((end - clock.now()) / SECOND)
        await turns()

    async def history(self) -> list[Call]:
        return await self.here.database.read(hook_calls.history)

    async def owe(self, *numbers: int, name: str = "app") -> None:
        """Calls about nothing in particular."""
        now = self.here.clock.now()
        calls = [NewCall(number, name, "delivered", 1, BOB, "{}") for number in numbers]
        await self.here.database.write(hook_calls.add, calls, now, now + LIFETIME)


@asynccontextmanager
async def hooked(*hooks: dict[str, Any], start: bool = True, **options: Any) -> AsyncIterator[Hooked]:
    idle, webhooks.IDLE = webhooks.IDLE, 90_000.0  # days pass here: fewer looks
    try:
        async with site(webhook=hooks, **options) as here:
            one = Hooked(here)
            if start:
                await one.calls.start()
            try:
                yield one
            finally:
                await one.calls.close(0.0)
    finally:
        webhooks.IDLE = idle


def signed(receiver: Receiver, secret: bytes = SECRET) -> int:
    """The time at which all that came was signed, by a computation that is not ours."""
    (at,) = {request.headers["X-Posthouse-Signature"].split(",")[0].removeprefix("t=") for request in receiver.requests}
    for request in receiver.requests:
        digest = hmac.new(secret, at.encode() + b"." + request.body, hashlib.sha256).hexdigest()
        assert request.headers["X-Posthouse-Signature"] == f"t={at},v1={digest}"
    return int(at)


@on_loop
async def test_what_is_told_of_each_outcome(tmp_path: Path) -> None:
    async with receiving() as receiver, hooked(hook(receiver.url, tmp_path)) as one:
        here = one.here
        await here.remote("there.test")
        await here.remote("late.test", {"RCPT": "450 4.2.2 Mailbox full"})
        await here.remote("bad.test", {"RCPT": "550 5.1.1 User unknown"})
        trace = await here.queue(BOB, CAROL, "dan@late.test", "eve@bad.test")
        await one.settled()
        told = {request.json["recipient"]: request.json for request in receiver.requests}
        assert len(receiver.requests) == len(told) == 4
        assert {address: body["event"] for address, body in told.items()} == {
            BOB: "delivered",
            CAROL: "delivered",
            "dan@late.test": "deferred",
            "eve@bad.test": "bounced",
        }
        body = told["eve@bad.test"]
        assert ids.from_text(body.pop("id")) is not None
        assert body == {
            "event": "bounced",
            "time": "2026-09-21T14:13:20.000Z",
            "message": {
                "trace": ids.to_text(trace),
                "message_id": "",
                "sender": ALICE,
                "account": ALICE,
            },
            "recipient": "eve@bad.test",
            "attempt": {
                "number": 1,
                "host": "bad.test",
                "code": 550,
                "status": "5.1.1",
                "text": "User unknown",
                "tls": body["attempt"]["tls"],
            },
            "next_attempt": None,
            "meaning": "user-unknown",
            "bounce": {"class": "hard"},
            "complaint": None,
        }
        late = told["dan@late.test"]
        assert late["meaning"] == "mailbox-full"
        assert late["bounce"] is None
        assert late["next_attempt"].startswith("2026-09-21T14:1")
        assert told[BOB]["attempt"]["code"] == 250
        request = receiver.requests[0]
        assert request.path == "/hook"
        assert request.headers["Content-Type"] == "application/json"
        assert request.headers["User-Agent"].startswith("Posthouse/")
        assert signed(receiver) == START // SECOND
        assert {call.state for call in await one.history()} == {hook_calls.DONE}


@on_loop
async def test_a_message_id_and_a_second_attempt(tmp_path: Path) -> None:
    async with receiving() as receiver, hooked(hook(receiver.url, tmp_path)) as one:
        await one.here.remote("there.test", {"RCPT": ["451 4.3.0 later", "250 2.1.5 ok"]})
        await one.here.manager.close(0.1)
        trace = await one.here.queue(BOB)
        await one.here.database.write(events.add, trace, trace, "accepted", {"message_id": "m1@here.test"})
        one.here.manager = one.here.new_manager()
        await one.here.manager.start()
        await one.pass_time(120)
        first, second = (request.json for request in receiver.requests)
        assert (first["event"], second["event"]) == ("deferred", "delivered")
        assert first["message"]["message_id"] == second["message"]["message_id"] == "m1@here.test"
        assert (first["attempt"]["number"], second["attempt"]["number"]) == (1, 2)
        assert first["id"] != second["id"]


@on_loop
async def test_reports_of_our_own_and_people_here_are_not_told(tmp_path: Path) -> None:
    async with receiving() as receiver, hooked(hook(receiver.url, tmp_path)) as one:
        await one.here.remote("there.test")
        await one.run(BOB, sender="")
        trace = one.here.ids.next(one.here.clock.now())

        def held(tx: Tx) -> None:
            new = NewMessage(trace, ALICE, None, put_blob(tx, MESSAGE), b"", len(MESSAGE), START, START + DAY)
            outbox.add(tx, new, [To(ALICE, HERE), To("gone@here.test", HERE)])
            tx.publish(QueueChanged(trace))

        await one.here.database.write(held)
        await one.settled()
        # Whoever is gone meanwhile is told: the 250 to the sender did not say so.
        assert [(r.json["event"], r.json["recipient"]) for r in receiver.requests] == [("bounced", "gone@here.test")]


@on_loop
async def test_who_wants_to_hear_of_what(tmp_path: Path) -> None:
    async with receiving() as receiver:
        url = receiver.url
        wanted = (
            hook(url + "/bounces", tmp_path, "bounces", events=("bounced",)),
            hook(url + "/alice", tmp_path, "alice", accounts=("Alice@here.test",)),
            hook(url + "/other", tmp_path, "other", accounts=("other@here.test",)),
            hook(url + "/domain", tmp_path, "domain", domains=("HERE.test",)),
            hook(url + "/below", tmp_path, "below", domains=("*.here.test",)),
        )
        async with hooked(*wanted) as one:
            await one.here.remote("there.test")
            await one.run(BOB)
            assert sorted(r.path for r in receiver.requests) == ["/hook/alice", "/hook/domain"]
            del receiver.requests[:]
            await one.run(BOB, sender="app@mail.here.test")
            assert sorted(r.path for r in receiver.requests) == ["/hook/alice", "/hook/below"]


@on_loop
async def test_a_call_is_owed_by_the_transaction_of_its_event(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store fails at first: nothing is owed for what is not written down, and then once."""
    async with receiving() as receiver, hooked(hook(receiver.url, tmp_path), start=False) as one:
        await one.here.remote("there.test")
        usual, failures = outbox.record, iter((True,) * 3)  # a transaction is run twice before it fails

        def record(tx: Tx, *rest: Any) -> None:
            usual(tx, *rest)
            if next(failures, False):
                raise OSError("no")

        monkeypatch.setattr(outbox, "record", record)
        trace = await one.here.queue(BOB)

        def both(tx: Tx) -> tuple[int, int]:
            return len(events.of_trace(tx, trace)), len(hook_calls.history(tx))

        while (counted := await one.here.database.read(both)) != (1, 1):
            assert counted == (0, 0)
            await one.here.clock.advance(1.0)
        assert [call.recipient for call in await one.history()] == [BOB]
        assert receiver.requests == []
        await one.calls.start()
        await one.calls.settled()
        assert len(receiver.requests) == 1


@on_loop
async def test_retries_go_by_the_table_and_end_after_two_days(tmp_path: Path) -> None:
    async with receiving(500) as receiver, hooked(hook(receiver.url, tmp_path)) as one:
        await one.owe(7)
        at: list[int] = []
        await one.calls.settled()
        while (call := (await one.history())[0]).state == hook_calls.DUE:
            at.append(one.here.clock.now())
            await one.pass_time((call.next_attempt - one.here.clock.now()) / SECOND)
        at.append(one.here.clock.now())
        waits = [(after - before) / SECOND for before, after in itertools.pairwise(at)]
        for number, wait in enumerate(waits[:-1]):
            usual = WAITS[min(number, len(WAITS) - 1)]
            assert usual <= wait <= usual * 1.1 + 1, number
        assert at[-1] - START == LIFETIME
        assert call.state == hook_calls.FAILED
        assert call.attempts == len(receiver.requests) == len(at)
        assert 15 < call.attempts < 20
        assert (call.last_code, {request.body for request in receiver.requests}) == (500, {b"{}"})
        # Every attempt is signed anew: a receiver that looks at the time takes the last one, too.
        assert len({request.headers["X-Posthouse-Signature"] for request in receiver.requests}) == len(at)


@pytest.mark.parametrize(
    ("answer", "state", "told"),
    [
        (204, hook_calls.DONE, ""),
        ((202, {}, b"thanks\x1b[31m"), hook_calls.DONE, "thanks\ufffd[31m"),
        (410, hook_calls.FAILED, ""),
        (404, hook_calls.DUE, ""),
        ((302, {"Location": "/elsewhere"}, b""), hook_calls.DUE, ""),
        ((200, {}, b"x" * 65537), hook_calls.DUE, "more than 65536 octets"),
        ((500, {}, b"\xff" * 60_000), hook_calls.DUE, "\ufffd" * 1000),
    ],
)
def test_answers(answer: Any, state: str, told: str, tmp_path: Path) -> None:
    @on_loop
    async def test() -> None:
        async with receiving(answer) as receiver, hooked(hook(receiver.url, tmp_path)) as one:
            await one.owe(7)
            await one.calls.settled()
            (call,) = await one.history()
            assert call.state == state
            assert told in call.last_text
            assert len(call.last_text) <= 1000
            assert len(receiver.requests) == 1, "redirects are not followed"

    test()


@on_loop
async def test_no_answer_at_all(tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}/"
    stuck = threading.Event()
    async with receiving(stuck) as receiver:
        slow = hook(receiver.url, tmp_path, "slow", timeout=0.2)
        async with hooked(hook(url, tmp_path), slow) as one:
            await one.owe(7)
            await one.owe(8, name="slow")
            await one.calls.settled()
            stuck.set()
            by_id = {call.id: call for call in await one.history()}
            assert (by_id[7].state, by_id[7].last_code) == (hook_calls.DUE, 0)
            assert "gives no answer" in by_id[7].last_text
            assert by_id[8].last_code == 0
            assert "takes longer than 0.2 s" in by_id[8].last_text or "timed out" in by_id[8].last_text


@on_loop
async def test_a_certificate_that_nobody_vouches_for(tmp_path: Path) -> None:
    asked: list[bool] = []
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)  # a handshake that is refused

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(True)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=certificates.server_context("localhost"))
    port = server.sockets[0].getsockname()[1]
    async with hooked(hook(f"https://localhost:{port}/", tmp_path)) as one:
        await one.owe(7)
        await one.calls.settled()
        (call,) = await one.history()
        assert call.state == hook_calls.DUE
        assert "certificate" in call.last_text.lower()
    server.close()
    assert asked == []


@on_loop
async def test_a_dead_one_holds_up_no_other_and_none_gets_too_many_at_once(tmp_path: Path) -> None:
    stuck = threading.Event()
    async with receiving(stuck) as dead, receiving() as alive:
        dead_hook = hook(dead.url, tmp_path, "dead", concurrency=2)
        async with hooked(dead_hook, hook(alive.url, tmp_path, "alive", concurrency=3)) as one:
            await one.owe(*range(100, 130), name="dead")
            await dead.got(2)
            await one.owe(*range(200, 300), name="alive")
            await alive.got(100)
            assert dead.open == dead.most_open == 2
            assert alive.most_open <= 3
            states = await one.here.database.read(hook_calls.counts)
            assert states["dead"].waiting == 30
            stuck.set()
            await one.calls.settled()
            assert dead.most_open == 2
            states = await one.here.database.read(hook_calls.counts)
            assert states == {"dead": (0, 30, 0), "alive": (0, 100, 0)}


@on_loop
async def test_the_time_of_a_call_begins_with_its_turn(tmp_path: Path) -> None:
    """Those that wait for a place are not given up because others were slow."""
    stuck = threading.Event()
    async with receiving(stuck) as receiver:
        async with hooked(hook(receiver.url, tmp_path, concurrency=1, timeout=0.2)) as one:
            await one.owe(1, 2, 3, 4)
            await one.calls.settled()
            assert len(receiver.requests) == 4
        stuck.set()


@on_loop
async def test_a_stop_gives_back_what_was_not_answered(tmp_path: Path) -> None:
    stuck = threading.Event()
    async with receiving(stuck) as receiver, hooked(hook(receiver.url, tmp_path, concurrency=1)) as one:
        await one.owe(1, 2, 3)
        await receiver.got(1)
        await one.calls.close(0.0)
        assert [(call.id, call.state) for call in await one.history()] == [(n, hook_calls.DUE) for n in (3, 2, 1)]
        stuck.set()
        one.calls = one.new()
        await one.calls.start()
        await one.calls.settled()
        assert {call.state for call in await one.history()} == {hook_calls.DONE}


@on_loop
async def test_after_a_crash_a_call_is_made_again_with_its_id(tmp_path: Path) -> None:
    """Our side dies between the answer and its record."""
    async with receiving() as receiver, hooked(hook(receiver.url, tmp_path), start=False) as one:
        await one.here.remote("there.test")
        await one.run(BOB)
        now, database = one.here.clock.now(), one.here.database
        (call,) = await database.write(hook_calls.claim, "app", one.here.settings.hostname, now, now + DAY, 10)
        assert await database.write(hook_calls.claim, "app", "another", now, now + DAY, 10) == []
        crashed = Hook(one.here.settings.webhook[0])
        body = call.body.encode()
        assert await crashed.post(body, crashed.headers(body, now)) == Answered(200, "")
        crashed.close()
        await one.calls.start()
        await one.calls.settled()
        first, second = receiver.requests
        assert first.body == second.body
        assert first.json["id"] == ids.to_text(call.id)
        assert [call.state for call in await one.history()] == [hook_calls.DONE]


@on_loop
async def test_claims_of_another_node_are_left_until_their_lease_is_over(tmp_path: Path) -> None:
    async with receiving() as receiver, hooked(hook(receiver.url, tmp_path), start=False) as one:
        await one.owe(7)
        now = one.here.clock.now()
        await one.here.database.write(hook_calls.claim, "app", "another", now, now + 1000 * SECOND, 10)
        await one.calls.start()
        await one.calls.settled()
        assert receiver.requests == []
        one.here.clock.move(1000)
        one.calls.wake()
        await one.calls.settled()
        assert len(receiver.requests) == 1
        # The other one comes back and says that it is to be made again: it was made.
        late = hook_calls.Outcome(7, hook_calls.DUE, now, 500, "")
        await one.here.database.write(hook_calls.record, "another", late)
        assert (await one.history())[0].state == hook_calls.DONE


@on_loop
async def test_history_is_kept_for_seven_days_and_what_nobody_calls_is_ended(tmp_path: Path) -> None:
    async with receiving() as receiver, hooked(hook(receiver.url, tmp_path)) as one:
        await one.owe(*range(1, 2102))
        await one.owe(5000, name="gone-from-the-settings")
        await one.calls.settled()
        one.here.clock.move((LIFETIME + OVERDUE) / SECOND + 1)
        await one.calls.tidy()
        counts = await one.here.database.read(hook_calls.counts)
        assert counts == {"app": (0, 2101, 0), "gone-from-the-settings": (0, 0, 1)}
        (call,) = await one.here.database.read(hook_calls.history, "gone-from-the-settings")
        assert call.last_text == "Given up: its turn never came"
        one.here.clock.move(5 * 86_400)
        await one.calls.tidy()
        assert [call.id for call in await one.history()] == [5000]
        one.here.clock.move(3 * 86_400)
        await one.calls.tidy()
        assert await one.history() == []


@on_loop
async def test_retry_by_an_operator(tmp_path: Path) -> None:
    answers = [410, 200]
    async with receiving(lambda number: answers[number]) as receiver, hooked(hook(receiver.url, tmp_path)) as one:
        await one.owe(7)
        await one.calls.settled()
        assert (await one.history())[0].state == hook_calls.FAILED
        now = one.here.clock.now()
        await one.here.database.write(hook_calls.retry, 7, now, now + LIFETIME)
        await one.calls.settled()
        assert [(call.state, call.attempts) for call in await one.history()] == [(hook_calls.DONE, 1)]
        await one.calls.close()
        await one.owe(8)
        await one.here.database.write(hook_calls.claim, "app", "another", now, now + DAY, 10)
        with pytest.raises(Permanent, match="at this moment"):
            await one.here.database.write(hook_calls.retry, 8, now, now + LIFETIME)


@pytest.mark.parametrize("size", [0, 15, MAX_SECRET + 1])
def test_secrets_that_are_none(size: int, tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_bytes(b" \n" + b"x" * size + b"\n")
    one = Webhook(name="app", url="https://a.test/", secret_file=path)
    with pytest.raises(Permanent, match=r"webhook app.*characters"):
        secret_of(one)
    path.write_bytes(b"x" * 16)
    assert secret_of(one) == b"x" * 16
    path.unlink()
    with pytest.raises(Permanent, match="cannot be read: No such file"):
        secret_of(one)


@on_loop
async def test_without_a_secret_it_does_not_start(tmp_path: Path) -> None:
    async with hooked(hook("https://a.test/", tmp_path), start=False) as one:
        (tmp_path / "secret").write_bytes(b"short")
        with pytest.raises(Permanent, match="at least 16"):
            await one.calls.start()


@pytest.mark.parametrize(
    ("url", "good"),
    [
        ("http://127.0.0.1/", True),
        ("http://[::1]:80/", True),
        ("http://10.1.2.3/x", True),
        ("http://app:8000/x", True),
        ("http://app.internal/x", True),
        ("http://192.0.2.1.example/", False),
        ("http://example.org/", False),
        ("http://8.8.8.8/", False),
        ("https://example.org/", True),
    ],
)
def test_addresses_in_clear_are_near_by(url: str, good: bool, tmp_path: Path) -> None:
    settings = {"webhook": [hook(url, tmp_path)]}
    if good:
        assert Settings.model_validate(settings).webhook[0].url == url
    else:
        with pytest.raises(ValueError, match="own network"):
            Settings.model_validate(settings)


def test_texts_of_others_never_break_a_body() -> None:
    """What is no Unicode is replaced, and long replies are cut."""
    told = hook_events._attempt(1, "mx\udcff", 550, "5.0.0", "\udc80" + "x" * 5000, "")
    assert told["host"] == "mx?"
    assert told["text"] == "?" + "x" * 999
    json.dumps(told, ensure_ascii=False).encode("utf-8")


def test_the_example_is_like_the_real_ones(tmp_path: Path) -> None:
    for event in ("delivered", "deferred", "bounced", "complained"):
        one = Webhook.model_validate(hook("https://a.test/", tmp_path, events=(event,)))
        body = json.loads(hook_events.example(one, 1 << 40, START))
        assert (body["event"], body["test"]) == (event, True)
        assert (body["attempt"] is None) == (body["complaint"] is not None) == (event == "complained")


def test_judge_ends_at_the_end() -> None:
    call = Call(7, "app", "delivered", 1, BOB, "{}", "claimed", START, START + LIFETIME, 3, START, 0, "")
    assert judge(call, Answered(0, "no"), START, 0.0) == (7, "due", START + int(WAITS[3] * SECOND), 0, "no")
    assert judge(call, Answered(503, ""), START + LIFETIME, 0.0).state == hook_calls.FAILED
    assert judge(call, Answered(299, ""), START + LIFETIME, 0.0).state == hook_calls.DONE

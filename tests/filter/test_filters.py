"""Limits, lists, names, greylisting and hooks, each by itself."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from posthouse.base.errors import Permanent
from posthouse.base.filter_settings import DnsList, Filter, Rate
from posthouse.base.log import get_logger
from posthouse.filter import greylist, hooks, limits
from posthouse.filter.greylist import DAY, SECOND, Greylist
from posthouse.filter.hooks import Hooks, Rcpt, Verdict
from posthouse.filter.limits import Limiter
from posthouse.filter.lists import SILENCES, Lists
from posthouse.filter.names import confirmed_name, odd_greeting
from posthouse.net.dns import Answer, ZoneResolver
from tests.support.clock import FakeClock
from tests.support.loop import on_loop
from tests.support.store import opened

# Limits


def test_an_hour_slides() -> None:
    limiter = Limiter(Rate(messages_per_hour=3, recipients_per_day=5), "account")
    for minute in (0, 20, 40):
        assert limiter.admit("1", "alice", minute * 60, messages=1) is None
    over = limiter.admit("1", "alice", 50 * 60, messages=1)
    assert over is not None
    assert (over.reply.code, over.first) == (450, True)
    again = limiter.admit("1", "alice", 55 * 60, messages=1)
    assert again is not None
    assert not again.first
    assert limiter.admit("2", "bob", 55 * 60, messages=1) is None, "others go on"
    assert limiter.admit("1", "alice", 66 * 60, messages=1) is None, "the first is an hour ago"
    assert limiter.admit("1", "alice", 66 * 60, messages=1) is not None
    for _ in range(5):
        assert limiter.admit("1", "alice", 5 * 3600, recipients=1) is None
    day = limiter.admit("1", "alice", 6 * 3600, recipients=1)
    assert day is not None
    assert day.reply.code == 550
    assert limiter.admit("1", "alice", 31 * 3600, recipients=1) is None


def test_an_hour_is_no_shorter_than_an_hour() -> None:
    limiter = Limiter(Rate(messages_per_hour=1), "account")
    assert limiter.admit("1", "alice", 299, messages=1) is None
    for now in (300, 3000, 3599, 3898):
        over = limiter.admit("1", "alice", now, messages=1)
        assert over is not None
        minutes = -(-(3900 - now) // 60)
        assert over.reply.text.endswith(f"try again in {minutes} min")
    assert limiter.admit("1", "alice", 4200, messages=1) is None


def test_the_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MOST", 10)
    limiter = Limiter(Rate(messages_per_hour=1), "network")
    for number in range(100):
        assert limiter.admit(str(number), "", 0, messages=1) is None
    assert len(limiter._senders) == 10


# Lists

ZONE = {
    "7.2.0.192.bad.test": {"A": ["127.0.0.2"]},
    "8.2.0.192.bad.test": {"A": ["127.255.255.254"]},
    "9.2.0.192.bad.test": {"A": ["127.0.0.10"]},
    "10.2.0.192.bad.test": None,
    "7.2.0.192.good.test": {"A": ["127.0.0.1"]},
    "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.bad.test": {"A": ["127.0.0.2"]},
    "evil.example.names.test": {"A": ["127.0.1.2"]},
}
BAD = {"zone": "bad.test"}


@pytest.mark.parametrize(
    ("lists", "ip", "domains", "total", "why"),
    [
        ([BAD], "192.0.2.7", [], 1.0, "bad.test (127.0.0.2)"),
        ([BAD], "192.0.2.8", [], 0.0, ""),
        ([BAD], "192.0.2.10", [], 0.0, ""),
        ([BAD], "192.0.2.11", [], 0.0, ""),
        ([BAD], "2001:db8::1", [], 1.0, "bad.test (127.0.0.2)"),
        ([BAD | {"answers": ["127.0.0.2-127.0.0.9"]}], "192.0.2.9", [], 0.0, ""),
        ([BAD | {"answers": ["127.0.0.10"], "weight": 3}], "192.0.2.9", [], 3.0, "bad.test (127.0.0.10)"),
        (
            [BAD, {"zone": "good.test", "weight": -5}], "192.0.2.7", [], -4.0,
            "bad.test (127.0.0.2), good.test (127.0.0.1)",
        ),
        (
            [{"zone": "names.test", "of": "domain"}], "192.0.2.7", ["EVIL.example", "evil.example", "[192.0.2.7]", "x"],
            1.0, "names.test (127.0.1.2)",
        ),
    ],
)  # fmt: skip
def test_lists(lists: list[dict[str, Any]], ip: str, domains: list[str], total: float, why: str) -> None:
    async def main() -> None:
        chosen = Lists([DnsList.model_validate(one) for one in lists], ZoneResolver(ZONE), FakeClock())
        assert (await chosen.score(ip, domains))[:2] == (total, why)

    asyncio.run(main())


class Deaf(ZoneResolver):
    """Never answers for one list."""

    def __init__(self) -> None:
        super().__init__(ZONE)
        self.asked = 0

    async def answer(self, name: str, kind: str) -> Answer:
        if name.endswith(".deaf.test"):
            self.asked += 1
            await asyncio.get_running_loop().create_future()
        return await super().answer(name, kind)


def test_a_list_that_keeps_silent_does_not_silence_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("posthouse.filter.lists.PATIENCE", 0.01)
    resolver, clock = Deaf(), FakeClock()

    async def main() -> None:
        chosen = Lists([DnsList(zone="deaf.test"), DnsList(zone="bad.test")], resolver, clock)
        for _ in range(SILENCES + 3):
            score = await chosen.score("192.0.2.7", [])
            assert score[:2] == (1.0, "bad.test (127.0.0.2)")
            assert score.said == (("deaf.test", "no answer"), ("bad.test", "listed as 127.0.0.2, weight 1"))
        assert resolver.asked == SILENCES, "it is left alone for a while"
        clock.move(61)
        await chosen.score("192.0.2.7", [])
        assert resolver.asked == SILENCES + 1

    asyncio.run(main())


def test_answers_that_are_none() -> None:
    with pytest.raises(ValidationError):
        Filter.model_validate({"list": [{"zone": "x.test", "answers": ["127.0.0.9-127.0.0.2"]}]})


# Names


@on_loop
async def test_names_lead_there_and_back() -> None:
    zone = {
        "7.2.0.192.in-addr.arpa": {"PTR": ["other.test", "mx.test"]}, "mx.test": {"A": ["192.0.2.7"]},
        "other.test": {"A": ["192.0.2.8"]}, "8.2.0.192.in-addr.arpa": {"PTR": ["mx.test"]},
        "9.2.0.192.in-addr.arpa": None,
    }  # fmt: skip
    resolver = ZoneResolver(zone)
    wanted = {"192.0.2.7": "mx.test", "192.0.2.8": "", "192.0.2.9": None, "192.0.2.10": "", "nonsense": None}
    assert {ip: await confirmed_name(resolver, ip) for ip in wanted} == wanted


@pytest.mark.parametrize(
    ("hello", "odd"),
    [
        ("mx.example.net", False), ("[192.0.2.7]", False), ("[IPv6:2001:db8::1]", True), ("[192.0.2.8]", True),
        ("localhost", True), ("mail.posthouse.test", True), ("?", True), ("", True), ("mx_1.example.net", False),
    ],
)  # fmt: skip
def test_greetings(hello: str, odd: bool) -> None:
    assert bool(odd_greeting(hello, "mail.posthouse.test", "192.0.2.7")) == odd


# Greylisting


@on_loop
async def test_who_comes_again_passes() -> None:
    async with opened() as database:
        clock = FakeClock()
        grey = Greylist(database, clock, 300, 36)

        async def passes(ip: str = "2001:db8::1", sender: str = "a@x.test", recipient: str = "b@y.test") -> bool:
            return await grey.check(ip, sender, recipient) is None

        assert not await passes()
        reply = await grey.check("2001:db8::2", "A@x.test", "b@y.test")
        assert reply is not None
        assert "in 5 min" in reply.text, "the same network, the same addresses"
        clock.move(301)
        assert await passes()
        assert not await passes(sender="other@x.test")
        assert not await passes(ip="2001:db8:0:1::1")
        clock.move(35 * DAY / SECOND)
        await grey.tidy()
        assert await passes(), "remembered"
        clock.move(37 * DAY / SECOND)
        await grey.tidy()
        assert not await passes(), "forgotten"
        clock.move(3 * DAY / SECOND)
        assert not await passes(), "it came back too late"
        clock.move(301)
        assert await passes()


@on_loop
async def test_a_client_that_tries_everything_is_not_remembered_for_all_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(greylist, "MOST_OF_ONE", 10)
    monkeypatch.setattr(greylist, "MOST_OF_ALL", 25)
    async with opened() as database:
        clock = FakeClock()
        grey = Greylist(database, clock, 300, 36)

        async def rows() -> int:
            row = await database.read(lambda tx: tx.one("SELECT count(*) FROM greylist"))
            assert row is not None
            return int(row[0])

        for number in range(50):
            assert await grey.check("192.0.2.1", f"a{number}@x.test", "b@y.test") is not None
        assert await rows() == 10
        assert await grey.check("192.0.2.2", "a@x.test", "b@y.test") is not None
        assert await rows() == 11, "others are"
        for number in range(50):
            assert await grey.check(f"192.0.2.{number + 3}", "a@x.test", "b@y.test") is not None
        assert await rows() == 25
        clock.move(301)
        assert await grey.check("192.0.2.1", "a3@x.test", "b@y.test") is None, "what is remembered passes"
        clock.move(3600)
        assert await grey.check("192.0.2.1", "a49@x.test", "b@y.test") is not None
        assert await rows() == 26, "an hour later it may be remembered"


# Hooks

RCPT = Rcpt("s", "smtp", "192.0.2.7", "", "", "mx.test", "", "a@x.test", None, "b@y.test", ())


class Told:
    def __init__(self) -> None:
        self.notices: list[str] = []

    async def __call__(self, subject: str, text: str) -> None:
        self.notices.append(f"{subject}\n{text}")


def run_hook(folder: Path, source: str, stage: str = "recipient", times: int = 1) -> tuple[Verdict | None, list[str]]:
    path = folder / "policy.py"
    path.write_text(source)
    told = Told()

    async def main() -> Verdict | None:
        mine = Hooks(path, 0.05, FakeClock(), get_logger(), told)
        for _ in range(times - 1):
            await mine.run(stage, RCPT)
        return await mine.run(stage, RCPT)

    return asyncio.run(main()), told.notices


HEAD = "from posthouse.filter.hooks import *\nimport asyncio\n"


@pytest.mark.parametrize(
    ("body", "verdict"),
    [
        ("def on_rcpt(r): return None", None),
        ("def on_rcpt(r): return reject('no', 554) if r.recipient == 'b@y.test' else None", ("refuse", "no", 554)),
        ("async def on_rcpt(r):\n    await asyncio.sleep(0)\n    return defer('later')", ("refuse", "later", 451)),
        ("def on_rcpt(r): return reject('x', 200)", ("failed", "", 0)),
        ("def on_rcpt(r): return defer('x', 421)", ("failed", "", 0)),
        ("def on_rcpt(r): return reject(b'octets')", ("failed", "", 0)),
        ("def on_rcpt(r): return Verdict('reject', 'unknown action')", ("failed", "", 0)),
        ("def on_rcpt(r): return Verdict('refuse', 'no code')", ("failed", "", 0)),
        ("def on_rcpt(r): return Verdict('refuse', 'closes', 421)", ("failed", "", 0)),
        ("def on_rcpt(r): return Verdict('refuse', 'text', '550')", ("failed", "", 0)),
        ("def on_rcpt(r): return reject('\\ud800')", ("failed", "", 0)),
        ("def on_rcpt(r): return tag('seen')", ("tag", "seen", 0)),
        ("def on_rcpt(r): return accept()", ("accept", "", 0)),
        ("def on_rcpt(r): return 1/0", ("failed", "", 0)),
        ("def on_rcpt(r): return True", ("failed", "", 0)),
        ("def on_rcpt(r): return discard()", ("failed", "", 0)),
        ("def on_rcpt(r): r.recipient = 'x'", ("failed", "", 0)),
        ("async def on_rcpt(r): await asyncio.sleep(3600)", ("failed", "", 0)),
        ("async def on_rcpt(r): raise SystemExit", ("failed", "", 0)),
        ("def on_rcpt(r): raise SystemExit", ("failed", "", 0)),
        ("async def f(): ...\ndef on_rcpt(r): return f()", ("failed", "", 0)),
        ("import threading\ndef on_rcpt(r): threading.Event().wait()", ("failed", "", 0)),
        (
            "async def on_rcpt(r):\n    try:\n        await asyncio.sleep(3600)\n    except BaseException:\n"
            "        await asyncio.sleep(0.2)",
            ("failed", "", 0),
        ),
    ],
)
def test_hooks(tmp_path: Path, body: str, verdict: tuple[str, str, int] | None) -> None:
    found, notices = run_hook(tmp_path, HEAD + body)
    assert found == verdict
    assert len(notices) == (verdict is not None and verdict[0] == "failed")


def test_a_policy_may_use_modern_python(tmp_path: Path) -> None:
    source = (
        "from __future__ import annotations\nfrom dataclasses import dataclass\n@dataclass\nclass A:\n    x: int = 1\n"
    )
    found, _ = run_hook(tmp_path, source + "def on_rcpt(r): return None")
    assert found is None


def test_the_admin_is_told_where_and_once(tmp_path: Path) -> None:
    _, notices = run_hook(tmp_path, HEAD + "def on_rcpt(r):\n    x = {}\n    return x['missing']\n", times=5)
    (notice,) = notices
    assert f"{tmp_path / 'policy.py'}:5: KeyError: 'missing'" in notice


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("def on_rcpt(r:\n", "policy.py:1"),
        ("import nothing_of_that_name\ndef on_rcpt(r): ...", "policy.py:1: ModuleNotFoundError"),
        ("def on_recipient(r): ...", "on_recipient; hooks are on_connect"),
        ("x = 1", "defines no hook"),
        ("x = 1\ndef on_rcpt(): ...", "policy.py:2: on_rcpt must take one argument"),
        ("def on_rcpt(a, b): ...", "policy.py:1: on_rcpt must take one argument"),
    ],
)
def test_files_that_cannot_be_used(tmp_path: Path, source: str, words: str) -> None:
    path = tmp_path / "policy.py"
    path.write_text(source)
    with pytest.raises(Permanent, match=words.replace(".", r"\.")):
        hooks.load(path)
    with pytest.raises(Permanent, match="no Python file"):
        hooks.load(tmp_path / "missing.py")


def test_tags_are_words() -> None:
    tags: list[str] = []

    def settle() -> None:
        raise AssertionError

    hooks.ruling(hooks.tag("a b\r\nX-Evil: yes"), tags, settle, "mail")
    assert tags == ["abX-Evilyes"]

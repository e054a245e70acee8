"""What was found of a sender, told to others: to reports, rules and hooks, and the queue."""

import asyncio
from pathlib import Path

from posthouse.net.dns import ZoneResolver
from posthouse.store import accounts, report_counts
from posthouse.store.database import Tx
from posthouse.store.envelope import AUTHENTIC, JUNK, UNAUTHENTIC, marks_of
from tests.servers.test_authentication import ZONE, message, run, send, signed
from tests.servers.test_smtp_more import CLEAR
from tests.support.house import House, opened


def test_messages_are_counted_for_reports(tmp_path: Path) -> None:
    async def main() -> None:
        async with asyncio.timeout(60):
            async with opened(tmp_path, resolver=ZoneResolver(ZONE), **CLEAR, authentication={"exempt": []}) as house:
                for sender, author in (("good", "good"), ("other", "good"), ("lax", "lax")):
                    await send(house, f"a@{sender}.test", message(f"a@{author}.test"))
            async with opened(tmp_path, **CLEAR) as house:
                today = house.app.clock.now() // report_counts.DAY
                read = house.database.read
                found = []
                for day in (today, today - 1):
                    found += await read(report_counts.of_period, "dmarc", day, "good.test")
                    # A domain that asks for no reports is not counted.
                    assert not await read(report_counts.of_period, "dmarc", day, "lax.test")
                assert sorted((facts[3], *facts[5:8], count) for facts, count in found) == [
                    (["good.test", "mfrom", "pass"], "pass", "fail", "none", 1),
                    (["other.test", "mfrom", "pass"], "fail", "fail", "reject", 1),
                ]
                waiting = [one for one in await read(report_counts.waiting) if one.kind == "dmarc"]
                assert {one.domain for one in waiting} == {"good.test"}
                assert (sum(one.counted for one in waiting), sum(one.failed for one in waiting)) == (2, 1)

    asyncio.run(main())


def test_of_many_signatures_the_weightiest_are_reported_first(tmp_path: Path) -> None:
    raw = message("a@x.good.test")
    for domain in ("good.test", "bank.test", "fwd.test"):
        raw = signed(raw, domain)
    raw = signed(raw, "odd.test").replace(b"d=odd.test", b"d=nokey.test")

    async def main() -> None:
        async with asyncio.timeout(60):
            async with opened(tmp_path, resolver=ZoneResolver(ZONE), **CLEAR, authentication={"exempt": []}) as house:
                assert (await send(house, "a@other.test", raw)).startswith("250 ")
            async with opened(tmp_path, **CLEAR) as house:
                [period] = await house.database.read(report_counts.waiting)
                [(facts, _)] = await house.database.read(report_counts.of_period, "dmarc", period.day, "good.test")
                assert [(domain, word) for domain, _, word in facts[4]] == [
                    ("good.test", "pass"),  # it is lowest in the header
                    ("fwd.test", "pass"),
                    ("bank.test", "pass"),
                    ("nokey.test", "permerror"),
                ]

    asyncio.run(main())


def test_rules_and_hooks_know_what_was_found(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        assert (await send(house, "a@lax.test", message("a@lax.test"))).startswith("550 5.7.1 SPF")
        assert (await send(house, "a@other.test", message("a@lax.test"))).startswith("250 ")
        assert (await send(house, "a@good.test", message("a@good.test"))).startswith("550 5.7.1 unsigned")
        tags = [one.partition(b"X-Posthouse-Tag: ")[2][:4] for one in await house.inbox("bob")]
        assert tags == [b"odd\r"]

    (tmp_path / "policy.py").write_text(
        "from posthouse.filter.hooks import *\n"
        "def on_message(m):\n"
        "    return reject('unsigned') if (m.spf, m.dkim, m.dmarc) == ('pass', 'none', 'pass') else None\n"
    )
    rules = [
        {"spf": ["fail"], "action": "reject", "text": "SPF"},
        {"dkim": ["none", "fail"], "dmarc": ["fail"], "action": "tag", "tag": "odd"},
    ]
    run(tmp_path, test, filter={"rule": rules, "policy": str(tmp_path / "policy.py")})


def test_what_the_queue_knows_of_the_sender(tmp_path: Path) -> None:
    """An alias leads elsewhere: whether its sender may be told what becomes of it depends on who that is."""

    async def test(house: House) -> None:
        await house.database.write(lambda tx: accounts.add_address(tx, "fw@posthouse.test", "x@far.test"))
        expected = {
            ("a@good.test", "a@good.test"): {AUTHENTIC},
            ("a@soft.test", "a@soft.test"): {UNAUTHENTIC, JUNK},
            ("a@other.test", "a@soft.test"): {AUTHENTIC, JUNK},
            ("a@lax.test", "a@plain.test"): {UNAUTHENTIC},
            ("a@plain.test", "a@plain.test"): set[str](),
        }
        seen = {}
        for sender, author in expected:
            before = await house.database.read(_queued)
            assert (await send(house, sender, message(author), "fw@posthouse.test")).startswith("250 ")
            (new,) = (await house.database.read(_queued)).items() - before.items()
            seen[sender, author] = set(marks_of(new[1]))
        assert seen == expected

    run(tmp_path, test, relay={})


def _queued(tx: Tx) -> dict[int, str]:
    return dict(tx.all("SELECT id, options FROM queue"))

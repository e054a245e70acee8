"""Keys from their announcement to their end, by a clock that a test moves and a DNS that it writes."""

import asyncio
import io
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from posthouse.base import log
from posthouse.base.log import get_logger
from posthouse.base.signing_settings import Signing as Settings
from posthouse.net.dns import ZoneResolver
from posthouse.senderauth import own_keys
from posthouse.senderauth.signing import Signing
from posthouse.servers.rotation import EVERY, FIRST, Rotation
from posthouse.store import accounts, dkim_keys
from posthouse.store.dkim_keys import DkimKey
from posthouse.store.feed import ChangeFeed
from tests.support.clock import START, FakeClock, turns
from tests.support.loop import on_loop
from tests.support.signing import BOTH, new_keys
from tests.support.store import opened

HOUR, DAY = 3600.0, 86_400.0
OURS = "example.org"


class Here:
    """A store with one domain, and somebody who looks after its keys."""

    def __init__(self, database: Any, written: io.BytesIO, **settings: Any) -> None:
        self.database = database
        self.clock = FakeClock()
        self.zone: dict[str, Any] = {}
        self.second: dict[str, Any] = {}  # what another resolver says
        self.written = written
        chosen = Settings.model_validate(settings)
        feed = ChangeFeed()
        database.on_commit(feed.publish)
        logger = get_logger()
        self.signing = Signing(database, feed, self.clock, logger, chosen, "mail.example.org")
        resolvers = [ZoneResolver(self.zone), ZoneResolver(self.second)]
        self.rotation = Rotation(database, self.clock, logger, chosen, resolvers)

    async def later(self, seconds: float) -> None:
        self.clock.move(seconds)
        await self.rotation.round()

    async def keys(self) -> list[DkimKey]:
        found: list[DkimKey] = await self.database.read(dkim_keys.of_domain, OURS)
        return found

    async def states(self) -> list[str]:
        return [f"{key.algorithm[:3]} {key.state}" for key in await self.keys()]

    async def signers(self) -> list[str]:
        return [one.selector for one in (await self.signing.hand(OURS)).signers]

    def publish(self, *keys: DkimKey) -> None:
        for zone in (self.zone, self.second):
            zone.update({key.name: {"TXT": [key.record.encode()]} for key in keys})

    def withdraw(self, *keys: DkimKey) -> None:
        for zone in (self.zone, self.second):
            for key in keys:
                zone.pop(key.name, None)

    def events(self) -> list[str]:
        """What was logged since the last call."""
        lines = [json.loads(line) for line in self.written.getvalue().splitlines()]
        self.written.seek(0)
        self.written.truncate()
        return sorted(line["event"] for line in lines)


@asynccontextmanager
async def here(**settings: Any) -> AsyncIterator[Here]:
    written = io.BytesIO()
    log.configure("json", "info", written)
    async with opened() as database:
        await database.write(accounts.add_domain, OURS, START)
        yield Here(database, written, **settings)


@on_loop
async def test_the_whole_life_of_keys() -> None:
    async with here(rotate_days=100) as one:
        # A domain of a folder from before there were keys gets some; nobody can find them yet.
        await one.rotation.round()
        assert await one.states() == ["rsa announced", "ed2 announced"]
        assert await one.signers() == []
        assert (await one.signing.hand(OURS)).why == "the DNS has no key of example.org"
        assert one.events() == ["dkim.announced"] * 2
        first = await one.keys()

        # One resolver is not everybody.
        one.zone.update({key.name: {"TXT": [key.record.encode()]} for key in first})
        await one.later(HOUR)
        assert await one.signers() == []
        one.publish(*first)
        await one.later(HOUR)
        assert await one.states() == ["rsa used", "ed2 used"]
        assert await one.signers() == [key.selector for key in first]
        assert one.events() == ["dkim.used"] * 2

        # Old ones are replaced: announced, published, known for an hour, used.
        await one.later(99 * DAY)
        assert one.events() == []
        await one.later(DAY)
        assert one.events() == ["dkim.announced"] * 2
        second = [key for key in await one.keys() if key.state == "announced"]
        await one.later(DAY)
        assert await one.signers() == [key.selector for key in first]
        one.publish(*second)
        await one.later(HOUR)
        assert await one.signers() == [key.selector for key in first]
        await one.later(HOUR)
        assert await one.signers() == [key.selector for key in second]
        assert one.events() == ["dkim.retiring"] * 2 + ["dkim.used"] * 2

        # The first ones stay published for a week, and are remembered until they are withdrawn.
        await one.later(6 * DAY)
        assert [bool(key.private) for key in await one.keys() if key.state == "retiring"] == [True, True]
        await one.later(2 * DAY)
        assert [bool(key.private) for key in await one.keys() if key.state == "retiring"] == [False, False]
        one.withdraw(*first)
        await one.later(HOUR)
        assert await one.states() == ["rsa used", "ed2 used"]
        assert one.events() == ["dkim.forgotten"] * 2


@on_loop
async def test_a_record_that_goes_and_comes_back() -> None:
    async with here() as one:
        await one.rotation.round()
        keys = await one.keys()
        one.publish(*keys)
        await one.later(HOUR)
        one.events()
        rsa, ed = keys
        one.withdraw(rsa)
        one.zone[ed.name] = None  # the DNS is down: what it said before holds
        await one.later(HOUR)
        assert await one.signers() == [ed.selector]
        assert one.events() == ["dkim.missing"]
        one.publish(*keys)
        await one.later(HOUR)
        assert await one.signers() == [rsa.selector, ed.selector]
        assert one.events() == ["dkim.found"]


@on_loop
async def test_a_new_key_that_fails_leaves_the_old_one_at_work() -> None:
    """The old one signs while it is published, even if it was replaced."""
    async with here() as one:
        await one.rotation.round()
        first = await one.keys()
        one.publish(*first)
        await one.later(HOUR)
        await one.database.write(dkim_keys.add, OURS, new_keys(), one.clock.now())
        second = [key for key in await one.keys() if key.state == "announced"]
        one.publish(*second)
        await one.later(HOUR)
        await one.later(HOUR)
        assert await one.signers() == [key.selector for key in second]
        one.withdraw(*second)
        await one.later(HOUR)
        assert await one.signers() == [key.selector for key in first]


@on_loop
async def test_settings() -> None:
    async with here(algorithms=["ed25519-sha256"], rotate_days=0) as one:
        await one.rotation.round()
        assert await one.states() == ["ed2 announced"]
        one.publish(*await one.keys())
        await one.later(HOUR)
        await one.later(5000 * DAY)
        assert await one.states() == ["ed2 used"]
    async with here(sign="always") as one:
        await one.rotation.round()
        assert len(await one.signers()) == 2
        await one.rotation.round()
        assert await one.states() == ["rsa used", "ed2 used"]


@on_loop
async def test_it_looks_every_hour_and_when_asked() -> None:
    async with here() as one:
        rounds = asyncio.Queue[int]()
        failed: list[bool] = []

        async def round_() -> None:
            rounds.put_nowait(one.clock.now() - START)
            if one.clock.now() > START + FIRST * 1e6 and not failed:
                failed.append(True)
                raise OSError("the disk is gone")  # the next one comes all the same

        one.rotation.round = round_  # type: ignore[method-assign]
        one.rotation.start()
        try:
            await turns(20)
            await one.clock.advance(FIRST)
            assert await rounds.get() / 1e6 == FIRST
            await turns(20)
            await one.clock.advance(EVERY)
            assert await rounds.get() / 1e6 == FIRST + EVERY
            one.rotation.wake()
            assert await rounds.get() / 1e6 == FIRST + EVERY
            assert one.events() == ["dkim.failed"]
        finally:
            await one.rotation.close()


RSA, ED = new_keys()
NAME = "sel._domainkey.example.org"


@pytest.mark.parametrize(
    ("records", "present", "says"),
    [
        ([RSA.record], True, ""),
        ([RSA.record.replace("v=DKIM1; k=rsa; ", "")], True, ""),
        ([RSA.record.replace("p=", "t=s; p=") + " "], True, ""),
        ([RSA.record[:100] + "  " + RSA.record[100:]], True, ""),  # strings that were joined with blanks
        ([RSA.record, "v=spf1 -all"], True, ""),
        ([], False, "no TXT record"),
        ("none", False, "no such name"),
        ([ED.record], False, "another key"),
        ([RSA.record.partition(" p=")[0] + " p="], False, "revoked"),
        ([RSA.record[:255]], False, ""),  # half of it
        ([RSA.record, ED.record], False, "more than one"),
        ([RSA.record] * 20, False, "20 TXT records"),
        ([RSA.record.replace("p=", "h=sha1; p=")], False, "SHA-256"),
        (None, None, "no answer"),
    ],
)
def test_what_the_dns_may_say(records: Any, present: bool | None, says: str) -> None:
    zone = {} if records == "none" else {NAME: None if records is None else {"TXT": [r.encode() for r in records]}}
    look = asyncio.run(own_keys.look([ZoneResolver(zone)], NAME, RSA.record))
    assert look.present is present
    assert says in look.trouble
    assert (RSA.algorithm, ED.algorithm) == BOTH


@on_loop
async def test_keys_that_somebody_announced_meanwhile_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    """Making keys takes its time, and who asked for some by hand is told to publish those."""
    async with here() as one:
        by_hand: list[DkimKey] = []
        work = one.database.work

        async def slowly(*args: Any) -> Any:
            made = await work(*args)
            by_hand.extend(await one.database.write(dkim_keys.add, OURS, new_keys(), one.clock.now()))
            return made

        monkeypatch.setattr(one.database, "work", slowly)
        await one.rotation.round()
        assert by_hand
        assert await one.keys() == by_hand


@on_loop
async def test_a_domain_that_went_meanwhile_gets_no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    async with here() as one:
        work = one.database.work

        async def slowly(*args: Any) -> Any:
            made = await work(*args)
            await one.database.write(accounts.remove_domain, OURS)
            return made

        monkeypatch.setattr(one.database, "work", slowly)
        await one.rotation.round()
        assert await one.keys() == []

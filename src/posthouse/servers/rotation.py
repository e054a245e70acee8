"""Keys that sign our mail, from the announcement to the end: made, looked for in the DNS, used, replaced, forgotten.

A round, every hour and when somebody asks: domains of ours without keys get some; the DNS is asked for the record of
every key. A new key is used once every resolver that is asked knows it, and for one that takes the place of another
the DNS must have said so for an hour: what serves a zone does not change everywhere at once. The one before is then
retiring: it does not sign, its record stays published for a week, as mail with its signature is on the way that long.
After that its private key is erased, and once the DNS does not have the record any more, it is forgotten.

A key in use whose record is gone does not sign until it is back. A DNS that does not answer changes nothing. What
fails is logged and done in the next round.
"""

import asyncio
import contextlib
from collections.abc import Sequence
from itertools import groupby

from posthouse.base.clock import Clock, wait_for
from posthouse.base.log import Logger
from posthouse.base.signing_settings import Signing as Settings
from posthouse.net.dns import Resolver
from posthouse.senderauth import own_keys
from posthouse.store import accounts, dkim_keys
from posthouse.store.database import Database, Tx
from posthouse.store.dkim_keys import DkimKey

SECOND = 1_000_000
DAY = 86_400 * SECOND
FIRST = 60.0  # seconds after the start: a server that is opened for a moment makes no keys
EVERY = 3600.0  # seconds between rounds
SETTLED = 3600 * SECOND - 60 * SECOND  # so long a record is known before it takes the place of another
KEPT = 7 * DAY  # mail is tried for five days at the most by default, and read some time after it came
AT_ONCE = 20  # questions to the DNS


class Rotation:
    """The background task."""

    def __init__(
        self, database: Database, clock: Clock, log: Logger, settings: Settings, resolvers: Sequence[Resolver]
    ) -> None:
        self._database = database
        self._clock = clock
        self._log = log
        self._settings = settings
        self._resolvers = resolvers
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._places = asyncio.Semaphore(AT_ONCE)

    def start(self) -> None:
        """Begin the rounds."""
        if self._settings.sign != "never":
            self._task = asyncio.get_running_loop().create_task(self._run())

    def wake(self) -> None:
        """Look now: keys were made, or records published."""
        self._wake.set()

    async def _run(self) -> None:
        await self._pause(FIRST)
        while True:
            try:
                await self.round()
            except Exception as error:
                self._log.error("dkim.failed", what="looking after the keys", error=repr(error))
            await self._pause(EVERY)

    async def _pause(self, seconds: float) -> None:
        await wait_for(self._wake, self._clock, seconds)
        self._wake.clear()

    async def round(self) -> None:
        """Look after all keys once."""
        domains = [name for name, _, _ in await self._database.read(accounts.list_domains)]
        keys = await self._looked_for(await self._database.read(dkim_keys.all_keys))
        by_domain = {domain: list(some) for domain, some in groupby(keys, key=lambda key: key.domain)}
        for domain in domains:
            await self._look_after(by_domain.get(domain, []))
            await self._announce(domain, by_domain.get(domain, []))

    async def _looked_for(self, keys: list[DkimKey]) -> list[DkimKey]:
        """The keys as they are once the DNS was asked for each."""

        async def ask(key: DkimKey) -> own_keys.Look:
            async with self._places:
                return await own_keys.look(self._resolvers, key.name, key.record)

        looks = await asyncio.gather(*(ask(key) for key in keys))
        now = self._clock.now()

        def note(tx: Tx) -> list[DkimKey]:
            for key, look in zip(keys, looks, strict=True):
                dkim_keys.checked(tx, key, look.present, look.trouble, now)
            return dkim_keys.all_keys(tx)

        found = await self._database.write(note) if keys else []
        for key, look in zip(keys, looks, strict=True):
            if key.state == "used" and look.present is not None and look.present != bool(key.seen):
                if look.present:
                    self._log.info("dkim.found", domain=key.domain, selector=key.selector)
                else:
                    self._log.warning("dkim.missing", domain=key.domain, selector=key.selector, why=look.trouble)
        return found

    async def _look_after(self, keys: list[DkimKey]) -> None:
        now, always = self._clock.now(), self._settings.sign == "always"
        for key in keys:
            if key.state == "announced":
                rivals = [one for one in keys if one.algorithm == key.algorithm and one.state == "used" and one.seen]
                if always or (key.seen and (not rivals or now - key.seen >= SETTLED)):
                    await self._use(key)
            elif key.state == "retiring" and now - key.changed >= KEPT:
                if key.private:
                    await self._database.write(dkim_keys.wipe, key.id)
                if key.checked >= key.changed + KEPT and not key.seen:
                    await self._database.write(dkim_keys.forget, key.id)
                    self._log.info("dkim.forgotten", domain=key.domain, selector=key.selector)

    async def _use(self, key: DkimKey) -> None:
        now = self._clock.now()
        older = await self._database.write(dkim_keys.use, key.id, now)
        self._log.info("dkim.used", domain=key.domain, selector=key.selector, algorithm=key.algorithm)
        for one in older:
            self._log.info("dkim.retiring", domain=one.domain, selector=one.selector, until=date(now + KEPT))

    async def _announce(self, domain: str, keys: list[DkimKey]) -> None:
        """New keys for a domain: those it never had, and those that replace old ones."""
        now = self._clock.now()
        wanted = self._wanted(keys, now)
        if not wanted:
            return
        made = await self._database.work(own_keys.make, wanted, now)

        def add(tx: Tx) -> list[DkimKey]:
            # While these were made, somebody else may have announced some, and been told to publish them.
            wanted = self._wanted(dkim_keys.of_domain(tx, domain), now) if accounts.is_ours(tx, domain) else []
            still = [key for key in made if key.algorithm in wanted]
            return dkim_keys.add(tx, domain, still, now) if still else []

        for key in await self._database.write(add):
            self._log.info("dkim.announced", domain=domain, selector=key.selector, algorithm=key.algorithm)

    def _wanted(self, keys: Sequence[DkimKey], now: int) -> list[str]:
        """The algorithms of which a domain with these keys needs a new one."""
        days = self._settings.rotate_days
        wanted: list[str] = []
        for algorithm in self._settings.algorithms:
            some = [key for key in keys if key.algorithm == algorithm and key.state != "retiring"]
            old = [key for key in some if key.state == "used" and days and now - key.changed >= days * DAY]
            if not some or (old and all(key.state == "used" for key in some)):
                wanted.append(algorithm)
        return wanted

    async def close(self) -> None:
        """End the rounds."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task


def date(at: int) -> str:
    """A day in UTC, as people write it in lists: 2026-11-28."""
    from datetime import UTC, datetime

    return datetime.fromtimestamp(at // SECOND, UTC).strftime("%Y-%m-%d")

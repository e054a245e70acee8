"""What the limits have counted, on its way into the database and back at the start.

Gathered for some seconds and written in batches: nobody waits for it, and a crash forgets those seconds. Senders that
are far from every limit are not written (`limits.py`). What cannot be written is tried again with the next batch.
"""

from collections.abc import Mapping

from posthouse.base.clock import Clock
from posthouse.base.log import Logger
from posthouse.base.soon import Soon
from posthouse.filter.limits import DAY, MOST, Limiter
from posthouse.store import sending
from posthouse.store.database import Database

EVERY = 10.0  # seconds
BATCH = 500  # senders in one transaction
SECOND = 1_000_000


class Counts:
    """Keeps the counts of some limiters, by their kind."""

    def __init__(self, database: Database, clock: Clock, log: Logger, limiters: Mapping[str, Limiter]) -> None:
        self._database = database
        self._clock = clock
        self._log = log
        self._limiters = limiters
        self._soon = Soon(clock, EVERY, self.flush)

    async def load(self) -> None:
        """Go on where it was stopped."""
        now = self._clock.now() // SECOND
        for kind, limiter in self._limiters.items():
            limiter.restore(await self._database.read(sending.since, kind, now - DAY, MOST), now)

    def note(self) -> None:
        """Something was counted."""
        self._soon.note()

    async def flush(self) -> None:
        """Write what has changed."""
        now = self._clock.now() // SECOND
        for kind, limiter in self._limiters.items():
            while changed := limiter.changed(BATCH):
                try:
                    await self._database.write(
                        sending.keep,
                        [(kind, sender, counts, now) for sender, counts in changed if counts],
                        [(kind, sender) for sender, counts in changed if not counts],
                    )
                except Exception as error:
                    limiter.change(sender for sender, _ in changed)
                    self._log.error("server.failed", what="keeping counts of the limits", error=repr(error))
                    break

    async def tidy(self) -> None:
        """Forget what is old."""
        while await self._database.write(sending.expire, self._clock.now() // SECOND - DAY):
            pass

    async def close(self) -> None:
        """Write what waits, and stop."""
        await self._soon.close()

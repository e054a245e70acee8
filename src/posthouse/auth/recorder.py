"""Login attempts on their way into the database: gathered for a few seconds, written in one transaction.

A crash loses those of the last seconds, which the log has as well. What cannot be written is dropped with a line in
the log: no login waits for its record.
"""

from posthouse.base.clock import Clock
from posthouse.base.log import Logger
from posthouse.base.soon import Soon
from posthouse.store import attempts
from posthouse.store.attempts import Attempt
from posthouse.store.database import Database

EVERY = 2.0  # seconds
MOST = 10_000  # attempts that wait to be written


class Recorder:
    """Gathers attempts."""

    def __init__(self, database: Database, clock: Clock, log: Logger) -> None:
        self._database = database
        self._clock = clock
        self._log = log
        self._attempts: list[Attempt] = []
        self._used: dict[int, tuple[int, str]] = {}
        self._soon = Soon(clock, EVERY, self.flush)

    def note(self, attempt: Attempt, credential_id: int = 0) -> None:
        """Keep an attempt, and which credential let somebody in."""
        if len(self._attempts) < MOST:
            self._attempts.append(attempt)
        if credential_id:
            self._used[credential_id] = (attempt.at, attempt.ip)
        self._soon.note()

    async def flush(self) -> None:
        """Write what waits."""
        rows, self._attempts = self._attempts, []
        used, self._used = self._used, {}
        if not rows:
            return
        try:
            await self._database.write(attempts.add, rows, [(at, ip, id_) for id_, (at, ip) in used.items()])
        except Exception as error:
            self._log.error("server.failed", what="recording logins", error=repr(error))

    async def close(self) -> None:
        """Write what waits, and stop."""
        await self._soon.close()

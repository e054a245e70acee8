"""What is tidied beside the mail: blobs nobody needs, files a crash left, traces that are old, pauses that are over.

In small steps, so that mail never waits for it. A step that fails is logged and tried again next time.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence

from posthouse.base.clock import Clock
from posthouse.base.log import Logger
from posthouse.store import events, pauses
from posthouse.store.blobs import sweep
from posthouse.store.database import Database

EVERY = 60.0  # seconds between two rounds
SWEEP_EVERY = 24 * 60  # rounds between two looks for files without a row


class Housekeeping:
    """The background task."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        log: Logger,
        started: float,
        traces_kept: float,
        also: Sequence[Callable[[], Awaitable[None]]] = (),
    ) -> None:
        self._also = also  # what others want tidied
        self._database = database
        self._clock = clock
        self._log = log
        self._started = started
        self._traces_kept = int(traces_kept * 1_000_000)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin the rounds."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        number = 0
        while True:
            try:
                await self.round(files_too=number % SWEEP_EVERY == 0)
            except Exception as error:
                self._log.error("server.failed", what="housekeeping", error=repr(error))
            number += 1
            await self._clock.sleep(EVERY)

    async def round(self, files_too: bool = False) -> None:
        """Tidy once."""
        database = self._database
        gone = 1
        while gone:
            gone, names = await database.write(sweep.collect)
            await database.work(sweep.unlink, database.files, names)
        if files_too:
            # Only files from before this process began: nothing younger can be a crash's.
            names = await database.read(sweep.orphans, self._started)
            await database.work(sweep.unlink, database.files, names)
            for tidy in self._also:
                await tidy()
        await database.write(pauses.expire, self._clock.now())
        before = (self._clock.now() - self._traces_kept) // 1000 << 20
        while await database.write(events.prune, before):
            pass

    async def close(self) -> None:
        """End the rounds."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

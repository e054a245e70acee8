"""Keeps the search index up with the mail, in the background and never in its way.

Messages are read in the order of their ids, in slices of some 20 ms that take turns with the searches; what they say
goes into the index batch by batch, on its own thread. Where many wait, a process of its own does it
(`index_helper.py`); without one, and while much mail comes in, it waits, and then goes on with little. What is not in
the index yet, searches read. When there is nothing to add, what is of emails that are gone is taken out, slice by
slice.

A failure is logged, and tried again later; the index is a help, never a condition.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from posthouse.base.clock import Clock
from posthouse.base.log import Logger
from posthouse.servers.admin import Action
from posthouse.store.database import Database
from posthouse.store.index.documents import Documents
from posthouse.store.index.file import Index
from posthouse.store.index.gather import Gathered, gather
from posthouse.store.index.rows import Mark, Said
from posthouse.store.model import Change, EntriesAdded

SETTLE = 1.0  # seconds that new mail waits for more: few large writes cost less than many small ones
BATCH = 500  # messages in one write
BATCH_TEXT = 2 * 1024 * 1024  # characters in one write
PAUSE = 0.002  # seconds between two slices
BUSY = 20  # messages that came in within a second, from which on it keeps out of the way
YIELD = 0.25  # seconds between two looks whether it is still busy
PATIENCE = 10.0  # seconds that it waits before it does something all the same,
AT_A_TIME = 1.0  # then a little each time so many have passed:
SMALL_BATCH = 50  # messages in one write
AGAIN = 60.0  # seconds after a failure, and between two slices of sweeping
MANY = 300  # messages that wait, from which on a helper is worth its start
SWEPT = 5000  # rows looked at in a slice


class Indexing:
    """The background task."""

    def __init__(
        self,
        database: Database,
        index: Index,
        clock: Clock,
        log: Logger,
        turn: asyncio.Semaphore | None = None,
        documents: Documents | None = None,
        helper: Callable[[], Awaitable[None]] | None = None,
        pause: float = PAUSE,
    ) -> None:
        self._database = database
        self._index = index
        self._clock = clock
        self._log = log
        self._turn = turn or asyncio.Semaphore()
        self._documents = documents
        self._helper = helper
        self._helping: asyncio.Future[None] | None = None
        self._pause = pause
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._patience = PATIENCE
        self._sweep_at = 0.0
        self._swept = 0  # the last row that was looked at
        self._second, self._came, self._before = 0.0, 0, 0  # since when it is counted, how many came, and before that
        database.on_commit(self._committed)

    def start(self) -> None:
        """Begin."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    def actions(self) -> dict[str, Action]:
        """What the admin socket answers about the index."""

        async def status() -> dict[str, object]:
            return (await self._index.status())._asdict()

        async def rebuild() -> None:
            if (helping := self._helping) is not None:
                helping.cancel()
                await asyncio.wait((helping,))
            await self._index.reset()
            self._wake.set()

        return {"index": Action(status), "index.rebuild": Action(rebuild)}

    def _committed(self, changes: list[Change]) -> None:
        came = sum(len(change.uids) for change in changes if isinstance(change, EntriesAdded))
        if came:
            now = self._clock.monotonic()
            if now - self._second >= 1.0:
                self._before = self._came if now - self._second < 2.0 else 0
                self._second, self._came = now, 0
            self._came += came
            self._wake.set()

    @property
    def busy(self) -> bool:
        """Does much mail come in?"""
        return self._clock.monotonic() - self._second < 1.0 and max(self._came, self._before) >= BUSY

    async def _run(self) -> None:
        while True:
            try:
                self._wake.clear()
                await self.catch_up()
                if self._documents is not None:
                    await self._database.work(self._documents.rest)
                await self._sweep()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(AGAIN):
                        await self._wake.wait()
                await self._clock.sleep(SETTLE)
            except Exception as error:
                self._log.error("server.failed", what="search index", error=repr(error))
                await self._clock.sleep(AGAIN)

    async def catch_up(self, told: Callable[[int], None] | None = None) -> None:
        """Add all that is not in the index yet; `told` hears of the last email after each write. While messages are
        written, the next ones are read."""
        mark = await self._index.mark()
        helpful, more = self._helper is not None, True
        adding: asyncio.Task[bool] | None = None  # of what was read before, up to `mark`
        while more or adding is not None:
            batch = None
            if more and (adding is None or not self.busy):
                if helpful and adding is None and await self._index.waiting(mark) >= MANY:
                    reached = await self._helped()
                    helpful, mark = reached != mark, reached
                await self._make_way()
                batch = await self._batch(mark)
                more = batch.more
            if adding is not None:
                added, adding = await adding, None
                if not added:  # another process was here, and what was read after it is of no use
                    mark, more = await self._index.mark(), True
                    continue
                if told is not None:
                    told(mark.email_id)
            if batch is not None and batch.to != mark:
                adding = asyncio.create_task(self._index.add(batch.said, mark.email_id, batch.to))
                mark = batch.to

    async def _helped(self) -> Mark:
        """Have the helper add what waits; how far the index is then."""
        assert self._helper is not None
        self._helping = asyncio.ensure_future(self._helper())
        try:
            await asyncio.wait((self._helping,))
        finally:  # this task may end, or the index be made anew
            self._helping.cancel()
            with contextlib.suppress(asyncio.CancelledError, OSError):
                await self._helping
            self._helping = None
        return await self._index.mark()

    async def _make_way(self) -> None:
        left = self._patience
        while self.busy and left > 0:
            await self._clock.sleep(YIELD)
            left -= YIELD
        self._patience = AT_A_TIME if self.busy else PATIENCE

    async def _batch(self, since: Mark) -> Gathered:
        """What is to be written in one go."""
        said: list[Said] = []
        mark, more, text = since, True, 0
        while more and len(said) < (SMALL_BATCH if self.busy else BATCH) and text < BATCH_TEXT:
            async with self._turn:
                found, mark, more = await self._database.read(gather, mark, self._documents)
            said += found
            text += sum(one.size for one in found)
            await self._clock.sleep(self._pause)
        return Gathered(said, mark, more and mark != since)

    async def _sweep(self) -> None:
        now = self._clock.monotonic()
        if now < self._sweep_at:
            return
        self._sweep_at = now + AGAIN
        self._swept = await self._index.sweep(self._swept, SWEPT)

    async def close(self) -> None:
        """End."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        if self._documents is not None:
            await self._database.work(self._documents.rest)

"""Work that is gathered for some seconds and then done at once: what nobody waits for, written in batches.

`note` says that there is something; `flush`, the work itself, deals with its own failures. A crash loses what waits.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from posthouse.base.clock import Clock


class Soon:
    """Calls `flush` so many seconds after the first of some notes, and once more at the end."""

    def __init__(self, clock: Clock, seconds: float, flush: Callable[[], Awaitable[None]]) -> None:
        self._clock = clock
        self._seconds = seconds
        self._flush = flush
        self._task: asyncio.Task[None] | None = None

    def note(self) -> None:
        """There is something to be done."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._wait())

    async def _wait(self) -> None:
        await self._clock.sleep(self._seconds)
        self._task = None
        await self._flush()

    async def close(self) -> None:
        """Do what waits, and stop."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None
        await self._flush()

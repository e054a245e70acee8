"""The time, handed in. Nothing outside this file asks the system for the time of day.

Times of day are integers: microseconds since 1970-01-01 UTC. Spans are float seconds.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Protocol


class Clock(Protocol):
    """What the rest of the program knows of time."""

    def now(self) -> int:
        """Time of day in microseconds since 1970-01-01 UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds on a clock that never goes back; only differences mean anything."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds`."""
        ...


class SystemClock:
    """The real time."""

    def now(self) -> int:
        return time.time_ns() // 1000

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


async def wait_for(event: asyncio.Event, clock: Clock, seconds: float, begun: Callable[[], None] | None = None) -> None:
    """Return when the event is set, at most `seconds` later. `begun` is called once both are waited for."""
    loop = asyncio.get_running_loop()
    waiters = {loop.create_task(event.wait()), loop.create_task(clock.sleep(seconds))}
    try:
        if begun is not None:
            await asyncio.sleep(0)  # let them begin
            begun()
        await asyncio.wait(waiters, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for waiter in waiters:
            waiter.cancel()
        await asyncio.gather(*waiters, return_exceptions=True)

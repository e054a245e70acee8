"""A clock that stands still until a test moves it.

`sleep` returns when `advance` has passed its end. `advance` wakes the sleepers one by one in the
order of their ends, with `now` standing at each end in turn, so that five days of retries happen in
the order they would. Between two sleepers the loop gets some turns; work that needs a thread or a
socket must be waited for by the test itself.
"""

import asyncio
import heapq
import itertools

START = 1_790_000_000_000_000  # a day in 2026, in microseconds


class FakeClock:
    """Implements `posthouse.base.clock.Clock`."""

    def __init__(self, now: int = START) -> None:
        self._now = now
        self._start = now
        self._order = itertools.count()
        self._sleepers: list[tuple[int, int, asyncio.Future[None]]] = []

    def now(self) -> int:
        return self._now

    def monotonic(self) -> float:
        return (self._now - self._start) / 1e6

    async def sleep(self, seconds: float) -> None:
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._now + int(seconds * 1e6), next(self._order), woken))
        await woken

    def next_end(self) -> int | None:
        """When the first sleeper wants to wake, or None if nobody sleeps."""
        while self._sleepers and self._sleepers[0][2].done():
            heapq.heappop(self._sleepers)
        return self._sleepers[0][0] if self._sleepers else None

    def move(self, seconds: float) -> None:
        """Let time pass without waking anyone: for code that only looks at the clock."""
        self._now += round(seconds * 1e6)

    async def advance(self, seconds: float) -> None:
        """Let time pass, waking each sleeper at its time."""
        end = self._now + round(seconds * 1e6)
        while (due := self.next_end()) is not None and due <= end:
            _, _, woken = heapq.heappop(self._sleepers)
            self._now = max(self._now, due)
            woken.set_result(None)
            await turns()
        self._now = max(self._now, end)
        await turns()


async def turns(count: int = 5) -> None:
    """Let everything that is ready on the loop run."""
    for _ in range(count):
        await asyncio.sleep(0)

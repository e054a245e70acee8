"""How long somebody must wait after wrong passwords: longer each time, by account and network, and it expires.

Kept in memory and bounded: who forgets a password is not locked out for ever, and an attacker gains a few tries by a
restart. Trusted networks never wait; that is for the caller.
"""

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import AsyncIterator
from typing import NamedTuple

from posthouse.base.networks import site

FAILURES, FAILURES_KEPT = 10_000, 900.0
FREE_TRIES = 5  # wrong passwords before waiting begins
FIRST_WAIT, LONGEST_WAIT = 1.0, 60.0

Place = tuple[int | str, str]  # account or unknown name, network


class _Failures(NamedTuple):
    tries: int
    until: float
    last: float


class Throttle:
    """Counts failures."""

    def __init__(self) -> None:
        self._failures: OrderedDict[Place, _Failures] = OrderedDict()
        self._turns: dict[Place, tuple[asyncio.Lock, int]] = {}  # and how many want it

    @contextlib.asynccontextmanager
    async def turn(self, at: Place) -> AsyncIterator[None]:
        """One at a time for a place."""
        lock, wanted = self._turns.get(at, (asyncio.Lock(), 0))
        self._turns[at] = (lock, wanted + 1)
        try:
            async with lock:
                yield
        finally:
            lock, wanted = self._turns[at]
            if wanted == 1:
                del self._turns[at]
            else:
                self._turns[at] = (lock, wanted - 1)

    @staticmethod
    def place(who: int | str, ip: str) -> Place:
        """What is counted as one: an account (or a name that is nobody's) from one network."""
        return who, site(ip)

    def must_wait(self, at: Place, now: float) -> bool:
        """Whether it is too early for another try."""
        failures = self._failures.get(at)
        return failures is not None and failures.until > now

    def failed(self, at: Place, now: float) -> None:
        """One more."""
        old = self._failures.pop(at, None)
        count = old.tries + 1 if old is not None and now - old.last < FAILURES_KEPT else 1
        wait = min(FIRST_WAIT * 2 ** min(count - FREE_TRIES, 20), LONGEST_WAIT) if count >= FREE_TRIES else 0.0
        self._failures[at] = _Failures(count, now + wait, now)
        while len(self._failures) > FAILURES:
            self._failures.popitem(last=False)

    def succeeded(self, at: Place) -> None:
        """Forgiven."""
        self._failures.pop(at, None)

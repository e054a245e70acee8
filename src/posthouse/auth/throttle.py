"""How long somebody must wait after wrong passwords: longer each time, and it expires.

Failures are counted for an account from a network, and for a network alone (with far more of them free), so that one
password tried on every account is slowed as well. Names that are nobody's have a table of their own. All is kept in
memory and bounded: what makes somebody wait is not pushed out by what does not, nor while it still makes them wait; a
restart gives an attacker a few tries. Trusted networks never wait and are not counted; that is for the caller.
"""

import asyncio
import contextlib
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from itertools import islice
from typing import NamedTuple

from posthouse.base.networks import site

FAILURES, FAILURES_KEPT = 10_000, 900.0
FREE_TRIES = 5  # wrong passwords before waiting begins
NETWORK_FREE, NETWORK_WINDOW = 50, 600.0  # the same for a network, whatever the account; seconds
FIRST_WAIT, LONGEST_WAIT = 1.0, 60.0
TOKENS = 4  # tokens of a network that are looked at side by side: their issuer is asked about each
_LOOKED_AT = 64  # entries looked at for one that may go

Place = tuple[int | str, str]  # account or unknown name, network


class _Failures(NamedTuple):
    tries: int
    until: float
    since: float
    last: float


class _Table:
    """Failures by key; those with tries to spare are kept apart from those that have used them up."""

    def __init__(self, free: int, kept: float, window: float) -> None:
        self._free = free
        self._kept = kept  # seconds after the last failure
        self._window = window  # seconds in which the free tries are counted
        self._light: OrderedDict[object, _Failures] = OrderedDict()
        self._heavy: OrderedDict[object, _Failures] = OrderedDict()

    def get(self, key: object, now: float) -> _Failures | None:
        found = self._heavy.get(key) or self._light.get(key)
        if found is None or now - found.last >= self._kept:
            return None
        if found.tries < self._free and now - found.since >= self._window:
            return None
        return found

    def tries(self, key: object, now: float) -> int:
        found = self.get(key, now)
        return found.tries if found is not None else 0

    def failed(self, key: object, now: float) -> None:
        old = self.get(key, now)
        self.forget(key)
        tries = old.tries + 1 if old is not None else 1
        wait = min(FIRST_WAIT * 2 ** min(tries - self._free, 20), LONGEST_WAIT) if tries >= self._free else 0.0
        table = self._heavy if tries >= self._free else self._light
        if len(table) >= FAILURES:
            # In the order of the last failure. If all of them still make somebody wait, the new one is not kept.
            gone = next((one for one, its in islice(table.items(), _LOOKED_AT) if its.until <= now), None)
            if gone is None:
                return
            del table[gone]
        table[key] = _Failures(tries, now + wait, old.since if old is not None else now, now)

    def forget(self, key: object) -> None:
        self._light.pop(key, None)
        self._heavy.pop(key, None)


class _Crowd:
    """Those of one network who try just now."""

    def __init__(self) -> None:
        self.here = self.judged = 0  # all of them, and those whose try is looked at
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def wait(self) -> None:
        """Until somebody else is done."""
        woken = asyncio.get_running_loop().create_future()
        self._waiting.append(woken)
        try:
            await woken
        except asyncio.CancelledError:
            if not woken.cancelled():  # it was woken for nothing
                self.wake()
            raise

    def wake(self) -> None:
        """Let one look again whether it is its turn."""
        while self._waiting:
            woken = self._waiting.popleft()
            if not woken.done():
                woken.set_result(None)
                return


class Throttle:
    """Counts failures."""

    def __init__(self) -> None:
        self._accounts = _Table(FREE_TRIES, FAILURES_KEPT, float("inf"))
        self._unknown = _Table(FREE_TRIES, FAILURES_KEPT, float("inf"))
        self._networks = _Table(NETWORK_FREE, NETWORK_WINDOW, NETWORK_WINDOW)
        self._turns: dict[Place, tuple[asyncio.Semaphore, int]] = {}  # and how many want it
        self._crowds: dict[str, _Crowd] = {}  # by network

    @contextlib.asynccontextmanager
    async def turn(self, at: Place, now: float, *, counted: bool = True) -> AsyncIterator[None]:
        """One at a time for a place; and for a network no more than it has tries left, as all that are looked at just
        now may be wrong: a password tried on many accounts at once shall be no better than one after the other."""
        async with self._one(at):
            if not counted:
                yield
                return
            network = at[1]
            crowd = self._crowds.setdefault(network, _Crowd())
            crowd.here += 1
            try:
                while crowd.judged and self._networks.tries(network, now) + crowd.judged >= NETWORK_FREE:
                    await crowd.wait()
                crowd.judged += 1
                try:
                    yield
                finally:
                    crowd.judged -= 1
                    crowd.wake()
            finally:
                crowd.here -= 1
                if not crowd.here:
                    del self._crowds[network]

    def examining(self, ip: str) -> contextlib.AbstractAsyncContextManager[None]:
        """Few tokens of a network at a time, or many bad ones would be looked at before the first is counted."""
        return self._one(("\0tokens", site(ip)), TOKENS)

    @contextlib.asynccontextmanager
    async def _one(self, at: Place, many: int = 1) -> AsyncIterator[None]:
        lock, wanted = self._turns.get(at, (asyncio.Semaphore(many), 0))
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

    def _of(self, at: Place) -> _Table:
        return self._accounts if isinstance(at[0], int) else self._unknown

    def must_wait(self, at: Place, now: float) -> bool:
        """Whether it is too early for another try."""
        found = (self._of(at).get(at, now), self._networks.get(at[1], now))
        return any(one is not None and one.until > now for one in found)

    def failed(self, at: Place, now: float) -> None:
        """One more."""
        self._of(at).failed(at, now)
        self._networks.failed(at[1], now)

    def succeeded(self, at: Place) -> None:
        """Forgiven, but not the network: whoever has an account could go on for ever."""
        self._of(at).forget(at)

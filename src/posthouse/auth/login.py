"""Logins: is this name and password right, and is it this client's turn to ask?

Hashing runs on few threads of its own, so that a flood of logins cannot eat memory or stop the mail. A
right password is remembered for minutes as a keyed hash, so that the tenth connection of a mail client costs
nothing; a change of any credential drops all that is remembered. An unknown name costs the same time as a
wrong password. Wrong ones make the next try from that network for that name wait, twice as long each time, up
to a bound, and it is forgotten after a while; trusted networks never wait.
"""

import asyncio
import hmac
import secrets
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

from posthouse.auth import passwords
from posthouse.base.clock import Clock
from posthouse.base.log import Logger
from posthouse.store import accounts
from posthouse.store.database import Database
from posthouse.store.feed import ChangeFeed
from posthouse.store.model import Change, DirectoryChanged

THREADS = 2
WAITING = 200  # logins that may wait for a thread; more are told to come back
REMEMBERED, REMEMBERED_FOR = 10_000, 300.0
FAILURES, FAILURES_KEPT = 10_000, 900.0
FREE_TRIES = 5  # wrong passwords before waiting begins
FIRST_WAIT, LONGEST_WAIT = 1.0, 60.0


class Login(NamedTuple):
    """Who is there."""

    account_id: int
    name: str


class _Failures(NamedTuple):
    tries: int
    until: float
    last: float


class Logins:
    """Verifies logins for all protocols."""

    def __init__(
        self, database: Database, clock: Clock, feed: ChangeFeed, log: Logger, is_trusted: Callable[[str], bool]
    ) -> None:
        self._database = database
        self._clock = clock
        self._log = log
        self._is_trusted = is_trusted
        self._threads = ThreadPoolExecutor(THREADS, "login")
        self._waiting = 0
        self._key = secrets.token_bytes(32)
        self._remembered: OrderedDict[bytes, tuple[float, Login]] = OrderedDict()
        self._failures: OrderedDict[tuple[str, str], _Failures] = OrderedDict()
        self._generation = 0
        self._dummy = ""
        feed.subscribe(0, self._on_change)

    def _on_change(self, changes: list[Change]) -> None:
        if any(isinstance(change, DirectoryChanged) for change in changes):
            self.forget()

    def forget(self) -> None:
        """Drop what is remembered of right passwords."""
        self._remembered.clear()
        self._generation += 1

    async def verify(self, name: str, password: str, ip: str, service: str) -> Login | None:
        """The login, or None if name or password is wrong, or the client has to wait."""
        now = self._clock.monotonic()
        mark = hmac.digest(self._key, f"{name}\0{password}".encode("utf-8", "surrogatepass"), "sha256")
        known = self._remembered.get(mark)
        if known is not None and known[0] > now:
            return known[1]
        site = (name.strip().lower()[:255], ip)
        if self._must_wait(site, now) or self._waiting >= WAITING:
            self._log.warning("login.refused", service=service, name=site[0], ip=ip, why="too many tries")
            return None
        generation = self._generation
        self._waiting += 1
        try:
            login = await self._check(name, password)
        finally:
            self._waiting -= 1
        if login is None:
            self._count_failure(site, now)
            self._log.warning("login.refused", service=service, name=site[0], ip=ip, why="wrong")
            return None
        self._failures.pop(site, None)
        if generation == self._generation:
            while len(self._remembered) >= REMEMBERED:
                self._remembered.popitem(last=False)
            self._remembered[mark] = (now + REMEMBERED_FOR, login)
        self._log.info("login.accepted", service=service, name=login.name, ip=ip)
        return login

    async def _check(self, name: str, password: str) -> Login | None:
        loop = asyncio.get_running_loop()
        found = await self._database.read(accounts.find_login, name)
        if found is None and not self._dummy:
            self._dummy = await loop.run_in_executor(self._threads, passwords.hash_password, secrets.token_urlsafe(16))
        secret = found.secret if found is not None else self._dummy
        fits = await loop.run_in_executor(self._threads, passwords.verify, secret, password)
        if found is None or not fits or found.disabled:
            return None
        if passwords.needs_rehash(found.secret):
            rehash = partial(passwords.hash_password, password, shortest=0)  # it was taken once
            fresh = await loop.run_in_executor(self._threads, rehash)
            await self._database.write(accounts.set_password, found.account_id, fresh, self._clock.now())
        return Login(found.account_id, found.name)

    def _must_wait(self, site: tuple[str, str], now: float) -> bool:
        failures = self._failures.get(site)
        return failures is not None and failures.until > now and not self._is_trusted(site[1])

    def _count_failure(self, site: tuple[str, str], now: float) -> None:
        old = self._failures.pop(site, None)
        count = old.tries + 1 if old is not None and now - old.last < FAILURES_KEPT else 1
        wait = min(FIRST_WAIT * 2 ** min(count - FREE_TRIES, 20), LONGEST_WAIT) if count >= FREE_TRIES else 0.0
        self._failures[site] = _Failures(count, now + wait, now)
        while len(self._failures) > FAILURES:
            self._failures.popitem(last=False)

    def close(self) -> None:
        """Let the threads go."""
        self._threads.shutdown(wait=False, cancel_futures=True)

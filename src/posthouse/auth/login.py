"""Logins: is this name and password right, and is it this client's turn to ask?

Hashing runs on few threads of its own, so that a flood of logins cannot eat memory or stop the mail. A
right password is remembered for minutes as a keyed hash, so that the tenth connection of a mail client costs
nothing; a change of any credential drops all that is remembered. An unknown name costs the same time as a
wrong password. Wrong ones make the next try from that network for that account wait, twice as long each time, up
to a bound, and it is forgotten after a while; trusted networks never wait.

Who has to wait is told so and not that the password is wrong: mail programs throw a wrong password away.
Connections that are logged in end when their account is removed or disabled (`enter`).
"""

import asyncio
import hmac
import secrets
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from enum import Enum
from functools import partial
from typing import NamedTuple

from posthouse.auth import passwords
from posthouse.base.clock import Clock
from posthouse.base.log import Logger
from posthouse.base.networks import site
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


class Refused(Enum):
    """Why a login is not one."""

    WRONG = "wrong"  # name or password
    LATER = "later"  # not looked at: too many tries, or too busy


Site = tuple[int | str, str]  # account or unknown name, network


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
        self._failures: OrderedDict[Site, _Failures] = OrderedDict()
        self._open: dict[int, dict[object, Callable[[], None]]] = {}  # account: how to end its connections
        self._looking: asyncio.Task[None] | None = None  # for accounts that are gone
        self._generation = 0
        self._dummy = ""
        feed.subscribe(0, self._on_change)

    def _on_change(self, changes: list[Change]) -> None:
        if any(isinstance(change, DirectoryChanged) for change in changes):
            self.forget()

    def forget(self) -> None:
        """Drop what is remembered of right passwords, and look whether all that are logged in may still be."""
        self._remembered.clear()
        self._generation += 1
        if self._open and self._looking is None:
            self._looking = asyncio.get_running_loop().create_task(self._end_gone())

    def enter(self, login: Login, end: Callable[[], None]) -> Callable[[], None]:
        """A connection is logged in: `end` it when its account is gone. To be told when it closes: call the result."""
        mark = object()
        self._open.setdefault(login.account_id, {})[mark] = end

        def leave() -> None:
            connections = self._open.get(login.account_id)
            if connections is not None:
                connections.pop(mark, None)
                if not connections:
                    self._open.pop(login.account_id, None)

        return leave

    async def _end_gone(self) -> None:
        seen = -1
        try:
            while seen != self._generation:
                seen = self._generation
                active = await self._database.read(accounts.active)
                for account_id in self._open.keys() - active:
                    for end in list(self._open[account_id].values()):
                        end()
        except Exception as error:
            self._log.error("server.failed", what="looking for accounts that are gone", error=repr(error))
        finally:
            self._looking = None

    async def verify(self, name: str, password: str, ip: str, service: str, session: str = "") -> Login | Refused:
        """The login, or why it is none. `service` and `session` are for the log."""
        now = self._clock.monotonic()
        mark = hmac.digest(self._key, f"{name}\0{password}".encode("utf-8", "surrogatepass"), "sha256")
        known = self._remembered.get(mark)
        if known is not None and known[0] > now:
            return known[1]
        generation = self._generation
        shown = name.strip().lower()[:255]
        if self._waiting >= WAITING:
            login: Login | Refused = Refused.LATER
        else:
            self._waiting += 1
            try:
                found = await self._database.read(accounts.find_login, name)
                at = (shown if found is None else found.account_id, site(ip))
                login = Refused.LATER if self._must_wait(at, ip, now) else await self._check(found, password)
            finally:
                self._waiting -= 1
            if login is Refused.WRONG:
                self._count_failure(at, now)
            elif isinstance(login, Login):
                self._failures.pop(at, None)
        if isinstance(login, Refused):
            self._log.warning("login.refused", session=session, service=service, name=shown, ip=ip, why=login.value)
            return login
        if generation != self._generation and login.account_id not in await self._database.read(accounts.active):
            return Refused.WRONG  # removed while we looked
        if generation == self._generation:
            while len(self._remembered) >= REMEMBERED:
                self._remembered.popitem(last=False)
            self._remembered[mark] = (now + REMEMBERED_FOR, login)
        self._log.info("login.accepted", session=session, service=service, name=login.name, ip=ip)
        return login

    async def _check(self, found: accounts.Login | None, password: str) -> Login | Refused:
        loop = asyncio.get_running_loop()
        if found is None and not self._dummy:
            self._dummy = await loop.run_in_executor(self._threads, passwords.hash_password, secrets.token_urlsafe(16))
        secret = found.secret if found is not None else self._dummy
        fits = await loop.run_in_executor(self._threads, passwords.verify, secret, password)
        if found is None or not fits or found.disabled:
            return Refused.WRONG
        if passwords.needs_rehash(found.secret):
            rehash = partial(passwords.hash_password, password, shortest=0)  # it was taken once
            fresh = await loop.run_in_executor(self._threads, rehash)
            await self._database.write(accounts.set_password, found.account_id, fresh, self._clock.now())
        return Login(found.account_id, found.name)

    def _must_wait(self, at: Site, ip: str, now: float) -> bool:
        failures = self._failures.get(at)
        return failures is not None and failures.until > now and not self._is_trusted(ip)

    def _count_failure(self, at: Site, now: float) -> None:
        old = self._failures.pop(at, None)
        count = old.tries + 1 if old is not None and now - old.last < FAILURES_KEPT else 1
        wait = min(FIRST_WAIT * 2 ** min(count - FREE_TRIES, 20), LONGEST_WAIT) if count >= FREE_TRIES else 0.0
        self._failures[at] = _Failures(count, now + wait, now)
        while len(self._failures) > FAILURES:
            self._failures.popitem(last=False)

    def close(self) -> None:
        """Let the threads go."""
        self._threads.shutdown(wait=False, cancel_futures=True)

"""Messages that arrive at certain addresses of ours, looked at after their delivery: complaints...

The change feed tells of every message that an account behind such an address gets; taking mail in is not slowed down.
How far the mailboxes were looked at is kept for each purpose (`store/feedback.py`): after a crash or a failure the rest
is looked at again, so `look` may see a message twice. One message after the other; what it makes of one is its matter.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Collection, Iterable
from typing import Any

from posthouse.base.clock import Clock, wait_for
from posthouse.base.log import Logger
from posthouse.store import feedback
from posthouse.store.accounts import Resolution
from posthouse.store.database import Database
from posthouse.store.feed import ChangeFeed
from posthouse.store.feedback import Arrived
from posthouse.store.model import DirectoryChanged, EntriesAdded
from posthouse.wire.address import Address

KEPT = 30 * 86_400_000_000  # microseconds that traces are; older messages are passed over
EVERY = 60.0  # seconds between two looks at who gets mail for the addresses
SLICE = 100  # messages looked at between two notes of how far it is
MAX_PENDING = 1000  # changes that wait here; beyond that the mailboxes are gone through

Resolve = Callable[[Address], Awaitable[Resolution]]
Look = Callable[[Arrived, str], Awaitable[None]]  # a message and its sender


def is_among(recipient: str, addresses: Collection[str]) -> bool:
    """Whether a recipient is one of the addresses (in lower case), its +detail aside."""
    local, _, domain = recipient.lower().rpartition("@")
    return f"{local}@{domain}" in addresses or f"{local.partition('+')[0]}@{domain}" in addresses


class Arrivals:
    """Looks at what arrives for one purpose."""

    def __init__(
        self,
        purpose: str,
        addresses: Iterable[str],
        database: Database,
        feed: ChangeFeed,
        resolve: Resolve,
        clock: Clock,
        log: Logger,
        look: Look,
        failed: str,
    ) -> None:
        self._purpose = purpose
        self._database = database
        self._feed = feed
        self._resolve = resolve
        self._clock = clock
        self._log = log
        self._look_at_one = look
        self._failed = failed  # the event of the log for a failure
        self._addresses = frozenset(addresses)
        self._accounts: dict[int, Callable[[], None]] = {}  # what ends the subscription of each
        self._pending: list[EntriesAdded] = []
        self._behind: set[int] = set()  # accounts whose mailboxes are to be gone through
        self._wake = asyncio.Event()
        self.still = asyncio.Event()  # everything was looked at
        self._loop: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin, if there are such addresses."""
        if self._addresses:
            self._feed.subscribe(0, self._on_directory)
            self._loop = asyncio.get_running_loop().create_task(self._run())

    def _on_directory(self, changes: list[Any]) -> None:
        if any(isinstance(change, DirectoryChanged) for change in changes):
            self._awaken()

    def _on_entries(self, changes: list[Any]) -> None:
        added = [change for change in changes if isinstance(change, EntriesAdded)]
        if not added:
            return
        self._pending += added
        if len(self._pending) > MAX_PENDING:
            self._behind.update(change.account_id for change in self._pending)
            self._pending.clear()
        self._awaken()

    def _awaken(self) -> None:
        self.still.clear()
        self._wake.set()

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            try:
                await self._find_accounts()
                await self._look()
            except Exception as error:
                self._log.error(self._failed, error=repr(error))
            if not self._wake.is_set():
                self.still.set()
            await wait_for(self._wake, self._clock, EVERY)

    async def _find_accounts(self) -> None:
        """Who gets mail for the addresses now. Somebody new is looked at from the beginning."""
        found: set[int] = set()
        for text in self._addresses:
            address = Address.parse(text)
            if address is not None:
                found.update((await self._resolve(address)).accounts)
        for account_id in self._accounts.keys() - found:
            self._accounts.pop(account_id)()
            self._behind.discard(account_id)
        for account_id in found - self._accounts.keys():
            self._accounts[account_id] = self._feed.subscribe(account_id, self._on_entries)
            self._behind.add(account_id)

    async def _look(self) -> None:
        received = self._clock.now() - KEPT
        read, write, purpose = self._database.read, self._database.write, self._purpose
        pending, self._pending = self._pending, []
        try:
            while pending:
                change = pending[0]
                if change.account_id in self._accounts and change.account_id not in self._behind:
                    await self._look_at(
                        await read(feedback.at, change.account_id, change.mailbox_id, change.uids, received)
                    )
                    await write(feedback.advance, purpose, change.account_id, change.modseq)
                pending.pop(0)
        finally:
            # What failed, and what came after it, is found by going through the mailboxes.
            self._behind.update(change.account_id for change in pending)
        for account_id in sorted(self._behind):
            while found := await read(feedback.since, purpose, account_id, received, SLICE):
                await self._look_at(found)
                await write(feedback.advance, purpose, account_id, found[-1].modseq)
            self._behind.discard(account_id)

    async def _look_at(self, found: Iterable[Arrived]) -> None:
        for one in found:
            came = await self._database.read(feedback.accepted, one.trace)
            recipients = came.get("recipients")
            if isinstance(recipients, list) and any(is_among(str(each), self._addresses) for each in recipients):
                await self._look_at_one(one, str(came.get("sender") or ""))

    async def close(self) -> None:
        """Stop looking. What was not looked at is, at the next start."""
        for unsubscribe in self._accounts.values():
            unsubscribe()
        self._accounts.clear()
        if self._loop is not None:
            self._loop.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._loop

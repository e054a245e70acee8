"""Who has no room for more mail: what accounts hold, remembered, so that RCPT asks no thread about somebody it knows.

Where nobody has a limit nothing is looked up at all. What is remembered of an account follows the change feed, and is
dropped at every change of accounts; it is bounded, and an account that is not known counts as one with room. So a
quota is soft for mail from outside: what is on its way while an account fills up is still taken.

postmaster@ and abuse@ are never refused (RFC 5321 section 4.5.1, RFC 2142).
"""

from collections.abc import Iterable, Sequence

from posthouse.base.settings import Limits
from posthouse.delivery.directory import Directory
from posthouse.store import quota
from posthouse.store.accounts import folded
from posthouse.store.database import Database
from posthouse.store.feed import ChangeFeed
from posthouse.store.model import Change, DirectoryChanged, UsageChanged
from posthouse.store.quota import Usage
from posthouse.wire.address import Address

REMEMBERED = 10_000  # accounts
_ALWAYS = ("postmaster", "abuse")


def is_exempt(recipient: Address) -> bool:
    """Is this an address at which people reach those who run the server?"""
    return folded(recipient.local_part).partition("+")[0] in _ALWAYS


class Quotas:
    """The accounts of one store."""

    def __init__(self, database: Database, feed: ChangeFeed, limits: Limits) -> None:
        self._database = database
        self._default = limits.quota_storage
        self._known: dict[int, Usage] = {}
        self._limited: bool | None = True if self._default else None  # has anybody a limit? None: not known
        self._generation = 0
        feed.subscribe(0, self._on_change)

    def _on_change(self, changes: Sequence[Change]) -> None:
        for change in changes:
            if isinstance(change, UsageChanged):
                known = self._known.get(change.owner_id)
                if known is not None:
                    self._known[change.owner_id] = known._replace(size=change.size, messages=change.messages)
            elif isinstance(change, DirectoryChanged):
                self.forget()

    def forget(self) -> None:
        """Drop what is remembered: it may have changed."""
        self._known.clear()
        self._limited = True if self._default else None
        self._generation += 1

    def unknown(self, account_ids: Iterable[int]) -> bool:
        """Must `learn` be called before these are judged?"""
        if self._limited is None:
            return True
        return self._limited and any(account_id not in self._known for account_id in account_ids)

    async def learn(self, account_ids: Sequence[int]) -> None:
        """Look accounts up."""
        generation = self._generation
        if self._limited is None:
            limited = await self._database.read(quota.has_limits)
            if generation == self._generation:
                self._limited = limited
        if not self.unknown(account_ids):
            return
        found = await self._database.read(quota.of_accounts, account_ids, self._default)
        if generation == self._generation:
            if len(self._known) + len(found) > REMEMBERED:
                self._known.clear()
            # A change that was published meanwhile may be newer than what was read; the next one sets it right.
            self._known.update({usage.account_id: usage for usage in found})

    def full(self, account_ids: Iterable[int], octets: int) -> list[Usage]:
        """Those of the accounts that have no room for a message of this size."""
        if not self._limited:
            return []
        usages = (self._known.get(account_id) for account_id in account_ids)
        return [usage for usage in usages if usage is not None and usage.is_over(octets, 1)]

    async def full_recipients(self, directory: Directory, addresses: Iterable[str], octets: int) -> frozenset[str]:
        """Those of the addresses behind which an account has no room."""
        found = set()
        for text in addresses:
            address = Address.parse(text)
            if address is not None and not is_exempt(address):
                accounts = (await directory.resolve(address)).accounts
                await self.learn(accounts)
                if self.full(accounts, octets):
                    found.add(text)
        return frozenset(found)

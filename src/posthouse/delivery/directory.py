"""Who gets mail for an address, remembered: RCPT is answered without a thread hop when it is known.

The memory is dropped whole at every change of domains, accounts or addresses (this process's through the
change feed, another's through the admin socket), and it is bounded.
"""

from collections.abc import Awaitable

from posthouse.store import accounts
from posthouse.store.accounts import Resolution, folded
from posthouse.store.database import Database
from posthouse.store.feed import ChangeFeed
from posthouse.store.model import DirectoryChanged
from posthouse.wire.address import Address

REMEMBERED = 10_000
HOST_NAMES = ("postmaster", "mailer-daemon")  # of the host name itself, even where it is no mail domain


class Directory:
    """Resolutions of addresses, cached."""

    def __init__(self, database: Database, feed: ChangeFeed, hostname: str, postmaster: str = "") -> None:
        self._database = database
        self._hostname = hostname
        self._postmaster = postmaster
        self._known: dict[tuple[str, str], Resolution] = {}
        self._generation = 0
        feed.subscribe(0, lambda changes: self._on_change(any(isinstance(c, DirectoryChanged) for c in changes)))

    def _on_change(self, ours: bool) -> None:
        if ours:
            self.forget()

    def forget(self) -> None:
        """Drop what is remembered: it may have changed."""
        self._known.clear()
        self._generation += 1

    def known(self, address: Address) -> Resolution | None:
        """The resolution if it is remembered."""
        return self._known.get((folded(address.local_part), address.domain))

    def resolve(self, address: Address) -> Awaitable[Resolution]:
        """Look an address up; `<postmaster>` without a domain is our own (RFC 5321 section 4.5.1), and so are
        postmaster@ and mailer-daemon@ of the host name, in whose name bounces are sent."""
        return self._resolve(folded(address.local_part), address.domain)

    async def _resolve(self, local_part: str, domain: str) -> Resolution:
        generation = self._generation
        resolution = await self._database.read(accounts.resolve, local_part, domain or self._hostname, self._postmaster)
        ours = not domain or (domain == self._hostname and local_part.partition("+")[0] in HOST_NAMES)
        if ours and not resolution.accounts and not resolution.remote:
            resolution = await self._database.read(accounts.resolve_postmaster, self._postmaster)
        if generation == self._generation:
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            self._known[local_part, domain] = resolution
        return resolution

"""Who gets mail for an address: what the directory adds to `store.accounts.resolve`."""

import asyncio

from posthouse.delivery.directory import Directory
from posthouse.store import accounts
from posthouse.store.database import Tx
from posthouse.store.feed import ChangeFeed
from posthouse.wire.address import Address
from tests.store.test_sqlite import NOW
from tests.support.store import opened


def test_answers_to_a_bounce_reach_somebody() -> None:
    """Bounces come from mailer-daemon@ the host name, which need not be a mail domain of ours."""

    def fill(tx: Tx) -> int:
        accounts.add_domain(tx, "example.org", NOW)
        return accounts.add_account(tx, "alice@example.org", "hash", NOW)

    async def main() -> None:
        async with opened() as database:
            alice = await database.write(fill)
            directory = Directory(database, ChangeFeed(), "mail.example.org")
            for name in ("postmaster", "Postmaster", "mailer-daemon"):
                found = await directory.resolve(Address(name, "mail.example.org"))
                assert (found.accounts, found.local) == ((alice,), True), name
            found = await directory.resolve(Address("postmaster", ""))
            assert found.accounts == (alice,)
            found = await directory.resolve(Address("alice", "mail.example.org"))
            assert (found.accounts, found.local) == ((), False)
            found = await directory.resolve(Address("postmaster", "elsewhere.test"))
            assert (found.accounts, found.local) == ((), False)

    asyncio.run(main())

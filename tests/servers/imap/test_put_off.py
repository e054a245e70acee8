"""Pipelined APPENDs: stored in few transactions, each answered only after its own; nothing is left of what failed."""

import asyncio

from posthouse.base.errors import StorageFull
from posthouse.store import check
from posthouse.store.database import Tx
from posthouse.store.sqlite import SqliteDatabase
from tests.support.imap_site import ImapSite
from tests.support.store import opened

SMALL = b"Subject: x\r\n\r\nhello\r\n"


def appends(count: int, mailbox: bytes = b"INBOX") -> bytes:
    return b"".join(b"A%d APPEND %b {%d+}\r\n%b\r\n" % (n, mailbox, len(SMALL), SMALL) for n in range(count))


class Counting:
    """Counts the transactions of a database, and fails some."""

    def __init__(self, database: SqliteDatabase) -> None:
        self.writes = 0
        self.fails = False
        self._submit = database.submit
        database.submit = self.submit  # type: ignore[method-assign]

    def submit(self, work):  # type: ignore[no-untyped-def]
        self.writes += 1
        if not self.fails:
            return self._submit(work)

        def fail(tx: Tx) -> None:
            work(tx)
            raise StorageFull("no room", "no room")

        return self._submit(fail)


def test_what_comes_together_is_stored_together() -> None:
    async def main() -> None:
        async with opened() as database:
            site = await ImapSite.make(database)
            client = await site.logged_in()
            counting = Counting(database)
            answer = await client.send(appends(200))
            uids = [line.split()[4].rstrip(b"]") for line in answer.splitlines() if b"APPENDUID" in line]
            assert uids == [b"%d" % n for n in range(1, 201)]
            assert counting.writes <= 10
            counting.fails = True
            answer = await client.send(appends(50) + b"n NOOP\r\n")
            assert answer.count(b" NO [OVERQUOTA]") == 50
            assert answer.endswith(b"n OK NOOP completed\r\n")
            counting.fails = False
            assert (await client.command("STATUS INBOX (MESSAGES)")).startswith(b"* STATUS INBOX (MESSAGES 200)")
            assert await database.read(check.findings) == []

    asyncio.run(main())

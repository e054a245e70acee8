"""A database with its search index, brought up to date when a test says so; and searches."""

import asyncio

from posthouse.base.log import get_logger
from posthouse.imap.keys import Key
from posthouse.servers.indexing import Indexing
from posthouse.store import search
from posthouse.store.database import Tx
from posthouse.store.index.documents import Documents
from posthouse.store.index.file import Index
from posthouse.store.sqlite import SqliteDatabase
from tests.support.clock import FakeClock


def inbox_id(tx: Tx) -> int:
    """The one INBOX there is."""
    row = tx.one("SELECT id FROM mailbox WHERE name = 'INBOX'")
    assert row is not None
    return int(row[0])


def found(tx: Tx, key: Key, index: bool = True) -> list[int]:
    """The UIDs that a search in the one INBOX finds, slice by slice; by reading alone without `index`."""
    if not index:
        tx.index = None
    mailbox_id, query = inbox_id(tx), search.prepare(key)
    uids: list[int] = []
    following, calls = 1, 0
    while following:
        part, following, _ = search.find(tx, mailbox_id, query, following, 10_000)
        uids += part
        calls += 1
        assert calls < 1000
    return uids


class Hurried(FakeClock):
    """Sleeps are over at once."""

    async def sleep(self, seconds: float) -> None:
        self.move(seconds)
        await asyncio.sleep(0)


class Indexed:
    """Use it as: async with Indexed(database) as indexed: … await indexed.catch_up()."""

    def __init__(self, database: SqliteDatabase, documents: Documents | None = None) -> None:
        self._database = database
        self._documents = documents
        self.clock = Hurried()

    async def __aenter__(self) -> "Indexed":
        self.index = self._database.index = await Index.open(self._database)
        self.indexing = Indexing(self._database, self.index, self.clock, get_logger(), documents=self._documents)
        return self

    async def catch_up(self) -> None:
        """Index what is not indexed yet."""
        await self.indexing.catch_up()

    async def __aexit__(self, *_: object) -> None:
        try:
            assert await self.index.findings() == []
        finally:
            self._database.index = None
            await self.indexing.close()
            await self.index.close()

"""The process that fills the search index: it does so with and without a key, and nothing depends on it."""

import asyncio
import os
from pathlib import Path

import pytest

from posthouse.base.log import get_logger
from posthouse.imap import keys
from posthouse.servers import indexing as background
from posthouse.servers.index_helper import Helper
from posthouse.servers.indexing import Indexing
from posthouse.store.index import documents
from posthouse.store.index.file import Index
from posthouse.store.sqlite import SqliteDatabase
from tests.support.clock import START
from tests.support.imap_site import ImapSite
from tests.support.indexed import Hurried

SECRET = bytes(range(32))


@pytest.mark.parametrize(
    ("secret", "given", "helps"),
    [(None, None, True), (SECRET, SECRET, True), (SECRET, bytes(32), False)],
    ids=["plain", "sealed", "with a wrong key"],
)
def test_a_backlog_is_the_helpers_and_without_it_the_servers(
    tmp_path: Path, secret: bytes | None, given: bytes | None, helps: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background, "MANY", 20)
    told: list[int] = []

    async def main() -> None:
        database = await SqliteDatabase.open(tmp_path, START, secret)
        try:
            site = await ImapSite.make(database)
            for number in range(30):
                await site.deliver(b"Subject: Zeppelin %d\r\n\r\nWith marzipan.\r\n" % number)
            index = await Index.open(database, documents.version())
            indexing = Indexing(
                database, index, Hurried(), get_logger(), helper=Helper(tmp_path, given, database.files.inline_max)
            )
            await indexing.catch_up(told.append)
            await indexing.close()
            look = await asyncio.to_thread(index.look, 1, [keys.Text(keys.Scope.BODY, "marzipan")])
            assert look is not None
            assert [len(one.ids) for one in look.known.values()] == [30]
            assert await index.findings() == []
            await index.close()
        finally:
            await database.close()

    asyncio.run(main())
    # What the server itself wrote it was told of.
    assert bool(told) != helps


def test_who_is_cancelled_leaves_no_process(tmp_path: Path) -> None:
    async def main() -> None:
        database = await SqliteDatabase.open(tmp_path, START)
        await database.close()
        task = asyncio.create_task(Helper(tmp_path, None, 1000)())
        children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children")
        while not (begun := children.read_text().split()):  # noqa: ASYNC110
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not set(begun) & set(children.read_text().split())

    asyncio.run(main())

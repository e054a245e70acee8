"""The file of the index: made anew when it cannot be used, swept, bounded, sealed. Searches work whatever becomes of
it."""

import asyncio
import os
import shutil
import threading
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from posthouse.base.log import get_logger
from posthouse.imap import keys
from posthouse.servers import indexing as background
from posthouse.servers.indexing import Indexing
from posthouse.store import messages
from posthouse.store.database import Tx
from posthouse.store.index import file as index_file
from posthouse.store.index import rows, texts
from posthouse.store.index.file import Index
from posthouse.store.index.gather import gather
from posthouse.store.index.rows import Mark
from posthouse.store.sqlite import SqliteDatabase
from tests.support.clock import START
from tests.support.imap_site import ImapSite
from tests.support.indexed import Hurried, Indexed, found
from tests.support.store import opened

MAIL = b"Subject: Zeppelin %d\r\nFrom: a@b.example\r\n\r\nWith marzipan %d.\r\n"
SUBJECT, BODY = keys.Header("subject", "zeppelin"), keys.Text(keys.Scope.BODY, "marzipan")


async def deliver(site: ImapSite, count: int) -> None:
    for number in range(count):
        await site.deliver(MAIL % (number, number))


async def says(database: SqliteDatabase, text: str) -> int:
    """How many messages the index itself knows to have a text."""
    assert database.index is not None
    look = await asyncio.to_thread(database.index.look, 1, [keys.Text(keys.Scope.TEXT, text)])
    return 0 if look is None else sum(len(one.ids) for one in look.known.values())


def spoil(path: Path) -> None:
    size = path.stat().st_size
    with open(path, "r+b") as file:
        for at in range(4096, size, 4096):
            file.seek(at)
            file.write(os.urandom(4096))


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def scribble(path: Path) -> None:
    path.write_bytes(b"this is no database, it is a long text" * 1000)


@pytest.mark.parametrize("harm", [spoil, cut, scribble, Path.unlink])
def test_a_file_that_is_damaged_or_gone_is_made_anew(tmp_path: Path, harm: Callable[[Path], None]) -> None:
    async def main() -> None:
        async with opened(tmp_path) as database:
            site = await ImapSite.make(database)
            await deliver(site, 5)
            async with Indexed(database) as indexed:
                await indexed.catch_up()
                assert await says(database, "marzipan") == 5
        for end in ("-wal", "-shm"):
            (tmp_path / f"search.db{end}").unlink(missing_ok=True)
        harm(tmp_path / "search.db")
        async with opened(tmp_path) as database, Indexed(database) as indexed:
            assert await database.read(found, SUBJECT) == [1, 2, 3, 4, 5]
            for _ in range(2):  # what only a closer look shows is found when it is written
                try:
                    await indexed.catch_up()
                    break
                except Exception:
                    assert await database.read(found, BODY) == [1, 2, 3, 4, 5]
            await indexed.index.reset()
            await indexed.catch_up()
            assert await says(database, "marzipan") == 5
            assert await database.read(found, BODY) == [1, 2, 3, 4, 5]

    asyncio.run(main())


def test_a_reader_that_finds_it_damaged_reads_the_messages() -> None:
    async def main() -> None:
        async with opened() as database:
            site = await ImapSite.make(database)
            await deliver(site, 60)
            async with Indexed(database) as indexed:
                await indexed.catch_up()

                def harm(tx: Tx) -> None:
                    tx.run("DELETE FROM body_data WHERE id > 100")
                    tx.run("UPDATE head_data SET block = zeroblob(50) WHERE id > 100")

                await indexed.index._run(indexed.index._file.write, harm)
                for key in (BODY, keys.Text(keys.Scope.TEXT, "zeppelin")):
                    assert await database.read(found, key) == list(range(1, 61))
                await indexed.index.reset()  # whoever writes next makes it anew
                await indexed.catch_up()
                assert await says(database, "marzipan") == 60

    asyncio.run(main())


def test_an_index_of_another_version_or_store_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        one, other = tmp_path / "one", tmp_path / "other"
        for folder in (one, other):
            async with opened(folder) as database:
                await deliver(await ImapSite.make(database), 3 if folder is one else 4)
                async with Indexed(database) as indexed:
                    await indexed.catch_up()
                    assert (await indexed.index.status()).messages == (3 if folder is one else 4)
        shutil.copy(one / "search.db", other / "search.db")
        async with opened(other) as database, Indexed(database) as indexed:
            assert (await indexed.index.status())[:3] == (0, 4, 0)
            await indexed.catch_up()
            assert await says(database, "marzipan") == 4
        monkeypatch.setattr(rows, "VERSION", 1000)
        async with opened(other) as database, Indexed(database) as indexed:
            assert (await indexed.index.status()).messages == 0

    asyncio.run(main())


def test_an_index_that_is_ahead_of_a_restored_store_is_made_anew(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path) as database:
            site = await ImapSite.make(database)
            await deliver(site, 3)
        backup = (tmp_path / "posthouse.db").read_bytes()
        async with opened(tmp_path) as database, Indexed(database) as indexed:
            site.database = database
            await deliver(site, 3)
            await indexed.catch_up()
        for more in (0, 3):  # as old as the backup, and as far again with other messages
            (tmp_path / "posthouse.db").write_bytes(backup)
            (tmp_path / "posthouse.db-wal").unlink(missing_ok=True)
            index = (tmp_path / "search.db").read_bytes()
            async with opened(tmp_path) as database:
                site.database = database
                await site.clock.advance(1)
                for number in range(more):
                    await site.deliver(b"Subject: Other %d\r\n\r\nx\r\n" % number)
                async with Indexed(database) as indexed:
                    assert (await indexed.index.mark()).email_id == 0
                    await indexed.catch_up()
                    assert await says(database, "marzipan") == 3
            (tmp_path / "search.db").write_bytes(index)

    asyncio.run(main())


def test_what_is_gone_is_swept() -> None:
    async def main() -> None:
        async with opened() as database:
            site = await ImapSite.make(database)
            await deliver(site, 30)
            async with Indexed(database) as indexed:
                await indexed.catch_up()

                def gone(tx: Tx) -> None:
                    mailbox = tx.one("SELECT mailbox_id FROM entry")
                    assert mailbox is not None
                    messages.remove(tx, site.account_id, mailbox[0], list(range(1, 21)))

                await database.write(gone)
                assert await database.read(found, BODY) == list(range(21, 31))
                assert await says(database, "marzipan") == 30
                after, slices = 0, 0
                while after or not slices:
                    after = await indexed.index.sweep(after, 7)
                    slices += 1
                assert slices == 6
                assert (await indexed.index.status()).messages == 10
                await deliver(site, 1)  # what was known is not believed any more
                await indexed.catch_up()
                assert await says(database, "marzipan") == 11

    asyncio.run(main())


def test_it_is_sealed_with_the_key_of_the_store(tmp_path: Path) -> None:
    async def main() -> None:
        database = await SqliteDatabase.open(tmp_path, START, b"a secret")
        try:
            await deliver(await ImapSite.make(database), 3)
            async with Indexed(database) as indexed:
                await indexed.catch_up()
                assert await database.read(found, BODY) == [1, 2, 3]
                assert await says(database, "marzipan") == 3
        finally:
            await database.close()
        data = (tmp_path / "search.db").read_bytes()
        assert not data.startswith(b"SQLite")
        assert b"marzipan" not in data
        assert b"CREATE" not in data
        assert (tmp_path / "search.db").stat().st_mode & 0o777 == 0o600

    asyncio.run(main())


def test_an_account_is_told_of_its_own_mail_only() -> None:
    async def main() -> None:
        async with opened() as database:
            site = await ImapSite.make(database)
            await deliver(site, 3)
            async with Indexed(database) as indexed:
                await indexed.catch_up()
                key = keys.Text(keys.Scope.TEXT, "marzipan")
                for account, count in ((0, 0), (1, 3), (2, 0), ((1 << 23) - 1, 0)):
                    look = await asyncio.to_thread(indexed.index.look, account, [key])
                    assert look is not None
                    assert len(look.known[key].ids) == count

    asyncio.run(main())


def test_two_threads_answer_as_one_does(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with opened() as database:
            site = await ImapSite.make(database)
            await deliver(site, 9)
            async with Indexed(database) as indexed:
                await indexed.catch_up()
                index, key = indexed.index, keys.Text(keys.Scope.TEXT, "marzipan")
                threads = []
                ids = rows.ids

                def noted(*args: Any) -> "array[int]":
                    threads.append(threading.current_thread().name)
                    return ids(*args)

                monkeypatch.setattr(rows, "ids", noted)
                answers = []
                for least in (8, 9):  # there are nine ids in all, one after the other
                    monkeypatch.setattr(index_file, "LARGE", least)
                    index._answers.clear()
                    threads.clear()
                    look = await asyncio.to_thread(index.look, 1, [key])
                    assert look is not None
                    answers.append(list(look.known[key].ids))
                    halves = [name for name in threads if name.startswith("index-half")]
                    assert len(halves) == (2 if least == 8 else 0)  # the header's and the body's
                assert answers[0] == answers[1]
                assert len(answers[0]) == 9

                index._answers.clear()
                monkeypatch.setattr(index_file, "LARGE", 8)
                threads.clear()
                with index._helping:  # the other thread is at work for somebody else
                    look = await asyncio.to_thread(index.look, 1, [key])
                assert look is not None
                assert list(look.known[key].ids) == answers[0]
                assert not any(name.startswith("index-half") for name in threads)

    asyncio.run(main())


def test_what_came_later_is_not_of_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with opened() as database:
            site = await ImapSite.make(database)
            await deliver(site, 6)
            async with Indexed(database) as indexed:
                await indexed.catch_up()
                index, key = indexed.index, keys.Text(keys.Scope.TEXT, "marzipan")
                monkeypatch.setattr(index_file, "LARGE", 1)
                # As if this snapshot were from when there were four.
                monkeypatch.setattr(rows, "mark", lambda tx: Mark(4, 0))
                look = await asyncio.to_thread(index.look, 1, [key])
                assert look is not None
                assert list(look.known[key].ids) == [1, 2, 3, 4]
                monkeypatch.undo()

    asyncio.run(main())


def test_answers_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with opened() as database:
            site = await ImapSite.make(database)
            await deliver(site, 30)
            async with Indexed(database) as indexed:
                await indexed.catch_up()
                monkeypatch.setattr(index_file, "MAX_IDS", 100)
                monkeypatch.setattr(index_file, "REMEMBERED", 500)
                wanted = [keys.Header("subject", "zeppelin"[at:]) for at in range(6)]
                look = await asyncio.to_thread(indexed.index.look, 1, wanted)
                assert look is not None
                assert len(look.known) == 3
                assert await database.read(found, keys.And(tuple(wanted))) == list(range(1, 31))
                assert indexed.index._kept <= 500
                assert len(indexed.index._answers) <= 3

    asyncio.run(main())


def test_a_message_that_cannot_be_read_is_indexed_as_far_as_it_goes() -> None:
    async def main() -> None:
        async with opened() as database:
            site = await ImapSite.make(database)
            await deliver(site, 1)
            long = b"Subject: Zeppelin\r\n\r\n" + b"With marzipan and more of it.\r\n" * 20_000
            await site.deliver(long)
            await deliver(site, 1)
            row = await database.read(lambda tx: tx.one("SELECT file FROM blob WHERE file IS NOT NULL"))
            assert row is not None
            path = database.files.path(row[0])
            whole = path.read_bytes()
            path.write_bytes(whole[: len(whole) // 2])
            async with Indexed(database) as indexed:
                await indexed.catch_up()
                assert await says(database, "marzipan") == 2
                assert (await indexed.index.status()).messages == 3
            path.write_bytes(whole)

    asyncio.run(main())


@pytest.mark.parametrize(
    "mail",
    [
        b"Subject: x\r\n\r\n" + b"lorem ipsum " * (3 * 1024 * 1024) + b"beyond",
        b"Content-Type: text/plain; charset=utf-8\r\n\r\n" + "\ufdfa".encode() * (2 * 1024 * 1024) + b"beyond",
        b"Content-Type: text/html\r\n\r\n" + b"<p>lorem <b>ipsum</b>\r\n" * (1024 * 1024) + b"beyond",
        b"Content-Type: multipart/mixed; boundary=x\r\n"
        + b"\r\n--x\r\nX-Long: lorem ipsum\r\n\r\ntext" * 12_000
        + b"beyond",
    ],
)
def test_what_is_read_of_a_message_is_bounded(mail: bytes) -> None:
    async def main() -> None:
        async with opened() as database:
            site = await ImapSite.make(database)
            await site.deliver(mail)
            [one] = (await database.read(gather, Mark(0, 0), None, 60.0)).said
            assert 100_000 < len(one.body) < 2 * texts.MAX_TEXTS
            async with Indexed(database) as indexed:
                await indexed.catch_up()
                for text in ("lorem ipsum", "صلى الله", "beyond"):
                    key = keys.Text(keys.Scope.BODY, text)
                    scanned = [1] if text in one.body else []
                    assert await database.read(found, key) == scanned
                    database.index = None
                    assert await database.read(found, key) == scanned
                    database.index = indexed.index

    asyncio.run(main())


def test_while_much_mail_comes_in_it_waits_but_not_for_ever() -> None:
    async def main() -> None:
        async with opened() as database:
            site = await ImapSite.make(database)
            index = await Index.open(database)
            clock = Hurried()
            batches: list[float] = []
            indexing = Indexing(database, index, clock, get_logger())
            try:
                await deliver(site, 10)
                seen = [indexing.busy]
                await deliver(site, 20)
                assert [*seen, indexing.busy] == [False, True]

                async def sleep(seconds: float) -> None:
                    clock.move(seconds)
                    if seconds == background.YIELD:  # it goes on coming in
                        await deliver(site, 20)

                clock.sleep = sleep  # type: ignore[method-assign]
                began = clock.monotonic()
                enough = asyncio.Event()

                def told(_: int) -> None:
                    batches.append(clock.monotonic() - began)
                    if len(batches) == 3:
                        enough.set()

                task = asyncio.ensure_future(indexing.catch_up(told))
                await enough.wait()
                task.cancel()
                assert background.PATIENCE <= batches[0] < background.PATIENCE + 1
                assert 0.5 < batches[1] - batches[0] < 3
                assert (await index.mark()).email_id < 400
            finally:
                await index.close()

    asyncio.run(main())

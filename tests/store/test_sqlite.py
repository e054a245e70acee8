"""The storage engine: group commit, savepoints, snapshots, a full disk, encryption, what a crash leaves."""

import asyncio
import functools
import gc
import os
import random
from pathlib import Path

import apsw
import pytest

from posthouse.base.errors import AlreadyExists, NotFound, Permanent, StorageFull
from posthouse.store import accounts, check, events, mailboxes, messages, schema
from posthouse.store.blobs import rows as blobs
from posthouse.store.blobs import sweep
from posthouse.store.blobs.files import CHUNK, BlobFiles, Keys
from posthouse.store.blobs.writer import FILE, BlobWriter, content_of
from posthouse.store.database import Tx
from posthouse.store.model import Change, Digest, EntriesAdded
from posthouse.store.sqlite import SqliteDatabase
from tests.support.loop import on_loop
from tests.support.store import opened

NOW = 1_700_000_000_000_000
DIGEST = Digest(b'("envelope")', b'("TEXT")', b"", "preview", "", 0, ())


def deliver(tx: Tx, account_id: int, data: bytes, trace: int = 1) -> int:
    new = messages.NewEmail(content_of(tx.files, data), b"Received: x\r\n", DIGEST, trace, NOW)
    return messages.append(tx, account_id, mailboxes.inbox_id(tx, account_id), new).uid


async def account(database: SqliteDatabase, name: str = "alice@example.org") -> int:
    try:
        await database.write(accounts.add_domain, name.partition("@")[2], NOW)
    except AlreadyExists:
        pass
    return await database.write(accounts.add_account, name, "hash", NOW)


def test_waiting_transactions_share_a_commit_and_a_failing_one_takes_no_neighbour_down() -> None:
    async def main() -> None:
        async with opened() as database:
            alice = await account(database)
            published: list[list[Change]] = []
            database.on_commit(published.append)

            def numbered(n: int, tx: Tx) -> int:
                return deliver(tx, alice, b"%d" % n)

            def failing(tx: Tx) -> None:
                deliver(tx, alice, b"never kept")
                raise NotFound("on purpose")

            jobs = [database.submit(functools.partial(numbered, n)) for n in range(20)]
            bad = database.submit(failing)
            jobs += [database.submit(functools.partial(numbered, n)) for n in range(20, 40)]
            results = await asyncio.gather(*jobs)
            with pytest.raises(NotFound):
                await bad
            assert results == list(range(1, 41))  # the failed one used no UID
            told = [c.uids[0] for group in published for c in group if isinstance(c, EntriesAdded)]
            assert told == results
            assert len(published) < 40  # some of them shared a commit

    asyncio.run(main())


def test_a_snapshot_does_not_see_what_is_committed_meanwhile() -> None:
    async def main() -> None:
        async with opened() as database:
            alice = await account(database)
            loop = asyncio.get_running_loop()

            def counting(tx: Tx) -> tuple[int, int]:
                def count() -> int:
                    row = tx.one("SELECT count(*) FROM entry")
                    assert row is not None
                    return int(row[0])

                before = count()
                asyncio.run_coroutine_threadsafe(database.write(deliver, alice, b"new"), loop).result(10)
                return before, count()

            assert await database.read(counting) == (0, 0)
            assert await database.read(counting) == (1, 1)

    asyncio.run(main())


def test_a_reader_cannot_write() -> None:
    async def main() -> None:
        async with opened() as database:
            with pytest.raises(Exception, match="readonly"):
                await database.read(accounts.add_domain, "example.org", NOW)

    asyncio.run(main())


def test_a_full_disk_is_said_loses_nothing_and_ends_when_there_is_space() -> None:
    async def main() -> None:
        async with opened() as database:
            alice = await account(database)
            body = random.Random(1).randbytes(30_000)  # does not compress away
            kept = [await database.write(deliver, alice, body + b"%d" % n) for n in range(3)]
            limit = await database.write(lambda tx: tx.all("PRAGMA page_count")[0][0])
            await database.write(lambda tx: tx.all(f"PRAGMA max_page_count = {limit + 4}"))
            refused = 0
            for n in range(20):
                try:
                    kept.append(await database.write(deliver, alice, body + b"more %d" % n))
                except StorageFull:
                    refused += 1
            assert refused >= 18
            assert await database.read(check.findings) == []
            uids = await database.read(lambda tx: [u for (u,) in tx.all("SELECT uid FROM entry ORDER BY uid")])
            assert uids == kept
            await database.write(lambda tx: tx.all("PRAGMA max_page_count = 1000000"))
            assert await database.write(deliver, alice, body) == kept[-1] + 1

    asyncio.run(main())


@on_loop
async def test_nobody_else_may_look_into_the_folder_of_the_data(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        database = await SqliteDatabase.open(tmp_path / "data", 0)
        for path in (tmp_path / "data").glob("posthouse.db*"):  # what was just written lies beside the database
            assert path.stat().st_mode & 0o777 == 0o600, path
    finally:
        os.umask(before)
    await database.close()
    for path in (tmp_path / "data", tmp_path / "data" / "blobs"):
        assert path.stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "data" / "posthouse.db").stat().st_mode & 0o777 == 0o600


def test_what_was_acknowledged_is_there_after_opening_again(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path) as database:
            alice = await account(database)
            await database.write(deliver, alice, b"Subject: kept\r\n\r\n")
        async with opened(tmp_path) as database:
            source = await database.read(messages.read_source, 1)
            assert source == b"Received: x\r\nSubject: kept\r\n\r\n"

    asyncio.run(main())


def test_a_newer_database_is_refused(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path) as database:
            await database.write(lambda tx: tx.run("INSERT INTO step VALUES (999, 0)"))
        with pytest.raises(Permanent, match="newer Posthouse"):
            await SqliteDatabase.open(tmp_path, NOW)

    asyncio.run(main())


def test_a_schema_step_that_came_late_is_taken_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = [number for number, _ in schema.steps()]
    assert numbers == sorted(set(numbers))

    async def main() -> None:
        with monkeypatch.context() as others:
            others.setattr(schema, "steps", lambda: [(1, "CREATE TABLE a (x)"), (3, "CREATE TABLE c (x)")])
            await (await SqliteDatabase.open(tmp_path, NOW)).close()
            others.setattr(schema, "steps", lambda: [(n, f"CREATE TABLE {'abc'[n - 1]} (x)") for n in (1, 2, 3)])
            database = await SqliteDatabase.open(tmp_path, NOW)
            assert await database.read(lambda tx: tx.all("SELECT x FROM b")) == []
            await database.close()

    asyncio.run(main())


def test_with_a_key_no_file_shows_a_word(tmp_path: Path) -> None:
    word = b"zeppelin-over-the-alps"

    async def main() -> None:
        database = await SqliteDatabase.open(tmp_path, NOW, secret=b"k" * 32)
        alice = await account(database)
        digest = DIGEST._replace(envelope=word, preview=word.decode())
        for body in (word * 10, word * 100_000):  # one in its row, one in a file
            content = content_of(database.files, body)
            new = messages.NewEmail(content, b"", digest, 1, NOW)
            inbox = await database.read(mailboxes.inbox_id, alice)
            await database.write(messages.append, alice, inbox, new)
        await database.write(events.add, 1, 1, "accepted", {"subject": word.decode()})
        files = [p for p in tmp_path.rglob("*") if p.is_file()]
        assert any(p.name.endswith("-wal") for p in files)
        assert any(p.parent.parent.name == "blobs" for p in files)
        for path in files:
            data = path.read_bytes()
            assert word not in data
            assert not data.startswith(b"SQLite format")
        await database.close()
        with pytest.raises(Permanent, match="key is missing or wrong"):
            await SqliteDatabase.open(tmp_path, NOW, secret=b"x" * 32)
        with pytest.raises(Permanent, match="key is missing or wrong"):
            await SqliteDatabase.open(tmp_path, NOW)
        database = await SqliteDatabase.open(tmp_path, NOW, secret=b"k" * 32)
        assert await database.read(messages.read_source, 2) == word * 100_000
        await database.close()

    asyncio.run(main())


@pytest.mark.parametrize("secret", [None, b"s" * 32])
def test_blob_files_by_range_and_damaged(tmp_path: Path, secret: bytes | None) -> None:
    files = BlobFiles(tmp_path, Keys(secret))
    data = bytes(range(256)) * (CHUNK // 256) * 2 + b"tail"
    writer = BlobWriter(files)
    for at in range(0, len(data), 70_001):
        writer.write(data[at : at + 70_001])
    content = writer.finish()
    assert content.encoding == FILE
    assert content.file is not None
    for start, end in [(0, None), (0, 1), (CHUNK - 1, CHUNK + 1), (CHUNK * 2, None), (5, CHUNK * 2 + 2), (9, 9)]:
        assert files.read(content.file, content.size, start, end) == data[start:end]
    path = files.path(content.file)
    broken = bytearray(path.read_bytes())
    broken[40] ^= 1
    path.write_bytes(broken)
    with pytest.raises(Permanent, match="damaged"):
        files.read(content.file, content.size)
    path.write_bytes(bytes(broken[:30]))
    with pytest.raises(Permanent, match="damaged"):
        files.read(content.file, content.size)


def test_equal_contents_are_kept_once_and_collected_when_nobody_needs_them() -> None:
    async def main() -> None:
        async with opened() as database:
            alice, bob = await account(database), await account(database, "bob@example.org")
            large = b"large " * 50_000
            for owner in (alice, bob):
                await database.write(deliver, owner, large)
            assert await database.read(lambda tx: tx.all("SELECT count(*), sum(refs) FROM blob")) == [(1, 2)]
            inbox = await database.read(mailboxes.inbox_id, alice)
            await database.write(messages.store_flags, alice, inbox, [1], "add", 8)
            assert await database.write(messages.expunge, alice, inbox) == [1]
            assert await database.write(sweep.collect) == (0, [])
            await database.write(accounts.remove_account, "bob@example.org")
            count, names = await database.write(sweep.collect)
            assert (count, len(names)) == (1, 1)
            sweep.unlink(database.files, names)
            # The second file of the same content was never named by a row: a sweep finds it.
            left = await database.read(sweep.orphans, 9e9)
            assert len(left) == 1
            sweep.unlink(database.files, left)
            assert await database.read(sweep.orphans, 9e9) == []
            with pytest.raises(NotFound):
                await database.read(blobs.read, 1)

    asyncio.run(main())


@on_loop
async def test_no_statement_leaves_anything_behind() -> None:
    """A cursor that stays for each statement is a server that grows with its mail."""

    def work(tx: Tx) -> None:
        tx.run("CREATE TABLE IF NOT EXISTS grown (a)")
        tx.run("INSERT INTO grown VALUES (?)", 1)
        tx.one("SELECT a FROM grown")
        tx.all("SELECT a FROM grown")
        tx.insert("INSERT INTO grown VALUES (2) RETURNING a")
        tx.many("INSERT INTO grown VALUES (?)", [(3,)])

    def look(tx: Tx) -> None:
        tx.one("SELECT count(*) FROM grown")

    def cursors() -> int:
        gc.collect()
        return sum(type(thing) is apsw.Cursor for thing in gc.get_objects())

    async with opened() as db:
        await db.write(work)
        before = cursors()
        for _ in range(20):
            await asyncio.gather(*(db.write(work) for _ in range(3)), db.read(look))
        assert cursors() <= before + 4  # those of statements that are just being run

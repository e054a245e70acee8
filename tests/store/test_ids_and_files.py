"""Ids are never given twice, and contents keep their files whatever a client does while they are written."""

import asyncio
import threading
from pathlib import Path

import pytest

from posthouse.store import accounts, mailboxes, maildrop
from posthouse.store.blobs import rows, sweep
from posthouse.store.blobs.files import INLINE_MAX, MIDDLING, SMALL, FileWriter
from posthouse.store.blobs.writer import BlobWriter
from posthouse.store.database import Tx
from posthouse.store.intake import Intake
from posthouse.store.sqlite import SqliteDatabase
from tests.support.clock import START
from tests.support.house import House
from tests.support.house import opened as house_opened
from tests.support.loop import on_loop
from tests.support.store import opened

LARGE = b"Subject: large\r\n\r\n" + b"0123456789abcdef" * 20_000


@on_loop
async def test_the_id_of_one_who_is_gone_is_nobodys() -> None:
    async with opened() as database:
        await database.write(accounts.add_domain, "here.test", START)
        first = await database.write(accounts.add_account, "zed@here.test", "hash", START)
        await database.write(accounts.remove_account, "zed@here.test")
        assert await database.write(accounts.add_account, "yan@here.test", "hash", START) > first

        def ids(tx: Tx) -> dict[str, bool]:
            """Tables whose ids the database gives out: does each of them never give one twice?"""
            found = tx.all("SELECT name, sql FROM sqlite_master WHERE type = 'table'")
            return {name: "AUTOINCREMENT" in sql for name, sql in found}

        tables = await database.read(ids)
        for name in ("account", "mailbox", "email", "blob", "recipient", "credential", "domain", "address"):
            assert tables[name], name


def test_a_message_that_was_expunged_does_not_become_another_ones(tmp_path: Path) -> None:
    async def main() -> None:
        async with asyncio.timeout(60), house_opened(tmp_path) as house:
            await send(house, "alice", "for alice")
            reader, writer = await asyncio.open_connection("127.0.0.1", house.ports["pop3"])

            async def say(line: str) -> bytes:
                writer.write(line.encode() + b"\r\n")
                return await reader.readline()

            await reader.readline()
            await say("USER alice@posthouse.test")
            assert b"+OK" in await say("PASS a-password-for-tests")

            def expunge(tx: Tx) -> None:
                account = accounts.find_account(tx, "alice@posthouse.test")
                maildrop.update(tx, account.id, mailboxes.inbox_id(tx, account.id), maildrop.Update([1], []))
                sweep.collect(tx)

            await house.database.write(expunge)
            await send(house, "bob", "a secret for bob")
            assert (await say("RETR 1")).startswith(b"-ERR")
            writer.close()

    asyncio.run(main())


async def send(house: House, name: str, text: str) -> None:
    lines = ("EHLO c.example", "MAIL FROM:<x@example.com>", f"RCPT TO:<{name}@posthouse.test>", "DATA", f"{text}\r\n.")
    assert (await house.said("smtp", *lines))[-1].startswith("250 ")


@pytest.mark.parametrize("step", ["write", "finish"])
def test_a_client_that_goes_while_a_thread_works(tmp_path: Path, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with opened(tmp_path) as database:
            began, go_on = threading.Event(), threading.Event()
            whole = getattr(FileWriter, step)

            def slow(self: FileWriter, *args: bytes) -> object:
                began.set()
                assert go_on.wait(30)
                return whole(self, *args)

            monkeypatch.setattr(FileWriter, step, slow)
            intake = Intake(database.files)
            if step == "finish":
                intake.write(LARGE)
            thread = threading.Thread(target=(lambda: intake.write(LARGE)) if step == "write" else intake.finish)
            thread.start()
            await asyncio.to_thread(began.wait, 30)
            intake.abandon()
            go_on.set()
            await asyncio.to_thread(thread.join, 30)
            # What was complete is kept for whoever commits it; what was not leaves nothing behind.
            assert len(blob_files(database)) == (step == "finish")
            if step == "write":
                intake.write(LARGE)
                assert blob_files(database) == []
                with pytest.raises(ConnectionResetError):
                    intake.finish()
            for path in blob_files(database):
                path.unlink()

    asyncio.run(main())


def blob_files(database: SqliteDatabase) -> list[Path]:
    return [path for path in database.files.folder.rglob("*") if path.is_file()]


@on_loop
async def test_a_content_whose_file_is_missing_is_whole_again_with_the_next_copy() -> None:
    async with opened() as database:

        def intake() -> Intake:
            made = Intake(database.files)
            made.write(LARGE)
            return made

        first, _, _ = intake().finish()
        blob_id = await database.write(rows.put, first)
        assert first.file is not None
        database.files.path(first.file).unlink()
        second, _, _ = intake().finish()
        assert await database.write(rows.put, second) == blob_id
        assert await database.read(rows.read, blob_id) == LARGE
        await database.write(rows.reference, blob_id, -2)


@on_loop
async def test_only_so_many_middling_contents_come_in_in_memory() -> None:
    """Who fills memory with what never ends would have to bring it in pieces that are small, or on few connections."""
    async with opened() as database:
        piece = bytes(SMALL)
        coming = [BlobWriter(database.files) for _ in range(MIDDLING + 1)]
        for writer in coming:
            writer.write(piece)
            assert not writer.spills(0)
        for writer in coming[:-1]:
            assert not writer.spills(1)
            writer.write(b"x")
        assert coming[-1].spills(1)
        content = coming[0].finish()
        assert content.file is None
        assert not coming[-1].spills(1)
        coming[1].write(bytes(INLINE_MAX))  # it is in a file now
        coming[2].abandon()
        coming[1].abandon()
        del coming, writer
        assert len(database.files.places) == MIDDLING


def test_many_copies_of_a_large_message_take_one_file(tmp_path: Path) -> None:
    async def main() -> None:
        async with asyncio.timeout(60), house_opened(tmp_path) as house:
            for name in ("alice", "bob", "alice"):
                await send(house, name, "Subject: x\r\n\r\n" + "y" * 900 + "\r\n" + ("0123456789" * 9 + "\r\n") * 4000)
            assert len(blob_files(house.database)) == 1
            assert len(await house.inbox("alice")) == 2

    asyncio.run(main())


@pytest.mark.parametrize(
    ("message", "long"),
    [
        (b"To: " + b"<" * 7000 + b"\r\n\r\nx", False),
        (b"To: " + b"<" * 9000 + b"\r\n\r\nx", True),
        (b"To: " + b"<" * 9000 + b"\n\nx", True),
        (b"Subject: x\r\n\r\n" + b"words " * 10_000, False),
        (b"Subject: x\n\n" + b"words " * 10_000, False),
        (b"Content-Type: Message/RFC822\r\n\r\nTo: " + b"<" * 9000 + b"\r\n\r\nx", True),
        (b"Content-Type: multipart/Digest; boundary=b\r\n\r\n--b\r\n\r\nTo: " + b"<" * 9000 + b"\r\n\r\nx", True),
        (b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--b\r\n\r\n" * 2000, True),
    ],
)
@on_loop
async def test_what_takes_long_to_read_is_work_for_a_thread(message: bytes, long: bool) -> None:
    async with opened() as database:
        intake = Intake(database.files)
        intake.write(message)
        assert intake.is_long_work == long

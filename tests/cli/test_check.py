"""`posthouse check`: what is wrong is named, nothing is changed, the exit code says it."""

import asyncio
import json
from pathlib import Path

import pytest

from posthouse.base.errors import Permanent
from posthouse.store.database import Tx
from tests.cli.test_commands import Server
from tests.support.imap_site import ImapSite
from tests.support.program import run
from tests.support.store import opened


def test_what_is_wrong_is_named_and_nothing_changes(tmp_path: Path) -> None:
    server = Server(tmp_path)
    with pytest.raises(Permanent, match="posthouse serve"):
        server.text("check")
    data = tmp_path / "data"

    async def main() -> None:
        async with opened(data) as database:
            site = await ImapSite.make(database)
            await site.deliver(b"Subject: small\r\n\r\nx\r\n")
            await site.deliver(b"Subject: large\r\n\r\n" + b"x" * 400_000 + b"\r\n")
            # While somebody has it open, as a server has.
            assert "All is well: 2 messages, 2 contents." in await asyncio.to_thread(server.text, "check")
            assert await asyncio.to_thread(server.json, "check") == []
            files = [path for path in (data / "blobs").rglob("*") if path.is_file()]
            assert len(files) == 1
            kept = files[0].read_bytes()
            files[0].unlink()
            await database.write(lambda tx: tx.run("UPDATE mailbox SET messages = 9 WHERE name = 'INBOX'"))
            before = await database.read(_dump)
            done = await asyncio.to_thread(run, "--config", str(server.path), "check", "--json")
            assert done.returncode == 1, done.stderr
            found = [row["finding"] for row in json.loads(done.stdout)]
            assert len(found) == 3  # the mailbox, the account's sum, the file
            assert any("is missing" in text for text in found)
            done = await asyncio.to_thread(run, "--config", str(server.path), "check")
            assert done.returncode == 1
            assert "its file" in done.stdout
            assert await database.read(_dump) == before
            await database.write(lambda tx: tx.run("UPDATE mailbox SET messages = 2 WHERE name = 'INBOX'"))
            files[0].write_bytes(kept)
            await database.write(lambda tx: tx.run("INSERT INTO step VALUES (999, 0)"))
            with pytest.raises(Permanent, match="newer"):
                await asyncio.to_thread(server.text, "check")
            await database.write(lambda tx: tx.run("DELETE FROM step WHERE number = 999"))

    asyncio.run(main())


def _dump(tx: Tx) -> list[object]:
    return [tx.all(f"SELECT * FROM {table}") for table in ("mailbox", "account", "email", "entry", "blob", "step")]

"""Annotations: every bound, and that what cannot be set changes nothing."""

import asyncio
import re

import pytest

from posthouse.store import accounts, annotations, check, mailboxes
from posthouse.store.database import Tx
from posthouse.store.model import AnnotationsChanged, Change
from tests.support.imap_site import Client, ImapSite
from tests.support.store import opened


async def entries(client: Client, mailbox: str = "INBOX") -> int:
    answer = await client.command(f"GETMETADATA (DEPTH infinity) {mailbox} (/private /shared)")
    return len(re.findall(rb"/(?:private|shared)/\S+ ", answer))


def test_a_value_has_a_largest_size_and_nothing_else_is_set_with_it() -> None:
    async def main() -> None:
        async with opened() as database:
            client = await (await ImapSite.make(database)).logged_in()
            for size, answer in ((32 * 1024, b"OK"), (32 * 1024 + 1, b"NO [METADATA MAXSIZE 32768]")):
                line = b'SETMETADATA INBOX (/shared/comment "x" /private/comment {%d+}\r\n%b)' % (size, b"v" * size)
                assert b"T " + answer in await client.try_command(line)
                line = b"SETMETADATA INBOX (/shared/comment NIL /private/comment NIL)"
                assert await entries(client) == (2 if answer == b"OK" else 0)
                await client.command(line)

    asyncio.run(main())


def test_a_mailbox_and_an_account_have_only_so_many(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with opened() as database:
            client = await (await ImapSite.make(database)).logged_in()

            async def put(mailbox: str, scope: str, first: int, last: int, value: str = "x") -> bytes:
                shown = value if value == "NIL" else f'"{value}"'
                pairs = " ".join(f"/{scope}/n/{n} {shown}" for n in range(first, last))
                return await client.try_command(f"SETMETADATA {mailbox} ({pairs})")

            # 100 shared ones and 100 of one's own.
            assert b"T OK" in await put("INBOX", "private", 0, 100)
            assert b"T OK" in await put("INBOX", "shared", 0, 100)
            assert b"T NO [METADATA TOOMANY]" in await put("INBOX", "private", 99, 101)
            assert b"T NO [METADATA TOOMANY]" in await put("INBOX", "shared", 100, 101)
            assert b"T BAD" in await put("INBOX", "shared", 0, 101)
            assert await entries(client) == 200
            assert b"T OK" in await put("INBOX", "private", 0, 100, "other")
            monkeypatch.setattr(annotations, "MAX_OF_OWNER", 220)
            assert b"T OK" in await put("Sent", "shared", 0, 20)
            assert b"T NO [METADATA TOOMANY]" in await put("Sent", "private", 0, 1)
            assert b"T NO [METADATA TOOMANY]" in await put('""', "private", 0, 1)
            assert b"T OK" in await put("Sent", "shared", 0, 1, "NIL")
            assert b"T OK" in await put('""', "private", 0, 1)
            # INBOX is renamed all the same: its new place goes without where there is no room.
            await client.command("RENAME INBOX old")
            assert await entries(client, "old") == 0
            assert await entries(client) == 200
            monkeypatch.setattr(annotations, "MAX_OF_OWNER", 2000)
            monkeypatch.setattr(annotations, "MAX_OCTETS_OF_OWNER", 2000)
            assert b"T OK" in await put("Sent", "shared", 0, 1, "x" * 500)
            assert b"T NO [METADATA TOOMANY]" in await put("Sent", "shared", 1, 2, "x" * 1500)

    asyncio.run(main())


def test_they_go_with_the_mailbox_and_with_the_account() -> None:
    async def main() -> None:
        async with opened() as database:
            site = await ImapSite.make(database, ("bob",))
            heard: list[Change] = []
            site.feed.subscribe(site.account_id, heard.extend)
            client = await site.logged_in(name="alice")
            await client.command('SETMETADATA Sent (/shared/comment "x" /private/comment "y")')
            await client.command('SETMETADATA "" (/private/comment "y")')
            changes = [change for change in heard if isinstance(change, AnnotationsChanged)]
            sent = changes[0].mailbox_id
            assert changes == [
                AnnotationsChanged(site.account_id, sent, 0, ("/shared/comment",)),
                AnnotationsChanged(site.account_id, sent, site.account_id, ("/private/comment",)),
                AnnotationsChanged(site.account_id, 0, site.account_id, ("/private/comment",)),
            ]
            await client.command("DELETE Sent")

            def left(tx: Tx) -> list[tuple[object, ...]]:
                return tx.all("SELECT mailbox_id, account_id, entry FROM annotation")

            assert await database.read(left) == [(0, site.account_id, "/private/comment")]
            await client.command('SETMETADATA INBOX (/private/comment "y")')
            client.close()
            await database.write(accounts.remove_account, "alice@example.org")
            assert await database.read(left) == []

            def wrong(tx: Tx) -> list[str]:
                bob = site.accounts["bob"]
                annotations.store(tx, 99, bob, bob, {"/shared/x": b""})
                annotations.store(tx, mailboxes.inbox_id(tx, bob), 98, bob, {"/shared/x": b""})
                found = check.findings(tx)
                tx.run("DELETE FROM annotation")
                return found

            assert len(await database.write(wrong)) == 2

    asyncio.run(main())

"""Where extensions meet: each test is something that a hostile or an unlucky client did to the server."""

import asyncio
import re

import pytest

from tests.support.imap_site import ImapSite
from tests.support.store import opened

SMALL = b"Subject: x\r\n\r\nhello\r\n"


@pytest.mark.parametrize("known", ["", " 1:6"])
def test_what_went_above_all_that_is_left_is_told(known: str) -> None:
    """RFC 7162 section 3.2.5.1: the messages with the highest UIDs went while the client was away."""

    async def main() -> None:
        async with opened() as database:
            site = await ImapSite.make(database)
            for _ in range(6):
                await site.deliver(SMALL)
            client, other = await site.logged_in(), await site.logged_in("INBOX")
            await client.command("ENABLE QRESYNC")
            opening = await client.command("SELECT INBOX")
            validity = re.search(rb"UIDVALIDITY (\d+)", opening)
            modseq = re.search(rb"HIGHESTMODSEQ (\d+)", opening)
            assert validity is not None
            assert modseq is not None
            since = modseq[1].decode()
            await client.command("UNSELECT")
            await other.command(r"UID STORE 2,5:6 +FLAGS.SILENT (\Deleted)")
            await other.command("EXPUNGE")
            answer = await client.command(f"SELECT INBOX (QRESYNC ({validity[1].decode()} {since}{known}))")
            assert b"\r\n* VANISHED (EARLIER) 2,5:6\r\n" in answer
            answer = await client.command(f"UID FETCH 1:* (FLAGS) (CHANGEDSINCE {since} VANISHED)")
            assert answer.startswith(b"* VANISHED (EARLIER) 2,5:6\r\n")

    asyncio.run(main())

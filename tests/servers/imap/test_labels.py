"""Gmail's labels: what one command may do, and that searches for them are cut into pieces. What they mean is in the
transcripts; how they change together with everything else, in the model of sessions."""

import asyncio
from typing import Any

import pytest

from posthouse.base.settings import Imap
from posthouse.imap.labels import MAX_LABELS
from posthouse.store import quota, search
from tests.support.imap_site import ImapSite
from tests.support.store import opened

GMAIL = Imap(gmail=True)
PLAIN = b"Subject: x\r\n\r\nx\r\n"
NAMED = (
    b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/csv; name=x.csv\r\n\r\n1\r\n--b--\r\n"
)
ALTERNATIVE = NAMED.replace(b"mixed", b"alternative").replace(b"csv; name=x.csv", b"html")
ATTACHED = b"Content-Type: text/csv\r\nContent-Disposition: Attachment; filename=x.csv\r\n\r\n1;2\r\n"


def test_searches_look_at_a_bounded_number_of_messages_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with opened() as database:
            site = await ImapSite.make(database, imap=GMAIL)
            for number in range(20):
                await site.deliver(PLAIN if number % 4 else ATTACHED)
            client = await site.logged_in("INBOX")
            await client.command("STORE 3,7,19 +X-GM-LABELS.SILENT (some)")
            calls = []
            find = search.find

            def seen(*args: Any) -> search.Found:
                calls.append(find(*args))
                return calls[-1]

            monkeypatch.setattr(search, "find", seen)
            monkeypatch.setattr(search, "WINDOW", 3)
            for words, wanted in (
                ('X-GM-RAW "has:attachment"', b"1 5 9 13 17"),
                ("X-GM-LABELS some", b"3 7 19"),
                ("NOT X-GM-LABELS some X-GM-RAW has:attachment UID 6:*", b"9 13 17"),
                ('OR X-GM-LABELS some BODY "1;2"', b"1 3 5 7 9 13 17 19"),
                ("X-GM-LABELS none", b""),
            ):
                calls.clear()
                answer = await client.command(f"SEARCH {words}")
                assert answer.split(b"\r\n")[0] == (b"* SEARCH " + wanted).rstrip(), words
                assert len(calls) >= 5 or words.startswith("OR")  # which reads messages, few at a time

    asyncio.run(main())


def test_what_is_thrown_away_is_gone_wherever_it_was() -> None:
    async def main() -> None:
        async with opened() as database:
            site = await ImapSite.make(database, imap=GMAIL)
            for _ in range(2):
                await site.deliver(PLAIN)
            client = await site.logged_in("INBOX")
            await client.command("COPY 1 INBOX")
            await client.command("COPY 1 Archive")
            answer = await client.command("UID STORE 1 +X-GM-LABELS (\\Trash)")
            assert answer.count(b" EXPUNGE\r\n") == 2
            assert b"* 1 FETCH (UID 2 " in await client.command("UID FETCH 1:* (UID X-GM-LABELS)")
            assert b"MESSAGES 0" in await client.command("STATUS Archive (MESSAGES)")
            assert b"MESSAGES 1" in await client.command("STATUS Trash (MESSAGES)")

    asyncio.run(main())


def test_what_has_a_name_and_no_disposition_is_attached() -> None:
    async def main() -> None:
        async with opened() as database:
            site = await ImapSite.make(database, imap=GMAIL)
            inline = NAMED.replace(b"x.csv\r\n", b"x.csv\r\nContent-Disposition: inline\r\n")
            for message in (NAMED, PLAIN, ALTERNATIVE, ATTACHED, inline):
                await site.deliver(message)
            client = await site.logged_in("INBOX")
            for words, wanted in (
                ("has:attachment", b"1 4"),
                ("-has:attachment", b"2 3 5"),
                ("{has:attachment subject:x}", b"1 2 4"),
            ):
                answer = await client.command(f'SEARCH X-GM-RAW "{words}"')
                assert answer.split(b"\r\n")[0] == b"* SEARCH " + wanted, words

    asyncio.run(main())


def test_what_one_command_may_do() -> None:
    async def main() -> None:
        async with opened() as database:
            site = await ImapSite.make(database, imap=GMAIL)
            for _ in range(3):
                await site.deliver(PLAIN)
            client, other = await site.logged_in("INBOX"), await site.logged_in()
            many = " ".join(f"l{number}" for number in range(MAX_LABELS + 1))
            assert b"T BAD" in await client.try_command(f"STORE 1 +X-GM-LABELS ({many})")
            assert b"T BAD" in await client.try_command(f"STORE 1 +X-GM-LABELS {many}")
            await database.write(quota.set_limits, "alice@example.org", 0, 4)
            assert b"T NO [OVERQUOTA]" in await client.try_command("STORE 1:3 +X-GM-LABELS (new)")
            assert b"T NO [NONEXISTENT]" in await client.try_command("STATUS new (MESSAGES)")  # nothing of it was done
            assert b"T OK" in await client.try_command("STORE 1:3 +X-GM-LABELS (\\Starred)")
            await client.command("ENABLE CONDSTORE")
            await other.command("SELECT INBOX")
            await other.command("STORE 2 +FLAGS (\\Seen)")
            before = (await client.command("FETCH 1 MODSEQ")).split(b"MODSEQ (")[1].split(b")")[0].decode()
            answer = await client.try_command(f"STORE 1:2 (UNCHANGEDSINCE {before}) -X-GM-LABELS (\\Starred)")
            assert b"T OK [MODIFIED 2]" in answer
            assert b"* 1 FETCH (X-GM-LABELS () MODSEQ (" in answer
            await client.command("EXAMINE INBOX")
            assert b"T NO [READ-ONLY]" in await client.try_command("STORE 1 +X-GM-LABELS (Archive)")
            await client.command("SELECT INBOX")
            await other.command("STORE 3 +FLAGS (\\Deleted)")
            await other.command("EXPUNGE")
            answer = await client.try_command("STORE 3 +X-GM-LABELS (Archive)")
            assert b"T OK [EXPUNGEISSUED]" in answer
            assert b"X-GM-LABELS" not in answer

    asyncio.run(main())


def test_it_is_unknown_where_it_is_not_offered() -> None:
    async def main() -> None:
        async with opened() as database:
            site = await ImapSite.make(database)
            await site.deliver(PLAIN)
            client = await site.logged_in("INBOX")
            assert b"X-GM-EXT-1" not in await client.command("CAPABILITY")
            for line in ("FETCH 1 X-GM-MSGID", "STORE 1 +X-GM-LABELS (x)", "SEARCH X-GM-LABELS x", "SEARCH X-GM-RAW x"):
                assert b"T BAD" in await client.try_command(line), line

    asyncio.run(main())

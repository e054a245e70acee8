"""How far a long command is (RFC 9585); how many messages one command works on (RFC 9738); bounds of ESEARCH."""

import asyncio
import re
from collections.abc import Callable
from typing import Any

import pytest

from posthouse.imap import replies
from posthouse.imap.commands import multisearch as esearch
from posthouse.imap.commands.sort import MAX_CRITERIA
from posthouse.servers.imap import copy, fetch, multisearch, store
from posthouse.servers.imap.progress import kept_up
from posthouse.store import messages, search
from tests.support.clock import turns
from tests.support.imap_site import ImapSite
from tests.support.store import opened

PROGRESS = re.compile(rb'(?m)^\* OK \[INPROGRESS \("(\w+)" (\d+) (\d+)\)\]')


def seconds_pass(monkeypatch: pytest.MonkeyPatch, site: ImapSite, module: Any, name: str) -> None:
    """Each call of the function takes six seconds."""
    function: Callable[..., Any] = getattr(module, name)

    def slow(*args: Any) -> Any:
        site.clock.move(6)
        return function(*args)

    monkeypatch.setattr(module, name, slow)


def test_long_commands_say_how_far_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "CANDIDATES", 1)
    monkeypatch.setattr(fetch, "SLICE", 1)
    monkeypatch.setattr(store, "SLICE", 1)

    async def main() -> None:
        async with opened() as database:
            site = await ImapSite.make(database)
            for _ in range(6):
                await site.deliver(b"Subject: x\r\n\r\nbody\r\n")
            seconds_pass(monkeypatch, site, search, "find")
            seconds_pass(monkeypatch, site, fetch, "render")
            seconds_pass(monkeypatch, site, messages, "store_flags")
            client = await site.logged_in("INBOX")
            for command in (
                "SEARCH BODY nothing",
                "SORT (SUBJECT) UTF-8 BODY nothing",
                "THREAD REFS UTF-8 BODY nothing",
                "FETCH 1:* (FLAGS)",
                "FETCH 1:* (BODY.PEEK[])",
                "STORE 1:* +FLAGS (\\Seen)",
            ):
                # Every ten seconds at most, never when all is done.
                answer = await client.command(command)
                assert [(int(done), int(goal)) for _, done, goal in PROGRESS.findall(answer)] == [(2, 6), (4, 6)], (
                    command
                )
            assert b"INPROGRESS" not in await client.command("FETCH 1:2 FLAGS")

    asyncio.run(main())


def test_a_copy_of_many_messages_says_that_it_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copy, "MANY", 2)

    async def main() -> None:
        async with opened() as database:
            site = await ImapSite.make(database)
            for _ in range(2):
                await site.deliver(b"Subject: x\r\n\r\nbody\r\n")
            client = await site.logged_in("INBOX")
            assert b"COPYUID" in await client.command("COPY 1:2 Sent")
            session: Any = client.connection._session
            work: asyncio.Future[int] = asyncio.get_running_loop().create_future()
            waiting = asyncio.get_running_loop().create_task(kept_up(session, work))
            await turns()
            await site.clock.advance(25)
            work.set_result(5)
            assert await waiting == 5
            assert client.transport.take().count(b"* OK [INPROGRESS (") == 2
            assert site.clock.next_end() is None

    asyncio.run(main())


def test_progress_is_written_as_the_rfc_wants() -> None:
    assert replies.in_progress(b"A1", 3, 10).startswith(b'OK [INPROGRESS ("A1" 3 10)] ')
    assert replies.in_progress(b"A]1", 3).startswith(b"OK [INPROGRESS (NIL 3 NIL)] ")
    assert replies.in_progress(b"A1").startswith(b'OK [INPROGRESS ("A1" NIL NIL)] ')


async def site_with(database: Any, count: int) -> ImapSite:
    site = await ImapSite.make(database, imap_messages=3)
    for number in range(count):
        await site.deliver(b"Subject: s%d\r\n\r\nbody\r\n" % number)
    return site


def test_message_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "SLICE", 2)
    monkeypatch.setattr(store, "SLICE", 2)

    async def main() -> None:
        async with opened() as database:
            client = await (await site_with(database, 5)).logged_in()
            assert b" MESSAGELIMIT=3" in await client.command("CAPABILITY")
            await client.command("SELECT INBOX")

            async def ask(line: str) -> list[bytes]:
                return (await client.try_command(line)).split(b"\r\n")[:-1]

            # From the highest UID down, and where it stopped.
            assert await ask("FETCH 1:* UID") == [
                b"* 5 FETCH (UID 5)",
                b"* 4 FETCH (UID 4)",
                b"* 3 FETCH (UID 3)",
                b"T OK [MESSAGELIMIT 3 3] FETCH completed",
            ]
            answer = b"\r\n".join(await ask("UID FETCH 1:4 BODY.PEEK[HEADER.FIELDS (SUBJECT)]"))
            assert re.findall(rb"Subject: s(.)", answer) == [b"3", b"2", b"1"]
            assert answer.endswith(b"T OK [MESSAGELIMIT 3 2] FETCH completed")
            assert (await ask("FETCH 1:3 UID"))[-1] == b"T OK FETCH completed"
            assert (await ask("UID FETCH 1:* UID (PARTIAL 1:3)"))[-1] == b"T OK FETCH completed"
            assert (await ask("UID FETCH 1:* UID (PARTIAL 1:4)"))[0].startswith(b"T NO [MESSAGELIMIT 3] ")
            lines = await ask("UID STORE 1:* +FLAGS (\\Flagged)")
            assert [int(line.split()[1]) for line in lines[:-1]] == [5, 4, 3]
            assert lines[-1] == b"T OK [MESSAGELIMIT 3 3] STORE completed"
            # The messages looked at count, not those that match.
            assert await ask("SEARCH UNFLAGGED") == [b"* SEARCH", b"T OK [MESSAGELIMIT 3 3] SEARCH completed"]
            assert await ask("SEARCH UNFLAGGED UIDBEFORE 3") == [b"* SEARCH 1 2", b"T OK SEARCH completed"]
            assert await ask("UID SEARCH RETURN (SAVE COUNT) SUBJECT s") == [
                b'* ESEARCH (TAG "t%d") UID COUNT 3' % client._tags,
                b"T OK [MESSAGELIMIT 3 3] SEARCH completed",
            ]
            assert (await ask("SEARCH $"))[0] == b"* SEARCH 3 4 5"
            assert (await ask("SORT (SUBJECT) UTF-8 ALL"))[0].startswith(b"T NO [MESSAGELIMIT 3] ")
            assert (await ask("THREAD REFS UTF-8 1:4"))[0].startswith(b"T NO [MESSAGELIMIT 3] ")
            assert (await ask("SORT (SUBJECT) UTF-8 2:4"))[0] == b"* SORT 2 3 4"
            assert (await ask("ESEARCH IN (personal) ALL"))[0].startswith(b"T NO [LIMIT] ")
            # All or nothing
            assert (await ask("COPY 1:* Sent"))[0].startswith(b"T NO [MESSAGELIMIT 3 3] ")
            assert b"COPYUID" in (await ask("COPY 1:3 Sent"))[0]
            # Of UID EXPUNGE the deleted ones count; where the tagged OK has a code already, ours goes before it.
            await ask("UID STORE 1:3 +FLAGS.SILENT (\\Deleted)")
            await ask("ENABLE CONDSTORE")
            assert (await ask("UID STORE 4 +FLAGS.SILENT (\\Deleted)"))[-1] == b"T OK STORE completed"
            lines = await ask("UID EXPUNGE 1:*")
            assert lines[:4] == [b"* 4 EXPUNGE", b"* 3 EXPUNGE", b"* 2 EXPUNGE", lines[3]]
            assert lines[3].startswith(b"* NO [MESSAGELIMIT 3 2] ")
            assert lines[-1].startswith(b"T OK [HIGHESTMODSEQ ")
            assert (await ask("EXPUNGE"))[0] == b"* 1 EXPUNGE"

    asyncio.run(main())


def test_move_and_expunge_with_a_limit() -> None:
    async def main() -> None:
        async with opened() as database:
            client = await (await site_with(database, 5)).logged_in("INBOX")
            lines = (await client.command("MOVE 1:* Sent")).split(b"\r\n")
            assert lines[1:4] == [b"* 5 EXPUNGE", b"* 4 EXPUNGE", b"* 3 EXPUNGE"]
            assert lines[4] == b"T OK [MESSAGELIMIT 3 3] MOVE completed"

    asyncio.run(main())


def test_esearch_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with opened() as database:
            site = await ImapSite.make(database)
            client = await site.logged_in()
            names = " ".join(f"m{n}" for n in range(esearch.MAX_NAMES))
            assert b"T OK" in await client.command(f"ESEARCH IN (mailboxes ({names})) ALL")
            assert b"T BAD" in await client.try_command(f"ESEARCH IN (mailboxes ({names}) mailboxes x) ALL")
            assert b"T BAD" in await client.try_command(f"ESEARCH IN (mailboxes ({names} x)) ALL")
            sources = " ".join(["personal"] * (esearch.MAX_SOURCES + 1))
            assert b"T BAD" in await client.try_command(f"ESEARCH IN ({sources}) ALL")
            monkeypatch.setattr(multisearch, "MAX_MAILBOXES", 5)
            assert b"T NO [LIMIT] " in await client.try_command("ESEARCH IN (personal) ALL")
            await client.command("SELECT INBOX")
            tags = ' "x"' * (esearch.MAX_TAGS + 1)
            assert b"T BAD" in await client.try_command(f"CANCELUPDATE{tags}")
            by = " ".join(["SIZE"] * (MAX_CRITERIA + 1))
            assert b"T BAD" in await client.try_command(f"SORT ({by}) UTF-8 ALL")

    asyncio.run(main())

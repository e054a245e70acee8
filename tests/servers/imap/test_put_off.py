"""Pipelined APPENDs: stored in few transactions, each answered only after its own; nothing is left of what failed."""

import asyncio
import random
from typing import cast

import pytest
from structlog.testing import capture_logs

from posthouse.base.errors import StorageFull
from posthouse.imap import replies
from posthouse.imap.commands import any as common
from posthouse.imap.commands import append, auth
from posthouse.imap.options import Options
from posthouse.imap.server import ImapServer
from posthouse.servers.imap import append as storing
from posthouse.servers.imap.session import ImapSession
from posthouse.store import check
from posthouse.store.database import Tx
from posthouse.store.sqlite import SqliteDatabase
from tests.support.imap_site import ImapSite
from tests.support.store import opened

SMALL = b"Subject: x\r\n\r\nhello\r\n"


def appends(count: int, mailbox: bytes = b"INBOX") -> bytes:
    return b"".join(b"A%d APPEND %b {%d+}\r\n%b\r\n" % (n, mailbox, len(SMALL), SMALL) for n in range(count))


class Counting:
    """Counts the transactions of a database, and fails some."""

    def __init__(self, database: SqliteDatabase) -> None:
        self.writes = 0
        self.fails = False
        self._submit = database.submit
        database.submit = self.submit  # type: ignore[method-assign]

    def submit(self, work):  # type: ignore[no-untyped-def]
        self.writes += 1
        if not self.fails:
            return self._submit(work)

        def fail(tx: Tx) -> None:
            work(tx)
            raise StorageFull("no room", "no room")

        return self._submit(fail)


def test_what_comes_together_is_stored_together() -> None:
    async def main() -> None:
        async with opened() as database:
            site = await ImapSite.make(database)
            client = await site.logged_in()
            counting = Counting(database)
            answer = await client.send(appends(200))
            uids = [line.split()[4].rstrip(b"]") for line in answer.splitlines() if b"APPENDUID" in line]
            assert uids == [b"%d" % n for n in range(1, 201)]
            assert counting.writes <= 10
            counting.fails = True
            answer = await client.send(appends(50) + b"n NOOP\r\n")
            assert answer.count(b" NO [OVERQUOTA]") == 50
            assert answer.endswith(b"n OK NOOP completed\r\n")
            counting.fails = False
            assert (await client.command("STATUS INBOX (MESSAGES)")).startswith(b"* STATUS INBOX (MESSAGES 200)")
            assert await database.read(check.findings) == []

    asyncio.run(main())


def test_what_is_put_off_is_stored_and_answered_before_the_connection_ends() -> None:
    """The next literal is one that ends the connection, or the server stops."""

    async def main() -> None:
        async with opened() as database:
            site = await ImapSite.make(database)
            client = await site.logged_in()
            answer = await client.send(appends(5) + b"z APPEND INBOX {99999999999+}\r\n")
            assert [line.split()[0] for line in answer.splitlines() if b"APPENDUID" in line] == [
                b"A%d" % n for n in range(5)
            ]
            assert answer.endswith(b"\r\n* BYE [TOOBIG] That is more than this server takes\r\n")
            assert client.transport.closed

            client = await site.logged_in()
            errors = site.service.options.max_errors - 1
            answer = await client.send(
                b"b nonsense\r\n" * errors + appends(5) + b"z APPEND INBOX {1+}\r\nx nonsense\r\n"
            )
            assert answer.count(b"APPENDUID") == 5
            assert b"* BYE " in answer[answer.rindex(b"APPENDUID") :]

            client = await site.logged_in()
            client.connection.data_received(appends(3)[:-1])  # two are complete
            client.connection.drain_and_close()
            answer = await client.send(b"")
            assert answer.count(b"APPENDUID") == 2
            assert b"* BYE " in answer[answer.rindex(b"APPENDUID") :]

            client = await site.logged_in()
            assert b"MESSAGES 12" in await client.command("STATUS INBOX (MESSAGES)")
            assert await database.read(check.findings) == []

    asyncio.run(main())


def test_a_client_that_goes_while_its_messages_are_stored_is_no_error() -> None:
    """What is being stored is stored; what waits behind it goes with the client."""

    async def main() -> None:
        async with opened() as database:
            site = await ImapSite.make(database)
            client = await site.logged_in()
            client.connection.data_received(appends(3))  # they are being stored,
            await asyncio.sleep(0)
            client.connection.data_received(appends(2))  # and these wait
            with capture_logs() as logged:
                client.connection.connection_lost(None)
                await client.settle()
            assert [line["event"] for line in logged if line["event"] == "imap.failed"] == []
            client = await site.logged_in()
            assert b"MESSAGES 3" in await client.command("STATUS INBOX (MESSAGES)")
            assert await database.read(check.findings) == []

    asyncio.run(main())


def test_many_messages_of_one_command_are_not_all_held_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with opened() as database:
            monkeypatch.setattr(storing, "MAX_HELD", 100_000)
            site = await ImapSite.make(database)
            client = await site.logged_in()
            messages = [b"Subject: x\r\n\r\n" + random.Random(n).randbytes(30_000).hex().encode() for n in range(9)]
            answer = await client.send(
                b"a APPEND INBOX" + b"".join(b" {%d+}\r\n%b" % (len(one), one) for one in messages) + b"\r\n"
            )
            assert b"APPENDUID" in answer
            kept = await database.read(lambda tx: tx.all("SELECT file IS NULL FROM blob ORDER BY id"))
            assert [inline for (inline,) in kept] == [1, 1, 1, 1, 0, 0, 0, 0, 0]
            await client.command("SELECT INBOX")
            answer = await client.command("FETCH 1:* BODY.PEEK[]")
            assert all(one in answer for one in messages)
            assert await database.read(check.findings) == []

    asyncio.run(main())


def test_a_goodbye_waits_for_what_is_put_off() -> None:
    """As when the selected mailbox is taken away between two APPENDs."""
    engine = ImapServer(Options(plaintext_login=True))
    engine.receive(b"a LOGIN alice secret\r\n")
    assert isinstance(engine.next_event(), auth.Login)
    engine.authenticated()
    engine.receive(appends(1) + b"b APPEND INBOX {5+}\r\nabc")
    while not isinstance(engine.next_event(), append.AppendEnd):
        engine.proceed()
    engine.take_output()
    tag = engine.later()
    engine.bye(replies.REVOKED)
    closed = engine.closed
    assert not closed
    assert isinstance(engine.next_event(), common.Flush)
    engine.complete(tag, replies.ok("APPEND completed"))
    engine.flushed()
    assert engine.closed
    assert engine.next_event() is None
    assert engine.take_output().startswith(b"A0 OK APPEND completed\r\n* BYE [NOPERM]")


def test_what_is_being_stored_is_answered_before_goodbye() -> None:
    """The server stops while messages are stored beside what comes in: their client hears of them, then BYE."""

    async def main() -> None:
        async with opened() as database:
            site = await ImapSite.make(database)
            client = await site.logged_in()
            client.connection.data_received(appends(3))
            client.connection.drain_and_close()
            await client.settle()
            lines = client.transport.take().splitlines()
            assert [line.split()[0] for line in lines] == [b"A0", b"A1", b"A2", b"*"]
            assert lines[-1].startswith(b"* BYE")
            assert await database.read(check.findings) == []

    asyncio.run(main())


def test_more_comes_in_while_messages_are_stored() -> None:
    async def main() -> None:
        async with opened() as database:
            site = await ImapSite.make(database)
            client = await site.logged_in()
            go_on, submit = asyncio.Event(), database.submit

            async def slowly(work):  # type: ignore[no-untyped-def]
                await go_on.wait()
                return await submit(work)

            database.submit = lambda work: asyncio.ensure_future(slowly(work))  # type: ignore[method-assign, no-untyped-call]
            for data in (appends(2), appends(4)[len(appends(2)) :], b"n NOOP\r\n"):
                client.connection.data_received(data)
                await asyncio.sleep(0)
            session = cast(ImapSession, client.connection._session)
            assert len(session.put_off) == 2
            assert client.transport.take() == b""
            go_on.set()
            await client.settle()
            lines = client.transport.take().splitlines()
            assert [line.split()[0] for line in lines] == [b"A0", b"A1", b"A2", b"A3", b"n"]
            assert all(line.split()[1] == b"OK" for line in lines)

    asyncio.run(main())

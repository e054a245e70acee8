"""Where extensions meet: each test is something that a hostile or an unlucky client did to the server."""

import asyncio
import re
import zlib
from collections.abc import Awaitable
from typing import Any, cast

import pytest

from posthouse.base.errors import Temporary
from posthouse.imap.commands.any import Turn
from posthouse.imap.commands.append import AppendEnd
from posthouse.imap.options import Options
from posthouse.imap.server import ImapServer
from posthouse.net import connection as net_connection
from posthouse.servers.imap import contexts, fetch, finding
from posthouse.servers.imap.service import HANDLERS
from posthouse.servers.imap.session import ImapSession
from posthouse.store import check
from tests.support.imap_site import ImapSite
from tests.support.store import opened

SMALL = b"Subject: x\r\n\r\nhello\r\n"


def deflated(data: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(data) + packer.flush(zlib.Z_SYNC_FLUSH)


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


def test_lines_without_end_leave_turns_for_others() -> None:
    """What the engine answers itself, or passes over, comes in portions, inflated or not."""
    plain = ImapServer(Options())
    plain.receive(b"\r\n" * 1000)
    assert plain.next_event() == Turn()
    asked = ImapServer(Options())
    asked.receive(b"a CAPABILITY\r\n" * 1000)
    assert asked.next_event() == Turn()
    assert asked.take_output().count(b"a OK") <= 100
    packed = ImapServer(Options(plaintext_login=True))
    packed.receive(b"a LOGIN x y\r\n")
    packed.next_event()
    packed.authenticated()
    packed.receive(b"b COMPRESS DEFLATE\r\n")
    assert packed.next_event() is None
    packed.receive(deflated(b"x" * (8 << 20)))
    turns = 0
    while packed.next_event() == Turn():
        turns += 1
    assert turns >= 4


def test_a_bomb_that_is_not_read_fills_no_memory() -> None:
    """Three KiB that ask a hundred thousand times for a KiB: the answers wait until the client reads."""

    async def main() -> None:
        async with opened() as database:
            site = await ImapSite.make(database)
            client = site.client(room=64 * 1024)
            await client.command("LOGIN alice secret")
            await client.send(b"z COMPRESS DEFLATE\r\n")
            client.connection.data_received(deflated(b"a CAPABILITY\r\n" * 100_000))
            while not client.connection.is_blocked:  # noqa: ASYNC110
                await asyncio.sleep(0)
            await client.settle()
            assert len(client.transport.written) < 256 * 1024
            client.close()

    asyncio.run(main())


def test_tls_after_compression() -> None:
    """UNAUTHENTICATE ends compression (RFC 8437 section 4.1), and nothing of it is obeyed under TLS."""

    async def main() -> None:
        async with opened() as database:
            site = await ImapSite.make(database)
            client = await site.logged_in()
            await client.send(b"z COMPRESS DEFLATE\r\n")
            packer, reader = zlib.compressobj(9, zlib.DEFLATED, -15), zlib.decompressobj(-15)
            line = packer.compress(b"a UNAUTHENTICATE\r\n") + packer.flush(zlib.Z_SYNC_FLUSH)
            assert b"a OK" in reader.decompress(await client.send(line))
            assert reader.eof
            assert b"STARTTLS" in await client.send(b"b CAPABILITY\r\n")
            assert (await client.send(b"c STARTTLS\r\nd NOOP\r\n")).startswith(b"c BAD")

    asyncio.run(main())


def test_large_commands_are_not_put_off() -> None:
    """A pipelined MULTIAPPEND is large: only single small messages are gathered over commands."""

    async def main() -> None:
        async with opened() as database:
            site = await ImapSite.make(database)
            client = await site.logged_in()
            session = cast(ImapSession, client.connection._session)
            most, finish = 0, HANDLERS[AppendEnd]

            def finished(session: ImapSession, event: AppendEnd) -> Awaitable[None] | None:
                nonlocal most
                waiting = finish(session, event)
                most = max(most, len(session.put_off))
                return waiting

            session._handlers = {**HANDLERS, AppendEnd: finished}
            one = b" {%d+}\r\n%b" % (len(SMALL), SMALL)
            answer = await client.send(b"".join(b"A%d APPEND INBOX%b\r\n" % (n, one * 3) for n in range(20)))
            assert answer.count(b"APPENDUID") == 20
            assert most == 0
            assert await database.read(check.findings) == []

    asyncio.run(main())


@pytest.mark.parametrize(
    "command",
    [
        b"a SELECT INBOX\r\n",
        b"a SELECT Shared/bob@example.org/INBOX\r\n",
        b"a NOTIFY SET (PERSONAL (MessageNew MessageExpunge))\r\n",
        b"a NOTIFY SET STATUS (PERSONAL (MessageNew MessageExpunge))\r\n",
    ],
)
def test_who_goes_while_a_mailbox_is_read_leaves_nothing_behind(command: bytes) -> None:
    """Else each client that loses its connection at that moment would be told of changes for ever."""

    async def main() -> None:
        async with opened() as database:
            site = await ImapSite.make(database, ["bob"])
            bob = await site.logged_in(name="bob")
            await bob.command("SETACL INBOX alice@example.org lr")
            client = await site.logged_in()
            reading, go_on = asyncio.Event(), asyncio.Event()
            read = database.read

            async def slowly(*args: Any) -> Any:
                found = await read(*args)
                reading.set()
                await go_on.wait()
                return found

            database.read = slowly  # type: ignore[assignment]
            client.connection.data_received(command)
            await reading.wait()
            task = client.connection._task
            assert task is not None
            client.close()
            go_on.set()
            await task
            await site.quiet()
            watches = site.service.watches
            assert not watches._watches
            assert not watches._accounts
            assert not watches._everybody

    asyncio.run(main())


def test_notify_that_fails_leaves_what_was_asked_for_before() -> None:
    async def main() -> None:
        async with opened() as database:
            site = await ImapSite.make(database)
            client = await site.logged_in()
            await client.command("CREATE Work")
            await client.command("NOTIFY SET (PERSONAL (MessageNew MessageExpunge))")
            read = database.read

            async def fail(*_: Any) -> Any:
                raise Temporary("busy")

            database.read = fail  # type: ignore[assignment]
            assert b"T NO" in await client.try_command("NOTIFY SET (SUBTREE Work (MessageNew MessageExpunge))")
            database.read = read  # type: ignore[method-assign]
            await site.deliver(SMALL)
            await client.settle()
            assert client.transport.take().startswith(b"* STATUS INBOX ")
            await client.command("NOTIFY NONE")
            assert not site.service.watches._everybody

    asyncio.run(main())


def test_no_result_is_kept_up_to_date_after_its_mailbox(monkeypatch: pytest.MonkeyPatch) -> None:
    """A search in the background comes to its end when another mailbox is selected: nothing is said of it."""

    async def main() -> None:
        async with opened() as database:
            site = await ImapSite.make(database)
            uid = await site.deliver(SMALL)
            client, other = await site.logged_in("INBOX"), await site.logged_in("INBOX")
            await client.command("CREATE Work")
            await client.command("SEARCH RETURN (UPDATE ALL) UNSEEN")
            await client.command("NOTIFY SET (SELECTED (MessageNew MessageExpunge FlagChange))")
            searching, go_on = asyncio.Event(), asyncio.Event()
            find = finding.find

            async def slowly(*args: Any) -> Any:
                found = await find(*args)
                searching.set()
                await go_on.wait()
                return found

            monkeypatch.setattr(contexts, "find", slowly)
            other.connection.data_received(b"s UID STORE %d +FLAGS (\\Seen)\r\n" % uid)
            await searching.wait()
            client.transport.take()
            client.connection.data_received(b"u UNSELECT\r\nw SELECT Work\r\n")
            monkeypatch.undo()
            while b"w OK" not in client.transport.written:  # noqa: ASYNC110
                await asyncio.sleep(0)
            client.transport.take()
            go_on.set()
            await site.quiet()
            assert client.transport.take() == b""

    asyncio.run(main())


def test_events_that_are_answered_at_once_leave_turns_too(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with opened() as database:
            site = await ImapSite.make(database)
            client = await site.logged_in()
            monkeypatch.setattr(net_connection, "TURN", -1.0)  # no time at all
            client.connection.data_received(b"a NOOP\r\n" * 50)
            assert client.transport.written.count(b"a OK") == 1
            turns = 0
            while client.connection._task is not None:
                turns += 1
                await asyncio.sleep(0)
            assert turns >= 49
            assert client.transport.take().count(b"a OK") == 50

    asyncio.run(main())


@pytest.mark.parametrize("most", [0, 27])
def test_headers_that_are_too_large_to_be_kept_are_read_in_portions(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    """Whoever sends a thousand messages with a MiB of header each must not fill the memory of who lists them."""

    async def main() -> None:
        async with opened() as database:
            site = await ImapSite.make(database, imap_messages=most)
            head = b"To: " + b"x" * 900 + b"@example.org\r\n"
            for number in range(30):
                await site.deliver(b"Subject: %d\r\n" % number + (head * 60 if number % 3 else b"") + b"\r\nx\r\n")
            client = await site.logged_in("INBOX")
            rendered: list[fetch.Rendered] = []
            render = fetch.render

            def seen(*args: Any) -> fetch.Rendered:
                rendered.append(render(*args))
                return rendered[-1]

            monkeypatch.setattr(fetch, "BUDGET", 100_000)
            monkeypatch.setattr(fetch, "render", seen)
            wanted = list(range(30, 3, -1)) if most else list(range(1, 31))  # RFC 9738: from the highest down
            for item in (b"ENVELOPE", b"BODY.PEEK[HEADER.FIELDS (SUBJECT)]", b"BODY.PEEK[HEADER.FIELDS (TO)]"):
                rendered.clear()
                answer = await client.command(b"FETCH 1:* (UID %b)" % item)
                uids = [int(uid) for uid in re.findall(rb"FETCH \(UID (\d+) ", answer)]
                assert uids == wanted
                assert len(rendered) >= 9
                assert max(sum(map(len, one.pieces)) for one in rendered) < 250_000
            monkeypatch.undo()
            assert await client.command("FETCH 1:* (UID BODY.PEEK[HEADER.FIELDS (TO)])") == answer

    asyncio.run(main())

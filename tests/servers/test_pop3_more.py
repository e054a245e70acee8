"""POP3: what is kept for how long, how often somebody may log in, international messages, QUIT without waiting."""

import asyncio
import poplib
import threading

import pytest

from posthouse.base.settings import Pop3
from posthouse.mime import header, words
from posthouse.mime.addresses import addresses
from posthouse.mime.scan import scan
from posthouse.servers.pop3 import PIECE, LoginDelay
from posthouse.store import mailboxes, maildrop, messages
from posthouse.store.database import Tx
from posthouse.store.model import FLAGGED, SEEN
from tests.servers.test_pop3 import BOB, PASSWORD, SMALL, Client, Site, site, stored
from tests.support.clock import FakeClock
from tests.support.loop import on_loop

DAY = 86_400.0


async def again(here: Site) -> Client:
    """A session after the last one."""
    client = await here.client()
    while (reply := await client.login()).startswith("-ERR [IN-USE]"):
        client = await here.client()
    assert reply.startswith("+OK"), reply
    return client


async def retrieve(client: Client, number: int) -> bytes:
    assert await client.ask(f"RETR {number}") == "+OK Message follows"
    return (await client.lines()).replace(b"\r\n..", b"\r\n.")


async def flag(here: Site, uid: int, flags: int) -> None:
    inbox = await here.database.read(mailboxes.inbox_id, here.bob)
    await here.database.write(messages.store_flags, here.bob, inbox, [uid], "add", flags)


# Download and delete, leave on the server


@on_loop
async def test_download_and_delete() -> None:
    async with site() as here:
        client = await again(here)
        for number, message in enumerate(SMALL, 1):
            assert await retrieve(client, number) == stored(message)
            assert await client.ask(f"DELE {number}") == "+OK Marked for deletion"
        assert await client.ask("QUIT") == "+OK Bye"
        assert await here.inbox() == []


@on_loop
async def test_leave_on_server_fetches_only_what_is_new() -> None:
    async with site() as here:
        known: set[bytes] = set()
        got = []
        for _ in range(3):
            client = await again(here)
            await client.ask("UIDL")
            for line in (await client.lines()).splitlines():
                number, unique = line.split()
                if unique not in known:
                    known.add(unique)
                    got.append(await retrieve(client, int(number)))
            await client.ask("QUIT")
            await here.deliver(b"Subject: new\r\n\r\nnumber %d\r\n" % len(got))
        assert len(got) == len(set(got)) == 5
        assert len(await here.inbox()) == 6


@on_loop
async def test_a_unique_id_never_comes_again() -> None:
    """RFC 1939 section 7: not for another message, though this one is gone and its content comes again."""
    async with site() as here:
        seen: list[bytes] = []
        for _ in range(4):
            client = await again(here)
            await client.ask("UIDL")
            ids = [line.split()[1] for line in (await client.lines()).splitlines()]
            assert not set(ids) & set(seen)
            assert all(0 < len(one) <= 70 and one.isascii() for one in ids)
            seen += ids
            for number in range(1, len(ids) + 1):
                await client.ask(f"DELE {number}")
            await client.ask("QUIT")
            for message in SMALL:
                await here.deliver(message)


# EXPIRE


@on_loop
async def test_nothing_goes_by_itself() -> None:
    async with site() as here:
        for _ in range(2):
            client = await again(here)
            await client.ask("CAPA")
            assert b"EXPIRE NEVER" in await client.lines()
            await retrieve(client, 1)
            await client.ask("QUIT")
            here.clock.move(4000 * DAY)
        assert len(await here.inbox()) == 3


@on_loop
async def test_what_was_read_goes_when_its_time_is_over() -> None:
    async with site([*SMALL, SMALL[0]], Pop3(expire=30)) as here:
        client = await again(here)
        await client.ask("CAPA")
        assert b"EXPIRE 30\r\n" in await client.lines()
        for number in (1, 2, 4):
            await retrieve(client, number)
        await client.ask("QUIT")
        await flag(here, 4, FLAGGED)
        here.clock.move(29 * DAY)
        await (await again(here)).ask("QUIT")
        assert [uid for uid, _ in await here.inbox()] == [1, 2, 3, 4]
        here.clock.move(1 * DAY)
        client = await again(here)
        await here.deliver(b"Subject: new\r\n\r\nwhile the session runs\r\n")
        assert len(await here.inbox()) == 5  # nothing goes before QUIT
        assert await client.ask("QUIT") == "+OK Bye"
        # Not what was never read, is flagged, or came later.
        assert [uid for uid, _ in await here.inbox()] == [3, 4, 5]


@on_loop
async def test_what_is_to_go_stays_without_quit() -> None:
    async with site(pop3=Pop3(expire=0)) as here:
        client = await again(here)
        await retrieve(client, 1)
        await client.close()
        await (await again(here)).ask("QUIT")
        assert len(await here.inbox()) == 3


@on_loop
async def test_with_zero_days_what_was_fetched_goes_at_quit() -> None:
    async with site(pop3=Pop3(expire=0)) as here:
        await flag(here, 3, SEEN)  # read elsewhere: POP3 has not fetched it
        client = await again(here)
        await retrieve(client, 1)
        await client.ask("TOP 2 0")
        await client.lines()
        await client.ask("QUIT")
        assert [uid for uid, _ in await here.inbox()] == [2, 3]


# LOGIN-DELAY


@on_loop
async def test_logins_are_apart() -> None:
    async with site(pop3=Pop3(login_delay=59.5)) as here:
        client = await again(here)
        await client.ask("CAPA")
        assert b"LOGIN-DELAY 60\r\n" in await client.lines()
        await client.ask("QUIT")
        here.clock.move(59)
        early = await here.client(here.other)
        assert await early.login() == "-ERR [LOGIN-DELAY] Logins are 60 seconds apart here; wait a little"
        # Who does not know the password learns nothing, and a wrong one does not begin the time anew.
        await early.ask(f"USER {BOB}")
        assert (await early.ask("PASS wrong")).startswith("-ERR [AUTH]")
        here.clock.move(1)
        await early.ask(f"USER {BOB}")
        assert (await early.ask(f"PASS {PASSWORD}")).startswith("+OK 3 messages")


@on_loop
async def test_a_login_that_found_the_mailbox_locked_begins_no_delay() -> None:
    async with site(pop3=Pop3(login_delay=60)) as here:
        first = await again(here)
        here.clock.move(61)
        second = await here.client()
        assert (await second.login()).startswith("-ERR [IN-USE]")
        await first.ask("QUIT")
        await second.ask(f"USER {BOB}")
        assert (await second.ask(f"PASS {PASSWORD}")).startswith("+OK")


def test_what_is_remembered_of_logins_is_forgotten() -> None:
    clock = FakeClock()
    delay = LoginDelay(60, clock)
    for account in range(1000):
        delay.began(account)
        clock.move(0.1)
    assert delay.too_soon(999)
    clock.move(61)
    assert not delay.too_soon(5)
    assert not delay._last


# UTF8


INTERNATIONAL = (
    "From: Jürgen <jürgen@exämple.com>, Ann <ann@example.com>\r\nTo: 团体: 用户@例子.广告, x@example.org;\r\n"
    "Subject: Grüße\r\nMessage-ID: <ü@example.com>\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"
    "--b\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\nbleibt: ü\r\n"
    '--b\r\nContent-Type: application/pdf; name="ü.pdf"\r\n\r\nx\r\n'
    "--b\r\nContent-Type: message/global\r\n\r\nSubject: innen ü\r\n\r\nbleibt: ü\r\n--b--\r\n"
).encode()


@on_loop
async def test_international_messages_come_as_they_are_in_utf8_mode() -> None:
    large = INTERNATIONAL + b"x" * 70 * 1000 + b"\r\n"
    async with site([INTERNATIONAL, large]) as here:
        client = await here.client()
        await client.line()
        assert (await client.ask("UTF8")).startswith("+OK")
        await client.ask(f"USER {BOB}")
        await client.ask(f"PASS {PASSWORD}")
        assert await retrieve(client, 1) == stored(INTERNATIONAL)
        assert int((await client.ask("LIST 1")).split()[2]) == len(stored(INTERNATIONAL))
        assert await retrieve(client, 2) == stored(large)


@on_loop
@pytest.mark.parametrize("filler", [0, 2 * PIECE, 2 * PIECE - 700])
async def test_without_it_they_have_an_ascii_header(filler: int) -> None:
    """RFC 6856 section 2.1: they must not be sent as they are."""
    line = b"x" * 68 + b"\r\n"
    message = INTERNATIONAL.replace(b"bleibt", line * (filler // 70) + b"bleibt", 1)
    async with site([message, SMALL[0]]) as here:
        client = await again(here)
        got = await retrieve(client, 1)
        found = scan(got).root
        heads = [found.header_bytes, *[part.header_bytes for part in found.parts]]
        inner = found.parts[2].message
        assert inner is not None
        assert all(head.isascii() for head in [*heads, inner.header_bytes])
        assert got.count("bleibt: ü".encode()) == 2
        assert b"Subject: =?utf-8?b?R3LDvMOfZQ==?=\r\n" in got
        people = [
            (words.decode(one.name), one.local + b"@" + one.domain)
            for one in addresses(header.find(got, b"from") or b"")
        ]
        nowhere = b"invalid@internationalized-address.invalid"
        assert people == [("Jürgen jürgen@exämple.com", nowhere), ("Ann", b"ann@example.com")]
        assert b"Message-ID" not in got
        assert b"name*=utf-8''%C3%BC.pdf\r\n" in got
        assert b"Content-Type: message/rfc822\r\n" in got
        await client.ask("TOP 1 0")
        assert await client.lines() == found.header_bytes
        await client.ask("TOP 1 3")
        assert (await client.lines()).startswith(found.header_bytes + b"--b\r\n")
        assert await retrieve(client, 2) == stored(SMALL[0])


@on_loop
async def test_letters_of_other_charsets_are_left_alone() -> None:
    """What is no UTF-8 is no international message, only one that is wrong: it stays as it was signed."""
    message = b"Subject: Gr\xfc\xdfe\r\nX: \xfc\r\n\r\nb\xf6dy\r\n"
    async with site([message]) as here:
        assert await retrieve(await again(here), 1) == stored(message)


def test_poplib_asks_for_utf8() -> None:
    def work(here: Site) -> None:
        client = poplib.POP3("127.0.0.1", here.plain)
        assert client.capa()["UTF8"] == ["USER"]
        client.utf8()
        client.user(BOB)
        client.pass_(PASSWORD)
        assert "Subject: Grüße".encode() in client.retr(1)[1]
        client.quit()

    async def main() -> None:
        async with site([INTERNATIONAL]) as here:
            await asyncio.to_thread(work, here)

    on_loop(main)()


# Who does not wait


@on_loop
async def test_quit_counts_though_nobody_waits_for_its_answer() -> None:
    for _ in range(5):
        async with site() as here:
            client = await again(here)
            client.writer.write(b"DELE 1\r\nDELE 3\r\nQUIT\r\n")
            await client.close()
            client = await again(here)
            # The server may have seen the connection end before it read that far; but never half of it.
            left = [uid for uid, _ in await here.inbox()]
            assert left in ([2], [1, 2, 3])
            assert (await client.ask("STAT")).startswith(f"+OK {len(left)} ")


@on_loop
async def test_the_next_session_begins_after_the_last_has_removed_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = threading.Event()
    real = maildrop.update

    def slow(tx: Tx, account_id: int, mailbox_id: int, wanted: maildrop.Update) -> None:
        assert go_on.wait(30)
        real(tx, account_id, mailbox_id, wanted)

    async with site() as here:
        client = await again(here)
        monkeypatch.setattr("posthouse.store.maildrop.update", slow)
        client.writer.write(b"DELE 1\r\nQUIT\r\n")
        assert await client.line() == "+OK Marked for deletion"
        await client.close()
        while here.listeners[0]._connections:  # noqa: ASYNC110 - until the server has seen it go
            await asyncio.sleep(0)
        early = await here.client()
        assert (await early.login()).startswith("-ERR [IN-USE]")
        go_on.set()
        assert await (await again(here)).ask("STAT") == f"+OK 2 {sum(len(stored(m)) for m in SMALL[1:])}"

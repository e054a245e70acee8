"""POP3 over real sockets: logins, locks, TLS, large messages, deletions; and Python's poplib as a client."""

import asyncio
import poplib
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import cache

import pytest

from posthouse.auth.login import Logins
from posthouse.auth.passwords import hash_password
from posthouse.base.errors import Temporary
from posthouse.base.ids import IdSource
from posthouse.base.log import Logger, get_logger
from posthouse.base.settings import Limits, Pop3, Settings
from posthouse.net.listener import Admission, Listener
from posthouse.servers.pop3 import LoginDelay, MailboxLocks, Pop3Service
from posthouse.store import accounts, mailboxes, messages
from posthouse.store.database import Tx
from posthouse.store.feed import ChangeFeed
from posthouse.store.intake import Intake
from posthouse.store.sqlite import SqliteDatabase
from tests.support.certificates import root_file, server_context
from tests.support.clock import START, FakeClock
from tests.support.loop import on_both_loops, on_loop
from tests.support.store import opened

BOB = "bob@here.test"
PASSWORD = "correct horse"
NOTHING_SET = Pop3()
SMALL = [b"Subject: %d\r\n\r\nbody %d\r\n.dot\r\n" % (n, n) for n in range(1, 4)]


@cache
def secret() -> str:
    return hash_password(PASSWORD)


class Client:
    """Sends lines, reads lines."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def line(self) -> str:
        return (await self.reader.readline()).decode().rstrip("\r\n")

    async def ask(self, command: str) -> str:
        self.writer.write(command.encode() + b"\r\n")
        return await self.line()

    async def lines(self) -> bytes:
        return (await self.reader.readuntil(b"\r\n.\r\n")).removesuffix(b".\r\n")

    async def login(self) -> str:
        await self.line()
        assert (await self.ask(f"USER {BOB}")).startswith("+OK")
        return await self.ask(f"PASS {PASSWORD}")

    async def close(self) -> None:
        self.writer.close()
        try:
            await self.writer.wait_closed()
        except OSError:
            pass


class Site:
    """A store with bob in it, and POP3 on a port with passwords in clear and one without."""

    def __init__(self, database: SqliteDatabase) -> None:
        self.database = database
        self.feed = ChangeFeed()
        database.on_commit(self.feed.publish)
        self.locks = MailboxLocks()
        self.clock = FakeClock()
        self.log = get_logger()
        self.logins = Logins(database, self.clock, self.feed, self.log, lambda _ip: True)
        self.listeners: list[Listener] = []
        self.clients: list[Client] = []
        self.sessions: list[object] = []

    async def start(self, mail: list[bytes], settings: Settings) -> None:
        self.delay = LoginDelay(settings.pop3.login_delay, self.clock)
        await self.database.write(accounts.add_domain, "here.test", START)
        self.bob = await self.database.write(accounts.add_account, BOB, secret(), START)
        for message in mail:
            await self.deliver(message)
        self.plain = await self._listen(Pop3Service(*self._services(settings), secure=False, allow_plaintext_auth=True))
        self.other = await self._listen(Pop3Service(*self._services(settings), secure=False, allow_plaintext_auth=True))
        self.stls = await self._listen(Pop3Service(*self._services(settings), secure=False))
        self.tls = await self._listen(Pop3Service(*self._services(settings), secure=True), True)

    def _services(
        self, settings: Settings
    ) -> tuple[Settings, SqliteDatabase, Logins, FakeClock, IdSource, Logger, MailboxLocks, LoginDelay]:
        return settings, self.database, self.logins, self.clock, IdSource(), self.log, self.locks, self.delay

    async def _listen(self, service: Pop3Service, implicit: bool = False) -> int:
        listener = Listener(
            service,
            service.refusal,
            Admission(100, 100, lambda _ip: True),
            lambda: server_context("mail.here.test"),
            implicit,
        )
        self.listeners.append(listener)
        return await listener.open("127.0.0.1", 0)

    async def deliver(self, message: bytes) -> None:
        intake = Intake(self.database.files)
        await asyncio.to_thread(intake.write, message)
        content, digest, _ = await asyncio.to_thread(intake.finish)
        new = messages.NewEmail(content, b"Received: x\r\n", digest, 1, self.clock.now())

        def keep(tx: Tx) -> None:
            messages.append(tx, self.bob, mailboxes.inbox_id(tx, self.bob), new)

        await self.database.write(keep)

    async def client(self, port: int | None = None) -> Client:
        client = Client(*await asyncio.open_connection("127.0.0.1", port or self.plain, limit=1 << 24))
        self.clients.append(client)
        return client

    async def inbox(self) -> list[tuple[int, int]]:
        """(uid, flags) of what is in bob's INBOX."""

        def work(tx: Tx) -> list[tuple[int, int]]:
            inbox = mailboxes.inbox_id(tx, self.bob)
            return [(row[0], row[2]) for row in messages._entries(tx, inbox, None)]

        return await self.database.read(work)

    async def stop(self) -> None:
        for client in self.clients:
            await client.close()
        for listener in self.listeners:
            await listener.close(0.1)
        await self.logins.close()


@asynccontextmanager
async def site(mail: list[bytes] = SMALL, pop3: Pop3 = NOTHING_SET, **limits: float) -> AsyncIterator[Site]:
    settings = Settings(hostname="mail.here.test", limits=Limits.model_validate(limits), pop3=pop3)
    async with opened() as database:
        here = Site(database)
        await here.start(mail, settings)
        try:
            yield here
        finally:
            await here.stop()


def stored(message: bytes) -> bytes:
    return b"Received: x\r\n" + message


@on_both_loops
async def test_a_session() -> None:
    async with site() as here:
        client = await here.client()
        assert await client.login() == f"+OK 3 messages, {sum(len(stored(m)) for m in SMALL)} octets"
        for number, message in enumerate(SMALL, 1):
            assert await client.ask(f"RETR {number}") == "+OK Message follows"
            assert (await client.lines()).replace(b"\r\n..", b"\r\n.") == stored(message)
        assert await client.ask("TOP 2 0") == "+OK Message follows"
        assert await client.lines() == b"Received: x\r\nSubject: 2\r\n\r\n"
        assert await client.ask("QUIT") == "+OK Bye"
        assert await client.line() == ""  # closed


@on_loop
async def test_list_tells_what_retr_sends() -> None:
    async with site(mail=[]) as here:
        for content, any_line_ends in (
            (b"Subject: a\n\nbare\rline\n.ends", True),
            (b"Subject: b\r\n\r\nall is well\r\n", True),
            (b"Subject: c\r\n\r\nunfinished", False),
            (b"Subject: d\r\n\r\n" + b"\n" * 300_000, True),
        ):
            intake = Intake(here.database.files, any_line_ends=any_line_ends)
            for at in range(0, len(content), 7919):
                await asyncio.to_thread(intake.write, content[at : at + 7919])
            made, digest, _ = await asyncio.to_thread(intake.finish)

            def keep(tx: Tx, new: messages.NewEmail) -> None:
                messages.append(tx, here.bob, mailboxes.inbox_id(tx, here.bob), new)

            await here.database.write(keep, messages.NewEmail(made, b"Received: x\r\n", digest, 1, START))
        client = await here.client()
        await client.login()
        for number in range(1, 5):
            told = int((await client.ask(f"LIST {number}")).split()[2])
            assert (await client.ask(f"RETR {number}")).startswith("+OK")
            sent = (await client.lines()).replace(b"\r\n..", b"\r\n.")
            assert len(sent) == told
            assert b"\n" not in sent.replace(b"\r\n", b"")


@on_loop
async def test_deletions_happen_at_quit_and_what_was_read_is_seen() -> None:
    async with site() as here:
        client = await here.client()
        await client.login()
        await client.ask("RETR 1")
        await client.lines()
        await client.ask("TOP 3 0")
        await client.lines()
        assert (await client.ask("DELE 2")).startswith("+OK")
        assert await here.inbox() == [(1, 0), (2, 0), (3, 0)]
        await client.ask("QUIT")
        assert await here.inbox() == [(1, 1), (3, 0)]


@on_loop
async def test_without_quit_nothing_is_deleted() -> None:
    async with site() as here:
        client = await here.client()
        await client.login()
        await client.ask("DELE 2")
        await client.close()
        second = await here.client()
        while (reply := await second.login()).startswith("-ERR [IN-USE]"):  # until the server has seen it go
            second = await here.client()
        assert reply.startswith("+OK 3 messages")


@on_loop
async def test_one_session_a_mailbox_on_all_ports() -> None:
    async with site() as here:
        first, second = await here.client(), await here.client(here.other)
        assert (await first.login()).startswith("+OK")
        assert (await second.login()).startswith("-ERR [IN-USE]")
        await first.ask("QUIT")
        assert (await second.ask(f"USER {BOB}")).startswith("+OK")
        assert (await second.ask(f"PASS {PASSWORD}")).startswith("+OK")


@on_loop
async def test_a_session_that_breaks_off_leaves_no_lock() -> None:
    async with site() as here:
        for _ in range(3):
            client = await here.client()
            client.writer.write(f"USER {BOB}\r\nPASS {PASSWORD}\r\n".encode())
            await client.close()  # while the password is being checked
        client = await here.client()
        while (reply := await client.login()).startswith("-ERR [IN-USE]"):
            client = await here.client()
        assert reply.startswith("+OK")
        await client.ask("QUIT")
        assert not here.locks._held


@on_loop
async def test_wrong_passwords() -> None:
    async with site() as here:
        client = await here.client()
        await client.line()
        for name, password in ((BOB, "wrong"), ("nobody@here.test", PASSWORD)):
            await client.ask(f"USER {name}")
            assert await client.ask(f"PASS {password}") == "-ERR [AUTH] Wrong name or password"


@on_loop
async def test_no_password_without_tls() -> None:
    async with site() as here:
        client = await here.client(here.stls)
        await client.line()
        assert (await client.ask(f"USER {BOB}")).startswith("-ERR [AUTH]")


@on_both_loops
async def test_a_large_message_comes_in_pieces() -> None:
    line = b"." + b"x" * 70 + b"\r\n"
    message = b"Subject: large\r\n\r\n" + line * 20_000  # 1.4 MB
    async with site([message, SMALL[0]]) as here:
        client = await here.client()
        await client.login()
        await client.ask("RETR 1")
        assert (await client.lines()).replace(b"\r\n..", b"\r\n.") == stored(message)
        await client.ask("TOP 1 3")
        assert await client.lines() == stored(b"Subject: large\r\n\r\n") + (b"." + line) * 3
        await client.ask("RETR 2")
        assert (await client.lines()).replace(b"\r\n..", b"\r\n.") == stored(SMALL[0])


@on_loop
async def test_all_at_once() -> None:
    """Everything pipelined, more messages than are read ahead."""
    mail = [b"Subject: %d\r\n\r\n%b\r\n" % (n, b"x" * (n * 97 % 5000)) for n in range(200)]
    async with site(mail) as here:
        client = await here.client()
        await client.login()
        client.writer.write(b"".join(b"RETR %d\r\n" % n for n in range(1, 201)) + b"QUIT\r\n")
        for message in mail:
            assert await client.line() == "+OK Message follows"
            assert await client.lines() == stored(message)
        assert await client.line() == "+OK Bye"
        assert {flags for _, flags in await here.inbox()} == {1}


@on_loop
async def test_a_message_that_another_client_removed() -> None:
    async with site() as here:
        client = await here.client()
        await client.login()
        inbox = await here.database.read(mailboxes.inbox_id, here.bob)
        await here.database.write(messages.remove, here.bob, inbox, [2])
        await client.ask("RETR 1")
        await client.lines()
        assert await client.ask("RETR 2") == "-ERR Message was removed by another client"
        assert (await client.ask("DELE 2")).startswith("+OK")
        assert await client.ask("QUIT") == "+OK Bye"
        assert [uid for uid, _ in await here.inbox()] == [1, 3]


@on_loop
async def test_a_store_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise Temporary("on purpose")

    async with site() as here:
        client = await here.client()
        await client.login()
        monkeypatch.setattr("posthouse.store.maildrop.sources", broken)
        assert (await client.ask("RETR 1")).startswith("-ERR [SYS/TEMP] Something went wrong here")
        assert (await client.ask("STAT")).startswith("+OK 3")
        monkeypatch.setattr("posthouse.store.maildrop.update", broken)
        await client.ask("DELE 1")
        assert await client.ask("QUIT") == "-ERR [SYS/TEMP] Some messages could not be removed"
        assert len(await here.inbox()) == 3


@on_loop
async def test_the_unique_ids_last() -> None:
    async with site() as here:
        ids = []
        for _ in range(2):
            client = await here.client()
            await client.login()
            await client.ask("UIDL")
            ids.append([line.split()[1] for line in (await client.lines()).split(b"\r\n")[:-1]])
            await client.ask("DELE 1")
            await client.ask("QUIT")
        assert ids[0][1:] == ids[1]
        assert len(set(ids[0])) == 3


@on_loop
async def test_the_autologout_timer_closes_without_a_word() -> None:
    async with site() as here:
        client = await here.client()
        await client.login()
        await client.ask("DELE 1")
        (connection,) = here.listeners[0]._connections
        assert connection._timeout == 600
        connection.check_time(connection.deadline + 1)
        assert await client.reader.read() == b""
        assert len(await here.inbox()) == 3


@on_loop
async def test_who_does_not_log_in_is_closed() -> None:
    async with site() as here:
        client = await here.client()
        await client.line()
        (connection,) = here.listeners[0]._connections
        assert 0 < connection.limit - asyncio.get_running_loop().time() <= 60
        connection.check_time(connection.limit + 1)
        assert await client.reader.read() == b""


@on_loop
async def test_the_server_stops() -> None:
    async with site() as here:
        client = await here.client()
        await client.login()
        for listener in here.listeners:
            await listener.close(1.0)
        assert await client.line() == "-ERR [SYS/TEMP] The server is shutting down"


def with_poplib(connect: Callable[[Site], poplib.POP3]) -> None:
    def work(here: Site) -> None:
        client = connect(here)
        assert client.stat() == (3, sum(len(stored(m)) for m in SMALL))
        assert client.list()[1] == [b"%d %d" % (n, len(stored(m))) for n, m in enumerate(SMALL, 1)]
        assert len(client.uidl()[1]) == 3
        assert b"\r\n".join(client.retr(1)[1]) + b"\r\n" == stored(SMALL[0])
        assert client.top(2, 0)[1][1] == b"Subject: 2"
        client.dele(3)
        client.quit()

    async def main() -> None:
        async with site() as here:
            await asyncio.to_thread(work, here)
            assert await here.inbox() == [(1, 1), (2, 0)]

    on_loop(main)()


def trusting() -> ssl.SSLContext:
    return ssl.create_default_context(cafile=root_file())


def test_poplib() -> None:
    def connect(here: Site) -> poplib.POP3:
        client = poplib.POP3("127.0.0.1", here.plain)
        client.user(BOB)
        client.pass_(PASSWORD)
        return client

    with_poplib(connect)


def test_poplib_over_tls() -> None:
    def connect(here: Site) -> poplib.POP3:
        context = trusting()
        context.check_hostname = False
        client = poplib.POP3_SSL("127.0.0.1", here.tls, context=context)
        client.user(BOB)
        client.pass_(PASSWORD)
        return client

    with_poplib(connect)


def test_poplib_with_stls() -> None:
    def connect(here: Site) -> poplib.POP3:
        client = poplib.POP3("127.0.0.1", here.stls)
        assert "STLS" in client.capa()
        assert "USER" not in client.capa()
        context = trusting()
        context.check_hostname = False
        client.stls(context)
        assert "STLS" not in client.capa()
        assert {"PLAIN", "LOGIN", "SCRAM-SHA-256-PLUS"} <= set(client.capa()["SASL"])
        client.user(BOB)
        client.pass_(PASSWORD)
        return client

    with_poplib(connect)

"""IMAP sessions over a real store, without a network: the real runtime on a transport that keeps what is written."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

from posthouse.auth.login import Login, Logins, Refused, Visitor
from posthouse.base import ids
from posthouse.base.log import get_logger
from posthouse.base.settings import Imap, Limits, Settings
from posthouse.imap.flags import Flags, flags_of
from posthouse.net.connection import Connection, SessionFactory
from posthouse.servers.imap import ImapService
from posthouse.store import accounts, mailboxes, messages
from posthouse.store.database import Tx
from posthouse.store.feed import ChangeFeed
from posthouse.store.intake import Intake
from posthouse.store.sqlite import SqliteDatabase
from tests.support.clock import START, FakeClock
from tests.support.store import opened

USUAL = Imap()


class MemoryTransport(asyncio.Transport):
    """Keeps what is written. `room` bytes may wait before the writer is asked to pause."""

    def __init__(self, room: int = 1 << 40) -> None:
        super().__init__()
        self.written = bytearray()
        self.protocol: asyncio.Protocol | None = None
        self.closed = False
        self._room = room
        self._paused = False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return {"peername": ("127.0.0.1", 4000), "sockname": ("127.0.0.1", 143)}.get(name, default)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def write(self, data: Any) -> None:
        if not self.closed:
            self.written += data
            if len(self.written) > self._room and not self._paused:
                self._paused = True
                cast(asyncio.Protocol, self.protocol).pause_writing()

    def take(self) -> bytes:
        """What was written since the last call: the peer reads."""
        taken = bytes(self.written)
        self.written.clear()
        if self._paused:
            self._paused = False
            cast(asyncio.Protocol, self.protocol).resume_writing()
        return taken

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            asyncio.get_running_loop().call_soon(cast(asyncio.Protocol, self.protocol).connection_lost, None)

    def abort(self) -> None:
        self.close()


class _Owner:
    """What a connection needs of a listener."""

    def __init__(self, service: ImapService) -> None:
        self.loop = asyncio.get_running_loop()
        self.implicit_tls = False
        self.new_session: SessionFactory = service

    def tls_context(self) -> None:
        return None

    def admit(self, connection: Connection) -> str | None:
        return None

    def leave(self, connection: Connection) -> None:
        pass

    def refusal(self, why: str) -> bytes:
        return b""

    def report(self, message: str, error: BaseException) -> None:
        raise error


class _Logins:
    """Everybody's password is "secret"."""

    mechanisms = ("PLAIN", "LOGIN")
    hostname = "mail.example.org"

    def __init__(self, logins: dict[str, Login]) -> None:
        self._logins = logins

    def offered(self, *, cram_md5: bool) -> tuple[str, ...]:
        assert not cram_md5
        return self.mechanisms

    async def verify(
        self, name: str, password: str, ip: str, service: str, session: str, mechanism: str, acting: str = ""
    ) -> Login | Refused:
        await asyncio.sleep(0)
        login = self._logins.get(name)
        if password == "later":
            return Refused.LATER
        fits = login is not None and password == "secret" and (not acting or self._logins.get(acting) == login)
        return login if login is not None and fits else Refused.WRONG

    def refuse(self, name: str, visitor: Visitor, why: str) -> Refused:
        return Refused.WRONG

    def enter(self, login: Login, end: Callable[[], None]) -> Callable[[], None]:
        return lambda: None


class Client:
    """One connection."""

    def __init__(self, service: ImapService, room: int = 1 << 40) -> None:
        self.service = service
        self.transport = MemoryTransport(room)
        self.connection = Connection(_Owner(service))
        self.transport.protocol = self.connection
        self.connection.connection_made(self.transport)
        self._tags = 0

    async def settle(self) -> None:
        """Wait until the connection has nothing more to do, or the peer must read first; and for what the service does
        beside."""
        while self.connection._task is not None and not self.connection.is_blocked:  # noqa: ASYNC110
            await asyncio.sleep(0)
        while self.service._background:  # noqa: ASYNC110
            await asyncio.sleep(0)
        await asyncio.sleep(0)

    async def send(self, data: bytes, chunk: int = 1 << 20) -> bytes:
        """Send bytes in chunks; what comes back."""
        out = b""
        for at in range(0, len(data), chunk):
            self.connection.data_received(data[at : at + chunk])
            await self.settle()
        while True:
            await self.settle()
            taken = self.transport.take()
            out += taken
            if not taken or (not self.connection.is_blocked and self.connection._task is None):
                return out + self.transport.take()

    async def command(self, line: str | bytes) -> bytes:
        """Send a command with a tag of its own; the answer must be OK and comes back with the tag as "T"."""
        answer = await self.try_command(line)
        assert b"T OK" in answer[answer.rfind(b"\r\n", 0, -2) :] or answer.startswith(b"T OK"), (line, answer[-300:])
        return answer

    async def try_command(self, line: str | bytes) -> bytes:
        """The same, whatever the answer is."""
        self._tags += 1
        tag = b"t%d" % self._tags
        answer = await self.send(tag + b" " + (line.encode() if isinstance(line, str) else line) + b"\r\n")
        return re.sub(rb"(?m)^" + tag + rb" ", b"T ", answer)

    def close(self) -> None:
        """The peer goes away."""
        if not self.transport.closed:
            self.transport.closed = True
            self.connection.connection_lost(None)


class ImapSite:
    """A store with the account alice, and as many clients as a test wants."""

    def __init__(
        self,
        database: SqliteDatabase,
        account_id: int,
        others: dict[str, int] | None = None,
        imap: Imap = USUAL,
        **limits: int,
    ) -> None:
        self.database = database
        self.account_id = account_id
        self.accounts = {"alice": account_id, **(others or {})}
        self.feed = ChangeFeed()
        database.on_commit(self.feed.publish)
        self.clock = FakeClock()
        self.ids = ids.IdSource()
        logins = {name: Login(number, f"{name}@example.org") for name, number in self.accounts.items()}
        logins |= {login.name: login for login in logins.values()}
        settings = Settings(
            hostname="mail.example.org",
            data=database.path.parent,
            limits=Limits().model_copy(update=limits),  # whatever the bounds of the settings are
            imap=imap,
        )
        self.service = ImapService(
            settings,
            database,
            self.feed,
            cast(Logins, _Logins(logins)),
            self.clock,
            self.ids,
            get_logger(),
            allow_plaintext_auth=True,
        )

    @classmethod
    async def make(
        cls, database: SqliteDatabase, others: Sequence[str] = (), imap: Imap = USUAL, **limits: int
    ) -> "ImapSite":
        """A site on an empty database, with alice and others."""

        def people(tx: Tx) -> dict[str, int]:
            accounts.add_domain(tx, "example.org", START)
            names = ("alice", *others)
            return {name: accounts.add_account(tx, f"{name}@example.org", "no hash", START) for name in names}

        made = await database.write(people)
        return cls(database, made.pop("alice"), made, imap, **limits)

    def client(self, room: int = 1 << 40) -> Client:
        """A new connection, before its greeting was read."""
        return Client(self.service, room)

    async def logged_in(self, select: str = "", rev2: bool = False, name: str = "alice") -> Client:
        """A connection that is logged in already."""
        client = self.client()
        await client.command(f"LOGIN {name} secret")
        if rev2:
            await client.command("ENABLE IMAP4rev2")
        if select:
            await client.command(f"SELECT {select}")
        return client

    @classmethod
    @asynccontextmanager
    async def filled(cls, messages: Iterable[bytes]) -> AsyncIterator[tuple["ImapSite", Client]]:
        """A site on a store of its own, with messages in alice's INBOX, and a client that has selected it."""
        async with opened() as database:
            site = await cls.make(database)
            for message in messages:
                await site.deliver(message)
            yield site, await site.logged_in("INBOX")

    async def quiet(self) -> None:
        """Wait for what sessions do in the background."""
        while self.service._background:
            await asyncio.gather(*self.service._background)

    async def deliver(
        self, message: bytes, mailbox: str = "INBOX", flags: str = "", prefix: bytes = b"", name: str = "alice"
    ) -> int:
        """A message comes in from outside; its UID."""
        intake = Intake(self.database.files)
        intake.write(message)
        content, digest, _ = intake.finish()
        found = flags_of(flags.encode().split())
        assert isinstance(found, Flags)
        now = self.clock.now()
        new = messages.NewEmail(content, prefix, digest, self.ids.next(now), now)

        def put(tx: Tx) -> int:
            account_id = self.accounts[name]
            there = mailboxes.by_name(tx, account_id, mailbox)
            assert there is not None
            return messages.append(tx, account_id, there.id, new, found.bits, " ".join(sorted(found.keywords))).uid

        return await self.database.write(put)

"""A queue with everything real but the far side: a store, a directory with alice, remote servers on loopback.

Remote servers listen on one port of 127.0.0.2, 127.0.0.3 and so on; the zone names them, and the dialler of the
site goes to that port where the queue wants 25.
"""

import asyncio
import random
import shutil
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

from posthouse.base.ids import IdSource
from posthouse.base.log import get_logger
from posthouse.base.settings import Settings
from posthouse.delivery.directory import Directory
from posthouse.delivery.inject import Injector
from posthouse.net.dial import ClientTls, dial
from posthouse.net.dns import ZoneResolver
from posthouse.net.http import Response
from posthouse.net.stream import Stream
from posthouse.queue import manager as manager_module
from posthouse.queue.manager import QueueManager
from posthouse.queue.mta_sts import Policies
from posthouse.queue.tls_counts import Count, Counts, Failure
from posthouse.queue.transport_security import Guard
from posthouse.senderauth.signing import Signing
from posthouse.smtp.client import TIMEOUTS
from posthouse.store import accounts, events, mailboxes, messages, outbox, outbox_admin
from posthouse.store.database import Tx
from posthouse.store.events import Event
from posthouse.store.feed import ChangeFeed
from posthouse.store.model import QueueChanged
from posthouse.store.outbox import NewMessage
from posthouse.store.sqlite import SqliteDatabase
from tests.support.clock import START, FakeClock, turns
from tests.support.remote import Remote, Script
from tests.support.store import opened, put_blob

SECOND = 1_000_000
DAYS = 86_400 * SECOND
ALICE = "alice@here.test"
MESSAGE = b"Subject: hello\r\nFrom: alice@here.test\r\n\r\nHello\r\n.dot\r\n"
PREFIX = b"Received: by here\r\n"


class To(NamedTuple):
    address: str
    destination: str
    options: str = ""


class Site:
    def __init__(self, database: SqliteDatabase, folder: Path, options: dict[str, Any]) -> None:
        self.database = database
        self.clock = FakeClock()
        self.zone: dict[str, Any] = {}
        self.resolver = ZoneResolver(self.zone)  # set `secure` for a zone that is signed
        self.policies: dict[str, bytes | Exception] = {}  # of MTA-STS, by domain: see `publish`
        self.remotes: dict[str, Remote] = {}
        self.port = 0
        self.feed = ChangeFeed()
        database.on_commit(self.feed.publish)
        self.ids = IdSource()
        self.settings = Settings.model_validate(
            {"hostname": "mail.here.test", "data": folder, "listen": [{"service": "imap", "port": 1143}], **options}
        )
        self.captured: list[dict[str, object]] = []
        self.dialled: list[tuple[str, ...]] = []

    async def start(self, timeouts: Mapping[str, float]) -> None:
        await self.database.write(accounts.add_domain, "here.test", START)
        self.alice = await self.database.write(accounts.add_account, ALICE, "hash", START)
        self.mta_sts = Policies(self.database, self.resolver, self.clock, self.fetch)
        security = self.settings.transport_security
        self.guard = Guard(self.resolver, self.mta_sts if security.mta_sts else None, dane=security.dane)
        self.signing = Signing(
            self.database, self.feed, self.clock, get_logger(), self.settings.signing, self.settings.hostname
        )
        self.manager = self.new_manager(timeouts)
        await self.manager.start()

    def new_manager(self, timeouts: Mapping[str, float] = TIMEOUTS, node: str = "") -> QueueManager:
        directory = Directory(self.database, self.feed, "mail.here.test")
        injector = Injector(self.database, directory, self.clock, self.ids, "mail.here.test", 5.0)
        return QueueManager(
            settings=self.settings,
            database=self.database,
            feed=self.feed,
            clock=self.clock,
            resolver=self.resolver,
            prepare=injector.keeper,
            new_ids=self.ids,
            log=get_logger(),
            dialler=self.dial,
            captured=self.captured.append,
            chance=random.Random(1),
            node=node,
            timeouts=timeouts,
            guard=self.guard,
            signed_again=self.signing.signed_again,
        )

    async def fetch(self, url: str) -> Response:
        """What the web server of a domain with a policy answers; another fetcher may be put in its place."""
        body = self.policies[url.removeprefix("https://mta-sts.").partition("/")[0]]
        if isinstance(body, Exception):
            raise body
        return Response(200, "text/plain", body)

    def publish(self, domain: str, body: bytes | Exception, id_: str = "7") -> None:
        """A policy of MTA-STS."""
        self.policies[domain] = body
        self.zone[f"_mta-sts.{domain}"] = {"TXT": [f"v=STSv1; id={id_};".encode()]}

    async def dial(
        self,
        addresses: Sequence[str],
        port: int,
        *,
        patience: float = 30.0,
        tls: ClientTls | None = None,
        sources: Sequence[str] = (),
    ) -> Stream:
        self.dialled.append(tuple(addresses))
        return await dial(addresses, self.port if port == 25 else port, patience=patience, tls=tls, sources=sources)

    async def remote(self, name: str, script: Script | None = None, **options: Any) -> Remote:
        """Start a server and give it a name in the DNS."""
        remote = Remote(script, **options)
        address = f"127.0.0.{len(self.remotes) + 2}"
        self.port = await remote.start(address, self.port)
        self.remotes[name] = remote
        self.zone[name] = {"A": [address]}
        return remote

    async def closed(self, name: str) -> tuple[Remote, asyncio.Event]:
        """A server that answers no message until its gate is set."""
        remote = await self.remote(name)
        gate = remote.gate = asyncio.Event()
        return remote, gate

    def domain(self, name: str, *hosts: str) -> None:
        """MX records in the order of the hosts."""
        self.zone[name] = {"MX": [(10 * n, host) for n, host in enumerate(hosts, 1)]}

    async def queue(
        self,
        *recipients: str,
        sender: str = ALICE,
        content: bytes = MESSAGE,
        lifetime: int = 5 * DAYS,
        submitted: bool = True,
        prefix: bytes = PREFIX,
    ) -> int:
        """Queue a message, submitted by alice or by nobody who logged in; returns its trace."""
        trace = self.ids.next(self.clock.now())
        now = self.clock.now()

        def work(tx: Tx) -> None:
            blob_id = put_blob(tx, content)
            size = len(prefix) + len(content)
            account = self.alice if submitted else None
            message = NewMessage(trace, sender, account, blob_id, prefix, size, now, now + lifetime)
            lane = outbox.add(tx, message, [To(r, r.rpartition("@")[2]) for r in recipients])
            tx.publish(QueueChanged(trace, lane))

        await self.database.write(work)
        return trace

    async def settled(self) -> None:
        await self.manager.settled()

    async def run(self, *recipients: str, **options: Any) -> int:
        """Queue a message and wait until it was tried."""
        trace = await self.queue(*recipients, **options)
        await self.settled()
        return trace

    async def pass_time(self, seconds: float) -> None:
        """Let time pass; everything that falls due on the way is done at its time."""
        end = self.clock.now() + int(seconds * SECOND)
        await self.settled()
        while (due := self.clock.next_end()) is not None and due <= end:
            self.manager._still.clear()
            await self.clock.advance((due - self.clock.now()) / SECOND)
            await self.settled()
        self.clock.move((end - self.clock.now()) / SECOND)
        await turns()

    async def waiting(self) -> dict[str, outbox_admin.Recipient]:
        """What is in the queue, by address."""
        listed = await self.database.read(outbox_admin.listing)
        return {r.address: r for _, recipients in listed for r in recipients}

    async def attempts(self, trace: int) -> list[Event]:
        return [e for e in await self.database.read(events.of_trace, trace) if e.kind == "attempt"]

    async def bounces(self) -> list[bytes]:
        """What came into alice's INBOX."""

        def work(tx: Tx) -> list[bytes]:
            inbox = mailboxes.inbox_id(tx, self.alice)
            return [messages.read_source(tx, row[1]) for row in messages._entries(tx, inbox, None)]

        return await self.database.read(work)

    async def stop(self) -> None:
        await self.manager.close(0.1)
        await self.mta_sts.close()
        for remote in self.remotes.values():
            await remote.stop()


@asynccontextmanager
async def site(timeouts: Mapping[str, float] = TIMEOUTS, **options: Any) -> AsyncIterator[Site]:
    folder = Path(tempfile.mkdtemp(prefix="posthouse-test-"))
    idle, manager_module.IDLE = manager_module.IDLE, 600.0  # days pass here: fewer looks
    try:
        async with opened(folder) as database:
            here = Site(database, folder, options)
            await here.start(timeouts)
            try:
                yield here
            finally:
                await here.stop()
    finally:
        manager_module.IDLE = idle
        shutil.rmtree(folder, ignore_errors=True)


def counted(counts: Counts) -> dict[tuple[str, str], Count]:
    """What was counted for TLS reports, without the addresses and records that come from the run."""
    found: dict[tuple[str, str], Count] = {}
    for key, count in counts.take().items():
        assert count.records or key[1] != "tlsa" or not count.successes
        kinds: dict[Failure, int] = {}
        for failure, number in count.failures.items():
            kinds[failure._replace(ip="")] = kinds.get(failure._replace(ip=""), 0) + number
        found[key] = Count(count.successes, kinds)
    return found

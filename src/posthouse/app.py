"""The wiring: settings in, a running server out. Nothing else knows all constructors.

`App(settings)` opens the store, starts the listeners and the queue, and stops them in the opposite order:
no new connections, each connection finishes the event at hand, the queue lets go of what it claimed, the
database commits what waits. Housekeeping (blobs nobody needs, old traces) runs beside it.

Start fails with `Permanent` in words for the operator (a port that is taken, a wrong key); a failure later
is logged and the rest goes on.
"""

import asyncio
import errno
import os
import shutil
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Self

from posthouse.auth.login import Logins
from posthouse.auth.tokens import Verifier
from posthouse.base import ids
from posthouse.base.clock import Clock, SystemClock
from posthouse.base.errors import Permanent, PosthouseError
from posthouse.base.filter_settings import Filter
from posthouse.base.log import Logger, get_logger
from posthouse.base.networks import trusted
from posthouse.base.settings import EVERY_ADDRESS, Auth, Listen, Settings, storage_key
from posthouse.delivery.directory import Directory
from posthouse.delivery.forwarding import Forwarding
from posthouse.delivery.inject import Injector
from posthouse.delivery.notices import Notices
from posthouse.delivery.quotas import Quotas
from posthouse.filter.gate import Gate
from posthouse.net.dns import Resolver, SystemResolver, ZoneResolver, zone_of_text
from posthouse.net.listener import Admission, Listener
from posthouse.net.tls import Pair, ServerTls
from posthouse.queue.complaints import Complaints
from posthouse.queue.manager import QueueManager
from posthouse.queue.mta_sts import Policies, fetch_trusting
from posthouse.queue.tls_counts import Recorder
from posthouse.queue.transport_security import Guard
from posthouse.queue.webhooks import Webhooks
from posthouse.senderauth.signing import Signing
from posthouse.senderauth.tally import Tally
from posthouse.senderauth.verify import Authenticator
from posthouse.servers.admin import Action, AdminSocket
from posthouse.servers.housekeeping import Housekeeping
from posthouse.servers.imap import ImapService
from posthouse.servers.imap.listings import Listings
from posthouse.servers.imap.shared import SEARCHES
from posthouse.servers.imap.watches import Watches
from posthouse.servers.index_helper import Helper
from posthouse.servers.indexing import Indexing
from posthouse.servers.pop3 import LoginDelay, MailboxLocks, Pop3Service
from posthouse.servers.queue_admin import QueueAdmin
from posthouse.servers.report_intake import ReportIntake
from posthouse.servers.reporting import Reporting
from posthouse.servers.rotation import Rotation
from posthouse.servers.smtp import SmtpService
from posthouse.servers.smtp.authentication import Authentication
from posthouse.servers.smtp.copies import HeldCopies
from posthouse.servers.smtp.refusals import Refusals
from posthouse.store import suppression
from posthouse.store.feed import ChangeFeed
from posthouse.store.index import documents
from posthouse.store.index.file import Index
from posthouse.store.model import Change, FileSpared
from posthouse.store.sqlite import SqliteDatabase
from posthouse.wire.sasl import MECHANISMS

TRACES_KEPT = 30 * 86_400  # seconds that the trace of a message outlives its delivery


_CURES = {
    errno.EADDRNOTAVAIL: "This machine has no such address: `ip address` shows those it has.",
    errno.EACCES: "Ports below 1024 need root or CAP_NET_BIND_SERVICE.",
    errno.EPERM: "Ports below 1024 need root or CAP_NET_BIND_SERVICE.",
}


class App:
    """One server. Use it as `async with App(settings) as app: await app.run(stop)`."""

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Clock | None = None,
        resolver: Resolver | None = None,
        log: Logger | None = None,
        captured: Callable[[dict[str, object]], None] | None = None,
    ) -> None:
        self.settings = settings
        self.clock: Clock = clock or SystemClock()
        self.log = log or get_logger()
        self.ports: dict[str, int] = {}  # the first of each service
        self.listening: list[dict[str, object]] = []  # all of them
        self._started = False
        self.tls: ServerTls | None = None
        self.indexing: Indexing | None = None
        self._resolver = resolver
        self._captured = captured
        self._closers: list[Callable[[], Awaitable[None]]] = []
        self._listeners: list[Listener] = []
        self._proxies_told: tuple[float, int] = (float("-inf"), 0)  # when, and how many since
        self._room: tuple[float, bool] = (0.0, True)

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until `stop` is set."""
        await stop.wait()

    # Start

    async def _start(self) -> None:
        settings, clock, log = self.settings, self.clock, self.log
        # Event loop and writer thread share the interpreter: with the default of 5 ms each would wait long
        # for the other whenever one of them computes.
        sys.setswitchinterval(0.0005)
        started = time.time()
        database = self.database = await SqliteDatabase.open(
            settings.data, clock.now(), storage_key(settings.storage), settings.storage.inline_max
        )
        self._closers.append(database.close)
        feed = self.feed = ChangeFeed()
        database.on_commit(feed.publish)
        feed.subscribe(0, lambda changes: _remove_spared(database, changes))
        new_ids = ids.IdSource()
        directory = Directory(database, feed, settings.hostname, settings.postmaster)
        logins = self.logins = Logins(
            database,
            clock,
            feed,
            log,
            lambda ip: trusted(ip, settings.limits.trusted),
            new_ids,
            mechanisms=_mechanisms(settings.auth),
            verifier=Verifier(settings.auth.oauth, clock, log),
            hostname=settings.hostname,
        )
        self._closers.append(logins.close)
        tls = self.tls = await asyncio.to_thread(self._server_tls)

        forwarding = Forwarding(database, clock, settings)
        quotas = Quotas(database, feed, settings.limits)

        async def full(addresses: tuple[str, ...], octets: int) -> frozenset[str]:
            return await quotas.full_recipients(directory, addresses, octets)

        signing = Signing(database, feed, clock, log, settings.signing, settings.hostname)
        injector = Injector(
            database, directory, clock, new_ids, settings.hostname, settings.queue.lifetime_days, forwarding, signing
        )
        resolver = self._resolver or _resolver(settings, clock)
        gate: Gate | None = None
        if settings.filter != Filter():
            notices = Notices(injector, database, clock, new_ids, settings.hostname, log)
            gate = Gate(settings, database, resolver, clock, log, notices)
            await gate.counts.load()
            self._closers.append(gate.counts.close)
            injector.sort = HeldCopies(gate, database, log)
        security = settings.transport_security
        policies = Policies(database, resolver, clock, fetch_trusting(security.ca))
        self._closers.append(policies.close)
        self.guard = Guard(resolver, policies if security.mta_sts else None, dane=security.dane)
        if settings.reports.send:
            self._closers.append(Recorder(self.guard.counts, database, clock, log).close)
        webhooks = self.webhooks = Webhooks(settings, database, feed, clock, log)
        await webhooks.start()
        self._closers.append(webhooks.close)
        complaints = Complaints(settings, database, feed, directory.resolve, clock, new_ids, log)
        await complaints.start()
        self._closers.append(complaints.close)
        intake = self.intake = ReportIntake(settings, database, feed, directory.resolve, clock, new_ids, log)
        await intake.start()
        self._closers.append(intake.close)
        reporting = Reporting(settings, database, resolver, clock, log, injector.keeper)
        reporting.start()
        self._closers.append(reporting.close)
        queue = QueueManager(
            settings=settings,
            database=database,
            feed=feed,
            clock=clock,
            resolver=resolver,
            prepare=injector.keeper,
            new_ids=new_ids,
            log=log,
            captured=self._captured,
            full=full,
            guard=self.guard,
            signed_again=signing.signed_again,
        )
        await queue.start()
        self._closers.append(queue.close)

        tally = Tally(database, clock, log, settings.reports.addresses, counting=settings.reports.send)
        self._closers.append(tally.close)
        authentication = Authentication(settings, Authenticator(settings, resolver, clock), tally)
        refusals = Refusals(database, clock, new_ids, log)
        self._closers.append(refusals.close)
        admission = Admission(
            settings.limits.connections,
            settings.limits.connections_per_ip,
            lambda ip: trusted(ip, settings.limits.trusted),
        )
        pop3_shared = MailboxLocks(), LoginDelay(settings.pop3.login_delay, clock)
        watches, listings, searching = Watches(feed), Listings(), asyncio.Semaphore(SEARCHES)
        await self._open_index(searching)
        common = (settings, database)
        for listen in settings.listen:
            mechanisms = logins.offered(cram_md5=listen.cram_md5)
            secure = listen.implicit_tls
            plaintext, require_tls = listen.allow_plaintext_auth, listen.require_tls
            service: SmtpService | ImapService | Pop3Service
            if listen.service in ("smtp", "submission", "submissions", "lmtp"):
                service = SmtpService(
                    *common,
                    directory,
                    logins,
                    clock,
                    new_ids,
                    log,
                    self.has_room,
                    injector.keeper,
                    listen,
                    gate,
                    forwarding,
                    quotas,
                    refusals=refusals,
                    signing=signing,
                    authentication=authentication,
                )
            elif listen.service in ("imap", "imaps"):
                service = ImapService(
                    *common,
                    feed,
                    logins,
                    clock,
                    new_ids,
                    log,
                    mechanisms=mechanisms,
                    secure=secure,
                    allow_plaintext_auth=plaintext,
                    require_tls=require_tls,
                    watches=watches,
                    listings=listings,
                    searching=searching,
                )
            else:
                service = Pop3Service(
                    *common,
                    logins,
                    clock,
                    new_ids,
                    log,
                    *pop3_shared,
                    mechanisms=mechanisms,
                    secure=secure,
                    allow_plaintext_auth=plaintext,
                    require_tls=require_tls,
                )
            await self._listen(listen, service, admission, tls)
        self._closers.append(self._close_listeners)

        def refresh() -> None:
            directory.forget()
            quotas.forget()
            forwarding.forget()
            signing.forget()
            watches.review()
            logins.forget()

        queue_admin = QueueAdmin(database, clock, queue, [one.name for one in settings.route])
        self._closers.append(queue_admin.close)
        rotation = Rotation(database, clock, log, settings.signing, self._key_resolvers())
        actions = {
            "refresh": Action(refresh),
            "signing": Action(rotation.wake),
            "queue": Action(queue.wake),
            "logins": Action(logins.write_down),
            "webhooks": Action(webhooks.wake),
            "reports": Action(reporting.wake),
            "refusals": Action(refusals.flush),
            **queue_admin.actions(),
            **(self.indexing.actions() if self.indexing is not None else {}),
        }
        admin = AdminSocket(settings.data / "admin.sock", actions, log)
        await admin.open()
        self._closers.append(admin.close)

        async def tidy_suppression() -> None:
            while await database.write(suppression.expire, clock.now()):
                pass

        also: tuple[Callable[[], Awaitable[None]], ...] = (
            tidy_suppression,
            policies.tidy,
            webhooks.tidy,
            intake.tidy,
            reporting.tidy,
        )
        if gate is not None:
            also += (gate.counts.tidy,)
        if gate is not None and gate.greylist is not None:
            also += (gate.greylist.tidy,)
        housekeeping = Housekeeping(database, clock, log, started, TRACES_KEPT, also)
        housekeeping.start()
        self._closers.append(housekeeping.close)
        rotation.start()
        self._closers.append(rotation.close)
        self._started = True
        log.info("server.started", hostname=settings.hostname, ports=self.ports, listen=self.listening, pid=os.getpid())

    def _key_resolvers(self) -> list[Resolver]:
        """Who is asked for the records of keys; nothing is remembered, as a record is looked for until it is there."""
        further = [SystemResolver(self.clock, [one], cache_size=0) for one in self.settings.signing.nameservers]
        return [self._resolver or _resolver(self.settings, self.clock, cache_size=0), *further]

    def _server_tls(self) -> ServerTls:
        tls, named, folder = self.settings.tls, self._named(), self.settings.data / "tls"
        failed, taken = self._tls_failed, self._tls_taken
        if tls.certificate is not None and tls.key is not None:
            return ServerTls(tls.certificate, tls.key, report=failed, taken=taken, others=named)
        return ServerTls.self_made(folder, self.settings.hostname, failed, taken=taken, others=named)

    async def _open_index(self, turn: asyncio.Semaphore) -> None:
        """The search index. Without one a search reads messages, so no trouble with it keeps the server from work."""
        database = self.database
        try:
            index = await Index.open(database, documents.version())
        except PosthouseError as error:
            self.log.error("server.failed", what="search index", error=str(error))
            return

        async def close() -> None:
            database.index = None
            await index.close()

        self._closers.append(close)
        database.index = index
        storage = self.settings.storage
        self.indexing = Indexing(
            database,
            index,
            self.clock,
            self.log,
            turn,
            documents.Documents() if documents.available() else None,
            Helper(self.settings.data, storage_key(storage), storage.inline_max),
        )
        self.indexing.start()
        self._closers.append(self.indexing.close)

    def _tls_of(self, listen: Listen, usual: ServerTls) -> ServerTls:
        """A port may have a certificate, a profile or a CA for clients of its own."""
        own = listen.certificate is not None or listen.tls_profile != "modern" or listen.client_ca is not None
        if not own:
            return usual
        return ServerTls(
            listen.certificate or usual.certificate,
            listen.key or usual.key,
            report=self._tls_failed,
            taken=self._tls_taken,
            others={} if listen.certificate is not None else self._named(),
            profile=listen.tls_profile,
            client_ca=listen.client_ca,
        )

    def _named(self) -> dict[str, Pair]:
        return {name: Pair(one.certificate, one.key) for one in self.settings.tls.named for name in one.names}

    def _tls_failed(self, text: str) -> None:
        self.log.error("server.failed", what="TLS", error=text)

    def _tls_taken(self, files: str) -> None:
        self.log.info("tls.renewed", files=files)

    async def _listen(
        self, listen: Listen, service: SmtpService | ImapService | Pop3Service, admission: Admission, tls: ServerTls
    ) -> None:
        listener = Listener(
            service,
            service.refusal,
            admission,
            self._tls_of(listen, tls).context,
            listen.implicit_tls,
            lambda message, error: self.log.error("server.failed", what=message, error=repr(error)),
            proxies=self.settings.proxies if listen.proxy_protocol else (),
            networks=listen.networks,
            refused_proxy=self._proxy_refused,
        )
        self._listeners.append(listener)
        where = str(listen.path) if listen.path is not None else f"{listen.address} port {listen.port}"
        try:
            port = await _open(listener, listen)
        except OSError as error:
            cure = _CURES.get(error.errno or 0, "Is another server running there?")
            raise Permanent(
                f"cannot listen on {where} for {listen.service}: {error.strerror or error}. {cure}"
            ) from error
        if listen.path is not None:
            self.listening.append({"service": listen.service, "path": str(listen.path)})
        else:
            self.listening.append({"service": listen.service, "address": listen.address, "port": port})
            self.ports.setdefault(listen.service, port)

    def _proxy_refused(self, ip: str, why: str) -> None:
        """Anybody can make this happen: a line a second at most, with the number of those that had none."""
        now = self.clock.monotonic()
        if now - self._proxies_told[0] < 1.0:
            self._proxies_told = (self._proxies_told[0], self._proxies_told[1] + 1)
            return
        self.log.warning("proxy.refused", ip=ip, why=why, others=self._proxies_told[1])
        self._proxies_told = (now, 0)

    def has_room(self) -> bool:
        """Is there more free space on the disk of the data folder than the configured reserve? Asked at most
        once a second."""
        now = self.clock.monotonic()
        if now - self._room[0] >= 1.0 or not self._room[0]:
            free = shutil.disk_usage(self.settings.data).free
            self._room = (now, free > self.settings.storage.reserve)
        return self._room[1]

    # Stop

    async def _close_listeners(self) -> None:
        grace = self.settings.limits.shutdown_grace
        for listener in self._listeners:
            listener.stop_listening()
        await asyncio.gather(*(listener.close(grace) for listener in self._listeners))

    async def close(self) -> None:
        """Stop everything, in the opposite order of its start."""
        while self._closers:
            closer = self._closers.pop()
            try:
                await closer()
            except Exception as error:
                self.log.error("server.failed", what="stopping", error=repr(error))
        if self._started:
            self._started = False
            self.log.info("server.stopped")


def _remove_spared(database: SqliteDatabase, changes: list[Change]) -> None:
    for change in changes:
        if isinstance(change, FileSpared):
            database.files.path(change.name).unlink(missing_ok=True)


def _mechanisms(auth: Auth) -> tuple[str, ...]:
    """What may be offered at all: the -PLUS forms if they are asked for."""
    return tuple(name for name in MECHANISMS if auth.channel_binding or not name.endswith("-PLUS"))


async def _open(listener: Listener, listen: Listen) -> int:
    if listen.path is not None:
        await listener.open_path(listen.path)
        return 0
    address = "::" if listen.address == EVERY_ADDRESS else listen.address
    try:
        return await listener.open(address, listen.port)
    except OSError:
        if address != "::":
            raise
        return await listener.open("0.0.0.0", listen.port)  # noqa: S104 - asked for; no IPv6 here


def _resolver(settings: Settings, clock: Clock, cache_size: int = 20_000) -> Resolver:
    dns = settings.dns
    validating = {"auto": None, "yes": True, "no": False}[dns.validating]
    system = (
        None
        if dns.only_zone
        else SystemResolver(clock, dns.nameservers, timeout=dns.timeout, cache_size=cache_size, validating=validating)
    )
    if system is not None and not dns.zone:
        return system
    # What the operator wrote is as certain as the rest of the file.
    return ZoneResolver(zone_of_text(dns.zone), system, secure=validating is not False)

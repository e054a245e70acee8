"""The queue at work: claim what is due, try it, write down what happened, wait for the next.

One loop claims recipients in batches; those of one message and next hop go together, as one job. Jobs wait here, in
bounded number, until they may run: so many in all, as many to one next hop as it likes (`pace.py`), senders in turn
(`turns.py`). No destination and no sender gets more than a share of what is held here, so that a slow or a large one
cannot keep the others out. What is held is claimed for a time and renewed as long as it is held.

What an attempt found out is one transaction (`settle.py`). A crash between a server's 250 and that
transaction delivers once more: the one duplicate that SMTP cannot avoid (RFC 5321 section 6.1).
"""

import asyncio
import contextlib
import functools
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any

from posthouse.base import ids
from posthouse.base.clock import Clock, wait_for
from posthouse.base.log import Logger
from posthouse.base.settings import Settings
from posthouse.net.dial import Dial, dial
from posthouse.net.dns import Resolver
from posthouse.queue import capture, pace_reports, released
from posthouse.queue.conversion import SignedAgain
from posthouse.queue.holding import Holding
from posthouse.queue.jobs import Job, Keep, Prepare
from posthouse.queue.outgoing import Outgoing
from posthouse.queue.pace import Pace
from posthouse.queue.remote import ATTEMPT_LIMIT, Sender
from posthouse.queue.results import DEFERRED, Report, Verdict
from posthouse.queue.route_table import own_names, table_of
from posthouse.queue.routes import Route, Router
from posthouse.queue.settle import Settler
from posthouse.queue.transport_security import Guard
from posthouse.queue.transports import Transports
from posthouse.queue.transports_webhook import WebhookTransport
from posthouse.queue.turns import Turns
from posthouse.smtp.client import TIMEOUTS
from posthouse.smtp.params import MailParams
from posthouse.store import outbox
from posthouse.store.blobs import rows as blobs
from posthouse.store.database import Database, Tx
from posthouse.store.envelope import unpack_mail, unpack_rcpt
from posthouse.store.feed import ChangeFeed
from posthouse.store.model import QueueChanged
from posthouse.store.outbox import HERE, Claim, Message, Taken
from posthouse.store.pauses import NOTHING

SECOND = 1_000_000
LEASE = 7200 * SECOND  # a claim holds so long, from when it was last renewed
KEEP = 5.0  # seconds that an idle connection to another server stays open for the next message
IDLE = 60.0  # seconds between two looks when nothing is due: another process may have added something
WARN_AFTER = 4 * 3600.0  # seconds: younger mail for a hop that rests is put off without being told of
RECOVER_EVERY = 900 * SECOND  # between renewals of our claims, and looks for claims that other nodes lost
MAX_RECIPIENTS = 100  # in one transaction: what every server takes (RFC 5321 section 4.5.3.1.8)
PIECE = 256 * 1024
SMALL = 16 * 1024  # octets: contents up to here are read when they are claimed
START = 64 * 1024  # octets of a larger one in which its header is looked for
LOOK_FOR_8BIT = 256 * 1024  # a larger message is taken to be 8-bit
# Next hops that are no hosts. No domain can have such a name, whatever a stranger writes into an address.
CAPTURED = "\0captured"  # of everything, where nothing leaves
DELIVER_HERE = "\0here"  # of held messages to our own people

PLACES_FOR_FREE = 4  # a lane may have so many jobs on their way for each that could begin beside them
MOST_PACES = 10_000  # next hops of which something is remembered


class QueueManager:
    """Runs the queue of one process."""

    def __init__(
        self,
        *,
        settings: Settings,
        database: Database,
        feed: ChangeFeed,
        clock: Clock,
        resolver: Resolver,
        prepare: Prepare,
        new_ids: ids.IdSource,
        log: Logger,
        dialler: Dial = dial,
        captured: Callable[[dict[str, object]], None] | None = None,
        chance: random.Random | None = None,
        node: str = "",
        timeouts: Mapping[str, float] = TIMEOUTS,
        guard: Guard | None = None,
        signed_again: SignedAgain | None = None,
        full: Callable[[tuple[str, ...], int], Awaitable[frozenset[str]]] | None = None,
    ) -> None:
        self._settings = settings
        self._database = database
        self._clock = clock
        self._prepare = prepare
        self._full = full  # who of our own people has no room
        self._log = log
        self._captured = captured
        self._chance = chance or random.Random()  # noqa: S311 - spreads load, guards nothing
        self._node = node or settings.hostname
        self._settler = Settler(settings, database, clock, prepare, new_ids, log, self._chance, self._node)
        listening = [(one.address, one.port) for one in settings.listen if one.service == "smtp" and one.path is None]
        self._router = Router(resolver, own_names(settings), self._chance, table_of(settings), listening=listening)
        self._sender = Sender(
            self._router,
            dialler,
            settings.hostname,
            timeouts=timeouts,
            ca=settings.transport_security.ca,
            keep=KEEP,
            guard=guard,
            clock=clock,
            signed_again=signed_again,
        )
        self._posts = WebhookTransport(clock)
        self._transports = Transports(self._sender, self._posts)
        self._most = settings.queue.concurrency
        self._held = Holding(self._most, settings.queue.concurrency_per_destination)
        self._turns = Turns()  # jobs that wait
        self._paces: dict[str, Pace] = {}  # by next hop
        self._waiting: dict[str, asyncio.Task[None]] = {}  # next hops whose rate allows nothing now
        self._active: Counter[str] = Counter()  # running jobs by next hop
        self._running: Counter[int] = Counter()  # jobs by lane
        self._tasks: dict[asyncio.Task[None], Job] = {}
        self._records: set[asyncio.Task[None]] = set()
        self._claiming: asyncio.Future[Taken] | None = None
        self._looking: asyncio.Future[None] | None = None
        self._draining = False
        self._paused = NOTHING  # at the last look
        self._untried: set[int] = set()  # claims of which nothing is known yet
        self._wake = asyncio.Event()
        self._still = asyncio.Event()
        self._resting_until = 0
        self._recover_at = 0
        self._renewed = 0  # until when all claims held at the last renewal are leased
        self._loop: asyncio.Task[None] | None = None
        feed.subscribe(0, self._on_change)

    def _on_change(self, changes: list[Any]) -> None:
        if any(isinstance(change, QueueChanged) and self._is_news(change.lane) for change in changes):
            self.wake()

    def _is_news(self, lane: int | None) -> bool:
        """A sender whose messages wait for room is looked at when that is there. What a look under way left behind is
        not known yet."""
        return lane is None or self._claiming is not None or not self._held.has_more(lane)

    def wake(self) -> None:
        """There may be something to do."""
        self._still.clear()
        self._wake.set()

    async def settled(self) -> None:
        """Return once everything that is due now has been tried and written down."""
        await self._still.wait()

    async def start(self) -> None:
        """Take up what a crash left, and begin."""
        now = self._clock.now()
        self._recover_at = now + RECOVER_EVERY
        await self._database.write(outbox.recover, self._node, now)
        self._loop = asyncio.get_running_loop().create_task(self._run())

    async def close(self, grace: float = 5.0) -> None:
        """Claim nothing more, give attempts under way `grace` seconds, give back the rest untried. What was found
        out is written down."""
        if self._loop is None:
            return
        self._loop.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._loop
        self._loop = None
        if self._claiming is not None:  # it goes on without us, and may have claimed something
            with contextlib.suppress(Exception):
                self._untried.update(claim.id for claim in (await self._claiming).claims)
        self._turns = Turns()
        for waiting in self._waiting.values():
            waiting.cancel()
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=grace)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._records:
            await asyncio.wait(set(self._records), timeout=grace)
        for record in self._records:
            record.cancel()
        await asyncio.gather(*self._records, return_exceptions=True)
        await self._sender.sessions.close()
        self._posts.close()
        if self._untried:
            await self._database.write(outbox.release, self._node, sorted(self._untried))

    # For operators

    async def drain(self) -> None:
        """Claim nothing more, give back what waits here, and return when all that is on its way has been written down
        (or `undrain` is called). Other nodes go on."""
        self._draining = True
        self.wake()
        while self._draining:
            await self._give_back(lambda _: True)
            under_way: set[asyncio.Future[None]] = {*self._tasks, *self._records}
            if self._looking is not None:
                under_way.add(self._looking)
            if not under_way:
                return
            await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)

    def undrain(self) -> None:
        """Claim again."""
        self._draining = False
        self.wake()

    async def _give_back(self, is_meant: Callable[[Job], bool]) -> None:
        """Let go of jobs that wait here, untried."""
        jobs, self._turns = self._turns.jobs(), Turns()
        given = [job for job in jobs if is_meant(job)]
        self._put_back([job for job in jobs if not is_meant(job)])
        if not given:
            return
        mine = [claim.id for job in given for claim in job.claims]
        try:
            await self._database.write(outbox.release, self._node, mine)
        except BaseException:  # they are ours still
            self._put_back(given)
            raise
        self._untried.difference_update(mine)
        for job in given:
            self._held.let_go(job.claims)

    def _put_back(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            self._turns.add(job)
            self._make_ready(job.next_hop)

    def state(self) -> dict[str, Any]:
        """What happens here now, for people and programs: only what JSON can say."""
        now, waiting = self._clock.now(), self._turns.waiting()
        resting = {name for name, pace in self._paces.items() if pace.resting(now)}
        hops = []
        for name in sorted({*waiting, *self._active, *resting}):
            pace = self._paces.get(name)
            hops.append(
                {
                    "next_hop": name.lstrip("\0"),
                    "active": self._active.get(name, 0),
                    "waiting": waiting.get(name, 0),
                    "window": pace.places() if pace else 0,
                    "rest_until": pace.rest_until if pace and name in resting else 0,
                    "why": pace.why if pace and name in resting else "",
                    "rate_wait": pace.wait(now) / SECOND if pace else 0.0,
                }
            )
        return {
            "node": self._node,
            "draining": self._draining,
            "active": len(self._tasks),
            "most_active": self._most,
            "held": self._held.total,
            "room": self._held.most,
            "lanes": len(self._held.lanes),
            "next_hops": hops,
        }

    # Claiming

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            due: int | None = None
            self._looking = asyncio.get_running_loop().create_future()
            try:
                await self._keep_claims()
                if not self._draining:
                    due = await self._look()
            except Exception as error:
                self._log.error("queue.failed", what="claiming", error=repr(error))
            finally:
                self._looking.set_result(None)
                self._looking = None
            wait = IDLE if due is None else (due - self._clock.now()) / SECOND
            if wait > 0:
                await self._rest(min(wait, IDLE))

    async def _keep_claims(self) -> None:
        """Renew what is held here, and make due what nodes lost that are gone."""
        now = self._clock.now()
        if now < self._recover_at:
            return
        mine = [claim.id for job in (*self._turns.jobs(), *self._tasks.values()) for claim in job.claims]
        if mine:
            await self._database.write(outbox.renew, self._node, mine, now + LEASE)
        self._renewed = now + LEASE
        await self._database.write(outbox.recover, "", now)
        self._recover_at = now + RECOVER_EVERY

    async def _look(self) -> int | None:
        """Claim what there is room for; return when to look again, None if only a wake-up can change things."""
        now = self._clock.now()
        room = self._held.room()
        if room is None:
            return None
        self._claiming = asyncio.ensure_future(self._database.write(outbox.take, self._node, now, now + LEASE, room))
        taken = await asyncio.shield(self._claiming)
        self._claiming = None
        claims = taken.claims
        self._untried.update(claim.id for claim in claims)
        self._held.took(taken)
        due: int | None = now
        contents: dict[int, bytes] = {}
        try:
            if taken.paused != self._paused:
                await self._give_back(lambda job: any(taken.paused.covers(claim.destination) for claim in job.claims))
                self._paused = taken.paused
            if claims or not taken.more:
                # One visit to the store for all small contents, instead of one for each message.
                contents, due = await self._database.read(_contents_and_due, claims, now)
        finally:
            self._take(claims, now + LEASE, contents)
        return now if taken.more else due

    def _take(self, claims: list[Claim], until: int, contents: Mapping[int, bytes]) -> None:
        """Make jobs of claims and start what may start."""
        groups: dict[tuple[int, str], list[Claim]] = {}
        for claim in claims:
            hop = self._next_hop(claim)
            groups.setdefault((claim.message.id, hop), []).append(claim)
        for (_, hop), group in groups.items():
            for at in range(0, len(group), MAX_RECIPIENTS):
                message = group[0].message
                content = contents.get(message.blob_id)
                self._turns.add(Job(hop, message, group[at : at + MAX_RECIPIENTS], until, content, group[0].lane))
            self._make_ready(hop)
        if not self._draining:
            self._dispatch()

    def _next_hop(self, claim: Claim) -> str:
        if claim.destination == HERE:
            return DELIVER_HERE
        # Capture wins over every route: where it is on, nothing leaves, whatever the routes or an operator say.
        return CAPTURED if self._settings.relay.capture else self._route(claim).next_hop

    def _route(self, claim: Claim) -> Route:
        message = claim.message
        return self._router.route(message.sender, message.account, claim.address, claim.destination, claim.route)

    def _pace(self, hop: str) -> Pace:
        pace = self._paces.get(hop)
        if pace is None:
            if len(self._paces) >= MOST_PACES:
                self._paces = {name: one for name, one in self._paces.items() if name in self._active or not one.is_new}
                while len(self._paces) >= MOST_PACES:  # those that were learned longest ago
                    del self._paces[next(iter(self._paces))]
            pace = self._paces[hop] = Pace(self._settings.queue.limit_of(hop))
        return pace

    def _make_ready(self, hop: str) -> None:
        pace = self._pace(hop)
        if hop in self._waiting or hop not in self._turns or self._active[hop] >= pace.places():
            return
        if wait := pace.wait(self._clock.now()):
            self._waiting[hop] = asyncio.get_running_loop().create_task(self._wait_for_rate(hop, wait / SECOND))
        else:
            self._turns.open(hop)

    async def _wait_for_rate(self, hop: str, seconds: float) -> None:
        await self._clock.sleep(seconds)
        del self._waiting[hop]
        self._still.clear()
        self._make_ready(hop)
        self._dispatch()

    def _dispatch(self) -> None:
        """Start jobs, senders in turn, while there is a place."""
        loop = asyncio.get_running_loop()
        while len(self._tasks) < self._most and (job := self._turns.take(self._has_enough)) is not None:
            hop = job.next_hop
            self._active[hop] += 1
            self._running[job.lane] += 1
            self._pace(hop).started(self._clock.now())
            task = loop.create_task(self._deliver(job))
            self._tasks[task] = job
            task.add_done_callback(functools.partial(self._ended, job))
            self._make_ready(hop)

    def _has_enough(self, lane: int) -> bool:
        """Whether a lane has as many jobs on their way as it may: four for each place that is free then. So one sender
        fills four fifths, two not even half each, and whoever comes next finds a place, however slow the hosts are."""
        return self._running[lane] >= PLACES_FOR_FREE * (self._most - len(self._tasks))

    def _ended(self, job: Job, task: asyncio.Task[None]) -> None:
        del self._tasks[task]
        self._running[job.lane] -= 1
        if not self._running[job.lane]:
            del self._running[job.lane]
        self._active[job.next_hop] -= 1
        if not self._active[job.next_hop]:
            del self._active[job.next_hop]
        self._held.let_go(job.claims)
        if self._loop is None or self._draining:
            return
        self._make_ready(job.next_hop)
        self._dispatch()
        idle = not self._tasks and not self._turns.is_ready
        if idle or self._held.is_due(job.claims):
            self.wake()

    async def _rest(self, seconds: float) -> None:
        """Until something happens, at most so long."""
        self._resting_until = self._clock.now() + int(seconds * SECOND)
        try:
            await wait_for(self._wake, self._clock, seconds, self._look_still)
        finally:
            self._still.clear()

    def _look_still(self) -> None:
        # What is held beside those waits for its rate: only time can change that.
        if not self._tasks and not self._turns.is_ready and not self._wake.is_set():
            self._still.set()

    # One job

    async def _deliver(self, job: Job) -> None:
        mine = [claim.id for claim in job.claims]
        if self._clock.now() + int(ATTEMPT_LIMIT * SECOND) > max(job.until, self._renewed):
            # It waited here for so long that another node might soon claim it too.
            await self._database.write(outbox.release, self._node, mine)
            self._untried.difference_update(mine)
            return
        keep = None
        pace = self._pace(job.next_hop)
        now = self._clock.now()
        rests = pace.resting(now) and now < job.message.expires  # the last attempt is one in any case
        if rests and now < job.message.created + int((self._settings.queue.delay_warning or WARN_AFTER) * SECOND):
            # Nobody need hear of it yet, so it is no attempt.
            until = pace.rest_until + int(self._chance.random() * (pace.rest_until - now) / 2)
            until = min(until, job.message.expires)
            await self._database.write(outbox.postpone, self._node, mine, until, pace_reports.not_tried(pace))
            self._untried.difference_update(mine)
            if until < self._resting_until:
                self.wake()
            return
        try:
            if rests:
                report = pace_reports.put_off(job, pace)
            else:
                report, keep = await self._attempt(job)
                pace_reports.learn(pace, report, self._clock.now())
        except Exception as error:
            self._log.error("queue.failed", what="attempt", message=ids.to_text(job.message.id), error=repr(error))
            verdict = Verdict(DEFERRED, 451, "4.3.0", "Something went wrong on our side", "", False)
            report = Report({claim.address: verdict for claim in job.claims})
        # From here on nothing may stop it: the other server may have the message.
        self._untried.difference_update(mine)
        record = asyncio.get_running_loop().create_task(self._write_down(job, report, keep))
        self._records.add(record)
        record.add_done_callback(self._records.discard)
        await asyncio.shield(record)

    async def _write_down(self, job: Job, report: Report, keep: Keep | None) -> None:
        judged = await self._settler.record(job, report, keep)
        if any(one.retry is not None and one.retry < self._resting_until for one in judged):
            self.wake()

    async def _attempt(self, job: Job) -> tuple[Report, Keep | None]:
        """Try; what is to be kept here is kept by the transaction that writes the outcome down."""
        message = job.message
        addresses = tuple(dict.fromkeys(claim.address for claim in job.claims))
        content = message.size - len(message.prefix)
        whole = job.content
        if whole is None and content <= LOOK_FOR_8BIT:
            whole = await self._read(message, 0, content)
        if job.next_hop == CAPTURED:
            everything = await self._read(message, 0, content) if whole is None else whole
            folder = self._settings.data / "captured"
            kept = await capture.attempt(self._database, folder, job.message, addresses, everything, self._log)
            if self._captured is not None:
                self._captured(kept.facts)
            return kept.report, None

        async def pieces() -> AsyncIterator[bytes]:
            yield message.prefix
            if whole is not None:
                yield whole
                return
            for at in range(0, content, PIECE):
                yield await self._read(message, at, min(at + PIECE, content))

        if job.next_hop == DELIVER_HERE:
            full = await self._full(addresses, message.size) if self._full is not None else frozenset()
            put_off = dict.fromkeys(full, Verdict(DEFERRED, 452, "4.2.2", "The mailbox is full", "", False))
            if len(put_off) == len(addresses):
                return Report(put_off), None
            others = tuple(address for address in addresses if address not in full)
            remaining = self._remaining(message, unpack_mail(message.options))
            report, keep = await released.deliver(self._prepare, job, others, pieces(), remaining)
            return report._replace(verdicts={**report.verdicts, **put_off}), keep
        params = unpack_mail(message.options)
        outgoing = Outgoing(
            message.sender,
            addresses,
            message.size,
            whole is None or not whole.isascii(),
            pieces,
            self._remaining(message, params),
            {claim.address: unpack_rcpt(claim.options) for claim in job.claims if claim.options},
            # Who said SMTPUTF8 may have needed it for an address alone.
            params.smtputf8 and not await self._has_ascii_header(message, whole),
            whole if whole is not None else await self._read(message, 0, START),
            message.prefix,
        )
        route = self._route(job.claims[0])  # all of a job have one next hop, so one route
        return await self._transports.attempt(route, outgoing, ids.to_text(message.id)), None

    async def _has_ascii_header(self, message: Message, whole: bytes | None) -> bool:
        if whole is None:
            whole = await self._read(message, 0, LOOK_FOR_8BIT)  # no header is longer (`mime/scan.py`)
        return whole.partition(b"\r\n\r\n")[0].isascii()

    def _remaining(self, message: Message, params: MailParams) -> MailParams:
        """What the next server is asked for: of the time to deliver in, what is left (RFC 2852 section 4.2)."""
        if params.by is None:
            return params
        left = params.by.seconds - (self._clock.now() - message.created) // SECOND
        return params._replace(by=params.by._replace(seconds=left if params.by.mode == "N" else max(left, 1)))

    async def _read(self, message: Message, start: int, end: int) -> bytes:
        return await self._database.read(blobs.read, message.blob_id, start, end)


def _contents_and_due(tx: Tx, claims: list[Claim], now: int) -> tuple[dict[int, bytes], int | None]:
    """The small contents of what was claimed, by blob, and when the next of the others is due."""
    return blobs.small(tx, {claim.message.blob_id for claim in claims}, SMALL), outbox.next_due(tx, now)

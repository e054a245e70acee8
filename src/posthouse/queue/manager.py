"""The queue at work: claim what is due, try it, write down what happened, wait for the next.

One loop claims recipients in batches; those of one message and destination go together in one task. Tasks are
bounded in all and for each destination. What an attempt found out is one transaction: outcomes, trace, and the
bounce if one is owed. A crash between a server's 250 and that transaction delivers once more: the one duplicate
that SMTP cannot avoid (RFC 5321 section 6.1).
"""

import asyncio
import contextlib
import functools
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

from posthouse.base import ids
from posthouse.base.clock import Clock
from posthouse.base.log import Logger
from posthouse.base.settings import Settings
from posthouse.net.dial import Dial, dial
from posthouse.net.dns import Resolver
from posthouse.queue import remote, routes, schedule
from posthouse.queue.bounce import bounce
from posthouse.queue.remote import Verdict
from posthouse.store import events, outbox
from posthouse.store.blobs import rows as blobs
from posthouse.store.database import Database, Tx
from posthouse.store.feed import ChangeFeed
from posthouse.store.model import QueueChanged
from posthouse.store.outbox import Claim, Message, Outcome

LEASE = 3600 * 1_000_000  # microseconds a claim holds: longer than an attempt may take
IDLE = 60.0  # seconds between two looks when nothing is due: another process may have added something
PIECE = 256 * 1024
LOOK_FOR_8BIT = 1 << 20  # a larger message is taken to be 8-bit

Keep = Callable[[Tx], None]
Prepare = Callable[[str, list[str], bytes, dict[str, Any]], Awaitable[Keep | None]]


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
    ) -> None:
        self._settings = settings
        self._database = database
        self._clock = clock
        self._resolver = resolver
        self._prepare = prepare
        self._ids = new_ids
        self._log = log
        self._dial = dialler
        self._captured = captured
        self._chance = chance or random.Random()  # noqa: S311 - spreads load, guards nothing
        self._node = settings.hostname
        self._wake = asyncio.Event()
        self._active: Counter[str] = Counter()
        self._tasks: dict[asyncio.Task[None], list[Claim]] = {}
        self._loop: asyncio.Task[None] | None = None
        feed.subscribe(0, self._on_change)

    def _on_change(self, changes: list[Any]) -> None:
        if any(isinstance(change, QueueChanged) for change in changes):
            self.wake()

    def wake(self) -> None:
        """There may be something to do."""
        self._wake.set()

    async def start(self) -> None:
        """Take up what a crash left, and begin."""
        await self._database.write(outbox.recover, self._node, self._clock.now())
        self._loop = asyncio.get_running_loop().create_task(self._run())

    async def close(self, grace: float = 5.0) -> None:
        """Claim nothing more, give attempts under way `grace` seconds, give back the rest untried."""
        if self._loop is not None:
            self._loop.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._loop
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=grace)
        left = [claim.id for claims in self._tasks.values() for claim in claims]
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if left:
            await self._database.write(outbox.release, self._node, left)

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            try:
                claimed = await self._claim()
                due = None if claimed else await self._database.read(outbox.next_due, self._busy())
            except Exception as error:
                self._log.error("queue.failed", what="claiming", error=repr(error))
                claimed, due = 0, None
            if claimed and len(self._tasks) < self._settings.queue.concurrency:
                continue
            wait = IDLE if due is None else max(0.0, (due - self._clock.now()) / 1e6)
            await self._rest(min(wait, IDLE))

    async def _rest(self, seconds: float) -> None:
        """Until something happens, at most so long."""
        loop = asyncio.get_running_loop()
        waiters = {loop.create_task(self._wake.wait()), loop.create_task(self._clock.sleep(seconds))}
        try:
            await asyncio.wait(waiters, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for waiter in waiters:
                waiter.cancel()
            await asyncio.gather(*waiters, return_exceptions=True)

    def _busy(self) -> list[str]:
        most = self._settings.queue.concurrency_per_destination
        return [destination for destination, count in self._active.items() if count >= most]

    async def _claim(self) -> int:
        """Claim a batch and start its tasks; return how many recipients there were."""
        free = self._settings.queue.concurrency - len(self._tasks)
        if free <= 0:
            return 0
        now = self._clock.now()
        claims = await self._database.write(
            outbox.claim, self._node, now, now + LEASE, free * 4, self._busy(), free * 4
        )
        groups: dict[tuple[int, str], list[Claim]] = {}
        for claim in claims:
            groups.setdefault((claim.message.id, claim.destination), []).append(claim)
        for (_, destination), group in groups.items():
            self._active[destination] += 1
            task = asyncio.get_running_loop().create_task(self._deliver(group))
            self._tasks[task] = group
            task.add_done_callback(functools.partial(self._ended, destination))
        return len(claims)

    def _ended(self, destination: str, task: asyncio.Task[None]) -> None:
        del self._tasks[task]
        self._active[destination] -= 1
        if not self._active[destination]:
            del self._active[destination]
        self.wake()

    async def _deliver(self, claims: list[Claim]) -> None:
        """One attempt for some recipients of one message."""
        message = claims[0].message
        try:
            report = await self._attempt(message, claims)
        except Exception as error:
            self._log.error("queue.failed", what="attempt", message=ids.to_text(message.id), error=repr(error))
            verdict = Verdict("deferred", 0, "4.3.0", "something went wrong here", "", False)
            report = remote.Report({claim.address: verdict for claim in claims}, [], "")
        try:
            await self._settle(message, claims, report)
        except Exception as error:
            # The claims stay until their lease ends; then they are tried again.
            self._log.error("queue.failed", what="recording", message=ids.to_text(message.id), error=repr(error))

    async def _attempt(self, message: Message, claims: list[Claim]) -> remote.Report:
        route = await routes.find(claims[0].destination, self._settings, self._resolver, self._chance.shuffle)
        addresses = tuple(dict.fromkeys(claim.address for claim in claims))
        if isinstance(route, routes.NoRoute):
            state = "failed" if route.status[0] == "5" else "deferred"
            verdict = Verdict(state, 0, route.status, route.why, "", False)
            return remote.Report(dict.fromkeys(addresses, verdict), [], "")
        if isinstance(route, routes.Capture):
            return await self._capture(message, addresses)
        content = message.size - len(message.prefix)
        eight_bit = True
        if content <= LOOK_FOR_8BIT:
            eight_bit = not (await self._database.read(blobs.read, message.blob_id)).isascii()

        async def pieces() -> AsyncIterator[bytes]:
            yield message.prefix
            for at in range(0, content, PIECE):
                yield await self._database.read(blobs.read, message.blob_id, at, min(at + PIECE, content))

        outgoing = remote.Outgoing(message.sender, addresses, message.size, eight_bit, pieces)
        return await remote.attempt(route, outgoing, self._settings.hostname, self._resolver, self._dial)

    async def _capture(self, message: Message, addresses: tuple[str, ...]) -> remote.Report:
        """Keep the mail here, where a person can look at it."""
        name = ids.to_text(message.id)
        path = self._settings.data / "captured" / f"{name}.eml"
        data = message.prefix + await self._database.read(blobs.read, message.blob_id)
        await self._database.work(_write, path, data)
        self._log.info("queue.captured", message=name, sender=message.sender, recipients=addresses, file=str(path))
        if self._captured is not None:
            self._captured({"id": name, "sender": message.sender, "recipients": addresses, "file": str(path)})
        verdict = Verdict("delivered", 250, "2.0.0", f"captured in {path.name}", "captured", False)
        return remote.Report(dict.fromkeys(addresses, verdict), [], "")

    async def _settle(self, message: Message, claims: list[Claim], report: remote.Report) -> None:
        """Write down what an attempt found out, with the bounce that is owed."""
        now = self._clock.now()
        outcomes: list[Outcome] = []
        failed: list[tuple[str, Verdict]] = []
        for claim in claims:
            verdict = report.verdicts[claim.address]
            retry = None
            if verdict.state == "deferred":
                at = schedule.next_attempt(self._settings.queue.retry, claim.attempts + 1, now, self._chance.random())
                if at < message.expires:
                    retry = at
                else:
                    days = (message.expires - message.created) / 86_400e6
                    text = f"given up after {days:g} days; last: {verdict.text}"
                    verdict = verdict._replace(state="failed", text=text, status="5.4.7", remote=False)
            if verdict.state == "failed":
                failed.append((claim.address, verdict))
            outcomes.append(Outcome(claim.id, retry, verdict.code, verdict.status, verdict.text, verdict.host))
            self._tell(message, claim, verdict, retry)
        keep = await self._bounce(message, failed, now) if failed else None
        seq = self._ids.next(now)
        data = {
            "destination": claims[0].destination,
            "tls": report.tls,
            "results": {address: v._asdict() for address, v in report.verdicts.items()},
            "transcript": report.transcript,
        }

        def record(tx: Tx) -> None:
            outbox.record(tx, self._node, outcomes)
            events.add(tx, message.id, seq, "attempt", data)
            if keep is not None:
                keep(tx)

        await self._database.write(record)

    async def _bounce(self, message: Message, failed: list[tuple[str, Verdict]], now: int) -> Keep | None:
        size = message.size - len(message.prefix)
        head = await self._database.read(blobs.read, message.blob_id, 0, min(size, PIECE))
        unique = ids.to_text(self._ids.next(now)).lower()
        text = bounce(message, head, failed, self._settings.hostname, now, unique)
        if text is None:
            self._log.warning("queue.dropped", message=ids.to_text(message.id), recipients=[a for a, _ in failed])
            return None
        keep = await self._prepare("", [message.sender], text, {"bounce_of": ids.to_text(message.id)})
        if keep is None:
            self._log.warning("queue.dropped", message=ids.to_text(message.id), sender=message.sender)
        return keep

    def _tell(self, message: Message, claim: Claim, verdict: Verdict, retry: int | None) -> None:
        names = {"delivered": "queue.delivered", "deferred": "queue.deferred", "failed": "queue.bounced"}
        fields: dict[str, Any] = {"message": ids.to_text(message.id), "recipient": claim.address}
        fields |= {"host": verdict.host, "code": verdict.code, "text": verdict.text[:300]}
        if retry is not None:
            fields["retry_in"] = (retry - self._clock.now()) // 1_000_000
        self._log.info(names[verdict.state], **fields)


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(mode=0o700, exist_ok=True)
    path.write_bytes(data)

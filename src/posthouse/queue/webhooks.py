"""Calls to webhooks: a loop for each claims what is due, POSTs it, writes down the answer, waits for the next.

What is owed is inserted by the transaction in which the event becomes true (`settle.py`, `complaints.py`; bodies are
made in `hook_events.py`). So an event is never lost, and a crash between an answer and its record makes a call twice,
with the same id: receivers look at that. Each webhook has a loop and threads of its own: a dead one holds up no other.

A 2yz answer ends a call, 410 ends it as failed, everything else (redirects, too) is tried again by the table `WAITS`,
for two days. Secrets are read when it starts; they and the bodies never get into the log.
"""

import asyncio
import contextlib
import random
import ssl
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from posthouse.base import ids, signatures
from posthouse.base.clock import Clock, wait_for
from posthouse.base.log import Logger
from posthouse.base.settings import Settings
from posthouse.base.webhook_settings import Webhook, secret_of
from posthouse.net.http import HttpFailed, Response, fetch
from posthouse.queue import schedule
from posthouse.store import hook_calls
from posthouse.store.database import Database
from posthouse.store.feed import ChangeFeed
from posthouse.store.hook_calls import Call, Outcome
from posthouse.store.model import HookCallsAdded

SECOND = 1_000_000
DAY = 86_400 * SECOND
WAITS = (10.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0)  # seconds between attempts; the last one repeats
KEPT = 7 * DAY  # how long the history has finished calls
OVERDUE = DAY // 6  # a call that expired so long ago, and nobody makes it, is ended
MAX_ANSWER = 64 * 1024  # octets of an answer that are taken; the beginning is kept
HELD = 8  # calls claimed at one time for each that may be on its way
IDLE = 60.0  # seconds between two looks when nothing is due: another process may have added something
RECOVER_EVERY = 900 * SECOND
GONE = 410


class Answered(NamedTuple):
    """What came of one call."""

    code: int  # 0: there was no answer
    text: str


class Hook:
    """One webhook, ready to call."""

    def __init__(self, settings: Webhook) -> None:
        self.settings = settings
        self._secret = secret_of(settings)
        # No more threads than calls at one time, and nobody else's.
        self._pool = ThreadPoolExecutor(settings.concurrency, thread_name_prefix=f"webhook-{settings.name}")
        self._context: ssl.SSLContext | None = None

    def headers(self, body: bytes, now: int) -> dict[str, str]:
        """The header fields of a call made at `now` (microseconds)."""
        return {
            "Content-Type": "application/json",
            signatures.HEADER: signatures.sign(self._secret, now // SECOND, body),
        }

    async def post(self, body: bytes, headers: Mapping[str, str]) -> Answered:
        """Make one call. Raises nothing but what ends the program."""
        one = self.settings
        try:
            if self._context is None and one.url.startswith("https://"):
                self._context = await asyncio.to_thread(ssl.create_default_context)
            # The thread keeps the time as well; this one counts the wait for a thread, too.
            async with asyncio.timeout(one.timeout + 1.0):
                answer = await fetch(
                    one.url,
                    body=body,
                    headers=headers,
                    context=self._context,
                    patience=one.timeout,
                    most=MAX_ANSWER,
                    threads=self._pool,
                )
        except HttpFailed as error:
            return Answered(0, str(error).removeprefix(f"{one.url} "))
        except TimeoutError:
            return Answered(0, f"takes longer than {one.timeout:g} s")
        except OSError as error:
            return Answered(0, f"cannot be called: {error}")
        return Answered(answer.status, _text(answer))

    def close(self) -> None:
        """Let go of the threads; what they are at ends by its timeout."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _text(answer: Response) -> str:
    text = answer.body[: hook_calls.MAX_TEXT * 4].decode("utf-8", "replace")[: hook_calls.MAX_TEXT]
    return "".join([c if c.isprintable() or c in "\n\t" else "\ufffd" for c in text]).strip()


def judge(call: Call, answered: Answered, now: int, chance: float) -> Outcome:
    """What follows from an answer. Pure."""
    if 200 <= answered.code <= 299:
        return Outcome(call.id, hook_calls.DONE, now, *answered)
    again = None
    if answered.code != GONE:
        again = schedule.next_attempt(WAITS, call.attempts + 1, now, call.expires, chance)
    if again is None:
        return Outcome(call.id, hook_calls.FAILED, now, *answered)
    return Outcome(call.id, hook_calls.DUE, again, *answered)


class Webhooks:
    """Makes the calls of one process."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        feed: ChangeFeed,
        clock: Clock,
        log: Logger,
        chance: random.Random | None = None,
        node: str = "",
    ) -> None:
        self._settings = settings
        self._database = database
        self._clock = clock
        self._log = log
        self._chance = chance or random.Random()  # noqa: S311 - spreads load, guards nothing
        self._node = node or settings.hostname
        self._callers: dict[str, _Caller] = {}
        feed.subscribe(0, self._on_change)

    def _on_change(self, changes: list[Any]) -> None:
        for change in changes:
            if isinstance(change, HookCallsAdded):
                for name in change.hooks:
                    if name in self._callers:
                        self._callers[name].wake()

    def wake(self) -> None:
        """There may be something to do."""
        for caller in self._callers.values():
            caller.wake()

    async def start(self) -> None:
        """Read the secrets, take up what a crash left, and begin. Raises `Permanent` if there is no secret."""
        hooks = [Hook(one) for one in self._settings.webhook]
        if not hooks:
            return
        await self._database.write(hook_calls.recover, self._node, self._clock.now())
        for hook in hooks:
            caller = _Caller(hook, self._database, self._clock, self._log, self._chance, self._node)
            self._callers[hook.settings.name] = caller
            caller.start()

    async def settled(self) -> None:
        """Return once every call that is due now has been made and written down."""
        for caller in self._callers.values():
            await caller.still.wait()

    async def tidy(self) -> None:
        """Forget what is old, in slices, and end what nobody will call any more."""
        now = self._clock.now()
        while await self._database.write(hook_calls.prune, now - KEPT):
            pass
        while await self._database.write(hook_calls.give_up, now - OVERDUE, now):
            pass

    async def close(self, grace: float = 5.0) -> None:
        """Claim nothing more, give calls under way `grace` seconds, give back the rest."""
        await asyncio.gather(*(caller.close(grace) for caller in self._callers.values()))
        self._callers.clear()


class _Caller:
    """The loop of one webhook."""

    def __init__(
        self, hook: Hook, database: Database, clock: Clock, log: Logger, chance: random.Random, node: str
    ) -> None:
        one = hook.settings
        self._hook = hook
        self._database = database
        self._clock = clock
        self._log = log
        self._chance = chance
        self._node = node
        self._held = one.concurrency * HELD
        # Every call that is held has had its turn by then, even if all take as long as they may.
        self._lease = int((one.timeout * (HELD + 1) + 60) * SECOND)
        self._places = asyncio.Semaphore(one.concurrency)
        self._tasks: dict[asyncio.Task[None], int] = {}
        self._claiming: asyncio.Future[list[Call]] | None = None
        self._wake = asyncio.Event()
        self.still = asyncio.Event()
        self._recover_at = 0
        self._loop: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._recover_at = self._clock.now() + RECOVER_EVERY
        self._loop = asyncio.get_running_loop().create_task(self._run())

    def wake(self) -> None:
        self.still.clear()
        self._wake.set()

    async def close(self, grace: float) -> None:
        if self._loop is None:
            return
        self._loop.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._loop
        unmade: set[int] = set()
        if self._claiming is not None:  # it goes on without us, and may have claimed something
            with contextlib.suppress(Exception):
                unmade.update(call.id for call in await self._claiming)
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=grace)
        unmade.update(self._tasks.values())
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._hook.close()
        if unmade:
            await self._database.write(hook_calls.release, self._node, sorted(unmade))

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            try:
                due = await self._look()
            except Exception as error:
                self._log.error("webhook.failed", webhook=self._hook.settings.name, error=repr(error))
                due = None
            wait = IDLE if due is None else (due - self._clock.now()) / SECOND
            if wait > 0:
                await self._rest(min(wait, IDLE))

    async def _look(self) -> int | None:
        """Claim what there is room for; when to look again, None if only a wake-up can change things."""
        now, name = self._clock.now(), self._hook.settings.name
        if now >= self._recover_at:
            self._recover_at = now + RECOVER_EVERY
            await self._database.write(hook_calls.recover, "", now)
        room = self._held - len(self._tasks)
        if room < max(1, self._held // 2):
            return None  # a call that ends wakes us
        due = await self._database.read(hook_calls.next_due, name)
        if due is None or due > now:
            return due
        until = now + self._lease
        self._claiming = asyncio.ensure_future(
            self._database.write(hook_calls.claim, name, self._node, now, until, room)
        )
        calls = await asyncio.shield(self._claiming)
        self._claiming = None
        for call in calls:
            task = asyncio.get_running_loop().create_task(self._call(call, until))
            self._tasks[task] = call.id
            task.add_done_callback(self._ended)
        return now if calls else None

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.pop(task, None)
        if not self._tasks or self._held - len(self._tasks) >= self._held // 2:
            self.wake()

    async def _rest(self, seconds: float) -> None:
        """Until something happens, at most so long."""
        try:
            await wait_for(self._wake, self._clock, seconds, self._look_still)
        finally:
            self.still.clear()

    def _look_still(self) -> None:
        if not self._tasks and not self._wake.is_set():
            self.still.set()

    async def _call(self, call: Call, until: int) -> None:
        async with self._places:
            one = self._hook.settings
            now = self._clock.now()
            if now + int((one.timeout + 1.0) * SECOND) > until:
                # It waited here for so long that another node might soon claim it too.
                await self._database.write(hook_calls.release, self._node, [call.id])
                return
            body = call.body.encode("utf-8")
            answered = await self._hook.post(body, self._hook.headers(body, now))
            now = self._clock.now()
            outcome = judge(call, answered, now, self._chance.random())
            # From here on nothing may stop it: the receiver has heard of it.
            await asyncio.shield(asyncio.ensure_future(self._record(outcome)))
        done = outcome.state == hook_calls.DONE
        fields: dict[str, Any] = {} if done else {"text": answered.text[:200]}
        if outcome.state == hook_calls.DUE:
            fields["retry_in"] = (outcome.at - now) // SECOND
        self._log.info(
            "webhook.called" if done else "webhook.deferred" if "retry_in" in fields else "webhook.given_up",
            webhook=one.name,
            call=ids.to_text(call.id),
            about=call.event,
            code=answered.code,
            attempt=call.attempts + 1,
            **fields,
        )

    async def _record(self, outcome: Outcome) -> None:
        """Write down how it went; again and again while the store cannot."""
        wait = 1.0
        while True:
            try:
                await self._database.write(hook_calls.record, self._node, outcome)
            except Exception as error:
                self._log.error("webhook.failed", webhook=self._hook.settings.name, what="recording", error=repr(error))
                await self._clock.sleep(wait)
                wait = min(wait * 2, 60.0)
            else:
                return

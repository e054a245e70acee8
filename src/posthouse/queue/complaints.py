"""Complaints: reports that arrive at the addresses of `queue.feedback`, about mail that accounts of ours sent.

The change feed tells of every message that an account behind such an address gets; taking mail in is not slowed down.
What is a report (`reports/arf.py`) about a message whose trace is kept is written down in one transaction: an event in
that trace, the calls to webhooks, the entry on the account's suppression list, and how far the mailbox was looked at
(`store/feedback.py`). After a crash or a failure the rest is looked at again; one complaint of one recipient about one
message counts once.

A report proves nothing: whoever knows such an address and a message's id can send one. The worst it does is to take one
of the message's own recipients off the reach of its own sender, until somebody takes that back.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, NamedTuple

from posthouse.base import ids
from posthouse.base.clock import Clock
from posthouse.base.log import Logger
from posthouse.base.settings import Settings
from posthouse.mime.threads import message_id_hash
from posthouse.queue import hook_events
from posthouse.queue.suppress import DAY
from posthouse.reports import arf
from posthouse.reports.arf import Feedback
from posthouse.store import events, feedback, hook_calls, suppression
from posthouse.store.accounts import Resolution
from posthouse.store.blobs import rows as blobs
from posthouse.store.database import Database, Tx
from posthouse.store.feed import ChangeFeed
from posthouse.store.feedback import Arrived, Sent
from posthouse.store.hook_calls import Facts, NewCall
from posthouse.store.model import DirectoryChanged, EntriesAdded
from posthouse.store.suppression import Entry
from posthouse.wire.address import Address

PURPOSE = "complaints"
COMPLAINED = "complained"  # the kind of the event, and the reason on the suppression list
KEPT = 30 * DAY  # traces are; older reports cannot be about one
EVERY = 60.0  # seconds between two looks at who gets mail for the addresses
SLICE = 100  # messages looked at between two notes of how far it is
MAX_PENDING = 1000  # changes that wait here; beyond that the mailboxes are gone through
MAX_TRACES = 20  # that one report may be about

Resolve = Callable[[Address], Awaitable[Resolution]]


class _About(NamedTuple):
    """A complaint that is one."""

    sent: Sent
    recipients: tuple[str, ...]  # "" for one that is not known


class _Complaint(NamedTuple):
    """One recipient's, ready to be written down."""

    recipient: str
    seq: int
    calls: list[NewCall]


class Complaints:
    """Looks at what arrives, one message after the other."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        feed: ChangeFeed,
        resolve: Resolve,
        clock: Clock,
        new_ids: ids.IdSource,
        log: Logger,
    ) -> None:
        self._settings = settings
        self._database = database
        self._feed = feed
        self._resolve = resolve
        self._clock = clock
        self._ids = new_ids
        self._log = log
        self._addresses = frozenset(settings.queue.feedback)
        self._accounts: dict[int, Callable[[], None]] = {}  # what ends the subscription of each
        self._pending: list[EntriesAdded] = []
        self._behind: set[int] = set()  # accounts whose mailboxes are to be gone through
        self._wake = asyncio.Event()
        self.still = asyncio.Event()  # everything was looked at
        self._loop: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin, if there are such addresses."""
        if self._addresses:
            self._feed.subscribe(0, self._on_directory)
            self._loop = asyncio.get_running_loop().create_task(self._run())

    def _on_directory(self, changes: list[Any]) -> None:
        if any(isinstance(change, DirectoryChanged) for change in changes):
            self._awaken()

    def _on_entries(self, changes: list[Any]) -> None:
        added = [change for change in changes if isinstance(change, EntriesAdded)]
        if not added:
            return
        self._pending += added
        if len(self._pending) > MAX_PENDING:
            self._behind.update(change.account_id for change in self._pending)
            self._pending.clear()
        self._awaken()

    def _awaken(self) -> None:
        self.still.clear()
        self._wake.set()

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            try:
                await self._find_accounts()
                await self._look()
            except Exception as error:
                self._log.error("feedback.failed", error=repr(error))
            if not self._wake.is_set():
                self.still.set()
            with contextlib.suppress(TimeoutError):
                await self._rest(EVERY)

    async def _rest(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        waiters = {loop.create_task(self._wake.wait()), loop.create_task(self._clock.sleep(seconds))}
        try:
            await asyncio.wait(waiters, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for waiter in waiters:
                waiter.cancel()
            await asyncio.gather(*waiters, return_exceptions=True)

    async def _find_accounts(self) -> None:
        """Who gets mail for the addresses now. Somebody new is looked at from the beginning."""
        found: set[int] = set()
        for text in self._addresses:
            address = Address.parse(text)
            if address is not None:
                found.update((await self._resolve(address)).accounts)
        for account_id in self._accounts.keys() - found:
            self._accounts.pop(account_id)()
            self._behind.discard(account_id)
        for account_id in found - self._accounts.keys():
            self._accounts[account_id] = self._feed.subscribe(account_id, self._on_entries)
            self._behind.add(account_id)

    async def _look(self) -> None:
        received = self._clock.now() - KEPT
        pending, self._pending = self._pending, []
        try:
            while pending:
                change = pending[0]
                if change.account_id in self._accounts and change.account_id not in self._behind:
                    found = await self._database.read(
                        feedback.at, change.account_id, change.mailbox_id, change.uids, received
                    )
                    await self._look_at(found)
                    await self._database.write(feedback.advance, PURPOSE, change.account_id, change.modseq)
                pending.pop(0)
        finally:
            # What failed, and what came after it, is found by going through the mailboxes.
            self._behind.update(change.account_id for change in pending)
        for account_id in sorted(self._behind):
            while found := await self._database.read(feedback.since, PURPOSE, account_id, received, SLICE):
                await self._look_at(found)
                await self._database.write(feedback.advance, PURPOSE, account_id, found[-1].modseq)
            self._behind.discard(account_id)

    async def _look_at(self, found: Iterable[Arrived]) -> None:
        for one in found:
            came = await self._database.read(feedback.accepted, one.trace)
            if self._is_addressed(came.get("recipients")):
                await self._judge(one, str(came.get("sender") or ""))

    def _is_addressed(self, recipients: object) -> bool:
        if not isinstance(recipients, list):
            return False
        for one in recipients:
            local, _, domain = str(one).lower().rpartition("@")
            if f"{local}@{domain}" in self._addresses or f"{local.partition('+')[0]}@{domain}" in self._addresses:
                return True
        return False

    async def _judge(self, one: Arrived, reporter: str) -> None:
        """Look at one message; write down what it complains about."""
        content = await self._database.read(blobs.read, one.blob_id, 0, arf.MAX_REPORT)
        report = await self._database.work(arf.parse, content)
        about = None
        if report is not None and report.is_complaint:
            about = await self._database.read(_find, report, self._settings.hostname)
        if report is None or about is None:
            why = "no report" if report is None else "not about a message of an account here"
            self._log.info("feedback.ignored", message=ids.to_text(one.trace), sender=reporter, why=why)
            return
        complaint: dict[str, Any] = {
            "type": report.type,
            "reporter": reporter.rpartition("@")[2].lower()[:255],
            "mailer": report.mailer[:200],
            "report": ids.to_text(one.trace),
        }
        now, sent = self._clock.now(), about.sent
        # Ids are made here: the transaction runs on a thread of the store.
        found = [
            _Complaint(recipient, self._ids.next(now), self._calls(sent, recipient, complaint, now))
            for recipient in about.recipients
        ]
        new = await self._database.write(self._keep, sent, found, complaint, now)
        if new:
            self._log.info(
                "feedback.complained",
                message=ids.to_text(sent.trace),
                account=sent.account,
                recipients=new,
                type=report.type,
                reporter=complaint["reporter"],
            )

    def _calls(self, sent: Sent, recipient: str, complaint: dict[str, Any], now: int) -> list[NewCall]:
        facts = Facts(sent.account, sent.message_id)
        return hook_events.complaints(
            self._settings.webhook,
            sent.trace,
            sent.sender,
            facts,
            recipient,
            complaint,
            now,
            lambda: self._ids.next(now),
        )

    def _keep(self, tx: Tx, sent: Sent, found: list[_Complaint], complaint: dict[str, Any], now: int) -> list[str]:
        """Write down what is new of a complaint; returns whose it is."""
        queue = self._settings.queue
        known = feedback.complained(tx, sent.trace)
        new = [one for one in found if one.recipient.lower() not in known]
        for one in new:
            events.add(tx, sent.trace, one.seq, COMPLAINED, {"recipient": one.recipient, **complaint})
            hook_calls.add(tx, one.calls, now, now + hook_events.LIFETIME)
            if one.recipient and queue.suppress:
                until = now + int(queue.suppress_days * DAY)
                suppression.add(tx, Entry(sent.account_id, one.recipient, COMPLAINED, "", now, until))
        return [one.recipient for one in new]

    async def close(self) -> None:
        """Stop looking. What was not looked at is, at the next start."""
        for unsubscribe in self._accounts.values():
            unsubscribe()
        self._accounts.clear()
        if self._loop is not None:
            self._loop.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._loop


def _find(tx: Tx, report: Feedback, hostname: str) -> _About | None:
    """Which message of ours a report is about: by the id in our Received field, else by its Message-ID."""
    traces = [trace for by, id_ in report.received if by == hostname and (trace := ids.from_text(id_)) is not None]
    if report.message_id:
        traces += events.traces_of_message_id(tx, message_id_hash(report.message_id))
    first: _About | None = None
    reported = {one.lower() for one in report.recipients}
    for trace in list(dict.fromkeys(traces))[:MAX_TRACES]:
        sent = feedback.sent(tx, trace)
        if sent is None:
            continue
        named = tuple(one for one in sent.recipients if one.lower() in reported)
        if named:
            return _About(sent, named)
        # Providers black the address out, or name one that ours leads to: of several it may be anybody.
        first = first or _About(sent, sent.recipients if len(sent.recipients) == 1 else ("",))
    return first

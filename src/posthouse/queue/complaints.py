"""Complaints: reports that arrive at the addresses of `queue.feedback`, about mail that accounts of ours sent.

`queue/arrivals.py` finds them, after their delivery. What is a report (`reports/arf.py`) about a message whose trace is
kept is written down in one transaction: an event in that trace, the calls to webhooks, and the entry on the account's
suppression list. A message may be looked at twice; one complaint of one recipient about one message counts once.

A report proves nothing: whoever knows such an address and a message's id can send one. The worst it does is to take one
of the message's own recipients off the reach of its own sender, until somebody takes that back.
"""

from typing import Any, NamedTuple

from posthouse.base import ids
from posthouse.base.clock import Clock
from posthouse.base.log import Logger
from posthouse.base.settings import Settings
from posthouse.mime.threads import message_id_hash
from posthouse.queue import hook_events
from posthouse.queue.arrivals import Arrivals, Resolve
from posthouse.queue.suppress import DAY
from posthouse.reports import arf
from posthouse.reports.arf import Feedback
from posthouse.store import events, feedback, hook_calls, suppression
from posthouse.store.blobs import rows as blobs
from posthouse.store.database import Database, Tx
from posthouse.store.feed import ChangeFeed
from posthouse.store.feedback import Arrived, Sent
from posthouse.store.hook_calls import Facts, NewCall
from posthouse.store.suppression import Entry

PURPOSE = "complaints"
COMPLAINED = "complained"  # the kind of the event, and the reason on the suppression list
MAX_TRACES = 20  # that one report may be about


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
        self._clock = clock
        self._ids = new_ids
        self._log = log
        self._arrivals = Arrivals(
            PURPOSE, settings.queue.feedback, database, feed, resolve, clock, log, self._judge, "feedback.failed"
        )
        self.still = self._arrivals.still

    async def start(self) -> None:
        """Begin, if there are such addresses."""
        await self._arrivals.start()

    async def close(self) -> None:
        """Stop looking. What was not looked at is, at the next start."""
        await self._arrivals.close()

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

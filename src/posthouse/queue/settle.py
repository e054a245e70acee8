"""What follows from an attempt, in one transaction: outcomes, trace, the reports that are owed, the suppression list,
the calls to webhooks.

`Settler.record` is tried until it succeeds, because a delivery that is not written down would be made again. Reports
are written before and kept by the same transaction: rows and bounce stand or fall together.
"""

import random
from collections.abc import Sequence
from typing import Any, NamedTuple

from posthouse.base import ids
from posthouse.base.clock import Clock
from posthouse.base.log import Logger
from posthouse.base.settings import Settings
from posthouse.queue import delays, hook_events, suppress
from posthouse.queue.bounce import DOUBLE, Notice, bounce, double_bounce, notices, returns_whole
from posthouse.queue.jobs import Job, Keep, Kept, Prepare
from posthouse.queue.results import DEFERRED, DELIVERED, FAILED, Judged, Report, judge
from posthouse.smtp.params import MailParams
from posthouse.store import delays as warnings
from posthouse.store import events, hook_calls, outbox, suppression
from posthouse.store.blobs import rows as blobs
from posthouse.store.database import Database, Tx
from posthouse.store.envelope import AUTHENTIC, UNAUTHENTIC, marks_of, pack_mail, unpack_mail
from posthouse.store.outbox import Message

SECOND = 1_000_000
PIECE = 256 * 1024  # octets of a message that a report is made of

_LOG = {DELIVERED: "queue.delivered", DEFERRED: "queue.deferred", FAILED: "queue.bounced"}


class _Led(NamedTuple):
    """A message that an attempt leads to: a report, or the one that was held."""

    keep: Keep
    trace: int
    why: str  # "failed", "delayed", "delivered", "relayed", "double bounce" or "released"


class Settler:
    """Writes down what became of jobs of one node."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        clock: Clock,
        prepare: Prepare,
        new_ids: ids.IdSource,
        log: Logger,
        chance: random.Random,
        node: str,
    ) -> None:
        self._settings = settings
        self._database = database
        self._clock = clock
        self._prepare = prepare
        self._ids = new_ids
        self._log = log
        self._chance = chance
        self._node = node

    async def record(self, job: Job, report: Report, keep: Keep | None) -> list[Judged]:
        """Write down what an attempt found out, and what `keep` keeps; again and again while the store cannot."""
        wait = 1.0
        while True:
            try:
                return await self._settle(job, report, keep)
            except Exception as error:
                name = ids.to_text(job.message.id)
                self._log.error("queue.failed", what="recording", message=name, error=repr(error))
                await self._clock.sleep(wait)
                wait = min(wait * 2, 60.0)

    async def _settle(self, job: Job, report: Report, here: Keep | None) -> list[Judged]:
        now = self._clock.now()
        message = job.message
        judged = judge(message, job.claims, report, now, self._settings.queue.retry, self._chance.random())
        late = self._is_late(message, now)
        marks = marks_of(message.options)
        due = notices(message, judged, late, authentic=UNAUTHENTIC not in marks)
        keeps = [
            _Led(keep, keep.trace, notice.action)
            for notice in due
            if (keep := await self._notify(message, notice, now)) is not None
        ]
        if here is not None:
            keeps.append(_Led(here, getattr(here, "trace", 0), "released"))
        also = await self._also_due(message, judged, late, now)
        queue = self._settings.queue
        bad = suppress.entries(message, judged, now, queue.suppress_days) if queue.suppress else []
        calls = await self._calls(message, judged, report, now)
        seq = self._ids.next(now)

        def write(tx: Tx) -> None:
            outbox.record(tx, self._node, [one.outcome for one in judged])
            if late:
                outbox.set_options(tx, message.id, pack_mail(unpack_mail(message.options)._replace(by=None), marks))
                warnings.tell(tx, message.id, now)
            event = report.event(job.claims[0].destination) | _follows(report, judged, (*keeps, *also))
            events.add(tx, message.id, seq, "attempt", event)
            for one in (*keeps, *also):
                one.keep(tx)
            for entry in bad:
                suppression.add(tx, entry)
            hook_calls.add(tx, calls, now, now + hook_events.LIFETIME)

        await self._database.write(write)
        told = (
            {one.claim.id for notice in due if notice.action == "failed" for one in notice.judged} if keeps else set()
        )
        for one in judged:
            unheard = one.verdict.state == FAILED and one.claim.id not in told
            self._tell(message, one, now, "queue.dropped" if unheard else "")
        return judged

    async def _calls(
        self, message: Message, judged: list[Judged], report: Report, now: int
    ) -> list[hook_calls.NewCall]:
        """What webhooks are to hear of it."""
        hooks = self._settings.webhook
        if not hooks or not message.sender:
            return []
        facts = await self._database.read(hook_calls.facts, message.id, message.account_id)
        return hook_events.outcomes(hooks, message, judged, report, facts, now, lambda: self._ids.next(now))

    async def _also_due(self, message: Message, judged: list[Judged], late: bool, now: int) -> list[_Led]:
        """A warning of delay; what the postmaster hears of mail that nobody can be told about."""
        queue = self._settings.queue
        keeps: list[_Led] = []
        if not late and delays.is_due(message, judged, now, queue, authentic=AUTHENTIC in marks_of(message.options)):
            others = await self._database.read(warnings.untold, message.id)
            if others is not None:
                warning = await self._notify(message, delays.notice(message, judged, others, queue), now)
                if warning is not None:
                    keep_warning = warning

                    def warn(tx: Tx) -> None:
                        if warnings.tell(tx, message.id, now):
                            keep_warning(tx)

                    keeps.append(_Led(warn, warning.trace, "delayed"))
        if queue.double_bounces and not message.sender:
            trace = await self._database.read(events.of_trace, message.id)
            lost = double_bounce(message, judged, trace)
            if lost is not None:
                hostname = self._settings.hostname
                postmaster = f"postmaster@{hostname}"
                text = await self._read(message, 0, min(message.size - len(message.prefix), PIECE))
                unique = ids.to_text(self._ids.next(now)).lower()
                report = bounce(message, text, lost, hostname, now, unique, postmaster=postmaster)
                keep = await self._prepare("", [postmaster], report, {DOUBLE: ids.to_text(message.id)})
                if keep is not None:
                    keeps.append(_Led(keep, keep.trace, "double bounce"))
        return keeps

    @staticmethod
    def _is_late(message: Message, now: int) -> bool:
        """Whether the time is over by which the sender wanted delivery, or to hear of the delay. Told once."""
        by = unpack_mail(message.options).by
        return by is not None and by.mode == "N" and now >= message.created + by.seconds * SECOND

    async def _notify(self, message: Message, notice: Notice, now: int) -> Kept | None:
        """What brings a report to the sender."""
        size = message.size - len(message.prefix)
        params = unpack_mail(message.options)
        if params.requiretls and message.account_id is None:
            # RFC 8689 section 5: it goes back redacted, or only by TLS, and the way to a stranger is not certain.
            text, options = b"", ""
        else:
            text = await self._read(message, 0, size if returns_whole(message, notice) else min(size, PIECE))
            options = pack_mail(MailParams(requiretls=True)) if params.requiretls else ""
        unique = ids.to_text(self._ids.next(now)).lower()
        report = bounce(message, text, notice, self._settings.hostname, now, unique)
        return await self._prepare(
            "", [message.sender], report, {"bounce_of": ids.to_text(message.id)}, mail_options=options
        )

    def _tell(self, message: Message, one: Judged, now: int, event: str) -> None:
        verdict = one.verdict
        fields: dict[str, Any] = {"message": ids.to_text(message.id), "recipient": one.claim.address}
        fields |= {"host": verdict.host, "code": verdict.code, "text": verdict.text[:300]}
        if one.retry is not None:
            fields["retry_in"] = (one.retry - now) // SECOND
        self._log.info(event or _LOG[verdict.state], sender=message.sender, **fields)

    async def _read(self, message: Message, start: int, end: int) -> bytes:
        return await self._database.read(blobs.read, message.blob_id, start, end)


def _follows(report: Report, judged: Sequence[Judged], led: Sequence[_Led]) -> dict[str, Any]:
    """What follows from an attempt, for its event: later attempts, other ends than the reply's code says, messages."""
    found: dict[str, Any] = {}
    if later := {one.claim.address: one.retry for one in judged if one.retry is not None}:
        found["next"] = later
    ended = {one.claim.address: one.verdict.state for one in judged}
    if turned := {who: state for who, state in ended.items() if report.verdicts[who].state != state}:
        found["ended"] = turned
    if linked := [{"id": ids.to_text(one.trace), "why": one.why} for one in led if one.trace]:
        found["led_to"] = linked
    return found

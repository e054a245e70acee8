"""Takes in the reports of others that arrive at `reports.addresses`: DMARC aggregate, TLS, DMARC failure.

`queue/arrivals.py` finds the messages after their delivery; which report one holds is told by `reports/recognise.py`,
on a worker thread and within limits. Reports about domains of this server, and names below them, go into tables
(`store/report_tables.py`), each once; what became of a message is an event of its trace. Anybody can send a report, and
what it says cannot be verified; who sent it can, by DMARC or DKIM (`proven`), and is kept with it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from posthouse.base import ids
from posthouse.base.clock import Clock
from posthouse.base.log import Logger
from posthouse.base.settings import Settings
from posthouse.queue.arrivals import Arrivals, Resolve
from posthouse.reports import recognise
from posthouse.reports.dmarc_aggregate import Aggregate
from posthouse.reports.dmarc_failure import Failure
from posthouse.reports.recognise import Report
from posthouse.reports.tls_rpt import TlsReport
from posthouse.reports.unpack import Unreadable
from posthouse.store import accounts, events, feedback, report_tables
from posthouse.store.blobs import rows as blobs
from posthouse.store.database import Database, Tx
from posthouse.store.feed import ChangeFeed
from posthouse.store.feedback import Arrived
from posthouse.store.report_tables import DmarcRow, TlsRow

PURPOSE = "reports"
KIND = "report"  # of the event in the trace
MAX_DOMAINS = 20  # that one TLS report is kept for
MAX_ROWS = 5_000  # of one report: all other writing waits while they are written
MAX_FACTS = 600  # characters of all signatures of a row that are kept
SECOND = 1_000_000
DAY = 86_400 * SECOND
HERE = "this server"

Kept = tuple[report_tables.Report, list[DmarcRow], list[TlsRow]]


class ReportIntake:
    """Looks at what arrives."""

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
            PURPOSE, settings.reports.addresses, database, feed, resolve, clock, log, self._take, "report.failed"
        )
        self.still = self._arrivals.still

    async def start(self) -> None:
        """Begin, if there are such addresses."""
        await self._arrivals.start()

    async def _take(self, one: Arrived, sender: str) -> None:
        content = await self._database.read(blobs.read, one.blob_id, 0, recognise.MAX_MESSAGE)
        came = await self._database.read(feedback.accepted, one.trace)
        found: list[Kept] = []
        why = ""
        try:
            report = await self._database.work(recognise.of_message, content)
            reporter = proven(came)
            found = [
                (kept._replace(reporter=reporter), dmarc, tls)
                for kept, dmarc, tls in rows(
                    report, sender.rpartition("@")[2].lower()[:253], self._clock.now(), one.trace
                )
            ]
        except Unreadable as error:
            why = str(error)
        except Exception as error:
            # A fault of ours: looked at again it would fail again, and stand before all that comes after it.
            self._log.error("report.failed", message=ids.to_text(one.trace), error=repr(error))
            why = "it could not be looked at: an error of this server"
        # Ids are made here: the transaction runs on a thread of the store.
        seqs = [self._ids.next(self._clock.now()) for _ in range(len(found) + 1)]
        told = await self._database.write(_keep, one.trace, found, why, seqs)
        for data in told:
            event = "report.ignored" if data.get("ignored") else "report.received"
            self._log.info(event, message=ids.to_text(one.trace), sender=sender, **{"about": "", **data})

    async def tidy(self) -> None:
        """Forget reports that are older than the settings want."""
        before = self._clock.now() - self._settings.reports.keep_days * DAY
        while await self._database.write(report_tables.expire, before):
            pass

    async def close(self) -> None:
        """Stop looking. What was not looked at is, at the next start."""
        await self._arrivals.close()


def _keep(tx: Tx, trace: int, found: list[Kept], why: str, seqs: list[int]) -> list[dict[str, Any]]:
    """Keep what is about domains of ours; what became of it, for the trace and the log. Looked at once more, a message
    says nothing new."""
    known = {
        (event.data.get("kind"), event.data.get("about")) for event in events.of_trace(tx, trace) if event.kind == KIND
    }
    told: list[dict[str, Any]] = []
    if not found:
        told.append({"ignored": why or "the report is about nothing"})
    for report, dmarc, tls in found:
        data: dict[str, Any] = {
            "kind": report.kind,
            "about": report.domain,
            "organization": report.organization[:200],
            "report_id": report.report_id[:200],
        }
        data |= {"reporter": report.reporter} if report.reporter else {"unverified": True}
        ignored = "" if is_ours(tx, report.domain) else "the domain is not of this server"
        ignored = ignored or report_tables.add(tx, report, dmarc, tls)
        told.append(data | ({"ignored": ignored} if ignored else {"counted": report.counted, "failed": report.failed}))
    new = [data for data in told if (data.get("kind"), data.get("about")) not in known]
    for data, seq in zip(new, seqs, strict=False):
        events.add(tx, trace, seq, KIND, data)
    return new


def is_ours(tx: Tx, domain: str) -> bool:
    """Whether a domain is of this server, or below one that is."""
    labels = domain.split(".")[-10:]
    return any(accounts.is_ours(tx, ".".join(labels[at:])) for at in range(len(labels)))


def proven(came: Mapping[str, Any]) -> str:
    """The domain that certainly sent a message, by what the trace says of how it came; "" if nothing proves one.

    DMARC does, and where its domain has no policy a signature (DKIM) of the author's domain or one above it that leaves
    nothing open. So do logins; and what this server reports itself is its own.
    """
    if login := came.get("login"):
        return str(login).rpartition("@")[2].lower()
    if came.get("notice"):
        return HERE
    found = came.get("authentication")
    judged = found.get("dmarc") if isinstance(found, dict) else None
    if not isinstance(found, dict) or not isinstance(judged, dict):
        return ""
    author = str(judged.get("author") or "")
    if judged.get("result") == "pass":
        return author
    if judged.get("result") == "none":
        for one in found.get("dkim", ()):
            signer = str(one.get("domain") or "")
            good = one.get("result") == "pass" and not one.get("weak") and not one.get("testing")
            if good and signer and f".{author}".endswith(f".{signer}"):
                return author
    return ""


def rows(report: Report, reporter: str, received: int, trace: int) -> list[Kept]:
    """A report as the tables have it: one of each domain that it is about. `reporter` is whose it claims to be. Pure.
    Times are microseconds."""
    kept = report_tables.Report(
        id=0,
        kind="",
        domain="",
        organization="",
        report_id="",
        reporter=reporter,
        begins=received,
        ends=received,
        received=received,
        trace=trace,
        counted=0,
        failed=0,
        facts={},
    )
    match report:
        case Aggregate():
            return [_of_aggregate(report, kept)]
        case TlsReport():
            return _of_tls(report, kept)
        case Failure():
            return [_of_failure(report, kept)]


def _range(begin: int, end: int, received: int) -> tuple[int, int]:
    """The range of a report, in microseconds. One that claims the future, or nothing at all, ends when it came: else it
    would be kept for ever, or not at all."""
    ends = min(end * SECOND, received) if end > 0 else received
    begins = min(begin * SECOND, ends) if begin > 0 else ends
    return begins, ends


def _of_aggregate(report: Aggregate, kept: report_tables.Report) -> Kept:
    begins, ends = _range(report.begin, report.end, kept.received)
    policy = report.policy
    kept_rows = report.records
    if len(kept_rows) > MAX_ROWS:
        # What failed is what somebody has to do something about.
        kept_rows = tuple(sorted(kept_rows, key=lambda one: (one.passes, -one.messages))[:MAX_ROWS])
    kept = kept._replace(
        kind="dmarc",
        domain=policy.domain,
        organization=report.organization[:200],
        report_id=report.report_id[:200] or f"{report.begin}-{report.end}",
        begins=begins,
        ends=ends,
        counted=sum(one.messages for one in report.records),
        failed=sum(one.messages for one in report.records if not one.passes),
        facts={
            "email": report.email,
            "policy": {name: value for name, value in policy._asdict().items() if value and name != "domain"},
            "errors": list(report.errors[:10]),
        }
        | ({"rows_left_out": len(report.records) - MAX_ROWS} if len(report.records) > MAX_ROWS else {}),
    )
    return (
        kept,
        [
            DmarcRow(
                one.source_ip,
                one.header_from or policy.domain,
                one.dkim == "pass",
                one.spf == "pass",
                one.disposition,
                one.messages,
                {
                    "envelope_from": one.envelope_from,
                    "dkim": _short(one.dkim_results[:10]),
                    "spf": _short(one.spf_results[:3]),
                    "reasons": _short(one.reasons[:5]),
                },
            )
            for one in kept_rows
        ],
        [],
    )


def _short(found: Sequence[tuple[str, ...]]) -> list[list[str]]:
    """Results of a row, as far as they find room."""
    kept: list[list[str]] = []
    room = MAX_FACTS
    for one in found:
        room -= sum(map(len, one))
        if room < 0:
            break
        kept.append(list(one))
    return kept


def _of_tls(report: TlsReport, kept: report_tables.Report) -> list[Kept]:
    begins, ends = _range(report.begin, report.end, kept.received)
    found: list[Kept] = []
    for domain in list(dict.fromkeys(one.domain for one in report.policies))[:MAX_DOMAINS]:
        mine = [one for one in report.policies if one.domain == domain]
        made: list[TlsRow] = []
        for one in mine:
            if len(made) > MAX_ROWS:
                break
            if one.successes:
                made.append(TlsRow(one.type, "", "", "", one.successes, {}))
            told = sum(each.sessions for each in one.details)
            for each in one.details:
                facts = {
                    "receiving_ip": each.receiving_ip,
                    "helo": each.helo,
                    "information": each.information,
                    "reason": each.reason,
                }
                some = {name: value for name, value in facts.items() if value}
                made.append(TlsRow(one.type, each.result, each.sending_ip, each.host, each.sessions, some))
            if one.failures > told:  # that nobody says more of
                made.append(TlsRow(one.type, "validation-failure", "", "", one.failures - told, {}))
        good = sum(row.sessions for row in made if not row.result)
        bad = sum(row.sessions for row in made if row.result)
        report_id = report.report_id[:200] or f"{report.begin}-{report.end}"
        found.append(
            (
                kept._replace(
                    kind="tls",
                    domain=domain,
                    organization=report.organization[:200],
                    report_id=report_id,
                    begins=begins,
                    ends=ends,
                    counted=good + bad,
                    failed=bad,
                    facts={"contact": report.contact, "policies": [list(one.strings[:20]) for one in mine[:10]]},
                ),
                [],
                made,
            )
        )
    return found


def _of_failure(report: Failure, kept: report_tables.Report) -> Kept:
    kept = kept._replace(
        kind="failure",
        domain=report.domain,
        organization=kept.reporter or report.reporter or "unknown",
        report_id=report.report_id[:200] or ids.to_text(kept.trace),
        counted=report.incidents,
        failed=report.incidents,
        facts={
            name: value for name, value in report._asdict().items() if value and name not in ("domain", "incidents")
        },
    )
    return kept, [], []

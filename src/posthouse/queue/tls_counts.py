"""How often TLS to other domains went well, and what went wrong: what a TLS report is made of (RFC 8460 section 4).

`Counts` is in memory and bounded; `take` hands over what was counted and begins anew. `Recorder` takes it every few
seconds and writes it into the store (`store/report_counts.py`), where a restart does not lose it; the reports are made
by `servers/reporting.py`.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from posthouse.base.clock import Clock
from posthouse.base.log import Logger
from posthouse.base.soon import Soon
from posthouse.store import report_counts
from posthouse.store.database import Database
from posthouse.store.report_counts import DAY, Counted, due_of

MOST_DOMAINS = 10_000
MOST_KINDS = 100  # of failures of one domain
MOST_RECORDS = 20  # of TLSA, of one domain
EVERY = 5.0  # seconds between two writings


class Outcome(Protocol):
    """What is counted: a finding of `queue/transport_security.py`."""

    @property
    def ok(self) -> bool: ...
    @property
    def result(self) -> str: ...
    @property
    def policy(self) -> str: ...


class Failure(NamedTuple):
    """A kind of failure."""

    result: str  # of RFC 8460 section 4.3
    host: str
    ip: str = ""  # of the host


class Count(NamedTuple):
    """The sessions with one domain under one kind of policy."""

    successes: int
    failures: dict[Failure, int]
    records: tuple[str, ...] = ()  # of TLSA, as a report shows them


class Counts:
    """Counts sessions by domain and policy type."""

    def __init__(self) -> None:
        self._successes: Counter[tuple[str, str]] = Counter()
        self._failures: dict[tuple[str, str], Counter[Failure]] = {}
        self._records: dict[tuple[str, str], dict[str, None]] = {}
        self.lost = 0  # findings that found no room
        self.noted: Callable[[], None] = lambda: None  # is called with each finding

    def note(self, domain: str, host: str, finding: Outcome, ip: str = "", records: Sequence[str] = ()) -> None:
        """Count one session. One that was let through in spite of a result type is a failure in a report, too.
        `records` are those of TLSA that were asked for."""
        self.noted()
        key = (domain, finding.policy)
        if key not in self._failures:
            if len(self._failures) >= MOST_DOMAINS:
                self.lost += 1
                return
            self._failures[key] = Counter()
        if records:
            known = self._records.setdefault(key, {})
            known.update(dict.fromkeys(records[: MOST_RECORDS - len(known)]))
        if finding.ok and not finding.result:
            self._successes[key] += 1
            return
        failure, kinds = Failure(finding.result or "validation-failure", host, ip), self._failures[key]
        if failure not in kinds and len(kinds) >= MOST_KINDS:
            self.lost += 1
            return
        kinds[failure] += 1

    def take(self) -> dict[tuple[str, str], Count]:
        """What was counted since the last time, by (domain, policy type)."""
        counts = {
            key: Count(self._successes[key], dict(kinds), tuple(self._records.get(key, ())))
            for key, kinds in self._failures.items()
        }
        self._successes.clear()
        self._failures.clear()
        self._records.clear()
        self.lost = 0
        return counts


class Recorder:
    """Writes counts down. A crash loses the last seconds."""

    def __init__(self, counts: Counts, database: Database, clock: Clock, log: Logger) -> None:
        self._counts = counts
        self._database = database
        self._clock = clock
        self._log = log
        self._day = 0  # of the first finding that waits
        self._soon = Soon(clock, EVERY, self.flush)
        counts.noted = self._noted

    def _noted(self) -> None:
        self._day = self._day or self._clock.now() // DAY
        self._soon.note()

    async def flush(self) -> None:
        """Write what waits."""
        day, self._day = self._day, 0
        taken = self._counts.take()
        if not taken:
            return
        try:
            await self._database.write(report_counts.add, "tls", day, _periods(day, taken))
        except Exception as error:
            self._log.error("server.failed", what="counting for TLS reports", error=repr(error))

    async def close(self) -> None:
        """Write what waits, and stop."""
        await self._soon.close()
        self._counts.noted = lambda: None


def _periods(day: int, taken: dict[tuple[str, str], Count]) -> list[Counted]:
    """What was counted as the store keeps it. Facts of a count: policy, result ("": it went well), host, address."""
    domains: dict[str, list[tuple[str, Count]]] = {}
    for (domain, policy), count in taken.items():
        domains.setdefault(domain[:255], []).append((policy, count))
    periods = []
    for domain, kinds in domains.items():
        counts = []
        for policy, count in kinds:
            if count.successes:
                counts.append(([policy, "", "", ""], count.successes))
            counts += [([policy, *failure], number) for failure, number in count.failures.items()]
        records = [record for _, count in kinds for record in count.records]
        periods.append(Counted(domain, list(records), due_of("tls", day, domain), counts))
    return periods

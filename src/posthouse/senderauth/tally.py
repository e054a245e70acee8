"""What DMARC reports are made of: one `Evaluated` a message, counted by `Tally`, written down in batches.

`note` is for the event loop: it counts equal ones together and does nothing else. Every few seconds what was counted
goes into the store (`store/report_counts.py`), and at the end of the day into reports (`servers/reporting.py`). A crash
loses the last seconds. Whatever strangers send, what waits here is bounded, and what finds no room is counted as lost.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from typing import Any, NamedTuple

from posthouse.base.clock import Clock
from posthouse.base.log import Logger
from posthouse.base.soon import Soon
from posthouse.store import report_counts
from posthouse.store.database import Database
from posthouse.store.report_counts import DAY, Counted, due_of

EVERY = 5.0  # seconds
MOST = 10_000  # different ones that wait to be written
MOST_SIGNATURES = 10  # of one message that are reported
MOST_REASONS = 5
MOST_CHARACTERS = 255  # of one text; a domain
MOST_RECORD = 1024

_asks = re.compile(r"(?:\A|;)[ \t]*rua[ \t]*=", re.IGNORECASE).search


class Evaluated(NamedTuple):
    """What one message contributes to the report for a policy domain. Domains are A-labels."""

    policy_domain: str  # whose record was found
    record: str  # its text
    source_ip: str
    header_from: str  # domain of the author
    envelope_from: str  # domain of the reverse-path; "" for the null one
    spf: tuple[str, str, str]  # domain, scope ("mfrom" or "helo"), result; ("", "", "") if it was not checked
    dkim: tuple[tuple[str, str, str], ...]  # domain, selector, result of each signature, the weightiest first
    aligned_spf: str  # "pass" or "fail": the words of DMARC
    aligned_dkim: str
    disposition: str  # what was done: "none", "quarantine", "reject"
    reasons: tuple[tuple[str, str], ...] = ()  # why it is not what the policy asks for: type of RFC 9990, comment
    discovery: str = "treewalk"  # how the record was found: "treewalk" or "psl"


def day_of(now: int) -> int:
    """The day (UTC, since 1970) of a time."""
    return now // DAY


class Tally:
    """Counts what messages contribute. Nothing is counted for domains that ask for no reports, and without `counting`
    nothing at all."""

    def __init__(
        self, database: Database, clock: Clock, log: Logger, unreported: Collection[str] = (), *, counting: bool = True
    ) -> None:
        self._unreported = frozenset(map(_bare, unreported))  # addresses of ours for reports, in lower case
        self._counting = counting
        self._database = database
        self._clock = clock
        self._log = log
        self._counts: Counter[tuple[int, Evaluated]] = Counter()
        self._soon = Soon(clock, EVERY, self.flush)
        self.lost = 0  # that found no room

    def note(self, evaluated: Evaluated, recipients: Iterable[str] = ()) -> None:
        """Count one message. One for nobody but our addresses for reports is not counted: two servers would report
        about each other's reports for ever."""
        if not self._counting or _asks(evaluated.record) is None:
            return
        if self._unreported and (to := list(recipients)) and all(_bare(one) in self._unreported for one in to):
            return
        key = self._clock.now() // DAY, evaluated
        if key not in self._counts and len(self._counts) >= MOST:
            self.lost += 1
            return
        self._counts[key] += 1
        self._soon.note()

    async def flush(self) -> None:
        """Write what waits."""
        counts, self._counts = self._counts, Counter()
        try:
            for day in sorted({day for day, _ in counts}):
                mine = {one: number for (that, one), number in counts.items() if that == day}
                self.lost += await self._database.write(report_counts.add, "dmarc", day, list(_periods(day, mine)))
        except Exception as error:
            self._log.error("server.failed", what="counting for DMARC reports", error=repr(error))

    async def close(self) -> None:
        """Write what waits, and stop."""
        await self._soon.close()


def _periods(day: int, counts: dict[Evaluated, int]) -> Iterator[Counted]:
    domains: dict[str, list[Evaluated]] = {}
    for one in counts:
        domains.setdefault(_cut(one.policy_domain).lower(), []).append(one)
    for domain, ones in domains.items():
        last = ones[-1]  # RFC 9990 section 3.1: the last configuration is the one to report
        policy = [last.record[:MOST_RECORD], last.discovery]
        yield Counted(domain, policy, due_of("dmarc", day, domain), [(_facts(one), counts[one]) for one in ones])


def _facts(one: Evaluated) -> list[Any]:
    """What a row of the report says, as `evaluated` reads it."""
    return [
        _cut(one.source_ip),
        _cut(one.header_from),
        _cut(one.envelope_from),
        [_cut(text) for text in one.spf],
        [[_cut(text) for text in signature] for signature in one.dkim[:MOST_SIGNATURES]],
        one.aligned_spf,
        one.aligned_dkim,
        one.disposition,
        [[_cut(text) for text in reason] for reason in one.reasons[:MOST_REASONS]],
    ]


def _bare(address: str) -> str:
    """An address without its +detail, in lower case."""
    local, _, domain = address.lower().rpartition("@")
    return f"{local.partition('+')[0]}@{domain}"


def _cut(text: str) -> str:
    return text[:MOST_CHARACTERS]

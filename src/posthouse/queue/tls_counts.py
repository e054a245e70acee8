"""How often TLS to other domains went well, and what went wrong: what a TLS report is made of (RFC 8460 section 4).

In memory and bounded; `take` hands over what was counted and begins anew. Nothing is written down here.
"""

from collections import Counter
from typing import NamedTuple, Protocol

MOST_DOMAINS = 10_000
MOST_KINDS = 100  # of failures of one domain


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


class Count(NamedTuple):
    """The sessions with one domain under one kind of policy."""

    successes: int
    failures: dict[Failure, int]


class Counts:
    """Counts sessions by domain and policy type."""

    def __init__(self) -> None:
        self._successes: Counter[tuple[str, str]] = Counter()
        self._failures: dict[tuple[str, str], Counter[Failure]] = {}
        self.lost = 0  # findings that found no room

    def note(self, domain: str, host: str, finding: Outcome) -> None:
        """Count one session. One that was let through in spite of a result type is a failure in a report, too."""
        key = (domain, finding.policy)
        if key not in self._failures:
            if len(self._failures) >= MOST_DOMAINS:
                self.lost += 1
                return
            self._failures[key] = Counter()
        if finding.ok and not finding.result:
            self._successes[key] += 1
            return
        failure, kinds = Failure(finding.result or "validation-failure", host), self._failures[key]
        if failure not in kinds and len(kinds) >= MOST_KINDS:
            self.lost += 1
            return
        kinds[failure] += 1

    def take(self) -> dict[tuple[str, str], Count]:
        """What was counted since the last time, by (domain, policy type)."""
        counts = {key: Count(self._successes[key], dict(kinds)) for key, kinds in self._failures.items()}
        self._successes.clear()
        self._failures.clear()
        self.lost = 0
        return counts

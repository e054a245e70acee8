"""May a small read be done on the event loop? Decides by how long the last ones took.

The way to a reader thread and back costs several times what it takes to look up a row that is in memory
(docs/performance.md), but a disk that has to be asked keeps everybody waiting. So small reads are done at once as long
as they are quick: after one that was not, all go to the threads for a while, twice as long each time.
"""

SLOW = 0.004  # seconds: what takes longer had to wait for a disk, or for a processor that others need too
FIRST_REST, LONGEST_REST = 1.0, 64.0  # seconds without small reads on the event loop
TRUST = 1000  # quick ones after which the next rest is short again


class Glances:
    """What is known of small reads. Times are those of a monotonic clock, in seconds."""

    def __init__(self) -> None:
        self._until = 0.0
        self._rest = FIRST_REST
        self._quick = 0

    def allowed(self, now: float) -> bool:
        """May one be done at `now`?"""
        return now >= self._until

    def took(self, begun: float, ended: float) -> None:
        """One was done."""
        if ended - begun <= SLOW:
            self._quick += 1
            if self._quick >= TRUST:
                self._rest = FIRST_REST
            return
        self._quick = 0
        self._until = ended + self._rest
        self._rest = min(self._rest * 2, LONGEST_REST)

"""How fast one next hop may be served, learned from what it says. Pure: time is passed in, in microseconds.

A `Pace` has a window: so many deliveries may run at a time. It begins small, doubles as long as all goes well (slow
start), grows by one a window after the first trouble, and halves when the other side asks us to slow down or cannot
be reached. A hop that nobody answered at several times in a row rests: until then its mail is put off without being
tried, so that a dead host costs a few connections and not one a message. A rate that is set is kept beside that.
"""

from posthouse.base.queue_settings import Limit

START = 4.0  # deliveries at one time to a hop that we know nothing of
UNREACHABLE = 3  # attempts in a row that found nobody: then it rests
REST, LONGEST_REST = 60, 1800  # seconds; doubled each time it is still not there
SECOND = 1_000_000
# Enhanced codes by which a server says "not so fast" (RFC 3463: system not accepting, congestion, security policy).
_SLOWER = ("4.3.2", "4.4.5", "4.7.0", "4.7.1", "4.7.28", "4.2.1")


def is_slower(code: int, status: str) -> bool:
    """Does a reply mean that we are too fast? 421 closes the connection (RFC 5321 section 3.8); 450 and 451 count with
    an enhanced code that speaks of load or policy."""
    return code == 421 or (code in (450, 451, 452) and status.startswith(_SLOWER))


class Pace:
    """The pace of one next hop."""

    __slots__ = ("_limit", "_next", "_rests", "_slow_start", "_unreached", "rest_until", "why", "window")

    def __init__(self, limit: Limit) -> None:
        self._limit = limit
        self.window = min(START, float(limit.most))
        self._slow_start = True
        self._unreached = 0
        self._rests = 0
        self._next = 0  # when the rate allows the next one
        self.rest_until = 0
        self.why = ""  # it rests

    def places(self) -> int:
        """How many deliveries may run at a time."""
        return max(1, int(self.window))

    def wait(self, now: int) -> int:
        """How long the rate forbids the next one, in microseconds."""
        return max(self._next - now, 0)

    def started(self, now: int) -> None:
        """One more is on its way. A burst of a second's worth is allowed after a pause."""
        if self._limit.per_minute:
            each = int(60 * SECOND / self._limit.per_minute)
            self._next = max(self._next, now - SECOND) + each

    def resting(self, now: int) -> bool:
        """Is it not to be tried for now?"""
        return now < self.rest_until

    def answered(self) -> None:
        """A server spoke with us and did not ask us to slow down."""
        self._unreached = self._rests = 0
        self.rest_until = 0
        step = 1.0 if self._slow_start else 1.0 / self.window
        self.window = min(self.window + step, float(self._limit.most))

    def slower(self) -> None:
        """A server asked us to slow down: it is there, but has enough."""
        self._unreached = 0
        self._back_off()

    def unreached(self, now: int, why: str) -> None:
        """Nobody answered."""
        self._back_off()
        self._unreached += 1
        if self._unreached >= UNREACHABLE and not self.resting(now):
            self.rest_until = now + min(REST << min(self._rests, 10), LONGEST_REST) * SECOND
            self._rests += 1
            self.why = why

    def _back_off(self) -> None:
        self._slow_start = False
        self.window = max(self.window / 2, 1.0)

    @property
    def is_new(self) -> bool:
        """Nothing is known that would be lost with it."""
        return self._slow_start and not self._unreached and not self._next

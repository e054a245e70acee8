"""What this process holds of the queue: how many recipients, of which destinations and lanes, and what it left behind.

Pure counting. `room` says what the next look may claim; `is_due` says when, after a look that left something behind
for want of room, another one is worth it: not for each recipient that ends, and never only when the slowest have.
"""

from collections import Counter
from collections.abc import Iterable, Sequence

from posthouse.store.outbox import LAST_LANE, Claim, Room, Taken

MOST = 2000  # recipients, however many may be on their way: their contents are held too


class Holding:
    """Claimed recipients that are not done with. `concurrency` and `each` are deliveries at one time, in all and to one
    destination."""

    def __init__(self, concurrency: int, each: int) -> None:
        self.most = min(max(200, concurrency * 20), MOST)
        self.share = min(max(10, each * 10), self.most // 2)  # of one destination
        self.total = 0
        self.destinations: Counter[str] = Counter()
        self.lanes: Counter[int] = Counter()
        self._lane, self._aside = LAST_LANE, ""  # where the last look ended
        self._left: dict[int, int] = {}  # lanes that have more → what they held after the last look
        self._busy: frozenset[str] = frozenset()  # destinations that had enough then
        self._full = False  # no room was left then
        self._held = 0  # in all, then

    def room(self) -> Room | None:
        """For the next look; None if there is none."""
        if self.total >= self.most:
            self._full, self._held = True, self.total
            return None
        busy = self._enough()
        return Room(self.most - self.total, busy, self.share, dict(self.lanes), self._lane, self._aside)

    def _enough(self) -> list[str]:
        return [destination for destination, count in self.destinations.items() if count >= self.share]

    def took(self, taken: Taken) -> None:
        """Count what a look brought."""
        for claim in taken.claims:
            self.destinations[claim.destination] += 1
            self.lanes[claim.lane] += 1
        self.total += len(taken.claims)
        self._lane, self._aside = taken.lane, taken.aside
        self._left = {lane: self.lanes[lane] for lane in taken.left}
        self._busy, self._full, self._held = frozenset(self._enough()), taken.full, self.total

    def let_go(self, claims: Sequence[Claim]) -> None:
        """They are done with."""
        for claim in claims:
            self.destinations[claim.destination] -= 1
            if not self.destinations[claim.destination]:
                del self.destinations[claim.destination]
            self.lanes[claim.lane] -= 1
            if not self.lanes[claim.lane]:
                del self.lanes[claim.lane]
        self.total -= len(claims)

    def has_more(self, lane: int) -> bool:
        """Did the last look leave some of a lane behind? Then what is new in it waits with them."""
        return lane in self._left

    def is_due(self, ended: Iterable[Claim]) -> bool:
        """Is another look worth it, now that these have ended?"""
        if self._full and (self.total <= self._held // 2 or self.total <= self._held - self.most // 10):
            return True
        return any(
            (claim.lane in self._left and self.lanes[claim.lane] <= self._left[claim.lane] // 2)
            or (claim.destination in self._busy and self.destinations[claim.destination] <= self.share // 2)
            for claim in ended
        )

"""Jobs that wait in this process, and whose turn is next. Pure.

Lanes (senders, `store/outbox.py`) take turns: of all jobs whose next hop is open, the one runs next whose lane was
served longest ago; within a lane and next hop the order is that in which they came. So neither the many messages of
one sender nor the many next hops of one keep others waiting. A next hop is opened for one job at a time by who knows
its limits; who takes a job says which lanes have enough on their way for now.
"""

import heapq
import itertools
from collections import Counter, deque
from collections.abc import Callable

from posthouse.queue.jobs import Job

_SHUT = -1  # the place of an open next hop that has none, as all lanes there have enough


class _Hop:
    """What waits for one next hop. Each lane with jobs stands once in `order`, with when it was served as known then;
    that it was served since only moves it back, so the first is put right when it is looked at. Or it stands in
    `aside`, since it was met while it had enough."""

    __slots__ = ("aside", "lanes", "order")

    def __init__(self) -> None:
        self.lanes: dict[int, deque[Job]] = {}
        self.order: list[tuple[int, int, int]] = []  # served, came, lane
        self.aside: dict[int, int] = {}  # lane → came


class Turns:
    """Jobs by next hop and lane. A `take` costs by the logarithm of what waits."""

    def __init__(self) -> None:
        self._hops: dict[str, _Hop] = {}
        self._waiting: Counter[int] = Counter()  # jobs by lane
        self._served: dict[int, int] = {}  # lane → number of its last job, while it has some
        self._number = itertools.count(1)
        self._open: dict[str, int] = {}  # next hop → its place in `_order` that counts
        self._order: list[tuple[int, int, str]] = []  # served, place, next hop
        self._aside: dict[int, deque[str]] = {}  # lane → next hops where it stands aside

    def __contains__(self, hop: str) -> bool:
        return hop in self._hops

    @property
    def is_ready(self) -> bool:
        """Is there a job that may run?"""
        return bool(self._open)

    def waiting(self) -> dict[str, int]:
        """How many jobs wait, by next hop."""
        return {name: sum(map(len, hop.lanes.values())) for name, hop in self._hops.items()}

    def add(self, job: Job) -> None:
        """One more that waits."""
        hop = self._hops.setdefault(job.next_hop, _Hop())
        jobs = hop.lanes.get(job.lane)
        if jobs is None:
            jobs = hop.lanes[job.lane] = deque()
            served = self._served.get(job.lane, 0)
            heapq.heappush(hop.order, (served, next(self._number), job.lane))
            if job.next_hop in self._open:
                self._enter(job.next_hop, hop)
        jobs.append(job)
        self._waiting[job.lane] += 1

    def open(self, name: str) -> None:
        """One job of this next hop may run."""
        hop = self._hops.get(name)
        if hop is not None and name not in self._open:
            self._enter(name, hop)

    def is_open(self, name: str) -> bool:
        """May one of its jobs run?"""
        return name in self._open

    def take(self, has_enough: Callable[[int], bool] = lambda _: False) -> Job | None:
        """The job whose turn it is; its next hop is closed with it. None if no hop is open, or all that waits there is
        of lanes that have enough."""
        for lane in [lane for lane in self._aside if not has_enough(lane)]:
            self._bring_back(lane)
        while self._order:
            known, place, name = self._order[0]
            if self._open.get(name) != place:  # it was opened anew since
                heapq.heappop(self._order)
                continue
            hop = self._hops[name]
            served, _, lane = self._first(hop)
            if served > known:
                heapq.heapreplace(self._order, (served, place, name))
                continue
            if has_enough(lane):
                self._put_aside(name, hop)
                continue
            heapq.heappop(self._order)
            del self._open[name]
            return self._remove(name, hop)
        return None

    def jobs(self) -> list[Job]:
        """All that waits."""
        return [job for hop in self._hops.values() for jobs in hop.lanes.values() for job in jobs]

    def _put_aside(self, name: str, hop: _Hop) -> None:
        """The first lane of the first hop has enough."""
        _, came, lane = heapq.heappop(hop.order)
        hop.aside[lane] = came
        self._aside.setdefault(lane, deque()).append(name)
        heapq.heappop(self._order)
        self._enter(name, hop)

    def _bring_back(self, lane: int) -> None:
        """A lane has room again. One of its jobs that may run is enough, as the next `take` looks again: a lane that is
        at its limit so costs no more than its turn."""
        names = self._aside[lane]
        while names:
            name = names.popleft()
            hop = self._hops.get(name)
            came = hop.aside.pop(lane, None) if hop is not None else None
            if hop is None or came is None:
                continue
            heapq.heappush(hop.order, (self._served.get(lane, 0), came, lane))
            if name in self._open:
                self._enter(name, hop)
                break
        if not names:
            del self._aside[lane]

    def _enter(self, name: str, hop: _Hop) -> None:
        if not hop.order:
            self._open[name] = _SHUT
            return
        place = self._open[name] = next(self._number)
        heapq.heappush(self._order, (self._first(hop)[0], place, name))

    def _first(self, hop: _Hop) -> tuple[int, int, int]:
        """The lane whose turn it is there."""
        while True:
            known, came, lane = hop.order[0]
            served = self._served.get(lane, 0)
            if served <= known:
                return hop.order[0]
            heapq.heapreplace(hop.order, (served, came, lane))

    def _remove(self, name: str, hop: _Hop) -> Job:
        _, came, lane = hop.order[0]
        jobs = hop.lanes[lane]
        job = jobs.popleft()
        self._waiting[lane] -= 1
        self._served[lane] = number = next(self._number)
        if jobs:
            heapq.heapreplace(hop.order, (number, came, lane))
        else:
            heapq.heappop(hop.order)
            del hop.lanes[lane]
            if not hop.lanes:
                del self._hops[name]
        if not self._waiting[lane]:
            del self._waiting[lane], self._served[lane]
        return job

"""Greylisting: who was never seen before is asked to come again (RFC 6647). Senders that are servers do.

What counts as one is the client's network, the sender and the recipient. It must come back after the delay and within
two days; then it passes for as long as it is remembered. A client that names ever new senders and recipients is asked
to come again without being remembered, so that it cannot fill the disk.
"""

import hashlib
from collections import OrderedDict

from posthouse.base.clock import Clock
from posthouse.base.networks import site
from posthouse.smtp.replies import Reply
from posthouse.store import greylist
from posthouse.store.database import Database

SECOND = 1_000_000
DAY = 86_400 * SECOND
WINDOW = 2 * DAY
HOUR = 3600 * SECOND
# What is remembered anew in an hour: of one client, and of all together.
MOST_OF_ONE, MOST_OF_ALL = 500, 100_000
CLIENTS = 10_000  # whose hours are counted; those that were counted longest ago go first


class Greylist:
    """Asks the database."""

    def __init__(self, database: Database, clock: Clock, delay: float, lifetime_days: float) -> None:
        self._database = database
        self._clock = clock
        self._delay = int(delay * SECOND)
        self._lifetime = int(lifetime_days * DAY)
        self._new: OrderedDict[str, tuple[int, int]] = OrderedDict()  # client ("": all): hour, how many in it

    async def check(self, ip: str, sender: str, recipient: str) -> Reply | None:
        """The reply that asks to come again, or None."""
        text = f"{site(ip)}\0{sender.lower()}\0{recipient.lower()}"
        triplet = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
        now = self._clock.now()
        if await self._database.read(greylist.has_passed, triplet, now - DAY):
            return None
        left = self._delay
        known = await self._database.read(greylist.is_known, triplet)
        if known or self._has_room(site(ip), now):
            left = await self._database.write(greylist.seen, triplet, now, self._delay, WINDOW)
            if not left:
                return None
            if not known:
                self._count(site(ip), now)
        minutes = -(-left // (60 * SECOND))
        return Reply(451, "4.7.1", f"We do not know you yet: try again in {minutes} min, and the mail will be taken")

    def _has_room(self, client: str, now: int) -> bool:
        hour = now // HOUR
        counts = {name: self._new.get(name, (hour, 0)) for name in (client, "")}
        return all(at != hour or count < (MOST_OF_ONE if name else MOST_OF_ALL) for name, (at, count) in counts.items())

    def _count(self, client: str, now: int) -> None:
        hour = now // HOUR
        for name in (client, ""):
            at, count = self._new.pop(name, (hour, 0))
            self._new[name] = (hour, count + 1 if at == hour else 1)
        while len(self._new) > CLIENTS:
            self._new.popitem(last=False)

    async def tidy(self) -> None:
        """Forget what is old."""
        now = self._clock.now()
        while await self._database.write(greylist.expire, now - WINDOW, now - self._lifetime):
            pass

"""Greylisting: who was never seen before is asked to come again (RFC 6647). Senders that are servers do.

What counts as one is the client's network, the sender and the recipient. It must come back after the delay and within
two days; then it passes for as long as it is remembered.
"""

import hashlib

from posthouse.base.clock import Clock
from posthouse.base.networks import site
from posthouse.smtp.replies import Reply
from posthouse.store import greylist
from posthouse.store.database import Database

SECOND = 1_000_000
DAY = 86_400 * SECOND
WINDOW = 2 * DAY


class Greylist:
    """Asks the database."""

    def __init__(self, database: Database, clock: Clock, delay: float, lifetime_days: float) -> None:
        self._database = database
        self._clock = clock
        self._delay = int(delay * SECOND)
        self._lifetime = int(lifetime_days * DAY)

    async def check(self, ip: str, sender: str, recipient: str) -> Reply | None:
        """The reply that asks to come again, or None."""
        text = f"{site(ip)}\0{sender.lower()}\0{recipient.lower()}"
        triplet = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
        now = self._clock.now()
        if await self._database.read(greylist.has_passed, triplet, now - DAY):
            return None
        left = await self._database.write(greylist.seen, triplet, now, self._delay, WINDOW)
        if not left:
            return None
        minutes = -(-left // (60 * SECOND))
        return Reply(451, "4.7.1", f"We do not know you yet: try again in {minutes} min, and the mail will be taken")

    async def tidy(self) -> None:
        """Forget what is old."""
        now = self._clock.now()
        while await self._database.write(greylist.expire, now - WINDOW, now - self._lifetime):
            pass

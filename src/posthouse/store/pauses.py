"""Pauses: destinations that an operator keeps the queue from, until a time or until the pause is lifted.

A pause is for a domain, for all names below one (`*.example.org`), or for everything (`*`). It keeps recipients from
being claimed (`store/outbox.py`); what was claimed before is finished. One whose time is over holds no more, whether
or not its row was removed. `pause` fails with `Permanent` for what is no destination, and when there are too many.
"""

from typing import NamedTuple

from posthouse.base.errors import Permanent
from posthouse.store.database import Tx
from posthouse.store.model import QueueChanged
from posthouse.wire.address import parse_domain

EVERYTHING = "*"
MOST = 1000  # pauses at one time: a claim looks at all of them
MAX_REASON = 500  # characters


class Pause(NamedTuple):
    """One pause."""

    destination: str
    since: int  # microseconds
    until: int  # microseconds; 0: until it is lifted
    reason: str


class Paused(NamedTuple):
    """The pauses of one moment, to ask about many destinations."""

    patterns: frozenset[str]

    @property
    def everything(self) -> bool:
        """Nothing goes out at all."""
        return EVERYTHING in self.patterns

    def covers(self, destination: str) -> bool:
        """Is this destination paused, by itself or with what is above it?"""
        if not self.patterns:
            return False
        name = destination.lower()
        if self.everything or name in self.patterns:
            return True
        _, dot, above = name.partition(".")
        while dot:
            if f"*.{above}" in self.patterns:
                return True
            _, dot, above = above.partition(".")
        return False


NOTHING = Paused(frozenset())


def pause(tx: Tx, destination: str, now: int, until: int = 0, reason: str = "") -> None:
    """Pause a destination; a pause that stands is replaced. `until` 0: until it is lifted."""
    name = _canonical(destination)
    row = tx.one("SELECT count(*) FROM pause WHERE destination <> ? AND (until = 0 OR until > ?)", name, now)
    if row is not None and row[0] >= MOST:
        raise Permanent(
            f"{MOST} destinations are paused, more cannot be; lift some, or pause all names below a domain "
            "with *.example.org"
        )
    tx.run(
        "INSERT INTO pause (destination, since, until, reason) VALUES (?, ?, ?, ?) ON CONFLICT (destination) "
        "DO UPDATE SET since = excluded.since, until = excluded.until, reason = excluded.reason",
        name,
        now,
        until,
        reason[:MAX_REASON],
    )
    tx.publish(QueueChanged(0))


def resume(tx: Tx, destination: str) -> bool:
    """Lift a pause; False if there was none of exactly this name."""
    lifted = tx.run("DELETE FROM pause WHERE destination = ?", _canonical(destination)) > 0
    if lifted:
        tx.publish(QueueChanged(0))
    return lifted


def listing(tx: Tx) -> list[Pause]:
    """All pauses by name; one whose time is over may still be among them."""
    return [Pause(*row) for row in tx.all("SELECT destination, since, until, reason FROM pause ORDER BY destination")]


def standing(tx: Tx, now: int) -> Paused:
    """The pauses that hold now."""
    rows = tx.all("SELECT destination FROM pause WHERE until = 0 OR until > ?", now)
    return Paused(frozenset(name for (name,) in rows))


def next_end(tx: Tx, now: int) -> int | None:
    """When the next of the standing pauses ends by itself; None if none does."""
    row = tx.one("SELECT min(until) FROM pause WHERE until > ?", now)
    return row[0] if row is not None else None


def expire(tx: Tx, now: int) -> int:
    """Forget pauses whose time is over; how many went."""
    return tx.run("DELETE FROM pause WHERE until > 0 AND until <= ?", now)


def _canonical(destination: str) -> str:
    name = destination.strip()
    if name == EVERYTHING:
        return name
    name = name.removesuffix(".")
    below = name.removeprefix("*.")
    domain = parse_domain(below, utf8=True) if name != EVERYTHING else None
    if domain is None:
        raise Permanent(
            f"{destination[:80]!r} is not a destination; write a domain like example.org, *.example.org for all below "
            "it, or * for everything"
        )
    return ("" if below == name else "*.") + domain.lower()

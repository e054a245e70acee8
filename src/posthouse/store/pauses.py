"""Destinations that an operator paused: their mail stays queued and is not tried.

A pause is of a domain, of all names below one ("*.example.org"), or of everything ("*"). It ends by itself at `until`,
or when somebody resumes. That nothing of a paused destination is claimed is for `store/outbox.py`.
"""

from typing import NamedTuple

from posthouse.store.database import Tx
from posthouse.store.model import QueueChanged

EVERYTHING = "*"


class Pause(NamedTuple):
    """One row of the table `pause`, in its order."""

    destination: str
    since: int
    until: int  # microseconds; 0: until somebody resumes
    reason: str


def pause(tx: Tx, destination: str, now: int, until: int, reason: str) -> None:
    """Pause a destination; one that is paused already gets the new end and reason."""
    tx.run(
        "INSERT INTO pause (destination, since, until, reason) VALUES (?, ?, ?, ?) "
        "ON CONFLICT (destination) DO UPDATE SET until = excluded.until, reason = excluded.reason",
        destination,
        now,
        until,
        reason,
    )
    tx.publish(QueueChanged(0))


def resume(tx: Tx, destination: str) -> bool:
    """End a pause; False if there was none."""
    gone = tx.run("DELETE FROM pause WHERE destination = ?", destination) > 0
    if gone:
        tx.publish(QueueChanged(0))
    return gone


def listing(tx: Tx) -> list[Pause]:
    """All pauses, those included whose time is over and that nobody has tidied yet."""
    return [Pause(*row) for row in tx.all("SELECT destination, since, until, reason FROM pause ORDER BY destination")]

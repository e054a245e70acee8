"""Warnings about delays: that a message's sender was told, and who of its recipients waits."""

from typing import NamedTuple

from posthouse.store.database import Tx

MOST = 100  # recipients that a warning names


class Waiting(NamedTuple):
    """A recipient that was tried and is to be tried again, with what was said last."""

    id: int
    address: str
    destination: str
    attempts: int
    options: str
    next_attempt: int
    code: int
    status: str
    text: str
    host: str


def untold(tx: Tx, queue_id: int) -> list[Waiting] | None:
    """Who waits, if the sender of the message was not told yet; None if that was done, or the message is gone."""
    row = tx.one("SELECT warned FROM queue WHERE id = ?", queue_id)
    if row is None or row[0]:
        return None
    rows = tx.all(
        "SELECT id, address, destination, attempts, options, next_attempt, last_code, last_status, last_text, "
        "last_host FROM recipient WHERE queue_id = ? AND state IN ('due', 'claimed') AND attempts > 0 "
        "ORDER BY id LIMIT ?",
        queue_id,
        MOST,
    )
    return [Waiting(*row) for row in rows]


def tell(tx: Tx, queue_id: int, now: int) -> bool:
    """Note that the sender is told; False if that happened before, or nothing waits any more: no warning then."""
    return tx.run("UPDATE queue SET warned = ? WHERE id = ? AND warned = 0", now, queue_id) == 1

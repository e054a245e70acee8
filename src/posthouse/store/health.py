"""What the store says about the health of a server, for `posthouse doctor`. It reads only."""

from typing import NamedTuple

from posthouse.store.database import Tx


class Stuck(NamedTuple):
    """Recipients that wait for longer than they should."""

    recipients: int
    destinations: tuple[tuple[str, int], ...]  # the worst, with their numbers


def stuck(tx: Tx, before: int, now: int, most: int = 3) -> Stuck:
    """What came before a time and still waits; not what an operator or its sender holds."""
    late = "queue.created < ? AND recipient.state <> 'held' AND (recipient.attempts > 0 OR next_attempt <= ?)"
    rows = tx.all(
        "SELECT destination, count(*) AS n FROM recipient JOIN queue ON queue.id = recipient.queue_id "  # noqa: S608
        f"WHERE {late} GROUP BY destination ORDER BY n DESC, destination",
        before,
        now,
    )
    return Stuck(sum(row[1] for row in rows), tuple(tuple(row) for row in rows[:most]))


def newest(tx: Tx) -> int:
    """When the newest message that is known came (microseconds); 0: there is none."""
    row = tx.one("SELECT max(trace) FROM event")
    return (row[0] >> 20) * 1000 if row and row[0] else 0  # base/ids.py

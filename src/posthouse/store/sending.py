"""What accounts and networks have sent lately, so that a restart does not forget it. The counts are `filter`'s text."""

from collections.abc import Sequence

from posthouse.store.database import Tx


def keep(tx: Tx, rows: Sequence[tuple[str, str, str, int]], gone: Sequence[tuple[str, str]]) -> None:
    """Write counts down, (kind, sender, counts, time) each, and drop those of senders that are forgotten."""
    tx.many(
        "INSERT INTO sending (kind, sender, counts, updated) VALUES (?, ?, ?, ?) "
        "ON CONFLICT (kind, sender) DO UPDATE SET counts = excluded.counts, updated = excluded.updated",
        rows,
    )
    tx.many("DELETE FROM sending WHERE kind = ? AND sender = ?", gone)


def since(tx: Tx, kind: str, after: int, most: int) -> list[tuple[str, str]]:
    """Sender and counts of those that sent after a time, the latest last: no more than `most`."""
    rows = tx.all(
        "SELECT sender, counts FROM sending WHERE kind = ? AND updated > ? ORDER BY updated DESC LIMIT ?",
        kind,
        after,
        most,
    )
    return [(sender, counts) for sender, counts in reversed(rows)]


def expire(tx: Tx, before: int, most: int = 1000) -> int:
    """Forget those that sent nothing since; how many went."""
    return tx.run(
        "DELETE FROM sending WHERE (kind, sender) IN (SELECT kind, sender FROM sending WHERE updated < ? LIMIT ?)",
        before,
        most,
    )

"""The memory of greylisting: who tried to send to whom, and when."""

from posthouse.store.database import Tx


def seen(tx: Tx, triplet: bytes, now: int, delay: int, window: int) -> int:
    """Note a try; how many microseconds are left to wait, 0: it may pass. One that comes back after `delay` and within
    `window` of its first try passes, and goes on passing while it is remembered."""
    row = tx.one("SELECT first_seen, passed FROM greylist WHERE triplet = ?", triplet)
    if row is None:
        tx.run("INSERT INTO greylist (triplet, first_seen, last_seen) VALUES (?, ?, ?)", triplet, now, now)
        return delay
    first, passed = row
    if not passed and now - first > window:
        tx.run("UPDATE greylist SET first_seen = ?, last_seen = ? WHERE triplet = ?", now, now, triplet)
        return delay
    if not passed and now - first < delay:
        return int(delay - (now - first))
    tx.run("UPDATE greylist SET passed = ?, last_seen = ? WHERE triplet = ?", passed or now, now, triplet)
    return 0


def is_known(tx: Tx, triplet: bytes) -> bool:
    """Whether it was ever seen and is remembered."""
    return tx.one("SELECT 1 FROM greylist WHERE triplet = ?", triplet) is not None


def has_passed(tx: Tx, triplet: bytes, fresh: int) -> bool:
    """Whether it passed before and was seen after `fresh`: nothing needs to be written then."""
    row = tx.one("SELECT 1 FROM greylist WHERE triplet = ? AND passed > 0 AND last_seen > ?", triplet, fresh)
    return row is not None


def expire(tx: Tx, window_before: int, lifetime_before: int, most: int = 1000) -> int:
    """Forget those that never came back and those that were not seen for long; how many went."""
    return tx.run(
        "DELETE FROM greylist WHERE triplet IN (SELECT triplet FROM greylist WHERE (passed = 0 AND last_seen < ?) "
        "OR last_seen < ? LIMIT ?)",
        window_before,
        lifetime_before,
        most,
    )

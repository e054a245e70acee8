"""The MTA-STS policies of other domains, as they were fetched (RFC 8461 section 3.3). Times are microseconds."""

from typing import NamedTuple

from posthouse.store.database import Row, Tx

_COLUMNS = "domain, id, mode, mx, max_age, fetched, expires, used"


class StoredPolicy(NamedTuple):
    """A policy and when it was fetched."""

    domain: str
    id: str
    mode: str
    mx: tuple[str, ...]
    max_age: int  # seconds
    fetched: int
    expires: int
    used: int


def get(tx: Tx, domain: str, now: int) -> StoredPolicy | None:
    """The policy of a domain that is still good."""
    row = tx.one(f"SELECT {_COLUMNS} FROM sts_policy WHERE domain = ? AND expires > ?", domain, now)  # noqa: S608
    return _policy(row) if row is not None else None


def put(tx: Tx, policy: StoredPolicy) -> None:
    """Keep a policy in place of the one that was there."""
    tx.run(
        f"INSERT INTO sts_policy ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?) "  # noqa: S608
        "ON CONFLICT (domain) DO UPDATE SET id = excluded.id, mode = excluded.mode, mx = excluded.mx, "
        "max_age = excluded.max_age, fetched = excluded.fetched, expires = excluded.expires, used = excluded.used",
        policy.domain,
        policy.id,
        policy.mode,
        " ".join(policy.mx),
        policy.max_age,
        policy.fetched,
        policy.expires,
        policy.used,
    )


def use(tx: Tx, domain: str, now: int) -> None:
    """Note that mail is sent there."""
    tx.run("UPDATE sts_policy SET used = ? WHERE domain = ?", now, domain)


def due(tx: Tx, now: int, soon: int, fetched_before: int, used_after: int, most: int) -> list[StoredPolicy]:
    """Policies in use that end before `soon` or have lived through half of their time, the next to end first."""
    rows = tx.all(
        f"SELECT {_COLUMNS} FROM sts_policy WHERE expires > ? AND (expires < ? OR expires - ? < ? - fetched) "  # noqa: S608
        "AND fetched < ? AND used > ? ORDER BY expires LIMIT ?",
        now,
        soon,
        now,
        now,
        fetched_before,
        used_after,
        most,
    )
    return [_policy(row) for row in rows]


def expire(tx: Tx, now: int, most: int = 1000) -> int:
    """Forget policies whose time is over; how many went."""
    return tx.run(
        "DELETE FROM sts_policy WHERE domain IN (SELECT domain FROM sts_policy WHERE expires <= ? LIMIT ?)", now, most
    )


def _policy(row: Row) -> StoredPolicy:
    domain, policy_id, mode, mx, max_age, fetched, expires, used = row
    return StoredPolicy(domain, policy_id, mode, tuple(mx.split()), max_age, fetched, expires, used)

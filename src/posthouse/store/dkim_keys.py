"""The keys by which domains of ours sign their mail, from their making until they are forgotten.

A key is `announced` until the DNS has its record, then `used`, then `retiring`: another one took its place, and its
record stays published a while for mail that is on its way. Private keys lie in the database like all secrets, which
is encrypted where the operator gave it a key. When to take which step is for `servers/rotation.py`; who signs what is
`senderauth/signing.py`. Domains come in canonical form (`accounts.canonical_domain`).
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from posthouse.store.database import Row, Tx
from posthouse.store.model import SigningKeysChanged

State = Literal["announced", "used", "retiring"]
STATES: tuple[State, ...] = ("announced", "used", "retiring")
MOST_TROUBLE = 500  # characters

_COLUMNS = "id, domain, selector, algorithm, private, record, state, created, changed, checked, seen, trouble"


class NewKey(NamedTuple):
    """A key that was made just now."""

    selector: str
    algorithm: str
    private: bytes  # PKCS #8
    record: str

    def __repr__(self) -> str:
        return f"NewKey({self.selector!r}, {self.algorithm!r}, ...)"  # never a private key in a log


class DkimKey(NamedTuple):
    """A key of a domain. Times are in microseconds. The order is that of `_COLUMNS`."""

    id: int
    domain: str
    selector: str
    algorithm: str
    private: bytes
    record: str
    state: State
    created: int
    changed: int
    checked: int = 0
    seen: int = 0
    trouble: str = ""

    @property
    def name(self) -> str:
        """Where its record stands in the DNS (RFC 6376 section 3.6.2.1)."""
        return f"{self.selector}._domainkey.{self.domain}"

    def __repr__(self) -> str:
        return f"DkimKey({self.name!r}, {self.algorithm!r}, {self.state!r}, ...)"


def of_domain(tx: Tx, domain: str) -> list[DkimKey]:
    """The keys of a domain: those in use first, then those to come, the newest of each first."""
    rows = tx.all(f"SELECT {_COLUMNS} FROM dkim_key WHERE domain = ?", domain)  # noqa: S608
    return _sorted(rows)


def all_keys(tx: Tx) -> list[DkimKey]:
    """The keys of all domains, by domain."""
    rows = tx.all(f"SELECT {_COLUMNS} FROM dkim_key")  # noqa: S608
    return sorted(_sorted(rows), key=lambda key: key.domain)


def add(tx: Tx, domain: str, keys: Sequence[NewKey], now: int) -> list[DkimKey]:
    """Announce keys for a domain; returns them. Those of the same algorithms that were announced before go: nobody
    signed with them. A selector that is taken gets a number behind it."""
    taken = {key.selector for key in of_domain(tx, domain)}
    selectors = []
    for key in keys:
        tx.run("DELETE FROM dkim_key WHERE domain = ? AND algorithm = ? AND state = 'announced'", domain, key.algorithm)
        selector, number = key.selector, 1
        while selector in taken:
            number += 1
            selector = f"{key.selector}-{number}"
        taken.add(selector)
        selectors.append(selector)
        tx.run(
            "INSERT INTO dkim_key (domain, selector, algorithm, private, record, state, created, changed) "
            "VALUES (?, ?, ?, ?, ?, 'announced', ?, ?)",
            domain,
            selector,
            key.algorithm,
            key.private,
            key.record,
            now,
            now,
        )
    tx.publish(SigningKeysChanged(domain))
    return [key for key in of_domain(tx, domain) if key.selector in selectors]


def checked(tx: Tx, key: DkimKey, present: bool | None, trouble: str, now: int) -> None:
    """What the DNS said of a key's record; None: nothing, and what it said before holds."""
    if present is None:
        tx.run("UPDATE dkim_key SET trouble = ? WHERE id = ?", trouble[:MOST_TROUBLE], key.id)
        return
    seen = (key.seen or now) if present else 0
    tx.run(
        "UPDATE dkim_key SET checked = ?, seen = ?, trouble = ? WHERE id = ?",
        now,
        seen,
        trouble[:MOST_TROUBLE],
        key.id,
    )
    if bool(seen) is not bool(key.seen):
        tx.publish(SigningKeysChanged(key.domain))


def use(tx: Tx, key_id: int, now: int) -> list[DkimKey]:
    """Sign with an announced key from now on; returns the keys that are retiring for it."""
    row = tx.one("SELECT domain, algorithm FROM dkim_key WHERE id = ? AND state = 'announced'", key_id)
    if row is None:
        return []
    domain, algorithm = row
    older = [key for key in of_domain(tx, domain) if key.algorithm == algorithm and key.state == "used"]
    tx.run(
        "UPDATE dkim_key SET state = 'retiring', changed = ? WHERE domain = ? AND algorithm = ? AND state = 'used'",
        now,
        domain,
        algorithm,
    )
    tx.run("UPDATE dkim_key SET state = 'used', changed = ? WHERE id = ?", now, key_id)
    tx.publish(SigningKeysChanged(domain))
    return older


def wipe(tx: Tx, key_id: int) -> None:
    """Forget the private key of a retiring one; that its record is to be withdrawn is remembered."""
    tx.run("UPDATE dkim_key SET private = ? WHERE id = ? AND state = 'retiring'", b"", key_id)


def forget(tx: Tx, key_id: int) -> None:
    """Forget a retiring key."""
    tx.run("DELETE FROM dkim_key WHERE id = ? AND state = 'retiring'", key_id)


def remove_domain(tx: Tx, domain: str) -> None:
    """Forget all keys of a domain."""
    tx.run("DELETE FROM dkim_key WHERE domain = ?", domain)


def _sorted(rows: Sequence[Row]) -> list[DkimKey]:
    order = {"used": 0, "announced": 1, "retiring": 2}
    keys = [DkimKey(*row) for row in rows]
    return sorted(keys, key=lambda key: (order[key.state], -key.created, key.algorithm != "rsa-sha256", key.selector))

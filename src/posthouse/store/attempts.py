"""The record of logins: every attempt on an account, right or wrong, for its owner to look at."""

from collections.abc import Iterable
from typing import NamedTuple

from posthouse.store.database import Tx

KEPT = 1000  # attempts of an account


class Attempt(NamedTuple):
    """One attempt. The order is that of the columns."""

    id: int
    account_id: int
    at: int
    service: str
    mechanism: str
    ip: str
    result: str
    credential: str  # label of the app password or token, if it was one


def add(tx: Tx, attempts: Iterable[Attempt], used: Iterable[tuple[int, str, int]]) -> None:
    """Write attempts down; `used` are (time, address, credential id) of credentials that let somebody in."""
    attempts = list(attempts)
    tx.many("INSERT INTO login_attempt VALUES (?, ?, ?, ?, ?, ?, ?, ?)", attempts)
    tx.many("UPDATE credential SET used = ?, used_ip = ? WHERE id = ?", used)
    for account_id in {attempt.account_id for attempt in attempts}:
        tx.run(
            "DELETE FROM login_attempt WHERE account_id = ? AND id <= "
            "(SELECT id FROM login_attempt WHERE account_id = ? ORDER BY id DESC LIMIT 1 OFFSET ?)",
            account_id,
            account_id,
            KEPT,
        )


def of_account(tx: Tx, account_id: int, most: int = 50) -> list[Attempt]:
    """The last attempts on an account, the newest first."""
    rows = tx.all("SELECT * FROM login_attempt WHERE account_id = ? ORDER BY id DESC LIMIT ?", account_id, most)
    return [Attempt(*row) for row in rows]

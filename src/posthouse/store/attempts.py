"""The record of logins: every attempt on an account, right or wrong, for its owner to look at."""

from collections.abc import Iterable
from typing import NamedTuple

from posthouse.store.database import Tx

KEPT = 1000  # attempts of an account that let somebody in, and as many that did not


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
    ids = {one.account_id for one in attempts}
    living = {id_ for id_ in ids if tx.one("SELECT 1 FROM account WHERE id = ?", id_) is not None}
    attempts = [one for one in attempts if one.account_id in living]  # it may have been removed meanwhile
    tx.many("INSERT INTO login_attempt VALUES (?, ?, ?, ?, ?, ?, ?, ?)", attempts)
    tx.many("UPDATE credential SET used = ?, used_ip = ? WHERE id = ?", used)
    # Failures, which anybody can make, do not push out logins.
    for account_id in living:
        for kind in ("result = 'accepted'", "result <> 'accepted'"):
            tx.run(
                f"DELETE FROM login_attempt WHERE account_id = ? AND {kind} AND id <= "  # noqa: S608
                f"(SELECT id FROM login_attempt WHERE account_id = ? AND {kind} ORDER BY id DESC LIMIT 1 OFFSET ?)",
                account_id,
                account_id,
                KEPT,
            )


def of_account(tx: Tx, account_id: int, most: int = 50) -> list[Attempt]:
    """The last attempts on an account, the newest first."""
    rows = tx.all("SELECT * FROM login_attempt WHERE account_id = ? ORDER BY id DESC LIMIT ?", account_id, most)
    return [Attempt(*row) for row in rows]

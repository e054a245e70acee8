"""The suppression list: addresses that refused mail for good, and are not sent to again for a while.

An entry is of one account, or of all (EVERYBODY). It ends by itself at `until`, or when somebody removes it.
"""

from typing import NamedTuple

from posthouse.base.errors import Permanent
from posthouse.store.database import Tx
from posthouse.wire.address import Address

EVERYBODY = 0  # the account of entries that hold for all
MAX_REPLY = 500  # characters of the other server's reply that are kept
_COLUMNS = "account_id, address, reason, reply, since, until"


class Entry(NamedTuple):
    """One address. The order is that of `_COLUMNS`."""

    account_id: int  # EVERYBODY: for all
    address: str
    reason: str  # "user-unknown", or in an operator's words
    reply: str  # what the other server said; "" if nobody did
    since: int  # microseconds
    until: int  # microseconds; 0: for good


def canonical(text: str) -> str:
    """An address as it is compared here; `Permanent` if it is none."""
    address = Address.parse(text.strip())
    if address is None:
        raise Permanent(f"{text!r} is not an address; write one like bob@example.org")
    return str(address).lower()


def add(tx: Tx, entry: Entry) -> None:
    """Put an address on the list; what was known of it before is replaced, but an entry for good stays for good.
    Any text will do for an address: the queue, which writes down what happened, must not fail here."""
    tx.run(
        f"INSERT INTO suppression ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?) "  # noqa: S608
        "ON CONFLICT (account_id, address) DO UPDATE SET reason = excluded.reason, reply = excluded.reply, "
        "since = excluded.since, until = CASE WHEN suppression.until = 0 THEN 0 ELSE excluded.until END",
        entry.account_id,
        entry.address.lower(),
        entry.reason,
        entry.reply[:MAX_REPLY],
        entry.since,
        entry.until,
    )


def find(tx: Tx, account_id: int, address: str, now: int) -> Entry | None:
    """The entry that keeps an account from sending to an address, or None."""
    row = tx.one(
        f"SELECT {_COLUMNS} FROM suppression WHERE account_id IN (?, ?) AND address = ? "  # noqa: S608
        "AND (until = 0 OR until > ?) ORDER BY account_id LIMIT 1",
        account_id,
        EVERYBODY,
        address.lower(),
        now,
    )
    return Entry(*row) if row is not None else None


def listing(
    tx: Tx, now: int, account_id: int | None = None, after: str = "", most: int = 1000
) -> list[tuple[str, Entry]]:
    """Entries that hold at `now`, by address, with the name of their account ("" for all); of one account if given."""
    rows = tx.all(
        f"SELECT coalesce(account.name, ''), {_COLUMNS} FROM suppression "  # noqa: S608
        "LEFT JOIN account ON account.id = account_id WHERE (until = 0 OR until > ?) AND address > ? "
        "AND (? IS NULL OR account_id = ?) ORDER BY address, account_id LIMIT ?",
        now,
        after,
        account_id,
        account_id,
        most,
    )
    return [(row[0], Entry(*row[1:])) for row in rows]


def remove(tx: Tx, address: str, account_id: int | None = None) -> int:
    """Take an address off the list of an account, or off all lists; how many entries went."""
    return tx.run(
        "DELETE FROM suppression WHERE address = ? AND (? IS NULL OR account_id = ?)",
        canonical(address),
        account_id,
        account_id,
    )


def expire(tx: Tx, now: int, most: int = 1000) -> int:
    """Forget entries whose time is over, at most `most`; how many went."""
    return tx.run(
        "DELETE FROM suppression WHERE (account_id, address) IN "
        "(SELECT account_id, address FROM suppression WHERE until > 0 AND until <= ? LIMIT ?)",
        now,
        most,
    )

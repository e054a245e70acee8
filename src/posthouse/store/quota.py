"""What accounts hold and how much they may (RFC 9208): octets and messages, of all their mailboxes together.

A message counts with its size in each mailbox that shows it. The counters move in the statement that counts modseq
(`messages.py`), and each change is published (`UsageChanged`), so that whoever decides about new mail need not ask.
`check` is for changes that are to be undone if they go too far; it raises `OverQuota`.
"""

from collections.abc import Sequence
from typing import NamedTuple

from posthouse.base.errors import OverQuota, Permanent
from posthouse.store import accounts
from posthouse.store.database import Tx
from posthouse.store.model import DirectoryChanged

AS_SETTINGS = -1
_COLUMNS = "id, name, size, messages, quota_storage, quota_messages"


class Usage(NamedTuple):
    """What an account holds, and its limits: 0 means none. The order is that of `_COLUMNS`."""

    account_id: int
    name: str
    size: int  # octets
    messages: int
    storage_limit: int
    message_limit: int

    @property
    def has_limits(self) -> bool:
        """Is anything limited?"""
        return self.storage_limit > 0 or self.message_limit > 0

    def is_over(self, octets: int = 0, messages: int = 0) -> bool:
        """Would it be above a limit with so much more?"""
        return 0 < self.storage_limit < self.size + octets or 0 < self.message_limit < self.messages + messages


def of_accounts(tx: Tx, account_ids: Sequence[int], default: int) -> list[Usage]:
    """Those of the accounts that exist; `default` is the limit of octets for those that have none of their own."""
    found = []
    for account_id in account_ids:
        row = tx.one(f"SELECT {_COLUMNS} FROM account WHERE id = ?", account_id)  # noqa: S608
        if row is not None:
            found.append(_usage(row, default))
    return found


def _usage(row: Sequence[object], default: int) -> Usage:
    usage = Usage(*row)  # type: ignore[arg-type]
    return usage._replace(
        storage_limit=default if usage.storage_limit == AS_SETTINGS else usage.storage_limit,
        message_limit=max(usage.message_limit, 0),
    )


def of_account(tx: Tx, account_id: int, default: int) -> Usage | None:
    """What an account holds."""
    found = of_accounts(tx, (account_id,), default)
    return found[0] if found else None


def of_all(tx: Tx, default: int) -> list[Usage]:
    """What all accounts hold, by name."""
    return [_usage(row, default) for row in tx.all(f"SELECT {_COLUMNS} FROM account ORDER BY name")]  # noqa: S608


def has_limits(tx: Tx) -> bool:
    """Has any account a limit of its own?"""
    return tx.one("SELECT 1 FROM account WHERE quota_storage > 0 OR quota_messages > 0 LIMIT 1") is not None


def has_room(tx: Tx, account_id: int, octets: int, messages: int, default: int) -> bool:
    """May the account hold so much more? What takes no room is always possible."""
    if octets <= 0 and messages <= 0:
        return True
    usage = of_account(tx, account_id, default)
    return usage is None or not usage.is_over(octets, messages)


def check(tx: Tx, account_id: int, default: int) -> None:
    """After messages were added: may they stay?"""
    usage = of_account(tx, account_id, default)
    if usage is not None and usage.is_over():
        raise OverQuota(f"{usage.name} is over its quota", "The quota is used up: remove messages first")


def set_limits(tx: Tx, name: str, storage: int | None = None, messages: int | None = None) -> None:
    """Give an account limits: 0 is none, `AS_SETTINGS` what the settings say, None leaves one as it is."""
    account_id = accounts.find_account(tx, name).id
    for column, value in (("quota_storage", storage), ("quota_messages", messages)):
        if value is None:
            continue
        if not AS_SETTINGS <= value < 1 << 62:
            raise Permanent("a quota is a number of octets or messages, or none")
        tx.run(f"UPDATE account SET {column} = ? WHERE id = ?", value, account_id)  # noqa: S608
    tx.publish(DirectoryChanged())

"""Annotations (RFC 5464): named values of a mailbox or (mailbox 0) the server, each shared or private to an account.

Names are in lower case and begin with /private or /shared; which may be set is for the IMAP server to say. Bounds: so
many a mailbox and reader, so many and so many octets an owner; `store` says if they would be passed.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from posthouse.store.database import Tx
from posthouse.store.model import AnnotationsChanged

SERVER = 0  # in place of a mailbox
SHARED = 0  # in place of an account
PRIVATE = "/private/"
MAX_VALUE = 32 * 1024  # octets
MAX_OF_MAILBOX = 100  # shared ones, and private ones of each reader
MAX_OF_OWNER = 2000
MAX_OCTETS_OF_OWNER = 4 * 1024 * 1024


class Known(NamedTuple):
    """An annotation that is there."""

    entry: str
    size: int


def known(tx: Tx, mailbox_id: int, account_id: int) -> list[Known]:
    """What an account can see at a mailbox: its own private annotations and the shared ones, by name."""
    rows = tx.all(
        "SELECT entry, length(value) FROM annotation WHERE mailbox_id = ? AND account_id IN (?, ?) ORDER BY entry",
        mailbox_id,
        SHARED,
        account_id,
    )
    return [Known(*row) for row in rows]


def values(tx: Tx, mailbox_id: int, account_id: int, entries: Iterable[str]) -> dict[str, bytes]:
    """The values of those entries that are there."""
    found = {}
    for entry in entries:
        row = tx.one(
            "SELECT value FROM annotation WHERE mailbox_id = ? AND account_id = ? AND entry = ?",
            mailbox_id,
            account_id if entry.startswith(PRIVATE) else SHARED,
            entry,
        )
        if row is not None:
            found[entry] = bytes(row[0])
    return found


def store(tx: Tx, mailbox_id: int, owner_id: int, account_id: int, changes: Mapping[str, bytes | None]) -> bool:
    """Set annotations of a mailbox of `owner_id` (None: remove them), as `account_id`; False: that would be too many,
    and the caller undoes it."""
    grows = False
    for entry, value in changes.items():
        private = entry.startswith(PRIVATE)
        whose = account_id if private else SHARED
        tx.run("DELETE FROM annotation WHERE mailbox_id = ? AND account_id = ? AND entry = ?", mailbox_id, whose, entry)
        if value is not None:
            grows = True
            tx.run(
                "INSERT INTO annotation (mailbox_id, account_id, owner_id, entry, value) VALUES (?, ?, ?, ?, ?)",
                mailbox_id,
                whose,
                account_id if private else owner_id,
                entry,
                value,
            )
    if grows and not all(_has_room(tx, mailbox_id, one) for one in {owner_id, account_id}):
        return False
    for whose in (SHARED, account_id):
        entries = tuple(entry for entry in changes if entry.startswith(PRIVATE) == (whose != SHARED))
        if entries:
            about = owner_id if mailbox_id != SERVER else account_id
            tx.publish(AnnotationsChanged(about, mailbox_id, whose, entries))
    return True


def _has_room(tx: Tx, mailbox_id: int, owner_id: int) -> bool:
    """Is what counts for an owner, and what is at a mailbox, within the bounds?"""
    row = tx.one("SELECT count(*), sum(length(value)) FROM annotation WHERE owner_id = ?", owner_id)
    if row is not None and (row[0] > MAX_OF_OWNER or (row[1] or 0) > MAX_OCTETS_OF_OWNER):
        return False
    row = tx.one(
        "SELECT count(*) FROM annotation WHERE mailbox_id = ? GROUP BY account_id ORDER BY 1 DESC LIMIT 1", mailbox_id
    )
    return row is None or row[0] <= MAX_OF_MAILBOX


def copy(tx: Tx, owner_id: int, mailbox_id: int, target_id: int) -> None:
    """Give a mailbox the annotations of another one of the same owner; nothing happens where there is no room."""
    row = tx.one(
        "SELECT count(*), sum(length(value)) FROM annotation WHERE mailbox_id = ?",
        mailbox_id,
    )
    total = tx.one("SELECT count(*), sum(length(value)) FROM annotation WHERE owner_id = ?", owner_id)
    if row is None or total is None or not row[0]:
        return
    if row[0] + total[0] > MAX_OF_OWNER or (row[1] or 0) + (total[1] or 0) > MAX_OCTETS_OF_OWNER:
        return
    tx.run(
        "INSERT INTO annotation (mailbox_id, account_id, owner_id, entry, value) "
        "SELECT ?, account_id, owner_id, entry, value FROM annotation WHERE mailbox_id = ? AND owner_id = ?",
        target_id,
        mailbox_id,
        owner_id,
    )


def remove_all(tx: Tx, mailbox_id: int) -> None:
    """A mailbox goes, and all that was said of it."""
    tx.run("DELETE FROM annotation WHERE mailbox_id = ?", mailbox_id)

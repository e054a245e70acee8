"""An INBOX as POP3 needs it: which messages, how large, and their bytes a batch at a time."""

from array import array
from collections.abc import Sequence
from typing import NamedTuple

from posthouse.base.errors import NotFound
from posthouse.store import mailboxes, messages
from posthouse.store.database import Tx
from posthouse.store.model import SEEN


class Contents(NamedTuple):
    """The messages of an INBOX at one moment, by UID; the arrays run in parallel."""

    mailbox_id: int
    uidvalidity: int
    uids: "array[int]"
    emails: "array[int]"
    sizes: "array[int]"  # as stored
    told: "array[int]"  # as sent: every line ends with CRLF (RFC 1939 section 11)


def contents(tx: Tx, account_id: int) -> Contents:
    """What is in the INBOX of an account."""
    mailbox = mailboxes.by_name(tx, account_id, "INBOX")
    if mailbox is None:
        raise NotFound(f"account {account_id}")
    rows = tx.all(
        "SELECT e.uid, e.email_id, m.size, m.size + m.line_ends FROM entry e JOIN email m ON m.id = e.email_id "
        "WHERE e.mailbox_id = ? AND e.expunged = 0 ORDER BY e.uid",
        mailbox.id,
    )
    return Contents(
        mailbox.id,
        mailbox.uidvalidity,
        array("Q", [row[0] for row in rows]),
        array("Q", [row[1] for row in rows]),
        array("Q", [row[2] for row in rows]),
        array("Q", [row[3] for row in rows]),
    )


def sources(tx: Tx, emails: Sequence[int]) -> dict[int, bytes]:
    """The bytes of several messages; those that are gone are left out."""
    found: dict[int, bytes] = {}
    for email_id in emails:
        try:
            found[email_id] = messages.read_source(tx, email_id)
        except NotFound:
            continue
    return found


def update(tx: Tx, account_id: int, mailbox_id: int, deleted: Sequence[int], seen: Sequence[int]) -> None:
    """The update state: remove the messages with the UIDs `deleted`, mark those of `seen` as read."""
    if deleted:
        messages.remove(tx, account_id, mailbox_id, deleted)
    if seen:
        messages.store_flags(tx, account_id, mailbox_id, seen, "add", SEEN)

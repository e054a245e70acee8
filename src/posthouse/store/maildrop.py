"""An INBOX as POP3 needs it: which messages, how large, and their bytes a batch at a time.

A client that did not say UTF8 must not be sent international messages as they are (RFC 6856 section 2.1): it gets them
with header fields in ASCII (`mime.surrogate`), made here because it takes time that the event loop has not. Their sizes
are told as they are stored all the same: what becomes of a message is not known before somebody reads it.
"""

from array import array
from collections.abc import Sequence
from typing import NamedTuple

from posthouse.base.errors import NotFound
from posthouse.mime import sections
from posthouse.mime.surrogate import Surrogate, ranges
from posthouse.store import mailboxes, messages
from posthouse.store.database import Tx
from posthouse.store.model import FLAGGED, SEEN


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


def sources(tx: Tx, emails: Sequence[int], utf8: bool) -> dict[int, bytes]:
    """The bytes of several messages; those that are gone are left out."""
    found: dict[int, bytes] = {}
    for email_id in emails:
        try:
            source = messages.read_source(tx, email_id)
        except NotFound:
            continue
        if not utf8 and not source.isascii():
            changed = surrogate(tx, email_id)
            source = changed.feed(source) + changed.finish()
        found[email_id] = source
    return found


def surrogate(tx: Tx, email_id: int) -> Surrogate:
    """What makes an ASCII header of this message's, and of its parts'."""
    row = tx.one("SELECT length(prefix), parts FROM email WHERE id = ?", email_id)
    if row is None:
        raise NotFound(f"email {email_id}")
    return Surrogate(ranges(sections.unpack(row[1]).root, row[0]))


def piece(tx: Tx, email_id: int, start: int, end: int, changed: Surrogate | None) -> bytes:
    """A piece of a large message; the last one is that which ends beyond it."""
    source = messages.read_source(tx, email_id, start, end)
    if changed is None:
        return source
    return changed.feed(source) if len(source) == end - start else changed.feed(source) + changed.finish()


class Update(NamedTuple):
    """What the update state does, all UIDs ascending."""

    deleted: Sequence[int]  # go
    seen: Sequence[int]  # were read
    shown: Sequence[int] = ()  # were in the session; of these go what was read and is old
    before: int = 0  # old is what came no later


def update(tx: Tx, account_id: int, mailbox_id: int, wanted: Update) -> None:
    """The update state: remove, mark as read, and remove what is over (but nothing that is flagged)."""
    if wanted.deleted:
        messages.remove(tx, account_id, mailbox_id, wanted.deleted)
    if wanted.seen:
        messages.store_flags(tx, account_id, mailbox_id, wanted.seen, "add", SEEN)
    if wanted.shown:
        rows = tx.all(
            "SELECT uid FROM entry WHERE mailbox_id = ? AND expunged = 0 AND flags & ? = ? AND savedate <= ? "
            "ORDER BY uid",
            mailbox_id,
            SEEN | FLAGGED,
            SEEN,
            wanted.before,
        )
        shown = set(wanted.shown)
        if over := [uid for (uid,) in rows if uid in shown]:
            messages.remove(tx, account_id, mailbox_id, over)

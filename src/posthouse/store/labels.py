"""Which mailboxes hold an email: what Gmail's labels are here. Emails are shared by their entries (COPY makes an entry,
not an email), so a label costs nothing but a row.

What a label means, and which may be given, is for the IMAP server to say.
"""

from array import array
from collections.abc import Sequence

from posthouse.store.database import Tx
from posthouse.store.model import Mailbox


def emails(tx: Tx, mailbox_id: int, uids: Sequence[int]) -> dict[int, int]:
    """The email of each of these messages that is there, by UID."""
    rows = tx.all(
        "SELECT uid, email_id FROM entry WHERE mailbox_id = ? AND expunged = 0 "
        "AND uid IN (SELECT value FROM carray(?)) ORDER BY uid",
        mailbox_id,
        tx.numbers(array("q", uids)),
    )
    return dict(rows)


def places(tx: Tx, email_ids: Sequence[int]) -> list[tuple[int, int, int]]:
    """Where emails are: (email, mailbox, UID)."""
    return tx.all(
        "SELECT e.email_id, e.mailbox_id, e.uid FROM carray(?) AS wanted "
        "CROSS JOIN entry e INDEXED BY entry_by_email WHERE e.email_id = wanted.value AND e.expunged = 0",
        tx.numbers(array("q", email_ids)),
    )


def with_use(mailboxes: Sequence[Mailbox], name: str, use: str) -> Mailbox | None:
    """The mailbox that a label means: the one with that use, else the one of that name."""
    for mailbox in mailboxes:
        if use and mailbox.special_use == use:
            return mailbox
    return next((mailbox for mailbox in mailboxes if mailbox.name == name), None)

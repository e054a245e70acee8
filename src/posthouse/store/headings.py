"""What messages are sorted and threaded by, one row an email (imap/headings.py makes them).

A row comes with its email, in the same transaction. Emails from before there were such rows get theirs when somebody
asks: `made` reads their headers in bounded pieces, `save` keeps what was made.
"""

from collections.abc import Iterable
from typing import NamedTuple

from posthouse.imap.headings import Heading, heading, references
from posthouse.imap.structure import envelope_fields
from posthouse.mime import sections
from posthouse.store.blobs import rows as blobs
from posthouse.store.database import Tx

BUDGET = 1024 * 1024  # octets of headers read in one go
MANY = 200  # emails in one go
MAX_HEADER = 1024 * 1024
_COLUMNS = "email_id, sent, subject, reply, author, recipient, copied, author_shown, recipient_shown, ids"
_ADD = f"INSERT INTO heading ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608
_ADD_LATER = (
    f"INSERT INTO heading ({_COLUMNS}) SELECT ?, coalesce(?, received), ?, ?, ?, ?, ?, ?, ?, ? FROM email "  # noqa: S608
    "WHERE id = ? AND NOT EXISTS (SELECT 1 FROM heading WHERE email_id = email.id)"
)


class Made(NamedTuple):
    """The heading of an email that had none."""

    email_id: int
    heading: Heading


def add(tx: Tx, email_id: int, new: Heading, received: int) -> None:
    """Keep the heading of an email that comes in."""
    tx.run(
        _ADD,
        email_id,
        received if new.sent is None else new.sent,
        *new[1:],
    )


def copy(tx: Tx, email_id: int, other_id: int) -> None:
    """Give an email the heading of another one that has the same content, if that has one."""
    columns = _COLUMNS.removeprefix("email_id, ")
    tx.run(
        f"INSERT INTO heading ({_COLUMNS}) SELECT ?, {columns} FROM heading WHERE email_id = ?",  # noqa: S608
        email_id,
        other_id,
    )


def made(tx: Tx, email_ids: list[int]) -> tuple[list[Made], list[int]]:
    """The headings of some of these emails, and the others. Those that are gone have none."""
    found: list[Made] = []
    loaded = done = 0
    for email_id in email_ids[:MANY]:
        done += 1
        row = tx.one("SELECT blob_id, parts, message_id_hash FROM email WHERE id = ?", email_id)
        if row is None:
            continue
        blob_id, parts, own = row
        head = blobs.read(tx, blob_id, 0, min(sections.unpack(parts).root.body, MAX_HEADER))
        fields = envelope_fields(head)
        found.append(Made(email_id, heading(fields, own, references(fields))))
        loaded += len(head)
        if loaded > BUDGET:
            break
    return found, email_ids[done:]


def save(tx: Tx, headings: Iterable[Made]) -> None:
    """Keep them, unless somebody else did, or the email went meanwhile."""
    tx.many(_ADD_LATER, [(one.email_id, *one.heading, one.email_id) for one in headings])


def remove(tx: Tx, email_ids: Iterable[int]) -> None:
    """Forget the headings of emails that are gone."""
    tx.many("DELETE FROM heading WHERE email_id = ?", [(email_id,) for email_id in email_ids])

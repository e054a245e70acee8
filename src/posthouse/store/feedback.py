"""Messages at the addresses for reports: which came, and how far they were looked at; of whom a report complains.

Every message is looked at after it was delivered, and how far that went is kept for each purpose, so that a crash in
between loses none. The work is done in `queue/arrivals.py`, for `queue/complaints.py` and others.
"""

from collections.abc import Sequence
from typing import NamedTuple

from posthouse.base.errors import Permanent
from posthouse.store import accounts, events
from posthouse.store.database import Tx

_SLICE = 500  # parameters in one IN (…)


class Arrived(NamedTuple):
    """A message in a mailbox."""

    modseq: int
    trace: int
    blob_id: int


class Sent(NamedTuple):
    """A message that an account of ours submitted."""

    trace: int
    sender: str
    account_id: int
    account: str
    message_id: str
    recipients: tuple[str, ...]  # all that are known: those it was submitted for, and those that were tried


_ARRIVED = (
    "SELECT entry.modseq, email.trace, email.blob_id FROM mailbox JOIN entry ON entry.mailbox_id = mailbox.id "
    "JOIN email ON email.id = entry.email_id "
    "WHERE mailbox.account_id = ? AND entry.expunged = 0 AND email.received >= ?"
)


def position(tx: Tx, purpose: str, account_id: int) -> int:
    """The modseq up to which messages were looked at; 0 at first."""
    row = tx.one("SELECT modseq FROM looked_at WHERE purpose = ? AND account_id = ?", purpose, account_id)
    return int(row[0]) if row is not None else 0


def advance(tx: Tx, purpose: str, account_id: int, modseq: int) -> None:
    """Note that messages up to here were looked at."""
    tx.run(
        "INSERT INTO looked_at (purpose, account_id, modseq) VALUES (?, ?, ?) "
        "ON CONFLICT (purpose, account_id) DO UPDATE "
        "SET modseq = CASE WHEN looked_at.modseq > excluded.modseq THEN looked_at.modseq ELSE excluded.modseq END",
        purpose,
        account_id,
        modseq,
    )


def since(tx: Tx, purpose: str, account_id: int, received: int, most: int) -> list[Arrived]:
    """Messages of an account that were not looked at and came at `received` or later, oldest first. It goes through all
    its mailboxes: for the start, and after a failure."""
    rows = tx.all(
        f"{_ARRIVED} AND entry.modseq > ? ORDER BY entry.modseq LIMIT ?",
        account_id,
        received,
        position(tx, purpose, account_id),
        most,
    )
    return [Arrived(*row) for row in rows]


def at(tx: Tx, account_id: int, mailbox_id: int, uids: Sequence[int], received: int) -> list[Arrived]:
    """These messages, as far as they are still there and came at `received` or later."""
    found: list[Arrived] = []
    for start in range(0, len(uids), _SLICE):
        part = uids[start : start + _SLICE]
        marks = ",".join("?" * len(part))
        rows = tx.all(
            f"{_ARRIVED} AND mailbox.id = ? AND entry.uid IN ({marks})", account_id, received, mailbox_id, *part
        )
        found += [Arrived(*row) for row in rows]
    return sorted(found)


def accepted(tx: Tx, trace: int) -> dict[str, object]:
    """What the trace says of how a message came; {} if it is not known."""
    return next((event.data for event in events.of_trace(tx, trace) if event.kind == "accepted"), {})


def sent(tx: Tx, trace: int) -> Sent | None:
    """The message of a trace, if an account that is still there submitted it."""
    told = events.of_trace(tx, trace)
    data = next((event.data for event in told if event.kind == "accepted"), {})
    if not data.get("login"):
        return None
    try:
        account = accounts.find_account(tx, str(data["login"]))
    except Permanent:
        return None
    recipients = dict.fromkeys(str(one) for one in data.get("recipients", []))
    for event in told:
        if event.kind == "attempt":
            recipients |= dict.fromkeys(event.data.get("results", {}))
    return Sent(
        trace,
        str(data.get("sender", "")),
        account.id,
        account.name,
        str(data.get("message_id") or ""),
        tuple(recipients),
    )


def complained(tx: Tx, trace: int) -> set[str]:
    """Whose complaints about a message are known; "" for somebody unknown."""
    return {
        str(event.data.get("recipient", "")).lower()
        for event in events.of_trace(tx, trace)
        if event.kind == "complained"
    }

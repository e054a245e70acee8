"""The queue's rows: messages that owe something to recipients elsewhere.

A recipient is `due` from `next_attempt` on, `claimed` while a node tries it, or `held` until an operator
lets it go; when it is delivered or given up its row goes, and with the last one the message and its claim
on the blob. What happened is in the trace (store/events.py).

Two nodes never try one recipient: `claim` marks rows in one transaction, with a lease that the node renews
while it works. A crash leaves claims behind: `recover` makes a node's own due again when it starts, and
those of others once their lease has run out. When to try again, and what is a failure, is for `queue`.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import Any, NamedTuple, Protocol

from posthouse.store.database import Tx

HERE = ""  # the destination of a recipient of ours whose message is held for later
_SLICE = 500  # parameters in one IN (…)


class NewMessage(NamedTuple):
    """A message to queue. Its reference to the blob is counted by the caller."""

    id: int  # its trace
    sender: str  # reverse-path; "" for bounces
    account_id: int | None
    blob_id: int
    prefix: bytes
    size: int  # of prefix + blob
    created: int
    expires: int
    priority: int = 0  # MT-PRIORITY, -9 to 9
    options: str = ""  # store/envelope.py
    due: int = 0  # not before this time; 0: at once


class NewRecipient(Protocol):
    """What `add` needs of a recipient."""

    @property
    def address(self) -> str: ...

    @property
    def destination(self) -> str: ...

    @property
    def options(self) -> str: ...


class Message(NamedTuple):
    """A queued message. The order is that of `_MESSAGE`."""

    id: int
    sender: str
    account_id: int | None
    blob_id: int
    prefix: bytes
    size: int
    created: int
    expires: int
    priority: int
    options: str


class Claim(NamedTuple):
    """One recipient that is ours to try."""

    id: int
    address: str
    destination: str
    attempts: int  # before this one
    options: str
    message: Message


class Outcome(NamedTuple):
    """How the attempt for one recipient ended: `retry` is the next attempt, None if there is none."""

    id: int
    retry: int | None
    code: int = 0  # of the reply; 0: there was none
    status: str = ""  # enhanced status code
    text: str = ""
    host: str = ""


_MESSAGE = "id, sender, account_id, blob_id, prefix, size, created, expires, priority, options"


def add(tx: Tx, message: NewMessage, recipients: Iterable[NewRecipient]) -> None:
    """Queue a message; its recipients are due at once, or when it may be let go."""
    tx.run(
        f"INSERT INTO queue ({_MESSAGE}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608
        *message[:10],
    )
    due = message.due or message.created - _ahead(message.priority)
    tx.many(
        "INSERT INTO recipient (queue_id, address, destination, state, next_attempt, options) "
        "VALUES (?, ?, ?, 'due', ?, ?)",
        [(message.id, r.address, r.destination, due, r.options) for r in recipients],
    )


def _ahead(priority: int) -> int:
    """How much earlier than it came a message counts as due, in microseconds. The queue takes what has waited
    longest: urgent messages overtake those of the last minutes, patient ones let a few seconds of others pass."""
    return priority * (600_000_000 if priority > 0 else 1_000_000)


def claim(tx: Tx, node: str, now: int, until: int, most: int, busy: Collection[str] = (), each: int = 0) -> list[Claim]:
    """Take up to `most` due recipients for `node`, those that have waited longest first.

    Destinations in `busy` are passed over; with `each`, no destination gets more than so many of the batch
    (and its share is not given to others: the next batch is).
    """
    rows = tx.all(
        "UPDATE recipient SET state = 'claimed', claimed_until = ?, claimed_by = ? WHERE id IN "  # noqa: S608
        "(SELECT id FROM (SELECT id, row_number() OVER (PARTITION BY destination ORDER BY next_attempt, id) "
        f"AS place FROM ({_due(busy)})) WHERE place <= ?) "
        "RETURNING id, queue_id, address, destination, attempts, next_attempt, options",
        until,
        node,
        now,
        *busy,
        most,
        each or most,
    )
    messages = _messages(tx, {row[1] for row in rows})
    rows.sort(key=lambda row: (row[5], row[0]))
    return [
        Claim(id_, address, destination, attempts, options, messages[queue_id])
        for id_, queue_id, address, destination, attempts, _, options in rows
    ]


def _due(busy: Collection[str]) -> str:
    # In the order of the index recipient_due, so that the limit ends the search: no sort, whatever is queued.
    return (
        "SELECT id, next_attempt, destination FROM recipient WHERE state = 'due' AND next_attempt <= ?"  # noqa: S608
        f"{_passing_over(busy)} ORDER BY next_attempt, destination, id LIMIT ?"
    )


def _passing_over(busy: Collection[str]) -> str:
    return f" AND destination NOT IN ({','.join('?' * len(busy))})" if busy else ""


def _messages(tx: Tx, ids: set[int]) -> dict[int, Message]:
    found: dict[int, Message] = {}
    for part in _slices(sorted(ids)):
        marks = ",".join("?" * len(part))
        rows = tx.all(f"SELECT {_MESSAGE} FROM queue WHERE id IN ({marks})", *part)  # noqa: S608
        found.update((row[0], Message(*row)) for row in rows)
    return found


def _slices(items: Sequence[int]) -> list[Sequence[int]]:
    return [items[at : at + _SLICE] for at in range(0, len(items), _SLICE)]


def next_due(tx: Tx, busy: Collection[str] = ()) -> int | None:
    """When the first recipient is due (it may be past), or None if none is waiting."""
    row = tx.one(
        "SELECT next_attempt FROM recipient WHERE state = 'due'"  # noqa: S608
        f"{_passing_over(busy)} ORDER BY next_attempt LIMIT 1",
        *busy,
    )
    return row[0] if row else None


def renew(tx: Tx, node: str, ids: Sequence[int], until: int) -> None:
    """Keep claims for longer."""
    tx.many(
        "UPDATE recipient SET claimed_until = ? WHERE id = ? AND state = 'claimed' AND claimed_by = ?",
        [(until, id_, node) for id_ in ids],
    )


def release(tx: Tx, node: str, ids: Sequence[int]) -> None:
    """Give claims back untried: the server stops."""
    tx.many(
        "UPDATE recipient SET state = 'due', claimed_until = 0, claimed_by = '' "
        "WHERE id = ? AND state = 'claimed' AND claimed_by = ?",
        [(id_, node) for id_ in ids],
    )


def recover(tx: Tx, node: str, now: int) -> int:
    """Make abandoned claims due: all of `node` (which is just starting; "" for none), and those of others
    whose lease has run out. Returns how many there were."""
    return tx.run(
        "UPDATE recipient SET state = 'due', claimed_until = 0, claimed_by = '' "
        "WHERE state = 'claimed' AND (claimed_until <= ? OR (claimed_by = ? AND ? <> ''))",
        now,
        node,
        node,
    )


def record(tx: Tx, node: str, outcomes: Iterable[Outcome]) -> None:
    """Write down how attempts ended. A finished recipient goes even if the claim was lost meanwhile:
    delivered is delivered. A later attempt is only set where the claim still stands."""
    finished: list[tuple[int]] = []
    later: list[tuple[Any, ...]] = []
    for o in outcomes:
        if o.retry is None:
            finished.append((o.id,))
        else:
            later.append((o.retry, o.code, o.status, o.text, o.host, o.id, node))
    if later:
        tx.many(
            "UPDATE recipient SET state = 'due', claimed_until = 0, claimed_by = '', attempts = attempts + 1, "
            "next_attempt = ?, last_code = ?, last_status = ?, last_text = ?, last_host = ? "
            "WHERE id = ? AND state = 'claimed' AND claimed_by = ?",
            later,
        )
    if finished:
        _remove(tx, finished)


def set_options(tx: Tx, queue_id: int, options: str) -> None:
    """Replace what is known of a message's envelope."""
    tx.run("UPDATE queue SET options = ? WHERE id = ?", options, queue_id)


def _remove(tx: Tx, ids: Sequence[tuple[int]]) -> None:
    """Remove recipients, and messages that have none left."""
    queues: set[int] = set()
    for id_ in ids:
        row = tx.one("DELETE FROM recipient WHERE id = ? RETURNING queue_id", *id_)
        if row is not None:
            queues.add(row[0])
    for queue_id in sorted(queues):
        row = tx.one(
            "DELETE FROM queue WHERE id = ? AND NOT EXISTS (SELECT 1 FROM recipient WHERE queue_id = queue.id) "
            "RETURNING blob_id",
            queue_id,
        )
        if row is not None:
            tx.run("UPDATE blob SET refs = refs - 1 WHERE id = ?", row[0])

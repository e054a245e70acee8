"""Calls to webhooks: what is owed, who makes it, how it ended.

A call is inserted by the transaction that makes its event true. It is `due` from `next_attempt` on and `claimed` while
a node makes it, with a lease, as the queue does with recipients (`store/outbox.py`); `done` or `failed` ones are the
history, which is pruned. A node that dies in between leaves a claim, and the call is made again with the same id.
"""

import json
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from posthouse.base.errors import NotFound, Permanent
from posthouse.store.database import Tx
from posthouse.store.model import HookCallsAdded

DUE, CLAIMED, DONE, FAILED = "due", "claimed", "done", "failed"
STATES = (DUE, CLAIMED, DONE, FAILED)
MAX_TEXT = 1000  # characters of an answer that are kept


class NewCall(NamedTuple):
    """A call that is owed."""

    id: int
    hook: str
    event: str
    trace: int
    recipient: str
    body: str


class Call(NamedTuple):
    """A call. The order is that of `_COLUMNS`."""

    id: int
    hook: str
    event: str
    trace: int
    recipient: str
    body: str
    state: str
    created: int
    expires: int
    attempts: int
    next_attempt: int  # of a finished one: when it was finished
    last_code: int
    last_text: str


class Outcome(NamedTuple):
    """How a call went: in what state it is now, and when it is made again or was finished."""

    id: int
    state: str
    at: int
    code: int  # 0: there was no answer
    text: str


class Counts(NamedTuple):
    """The calls of one webhook in numbers; finished ones as far as they are kept."""

    waiting: int
    done: int
    failed: int


class Facts(NamedTuple):
    """What a call says of a message that its row in the queue does not tell."""

    account: str  # "" if nobody here submitted it
    message_id: str


_COLUMNS = (
    "id, hook, event, trace, recipient, body, state, created, expires, attempts, next_attempt, last_code, last_text"
)


def add(tx: Tx, calls: Sequence[NewCall], now: int, expires: int) -> None:
    """Owe calls: part of the transaction in which their event becomes true."""
    if not calls:
        return
    tx.many(
        f"INSERT INTO hook_call ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, 'due', ?, ?, 0, ?, 0, '')",  # noqa: S608
        [(*call, now, expires, now) for call in calls],
    )
    tx.publish(HookCallsAdded(tuple(sorted({call.hook for call in calls}))))


def facts(tx: Tx, trace: int, account_id: int | None) -> Facts:
    """Who submitted a message, by name, and its Message-ID."""
    account = tx.one("SELECT name FROM account WHERE id = ?", account_id) if account_id is not None else None
    accepted = tx.one("SELECT data FROM event WHERE trace = ? AND kind = 'accepted' ORDER BY seq LIMIT 1", trace)
    message_id = json.loads(accepted[0]).get("message_id") if accepted is not None else ""
    return Facts(account[0] if account is not None else "", str(message_id or ""))


# For those who make the calls


def claim(tx: Tx, hook: str, node: str, now: int, until: int, most: int) -> list[Call]:
    """Take up to `most` due calls of a webhook for `node`, those that have waited longest first."""
    rows = tx.all(
        "UPDATE hook_call SET state = 'claimed', claimed_until = ?, claimed_by = ? WHERE id IN "  # noqa: S608
        "(SELECT id FROM hook_call WHERE hook = ? AND state = 'due' AND next_attempt <= ? "
        f"ORDER BY next_attempt, id LIMIT ?) RETURNING {_COLUMNS}",
        until,
        node,
        hook,
        now,
        most,
    )
    return sorted((Call(*row) for row in rows), key=lambda call: (call.next_attempt, call.id))


def next_due(tx: Tx, hook: str) -> int | None:
    """When the next call of a webhook is due (it may be past), or None if none waits."""
    row = tx.one(
        "SELECT next_attempt FROM hook_call WHERE hook = ? AND state = 'due' ORDER BY next_attempt LIMIT 1", hook
    )
    return row[0] if row is not None else None


def record(tx: Tx, node: str, outcome: Outcome) -> None:
    """Write down how a call went. One that is done is done even if the claim was lost meanwhile."""
    tx.run(
        "UPDATE hook_call SET state = ?, next_attempt = ?, last_code = ?, last_text = ?, attempts = attempts + 1, "
        "claimed_until = 0, claimed_by = '' WHERE id = ? AND ((state = 'claimed' AND claimed_by = ?) "
        "OR (? = 'done' AND state <> 'done'))",
        outcome.state,
        outcome.at,
        outcome.code,
        outcome.text[:MAX_TEXT],
        outcome.id,
        node,
        outcome.state,
    )


def release(tx: Tx, node: str, ids: Iterable[int]) -> None:
    """Give claims back: the server stops, and these were not made."""
    tx.many(
        "UPDATE hook_call SET state = 'due', claimed_until = 0, claimed_by = '' "
        "WHERE id = ? AND state = 'claimed' AND claimed_by = ?",
        [(id_, node) for id_ in ids],
    )


def recover(tx: Tx, node: str, now: int) -> int:
    """Make abandoned claims due: all of `node` (which is just starting; "" for none), and those of others whose lease
    has run out. Returns how many there were."""
    return tx.run(
        "UPDATE hook_call SET state = 'due', claimed_until = 0, claimed_by = '' "
        "WHERE state = 'claimed' AND (claimed_until <= ? OR (claimed_by = ? AND ? <> ''))",
        now,
        node,
        node,
    )


def give_up(tx: Tx, overdue: int, now: int, most: int = 1000) -> int:
    """End calls that nobody makes, at most `most`: they expired before `overdue`, and their webhook is gone from the
    settings or has too many to make. Returns how many."""
    return tx.run(
        "UPDATE hook_call SET state = 'failed', next_attempt = ?, last_text = CASE last_text WHEN '' "
        "THEN 'Given up: its turn never came' ELSE last_text END WHERE id IN "
        "(SELECT id FROM hook_call WHERE state = 'due' AND expires < ? LIMIT ?)",
        now,
        overdue,
        most,
    )


def prune(tx: Tx, before: int, most: int = 1000) -> int:
    """Forget calls that were finished before a time, at most `most`; how many went."""
    return tx.run(
        "DELETE FROM hook_call WHERE id IN "
        "(SELECT id FROM hook_call WHERE state IN ('done', 'failed') AND next_attempt < ? LIMIT ?)",
        before,
        most,
    )


# For operators


def counts(tx: Tx) -> dict[str, Counts]:
    """By name of the webhook."""
    rows = tx.all(
        "SELECT hook, count(CASE WHEN state IN ('due', 'claimed') THEN 1 END), "
        "count(CASE WHEN state = 'done' THEN 1 END), count(CASE WHEN state = 'failed' THEN 1 END) "
        "FROM hook_call GROUP BY hook"
    )
    return {hook: Counts(*numbers) for hook, *numbers in rows}


def history(tx: Tx, hook: str = "", event: str = "", state: str = "", most: int = 100) -> list[Call]:
    """Calls, the newest first; of one webhook, event, state if given."""
    rows = tx.all(
        f"SELECT {_COLUMNS} FROM hook_call WHERE (? = '' OR hook = ?) AND (? = '' OR event = ?) "  # noqa: S608
        "AND (? = '' OR state = ?) ORDER BY id DESC LIMIT ?",
        hook,
        hook,
        event,
        event,
        state,
        state,
        most,
    )
    return [Call(*row) for row in rows]


def find(tx: Tx, id_: int) -> Call:
    """One call. Raises `NotFound`."""
    row = tx.one(f"SELECT {_COLUMNS} FROM hook_call WHERE id = ?", id_)  # noqa: S608
    if row is None:
        raise NotFound("there is no such call; `posthouse webhook history` shows those of the last days")
    return Call(*row)


def retry(tx: Tx, id_: int, now: int, expires: int) -> Call:
    """Make a call due at once, with all its attempts before it: one that waits, failed, or is to be told once more."""
    call = find(tx, id_)
    if call.state == CLAIMED:
        raise Permanent("the call is being made at this moment; look again in a minute")
    tx.run(
        "UPDATE hook_call SET state = 'due', attempts = 0, next_attempt = ?, expires = ? WHERE id = ?",
        now,
        expires,
        id_,
    )
    tx.publish(HookCallsAdded((call.hook,)))
    return find(tx, id_)

"""The queue as operators see it and change it: what matches a filter, listed, counted, acted upon.

A `Filter` becomes one condition with bound parameters, the same for all three. Actions take ids of recipients, a slice
of those that `matching` found, and look at the condition once more: between the two a recipient may have been
delivered, claimed, or changed by somebody else. So a slice is a short transaction, whatever is queued.

What a node is trying at the moment (`claimed`) is never touched: the other server may have the message. How to go
through all slices is for `queue/operating.py`. A filter that makes no sense is `Permanent`, in words for people.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from posthouse.base import ids as id_text
from posthouse.base.errors import NotFound, Permanent
from posthouse.store import accounts, events
from posthouse.store.database import Row, Tx
from posthouse.store.events import Event, told
from posthouse.store.model import QueueChanged
from posthouse.store.outbox import HERE
from posthouse.wire.address import Address, parse_domain

STATES = ("due", "waiting", "claimed", "held")
MOST_IDS = 1000  # messages named one by one
MOST_TEXT = 320  # characters of a filter's text
SLICE = 1000  # recipients that one transaction changes
MOST_TRACED = 100  # recipients that an event names


class Filter(NamedTuple):
    """What is meant. Everything that is given has to be true; nothing given is the whole queue."""

    ids: tuple[int, ...] = ()  # messages
    older: float = 0.0  # seconds in the queue, at least
    younger: float = 0.0  # seconds in the queue, less than
    sender: str = ""  # an address, a domain, "*.domain" for all below it, or "<>"
    recipient: str = ""  # an address, a domain, or "*.domain"
    domain: str = ""  # what the mail is routed by: a domain, or "*.domain"
    reply: str = ""  # somewhere in the last reply, in any case
    state: str = ""  # one of STATES
    account: str = ""  # login name of who submitted it


class Where(NamedTuple):
    """A condition about the rows `r` (recipient) and `q` (queue)."""

    sql: str
    args: tuple[object, ...]


class Queued(NamedTuple):
    """A queued message. The order is that of `_QUEUED`."""

    id: int
    sender: str
    account: str  # login name of who submitted it; "" if nobody did
    blob_id: int
    prefix: bytes
    size: int
    created: int
    expires: int
    priority: int
    options: str  # store/envelope.py


class Recipient(NamedTuple):
    """One recipient. The order is that of `_RECIPIENT`."""

    id: int
    queue_id: int
    address: str
    destination: str
    state: str
    attempts: int
    next_attempt: int
    last_code: int
    last_status: str
    last_text: str
    last_host: str
    route: str

    @property
    def reply(self) -> str:
        """What was said last, as one line; "" if nothing was yet."""
        code = str(self.last_code) if self.last_code else ""
        return " ".join(f"{code} {self.last_status} {self.last_text}".split())


class Counts(NamedTuple):
    """A part of the queue in numbers: messages, and recipients by state."""

    messages: int
    due: int  # time has come
    waiting: int  # for a later attempt
    claimed: int
    held: int

    @property
    def recipients(self) -> int:
        return self.due + self.waiting + self.claimed + self.held


class Destination(NamedTuple):
    """What is queued for one destination."""

    name: str
    queued: int  # recipients
    due: int
    claimed: int
    held: int
    oldest: int  # when the oldest message came
    reply: str  # the last one of the youngest recipient that has one


_QUEUED = (
    "q.id, q.sender, coalesce(a.name, ''), q.blob_id, q.prefix, q.size, q.created, q.expires, q.priority, q.options"
)
_RECIPIENT = (
    "r.id, r.queue_id, r.address, r.destination, r.state, r.attempts, r.next_attempt, r.last_code, r.last_status, "
    "r.last_text, r.last_host, r.route"
)
_JOIN = "recipient r JOIN queue q ON q.id = r.queue_id"
_ALL = Where("1 = 1", ())


# From a filter to a condition


def where(chosen: Filter, now: int) -> Where:
    """The condition that a filter means at the time `now`."""
    for text in (chosen.sender, chosen.recipient, chosen.domain, chosen.reply, chosen.account):
        if len(text) > MOST_TEXT:
            raise Permanent(f"{text[:20]!r}... is longer than the {MOST_TEXT} characters that can be looked for")
    if len(chosen.ids) > MOST_IDS:
        raise Permanent(f"{len(chosen.ids)} ids are too many: name {MOST_IDS} at the most, or use a filter")
    conditions = [made for name, value in chosen._asdict().items() if value and (made := _MADE[name](value, now))]
    if not conditions:
        return _ALL
    return Where(" AND ".join(sql for sql, _ in conditions), tuple(arg for _, args in conditions for arg in args))


def _by_ids(ids: Sequence[int], _: int) -> Where:
    return Where(f"r.queue_id IN ({_marks(ids)})", tuple(ids))


def _by_sender(text: str, _: int) -> Where:
    return Where("q.sender = ?", ("",)) if text == "<>" else _by_address("q.sender", text)


def _by_domain(text: str, _: int) -> Where:
    name = domain(text)
    if name.startswith("*."):
        return Where("r.destination LIKE ? ESCAPE '!'", (f"%{_escaped(name[1:])}",))
    # Mail for one of ours that is held for later has no destination.
    address, args = _by_address("r.address", name)
    return Where(f"(r.destination = ? OR (r.destination = ? AND {address}))", (name, HERE, *args))


def _by_address(column: str, text: str) -> Where:
    text = text.removeprefix("*") if text.startswith("*@") else text  # "*@example.org" is what people try first
    if "@" in text.lstrip("@"):
        address = Address.parse(text)
        if address is None:
            raise Permanent(f"{text!r} is no address; write one like bob@example.org, or a domain like example.org")
        return Where(f"lower({column}) = ?", (_lower(str(address)),))
    name = domain(text.removeprefix("@"))
    pattern = f"%@%{_escaped(name[1:])}" if name.startswith("*.") else f"%@{_escaped(name)}"
    return Where(f"lower({column}) LIKE ? ESCAPE '!'", (_lower(pattern),))


def _by_state(state: str, now: int) -> Where:
    if state not in STATES:
        raise Permanent(f"{state!r} is no state of the queue; they are {', '.join(STATES)}")
    if state in ("due", "waiting"):
        return Where(f"r.state = 'due' AND r.next_attempt {'<=' if state == 'due' else '>'} ?", (now,))
    return Where("r.state = ?", (state,))


def _by_reply(text: str, _: int) -> Where:
    said = "lower(r.last_code || ' ' || r.last_status || ' ' || r.last_text)"
    return Where(f"{said} LIKE ? ESCAPE '!'", (f"%{_escaped(_lower(text))}%",))


_MADE: Mapping[str, Any] = {
    "ids": _by_ids,
    "older": lambda seconds, now: Where("q.created <= ?", (now - int(seconds * 1_000_000),)),
    "younger": lambda seconds, now: Where("q.created > ?", (now - int(seconds * 1_000_000),)),
    "sender": _by_sender,
    "recipient": lambda text, _: _by_address("r.address", text),
    "domain": _by_domain,
    "reply": _by_reply,
    "state": _by_state,
    "account": lambda name, _: Where("q.account_id = (SELECT id FROM account WHERE name = ?)", (name.lower(),)),
}


def domain(text: str) -> str:
    """A domain, an address literal, or "*.domain", as destinations are written; `Permanent` if it is none."""
    star, name = ("*.", text[2:]) if text.startswith("*.") else ("", text)
    parsed = parse_domain(name, utf8=True)
    if parsed is None or (star and parsed.startswith("[")):
        raise Permanent(f"{text!r} is no domain; write one like example.org, or *.example.org for all below it")
    return star + parsed


def _lower(text: str) -> str:
    return text.encode("utf-8", "surrogatepass").lower().decode("utf-8", "surrogatepass")  # ASCII only, as databases do


def _escaped(text: str) -> str:
    """Text for LIKE … ESCAPE '!' that stands for itself."""
    return text.replace("!", "!!").replace("%", "!%").replace("_", "!_")


def _marks(items: Sequence[object]) -> str:
    return ",".join("?" * len(items))


# Looking


def require(tx: Tx, chosen: Filter) -> None:
    """Raise `NotFound` for what is named and is not there: messages, an account."""
    if chosen.ids:
        found = {row[0] for row in tx.all(f"SELECT id FROM queue WHERE id IN ({_marks(chosen.ids)})", *chosen.ids)}  # noqa: S608
        gone = [id_text.to_text(id_) for id_ in chosen.ids if id_ not in found]
        if gone:
            names = ", ".join(gone[:5]) + (f" and {len(gone) - 5} more" if len(gone) > 5 else "")
            raise NotFound(
                f"not in the queue: {names}. Mail that was delivered, given back or dropped is there no more: "
                f"`posthouse explain {gone[0]}` tells what became of it, `posthouse queue list` shows what waits"
            )
    if chosen.account:
        accounts.find_account(tx, chosen.account)


def listing(tx: Tx, after: int = 0, most: int = 100, condition: Where = _ALL) -> list[tuple[Queued, list[Recipient]]]:
    """At most `most` recipients that match, in the order they came, with their messages; `after` is the id of the
    recipient that ended the list before."""
    rows = tx.all(
        f"SELECT {_RECIPIENT} FROM {_JOIN} WHERE r.id > ? AND {condition.sql} ORDER BY r.id LIMIT ?",  # noqa: S608
        after,
        *condition.args,
        most,
    )
    recipients: dict[int, list[Recipient]] = {}
    for row in rows:
        recipients.setdefault(row[1], []).append(Recipient(*row))
    return [(message, recipients[message.id]) for message in _messages(tx, list(recipients))]


def _messages(tx: Tx, ids: Sequence[int]) -> Iterable[Queued]:
    for id_ in ids:
        row = tx.one(f"SELECT {_QUEUED} FROM queue q LEFT JOIN account a ON a.id = q.account_id WHERE q.id = ?", id_)  # noqa: S608
        assert row is not None
        yield Queued(*row)


def show(tx: Tx, queue_id: int, most: int = 100_000) -> tuple[Queued, list[Recipient]] | None:
    """One queued message with its recipients."""
    found = listing(tx, 0, most, _by_ids([queue_id], 0))
    return found[0] if found else None


def history(tx: Tx, trace: int, most: int = 100) -> list[Event]:
    """The latest events of a message, oldest first."""
    rows = tx.all("SELECT trace, seq, kind, data FROM event WHERE trace = ? ORDER BY seq DESC LIMIT ?", trace, most)
    return told(reversed(rows))


def count(tx: Tx, condition: Where, now: int) -> Counts:
    """How much matches."""
    row = tx.one(
        "SELECT count(DISTINCT r.queue_id), "  # noqa: S608
        "coalesce(sum(CASE WHEN r.state = 'due' AND r.next_attempt <= ? THEN 1 ELSE 0 END), 0), "
        "coalesce(sum(CASE WHEN r.state = 'due' AND r.next_attempt > ? THEN 1 ELSE 0 END), 0), "
        "coalesce(sum(CASE WHEN r.state = 'claimed' THEN 1 ELSE 0 END), 0), "
        "coalesce(sum(CASE WHEN r.state = 'held' THEN 1 ELSE 0 END), 0) "
        f"FROM {_JOIN} WHERE {condition.sql}",
        now,
        now,
        *condition.args,
    )
    assert row is not None
    return Counts(*row)


def counts(tx: Tx, now: int) -> Counts:
    """How much waits, and for what."""
    return count(tx, _ALL, now)


def destinations(tx: Tx, now: int, most: int, condition: Where = _ALL) -> list[Destination]:
    """What is queued by destination, most first."""
    rows = tx.all(
        "SELECT r.destination, count(*) AS queued, "  # noqa: S608
        "sum(CASE WHEN r.state = 'due' AND r.next_attempt <= ? THEN 1 ELSE 0 END), "
        "sum(CASE WHEN r.state = 'claimed' THEN 1 ELSE 0 END), sum(CASE WHEN r.state = 'held' THEN 1 ELSE 0 END), "
        "min(r.queue_id), max(CASE WHEN r.last_text <> '' THEN r.id ELSE 0 END) "
        f"FROM {'recipient r' if condition == _ALL else _JOIN} WHERE {condition.sql} "
        "GROUP BY r.destination ORDER BY queued DESC, r.destination LIMIT ?",
        now,
        *condition.args,
        most,
    )
    return [_destination(tx, row) for row in rows]


def _destination(tx: Tx, row: Row) -> Destination:
    name, queued, due, claimed, held, oldest, said = row
    created = tx.one("SELECT created FROM queue WHERE id = ?", oldest)
    one = tx.one(f"SELECT {_RECIPIENT} FROM recipient r WHERE r.id = ?", said)  # noqa: S608
    return Destination(
        name, queued, due, claimed, held, created[0] if created else 0, Recipient(*one).reply if one else ""
    )


# Acting


def last_id(tx: Tx) -> int:
    """The youngest recipient: who comes later is not meant by an action that begins now."""
    row = tx.one("SELECT max(id) FROM recipient")
    return (row[0] if row else 0) or 0


def matching(tx: Tx, condition: Where, after: int, upto: int, most: int = SLICE) -> list[int]:
    """Recipients that match, by id, from `after` on: the next slice to act upon."""
    rows = tx.all(
        f"SELECT r.id FROM {_JOIN} WHERE r.id > ? AND r.id <= ? AND {condition.sql} ORDER BY r.id LIMIT ?",  # noqa: S608
        after,
        upto,
        *condition.args,
        most,
    )
    return [row[0] for row in rows]


class Action(NamedTuple):
    """What may be done to recipients; each ? is the time."""

    which: str  # a condition
    change: str  # columns; "" removes them
    traced: bool = True  # it stands in the trace of the message


# A message that its sender wants held for later (FUTURERELEASE) was never tried and is due at a time to come: it is let
# go early only where it is named.
_LATER = "attempts = 0 AND next_attempt > ?"
_AT_ONCE = f"CASE WHEN {_LATER} THEN next_attempt ELSE ? END"

ACTIONS = {
    "retry": Action("r.state = 'due' AND r.next_attempt > ?", "next_attempt = ?", traced=False),
    "hold": Action("r.state = 'due'", "state = 'held'"),
    "release": Action("r.state = 'held'", f"state = 'due', next_attempt = {_AT_ONCE}"),
    "drop": Action("r.state <> 'claimed'", ""),
    "reroute": Action(
        f"r.state <> 'claimed' AND r.destination <> '{HERE}'",
        f"route = :route, next_attempt = CASE WHEN state = 'held' THEN next_attempt ELSE {_AT_ONCE} END",
    ),
}


def act(
    tx: Tx, do: str, ids: Sequence[int], chosen: Filter, now: int, *, seq: int, at: int, route: str = ""
) -> list[int]:
    """Do one of ACTIONS to those of the recipients `ids` that match `chosen` (as of `now`) still; returns the
    message of each that was changed. `seq` numbers the events of the trace, `at` is the time of the change."""
    action = ACTIONS[do]
    condition = where(chosen, now)
    which = action.which
    if do == "retry" and not chosen.ids:
        which += f" AND NOT ({_LATER})"
    which_args = (at,) * which.count("?")
    meant = f"SELECT r.id FROM {_JOIN} WHERE r.id IN ({_marks(ids)}) AND {condition.sql} AND {which}"  # noqa: S608
    meant_args = (*ids, *condition.args, *which_args)
    if action.change:
        change = action.change.replace(":route", "?")
        change_args = ((route,) if ":route" in action.change else ()) + (at,) * action.change.count("?")
        rows = tx.all(
            f"UPDATE recipient SET {change} WHERE id IN ({meant}) RETURNING queue_id, address",  # noqa: S608
            *change_args,
            *meant_args,
        )
    else:
        rows = tx.all(f"DELETE FROM recipient WHERE id IN ({meant}) RETURNING queue_id, address", *meant_args)  # noqa: S608
        _remove_empty(tx, sorted({row[0] for row in rows}))
    if action.traced:
        _trace(tx, do, rows, seq, {"route": route} if do == "reroute" else {})
    if rows and do != "drop":
        tx.publish(QueueChanged(rows[0][0]))
    return [row[0] for row in rows]


def _remove_empty(tx: Tx, queue_ids: Sequence[int]) -> None:
    """Remove those of the messages that have no recipients left, and their claims on blobs."""
    rows = tx.all(
        f"DELETE FROM queue WHERE id IN ({_marks(queue_ids)}) "  # noqa: S608
        "AND NOT EXISTS (SELECT 1 FROM recipient WHERE queue_id = queue.id) RETURNING blob_id",
        *queue_ids,
    )
    spared = Counter(row[0] for row in rows)
    tx.many("UPDATE blob SET refs = refs - ? WHERE id = ?", [(many, blob) for blob, many in sorted(spared.items())])


def _trace(tx: Tx, do: str, rows: Sequence[Row], seq: int, more: Mapping[str, str]) -> None:
    by_message: dict[int, list[str]] = {}
    for queue_id, address in rows:
        by_message.setdefault(queue_id, []).append(address)
    for queue_id, addresses in by_message.items():
        said = {"action": do, **more, "recipients": addresses[:MOST_TRACED], "count": len(addresses)}
        events.add(tx, queue_id, seq, "operator", said)

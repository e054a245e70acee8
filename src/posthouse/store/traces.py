"""Reading the trace: everything that is known of a message, for `posthouse explain`.

`case` gathers it: the events, what still waits, the names of accounts that are mentioned, and one level of the
messages that it came from or led to. `beginnings` goes through the events newest first, in bounded slices, for those
who look for an address: there is no index for that, as every message would pay for it. Nothing here writes.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

from posthouse.base import ids
from posthouse.store.database import Row, Tx
from posthouse.store.events import Event, told

MOST_EVENTS = 1000  # of one message that are read: the first hundred and the last
FIRST = 100
MOST_WAITING = 1000  # recipients
MOST_LINKS = 20  # messages that one came from or led to
MOST_NAMES = 1000  # accounts
# In the data of the event with which a message begins: what it came from.
CAME_FROM = ("bounce_of", "double_bounce_of", "forwarded_from", "released", "receipt_of")
BEGINNINGS = ("accepted", "refused")


class Waiting(NamedTuple):
    """A recipient that is still in the queue. The order is that of the query."""

    address: str
    destination: str
    state: str  # "due", "claimed" or "held"
    attempts: int
    next_attempt: int
    code: int  # of the last reply
    status: str
    text: str
    host: str


class Link(NamedTuple):
    """A message that this one came from, or led to."""

    came_from: bool
    why: str  # "bounce_of" and so on; or the word of `led_to`
    trace: int
    case: "Case | None"  # without links of its own; None: its trace is gone


class Case(NamedTuple):
    """What is known of one message."""

    trace: int
    events: tuple[Event, ...]
    left_out: int  # events between the first and the last
    waiting: tuple[Waiting, ...]
    accounts: dict[int, str]  # names of those that are mentioned and still there
    links: tuple[Link, ...]


def case(tx: Tx, trace: int, *, linked: bool = True) -> Case | None:
    """Everything about one message, or None: there is no trace of it."""
    events, left_out = _events(tx, trace)
    waiting = tuple(
        Waiting(*row)
        for row in tx.all(
            "SELECT address, destination, state, attempts, next_attempt, last_code, last_status, last_text, last_host "
            "FROM recipient WHERE queue_id = ? ORDER BY id LIMIT ?",
            trace,
            MOST_WAITING,
        )
    )
    if not events and not waiting:
        return None
    links: list[Link] = []
    if linked:
        for came_from, why, other in list(_links(events))[:MOST_LINKS]:
            links.append(Link(came_from, why, other, case(tx, other, linked=False)))
    return Case(trace, events, left_out, waiting, _names(tx, events), tuple(links))


def _events(tx: Tx, trace: int) -> tuple[tuple[Event, ...], int]:
    counted = tx.one("SELECT count(*) FROM event WHERE trace = ?", trace)
    count = counted[0] if counted else 0
    select = "SELECT trace, seq, kind, data FROM event WHERE trace = ? ORDER BY seq"
    if count <= MOST_EVENTS:
        rows = tx.all(select, trace)
    else:
        rows = tx.all(f"{select} LIMIT ?", trace, FIRST)
        rows += reversed(tx.all(f"{select} DESC LIMIT ?", trace, MOST_EVENTS - FIRST))
    return tuple(told(rows)), count - len(rows)


def _links(events: Iterable[Event]) -> Iterable[tuple[bool, str, int]]:
    seen: set[int] = set()
    for event in events:
        mentioned = [(True, why, event.data[why]) for why in CAME_FROM if why in event.data]
        led = event.data.get("led_to", ())
        mentioned += [(False, str(one.get("why", "")), one.get("id")) for one in led if isinstance(one, dict)]
        for came_from, why, text in mentioned:
            other = ids.from_text(text) if isinstance(text, str) else None
            if other is not None and other not in seen:
                seen.add(other)
                yield came_from, why, other


def _names(tx: Tx, events: Iterable[Event]) -> dict[int, str]:
    wanted = sorted({account for event in events for account in _accounts(event.data)})[:MOST_NAMES]
    found: dict[int, str] = {}
    for at in range(0, len(wanted), 500):
        part = wanted[at : at + 500]
        marks = ",".join("?" * len(part))
        found.update(tx.all(f"SELECT id, name FROM account WHERE id IN ({marks})", *part))  # noqa: S608
    return found


def _accounts(data: dict[str, Any]) -> Iterable[int]:
    for one in data.get("became", ()):
        yield from one.get("accounts", ())
    yield from (int(account) for account in data.get("into", ()))


def beginnings(tx: Tx, before: int, since: int, most: int) -> list[Row]:
    """The (trace, data as JSON) of events with which messages began, older than the id `before` and not older than
    `since`, the newest first, without the long values that have rows of their own (`events.py`)."""
    return tx.all(
        "SELECT trace, data FROM event WHERE trace < ? AND trace >= ? AND kind IN ('accepted', 'refused') "
        "ORDER BY trace DESC LIMIT ?",
        before,
        since,
        most,
    )

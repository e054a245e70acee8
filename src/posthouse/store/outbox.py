"""The queue's rows: messages that owe something to recipients elsewhere.

A recipient is `due` from `next_attempt` on, `claimed` while a node tries it, or `held` until an operator
lets it go; when it is delivered or given up its row goes, and with the last one the message and its claim
on the blob. What happened is in the trace (store/events.py).

Senders take turns: each has a lane, and `take` goes from lane to lane, so that the backlog of one never stands before
the message of another; within a lane, what has waited longest is first. A due row stands in one of three places: in
its lane; `later`, by its time; or aside, by its destination, if that takes none for now (it is paused, or the node has
enough for it). `take` moves rows between them as it meets them, a bounded number each time, so what it costs does not
grow with the queue. Places are a matter of speed only: `next_attempt`, pauses and room are looked at wherever a row
stands, and whoever changes a row need not care for its place.

Two nodes never try one recipient: rows are claimed in one transaction, with a lease that the node renews
while it works. A crash leaves claims behind: `recover` makes a node's own due again when it starts, and
those of others once their lease has run out. When to try again, and what is a failure, is for `queue`.
"""

import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

from posthouse.store import pauses
from posthouse.store.database import Tx

HERE = ""  # the destination of a recipient of ours whose message is held for later
LOOK = 1000  # lanes, destinations and rows that one `take` looks at beside those it claims
_IN_LANE, _LATER, _ASIDE = 0, 1, 2  # recipient.place
_FIRST_LANE, LAST_LANE = -(1 << 63), (1 << 63) - 1
_SLICE = 512  # parameters in one IN (…)


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
    account: str = ""  # login name of the account; "" if there is none


class Claim(NamedTuple):
    """One recipient that is ours to try."""

    id: int
    address: str
    destination: str
    attempts: int  # before this one
    options: str
    message: Message
    route: str = ""  # an operator's choice: "route:NAME", "host:NAME:PORT"; "": the settings decide
    lane: int = 0


class Room(NamedTuple):
    """What a node has room for."""

    most: int  # recipients
    busy: Collection[str] = ()  # destinations that get no more
    each: int = 0  # for one destination of one batch; 0: no limit
    held: Mapping[int, int] = MappingProxyType({})  # what lanes hold of the node's room, by lane
    lane: int = LAST_LANE  # who had the last turn
    aside: str = ""  # where the last look at those aside ended; "": at the end
    spare: int = 1  # shares as large as those of the lanes that stay free


class Taken(NamedTuple):
    """What `take` found."""

    claims: list[Claim]  # those that have waited longest first
    left: frozenset[int]  # lanes that have more than they got, for want of room
    full: bool  # no room is left for anybody
    more: bool  # it looked at as much as one look may: another one finds more
    lane: int  # for the next `Room`
    aside: str
    paused: pauses.Paused = pauses.NOTHING


class Outcome(NamedTuple):
    """How the attempt for one recipient ended: `retry` is the next attempt, None if there is none."""

    id: int
    retry: int | None
    code: int = 0  # of the reply; 0: there was none
    status: str = ""  # enhanced status code
    text: str = ""
    host: str = ""


_MESSAGE = "id, sender, account_id, blob_id, prefix, size, created, expires, priority, options"


def lane_of(account_id: int | None, sender: str) -> int:
    """Who takes turns with others: the account that submitted a message; without one the domain of its sender, as a
    number below 0; 0 for bounces."""
    if account_id is not None:
        return account_id
    return _lane_of_domain(sender.rpartition("@")[2].lower()) if sender else 0


@lru_cache(2048)
def _lane_of_domain(domain: str) -> int:
    digest = hashlib.blake2b(domain.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return -1 - int.from_bytes(digest, "big") % LAST_LANE


def add(tx: Tx, message: NewMessage, recipients: Iterable[NewRecipient]) -> int:
    """Queue a message; its recipients are due at once, or when it may be let go. Returns its lane."""
    tx.run(
        f"INSERT INTO queue ({_MESSAGE}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608
        *message[:10],
    )
    due = message.due or message.created - _ahead(message.priority)
    place = _LATER if message.due else _IN_LANE
    lane = lane_of(message.account_id, message.sender)
    tx.many(
        "INSERT INTO recipient (queue_id, address, destination, state, next_attempt, options, lane, place) "
        "VALUES (?, ?, ?, 'due', ?, ?, ?, ?)",
        [(message.id, r.address, r.destination, due, r.options, lane, place) for r in recipients],
    )
    return lane


def _ahead(priority: int) -> int:
    """How much earlier than it came a message counts as due, in microseconds. A lane takes what has waited
    longest: urgent messages overtake those of the last minutes, patient ones let a few seconds of others pass."""
    return priority * (600_000_000 if priority > 0 else 1_000_000)


# Claiming


def claim(tx: Tx, node: str, now: int, until: int, most: int, busy: Collection[str] = (), each: int = 0) -> list[Claim]:
    """`take` for who wants nothing but the claims."""
    return take(tx, node, now, until, Room(most, busy, each, spare=0)).claims


def take(tx: Tx, node: str, now: int, until: int, room: Room) -> Taken:
    """Claim due recipients for `node`, with a lease until `until`, so that lanes share its room.

    No lane gets more than would leave as much room free as it holds then: whoever comes later finds some. A single
    lane so gets half of it, two get a third each. Destinations in `busy` and paused ones are passed over.
    """
    paused = pauses.standing(tx, now)
    if paused.everything:
        return Taken([], frozenset(), False, False, room.lane, "", paused)
    more = _fall_due(tx, now)
    aside, more_aside = _bring_back(tx, room, paused)
    lanes = _lanes(tx, room.lane)
    batch = _Batch(tx, now, room, paused, max(1, LOOK // max(len(lanes), 1)))
    left = batch.turn(lanes)
    if left and len(lanes) > 1:  # what others have not used is shared once more
        left = batch.turn(left, again=True)
    # Where nobody of so many may have one more, another look finds no more either: not before something has ended.
    full = len(batch.ids) >= room.most or (len(lanes) >= LOOK and not batch.ids)
    more = more or more_aside or batch.more or (len(lanes) >= LOOK and not full)
    claims = _claimed(tx, node, until, batch.ids)
    return Taken(claims, frozenset(left), full, more, batch.lane, aside, paused)


class _Batch:
    """The rows that one `take` chooses."""

    def __init__(self, tx: Tx, now: int, room: Room, paused: pauses.Paused, passing: int) -> None:
        self._tx = tx
        self._now = now
        self._room = room
        self._paused = paused
        self._busy = frozenset(room.busy)
        self._passing = passing  # rows of a lane that may be passed over
        self._got: Counter[str] = Counter()  # by destination
        self._held = Counter(room.held)  # by lane
        self._chosen: Counter[int] = Counter()  # by lane
        self.ids: dict[int, None] = {}
        self.lane = room.lane  # the last that had its turn
        self.more = False

    def turn(self, lanes: Sequence[int], *, again: bool = False) -> list[int]:
        """Give each lane what it may have; returns those that have more."""
        free = self._room.most - len(self.ids)
        level = _level(free, [self._held[lane] for lane in lanes], self._room.spare)
        left: list[int] = []
        for at, lane in enumerate(lanes):
            free = self._room.most - len(self.ids)
            if free <= 0:
                return left + list(lanes[at:])
            if not again:
                self.lane = lane
            # Where there are more lanes than room, each gets one in its turn.
            share = min(max(level - self._held[lane], 0 if self._held[lane] else 1), free)
            if self._fill(lane, share):
                left.append(lane)
        return left

    def _fill(self, lane: int, share: int) -> bool:
        """Choose up to `share` rows of a lane; is there more? What cannot go for now is moved out of the way."""
        taken = 0
        aside: list[int] = []
        later: list[int] = []
        window = self._chosen[lane] + share + self._passing
        rows = self._tx.all(
            "SELECT id, destination, next_attempt FROM recipient WHERE state = 'due' AND place = 0 AND lane = ? "
            "ORDER BY next_attempt, destination, id LIMIT ?",
            lane,
            window,
        )
        full = False
        for id_, destination, next_attempt in rows:
            if id_ in self.ids:
                continue
            if next_attempt > self._now:
                later.append(id_)
            elif self._is_full(destination):
                aside.append(id_)
            elif taken == share:
                full = True
                break
            else:
                self.ids[id_] = None
                self._got[destination] += 1
                taken += 1
        self._held[lane] += taken
        self._chosen[lane] += taken
        self.more |= not full and len(rows) == window
        _place(self._tx, aside, _ASIDE)
        _place(self._tx, later, _LATER)
        return full

    def _is_full(self, destination: str) -> bool:
        if destination in self._busy or self._paused.covers(destination):
            return True
        return 0 < self._room.each <= self._got[destination]


def _level(free: int, held: Iterable[int], spare: int) -> int:
    """Up to how much lanes that hold `held` may be filled, so that `spare` times as much stays free."""
    used = 0
    level = free
    for number, holds in enumerate(sorted(held), 1):
        if level <= holds:
            break
        used += holds
        level = (free + used) // (number + spare)
    return level


def _lanes(tx: Tx, after: int) -> list[int]:
    """Lanes with rows, in turn, beginning behind the one that had the last turn."""
    found = _skip(tx, "lane", "place = 0", after, LOOK)
    if len(found) < LOOK:
        found += _skip(tx, "lane", "place = 0", _FIRST_LANE, LOOK - len(found), last=after)
    return found


def _skip(
    tx: Tx, column: str, where: str, after: object, most: int, *args: object, last: object = None, first: str = ">"
) -> list[Any]:
    """The different values of the first free column of an index, in order: a seek for each, whatever lies between."""
    step = f"SELECT {column} FROM recipient WHERE state = 'due' AND {where}"  # noqa: S608
    end = f"{f'AND {column} <= ? ' if last is not None else ''}ORDER BY {column} LIMIT 1"
    lasts = () if last is None else (last,)
    rows = tx.all(
        f"WITH RECURSIVE step (value, number) AS (SELECT ({step} AND {column} {first} ? {end}), 1 UNION ALL "  # noqa: S608
        f"SELECT ({step} AND {column} > step.value {end}), number + 1 FROM step "
        "WHERE value IS NOT NULL AND number < ?) SELECT value FROM step WHERE value IS NOT NULL",
        *args,
        after,
        *lasts,
        *args,
        *lasts,
        most,
    )
    return [value for (value,) in rows]


def _fall_due(tx: Tx, now: int) -> bool:
    """Put rows whose time has come into their lanes; may there be more?"""
    return (
        tx.run(
            "UPDATE recipient SET place = 0 WHERE id IN (SELECT id FROM recipient WHERE state = 'due' AND place = 1 "
            "AND next_attempt <= ? ORDER BY next_attempt LIMIT ?)",
            now,
            LOOK,
        )
        == LOOK
    )


def _bring_back(tx: Tx, room: Room, paused: pauses.Paused) -> tuple[str, bool]:
    """Put rows back into their lanes whose destination takes some again, lanes in turn; how far it came, and whether
    there may be more."""
    found = _skip(tx, "destination", "place = 2", room.aside, LOOK, first=">" if room.aside else ">=")
    left = LOOK
    busy, there = frozenset(room.busy), "place = 2 AND destination = ?"
    for destination in found:
        if destination in busy or paused.covers(destination):
            continue
        lanes = _skip(tx, "lane", there, room.lane, LOOK, destination)
        lanes += _skip(tx, "lane", there, _FIRST_LANE, LOOK, destination, last=room.lane)
        each = max(1, min(room.each or room.most, left) // max(len(lanes), 1))
        for lane in lanes[: max(left, 1)]:
            left -= tx.run(
                "UPDATE recipient SET place = 0 WHERE id IN (SELECT id FROM recipient WHERE state = 'due' "
                "AND place = 2 AND destination = ? AND lane = ? ORDER BY next_attempt, id LIMIT ?)",
                destination,
                lane,
                each,
            )
        if left <= 0:
            return destination, True
    return (found[-1], True) if len(found) >= LOOK else ("", False)


def _place(tx: Tx, ids: Sequence[int], place: int) -> None:
    for part in _slices(ids):
        tx.run(f"UPDATE recipient SET place = ? WHERE id IN ({_marks(part)})", place, *part)  # noqa: S608


def _claimed(tx: Tx, node: str, until: int, ids: Iterable[int]) -> list[Claim]:
    """Claim these rows."""
    rows: list[Any] = []
    for part in _slices(list(ids)):
        rows += tx.all(
            "UPDATE recipient SET state = 'claimed', place = 0, claimed_until = ?, claimed_by = ? "  # noqa: S608
            f"WHERE id IN ({_marks(part)}) AND state = 'due' "
            "RETURNING id, queue_id, address, destination, attempts, next_attempt, options, route, lane",
            until,
            node,
            *part,
        )
    messages = _messages(tx, {row[1] for row in rows})
    rows.sort(key=lambda row: (row[5], row[0]))
    return [
        Claim(id_, address, destination, attempts, options, messages[queue_id], route, lane)
        for id_, queue_id, address, destination, attempts, _, options, route, lane in rows
    ]


def _messages(tx: Tx, ids: set[int]) -> dict[int, Message]:
    found: dict[int, Message] = {}
    columns = ", ".join(f"queue.{column}" for column in _MESSAGE.split(", "))
    for part in _slices(sorted(ids)):
        rows = tx.all(
            f"SELECT {columns}, coalesce(account.name, '') FROM queue "  # noqa: S608
            f"LEFT JOIN account ON account.id = queue.account_id WHERE queue.id IN ({_marks(part)})",
            *part,
        )
        found.update((row[0], Message(*row)) for row in rows)
    return found


def _slices(ids: Sequence[int]) -> list[Sequence[int]]:
    """Ids in parts of few different lengths, so that the same statements come again: filled up with one of them."""
    parts: list[Sequence[int]] = []
    for at in range(0, len(ids), _SLICE):
        part = ids[at : at + _SLICE]
        length = next(size for size in (1, 8, 64, _SLICE) if size >= len(part))
        parts.append([*part, *[part[0]] * (length - len(part))])
    return parts


def _marks(part: Sequence[int]) -> str:
    return ",".join("?" * len(part))


def next_due(tx: Tx, now: int) -> int | None:
    """When `take` is next worth it for what it did not find now: a time comes, or a pause ends. None if never."""
    if pauses.standing(tx, now).everything:  # rows fall due, and it does not touch them
        return pauses.next_end(tx, now)
    row = tx.one("SELECT next_attempt FROM recipient WHERE state = 'due' AND place = 1 ORDER BY next_attempt LIMIT 1")
    times = [time for time in (row[0] if row else None, pauses.next_end(tx, now)) if time is not None]
    return min(times) if times else None


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


def postpone(tx: Tx, node: str, ids: Sequence[int], until: int, text: str) -> None:
    """Give claims back untried, to be due at `until`; `text` says why. It is no attempt and not counted as one."""
    tx.many(
        "UPDATE recipient SET state = 'due', claimed_until = 0, claimed_by = '', next_attempt = ?, last_text = ? "
        "WHERE id = ? AND state = 'claimed' AND claimed_by = ?",
        [(until, text[:1000], id_, node) for id_ in ids],
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
            "UPDATE recipient SET state = 'due', place = 1, claimed_until = 0, claimed_by = '', "
            "attempts = attempts + 1, next_attempt = ?, last_code = ?, last_status = ?, last_text = ?, last_host = ? "
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

"""What is counted for the reports that we send (DMARC, TLS), and which went out: per kind, domain and day (UTC).

A period is one day of one domain. Its counts are kept until its report is sent or given up; `finish` removes them in
the transaction that writes down what was sent. Bounded: domains a day and rows a domain; what finds no room is counted
as lost.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple

from posthouse.store.database import Tx

Kind = Literal["dmarc", "tls"]

DAY = 86_400_000_000  # microseconds
SPREAD = 4 * 3600 * 1_000_000  # microseconds over which the reports of a day are sent (RFC 8460 section 4.1)
MOST_DOMAINS = 20_000  # of one kind and day
MOST_ROWS = 10_000  # of one period
_SENT = "id, kind, domain, day, report_id, target, at, octets, counted, trace, outcome, note"
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


class Counted(NamedTuple):
    """What is to be added to a period. Facts are lists of texts and lists."""

    domain: str
    policy: list[Any]  # what is known of it last is kept; nothing known: [] changes nothing
    due: int  # when its report is to be sent
    counts: Iterable[tuple[list[Any], int]]


class Period(NamedTuple):
    """A day of a domain that waits for its report."""

    kind: Kind
    day: int
    domain: str
    policy: list[Any]
    lost: int
    attempts: int


class Waiting(NamedTuple):
    """What was counted so far in a period whose report did not go out yet."""

    kind: str
    domain: str
    day: int
    counted: int  # messages or sessions
    failed: int  # of them
    lost: int  # that found no room, besides
    due: int  # when the report is to be sent
    attempts: int


class Sent(NamedTuple):
    """What became of one report to one address. The order is that of `_SENT`; `id` 0 for a new one."""

    id: int
    kind: str
    domain: str
    day: int
    report_id: str
    target: str
    at: int
    octets: int
    counted: int
    trace: int
    outcome: str
    note: str


def due_of(kind: Kind, day: int, domain: str) -> int:
    """When the report about a day is to be sent: hours after its end, each domain at its own time."""
    digest = hashlib.blake2b(f"{kind} {day} {domain}".encode("utf-8", "replace"), digest_size=8).digest()
    # Not in the first minutes: what was counted before midnight is being written down.
    return (day + 1) * DAY + 600_000_000 + int.from_bytes(digest) % SPREAD


def add(tx: Tx, kind: Kind, day: int, counted: Iterable[Counted]) -> int:
    """Add to the periods of a day; how many found no room."""
    domains: int | None = None
    lost = 0
    for one in counted:
        row = tx.one("SELECT lines FROM report_period WHERE kind = ? AND day = ? AND domain = ?", kind, day, one.domain)
        if row is None:
            if domains is None:
                found = tx.one("SELECT count(*) FROM report_period WHERE kind = ? AND day = ?", kind, day)
                domains = int(found[0]) if found is not None else 0
            if domains >= MOST_DOMAINS:
                lost += sum(number for _, number in one.counts)
                continue
            domains += 1
            tx.run(
                "INSERT INTO report_period (kind, day, domain, policy, lines, lost, due) VALUES (?, ?, ?, ?, 0, 0, ?)",
                kind,
                day,
                one.domain,
                _encode(one.policy),
                one.due,
            )
        rows, without_room = int(row[0]) if row is not None else 0, 0
        for facts, number in one.counts:
            text = _encode(facts)
            key = kind, day, one.domain, hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=16).digest()
            if tx.run(
                "UPDATE report_count SET counted = counted + ? "
                "WHERE kind = ? AND day = ? AND domain = ? AND digest = ?",
                number,
                *key,
            ):
                continue
            if rows >= MOST_ROWS:
                without_room += number
                continue
            rows += 1
            tx.run(
                "INSERT INTO report_count (kind, day, domain, digest, facts, counted) VALUES (?, ?, ?, ?, ?, ?)",
                *key,
                text,
                number,
            )
        tx.run(
            "UPDATE report_period SET policy = CASE WHEN ? = '[]' THEN policy ELSE ? END, lines = ?, lost = lost + ? "
            "WHERE kind = ? AND day = ? AND domain = ?",
            _encode(one.policy),
            _encode(one.policy),
            rows,
            without_room,
            kind,
            day,
            one.domain,
        )
        lost += without_room
    return lost


def due(tx: Tx, now: int, most: int) -> list[Period]:
    """Periods whose report is to be sent by now, the first due first. None of a day that still lasts is."""
    rows = tx.all(
        "SELECT kind, day, domain, policy, lost, attempts FROM report_period "
        "WHERE due <= ? AND day < ? ORDER BY due LIMIT ?",
        now,
        now // DAY,
        most,
    )
    return [
        Period(kind, day, domain, json.loads(policy), lost, attempts)
        for kind, day, domain, policy, lost, attempts in rows
    ]


def next_due(tx: Tx) -> int | None:
    """When the next report is to be sent; None: nothing is counted."""
    row = tx.one("SELECT min(due) FROM report_period")
    return None if row is None or row[0] is None else int(row[0])


def of_period(tx: Tx, kind: Kind, day: int, domain: str) -> list[tuple[list[Any], int]]:
    """What was counted in a period: facts and number, the largest number first."""
    rows = tx.all(
        "SELECT facts, counted FROM report_count WHERE kind = ? AND day = ? AND domain = ? "
        "ORDER BY counted DESC, digest",
        kind,
        day,
        domain,
    )
    return [(json.loads(facts), counted) for facts, counted in rows]


def waiting(tx: Tx, domain: str = "", most: int = 1000) -> list[Waiting]:
    """What waits to be reported, the newest day first, of a day the largest number."""
    rows = tx.all(
        "SELECT kind, domain, day, lost, due, attempts, (SELECT coalesce(sum(counted), 0) FROM report_count "
        "WHERE report_count.kind = report_period.kind AND report_count.day = report_period.day "
        "AND report_count.domain = report_period.domain) AS number "
        "FROM report_period WHERE ? = '' OR domain = ? ORDER BY day DESC, number DESC, domain, kind LIMIT ?",
        domain,
        domain,
        most,
    )
    found = []
    for kind, about, day, lost, due, attempts, number in rows:
        failed = sum(count for facts, count in of_period(tx, kind, day, about) if _is_failure(kind, facts))
        found.append(Waiting(kind, about, day, int(number), failed, lost, due, attempts))
    return found


def _is_failure(kind: str, facts: list[Any]) -> bool:
    """Of facts it is known here what says that nothing passed: in those of TLS (`queue/tls_counts.py`) the name of a
    failure, in those of DMARC (`senderauth/tally.py`) two words."""
    return facts[1:2] not in ([], [""]) if kind == "tls" else "pass" not in facts[5:7]


def later(tx: Tx, period: Period, due: int) -> None:
    """Try again at `due`."""
    tx.run(
        "UPDATE report_period SET due = ?, attempts = attempts + 1 WHERE kind = ? AND day = ? AND domain = ?",
        due,
        period.kind,
        period.day,
        period.domain,
    )


def finish(tx: Tx, period: Period, sent: Iterable[Sent]) -> bool:
    """Write down what became of the report and forget the counts; False if somebody did before."""
    where = period.kind, period.day, period.domain
    if not tx.run("DELETE FROM report_period WHERE kind = ? AND day = ? AND domain = ?", *where):
        return False
    tx.run("DELETE FROM report_count WHERE kind = ? AND day = ? AND domain = ?", *where)
    tx.many(
        "INSERT INTO report_sent (kind, domain, day, report_id, target, at, octets, counted, trace, outcome, note) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [one[1:] for one in sent],
    )
    return True


def sent_since(tx: Tx, since: int, domain: str = "", most: int = 1000) -> list[Sent]:
    """Reports that went out, or did not, since a time; the newest first."""
    rows = tx.all(
        f"SELECT {_SENT} FROM report_sent WHERE at >= ? AND (? = '' OR domain = ?) "  # noqa: S608
        "ORDER BY at DESC, id DESC LIMIT ?",
        since,
        domain,
        domain,
        most,
    )
    return [Sent(*row) for row in rows]


def sent_of_day(tx: Tx, at: int) -> Mapping[str, int]:
    """How many domains got a report since the time `at`, by kind."""
    rows = tx.all(
        "SELECT kind, count(DISTINCT domain) FROM report_sent WHERE at >= ? AND outcome = 'sent' GROUP BY kind", at
    )
    return {str(kind): int(number) for kind, number in rows}


def sent_below(tx: Tx, kind: Kind, at: int, organization: str) -> int:
    """How many domains of an organization, itself and names below it, got a report since the time `at`."""
    # An underscore in a name stands for any character here, which does no harm.
    found = tx.one(
        "SELECT count(DISTINCT domain) FROM report_sent WHERE kind = ? AND at >= ? AND outcome = 'sent' "
        "AND (domain = ? OR domain LIKE ?)",
        kind,
        at,
        organization,
        f"%.{organization}",
    )
    return int(found[0]) if found is not None else 0


def expire(tx: Tx, before: int, most: int = 1000) -> int:
    """Forget what was sent before a time; how many rows went."""
    return tx.run("DELETE FROM report_sent WHERE id IN (SELECT id FROM report_sent WHERE at < ? LIMIT ?)", before, most)

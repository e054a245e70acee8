"""Reports that came in, about domains of ours: DMARC and TLS row by row, failure reports one by one.

The same report (its domain, who reports, and its id) counts once, however often it comes. One of which nothing proves
who sent it is kept, but no figure has it unless it is asked for; nor does it stand before one that is proved. Times are
microseconds, the end of a range included. Bounded: reports a day and their rows, of all reporters and of each.
"""

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from posthouse.store.database import Tx

MOST_A_DAY = 5000  # reports that are kept of one day's arrivals
MOST_ROWS_A_DAY = 200_000  # of all of them; a report of some 100 KB has thousands
# One reporter may take one part of so many, and so may all that are not verified together: others shall find room.
SHARE = 2
DAY = 86_400_000_000
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
# Those that figures are made of; all of them, if the parameter is 1.
_COUNTS = "(reporter <> '' OR ? = 1)"
_REPORT = "id, kind, domain, organization, report_id, reporter, begins, ends, received, trace, counted, failed, facts"


class DmarcRow(NamedTuple):
    """Messages of one source that are alike."""

    source: str
    header_from: str
    dkim: bool  # aligned and passed
    spf: bool
    disposition: str
    messages: int
    facts: dict[str, Any]


class TlsRow(NamedTuple):
    """Sessions of one source that went alike."""

    policy: str
    result: str  # "": they went well
    source: str
    host: str
    sessions: int
    facts: dict[str, Any]


class Report(NamedTuple):
    """A report. The order is that of `_REPORT`; `id` 0 for a new one."""

    id: int
    kind: str  # "dmarc", "tls", "failure"
    domain: str
    organization: str
    report_id: str
    reporter: str  # the domain that is proved to have sent it; "": it is not verified
    begins: int
    ends: int
    received: int
    trace: int
    counted: int
    failed: int
    facts: dict[str, Any]


class Source(NamedTuple):
    """What all reports of a range say of one source and author domain."""

    source: str
    header_from: str
    messages: int
    passed: int
    dkim: int  # of them with an aligned signature
    spf: int
    quarantined: int
    rejected: int
    reporters: int


class Overview(NamedTuple):
    """A domain and kind, all reports of a range together."""

    domain: str
    kind: str
    reports: int
    reporters: int
    counted: int
    failed: int
    unverified: int  # reports that are left out


def add(tx: Tx, report: Report, dmarc: Sequence[DmarcRow] = (), tls: Sequence[TlsRow] = ()) -> str:
    """Keep a report; "" if it is kept, else why it is not."""
    if (known := _known(tx, report)) is not None:
        if not report.reporter or known == report.reporter:
            return "it came before"
        # Somebody else used this name and this id.
        report = report._replace(organization=f"{report.organization} ({report.reporter})")
        if _known(tx, report) is not None:
            return "it came before"
    rows = len(dmarc) + len(tls)
    for reporter, share in ((None, 1), (report.reporter, SHARE)):
        reports, before = _came(tx, report.received - DAY, reporter)
        whose = "" if reporter is None else f" of {reporter}" if reporter else " that are not verified"
        if reports >= MOST_A_DAY // share:
            return f"more than {MOST_A_DAY // share} reports{whose} came in a day"
        if before + rows > MOST_ROWS_A_DAY // share:
            return f"more than {MOST_ROWS_A_DAY // share} rows of reports{whose} came in a day"
    number = tx.insert(
        "INSERT INTO report (kind, domain, organization, report_id, reporter, begins, ends, received, trace, counted, "
        "failed, facts) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING id",
        *report[1:-1],
        _encode(report.facts),
    )
    tx.many(
        "INSERT INTO dmarc_row (report, number, source, header_from, dkim, spf, disposition, messages, facts) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (number, at, *row[:2], int(row.dkim), int(row.spf), *row[4:-1], _encode(row.facts))
            for at, row in enumerate(dmarc)
        ],
    )
    tx.many(
        "INSERT INTO tls_row (report, number, policy, result, source, host, sessions, facts) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        [(number, at, *row[:-1], _encode(row.facts)) for at, row in enumerate(tls)],
    )
    return ""


def _known(tx: Tx, report: Report) -> str | None:
    """Who sent a report of this name and id before."""
    key = report.kind, report.domain, report.organization, report.report_id
    row = tx.one(
        "SELECT reporter FROM report WHERE kind = ? AND domain = ? AND organization = ? AND report_id = ?", *key
    )
    return str(row[0]) if row is not None else None


def _came(tx: Tx, since: int, reporter: str | None) -> tuple[int, int]:
    """How many reports came since a time, and their rows; of one reporter ("": not verified), or (None) of all. Rows of
    a report are numbered from 0."""
    found = tx.one(
        "SELECT count(*), coalesce(sum("
        "coalesce((SELECT max(number) + 1 FROM dmarc_row WHERE dmarc_row.report = report.id), 0) + "
        "coalesce((SELECT max(number) + 1 FROM tls_row WHERE tls_row.report = report.id), 0)), 0) "
        "FROM report WHERE received > ? AND (? = 1 OR reporter = ?)",
        since,
        int(reporter is None),
        reporter or "",
    )
    return (int(found[0]), int(found[1])) if found is not None else (0, 0)


def overview(tx: Tx, since: int, everything: bool = False) -> list[Overview]:
    """What came in of reports that end after a time, by domain and kind. `everything`: those that are not verified
    count as well."""
    some = [int(everything)] * 5
    rows = tx.all(
        f"SELECT domain, kind, sum(CASE WHEN {_COUNTS} THEN 1 ELSE 0 END), "  # noqa: S608
        f"count(DISTINCT CASE WHEN {_COUNTS} THEN reporter END), sum(CASE WHEN {_COUNTS} THEN counted ELSE 0 END), "
        f"sum(CASE WHEN {_COUNTS} THEN failed ELSE 0 END), sum(CASE WHEN {_COUNTS} THEN 0 ELSE 1 END) FROM report "
        "WHERE ends >= ? GROUP BY domain, kind ORDER BY domain, kind",
        *some,
        since,
    )
    return [Overview(*row) for row in rows]


def reports(tx: Tx, kind: str, since: int, domain: str = "", most: int = 1000) -> list[Report]:
    """Reports of a kind that end after a time, the newest first."""
    rows = tx.all(
        f"SELECT {_REPORT} FROM report WHERE kind = ? AND ends >= ? AND (? = '' OR domain = ?) "  # noqa: S608
        "ORDER BY ends DESC, id DESC LIMIT ?",
        kind,
        since,
        domain,
        domain,
        most,
    )
    return [Report(*row)._replace(facts=json.loads(row[-1])) for row in rows]


def sources(tx: Tx, since: int, domain: str, everything: bool = False, most: int = 1000) -> list[Source]:
    """Who sent as a domain, by what DMARC reports say, the most messages first."""
    rows = tx.all(
        "SELECT source, header_from, sum(messages), sum(CASE WHEN dkim OR spf THEN messages ELSE 0 END), "
        "sum(CASE WHEN dkim THEN messages ELSE 0 END), sum(CASE WHEN spf THEN messages ELSE 0 END), "
        "sum(CASE WHEN disposition = 'quarantine' THEN messages ELSE 0 END), "
        "sum(CASE WHEN disposition = 'reject' THEN messages ELSE 0 END), count(DISTINCT reporter) "
        "FROM dmarc_row JOIN report ON report.id = report WHERE report.kind = 'dmarc' AND ends >= ? AND domain = ? "
        "AND (reporter <> '' OR ? = 1) "
        "GROUP BY source, header_from ORDER BY sum(messages) DESC, source, header_from LIMIT ?",
        since,
        domain,
        int(everything),
        most,
    )
    return [Source(*row) for row in rows]


def failing(
    tx: Tx, since: int, domain: str, source: str, header_from: str, everything: bool = False, most: int = 20
) -> list[DmarcRow]:
    """What reports say of messages of a source that failed, the most messages first; the rows, not their sums."""
    rows = tx.all(
        "SELECT source, header_from, dkim, spf, disposition, messages, dmarc_row.facts "
        "FROM dmarc_row JOIN report ON report.id = report WHERE report.kind = 'dmarc' AND ends >= ? AND domain = ? "
        "AND (reporter <> '' OR ? = 1) "
        "AND source = ? AND header_from = ? AND dkim = 0 AND spf = 0 ORDER BY messages DESC LIMIT ?",
        since,
        domain,
        int(everything),
        source,
        header_from,
        most,
    )
    return [DmarcRow(s, f, bool(dkim), bool(spf), d, m, json.loads(facts)) for s, f, dkim, spf, d, m, facts in rows]


def tls_results(
    tx: Tx, since: int, domain: str, everything: bool = False, most: int = 1000
) -> list[tuple[str, str, str, int, int, str]]:
    """Policy, result ("" is success), host, sessions, reporters and the facts of one row; failures first."""
    rows = tx.all(
        "SELECT policy, result, host, sum(sessions), count(DISTINCT reporter), max(tls_row.facts) "
        "FROM tls_row JOIN report ON report.id = report WHERE report.kind = 'tls' AND ends >= ? AND domain = ? "
        "AND (reporter <> '' OR ? = 1) "
        "GROUP BY policy, result, host ORDER BY result <> '' DESC, sum(sessions) DESC LIMIT ?",
        since,
        domain,
        int(everything),
        most,
    )
    return [(str(p), str(r), str(h), int(s), int(n), str(f)) for p, r, h, s, n, f in rows]


def expire(tx: Tx, before: int, most: int = 100) -> int:
    """Forget reports that end before a time, with their rows; how many reports went."""
    gone = [
        (number,) for (number,) in tx.all("SELECT id FROM report WHERE ends < ? ORDER BY ends LIMIT ?", before, most)
    ]
    for table, column in (("dmarc_row", "report"), ("tls_row", "report"), ("report", "id")):
        tx.many(f"DELETE FROM {table} WHERE {column} = ?", gone)  # noqa: S608
    return len(gone)

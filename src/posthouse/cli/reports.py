"""`posthouse reports`: what others report about mail and TLS of our domains, and which reports went out; tables, and in
words what to do. `read` looks at a file and needs no server."""

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from posthouse.cli import opening, output, resolver

if TYPE_CHECKING:
    from posthouse.net.dns import Resolver
    from posthouse.store.database import Tx
    from posthouse.store.report_tables import DmarcRow, Overview, Source

app = typer.Typer(help="Reports about authentication (DMARC) and TLS.", invoke_without_command=True)
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Days = Annotated[float, typer.Option("--days", min=0.01, max=4000, help="Of so many days.")]
Domain = Annotated[str, typer.Argument(help="Only of this domain.", show_default=False)]
Names = Annotated[bool, typer.Option("--names/--no-names", help="Ask the DNS what addresses are called.")]
Unverified = Annotated[
    bool, typer.Option("--unverified", help="Count those, too, of which nothing proves who sent them.")
]

DAY = 86_400_000_000
TOLD = 10  # failing sources of a domain that are told in words
FEW = 3  # of each domain in the overview
MOST_WAITING = 1000  # lines of what is counted
PATIENCE = 4.0  # seconds for the names of all addresses


def _since(days: float) -> int:
    from posthouse.base.clock import SystemClock

    return SystemClock().now() - int(days * DAY)


def _percent(part: int, whole: int) -> str:
    """Rounded down, so that 100 % means all."""
    return f"{part * 100 // whole} %" if whole else ""


@app.callback()
def overview(
    context: typer.Context,
    days: Days = 7,
    as_json: Json = False,
    names: Names = True,
    unverified: Unverified = False,
    resolver: resolver.Option = "",
) -> None:
    """What was reported: messages and sessions of each domain, how many pass, and which sources fail."""
    if context.invoked_subcommand is not None:
        return
    from posthouse.store import report_tables

    since = _since(days)

    def read(tx: "Tx") -> tuple[list[Any], list[Any]]:
        found = report_tables.overview(tx, since, unverified)
        return found, [_failing(tx, since, one.domain, unverified, FEW) for one in found if one.kind == "dmarc"]

    found, failing = opening.read(context.obj, read)
    rows = [
        (
            one.domain,
            one.kind,
            one.reports,
            one.reporters,
            one.counted,
            one.failed,
            _percent(one.counted - one.failed, one.counted) if one.kind != "failure" else "",
            one.unverified or "",
        )
        for one in found
    ]
    columns = ("Domain", "Kind", "Reports", "Reporters", "Counted", "Failed", "Pass", "Left out")
    told = _told(context.obj, [each for one in failing for each in one], names, resolver)
    if as_json:
        print(json.dumps({"domains": [one._asdict() for one in found], "advice": told}))
        return
    empty = f"No report came in {days:g} days. docs/reports.md says how to get them."
    output.show(context.obj, False, columns, rows, empty)
    _say(context.obj, [*told, *_left_out(sum(one.unverified for one in found))])


def _left_out(count: int) -> list[str]:
    """A sentence about reports that no figure has."""
    if not count:
        return []
    are = "1 report is" if count == 1 else f"{count} reports are"
    return [
        f"{are} left out: neither DMARC nor DKIM proves who sent them, so anybody may have made them up. "
        "--unverified counts them, too."
    ]


def _failing(tx: "Tx", since: int, domain: str, everything: bool, most: int) -> list[tuple[str, int, "list[DmarcRow]"]]:
    """The sources that fail most: domain, messages, and what reports say of them."""
    from posthouse.store import report_tables

    found = []
    for one in sorted(report_tables.sources(tx, since, domain, everything), key=lambda one: one.passed - one.messages)[
        :most
    ]:
        if one.messages > one.passed:
            told = report_tables.failing(tx, since, domain, one.source, one.header_from, everything)
            if told:
                found.append((domain, one.messages - one.passed, told))
    return found


def _told(
    options: output.Options, failing: "list[tuple[str, int, list[DmarcRow]]]", names: bool, asked: str
) -> list[str]:
    from posthouse.cli import report_words

    called = _called(options, [told[0].source for _, _, told in failing], asked) if names and failing else {}
    return [
        report_words.source(told, messages, domain, called.get(told[0].source, ""))
        for domain, messages, told in failing
    ]


def _called(options: output.Options, addresses: list[str], asked: str) -> dict[str, str]:
    """What addresses are called, as far as the DNS says so in time."""
    from posthouse.base.errors import PosthouseError

    async def ask(resolver: "Resolver", address: str) -> tuple[str, str]:
        try:
            return address, next(iter(await resolver.ptr(address)), "")
        except (PosthouseError, ValueError):
            return address, ""

    async def run() -> dict[str, str]:
        chosen = resolver.chosen(options, asked, 2.0)
        tasks = [asyncio.ensure_future(ask(chosen, one)) for one in dict.fromkeys(addresses)]
        done, late = await asyncio.wait(tasks, timeout=PATIENCE)
        for task in late:
            task.cancel()
        return dict(task.result() for task in done)

    return asyncio.run(run()) if addresses else {}


def _say(options: output.Options, sentences: list[str]) -> None:
    screen = output.console(options)
    for one in sentences:
        screen.print()
        screen.print(output.clean(one), markup=False, soft_wrap=True)


def _sources(found: "list[tuple[str, Source]]") -> list[tuple[Any, ...]]:
    return [
        (
            domain,
            one.source,
            one.header_from,
            one.messages,
            _percent(one.passed, one.messages),
            _percent(one.dkim, one.messages),
            _percent(one.spf, one.messages),
            one.quarantined,
            one.rejected,
            one.reporters,
        )
        for domain, one in found
    ]


_COLUMNS = ("Domain", "Source", "From", "Messages", "Pass", "DKIM", "SPF", "Quarantined", "Rejected", "Reporters")


@app.command()
def dmarc(
    context: typer.Context,
    domain: Domain = "",
    days: Days = 7,
    as_json: Json = False,
    names: Names = True,
    unverified: Unverified = False,
    resolver: resolver.Option = "",
) -> None:
    """Who sent mail as our domains, and whether it passed DMARC; which sources fail, and what to do."""
    from posthouse.store import report_tables

    since, domain = _since(days), domain.lower()

    def read(tx: "Tx") -> tuple[list[tuple[str, Any]], list[Any], int]:
        seen = _about(tx, "dmarc", since, domain, unverified)
        domains = [one.domain for one in seen]
        found = [(one, each) for one in domains for each in report_tables.sources(tx, since, one, unverified)]
        failing = [each for one in domains for each in _failing(tx, since, one, unverified, TOLD)]
        return found, failing, sum(one.unverified for one in seen)

    found, failing, left_out = opening.read(context.obj, read)
    told = _told(context.obj, failing, names, resolver)
    if as_json:
        print(json.dumps({"sources": [{"domain": one, **each._asdict()} for one, each in found], "advice": told}))
        return
    empty = f"No DMARC report{f' about {domain}' if domain else ''} came in {days:g} days."
    output.show(context.obj, False, _COLUMNS, _sources(found), empty)
    _say(context.obj, [*told, *_left_out(left_out)])


def _about(tx: "Tx", kind: str, since: int, domain: str, everything: bool) -> "list[Overview]":
    """What came of a kind, about a domain or all."""
    from posthouse.store import report_tables

    found = report_tables.overview(tx, since, everything)
    return [one for one in found if one.kind == kind and domain in ("", one.domain)]


@app.command()
def tls(
    context: typer.Context,
    domain: Domain = "",
    days: Days = 7,
    as_json: Json = False,
    unverified: Unverified = False,
) -> None:
    """How TLS to our servers went for others, and what failed."""
    from posthouse.cli import report_words
    from posthouse.store import report_tables

    since, domain = _since(days), domain.lower()

    def read(tx: "Tx") -> tuple[list[tuple[str, tuple[str, str, str, int, int, str]]], int]:
        seen = _about(tx, "tls", since, domain, unverified)
        results = [
            (one.domain, each) for one in seen for each in report_tables.tls_results(tx, since, one.domain, unverified)
        ]
        return results, sum(one.unverified for one in seen)

    found, left_out = opening.read(context.obj, read)
    told = [
        report_words.tls(result, sessions, host, one, json.loads(facts))
        for one, (_, result, host, sessions, _, facts) in found
        if result
    ]
    rows = [
        (one, policy, result or "success", host, sessions, reporters)
        for one, (policy, result, host, sessions, reporters, _) in found
    ]
    columns = ("Domain", "Policy", "Result", "Host", "Sessions", "Reporters")
    if as_json:
        names = [name.lower() for name in columns]
        print(json.dumps({"results": [dict(zip(names, row, strict=True)) for row in rows], "advice": told}))
        return
    empty = f"No TLS report{f' about {domain}' if domain else ''} came in {days:g} days."
    output.show(context.obj, False, columns, rows, empty)
    _say(context.obj, [*told, *_left_out(left_out)])


@app.command()
def failures(context: typer.Context, domain: Domain = "", days: Days = 7, as_json: Json = False) -> None:
    """Single messages that failed authentication somewhere, as their receivers report them."""
    from posthouse.store import report_tables

    found = opening.read(context.obj, report_tables.reports, "failure", _since(days), domain.lower())
    if as_json:
        print(json.dumps([{**one._asdict(), "trace": _id(one.trace)} for one in found]))
        return
    rows = [
        (
            output.when(one.received),
            one.domain,
            one.facts.get("failed", ""),
            one.facts.get("source_ip", ""),
            one.facts.get("result", ""),
            one.facts.get("author", ""),
            one.organization + ("" if one.reporter else " (unverified)"),
            one.facts.get("subject", ""),
        )
        for one in found
    ]
    columns = ("Received", "Domain", "Failed", "Source", "Result", "From", "Reporter", "Subject")
    output.show(context.obj, False, columns, rows, f"No failure report came in {days:g} days.", folded=("Subject",))


@app.command()
def counted(context: typer.Context, domain: Domain = "", as_json: Json = False) -> None:
    """What was counted for reports to others that did not go out yet: today's, and of days before."""
    from posthouse.store import report_counts

    found = opening.read(context.obj, report_counts.waiting, domain.lower(), MOST_WAITING)
    if as_json:
        print(
            json.dumps(
                [one._asdict() | {"day": output.when(one.day * DAY)[:10], "due": output.when(one.due)} for one in found]
            )
        )
        return
    rows = [
        (
            output.when(one.day * DAY)[:10],
            one.kind,
            one.domain,
            one.counted,
            one.failed,
            _percent(one.counted - one.failed, one.counted),
            one.lost or "",
            output.when(one.due),
            one.attempts or "",
        )
        for one in found
    ]
    columns = ("Day", "Kind", "About", "Counted", "Failed", "Pass", "No room", "Goes out", "Attempts")
    about = f" about {domain.lower()}" if domain else ""
    empty = f"Nothing{about} waits to be reported. Only domains that ask for reports are counted (docs/reports.md)."
    output.show(context.obj, False, columns, rows, empty)
    if len(found) == MOST_WAITING:
        _say(context.obj, [f"These are the first {MOST_WAITING}. Name a domain to see another one."])


@app.command()
def sent(context: typer.Context, domain: Domain = "", days: Days = 7, as_json: Json = False) -> None:
    """Reports that we sent to others, or did not, and why."""
    from posthouse.store import report_counts

    found = opening.read(context.obj, report_counts.sent_since, _since(days), domain.lower())
    if as_json:
        told = [one._asdict() | {"day": output.when(one.day * DAY)[:10], "at": output.when(one.at)} for one in found]
        print(json.dumps([one | {"trace": _id(one["trace"])} for one in told]))
        return
    rows = [
        (
            output.when(one.at),
            one.kind,
            one.domain,
            output.when(one.day * DAY)[:10],
            one.counted or "",
            one.outcome,
            _id(one.trace),
            one.target.removeprefix("mailto:"),
            one.note,
        )
        for one in found
    ]
    columns = ("Sent", "Kind", "About", "Day", "Counted", "Outcome", "Message", "To", "Note")
    output.show(context.obj, False, columns, rows, f"No report went out in {days:g} days.", folded=("To", "Note"))


def _id(trace: int) -> str:
    from posthouse.base import ids

    return ids.to_text(trace) if trace else ""


@app.command()
def read(
    context: typer.Context,
    file: Annotated[
        Path, typer.Argument(help="XML, JSON, .gz, .zip, or a message that holds it; - is standard input.")
    ],
    resolver: resolver.Option = "",
    as_json: Json = False,
    names: Annotated[bool, typer.Option("--names", help="Ask the DNS what addresses are called.")] = False,
) -> None:
    """Show the report in a file, whoever it is about."""
    from posthouse.reports import recognise
    from posthouse.reports.dmarc_aggregate import Aggregate
    from posthouse.reports.tls_rpt import TlsReport

    report = recognise.of_file(_content(file))
    if as_json:
        kind = "dmarc" if isinstance(report, Aggregate) else "tls" if isinstance(report, TlsReport) else "failure"
        print(json.dumps({"kind": kind, **_plain(report)}))
    elif isinstance(report, Aggregate):
        _show_aggregate(context.obj, report, resolver if names or resolver else None)
    elif isinstance(report, TlsReport):
        _show_tls(context.obj, report)
    else:
        rows = [(name.replace("_", " "), _joined(value)) for name, value in report._asdict().items() if value]
        output.show(context.obj, False, ("What", "Value"), rows, "", folded=("Value",))


def _content(file: Path) -> bytes:
    import sys

    from posthouse.base.errors import Permanent
    from posthouse.reports.unpack import MAX_PLAIN

    try:
        if str(file) == "-":
            return sys.stdin.buffer.read(MAX_PLAIN + 1)
        with file.open("rb") as opened:
            return opened.read(MAX_PLAIN + 1)
    except OSError as error:
        raise Permanent(f"{file} cannot be read: {error.strerror}") from error


def _joined(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _plain(value: Any) -> Any:
    """A report of named tuples as JSON has it."""
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return {name: _plain(each) for name, each in value._asdict().items()}
    return [_plain(each) for each in value] if isinstance(value, tuple) else value


def _head(options: output.Options, organization: str, report_id: str, begin: int, end: int) -> None:
    period = f"{output.when(begin * 1_000_000)} to {output.when(end * 1_000_000)} UTC"
    text = output.clean(f"{organization}, {period}, report {report_id or 'without an id'}")
    output.console(options).print(text, markup=False, soft_wrap=True)


def _show_aggregate(options: output.Options, report: Any, asked: str | None) -> None:
    from posthouse.cli import report_words
    from posthouse.servers.report_intake import rows
    from posthouse.store.report_tables import DmarcRow, Source

    _head(options, report.organization, report.report_id, report.begin, report.end)
    policy = "; ".join(f"{name}={value}" for name, value in report.policy._asdict().items() if value)
    screen = output.console(options)
    screen.print(output.clean(f"Policy: {policy}"), markup=False, soft_wrap=True)
    for error in report.errors:
        screen.print(output.clean(f"Error: {error}"), markup=False, soft_wrap=True)
    _, made, _ = rows(report, "", report.end * 1_000_000, 0)[0]
    groups: dict[tuple[str, str], list[DmarcRow]] = {}
    for row in made:
        groups.setdefault((row.source, row.header_from), []).append(row)

    def count(group: list[DmarcRow], wanted: Any) -> int:
        return sum(row.messages for row in group if wanted(row))

    found = [
        (
            report.policy.domain,
            Source(
                *key,
                messages=count(group, lambda _: True),
                passed=count(group, lambda row: row.dkim or row.spf),
                dkim=count(group, lambda row: row.dkim),
                spf=count(group, lambda row: row.spf),
                quarantined=count(group, lambda row: row.disposition == "quarantine"),
                rejected=count(group, lambda row: row.disposition == "reject"),
                reporters=1,
            ),
        )
        for key, group in groups.items()
    ]
    found.sort(key=lambda one: -one[1].messages)
    output.show(options, False, _COLUMNS[:-1], [row[:-1] for row in _sources(found)], "It has no records.")
    failing = []
    for group in groups.values():
        bad = sorted((row for row in group if not (row.dkim or row.spf)), key=lambda row: -row.messages)
        if number := sum(row.messages for row in bad):
            failing.append((number, bad))
    failing.sort(key=lambda one: -one[0])
    addresses = [bad[0].source for _, bad in failing[:TOLD]]
    called = _called(options, addresses, asked) if asked is not None else {}
    _say(
        options,
        [
            report_words.source(bad, number, report.policy.domain, called.get(bad[0].source, ""))
            for number, bad in failing[:TOLD]
        ],
    )


def _show_tls(options: output.Options, report: Any) -> None:
    from posthouse.cli import report_words
    from posthouse.servers.report_intake import rows

    _head(options, report.organization, report.report_id, report.begin, report.end)
    made = [(kept.domain, row) for kept, _, tls in rows(report, "", report.end * 1_000_000, 0) for row in tls]
    columns = ("Domain", "Policy", "Result", "Source", "Host", "Sessions")
    table = [(domain, row.policy, row.result or "success", row.source, row.host, row.sessions) for domain, row in made]
    output.show(options, False, columns, table, "It has no sessions.")
    _say(
        options,
        [report_words.tls(row.result, row.sessions, row.host, domain, row.facts) for domain, row in made if row.result][
            :TOLD
        ],
    )

"""`posthouse explain`: the whole story of a message, found by its trace id, its Message-ID or an address.

An address is looked for in the events of messages, newest first, slice by slice, as there is no index for it; what is
found is told by `story.py` and laid out by `timeline.py`. A running server is asked first to write down the refusals
that it still gathers. It works on the database itself, so it does whether the server runs or not.
"""

import datetime
import json
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from posthouse.cli import opening, output

if TYPE_CHECKING:
    from posthouse.cli.outcome import Summary
    from posthouse.store.database import Database
    from posthouse.store.events import Event
    from posthouse.store.traces import Case

SLICE = 5000  # messages that are looked at in one read
DAY = 86_400_000 << 20  # in ids
PATIENCE = 1.0  # seconds without a sign of life
_COLOURS = {"good": "green", "bad": "red", "wait": "yellow", "dim": "dim", "head": "bold", "": ""}


class Found(NamedTuple):
    """What there is for a question, the newest first."""

    cases: "list[Case]"
    searched: int = 0  # messages that were looked at
    all: bool = True  # there are no others, within `--since`


def explain(
    context: typer.Context,
    what: Annotated[
        str,
        typer.Argument(
            metavar="WHAT",
            help="An id as in `250 Accepted, id ...`, a Message-ID, an address, @ and a domain, or a session.",
            show_default=False,
        ),
    ],
    last: Annotated[int, typer.Option("--last", min=1, max=10_000, help="So many messages with an address.")] = 20,
    since: Annotated[str, typer.Option("--since", help='Not older than that: "2d", "3 h", or a date.')] = "",
    transcript: Annotated[bool, typer.Option("--transcript", help="Show the SMTP dialogue of every attempt.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Tell the whole story of a message, from the connection to the last attempt."""
    from posthouse.base.clock import SystemClock
    from posthouse.base.errors import NotFound, Permanent
    from posthouse.cli import outcome

    if not what.strip():
        raise Permanent("say what to explain: an id, a Message-ID, an address, or @ and a domain")
    now = SystemClock().now()
    oldest = _oldest(since, now)
    chosen = opening.settings(context.obj)
    opening.tell(chosen.data, "refusals")

    async def work(database: "Database") -> Found:
        return await find(database, what.strip(), last, oldest, progress(context.obj))

    found = opening.using(chosen, work)
    if not found.cases:
        raise NotFound(_nothing(what.strip(), since, found.searched))
    whole = found.cases[0] if len(found.cases) == 1 else None
    if as_json:
        rows = [_row(outcome.summary(case)) for case in found.cases]
        told = as_values(whole) if whole is not None else None
        print(json.dumps({"query": what, "all": found.all, "messages": rows, "story": told}, ensure_ascii=False))
    elif whole is not None:
        _show(context.obj, whole, now, transcript)
    else:
        _table(context.obj, [outcome.summary(case) for case in found.cases])
        if not found.all:
            output.done(context.obj, False, f"There may be older ones: --last {last * 5} shows more.")


def _nothing(what: str, since: str, searched: int) -> str:
    """What is said when nothing was found: most of those who ask meant something that is written another way."""
    from posthouse.base.settings_types import is_hostname

    where = f" since {since}" if since else ""
    looked = f" ({searched} messages were looked at)" if searched else ""
    found = f"there is no trace of {output.clean(what[:300])}{where}{looked}"
    if "." in what and "@" not in what and is_hostname(what):
        return f"{found}. All mail of a domain is `posthouse explain @{what}`"
    if "@" in what:
        return f"{found}. Traces are kept for 30 days"
    return (
        f"{found}. Traces are kept for 30 days; ids have 13 letters and digits, like 1M8FFNFAN98JX, and are in "
        "replies, in the log and in `posthouse queue list`"
    )


def _oldest(since: str, now: int) -> int:
    """The id of the time (microseconds) after which messages are wanted."""
    from posthouse.base.errors import Permanent
    from posthouse.base.units import parse_span

    if not since:
        return 0
    try:
        if since.strip()[4:5] == "-":
            moment = datetime.datetime.fromisoformat(since.strip())
            at = int(moment.replace(tzinfo=moment.tzinfo or datetime.UTC).timestamp() * 1_000_000)
        else:
            span = parse_span(since)
            assert isinstance(span, float)
            at = now - int(span * 1_000_000)
    except ValueError as error:
        raise Permanent(f'--since {since}: write a span like "2d" or "3 h", or a date like 2026-09-21') from error
    return max(0, at) // 1000 << 20


def progress(options: output.Options) -> Callable[[int, int], None]:
    """Tells on a terminal how far a search has come (messages, id), if it takes long."""
    begun = time.monotonic()
    screen = output.console(options, stderr=True)

    def tell(searched: int, reached: int) -> None:
        if screen.is_terminal and time.monotonic() - begun > PATIENCE:
            back = output.when((reached >> 20) * 1000)
            screen.print(f"{searched} messages looked at, back to {back} UTC", end="\r", markup=False)

    return tell


async def find(
    database: "Database", what: str, last: int, oldest: int, tell: Callable[[int, int], None] = lambda *_: None
) -> Found:
    """The messages that are meant, the newest first."""
    from posthouse.base import ids
    from posthouse.mime.threads import message_id_hash
    from posthouse.store import events, traces

    number = ids.from_text(what)
    if number is not None:
        if (case := await database.read(traces.case, number)) is not None:
            return Found([case])
        # The log and some replies name the session: its messages are at most a day younger.
        session = f'"session":"{ids.to_text(number)}"'
        end = min(number + DAY, (1 << 63) - 1)
        found = await _search(database, lambda data: session in data, last, number, end, tell)
        if found.cases:
            return found
    name = what[1:-1] if what.startswith("<") and what.endswith(">") else what
    same = await database.read(events.traces_of_message_id, message_id_hash(name))
    same = [trace for trace in reversed(same) if trace >= oldest]
    if same:
        return Found(await _cases(database, same[:last]), all=len(same) <= last)
    if "@" not in name:
        return Found([])
    return await _search(database, matcher(name), last, oldest, (1 << 63) - 1, tell)


async def _search(
    database: "Database",
    wanted: Callable[[str], bool],
    last: int,
    oldest: int,
    before: int,
    tell: Callable[[int, int], None],
) -> Found:
    """The last messages that are wanted, of those between two ids."""
    from posthouse.store import traces

    hits: list[int] = []
    searched = 0
    while len(hits) <= last:
        rows = await database.read(traces.beginnings, before, oldest, SLICE)
        searched += len(rows)
        hits += [trace for trace, data in rows if wanted(data)]
        if len(rows) < SLICE:
            break
        before = rows[-1][0]
        tell(searched, before)
    return Found(await _cases(database, hits[:last]), searched, len(hits) <= last)


async def _cases(database: "Database", numbers: Iterable[int]) -> "list[Case]":
    from posthouse.store import traces

    numbers = list(numbers)
    found = [await database.read(traces.case, one, linked=len(numbers) == 1) for one in numbers]
    return [case for case in found if case is not None]


def matcher(text: str) -> Callable[[str], bool]:
    """Whether an event (its data as JSON) is about an address, or about one of a domain ("@example.org")."""
    from posthouse.wire.address import Address

    parsed = Address.parse(text) if not text.startswith("@") else None
    wanted = (str(parsed) if parsed is not None else text).lower()
    # Quick, and never wrong when it says no: only what holds the text is read as JSON.
    quick = json.dumps(wanted, ensure_ascii=False)[1:-1]

    def fits(address: object) -> bool:
        found = str(address).lower()
        return found.endswith(wanted) if wanted.startswith("@") else found == wanted

    def matches(data: str) -> bool:
        return quick in data.lower() and any(fits(one) for one in _addresses(json.loads(data)))

    return matches


def _addresses(data: Mapping[str, Any]) -> Iterable[object]:
    yield from (data.get("sender"), data.get("original_sender"), data.get("login"))
    yield from str(data.get("from", "")).split(", ")
    yield from data.get("recipients", ())
    for one in data.get("refused", ()):
        yield one.get("recipient")
    for one in data.get("became", ()):
        yield from one.get("elsewhere", ())


# For people


def _show(options: output.Options, case: "Case", now: int, transcripts: bool) -> None:
    from rich.text import Text

    from posthouse.cli import story, timeline

    screen = output.console(options)
    width = screen.width if screen.is_terminal else None
    told = story.tell(case, now, transcripts=transcripts)
    for part in (timeline.plain(told.head, width), timeline.rows(told.lines, width), timeline.plain(told.now, width)):
        for row in part:
            text = Text.assemble(*[(piece, _COLOURS.get(style, "")) for piece, style in row])
            text.rstrip()
            screen.print(text, soft_wrap=True)


def _table(options: output.Options, found: "list[Summary]") -> None:
    from rich.text import Text

    from posthouse.base import ids
    from posthouse.cli.outcome import STYLES

    rows = []
    for one in found:
        to = one.recipients[0] if one.recipients else ""
        if len(one.recipients) > 1:
            to += f" and {len(one.recipients) - 1} more"
        state = Text(output.clean(one.state), _COLOURS.get(STYLES.get(one.state, "wait"), ""))
        rows.append((ids.to_text(one.trace), output.when(one.at), one.sender or "<>", to, state, one.last))
    output.show(options, False, ("Id", "Time", "From", "To", "State", "Last word"), rows, "", folded=("Last word",))


# For programs


def _row(one: "Summary") -> dict[str, Any]:
    from posthouse.base import ids

    return {
        "id": ids.to_text(one.trace),
        "time": _iso(one.at),
        "from": one.sender,
        "to": list(one.recipients),
        "state": one.state,
        "last": one.last,
    }


def as_values(case: "Case") -> dict[str, Any]:
    """Everything that is known of a message, as docs/explain.md says."""
    from posthouse.base import ids
    from posthouse.cli import outcome

    short = outcome.summary(case)
    begun = _begun(case)
    return {
        **_row(short),
        "recipients": [end._asdict() for end in outcome.ends(case)],
        "connected": _iso(begun) if begun else None,
        "events": [_event(event, begun or short.at) for event in case.events],
        "events_left_out": case.left_out,
        "waiting": [
            {**one._asdict(), "next_attempt": _iso(one.next_attempt) if one.state == "due" else None}
            for one in case.waiting
        ],
        "accounts": {str(number): name for number, name in case.accounts.items()},
        "links": [
            {
                "direction": "came_from" if link.came_from else "led_to",
                "why": link.why,
                "id": ids.to_text(link.trace),
                "message": _row(outcome.summary(link.case)) if link.case is not None else None,
            }
            for link in case.links
        ],
    }


def _begun(case: "Case") -> int:
    from posthouse.base import ids
    from posthouse.cli import outcome

    begin = outcome.beginning(case)
    session = ids.from_text(str(begin.data.get("session", ""))) if begin is not None else None
    return outcome.time_of(session) if session is not None else 0


def _event(event: "Event", begun: int) -> dict[str, Any]:
    from posthouse.cli import outcome, story

    at = outcome.time_of(event.seq)
    values: dict[str, Any] = {"kind": event.kind, "time": _iso(at), "after_ms": (at - begun) // 1000}
    if event.kind == "attempt":
        meanings = {who: story.meaning_of(one) for who, one in event.data.get("results", {}).items()}
        values["meanings"] = {who: one._asdict() for who, one in meanings.items() if one is not None}
    return values | {"data": event.data}


def _iso(at: int) -> str:
    from posthouse.cli.timeline import clock

    return clock(at).replace(" ", "T") + "Z"

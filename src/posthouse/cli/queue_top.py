"""`posthouse queue top`: the destinations with most mail, again and again, on a screen or as lines of JSON.

What is queued comes from the store. If a server runs, it says what it is doing there; without one those columns are
empty. It ends with q or Ctrl-C, or with whoever reads it.
"""

import asyncio
import contextlib
import json
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from posthouse.cli import opening, output
from posthouse.cli.queue_options import Json, Selection, plural, selecting

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.text import Text

    from posthouse.base.settings import Settings
    from posthouse.store.database import Database, Tx
    from posthouse.store.outbox_admin import Counts, Destination, Where
    from posthouse.store.pauses import Pause

MOST = 1000  # destinations that are looked at
GAP = 2  # between columns
MAX_NAME = 30  # letters of a next hop
LEAST_REPLY = 20  # letters; a screen that has no room for them does without these columns, one after the other:
SPARED = ("Window", "A minute", "Running", "Due")
COLUMNS = ("Next hop", "Queued", "Due", "Running", "Window", "A minute", "Oldest", "Last reply")


class Row(NamedTuple):
    """One line: a destination of the store, a next hop of the server, or both."""

    name: str
    queued: int
    due: int
    held: int
    claimed: int
    running: int | None  # None: no server says
    window: float | None
    rest_until: int
    why: str  # it rests
    rate_wait: float  # seconds until its rate allows the next one
    change: float | None  # recipients a minute by which it grew; None: this is the first look
    oldest: int
    reply: str
    paused: bool


class Tick(NamedTuple):
    """One look."""

    at: int
    server: bool
    draining: bool
    counts: "Counts"
    destinations: int
    rows: list[Row]


@selecting()
def top(
    context: typer.Context,
    selection: Selection,
    interval: Annotated[float, typer.Option("--interval", min=0.2, max=3600, help="Seconds between two looks.")] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Look once.")] = False,
    as_json: Json = False,
) -> None:
    """Watch where mail waits and why; q ends it. With --json each look is one line."""
    settings = opening.settings(context.obj)
    screen = output.console(context.obj)

    async def main(database: "Database") -> None:
        await _watch(screen, database, settings, selection, interval, once, as_json)

    with contextlib.suppress(KeyboardInterrupt):
        opening.using(settings, main)


async def _watch(
    screen: "Console",
    database: "Database",
    settings: "Settings",
    selection: Selection,
    interval: float,
    once: bool,
    as_json: bool,
) -> None:
    from posthouse.base.clock import SystemClock
    from posthouse.store import outbox_admin

    clock, before = SystemClock(), None
    live = screen.is_terminal and not once and not as_json
    with _shown_live(screen) if live else contextlib.nullcontext() as update, _keys(live) as quit_:
        while True:
            now = clock.now()
            chosen = outbox_admin.where(selection.filter, now)
            stored = await database.read(_look, selection, chosen, now)
            state = await asyncio.to_thread(opening.ask, settings.data, "queue.state")
            tick = combine(now, *stored, state if state and state.get("ok") else None, before)
            before = tick
            if as_json:
                print(json.dumps(as_dict(tick)), flush=True)
            elif update is not None:
                update(view(tick, screen.width, max(screen.height - 5, 1)))
            else:
                screen.width = screen.width if screen.is_terminal else output.WIDEST
                screen.print(view(tick, screen.width, MOST), soft_wrap=not screen.is_terminal)
                screen.file.flush()
            if once:
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(interval):
                    await quit_.wait()
            if quit_.is_set():
                return


def _look(tx: "Tx", selection: Selection, chosen: "Where", now: int) -> "tuple[Counts, list[Destination], list[Pause]]":
    from posthouse.queue import operating
    from posthouse.store import outbox_admin

    outbox_admin.require(tx, selection.filter)
    return (
        outbox_admin.count(tx, chosen, now),
        outbox_admin.destinations(tx, now, MOST, chosen),
        operating.current(tx, now),
    )


def combine(
    now: int,
    counts: "Counts",
    stored: "list[Destination]",
    paused: "list[Pause]",
    state: dict[str, Any] | None,
    before: Tick | None,
) -> Tick:
    """What the store and the server say, in one; and how it changed since the look before."""
    from posthouse.queue.operating import is_paused

    hops = _hops(state)
    known = {row.name: row.queued for row in before.rows} if before else {}
    minutes = (now - before.at) / 60_000_000 if before else 0
    rows = []
    for one in stored:
        hop, name = hops.pop(one.name, {}), one.name or "here, later"
        change = (one.queued - known.get(name, 0)) / minutes if minutes > 0 else None
        rows.append(
            Row(
                name,
                one.queued,
                one.due,
                one.held,
                one.claimed,
                None if state is None else int(hop.get("active") or 0),
                hop.get("window"),
                int(hop.get("rest_until") or 0),
                str(hop.get("why") or ""),
                float(hop.get("rate_wait") or 0),
                change,
                one.oldest,
                one.reply,
                is_paused(one.name, paused),
            )
        )
    for name, hop in hops.items():  # smart hosts, and what is just going out
        active, rest = int(hop.get("active") or 0), int(hop.get("rest_until") or 0)
        if active or rest > now:
            rows.append(
                Row(
                    name,
                    0,
                    0,
                    0,
                    0,
                    active,
                    hop.get("window"),
                    rest,
                    str(hop.get("why") or ""),
                    0.0,
                    None,
                    0,
                    "",
                    False,
                )
            )
    draining = bool(state and state.get("draining"))
    return Tick(now, state is not None, draining, counts, len(stored), rows)


def _hops(state: dict[str, Any] | None) -> dict[str, dict[str, Any]]:
    """The part of `queue.state` about next hops, by name, as far as it is what it should be."""
    hops = (state or {}).get("next_hops")
    return {str(h.get("next_hop")): h for h in hops if isinstance(h, dict)} if isinstance(hops, list) else {}


def as_dict(tick: Tick) -> dict[str, Any]:
    """A look for programs."""
    from posthouse.servers.queue_admin import iso

    hops = [row._asdict() | {"rest_until": iso(row.rest_until), "oldest": iso(row.oldest)} for row in tick.rows]
    return {
        "at": iso(tick.at),
        "server": tick.server,
        "draining": tick.draining,
        "counts": tick.counts._asdict(),
        "hops": hops,
    }


def view(tick: Tick, width: int, most: int) -> "RenderableType":
    """A look for people: at most so many lines of the table, as many columns as fit."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    c = tick.counts
    server = "draining" if tick.draining else "running" if tick.server else "no server runs"
    head = f"{output.when(tick.at)[11:]} UTC  {plural(c.messages, 'message')}: {c.due:,} due, {c.waiting:,} waiting, "
    head += f"{c.claimed:,} being tried, {c.held:,} held ({server})"
    if not tick.rows:
        return Group(Text(head), Text("Nothing is queued."))
    rows = [_cells(row, tick) for row in tick.rows[:most]]
    kept, room = _fitting(rows, width)
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold")
    for at in kept:
        table.add_column(COLUMNS[at], justify="left" if COLUMNS[at] in ("Next hop", "Last reply") else "right")
    for row in rows:
        cells = [cell.copy() for at, cell in enumerate(row) if at in kept]
        cells[0].truncate(MAX_NAME, overflow="ellipsis")
        cells[-1].truncate(room, overflow="ellipsis")
        table.add_row(*cells)
    left = max(tick.destinations, len(tick.rows)) - most
    foot = [Text(f"and {left:,} more next hops", "dim")] if left > 0 else []
    return Group(Text(head), table, *foot)


def _fitting(rows: "list[tuple[Text, ...]]", width: int) -> tuple[list[int], int]:
    """Which columns fit the screen, and how much is left for the last one."""
    kept = list(range(len(COLUMNS)))
    for without in ("", *SPARED):
        kept = [at for at in kept if COLUMNS[at] != without]
        sizes = [max(len(COLUMNS[at]), *(row[at].cell_len for row in rows)) + GAP for at in kept[:-1]]
        room = width - min(sizes[0], MAX_NAME + GAP) - sum(sizes[1:])
        if room >= LEAST_REPLY:
            break
    return kept, max(room, len(COLUMNS[-1]))


def _cells(row: Row, tick: Tick) -> "tuple[Text, ...]":
    from rich.text import Text

    reply = output.clean(row.reply)
    if row.rest_until > tick.at:
        reply = f"rests for {output.age(row.rest_until - tick.at)}: {output.clean(row.why) or 'nobody answered'}"
    elif row.rate_wait:
        reply = f"its rate allows the next in {row.rate_wait:.0f} s. {reply}"
    numbers = (
        f"{row.queued:,}",
        f"{row.due:,}",
        "" if row.running is None else str(row.running),
        f"{row.window:g}" if row.window is not None else "",
        f"{row.change:+,.0f}" if row.change is not None else "",
        output.age(tick.at - row.oldest) if row.oldest else "",
    )
    note = Text("paused ", "magenta") if row.paused else Text()
    return (Text(output.clean(row.name)), *map(Text, numbers), note + Text(reply))


@contextlib.contextmanager
def _shown_live(screen: "Console") -> Iterator[Any]:
    from rich.live import Live

    with Live(console=screen, screen=True, auto_refresh=False) as live:
        yield lambda renderable: live.update(renderable, refresh=True)


@contextlib.contextmanager
def _keys(live: bool) -> Iterator[asyncio.Event]:
    """An event that is set when somebody presses q; the terminal is left as it was."""
    pressed = asyncio.Event()
    if not live or not sys.stdin.isatty():
        yield pressed
        return
    import os
    import termios
    import tty

    descriptor = sys.stdin.fileno()
    loop = asyncio.get_running_loop()
    kept = termios.tcgetattr(descriptor)

    def read() -> None:
        keys = os.read(descriptor, 64)
        if not keys or b"q" in keys.lower():
            pressed.set()
            loop.remove_reader(descriptor)

    tty.setcbreak(descriptor)
    loop.add_reader(descriptor, read)
    try:
        yield pressed
    finally:
        loop.remove_reader(descriptor)
        termios.tcsetattr(descriptor, termios.TCSADRAIN, kept)

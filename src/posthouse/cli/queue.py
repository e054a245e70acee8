"""`posthouse queue`: mail that waits to be sent to other servers. docs/queue.md tells how to use it.

The commands look at the store and change it themselves, so they work whether the server runs or not; a running server
is told. Only `drain` and `undrain`, which are about a process, ask the server for it.
"""

import json
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from posthouse.base.errors import NotFound, Permanent
from posthouse.cli import opening, output, queue_top
from posthouse.cli.queue_options import Json, Selection, Yes, confirm, parse_id, plural, selecting

if TYPE_CHECKING:
    from posthouse.queue.operating import Changed, Shown
    from posthouse.store.database import Database, Tx
    from posthouse.store.outbox_admin import Counts, Filter, Queued, Recipient
    from posthouse.store.pauses import Pause

app = typer.Typer(help="Mail that waits to be sent.", no_args_is_help=True)
app.command("top")(queue_top.top)

NOTHING = "Nothing in the queue matches."


@app.command("list")
@selecting()
def list_(
    context: typer.Context,
    selection: Selection,
    most: Annotated[int, typer.Option("--most", min=1, max=100_000, help="How many recipients at the most.")] = 100,
    as_json: Json = False,
) -> None:
    """List what is queued, oldest first, a line for each recipient."""
    from posthouse.base.clock import SystemClock
    from posthouse.cli import queue_tables
    from posthouse.queue import operating
    from posthouse.servers.queue_admin import message_json
    from posthouse.store import outbox_admin

    now = SystemClock().now()

    def work(tx: "Tx") -> "tuple[list[tuple[Queued, list[Recipient]]], Counts, list[Pause]]":
        outbox_admin.require(tx, selection.filter)
        condition = outbox_admin.where(selection.filter, now)
        found = outbox_admin.listing(tx, 0, most, condition)
        return found, outbox_admin.count(tx, condition, now), operating.current(tx, now)

    messages, found, paused = opening.read(context.obj, work)
    if as_json:
        print(json.dumps([message_json(message, recipients, now, paused) for message, recipients in messages]))
        return
    screen = output.console(context.obj)
    if not messages:
        screen.print(NOTHING if any(selection.filter) else "The queue is empty.")
        return
    queue_tables.listed(screen, messages, now, paused)
    if found.recipients > most:
        total = f"{plural(found.recipients, 'recipient')} of {plural(found.messages, 'message')}"
        text = f"These are the first {most:,} of {total}; --most {found.recipients} shows all."
        output.console(context.obj, stderr=not screen.is_terminal).print(text, soft_wrap=True)


@app.command()
@selecting()
def counts(context: typer.Context, selection: Selection, as_json: Json = False) -> None:
    """Count what is queued, by state."""
    from posthouse.base.clock import SystemClock
    from posthouse.cli import queue_tables
    from posthouse.queue import operating
    from posthouse.store import outbox_admin

    now = SystemClock().now()

    def work(tx: "Tx") -> "tuple[Counts, list[Pause]]":
        outbox_admin.require(tx, selection.filter)
        condition = outbox_admin.where(selection.filter, now)
        return outbox_admin.count(tx, condition, now), operating.current(tx, now)

    chosen = opening.settings(context.obj)
    found, paused = opening.using(chosen, lambda database: database.read(work))
    if as_json:
        print(json.dumps(found._asdict()))
        return
    queue_tables.numbers(output.console(context.obj), found, paused, opening.ask(chosen.data, "queue.state"))


@app.command()
def show(
    context: typer.Context,
    id_: Annotated[str, typer.Argument(metavar="ID", help="The message.")],
    raw: Annotated[bool, typer.Option("--raw", help="Print the message itself, nothing else.")] = False,
    as_json: Json = False,
) -> None:
    """Show one message: envelope, recipients with the last reply, header fields, history."""
    from posthouse.base.clock import SystemClock
    from posthouse.cli import queue_tables
    from posthouse.queue import operating
    from posthouse.servers.queue_admin import shown_json

    number, now = parse_id(id_), SystemClock().now()
    if raw:
        opening.using(opening.settings(context.obj), lambda database: _print_raw(database, number))
        return

    def work(tx: "Tx") -> "tuple[Shown, list[Pause]]":
        return operating.show(tx, number), operating.current(tx, now)

    what, paused = opening.read(context.obj, work)
    if as_json:
        print(json.dumps(shown_json(what, paused, now), default=str))
        return
    queue_tables.shown(output.console(context.obj), what, now, paused)


async def _print_raw(database: "Database", number: int) -> None:
    from posthouse.queue import operating

    async for piece in operating.pieces(database, number):
        sys.stdout.buffer.write(piece)
    sys.stdout.buffer.flush()


# What changes the queue


@app.command()
@selecting(all_=True)
def retry(context: typer.Context, selection: Selection, yes: Yes = False, as_json: Json = False) -> None:
    """Try waiting mail now, and not at its next time."""
    _act(context.obj, "retry", selection, yes, as_json)


@app.command()
@selecting(all_=True)
def hold(context: typer.Context, selection: Selection, yes: Yes = False, as_json: Json = False) -> None:
    """Do not try mail any more, until it is released."""
    _act(context.obj, "hold", selection, yes, as_json)


@app.command()
@selecting(all_=True)
def release(context: typer.Context, selection: Selection, yes: Yes = False, as_json: Json = False) -> None:
    """Let held mail go."""
    _act(context.obj, "release", selection, yes, as_json)


@app.command()
@selecting(all_=True)
def drop(context: typer.Context, selection: Selection, yes: Yes = False, as_json: Json = False) -> None:
    """Throw mail away. Nobody is told: neither its sender nor its recipients."""
    _act(context.obj, "drop", selection, yes, as_json)


@app.command()
@selecting(all_=True)
def reroute(
    context: typer.Context,
    selection: Selection,
    to: Annotated[str, typer.Option("--to", metavar="HOST[:PORT]", help="Send it to this host.")] = "",
    route: Annotated[str, typer.Option("--route", metavar="NAME", help="Send it by this route of the settings.")] = "",
    reset: Annotated[bool, typer.Option("--reset", help="Send it where the settings say.")] = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Send mail another way, and try it now."""
    from posthouse.queue import operating

    if bool(to) + bool(route) + reset != 1:
        raise Permanent("say where it goes: --to HOST[:PORT], --route NAME, or --reset for where the settings say")
    known = [one.name for one in opening.settings(context.obj).route]
    _act(context.obj, "reroute", selection, yes, as_json, operating.route(to=to, name=route, known=known))


_DONE = {
    "retry": "due now",
    "hold": "held",
    "release": "released",
    "drop": "dropped",
    "reroute": "sent another way",
}
_WILL = {"retry": "Retry", "hold": "Hold", "release": "Release", "drop": "Drop", "reroute": "Reroute"}


def _act(options: output.Options, do: str, selection: Selection, yes: bool, as_json: bool, route: str = "") -> None:
    from posthouse.base.clock import SystemClock
    from posthouse.queue import operating

    chosen = selection.required(do)

    async def work(database: "Database") -> "tuple[Counts, Changed, list[Pause]]":
        clock = SystemClock()
        found = await operating.count(database, clock, chosen)
        if found.recipients and (do == "drop" or selection.everything):
            confirm(_WILL[do], found, yes)
        changed = await _with_progress(options, database, do, chosen, found, route)
        return found, changed, await database.read(operating.current, clock.now())

    found, changed, paused = opening.using(opening.settings(options), work)
    running = opening.tell(opening.settings(options).data, "queue")
    facts = {"recipients": changed.recipients, "messages": changed.messages, "running": running}
    output.done(options, as_json, _said(do, found, changed, paused, running), **facts)


async def _with_progress(
    options: output.Options, database: "Database", do: str, chosen: "Filter", found: "Counts", route: str
) -> "Changed":
    from posthouse.base.clock import SystemClock
    from posthouse.queue import operating
    from posthouse.store.outbox_admin import SLICE

    clock = SystemClock()
    screen = output.console(options, stderr=True)
    if found.recipients <= SLICE or not screen.is_terminal:
        return await operating.act(database, clock, do, chosen, route=route)
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=screen, transient=True) as progress:
        bar = progress.add_task(_WILL[do], total=found.recipients)
        return await operating.act(
            database, clock, do, chosen, route=route, told=lambda so_far: progress.update(bar, completed=so_far.seen)
        )


def _said(do: str, found: "Counts", changed: "Changed", paused: "list[Pause]", running: bool) -> str:
    """What an action did, and what it did not, as sentences."""
    from posthouse.cli.queue_tables import about_pauses

    if not found.recipients:
        return NOTHING
    sentences = [
        f"{plural(changed.recipients, 'recipient')} of {plural(changed.messages, 'message')} "
        f"{'is' if changed.recipients == 1 else 'are'} {_DONE[do]}."
        if changed.recipients
        else "Nothing was changed."
    ]
    if do == "retry" and found.due:
        sentences.append(f"{found.due:,} {_were(found.due)} due already.")
    if do == "retry" and (later := found.waiting - changed.recipients) > 0:
        wait = "waits" if later == 1 else "wait"
        sentences.append(f"{later:,} {wait} for a time that the sender chose: only `retry ID` lets such mail go early.")
    if do == "release" and not found.held:
        sentences.append("None of it was held.")
    if found.claimed and do != "release":
        sentences.append(f"{found.claimed:,} {_were(found.claimed)} being tried and {_were(found.claimed)} left alone.")
    if found.held and do in ("retry", "reroute"):
        sentences.append(f"{found.held:,} stay{'s' if found.held == 1 else ''} held until `posthouse queue release`.")
    if do in ("retry", "release", "reroute"):
        if paused:
            sentences.append(about_pauses(paused))
        if changed.recipients and not running:
            sentences.append("They are tried as soon as the server runs.")
    return " ".join(sentences)


def _were(number: int) -> str:
    return "was" if number == 1 else "were"


# Destinations


@app.command()
def pause(
    context: typer.Context,
    domain: Annotated[
        str,
        typer.Argument(help='A domain, "*.example.org" for all below it, or "*" for everything.', show_default=False),
    ] = "",
    duration: Annotated[
        str, typer.Option("--for", metavar="TIME", help="For so long: 2h. Default: until resumed.")
    ] = "",
    reason: Annotated[str, typer.Option("--reason", help="Why, for the others.")] = "",
    list_pauses: Annotated[bool, typer.Option("--list", help="List what is paused.")] = False,
    as_json: Json = False,
) -> None:
    """Stop sending to a domain: its mail stays queued."""
    from posthouse.base.clock import SystemClock
    from posthouse.cli.queue_options import _span
    from posthouse.queue import operating
    from posthouse.servers.queue_admin import pause_json

    now = SystemClock().now()
    if list_pauses:
        _list_pauses(context.obj, now, as_json)
        return
    if not domain:
        raise Permanent("say what to pause: a domain, or '*' for everything; --list shows what is paused")
    seconds = _span(duration) if duration else 0.0
    paused = opening.using(
        opening.settings(context.obj), lambda db: db.write(operating.pause, domain, now, seconds, reason)
    )
    opening.tell(opening.settings(context.obj).data, "queue")
    until = (
        f"until {output.when(paused.until)} UTC"
        if paused.until
        else f"until `posthouse queue resume '{paused.destination}'`"
    )
    name = "Everything" if paused.destination == "*" else paused.destination
    output.done(context.obj, as_json, f"{name} is paused {until}.", **pause_json(paused))


def _list_pauses(options: output.Options, now: int, as_json: bool) -> None:
    from posthouse.queue import operating
    from posthouse.servers.queue_admin import pause_json

    found = opening.read(options, operating.current, now)
    if as_json:
        print(json.dumps([pause_json(one) for one in found]))
        return
    rows = [
        (
            one.destination,
            output.when(one.since),
            output.when(one.until) if one.until else "resumed",
            one.reason,
        )
        for one in found
    ]
    output.show(options, False, ("Destination", "Since", "Until", "Reason"), rows, "Nothing is paused.", ("Reason",))


@app.command()
def resume(
    context: typer.Context,
    domain: Annotated[str, typer.Argument(help="What was paused, as `pause --list` shows it.")],
    as_json: Json = False,
) -> None:
    """Send to a paused domain again."""
    from posthouse.queue import operating

    name = opening.using(opening.settings(context.obj), lambda db: db.write(operating.resume, domain))
    opening.tell(opening.settings(context.obj).data, "queue")
    shown = "Everything" if name == "*" else name
    output.done(context.obj, as_json, f"{shown} is not paused any more.", destination=name)


# This node


@app.command()
def drain(
    context: typer.Context,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until nothing is being sent.")] = True,
    as_json: Json = False,
) -> None:
    """Let the running server finish what it is sending and begin nothing more, before it is stopped for example."""
    answer = _ask(context.obj, "queue.drain", wait=0)
    try:
        while wait and not answer["drained"]:
            answer = _ask(context.obj, "queue.drain", patience=40.0, wait=30)
    except KeyboardInterrupt:
        wait = False
    text = (
        "Nothing is being sent, and nothing will be until `posthouse queue undrain` or a restart."
        if answer["drained"]
        else "The server finishes what it is sending and begins nothing more until `posthouse queue undrain`."
    )
    output.done(context.obj, as_json, text, drained=answer["drained"])


@app.command()
def undrain(context: typer.Context, as_json: Json = False) -> None:
    """Let the running server send again."""
    _ask(context.obj, "queue.undrain")
    output.done(context.obj, as_json, "The server sends again.")


def _ask(options: output.Options, what: str, patience: float = 10.0, **arguments: Any) -> dict[str, Any]:
    """The answer of the running server, which is needed."""
    data = opening.settings(options).data
    answer = opening.ask(data, what, patience, **arguments)
    if answer is None:
        raise NotFound(f"no server answers on {data.resolve()}: this is about a running one (posthouse serve)")
    if not answer.get("ok"):
        raise Permanent(f"the server says: {answer.get('error', 'nothing')}")
    return answer

"""`posthouse index`: how far the search index is, and make it anew."""

import asyncio
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from posthouse.base.errors import Permanent
from posthouse.cli import opening, output

if TYPE_CHECKING:
    from posthouse.base.settings import Settings
    from posthouse.store.database import Database

app = typer.Typer(help="The search index: what messages say, for SEARCH.", no_args_is_help=True)
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def status(context: typer.Context, as_json: Json = False) -> None:
    """Say how many messages are in the index, how many wait, and how large it is."""
    settings = opening.settings(context.obj)
    found = _asked(settings) or opening.using(settings, _status)
    rows = [(found["messages"], found["waiting"], _size(found["octets"]))]
    if as_json:
        output.done(context.obj, True, "", **found)
        return
    output.show(context.obj, False, ("Messages", "Waiting", "Size"), rows, "")


@app.command()
def rebuild(context: typer.Context, as_json: Json = False) -> None:
    """Make the index anew. Searches work meanwhile; they read what is not in it yet."""
    settings = opening.settings(context.obj)
    answer = opening.ask(settings.data, "index.rebuild")
    if answer is not None and not answer.get("ok"):
        raise Permanent(f"the server did not rebuild its search index: {answer.get('error')}")
    with _progress(context.obj, as_json) as progress:
        task = progress.add_task("Indexing", total=None)
        if answer is None:
            opening.using(settings, lambda database: _rebuild(database, progress, task))
        else:
            while (found := _asked(settings)) is not None and found["waiting"]:
                progress.update(task, total=found["last"], completed=found["position"])
                time.sleep(0.5)
    found = _asked(settings) or opening.using(settings, _status)
    text = f"The search index has {found['messages']} messages, {_size(found['octets'])}."
    output.done(context.obj, as_json, text, **found)


def _progress(options: output.Options, as_json: bool) -> Any:
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    screen = output.console(options, stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    return Progress(*columns, console=screen, disable=as_json or not screen.is_terminal)


def _asked(settings: "Settings") -> dict[str, Any] | None:
    """What the running server says of its index; None if none is running, or it has none."""
    answer = opening.ask(settings.data, "index")
    if answer is None or not answer.pop("ok", False):
        return None
    return _with_waiting(answer)


def _with_waiting(found: dict[str, Any]) -> dict[str, Any]:
    # Ids of messages that are gone were never given again: the span of ids is what is left to go through, at most.
    return {**found, "waiting": max(0, found["last"] - found["position"])}


async def _status(database: "Database") -> dict[str, Any]:
    from posthouse.store.index import documents
    from posthouse.store.index.file import Index

    index = await Index.open(database, documents.version())
    try:
        return _with_waiting((await index.status())._asdict())
    finally:
        await index.close()


async def _rebuild(database: "Database", progress: Any, task: Any) -> None:
    from posthouse.base.clock import SystemClock
    from posthouse.base.log import get_logger
    from posthouse.servers.indexing import Indexing
    from posthouse.store.index import documents
    from posthouse.store.index.file import Index

    index = await Index.open(database, documents.version())
    try:
        reader = documents.Documents() if documents.available() else None
        await index.reset()
        last = (await index.status()).last
        indexing = Indexing(database, index, SystemClock(), get_logger(), asyncio.Semaphore(), reader)
        await indexing.catch_up(lambda at: progress.update(task, total=last, completed=at))
        await indexing.close()
    finally:
        await index.close()


def _size(octets: int) -> str:
    return f"{octets / 1048576:.1f} MiB" if octets >= 1048576 else f"{octets / 1024:.0f} KiB"

"""`posthouse serve`: the server, until Ctrl-C or SIGTERM; then it drains and ends with 0."""

import asyncio
import contextlib
import fcntl
import gc
import json
import os
import resource
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from posthouse.base.errors import Permanent
from posthouse.cli import opening, output

if TYPE_CHECKING:
    from posthouse.app import App
    from posthouse.base.settings import Settings


def serve(
    context: typer.Context,
    config_file: Annotated[
        Path | None, typer.Option("--config", "-c", help="The configuration file.", show_default=False)
    ] = None,
) -> None:
    """Run the mail server of the configuration file."""
    settings = opening.settings(context.obj._replace(config=config_file or context.obj.config))
    setup_log(settings, context.obj)

    async def ready(app: "App") -> bool:
        if not sys.stdout.isatty():
            print(json.dumps({"ports": app.ports, "listen": app.listening, "pid": os.getpid()}), flush=True)
        return True

    run(settings, ready)


def setup_log(settings: "Settings", options: output.Options) -> None:
    """The log as the settings want it; colours only for people."""
    from posthouse.base import log

    log.configure(settings.log.format, settings.log.level, colour=output.coloured(options.no_color))


def run(
    settings: "Settings",
    ready: "Callable[[App], Awaitable[bool]]",
    captured: "Callable[[dict[str, object]], None] | None" = None,
) -> None:
    """Serve until a signal says stop. `ready` is called once every port listens; its False stops at once."""
    import uvloop

    from posthouse.app import App

    async def main() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        # SIGHUP: the terminal was closed, or somebody hopes for new settings. Those are read at the start alone.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, stop.set)
        async with App(settings, captured=captured) as app:
            stopped = loop.create_task(stop.wait())
            started = loop.create_task(_awaited(ready(app)))
            await asyncio.wait((started, stopped), return_when=asyncio.FIRST_COMPLETED)
            if started.done():
                if started.result():
                    _spare_collections()
                    await app.run(stop)
            else:
                started.cancel()
                await asyncio.wait((started,))
            stopped.cancel()

    _allow_many_files()
    with _only_server(settings.data), contextlib.suppress(KeyboardInterrupt):
        uvloop.run(main())


def _spare_collections() -> None:
    """What is there after the start stays: the collector of cycles need not look at it again and again, and
    connections and messages make next to no cycles."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)


def _allow_many_files() -> None:
    """A connection is a file: shells often allow 1,024 of them and as many more as one asks for."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def _awaited(going: Awaitable[bool]) -> bool:
    return await going


@contextlib.contextmanager
def _only_server(data: Path) -> Iterator[None]:
    """Two servers on one data folder would each deliver the queue: the second is refused. The lock is the
    system's, so none is left behind by a server that was killed."""
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = open(data / "serving", "a+", encoding="ascii")  # noqa: SIM115 - open as long as the server is
    except OSError as error:
        raise Permanent(
            f"the data folder {data} cannot be used: {error.strerror}. "
            "Make it, owned by the user that runs Posthouse, or change `data` in the configuration."
        ) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            pid = file.read(20).strip()
            raise Permanent(
                f"a server works on {data.resolve()} already{f' (process {pid})' if pid else ''}. "
                "Stop that one first, or give this one another `data` folder."
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield

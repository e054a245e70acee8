"""`posthouse serve`: the server, until Ctrl-C or SIGTERM; then it drains and ends with 0."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import typer

from posthouse.cli import opening

if TYPE_CHECKING:
    from posthouse.app import App
    from posthouse.base.settings import Settings


def serve(context: typer.Context) -> None:
    """Run the mail server of the configuration file."""
    settings = opening.settings(context.obj)
    setup_log(settings)

    def ready(app: "App") -> None:
        if not sys.stdout.isatty():
            print(json.dumps({"ports": app.ports, "pid": os.getpid()}), flush=True)

    run(settings, ready)


def setup_log(settings: "Settings") -> None:
    """The log as the settings want it; colours only for people."""
    from posthouse.base import log

    colour = sys.stderr.isatty() and not os.environ.get("NO_COLOR")
    log.configure(settings.log.format, settings.log.level, colour=colour)


def run(settings: "Settings", ready: "Callable[[App], None]") -> None:
    """Serve until a signal says stop; `ready` is called once every port listens."""
    import uvloop

    from posthouse.app import App

    async def main() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        async with App(settings) as app:
            ready(app)
            await app.run(stop)

    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(main())

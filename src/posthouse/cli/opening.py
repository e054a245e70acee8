"""What commands share: the settings, the store, and a word to the running server.

Commands open the database themselves, so they work whether the server runs or not; afterwards the server, if it
runs, is told to forget what it remembers.
"""

import asyncio
import json
import os
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from posthouse.cli.output import Options

if TYPE_CHECKING:
    from posthouse.base.settings import Settings
    from posthouse.store.database import Database, Tx

P = ParamSpec("P")
T = TypeVar("T")


def settings(options: Options) -> "Settings":
    """The settings of the configuration file that the options name."""
    from posthouse import config

    return config.load(config.find(options.config))


def read(options: Options, fn: "Callable[Concatenate[Tx, P], T]", /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a storage function on the store, reading only."""
    return using(settings(options), lambda database: database.read(fn, *args, **kwargs))


def write(options: Options, fn: "Callable[Concatenate[Tx, P], T]", /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a storage function on the store in one transaction, then tell the server."""
    chosen = settings(options)
    result = using(chosen, lambda database: database.write(fn, *args, **kwargs))
    tell(chosen.data, "refresh")
    return result


def using(chosen: "Settings", work: "Callable[[Database], Awaitable[T]]") -> T:
    """Run what needs the store more than once."""
    from posthouse.base.clock import SystemClock
    from posthouse.base.settings import storage_key
    from posthouse.store.sqlite import SqliteDatabase

    async def run() -> T:
        database = await SqliteDatabase.open(
            chosen.data, SystemClock().now(), storage_key(chosen.storage), chosen.storage.inline_max
        )
        try:
            return await work(database)
        finally:
            await database.close()

    return asyncio.run(run())


def tell(data: Path, what: str) -> bool:
    """Ask the running server for an action; False if none is running."""
    answer = ask(data, what)
    return answer is not None and bool(answer.get("ok"))


def ask(data: Path, what: str, patience: float = 5.0, **arguments: Any) -> dict[str, Any] | None:
    """What the running server answers to an action (docs/admin-socket.md); None if none is running."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.settimeout(patience)
            folder = os.open(data, os.O_PATH | os.O_DIRECTORY)
            try:
                # A Unix socket's path holds at most 107 bytes; through the descriptor the folder may be any.
                client.connect(f"/proc/self/fd/{folder}/admin.sock")
            finally:
                os.close(folder)
            client.sendall(json.dumps({"do": what, **arguments}).encode() + b"\n")
            with client.makefile("rb") as answers:
                answer = json.loads(answers.readline() or b"null")
    except (OSError, ValueError):
        return None
    return answer if isinstance(answer, dict) else None

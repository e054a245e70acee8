"""What commands share: the settings, the store, and a word to the running server.

Commands open the database themselves, so they work whether the server runs or not; afterwards the server, if it
runs, is told to forget what it remembers.
"""

import asyncio
import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from posthouse.cli.output import Options

if TYPE_CHECKING:
    from posthouse.base.settings import Settings
    from posthouse.store.database import Tx

P = ParamSpec("P")
T = TypeVar("T")


def settings(options: Options) -> "Settings":
    """The settings of the configuration file that the options name."""
    from posthouse import config

    return config.load(config.find(options.config))


def read(options: Options, fn: "Callable[Concatenate[Tx, P], T]", /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a storage function on the store, reading only."""
    return _with_store(settings(options), False, lambda tx: fn(tx, *args, **kwargs))


def write(options: Options, fn: "Callable[Concatenate[Tx, P], T]", /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a storage function on the store in one transaction, then tell the server."""
    chosen = settings(options)
    result = _with_store(chosen, True, lambda tx: fn(tx, *args, **kwargs))
    tell(chosen.data, "refresh")
    return result


def _with_store(chosen: "Settings", writing: bool, work: "Callable[[Tx], T]") -> T:
    from posthouse.base.clock import SystemClock
    from posthouse.base.settings import storage_key
    from posthouse.store.sqlite import SqliteDatabase

    async def run() -> T:
        database = await SqliteDatabase.open(
            chosen.data, SystemClock().now(), storage_key(chosen.storage), chosen.storage.inline_max
        )
        try:
            return await (database.write(work) if writing else database.read(work))
        finally:
            await database.close()

    return asyncio.run(run())


def tell(data: Path, what: str) -> bool:
    """Ask the running server for an action; False if none is running."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(5)
        try:
            client.connect(_short(data / "admin.sock"))
            client.sendall(json.dumps({"do": what}).encode() + b"\n")
            answer: dict[str, Any] = json.loads(client.makefile("rb").readline() or b"{}")
        except (OSError, ValueError):
            return False
    return bool(answer.get("ok"))


def _short(path: Path) -> str:
    """A Unix socket's path holds 107 bytes; a long one is reached from the current folder if that is shorter."""
    text = str(path.resolve())
    if len(text.encode()) < 107:
        return text
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return text

"""A process of its own that fills the search index while many messages wait for it: `python -m …index_helper`.

What makes texts of messages holds the interpreter, and everybody else would wait for it: so a backlog is no work for
the server's own process. The helper opens the store as every command does, fills the index until nothing waits, and
ends. It runs with the lowest priority, takes what processor nobody else wants, and goes with the server.

    request = one line of JSON: folder, secret (hex, or null), inline_max, version (of the index)
    answer  = a line with the last email in the index after each write

A helper that fails is no harm: the server goes on by itself.
"""

import asyncio
import contextlib
import json
import os
import sys
import threading
from pathlib import Path

from posthouse.base.clock import SystemClock
from posthouse.base.log import get_logger
from posthouse.servers.indexing import Indexing
from posthouse.store.index import documents
from posthouse.store.index.file import Index
from posthouse.store.sqlite import SqliteDatabase

NICE = 19
GIVEN_UP = 60.0  # seconds without a word


class Helper:
    """The server's side."""

    def __init__(self, folder: Path, secret: bytes | None, inline_max: int) -> None:
        self._request = {
            "folder": str(folder),
            "secret": None if secret is None else secret.hex(),
            "inline_max": inline_max,
            "version": documents.version(),
        }

    async def __call__(self) -> None:
        """Fill the index until nothing waits, or it fails. Cancelled, the helper ends."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-I",
            "-m",
            "posthouse.servers.index_helper",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env={},
        )
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps(self._request).encode() + b"\n")
            while True:
                async with asyncio.timeout(GIVEN_UP):
                    if not await process.stdout.readline():
                        break
        except (TimeoutError, OSError, ValueError) as error:
            get_logger().info("index.incomplete", error=repr(error))
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


def main() -> None:
    """The helper's side."""
    os.nice(NICE)
    request = json.loads(sys.stdin.buffer.readline())
    threading.Thread(target=_go_with_the_server, daemon=True).start()
    asyncio.run(_fill(request))


def _go_with_the_server() -> None:
    sys.stdin.buffer.read()
    os._exit(1)


async def _fill(request: dict[str, object]) -> None:
    if request["version"] != documents.version():  # it would make the index anew
        return
    secret = None if request["secret"] is None else bytes.fromhex(str(request["secret"]))
    clock = SystemClock()
    database = await SqliteDatabase.open(
        Path(str(request["folder"])), clock.now(), secret, int(str(request["inline_max"]))
    )
    index = await Index.open(database, documents.version())
    reader = documents.Documents() if documents.available() else None
    await Indexing(database, index, clock, get_logger(), documents=reader, pause=0.0).catch_up(_tell)
    os._exit(0)  # nothing is to be closed: SQLite moved what it wrote, and the server has the files open


def _tell(position: int) -> None:
    sys.stdout.write(f"{position}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()

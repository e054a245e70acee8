"""The admin socket: a Unix socket in the data folder by which commands tell the running server what they did.

One JSON line in, {"do": "refresh"}, one JSON line out, {"ok": true} or {"ok": false, "error": "…"}. Who may
open it is a matter of file permissions (0600), so it works whatever happens to accounts and passwords.
"""

import asyncio
import contextlib
import json
import os
import socket
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

MAX_LINE = 65536
PATIENCE = 10.0


class AdminSocket:
    """Listens on `path`; `actions` are the things one may ask for."""

    def __init__(self, path: Path, actions: Mapping[str, Callable[[], Awaitable[None] | None]]) -> None:
        self._path = path
        self._actions = actions
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        """Start to listen. A socket left by a dead server is replaced."""
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        directory = os.open(self._path.parent, os.O_PATH | os.O_DIRECTORY)
        try:
            # A Unix socket's path holds at most 107 bytes; through the descriptor the folder may be any.
            name = f"/proc/self/fd/{directory}/{self._path.name}"
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name)
            old = os.umask(0o177)
            try:
                listening.bind(name)
            finally:
                os.umask(old)
        finally:
            os.close(directory)
        self._server = await asyncio.start_unix_server(self._serve, sock=listening, limit=MAX_LINE)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                line = await reader.readline()
            writer.write(json.dumps(await self._answer(line)).encode() + b"\n")
            await writer.drain()
        except (OSError, ValueError):
            pass
        finally:
            writer.close()

    async def _answer(self, line: bytes) -> dict[str, object]:
        try:
            wanted = json.loads(line)["do"]
            action = self._actions[wanted]
        except (ValueError, KeyError, TypeError):
            return {"ok": False, "error": f"unknown request; known are {', '.join(self._actions)}"}
        waited = action()
        if waited is not None:
            await waited
        return {"ok": True}

    async def close(self) -> None:
        """Stop listening and remove the socket."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
        self._path.unlink(missing_ok=True)

"""The admin socket: a Unix socket in the data folder by which commands and programs ask the running server.

One JSON line in, {"do": NAME, ...arguments}, one JSON line out, {"ok": true, ...} or {"ok": false, "error": "..."};
then the connection is closed. Who may open it is a matter of file permissions (0600), so it works whatever happens
to accounts and passwords. This is the transport: what can be asked for is a table of `Action`s, of which
`servers/queue_admin.py` has most. docs/admin-socket.md is for people who write programs.

Lines, connections and time are bounded; who is slow is cut. A wrong request is answered with what would be right.
"""

import asyncio
import contextlib
import inspect
import json
import os
import socket
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from posthouse.base.errors import PosthouseError
from posthouse.base.log import Logger, get_logger

MAX_LINE = 65536  # octets of a request
MAX_CONNECTIONS = 16  # at one time
PATIENCE = 10.0  # seconds for a request to come, and for its answer to be taken


class Parameter(NamedTuple):
    """One argument of an action: `read` makes a value of what JSON gave; its ValueError says what would be right."""

    read: Callable[[Any], Any]
    needed: bool = False


class Action(NamedTuple):
    """Something that one may ask for. Its result goes into the answer."""

    run: Callable[..., Awaitable[Mapping[str, Any] | None] | Mapping[str, Any] | None]
    parameters: Mapping[str, Parameter] = {}


class AdminSocket:
    """Listens on `path`; `actions` are the things one may ask for."""

    def __init__(
        self,
        path: Path,
        actions: Mapping[str, Action],
        log: Logger | None = None,
        *,
        patience: float = PATIENCE,
        connections: int = MAX_CONNECTIONS,
    ) -> None:
        self._path = path
        self._actions = actions
        self._log = log or get_logger()
        self._patience = patience
        self._most = connections
        self._tasks: set[asyncio.Task[Any]] = set()
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
        task = asyncio.current_task()
        assert task is not None
        if len(self._tasks) >= 4 * self._most:
            writer.transport.abort()
            return
        self._tasks.add(task)
        writer.transport.set_write_buffer_limits(0)  # so that drain() means: taken
        try:
            answer = await self._asked(reader)
            async with asyncio.timeout(self._patience):
                writer.write(json.dumps(answer, ensure_ascii=False, default=str).encode("utf-8", "replace") + b"\n")
                await writer.drain()
            writer.close()
        except (OSError, TimeoutError):
            writer.transport.abort()
        finally:
            writer.transport.close()
            self._tasks.discard(task)

    async def _asked(self, reader: asyncio.StreamReader) -> Mapping[str, Any]:
        busy = len(self._tasks) > self._most
        try:
            # What a client sent is read even if it is refused: else it would see a reset, and no reason.
            async with asyncio.timeout(self._patience):
                line = await _line(reader)
        except TimeoutError:
            return _refused(f"no request came within {self._patience:g} seconds")
        if busy:
            return _refused(f"{self._most} requests are being answered: try again when one is done")
        if line is None:
            return _refused(f"a request has at most {MAX_LINE} octets")
        return await self._answer(line)

    async def _answer(self, line: bytes) -> Mapping[str, Any]:
        try:
            wanted = json.loads(line)
        except (ValueError, RecursionError):
            return _refused('this is no JSON; write one line like {"do": "queue.counts"}')
        if not isinstance(wanted, dict) or not isinstance(wanted.get("do"), str):
            return _refused('say what to do: one line like {"do": "queue.counts"}')
        name = wanted.pop("do")
        action = self._actions.get(name)
        if action is None:
            return _refused(f"{name[:60]!r} is not known; known are {', '.join(sorted(self._actions))}")
        try:
            arguments = _arguments(name, action.parameters, wanted)
        except ValueError as error:
            return _refused(str(error))
        try:
            result = action.run(**arguments)
            return {"ok": True, **((await result if inspect.isawaitable(result) else result) or {})}
        except PosthouseError as error:
            return _refused(str(error))
        except Exception as error:
            self._log.error("server.failed", what="admin socket", action=name, error=repr(error))
            return _refused(f"{name} failed: {type(error).__name__}; the log says more")

    async def close(self) -> None:
        """Stop listening and remove the socket; requests at hand are answered or, when time is up, cut."""
        if self._server is not None:
            self._server.close()
            if self._tasks:
                await asyncio.wait(set(self._tasks), timeout=1.0)
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
        self._path.unlink(missing_ok=True)


async def _line(reader: asyncio.StreamReader) -> bytes | None:
    """One line; None if it is longer than it may be. Then so much is passed over that its sender hears of it."""
    try:
        return await reader.readuntil(b"\n")
    except asyncio.IncompleteReadError as error:
        return error.partial
    except asyncio.LimitOverrunError:
        left = 16 * MAX_LINE
        while left > 0 and (data := await reader.read(MAX_LINE)) and b"\n" not in data:
            left -= len(data)
        return None


def _arguments(name: str, known: Mapping[str, Parameter], given: Mapping[str, Any]) -> dict[str, Any]:
    unknown = sorted(set(given) - set(known))
    if unknown:
        takes = f"it takes {', '.join(known)}" if known else "it takes no arguments"
        raise ValueError(f"{name} does not know {unknown[0][:60]!r}; {takes}")
    missing = [argument for argument, parameter in known.items() if parameter.needed and argument not in given]
    if missing:
        raise ValueError(f"{name} needs {missing[0]!r}; it takes {', '.join(known)}")
    values = {}
    for argument, value in given.items():
        try:
            values[argument] = known[argument].read(value)
        except ValueError as error:
            raise ValueError(f"{name}: {argument}: {error}") from None
    return values


def _refused(error: str) -> dict[str, Any]:
    return {"ok": False, "error": error}


# Readers of arguments


def number(least: int, most: int) -> Callable[[Any], int]:
    """A whole number within bounds."""

    def read(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise ValueError(f"write a whole number from {least} to {most}")
        return value

    return read


def text(most: int, *choices: str) -> Callable[[Any], str]:
    """A text of bounded length, or one of the choices."""

    def read(value: Any) -> str:
        if choices and value not in choices:
            raise ValueError(f"write one of {', '.join(choices)}")
        if not isinstance(value, str) or len(value) > most:
            raise ValueError(f"write a text of at most {most} characters")
        if any("\ud800" <= letter <= "\udfff" for letter in value):  # half of a character: no database takes it
            raise ValueError("write whole characters")
        return value

    return read


def truth(value: Any) -> bool:
    """true or false."""
    if not isinstance(value, bool):
        raise ValueError("write true or false")
    return value

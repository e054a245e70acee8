"""A web server on loopback that programs are posted to: it does what the test says, and remembers what came.

`answers` is what the next requests get: (status, content type, body), or DROP (the connection is cut before an answer),
TRICKLE (a header that never ends). The last one repeats; without any it says 200.
"""

import asyncio
import ssl
from types import TracebackType
from typing import NamedTuple, Self

DROP, TRICKLE = "DROP", "TRICKLE"
Answer = tuple[int, str, bytes] | str


class Request(NamedTuple):
    """One request."""

    method: str
    path: str
    headers: dict[str, str]  # names in lower case
    body: bytes


class WebServer:
    """Use it as `async with WebServer() as web`; `web.url` is where it listens."""

    def __init__(self, *answers: Answer, tls: ssl.SSLContext | None = None) -> None:
        self.answers = list(answers)
        self.requests: list[Request] = []
        self.open = 0
        self.most_open = 0
        self.gate: asyncio.Event | None = None  # if set, every answer waits for it
        self._changed = asyncio.Event()
        self._tls = tls
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        scheme = "https://localhost" if self._tls else "http://127.0.0.1"
        return f"{scheme}:{self._server.sockets[0].getsockname()[1]}/mail?key=hidden"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=1 << 24, ssl=self._tls)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def wait_for(self, count: int) -> None:
        """Return once so many requests have come."""
        while len(self.requests) < count:
            self._changed.clear()
            await self._changed.wait()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("ascii").split("\r\n")
            method, path, _ = head[0].split(" ")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
            body = await reader.readexactly(int(headers.get("content-length", "0")))
            self.requests.append(Request(method, path, headers, body))
            self._changed.set()
            if self.gate is not None:
                await self.gate.wait()
            await self._answer(writer)
        except (OSError, EOFError, asyncio.CancelledError):
            pass
        finally:
            self.open -= 1
            self._tasks.discard(task)
            writer.close()

    async def _answer(self, writer: asyncio.StreamWriter) -> None:
        answer: Answer = (200, "text/plain", b"")
        if self.answers:
            answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if answer == DROP:
            writer.transport.abort()
        elif isinstance(answer, str):
            writer.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
            await asyncio.get_running_loop().create_future()
        else:
            status, kind, body = answer
            where = "Location: /elsewhere\r\n" if status // 100 == 3 else ""
            head = f"HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\n{where}Content-Length: {len(body)}\r\n\r\n"
            writer.write(head.encode() + body)
            await writer.drain()

"""The far side of webhooks: an HTTP server on loopback that keeps what it is told and answers as a test wants.

`answer` is asked for each request, by number from 0: a status, or (status, header fields, body), or an Event: it is
waited for, and then the answer is 200. `await receiver.got(3)` returns once three requests have come in whole.
"""

import asyncio
import http.server
import json
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

Answer = int | tuple[int, dict[str, str], bytes] | threading.Event


class Request(NamedTuple):
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        read: dict[str, Any] = json.loads(self.body)
        return read


class Receiver:
    def __init__(self, answer: Callable[[int], Answer]) -> None:
        self.requests: list[Request] = []
        self.answer = answer
        self.open = 0  # requests that are not answered yet
        self.most_open = 0
        self.url = ""
        self._lock = threading.Lock()
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Condition()

    def take(self, request: Request) -> Answer:
        with self._lock:
            number = len(self.requests)
            self.requests.append(request)
            self.open += 1
            self.most_open = max(self.most_open, self.open)
        self._loop.call_soon_threadsafe(lambda: self._loop.create_task(self._tell()))
        return self.answer(number)

    def answered(self) -> None:
        with self._lock:
            self.open -= 1

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def got(self, count: int) -> list[Request]:
        async with self._changed:
            await self._changed.wait_for(lambda: len(self.requests) >= count)
        return self.requests


@asynccontextmanager
async def receiving(answer: Callable[[int], Answer] | Answer = 200) -> AsyncIterator[Receiver]:
    receiver = Receiver(answer if callable(answer) else lambda _: answer)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            answer = receiver.take(Request(self.path, dict(self.headers), body))
            if isinstance(answer, threading.Event):
                answer.wait(15)
                answer = 200
            # Before the other side can read it: what it does next is a new request.
            receiver.answered()
            status, fields, text = answer if isinstance(answer, tuple) else (answer, {}, b"")
            self.send_response(status)
            for name, value in fields.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: object) -> None:
            pass

    class Server(http.server.ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            pass  # callers that went away

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        receiver.url = f"http://127.0.0.1:{server.server_address[1]}/hook"
        try:
            yield receiver
        finally:
            server.shutdown()
            thread.join()

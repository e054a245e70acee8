"""The HTTP client: answers of every status, bounds, redirects, failures."""

import asyncio
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest

from posthouse.net import http
from posthouse.net.http import HttpFailed, Response, fetch
from tests.support.ports import free_port
from tests.support.webserver import TRICKLE, WebServer


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/elsewhere":
            self.send_response(302)
            self.send_header("Location", "/")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        body = b"x" * 1000 if self.path == "/long" else b"hello"
        self.send_response(404 if self.path == "/none" else 200)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(202)
        self.end_headers()
        self.wfile.write(self.headers["X-Test"].encode() + b" " + body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{running.server_address[1]}"
        running.shutdown()
        thread.join()


def test_answers(server: str) -> None:
    assert asyncio.run(fetch(server + "/")) == Response(200, "text/plain", b"hello")
    assert asyncio.run(fetch(server + "/none")) == Response(404, "text/plain", b"hello")
    assert asyncio.run(fetch(server + "/elsewhere")).status == 302
    posted = asyncio.run(fetch(server + "/", body=b"body", headers={"X-Test": "seen"}))
    assert (posted.status, posted.body) == (202, b"seen body")


def test_addresses_count_and_not_what_the_name_says_by_now(server: str) -> None:
    """Else a name may change after its addresses were looked at (DNS rebinding)."""
    port = server.rpartition(":")[2]
    url = f"http://no-such-name.invalid:{port}/"
    assert asyncio.run(fetch(url, addresses=["127.0.0.1"])).status == 200
    assert asyncio.run(fetch(url, addresses=["127.0.0.2", "127.0.0.1"])).status == 200
    with pytest.raises(HttpFailed):
        asyncio.run(fetch(server + "/", addresses=["127.0.0.2"]))


def test_what_is_no_answer(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(HttpFailed, match="more than 999 octets"):
        asyncio.run(fetch(server + "/long", most=999))
    times = iter((0.0, 31.0))
    monkeypatch.setattr(http, "time", SimpleNamespace(monotonic=lambda: next(times)))
    with pytest.raises(HttpFailed, match="takes longer than 30 s"):
        asyncio.run(fetch(server + "/"))
    monkeypatch.undo()
    with pytest.raises(HttpFailed, match=r"gives no answer: Connection refused$"):
        asyncio.run(fetch(f"http://127.0.0.1:{free_port()}/"))
    with pytest.raises(HttpFailed, match="not an address"):
        asyncio.run(fetch("file:///etc/passwd"))
    with pytest.raises(HttpFailed, match="gives no answer"):
        asyncio.run(fetch(server.replace("http:", "https:")))


def test_a_server_that_never_ends_is_cut_in_time() -> None:
    """However slowly its answer drips in: each octet would begin a new wait."""

    async def main() -> None:
        async with WebServer(TRICKLE) as web:
            for _ in range(3):
                with pytest.raises(HttpFailed, match=r"takes longer than 0\.05 s"):
                    await fetch(web.url, patience=0.05)
        async with WebServer(TRICKLE) as web:
            asked = asyncio.create_task(fetch(web.url))
            await web.wait_for(1)
            asked.cancel()  # who does not want the answer any more leaves no thread behind
            with pytest.raises(asyncio.CancelledError):
                await asked

    asyncio.run(main())

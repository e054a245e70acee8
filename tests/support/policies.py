"""The web server of a domain's MTA-STS policy, on loopback with a real certificate, and a fetcher that finds it.

`answers` maps a domain to what is there: a body, or (status, content type, body). The fetcher goes to it in place of
the address in the URL, and wants a certificate for the name in the URL all the same.
"""

import http.server
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from posthouse.net.http import Response, fetch
from tests.support import certificates

Answers = dict[str, bytes | tuple[int, str, bytes]]


def policy(mode: str = "enforce", mx: tuple[str, ...] = ("mx.a.test",), age: int = 86_400) -> bytes:
    """The text of a policy."""
    return "".join(
        ["version: STSv1\r\n", f"mode: {mode}\r\n", *(f"mx: {one}\r\n" for one in mx), f"max_age: {age}\r\n"]
    ).encode()


class _For(ssl.SSLContext):
    """A client context that takes whoever it speaks to for `name`."""

    name = ""

    def wrap_socket(self, *args: Any, **kwargs: Any) -> ssl.SSLSocket:
        return super().wrap_socket(*args, **kwargs | {"server_hostname": self.name})


class PolicyServer:
    """Call `fetch` with a URL. `asked` has the URLs."""

    def __init__(self, port: int, answers: Answers) -> None:
        self.port = port
        self.answers = answers
        self.asked: list[str] = []

    async def fetch(self, url: str) -> Response:
        """In place of `posthouse.queue.mta_sts.fetch_by_https`."""
        self.asked.append(url)
        parts = urlsplit(url)
        context = _For(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(certificates.root_file())
        context.name = parts.hostname or ""
        return await fetch(
            f"https://127.0.0.1:{self.port}{parts.path}", headers={"Host": parts.netloc}, context=context, most=65536
        )


@contextmanager
def serving(
    answers: Mapping[str, Any], *, name: str = "mta-sts.a.test", expired: bool = False
) -> Iterator[PolicyServer]:
    """A server with a certificate for `name`."""
    made: Answers = dict(answers)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            domain = self.headers["Host"].removeprefix("mta-sts.")
            found = made.get(domain) if self.path == "/.well-known/mta-sts.txt" else None
            status, kind, body = found if isinstance(found, tuple) else (200, "text/plain", found or b"")
            self.send_response(404 if found is None else status)
            if status in (301, 302):
                self.send_header("Location", "https://elsewhere.test/")
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    class Server(http.server.ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            pass  # clients that refuse the certificate

    with Server(("127.0.0.1", 0), Handler) as server:
        context = certificates.server_context(name, expired=expired)
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield PolicyServer(server.server_address[1], made)
        finally:
            server.shutdown()
            thread.join()

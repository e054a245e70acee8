"""Ask an HTTP server: one request, one bounded answer, redirects not followed.

`fetch` runs the standard library's client in a thread of its own small pool, so that a slow server holds nothing else
up. The answer is bounded in size and in time as a whole: the connection is cut when the time is over, whatever it is
busy with. A bad certificate, a refusal to connect and an answer that is
too long or too late are all `HttpFailed`. Statuses of 300 and more are answers like others: the caller judges them.
"""

import asyncio
import contextlib
import functools
import http.client
import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from posthouse import __version__
from posthouse.base.errors import Temporary

THREADS = 8
PIECE = 65536

_pool = ThreadPoolExecutor(THREADS, thread_name_prefix="http")


class HttpFailed(Temporary):
    """There was no usable answer; the text says why."""


class Response(NamedTuple):
    """An answer."""

    status: int
    content_type: str  # lower case, without parameters
    body: bytes


class _Guard:
    """The connections of one request, to cut them when its time is over."""

    def __init__(self, addresses: Sequence[str] = ()) -> None:
        self.over = False
        self._addresses = addresses
        self._sockets: list[socket.socket] = []

    def connect(self, server: tuple[str, int], *args: Any, **options: Any) -> socket.socket:
        """Connect as `socket.create_connection` does: to the addresses that were given, if some were."""
        failed: OSError | None = None
        for host in self._addresses or (server[0],):
            try:
                return socket.create_connection((host, server[1]), *args, **options)
            except OSError as error:
                failed = error
                if self.over:
                    break
        assert failed is not None
        raise failed

    def add(self, one: socket.socket) -> None:
        """Watch over a connection."""
        self._sockets.append(one)
        if self.over:
            self.cut()

    def cut(self) -> None:
        """End them, from another thread."""
        self.over = True
        for one in self._sockets:
            with contextlib.suppress(OSError):  # closed already
                socket.socket.shutdown(one, socket.SHUT_RDWR)  # not the TLS socket's own, which is not meant for this


class _Plain(http.client.HTTPConnection):
    def __init__(self, *args: Any, guard: _Guard, **options: Any) -> None:
        super().__init__(*args, **options)
        self._guard = guard
        self._create_connection = guard.connect

    def connect(self) -> None:
        super().connect()
        self._guard.add(self.sock)


class _Secure(http.client.HTTPSConnection):
    def __init__(self, *args: Any, guard: _Guard, **options: Any) -> None:
        super().__init__(*args, **options)
        self._guard = guard
        self._create_connection = guard.connect

    def connect(self) -> None:
        super().connect()
        self._guard.add(self.sock)


class _Handler(urllib.request.HTTPHandler, urllib.request.HTTPSHandler):
    def __init__(self, guard: _Guard, context: ssl.SSLContext | None) -> None:
        super().__init__()
        self._guard = guard
        self._tls = context

    def http_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(functools.partial(_Plain, guard=self._guard), request)

    def https_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        context = self._tls or ssl.create_default_context()
        return self.do_open(functools.partial(_Secure, guard=self._guard, context=context), request)


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        return None


async def fetch(
    url: str,
    *,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    context: ssl.SSLContext | None = None,
    patience: float = 30.0,
    most: int = 65536,
    threads: ThreadPoolExecutor = _pool,
    addresses: Sequence[str] = (),
) -> Response:
    """GET `url`, or POST `body` to it; at most `most` octets of answer in `patience` seconds.

    Only http and https. `threads` is for callers who may wait long for many. `addresses`
    are those to connect to, whatever the name of the server has in the DNS by now. Raises `HttpFailed`.
    """
    if not url.startswith(("https://", "http://")):
        raise HttpFailed(f"{url} is not an address of http or https")
    loop = asyncio.get_running_loop()
    guard = _Guard(addresses)
    timer = loop.call_later(patience, guard.cut)
    work = functools.partial(_fetch, guard, url, body, dict(headers or {}), context, patience, most)
    try:
        return await loop.run_in_executor(threads, work)
    except asyncio.CancelledError:
        guard.cut()
        raise
    finally:
        timer.cancel()


def _fetch(
    guard: _Guard,
    url: str,
    body: bytes | None,
    headers: dict[str, str],
    context: ssl.SSLContext | None,
    patience: float,
    most: int,
) -> Response:
    end = time.monotonic() + patience
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirects(), _Handler(guard, context))
    request = urllib.request.Request(url, body, {"User-Agent": f"Posthouse/{__version__}"} | headers)  # noqa: S310
    try:
        try:
            answer = opener.open(request, timeout=patience)
        except urllib.error.HTTPError as error:
            answer = error  # it is an answer too
        with answer:
            pieces, size = [], 0
            while piece := answer.read1(PIECE):
                pieces.append(piece)
                size += len(piece)
                if size > most:
                    raise HttpFailed(f"{url} answers with more than {most} octets")
                if time.monotonic() > end:
                    raise HttpFailed(f"{url} takes longer than {patience:g} s")
            if guard.over:  # the library takes a header that was cut for a whole one
                raise HttpFailed(f"{url} takes longer than {patience:g} s")
            content_type = answer.headers.get_content_type()
            return Response(answer.status or 0, content_type, b"".join(pieces))
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        if guard.over or isinstance(reason, TimeoutError):
            raise HttpFailed(f"{url} takes longer than {patience:g} s") from error
        if isinstance(reason, OSError) and reason.strerror and not isinstance(reason, ssl.SSLError):
            reason = reason.strerror  # without its number
        raise HttpFailed(f"{url} gives no answer: {reason}") from error

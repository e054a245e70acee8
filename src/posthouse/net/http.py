"""Ask an HTTP server: one request, one bounded answer, redirects not followed.

`fetch` runs the standard library's client in a thread of its own small pool, so that a slow server holds nothing else
up. The answer is bounded in size and in time as a whole; a bad certificate, a refusal to connect and an answer that is
too long or too late are all `HttpFailed`. Statuses of 300 and more are answers like others: the caller judges them.
"""

import asyncio
import functools
import http.client
import io
import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
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


class _Until(io.RawIOBase):
    """What a socket receives until a time, however small the pieces: its own timeout begins anew with each."""

    def __init__(self, raw: io.RawIOBase, sock: socket.socket, end: float) -> None:
        self._raw = raw
        self._sock = sock
        self._end = end

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        self._sock.settimeout(left)
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Answer(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, end: float, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp: Any = io.BufferedReader(_Until(self.fp.detach(), sock, end))


class _Http(urllib.request.HTTPHandler):
    def __init__(self, end: float) -> None:
        super().__init__()
        self._end = end

    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(functools.partial(_connection, http.client.HTTPConnection, self._end), req)


class _Https(urllib.request.HTTPSHandler):
    def __init__(self, context: ssl.SSLContext, end: float) -> None:
        super().__init__()
        self._trust = context
        self._end = end

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        kind = functools.partial(http.client.HTTPSConnection, context=self._trust)
        return self.do_open(functools.partial(_connection, kind, self._end), req)


def _connection(kind: Any, end: float, host: str, **options: Any) -> Any:
    connection = kind(host, **options)
    connection.response_class = functools.partial(_Answer, end=end)
    return connection


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
    pool: Executor = _pool,
) -> Response:
    """GET `url`, or POST `body` to it; at most `most` octets of answer in `patience` seconds. `pool`: threads of the
    caller's own, so that slow servers of one kind hold up nobody else's.

    Only http and https. Raises `HttpFailed`.
    """
    if not url.startswith(("https://", "http://")):
        raise HttpFailed(f"{url} is not an address of http or https")
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(pool, _fetch, url, body, dict(headers or {}), context, patience, most)


def _fetch(
    url: str, body: bytes | None, headers: dict[str, str], context: ssl.SSLContext | None, patience: float, most: int
) -> Response:
    end = time.monotonic() + patience
    handlers: list[urllib.request.BaseHandler] = [urllib.request.ProxyHandler({}), _NoRedirects(), _Http(end)]
    if url.startswith("https://"):
        handlers.append(_Https(context or ssl.create_default_context(), end))
    opener = urllib.request.build_opener(*handlers)
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
            content_type = answer.headers.get_content_type()
            return Response(answer.status or 0, content_type, b"".join(pieces))
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        if isinstance(reason, TimeoutError):
            raise HttpFailed(f"{url} takes longer than {patience:g} s") from error
        raise HttpFailed(f"{url} gives no answer: {reason}") from error

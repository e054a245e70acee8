"""Ask an HTTP server: one request, one bounded answer, redirects not followed.

`fetch` runs the standard library's client in a thread of its own small pool, so that a slow server holds nothing else
up. The answer is bounded in size and in time as a whole; a bad certificate, a refusal to connect and an answer that is
too long or too late are all `HttpFailed`. Statuses of 300 and more are answers like others: the caller judges them.
"""

import asyncio
import http.client
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

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
) -> Response:
    """GET `url`, or POST `body` to it; at most `most` octets of answer in `patience` seconds.

    Only http and https. Raises `HttpFailed`.
    """
    if not url.startswith(("https://", "http://")):
        raise HttpFailed(f"{url} is not an address of http or https")
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(_pool, _fetch, url, body, dict(headers or {}), context, patience, most)


def _fetch(
    url: str, body: bytes | None, headers: dict[str, str], context: ssl.SSLContext | None, patience: float, most: int
) -> Response:
    end = time.monotonic() + patience
    handlers: list[urllib.request.BaseHandler] = [urllib.request.ProxyHandler({}), _NoRedirects()]
    handlers.append(urllib.request.HTTPSHandler(context=context or ssl.create_default_context()))
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
                if time.monotonic() > end:
                    raise HttpFailed(f"{url} takes longer than {patience:g} s")
            content_type = answer.headers.get_content_type()
            return Response(answer.status or 0, content_type, b"".join(pieces))
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        raise HttpFailed(f"{url} gives no answer: {reason}") from error

"""Post a message to a program (docs/routes.md): the body is the message, the envelope is in header fields.

2yz statuses deliver it. 4yz ones refuse it for good, except 408, 425 and 429, which like everything else (5yz,
redirects, no answer) mean: later. The body is signed, so that the program knows who posts (`base/signatures.py`); the
same message may come twice, with the same id, as it may by SMTP.

A message is held in memory while it is posted: at most `LARGE_AT_ONCE` large ones at a time, others wait. The URL
never stands in a log, a trace or a report: it is often a secret itself.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from ssl import SSLContext
from urllib.parse import urlsplit

from posthouse.base import signatures
from posthouse.base.clock import Clock
from posthouse.net.http import HttpFailed, Response, fetch
from posthouse.net.tls import client_context
from posthouse.queue.outgoing import Outgoing
from posthouse.queue.remote import ATTEMPT_LIMIT
from posthouse.queue.results import DEFERRED, DELIVERED, FAILED, Contact, Report, Verdict
from posthouse.queue.routes import Target

PATIENCE = 60.0  # seconds for a post and its answer
MAX_ANSWER = 65536  # octets
MAX_WORDS = 200  # characters of the answer that are quoted
# Web servers take 8 KiB of header; what is longer goes in several posts.
MAX_ENVELOPE = 4096
LARGE = 1 << 20  # octets: a message above this is large
LARGE_AT_ONCE = 2
THREADS = 16  # posts on their way at one time, of all routes

SECOND = 1_000_000
_LATER = frozenset({408, 425, 429})  # RFC 9110 section 15.5.9, RFC 8470 section 5.2, RFC 6585 section 4
_TOO_FAST = frozenset({429, 503})


class WebhookTransport:
    """Posts messages."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._large = asyncio.Semaphore(LARGE_AT_ONCE)
        self._contexts: dict[Path | None, SSLContext] = {}
        # Threads start when they are needed. They are not those of other questions: slow programs must not delay them.
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="post")

    async def attempt(self, target: Target, outgoing: Outgoing, name: str) -> Report:
        """Post a message, to as many recipients at a time as fit into the header."""
        parts = urlsplit(target.url)
        host = parts.hostname or ""
        contact = Contact(host, "", parts.port or (443 if parts.scheme == "https" else 80))
        if outgoing.requires_tls and parts.scheme != "https":
            verdict = Verdict(FAILED, 550, "5.7.10", f"The message must go by TLS; {host} has none", host, False)
            return Report(dict.fromkeys(outgoing.recipients, verdict), [f"! {verdict.text}"], contact)
        late = Verdict(DEFERRED, 451, "4.4.7", "The attempt took too long", host, False)
        verdicts = dict.fromkeys(outgoing.recipients, late)
        transcript: list[str] = []
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ATTEMPT_LIMIT):
                async with self._large if outgoing.size > LARGE else contextlib.nullcontext():
                    async for recipients, verdict in self._try(target, outgoing, name, host, transcript):
                        verdicts |= dict.fromkeys(recipients, verdict)
        return Report(verdicts, transcript, contact)

    async def _try(
        self, target: Target, outgoing: Outgoing, name: str, host: str, transcript: list[str]
    ) -> AsyncIterator[tuple[list[str], Verdict]]:
        """Post it, as often as needed: recipients, and what their post was answered."""
        body = b"".join([piece async for piece in outgoing.pieces()])
        for recipients, envelope in _envelopes(name, outgoing.sender, outgoing.recipients):
            transcript.append(f"! POST to {host}: {len(body)} octets for {len(recipients)} recipients")
            try:
                verdict = _verdict(await self._post(target, body, name, envelope), host)
            except HttpFailed as error:
                verdict = Verdict(DEFERRED, 451, "4.4.1", str(error).replace(target.url, host), host, False)
            transcript.append(f"! {verdict.text}")
            yield recipients, verdict

    async def _post(self, target: Target, body: bytes, name: str, envelope: str) -> Response:
        context = self._contexts.get(target.ca)
        if context is None and target.url.startswith("https://"):
            context = self._contexts[target.ca] = client_context(verify=True, ca=target.ca)
        headers = {
            "Content-Type": "message/rfc822",
            "X-Posthouse-Id": name,
            "X-Posthouse-Envelope": envelope,
            signatures.HEADER: signatures.sign(target.secret, self._clock.now() // SECOND, body),
        }
        return await fetch(
            target.url,
            body=body,
            headers=headers,
            context=context,
            patience=PATIENCE,
            most=MAX_ANSWER,
            threads=self._threads,
        )

    def close(self) -> None:
        """Begin no more posts."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _envelopes(name: str, sender: str, recipients: Sequence[str]) -> Iterator[tuple[list[str], str]]:
    """Recipients that go together, and the envelope to say so: JSON, in ASCII."""
    some: list[str] = []
    room = MAX_ENVELOPE - len(json.dumps({"id": name, "sender": sender, "recipients": []}))
    left = room
    for recipient in recipients:
        size = len(json.dumps(recipient)) + 2
        if some and size > left:
            yield some, json.dumps({"id": name, "sender": sender, "recipients": some})
            some, left = [], room
        some.append(recipient)
        left -= size
    yield some, json.dumps({"id": name, "sender": sender, "recipients": some})


def _verdict(response: Response, host: str) -> Verdict:
    """What a status means."""
    status = response.status
    text = f"{host} answered HTTP {status}{_words(response)}"
    if 200 <= status < 300:
        return Verdict(DELIVERED, 250, "2.0.0", text, host, False)
    if 400 <= status < 500 and status not in _LATER:
        return Verdict(FAILED, 550, "5.3.0", text, host, False)
    # As said by a server, so that the pace of the route follows it (`queue/pace.py`).
    return Verdict(DEFERRED, 451, "4.3.2" if status in _TOO_FAST else "4.3.0", text, host, status in _TOO_FAST)


def _words(response: Response) -> str:
    """The first line of an answer in plain text: what the program says about it."""
    if response.content_type != "text/plain":
        return ""
    line = response.body[: MAX_WORDS * 4].decode("utf-8", "replace").strip().partition("\n")[0][:MAX_WORDS]
    shown = "".join(letter if letter.isprintable() else " " for letter in line).strip()
    return f": {shown}" if shown else ""

"""Open a connection to one of several addresses, or to a UNIX socket.

`dial` lets the addresses race, IPv6 and IPv4 in turn, each a quarter of a second after the one before (RFC 8305), each
with its own limit of time, and returns the first `Stream` that stands, after the TLS handshake if TLS from the first
byte is wanted. If none does it raises `DialFailed`, which says for each
address why. It does not look up names: that is `net/dns.py` and the caller's policy.

`Dial` is the interface that callers take as a parameter, so that a test network can stand in.
"""

import asyncio
import ssl
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, NamedTuple, Protocol

from posthouse.base.errors import Temporary
from posthouse.net.stream import Stream, describe

# A host with more addresses than this is not helped by trying them all in one attempt.
_MAX_ADDRESSES = 8
STAGGER = 0.25  # seconds (RFC 8305 section 8)


class DialFailed(Temporary):
    """No address could be reached. `failures` has (address, reason) in the order tried."""

    def __init__(self, failures: Sequence[tuple[str, str]]) -> None:
        super().__init__("; ".join(f"{a}: {why}" for a, why in failures) or "no address to connect to")
        self.failures = tuple(failures)


class ClientTls(NamedTuple):
    """How to speak TLS to a server: a context, and the name to ask for and (if the context checks) to check."""

    context: ssl.SSLContext
    name: str


class Dial(Protocol):
    """The interface of `dial`."""

    async def __call__(
        self,
        addresses: Sequence[str],
        port: int,
        *,
        patience: float = 30.0,
        tls: ClientTls | None = None,
        sources: Sequence[str] = (),
    ) -> Stream: ...


async def dial(
    addresses: Sequence[str],
    port: int,
    *,
    patience: float = 30.0,
    tls: ClientTls | None = None,
    sources: Sequence[str] = (),
) -> Stream:
    """Connect to the first of the addresses (IP addresses, not names; or the path of a UNIX socket) that answers.

    `patience` (seconds) is for each address. `sources` are own addresses to connect from, the first of each family.
    """
    waiting = deque(in_turn(addresses)[:_MAX_ADDRESSES])
    if len(waiting) == 1:
        try:
            return await _connect(waiting[0], port, patience, tls, sources)
        except (OSError, ssl.SSLError) as error:  # TimeoutError is an OSError
            raise DialFailed([(waiting[0], describe(error))]) from error
    return await _race(waiting, lambda address: _connect(address, port, patience, tls, sources))


async def _race(waiting: deque[str], connect: Callable[[str], Coroutine[Any, Any, Stream]]) -> Stream:
    """One more address every `STAGGER` seconds, or at once when one fails; the first that stands wins."""
    loop = asyncio.get_running_loop()
    running: dict[asyncio.Task[Stream], str] = {}
    failures: list[tuple[str, str]] = []
    try:
        while waiting or running:
            if waiting:
                address = waiting.popleft()
                running[loop.create_task(connect(address))] = address
            done, _ = await asyncio.wait(
                running, timeout=STAGGER if waiting else None, return_when=asyncio.FIRST_COMPLETED
            )
            for task in sorted(done, key=lambda task: list(running).index(task)):
                address = running[task]
                try:
                    stream = task.result()
                except (OSError, ssl.SSLError) as error:
                    failures.append((address, describe(error)))
                    del running[task]
                else:
                    del running[task]
                    return stream
        raise DialFailed(failures)
    finally:
        for task in running:
            task.cancel()
        for late in await asyncio.gather(*running, return_exceptions=True):
            if isinstance(late, Stream):
                late.abort()


async def _connect(address: str, port: int, patience: float, tls: ClientTls | None, sources: Sequence[str]) -> Stream:
    if address.startswith("/"):
        async with asyncio.timeout(patience):
            _, stream = await asyncio.get_running_loop().create_unix_connection(
                Stream, address, ssl=tls.context if tls else None, server_hostname=tls.name if tls else None
            )
        return stream
    source = next((own for own in sources if _family(own) == _family(address)), None)
    async with asyncio.timeout(patience):
        _, stream = await asyncio.get_running_loop().create_connection(
            Stream,
            address,
            port,
            ssl=tls.context if tls else None,
            server_hostname=tls.name if tls else None,
            local_addr=(source, 0) if source else None,
        )
    return stream


def in_turn(addresses: Sequence[str]) -> list[str]:
    """The addresses with the families alternating, beginning with that of the first; else in their order."""
    if not addresses:
        return []
    first = [a for a in addresses if _family(a) == _family(addresses[0])]
    second = [a for a in addresses if _family(a) != _family(addresses[0])]
    mixed: list[str] = []
    for index in range(max(len(first), len(second))):
        mixed += first[index : index + 1] + second[index : index + 1]
    return mixed


def _family(address: str) -> int:
    return 6 if ":" in address else 4

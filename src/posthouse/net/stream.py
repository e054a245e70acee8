"""A connection that we opened, as the few verbs that a client engine needs.

`Stream` moves bytes: read, write, drain, start_tls, close. It has no deadlines of its own (callers use
`asyncio.timeout`, which may cut any of its awaits) and knows nothing of what the bytes mean.
Everything that goes wrong below it comes out as `ConnectionLost` or `TlsFailed`, both temporary;
the orderly end of what the peer sends is b"" from `read`.
"""

import asyncio
import os
import ssl
from collections import deque
from typing import Any, NamedTuple

from posthouse.base.errors import Temporary
from posthouse.net.tls_sessions import KeepingContext, chain_of

# The peer is told to stop (by TCP) when it is this far ahead of us; asyncio hands over at most
# 256 KiB more after that.
_HIGH_WATER = 256 * 1024


class ConnectionLost(Temporary):
    """The connection broke: reset, unreachable, or closed while we were writing."""


class TlsFailed(Temporary):
    """The TLS handshake failed; the connection is of no further use."""


class PeerTls(NamedTuple):
    """What was agreed with the server."""

    version: str  # TLSv1.3
    cipher: str
    bits: int
    verified: bool  # the certificate was checked against trusted roots and the name
    resumed: bool = False  # by a session of an earlier connection


class Stream(asyncio.Protocol):
    """One open connection. Only one task reads and one writes at a time."""

    def __init__(self) -> None:
        self.tls: PeerTls | None = None
        self.received = 0
        self.sent = 0
        self._chunks: deque[bytes] = deque()
        self._held = 0
        self._paused = False
        self._ended = False  # nothing more will come
        self._lost: BaseException | None = None
        self._arrived: asyncio.Future[None] | None = None
        self._drained: asyncio.Future[None] | None = None
        self._full = False
        self._closed = asyncio.get_running_loop().create_future()
        self._transport: Any = None

    @property
    def peer(self) -> tuple[str, int]:
        """Address and port of the other side."""
        name = self._transport.get_extra_info("peername")
        return (name[0], name[1]) if isinstance(name, tuple) else (str(name or ""), 0)

    @property
    def local(self) -> tuple[str, int]:
        """Our own address and port."""
        name = self._transport.get_extra_info("sockname")
        return (name[0], name[1]) if isinstance(name, tuple) else (str(name or ""), 0)

    @property
    def is_open(self) -> bool:
        """Whether the other side has not gone, as far as we know, and has said nothing that waits to be read."""
        return not self._ended and not self._closed.done() and not self._held

    async def read(self) -> bytes:
        """Whatever has come, as soon as there is something. b"": the peer will send no more."""
        if not self._held and not self._ended:
            self._arrived = asyncio.get_running_loop().create_future()
            try:
                await self._arrived
            finally:
                self._arrived = None
        if not self._held and self._lost is not None:
            raise ConnectionLost(describe(self._lost))
        data = b"".join(self._chunks)
        self._chunks.clear()
        self._held = 0
        if self._paused and not self._ended:
            self._paused = False
            self._transport.resume_reading()
        return data

    def write(self, data: bytes) -> None:
        """Send, or hold until the socket takes it; follow large pieces with `drain`."""
        if data and not self._closed.done():
            self.sent += len(data)
            self._transport.write(data)

    async def drain(self) -> None:
        """Wait until little of what was written is still held here. Fails if the connection is gone."""
        if self._full and not self._closed.done():
            self._drained = asyncio.get_running_loop().create_future()
            try:
                await self._drained
            finally:
                self._drained = None
        if self._closed.done():
            raise ConnectionLost(describe(self._lost) if self._lost else "the peer closed the connection")

    async def start_tls(self, context: ssl.SSLContext, name: str, patience: float = 30.0) -> None:
        """Make the open connection a TLS one; `name` is sent as SNI and checked if the context checks.

        Bytes that came before the handshake would be taken for the first protected ones
        (RFC 3207 section 4.2, and its client-side twin, response injection), so they end it.
        """
        if self._held:
            raise TlsFailed("the server sent data between its go-ahead and the TLS handshake")
        try:
            transport = await asyncio.get_running_loop().start_tls(
                self._transport,
                self,
                context,
                server_hostname=name or None,
                ssl_handshake_timeout=patience,
            )
        except (OSError, ssl.SSLError, ValueError) as error:  # ValueError: a name that cannot be sent as SNI
            self._failed()
            raise TlsFailed(describe(error)) from error
        except BaseException:
            self._failed()
            raise
        if transport is None:  # closed while the handshake ended
            self._failed()
            raise TlsFailed("the connection was closed during the TLS handshake")
        self._transport = transport
        self._note_tls()

    def chain(self) -> tuple[bytes, ...]:
        """The certificates that the server sent, as DER, its own first: as they came, whether good or not.

        () without TLS. If the session was resumed, those of the connection on which it began.
        """
        return chain_of(self._transport.get_extra_info("ssl_object"))

    def keep_session(self) -> None:
        """Let later connections with the same context to the same name resume this TLS session.

        To be called once something was read after the handshake: TLS 1.3 sends its tickets then.
        """
        tls = self._transport.get_extra_info("ssl_object")
        if tls is not None and isinstance(tls.context, KeepingContext):
            tls.context.keep(tls)

    def _failed(self) -> None:
        """The handshake broke off: whether `connection_lost` is then called depends on the loop."""
        self.abort()
        self._ended = True
        if not self._closed.done():
            self._closed.set_result(None)

    async def close(self, patience: float = 2.0) -> None:
        """Send what is held, then close. After `patience` seconds the rest is thrown away."""
        if not self._closed.done():
            self._transport.close()
            try:
                async with asyncio.timeout(patience):
                    await asyncio.shield(self._closed)
            except TimeoutError:
                pass
            finally:
                self.abort()

    def abort(self) -> None:
        """Close at once."""
        if self._transport is not None and not self._closed.done():
            self._transport.abort()

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._note_tls()

    def _note_tls(self) -> None:
        tls = self._transport.get_extra_info("ssl_object")
        if tls is not None:
            cipher, _, bits = tls.cipher() or ("", "", 0)
            verified = tls.context.verify_mode == ssl.CERT_REQUIRED and tls.context.check_hostname
            self.tls = PeerTls(tls.version() or "", cipher, bits or 0, verified, bool(tls.session_reused))

    def data_received(self, data: bytes) -> None:
        self._chunks.append(data)
        self._held += len(data)
        self.received += len(data)
        if self._held > _HIGH_WATER and not self._paused:
            self._paused = True
            self._transport.pause_reading()
        _wake(self._arrived)

    def eof_received(self) -> bool:
        self._ended = True
        _wake(self._arrived)
        return False  # nobody speaks to a peer that has stopped listening to our protocol

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended = True
        self._lost = exc
        if not self._closed.done():
            self._closed.set_result(None)
        _wake(self._arrived)
        _wake(self._drained)

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        _wake(self._drained)


def _wake(waiter: asyncio.Future[None] | None) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)


def describe(error: BaseException) -> str:
    """An error in words for a person: what the system or the TLS library says, without its numbers."""
    if isinstance(error, TimeoutError):
        return "timed out"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate not accepted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"TLS: {(error.reason or str(error)).lower().replace('_', ' ')}"
    if isinstance(error, OSError) and error.errno is not None and error.errno > 0:
        return os.strerror(error.errno).lower()
    return str(error) or type(error).__name__

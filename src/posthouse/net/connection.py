"""The one runtime of all servers: an engine, a session, a transport.

Bytes go into the engine, its events to the session, what the session answers comes out of the engine
as bytes: one write for all that came in together. An event that can be answered at once is answered
without a task; only one that has to wait (for a commit, a password, a slow reader) costs one.

Back-pressure: while an event waits, reading stops once the engine holds `HELD_MAX` bytes; while the
peer does not read, nothing more is taken from it. Time: a connection that brings no event within its
timeout is told so and closed; the listener looks once a second, so no connection owns a timer.

An exception out of a session is handed to `Session.failed`, which answers in the words of its protocol;
the connection goes on unless the session closes it.
"""

import asyncio
import ssl
from collections.abc import Awaitable
from typing import Any, NamedTuple, Protocol, cast

from posthouse.net.proxyproto import Peer
from posthouse.net.tls import ServerContext

LOCAL = "127.0.0.1"  # whoever comes by a UNIX socket is on this machine
HELD_MAX = 64 * 1024  # bytes an engine may hold while an event waits for its answer
# Seconds for strangers on a server that is nearly full, without a complete command and in all.
CROWDED_SILENCE, CROWDED_STAY = 10.0, 60.0
TURN = 0.002  # seconds of events that are answered at once, before other connections have a turn
WRITE_HIGH = 256 * 1024  # bytes in the transport from which on writers wait


class TlsInfo(NamedTuple):
    """What was agreed in the handshake."""

    version: str  # "TLSv1.3"
    cipher: str
    bits: int


class Engine(Protocol):
    """A protocol engine, seen from below: see docs/architecture.md."""

    @property
    def closed(self) -> bool: ...

    @property
    def buffered(self) -> int: ...

    def receive(self, data: bytes, /) -> None: ...

    def next_event(self) -> Any | None: ...

    def take_output(self) -> bytes: ...


class Session(Protocol):
    """A server's decisions for one connection. Methods that return an awaitable are waited for."""

    @property
    def engine(self) -> Engine: ...

    def start(self) -> Awaitable[None] | None:
        """The connection stands: greet."""
        ...

    def handle(self, event: Any, /) -> Awaitable[None] | None:
        """Answer an event through the engine."""
        ...

    def failed(self, error: Exception, /) -> None:
        """An event could not be answered: say so, and log it."""
        ...

    # A session may have `resumed()` too: the peer reads again, after it had not for a while.

    def timed_out(self) -> None:
        """The peer was silent for too long: say goodbye; the connection closes after it."""
        ...

    def shutdown(self) -> None:
        """The server stops: say goodbye; the connection closes after it."""
        ...

    def closed(self) -> None:
        """The connection is gone: let go of everything."""
        ...


class SessionFactory(Protocol):
    """Makes the session of a new connection."""

    def __call__(self, connection: "Connection", /) -> Session: ...


class Owner(Protocol):
    """What a connection needs from its listener."""

    loop: asyncio.AbstractEventLoop
    new_session: SessionFactory

    def tls_context(self) -> ssl.SSLContext | None: ...

    def admit(self, connection: "Connection") -> str | None:
        """Count the connection in; a text says why it is not wanted."""
        ...

    def leave(self, connection: "Connection") -> None: ...

    def refusal(self, why: str) -> bytes:
        """What a peer that is not wanted is told."""
        ...

    def report(self, message: str, error: BaseException) -> None: ...


class Turn:
    """For a coroutine that goes on without waiting for anything: it lets others have a turn after `TURN`."""

    def __init__(self) -> None:
        self._time = asyncio.get_running_loop().time
        self._begun = self._time()

    @property
    def is_over(self) -> bool:
        """Did it take long enough?"""
        return self._time() > self._begun + TURN

    async def over(self) -> None:
        """Wait for the next turn if this one is over."""
        if self.is_over:
            await asyncio.sleep(0)
            self._begun = self._time()


class Connection(asyncio.Protocol):
    """One TCP connection with its session. Sessions use `peer`, `tls`, `flush`, `drain`, `start_tls`,
    `set_timeout`, `set_limit`, `wake`, `close`."""

    __slots__ = (
        "__weakref__",
        "_admitted",
        "_blocked",
        "_busy",
        "_draining",
        "_loop",
        "_owner",
        "_paused",
        "_session",
        "_spoken_for",
        "_task",
        "_timeout",
        "_transport",
        "counted",
        "deadline",
        "established",
        "limit",
        "local",
        "opened",
        "peer",
        "tls",
    )

    def __init__(self, owner: Owner, client: Peer | None = None) -> None:
        self._owner = owner
        self._loop = owner.loop
        self._session: Session | None = None
        self._transport: asyncio.Transport = cast(asyncio.Transport, None)
        self._task: asyncio.Task[None] | None = None
        self._blocked: asyncio.Future[None] | None = None
        self._busy = False
        self._paused = False
        self._draining = False
        self._admitted = False
        self._spoken_for = False
        self._timeout = 300.0
        self.deadline = 0.0
        self.limit = 0.0
        self.opened = owner.loop.time()
        self.established = False  # the session says so: somebody logged in, or a message was taken
        self.peer: tuple[str, int] = client or ("", 0)
        self.local: tuple[str, int] = ("", 0)
        self.counted = ""  # the address that the listener counted, whatever a proxy says later
        self.tls: TlsInfo | None = None

    # For the session

    def flush(self) -> None:
        """Send what the engine has ready."""
        if self._session is not None:
            output = self._session.engine.take_output()
            if output:
                self._transport.write(output)

    def write(self, data: bytes) -> None:
        """Send bytes past the engine: large answers in pieces. Call `flush` before."""
        self._transport.write(data)

    async def drain(self) -> None:
        """Send what is ready and wait until the peer has taken most of it. Raises ConnectionResetError when
        it is gone."""
        self.flush()
        if self._transport.is_closing():
            raise ConnectionResetError("the peer is gone")
        if self._blocked is not None:
            await asyncio.shield(self._blocked)

    async def start_tls(self) -> bool:
        """Upgrade to TLS; False (and the connection closed) if the handshake failed."""
        context = self._owner.tls_context()
        self.flush()
        if context is None:
            self.close()
            return False
        try:
            transport = await self._loop.start_tls(
                self._transport,
                self,
                context,
                server_side=True,
                ssl_handshake_timeout=30.0,
                ssl_shutdown_timeout=5.0,
            )
        except OSError:  # TimeoutError and ssl.SSLError are OSErrors too
            self.close()
            return False
        if transport is None:
            self.close()
            return False
        self._transport = transport
        transport.set_write_buffer_limits(high=WRITE_HIGH)
        self._note_tls()
        return True

    def _note_tls(self) -> None:
        tls = self._transport.get_extra_info("ssl_object")
        if tls is not None:
            cipher = tls.cipher() or ("", "", 0)
            self.tls = TlsInfo(tls.version() or "", cipher[0], cipher[2])

    @property
    def tls_object(self) -> ssl.SSLObject | None:
        """The TLS connection, for channel binding and client certificates."""
        return cast(ssl.SSLObject | None, self._transport.get_extra_info("ssl_object"))

    @property
    def bindings(self) -> dict[str, bytes]:
        """Channel bindings by type. Python's ssl cannot export keying material, so there is no tls-exporter."""
        context = getattr(self.tls_object, "context", None)
        end_point = context.end_point if isinstance(context, ServerContext) else b""
        return {"tls-server-end-point": end_point} if end_point else {}

    @property
    def certificate(self) -> bytes | None:
        """The client's certificate (DER), if it showed one and the listener's CA made it. A proxy that speaks for
        somebody has shown its own."""
        tls = None if self._spoken_for else self.tls_object
        return tls.getpeercert(binary_form=True) if tls is not None else None

    def speaks_for(self, ip: str, port: int = 0) -> None:
        """A trusted proxy says who the client is."""
        self.peer = (ip, port)
        self._spoken_for = True

    def set_timeout(self, seconds: float) -> None:
        """From now on, close the connection when the peer brings no event for so long."""
        self._timeout = seconds
        self.deadline = self._loop.time() + seconds

    def set_limit(self, seconds: float) -> None:
        """Close the connection after this time whatever the peer brings; 0: no such limit."""
        self.limit = self._loop.time() + seconds if seconds else 0.0

    def wake(self) -> None:
        """Something outside gave the engine output or events: pump, unless an event is just waiting."""
        if not self._busy:
            self._pump()

    def close(self) -> None:
        """Close once what was written is sent."""
        self._transport.close()

    @property
    def is_blocked(self) -> bool:
        """True while the peer does not read: what need not be said now should wait."""
        return self._blocked is not None

    @property
    def is_closing(self) -> bool:
        """True once the connection is gone or going."""
        return self._transport.is_closing()

    # For the listener

    def check_time(self, now: float, crowded: bool = False) -> None:
        """Say goodbye if the peer was silent, or did not read, for too long. Where it is `crowded`, strangers have
        little time: they may be there to keep others out."""
        overdue = now > self.deadline or (self.limit and now > self.limit)
        if crowded and not self.established and not overdue:
            silent_since = self.deadline - self._timeout
            overdue = now > silent_since + CROWDED_SILENCE or now > self.opened + CROWDED_STAY
        if not overdue or self._session is None:
            return
        if self._blocked is not None or self._transport.is_closing():
            self.abort()
        elif not self._busy or (self.limit and now > self.limit):
            self._session.timed_out()
            self.flush()
            self.close()
            self.deadline = now + 10.0  # and then no more patience: abort

    def drain_and_close(self) -> None:
        """The server stops: close as soon as the event at hand is answered."""
        self._draining = True
        if not self._busy:
            self._pump()

    def abort(self) -> None:
        """Drop the connection at once."""
        if self._transport is not None:
            self._transport.abort()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        local = transport.get_extra_info("sockname")
        if not self.peer[0]:  # a proxy has not said who is behind it
            self.peer = (peer[0].removeprefix("::ffff:"), peer[1]) if isinstance(peer, tuple) and peer else (LOCAL, 0)
        if isinstance(local, tuple):
            self.local = (local[0], local[1])
        self._transport.set_write_buffer_limits(high=WRITE_HIGH)
        self.counted = self.peer[0]
        self.deadline = self._loop.time() + self._timeout
        why = self._owner.admit(self)
        if why is not None:
            self._transport.write(self._owner.refusal(why))
            self._transport.close()
            return
        self._admitted = True
        self._note_tls()
        self._start()

    def data_received(self, data: bytes) -> None:
        session = self._session
        if session is None:
            return
        session.engine.receive(data)
        if not self._busy:
            self._pump()
        elif not self._paused and session.engine.buffered > HELD_MAX:
            self._paused = True
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        return False  # close: no mail protocol has a use for half-open connections

    def pause_writing(self) -> None:
        if self._blocked is None:
            self._blocked = self._loop.create_future()

    def resume_writing(self) -> None:
        blocked, self._blocked = self._blocked, None
        self.deadline = self._loop.time() + self._timeout
        if blocked is not None and not blocked.done():
            blocked.set_result(None)
        if not self._busy:
            resumed = getattr(self._session, "resumed", None)
            if resumed is not None:
                resumed()
            self._pump()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        blocked, self._blocked = self._blocked, None
        if blocked is not None and not blocked.done():
            blocked.set_result(None)
        if self._admitted:
            self._admitted = False
            self._owner.leave(self)
        session, self._session = self._session, None
        if session is not None:
            session.closed()

    # Pumping

    def _start(self) -> None:
        session = self._session = self._owner.new_session(self)
        try:
            waiting = session.start()
        except Exception as error:
            session.failed(error)
            waiting = None
        if waiting is not None:
            self._busy = True
            self._task = self._loop.create_task(self._wait(session, waiting))
        else:
            self._pump()

    def _pump(self) -> None:
        """Answer events until none is left, or one has to wait."""
        session = self._session
        if session is None:
            return
        engine = session.engine
        begun = self._loop.time()
        while self._blocked is None:
            event = engine.next_event()
            if event is None:
                break
            now = self._loop.time()
            self.deadline = now + self._timeout
            try:
                waiting = session.handle(event)
            except Exception as error:
                session.failed(error)
                waiting = None
            if waiting is None and now > begun + TURN:
                waiting = asyncio.sleep(0)
            if waiting is not None:
                self._busy = True
                self.flush()  # what is answered does not wait for what is not
                self._task = self._loop.create_task(self._wait(session, waiting))
                return
        self._settle(session)

    async def _wait(self, session: Session, waiting: Awaitable[None]) -> None:
        """Wait for an answer, then pump on in this task."""
        engine = session.engine
        turn = Turn()
        try:
            while True:
                try:
                    await waiting
                    await turn.over()  # it may be that nothing had to be waited for
                except (ConnectionError, asyncio.CancelledError):
                    self.close()
                except Exception as error:
                    session.failed(error)
                self.deadline = self._loop.time() + self._timeout
                while True:
                    if self._session is None or self._blocked is not None:
                        return
                    event = engine.next_event()
                    if event is None:
                        return
                    try:
                        again = session.handle(event)
                    except Exception as error:
                        session.failed(error)
                        again = None
                    if again is None and turn.is_over:
                        again = turn.over()
                    if again is not None:
                        self.flush()
                        self._read_on(engine)
                        waiting = again
                        break
        finally:
            self._busy = False
            self._task = None
            self._settle(session)

    def _read_on(self, engine: Engine) -> None:
        """Read again if little is held, while an event waits: a client that goes is not noticed otherwise."""
        if self._paused and self._blocked is None and engine.buffered <= HELD_MAX and not self._transport.is_closing():
            self._paused = False
            self._transport.resume_reading()

    def _settle(self, session: Session) -> None:
        """All events are answered: send, and see whether to close or to read on."""
        if self._transport.is_closing():
            return
        if self._draining and not session.engine.closed:
            session.shutdown()
        output = session.engine.take_output()
        if output:
            self._transport.write(output)
        if session.engine.closed:
            self._transport.close()
        elif self._blocked is not None:
            if not self._paused:
                self._paused = True
                self._transport.pause_reading()
        elif self._paused:
            self._paused = False
            self._transport.resume_reading()

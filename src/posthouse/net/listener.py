"""A listening socket and its connections: limits in all and per address, time-outs, drain.

Sockets are TCP (IPv4, IPv6) or UNIX ones; behind a proxy the client's address comes by the PROXY protocol.
It knows no protocol: `new_session` makes the session, `refusal` says in the words of the protocol why
a connection is not wanted. One timer a listener looks for connections that are overdue.
"""

import asyncio
import contextlib
import socket
import ssl
import weakref
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from posthouse.base.errors import ProtocolError
from posthouse.base.networks import Network, site, trusted
from posthouse.net.connection import LOCAL, Connection, SessionFactory
from posthouse.net.proxyproto import Peer, source

BACKLOG = 2048
HANDSHAKE = 30.0  # seconds for the TLS handshake
SWEEP = 1.0  # seconds between two looks for overdue connections


class Admission:
    """Connections in all and per address; one may serve several listeners."""

    def __init__(self, most: int, most_per_ip: int, is_exempt: Callable[[str], bool]) -> None:
        self._most = most
        self._most_per_ip = most_per_ip
        self._is_exempt = is_exempt
        self._open = 0
        self._by_ip: Counter[str] = Counter()

    def enter(self, ip: str, exempt: bool = False) -> str | None:
        """Count a connection in; a text says why it is not wanted. `exempt`: whatever its address."""
        if self._open >= self._most:
            return "too many connections, try again later"
        client = site(ip)
        if self._by_ip[client] >= self._most_per_ip and not (exempt or self._is_exempt(ip)):
            return "too many connections from your address, try again later"
        self._open += 1
        self._by_ip[client] += 1
        return None

    @property
    def is_crowded(self) -> bool:
        """Whether three quarters of the places are taken."""
        return self._open * 4 >= self._most * 3

    def leave(self, ip: str) -> None:
        """Count it out."""
        self._open -= 1
        ip = site(ip)
        self._by_ip[ip] -= 1
        if not self._by_ip[ip]:
            del self._by_ip[ip]


class Listener:
    """One service on one address and port."""

    def __init__(
        self,
        new_session: SessionFactory,
        refusal: Callable[[str], bytes],
        admission: Admission,
        tls_context: Callable[[], ssl.SSLContext | None] = lambda: None,
        implicit_tls: bool = False,
        report: Callable[[str, BaseException], None] = lambda _message, _error: None,
        *,
        proxies: Sequence[Network] = (),
        networks: Sequence[Network] = (),
        refused_proxy: Callable[[str, str], None] = lambda _ip, _why: None,
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.new_session = new_session
        self.refusal = refusal
        self.tls_context = tls_context
        self.implicit_tls = implicit_tls
        self.report = report
        self._proxies = proxies  # if there are any, every connection is from one of them
        self._refused_proxy = refused_proxy  # address, why
        self._networks = networks  # if there are any, nobody else is served
        # Whoever must be looked at before the first event: see `_accept`.
        self._by_hand = implicit_tls or bool(proxies)
        self._path: Path | None = None
        self._admission = admission
        self._connections: set[Connection] = set()
        self._server: asyncio.Server | None = None
        self._sweeper: asyncio.TimerHandle | None = None
        self._accepting: asyncio.Task[None] | None = None
        self._handshakes: set[asyncio.Task[None]] = set()
        self._seen: weakref.WeakSet[Connection] = weakref.WeakSet()  # got as far as to be counted out by themselves
        self._empty = asyncio.Event()
        self._empty.set()

    async def open(self, address: str, port: int) -> int:
        """Listen; return the port (port 0: a free one). Raises OSError if it is taken."""
        return await self._open(_socket(address, port))

    async def open_path(self, path: Path) -> None:
        """Listen on a UNIX socket, for the owner and the group. Raises OSError if that cannot be."""
        listening = _unix_socket(path)
        self._path = path
        await self._open(listening)

    async def _open(self, listening: socket.socket) -> int:
        self._sweeper = self.loop.call_later(SWEEP, self._sweep)
        local = listening.family == socket.AF_UNIX
        port = 0 if local else int(listening.getsockname()[1])
        if self._by_hand:
            listening.listen(BACKLOG)
            self._accepting = self.loop.create_task(self._accept(listening))
        elif local:
            self._server = await self.loop.create_unix_server(lambda: Connection(self), sock=listening, backlog=BACKLOG)
        else:
            self._server = await self.loop.create_server(lambda: Connection(self), sock=listening, backlog=BACKLOG)
        return port

    # With implicit TLS a connection is counted before its handshake, so that handshakes are bounded too and the
    # certificate may change between two of them. Behind a proxy it is counted for the client.

    async def _accept(self, listening: socket.socket) -> None:
        with listening:
            while True:
                try:
                    accepted, peer = await self.loop.sock_accept(listening)
                except OSError as error:  # out of file descriptors: wait for some to come free
                    self.report("a connection could not be accepted", error)
                    await asyncio.sleep(1.0)
                    continue
                ip = peer[0].removeprefix("::ffff:") if isinstance(peer, tuple) else LOCAL
                proxied = bool(self._proxies)
                if self._admission.enter(ip, exempt=proxied) is not None:
                    accepted.close()
                    continue
                if proxied and not trusted(ip, self._proxies):
                    self._admission.leave(ip)
                    accepted.close()
                    self._refused_proxy(ip, "this address is not in `proxies`")
                    continue
                task = self.loop.create_task(self._begin(accepted, ip))
                self._handshakes.add(task)
                task.add_done_callback(self._handshakes.discard)

    async def _begin(self, accepted: socket.socket, ip: str) -> None:
        """PROXY header and TLS handshake, where there are any; then a connection."""
        if accepted.family != socket.AF_UNIX:
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        made: list[Connection] = []
        client: Peer | None = None

        def new_connection() -> Connection:
            made.append(Connection(self, client))
            return made[0]

        try:
            if self._proxies:
                async with asyncio.timeout(HANDSHAKE):
                    client = await source(lambda size: self.loop.sock_recv(accepted, size))
                if client is not None:
                    why = self._admission.enter(client.ip)
                    if why is not None:
                        accepted.close()
                        return
                    self._admission.leave(ip)
                    ip = client.ip
            context = self.tls_context() if self.implicit_tls else None
            await self.loop.connect_accepted_socket(
                new_connection,
                accepted,
                ssl=context,
                ssl_handshake_timeout=HANDSHAKE if context else None,
                ssl_shutdown_timeout=5.0 if context else None,
            )
        except ProtocolError as error:
            self._refused_proxy(ip, str(error))
            accepted.close()
        except TimeoutError:
            if self._proxies and client is None and not made:
                self._refused_proxy(ip, "no PROXY header in time")
            accepted.close()
        except OSError:  # no TLS, or the peer went away: TimeoutError and ssl.SSLError are OSErrors too
            accepted.close()
        finally:
            if not made or made[0] not in self._seen:
                self._admission.leave(ip)

    def admit(self, connection: Connection) -> str | None:
        why = None
        if self._by_hand:
            self._seen.add(connection)
        else:
            why = self._admission.enter(connection.counted)
        if why is None and self._networks and not trusted(connection.peer[0], self._networks):
            self._admission.leave(connection.counted)
            why = "this port is not for your network"
        if why is None:
            self._connections.add(connection)
            self._empty.clear()
        return why

    def leave(self, connection: Connection) -> None:
        self._admission.leave(connection.counted)
        self._connections.discard(connection)
        if not self._connections:
            self._empty.set()

    def __len__(self) -> int:
        return len(self._connections)

    def _sweep(self) -> None:
        now, crowded = self.loop.time(), self._admission.is_crowded
        for connection in list(self._connections):
            try:
                connection.check_time(now, crowded)
            except Exception as error:
                self.report("a connection could not be timed out", error)
                connection.abort()
        self._sweeper = self.loop.call_later(SWEEP, self._sweep)

    def stop_listening(self) -> None:
        """Take no new connections."""
        if self._server is not None:
            self._server.close()
            self._server = None
        if self._accepting is not None:
            self._accepting.cancel()
            self._accepting = None
        if self._path is not None:
            self._path.unlink(missing_ok=True)
            self._path = None

    async def close(self, grace: float = 10.0) -> None:
        """Take no new connections, let each finish the event at hand, drop what is left after `grace`."""
        self.stop_listening()
        if self._sweeper is not None:
            self._sweeper.cancel()
        for task in list(self._handshakes):
            task.cancel()
        for connection in list(self._connections):
            connection.drain_and_close()
        with contextlib.suppress(asyncio.TimeoutError):
            async with asyncio.timeout(grace):
                await self._empty.wait()
        for connection in list(self._connections):
            connection.abort()
        if self._connections:
            with contextlib.suppress(asyncio.TimeoutError):
                async with asyncio.timeout(2.0):
                    await self._empty.wait()


def _socket(address: str, port: int) -> socket.socket:
    """A bound socket. "::" takes IPv4 too where the system allows it."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if address == "::" else 1)
        listening.bind((address, port))
    except OSError:
        listening.close()
        raise
    listening.setblocking(False)
    return listening


def _unix_socket(path: Path) -> socket.socket:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_socket():
        path.unlink()  # left by a crash
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listening.bind(str(path))
        path.chmod(0o660)
    except OSError:
        listening.close()
        raise
    listening.setblocking(False)
    return listening

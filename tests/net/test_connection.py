"""The runtime of all servers, driven over real sockets by a tiny line protocol of the test's own."""

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from posthouse.net import connection as runtime
from posthouse.net.connection import Connection
from posthouse.net.listener import Admission, Listener
from posthouse.net.tls import ServerTls, client_context


class Lines:
    """An engine: a line is an event."""

    def __init__(self) -> None:
        self.held = b""
        self.output: list[bytes] = []
        self.closed = False

    @property
    def buffered(self) -> int:
        return len(self.held)

    def receive(self, data: bytes) -> None:
        self.held += data

    def next_event(self) -> bytes | None:
        line, end, rest = self.held.partition(b"\n")
        if not end or self.closed:
            return None
        self.held = rest
        return line

    def take_output(self) -> bytes:
        output = b"".join(self.output)
        self.output.clear()
        return output


class Echo:
    """A session: answers lines; "wait" waits for the test, "boom" fails, "tls" upgrades, "big" is large."""

    def __init__(self, connection: Connection, gate: asyncio.Event) -> None:
        self.connection = connection
        self.engine = Lines()
        self.gate = gate
        self.is_closed = False
        self.turns = 0
        self.waiting = asyncio.Event()

    def start(self) -> None:
        self.engine.output.append(
            b"hello %b\n" % (self.connection.tls.version.encode() if self.connection.tls else b"")
        )

    def handle(self, event: bytes) -> Awaitable[None] | None:
        if event == b"wait":
            return self._wait()
        if event == b"tls":
            return self._tls()
        if event == b"big":
            return self._big()
        if event == b"now":
            return self._now()
        if event == b"boom":
            raise ValueError("on purpose")
        if event == b"quit":
            self.engine.closed = True
        self.engine.output.append(b"echo " + event + b"\n")
        return None

    async def _wait(self) -> None:
        self.waiting.set()
        await self.gate.wait()
        self.engine.output.append(b"waited\n")

    async def _now(self) -> None:
        """An answer that need not be waited for, and what others do at their next turn."""
        self.engine.output.append(b"%d\n" % self.turns)
        asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        self.turns += 1

    async def _tls(self) -> None:
        self.engine.output.append(b"go\n")
        self.engine.held = b""  # what came before is dropped; what comes with the handshake is inside
        await self.connection.start_tls()

    async def _big(self) -> None:
        for _ in range(64):
            self.engine.output.append(b"x" * 262_143 + b"\n")
            await self.connection.drain()

    def failed(self, error: Exception) -> None:
        self.engine.output.append(b"failed %b\n" % str(error).encode())

    def timed_out(self) -> None:
        self.engine.output.append(b"too slow\n")
        self.engine.closed = True

    def shutdown(self) -> None:
        self.engine.output.append(b"bye\n")
        self.engine.closed = True

    def closed(self) -> None:
        self.is_closed = True


class House:
    """A listener with its sessions."""

    def __init__(
        self, *, most: int = 100, per_ip: int = 100, tls: ServerTls | None = None, implicit: bool = False
    ) -> None:
        self.sessions: list[Echo] = []
        self.writers: list[asyncio.StreamWriter] = []
        self.gate = asyncio.Event()
        self.listener = Listener(
            self.new,
            lambda why: b"no: " + why.encode() + b"\n",
            Admission(100, per_ip, lambda ip: False),
            tls.context if tls else lambda: None,
            implicit,
        )

    def new(self, connection: Connection) -> Echo:
        self.sessions.append(Echo(connection, self.gate))
        return self.sessions[-1]

    async def __aenter__(self) -> "House":
        self.port = await self.listener.open("127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.gate.set()
        for writer in self.writers:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
        await self.listener.close(5)

    async def dial(self, context: ssl.SSLContext | None = None) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        name = "localhost" if context else None
        pair = await asyncio.open_connection("127.0.0.1", self.port, ssl=context, server_hostname=name, limit=1 << 20)
        self.writers.append(pair[1])
        return pair


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        async with asyncio.timeout(30):
            await test()

    asyncio.run(main())


def test_events_are_answered_in_order_however_they_come() -> None:
    async def test() -> None:
        async with House() as house:
            reader, writer = await house.dial()
            assert await reader.readline() == b"hello \n"
            writer.write(b"a\nwait\nb\nboom\nc\n")
            assert await reader.readline() == b"echo a\n"
            house.gate.set()
            rest = [await reader.readline() for _ in range(4)]
            assert rest == [b"waited\n", b"echo b\n", b"failed on purpose\n", b"echo c\n"]
            writer.write(b"quit\n")
            assert await reader.read() == b"echo quit\n"
            writer.close()

    run(test)


def test_a_peer_that_sends_on_while_an_answer_waits_is_slowed_down() -> None:
    async def test() -> None:
        async with House() as house:
            reader, writer = await house.dial()
            await reader.readline()
            writer.write(b"wait\n")
            total = 32 << 20
            sender = asyncio.create_task(_send(writer, b"z" * 1023 + b"\n", total))
            done, _ = await asyncio.wait({sender}, timeout=0.3)
            assert not done, "all of it was taken"
            assert house.sessions[0].engine.buffered < 2 << 20
            sender.cancel()
            writer.transport.abort()

    run(test)


async def _send(writer: asyncio.StreamWriter, piece: bytes, total: int) -> None:
    for _ in range(total // len(piece)):
        writer.write(piece)
        await writer.drain()


def test_answers_that_need_no_waiting_leave_turns_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "TURN", -1.0)  # each turn is over at once

    async def main() -> None:
        async with House() as house:
            reader, writer = await house.dial()
            await reader.readline()
            writer.write(b"now\n" * 20)
            assert [await reader.readline() for _ in range(20)] == [b"%d\n" % number for number in range(20)]

    run(main)


def test_large_answers_wait_for_a_slow_reader_and_come_whole() -> None:
    async def test() -> None:
        async with House() as house:
            reader, writer = await house.dial()
            await reader.readline()
            writer.write(b"big\nafter\n")
            for _ in range(64):
                assert len(await reader.readexactly(262_144)) == 262_144
            assert await reader.readline() == b"echo after\n"
            writer.close()

    run(test)


def test_limits_in_all_and_for_each_address() -> None:
    async def test() -> None:
        async with House(per_ip=2) as house:
            kept = [await house.dial() for _ in range(2)]
            for reader, _ in kept:
                assert await reader.readline() == b"hello \n"
            reader, writer = await house.dial()
            assert b"too many connections from your address" in await reader.readline()
            writer.close()
            kept[0][1].write(b"quit\n")
            await kept[0][0].read()
            kept[0][1].close()
            reader, writer = await house.dial()
            assert await reader.readline() == b"hello \n", "a place came free"
            writer.close()
            kept[1][1].close()

    run(test)


def test_the_silent_are_told_and_closed() -> None:
    async def test() -> None:
        async with House() as house:
            reader, writer = await house.dial()
            await reader.readline()
            connection = house.sessions[0].connection
            now = asyncio.get_running_loop().time()
            connection.set_timeout(100)
            connection.check_time(now + 99)
            connection.check_time(now + 101)
            assert await reader.read() == b"too slow\n"
            writer.close()

    run(test)


def test_drain_lets_the_event_at_hand_finish() -> None:
    async def test() -> None:
        async with House() as house:
            idle, idle_writer = await house.dial()
            busy, writer = await house.dial()
            await idle.readline()
            await busy.readline()
            writer.write(b"wait\n")
            await house.sessions[1].waiting.wait()
            closing = asyncio.create_task(house.listener.close(10))
            assert await idle.read() == b"bye\n"
            house.gate.set()
            assert await busy.read() == b"waited\nbye\n"
            await closing
            assert all(session.is_closed for session in house.sessions)
            writer.close()
            idle_writer.close()

    run(test)


@pytest.mark.parametrize("implicit", [False, True])
def test_tls(implicit: bool, tmp_path: Path) -> None:
    async def test() -> None:
        tls = ServerTls.self_made(tmp_path, "mail.example.org")
        context = client_context(verify=True, ca=tls.ca)
        async with House(tls=tls, implicit=implicit) as house:
            for _ in range(20):  # the handshake must not lose what came early
                if implicit:
                    reader, writer = await house.dial(context)
                    assert await reader.readline() == b"hello TLSv1.3\n"
                else:
                    reader, writer = await house.dial()
                    await reader.readline()
                    writer.write(b"tls\n")
                    assert await reader.readline() == b"go\n"
                    await writer.start_tls(context, server_hostname="localhost")
                writer.write(b"inside\n")
                assert await reader.readline() == b"echo inside\n"
                writer.close()

    run(test)


def test_a_peer_that_speaks_no_tls_is_dropped_and_counted_out(tmp_path: Path) -> None:
    async def test() -> None:
        tls = ServerTls.self_made(tmp_path, "mail.example.org")
        async with House(tls=tls, implicit=True, per_ip=1) as house:
            for _ in range(3):
                reader, writer = await house.dial()
                writer.write(b"EHLO plain\r\n" * 20)
                await reader.read()
                writer.close()
            reader, writer = await house.dial(client_context(verify=True, ca=tls.ca))
            assert await reader.readline() == b"hello TLSv1.3\n"
            writer.close()

    run(test)


def test_on_a_full_server_strangers_have_little_time() -> None:
    async def main() -> None:
        said: list[str] = []

        class Slow(Echo):
            def timed_out(self) -> None:
                said.append("timed out")

        gate = asyncio.Event()
        admission = Admission(4, 4, lambda _ip: True)
        sessions: list[Slow] = []

        def new(connection: Connection) -> Slow:
            sessions.append(Slow(connection, gate))
            return sessions[-1]

        listener = Listener(new, lambda why: why.encode(), admission)
        port = await listener.open("127.0.0.1", 0)
        writers = []
        for number in range(3):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            await reader.readline()
            writers.append(writer)
            assert admission.is_crowded == (number == 2)
        now = asyncio.get_running_loop().time()
        known, quick, slow = (session.connection for session in sessions)
        known.established = True
        for connection in (known, slow):
            connection.check_time(now + 9, True)
            connection.check_time(now + 11, False)
        assert said == []
        known.check_time(now + 200, True)
        assert said == [], "who has logged in keeps the time that the protocol promises"
        slow.check_time(now + 11, True)
        assert said == ["timed out"]
        quick.deadline = now + 55 + quick._timeout  # a command every few seconds
        quick.check_time(now + 59, True)
        assert said == ["timed out"]
        quick.check_time(now + 61, True)
        assert said == ["timed out"] * 2
        for writer in writers:
            writer.close()
        await listener.close(0.1)

    asyncio.run(main())

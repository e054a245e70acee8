"""Dialling and streams, over real sockets on loopback, on asyncio's loop and on uvloop."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from posthouse.net.dial import ClientTls, DialFailed, dial, in_turn
from posthouse.net.local import is_of_this_machine
from posthouse.net.stream import ConnectionLost, PeerTls, Stream, TlsFailed
from posthouse.net.tls import client_context
from tests.support.certificates import root_file, server_context
from tests.support.clock import turns
from tests.support.loop import on_both_loops, on_loop

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def serving(handler: Handler, host: str = "127.0.0.1", **options: object) -> AsyncIterator[int]:
    tasks = []

    async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.append(asyncio.current_task())
        try:
            await handler(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(run, host, 0, **options)  # type: ignore[arg-type]
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await asyncio.gather(*(t for t in tasks if t), return_exceptions=True)
        await server.wait_closed()


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()


async def read_exactly(stream: Stream, count: int) -> bytes:
    data = b""
    while len(data) < count:
        piece = await stream.read()
        assert piece
        data += piece
    return data


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@on_both_loops
async def test_bytes_go_both_ways() -> None:
    async with serving(echo) as port:
        stream = await dial(["127.0.0.1"], port)
        stream.write(b"hello ")
        stream.write(b"world")
        await stream.drain()
        assert await read_exactly(stream, 11) == b"hello world"
        assert (stream.sent, stream.received) == (11, 11)
        assert stream.peer == ("127.0.0.1", port)
        assert stream.local[0] == "127.0.0.1"
        assert stream.tls is None
        await stream.close()
        await stream.close()  # twice is fine


@on_both_loops
async def test_the_end_is_empty_bytes_after_the_data() -> None:
    async def bye(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"bye")

    async with serving(bye) as port:
        stream = await dial(["127.0.0.1"], port)
        assert await read_exactly(stream, 3) == b"bye"
        assert await stream.read() == b""
        assert await stream.read() == b""
        await stream.close()
        stream.write(b"lost")  # no error here: drain tells
        with pytest.raises(ConnectionLost):
            await stream.drain()


@on_both_loops
async def test_a_reset_is_connection_lost() -> None:
    async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        writer.transport.abort()

    async with serving(reset) as port:
        stream = await dial(["127.0.0.1"], port)
        stream.write(b"x")
        with pytest.raises(ConnectionLost, match="reset"):
            await stream.read()
        await stream.close()


@on_both_loops
async def test_a_peer_that_floods_is_held_back() -> None:
    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(256):
            writer.write(bytes(65536))
            await writer.drain()

    async with serving(flood) as port:
        stream = await dial(["127.0.0.1"], port)
        total = 0
        while data := await stream.read():
            assert len(data) <= 1024 * 1024
            total += len(data)
            await asyncio.sleep(0)  # let it fill up again
        assert total == 256 * 65536
        await stream.close()


@on_both_loops
async def test_large_writes_wait_for_the_peer() -> None:
    async with serving(echo) as port:
        stream = await dial(["127.0.0.1"], port)
        data = bytes(range(256)) * 16384  # 4 MiB: more than the sockets hold

        async def send() -> None:
            for at in range(0, len(data), 65536):
                stream.write(data[at : at + 65536])
                await stream.drain()

        sending = asyncio.ensure_future(send())
        assert await read_exactly(stream, len(data)) == data
        await sending
        await stream.close()


@on_both_loops
async def test_a_read_can_be_cut_by_a_timeout() -> None:
    async with serving(echo) as port:
        stream = await dial(["127.0.0.1"], port)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await stream.read()
        stream.write(b"still here")
        assert await read_exactly(stream, 10) == b"still here"
        await stream.close()


@on_both_loops
async def test_tls_from_the_first_byte() -> None:
    async with serving(echo, ssl=server_context("mx.test")) as port:
        context = client_context(verify=True, ca=root_file())
        stream = await dial(["127.0.0.1"], port, tls=ClientTls(context, "mx.test"))
        assert stream.tls is not None
        assert stream.tls.version == "TLSv1.3"
        assert stream.tls.verified
        stream.write(b"x")
        assert await stream.read() == b"x"
        await stream.close()
        with pytest.raises(DialFailed, match="certificate not accepted"):
            await dial(["127.0.0.1"], port, tls=ClientTls(context, "other.test"))
        stream = await dial(["127.0.0.1"], port, tls=ClientTls(client_context(verify=False), "other.test"))
        assert stream.tls == PeerTls(stream.tls.version, stream.tls.cipher, 256, False)  # type: ignore[union-attr]
        await stream.close()


def upgrading(name: str, *, expired: bool = False, injected: bytes = b"") -> Handler:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(4)
        writer.write(b"GO" + injected)
        await writer.drain()
        try:
            await writer.start_tls(server_context(name, expired=expired))
        except OSError:
            return
        await echo(reader, writer)

    return handle


@on_both_loops
async def test_start_tls() -> None:
    async with serving(upgrading("mx.test")) as port:
        stream = await dial(["127.0.0.1"], port)
        stream.write(b"STLS")
        assert await read_exactly(stream, 2) == b"GO"
        await stream.start_tls(client_context(verify=True, ca=root_file()), "mx.test")
        assert stream.tls is not None
        assert stream.tls.verified
        stream.write(b"secret")
        assert await read_exactly(stream, 6) == b"secret"
        await stream.close()


@pytest.mark.parametrize(("name", "expired"), [("other.test", False), ("mx.test", True)], ids=["wrong name", "expired"])
@on_both_loops
async def test_start_tls_with_a_bad_certificate(name: str, expired: bool) -> None:
    async with serving(upgrading(name, expired=expired)) as port:
        stream = await dial(["127.0.0.1"], port)
        stream.write(b"STLS")
        await read_exactly(stream, 2)
        with pytest.raises(TlsFailed, match="certificate not accepted"):
            await stream.start_tls(client_context(verify=True, ca=root_file()), "mx.test")
        await stream.close()


@on_both_loops
async def test_start_tls_with_a_peer_that_does_not_speak_it() -> None:
    async def nonsense(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"GO")
        await reader.read(10)
        writer.write(b"what is this?\r\n")

    async with serving(nonsense) as port:
        stream = await dial(["127.0.0.1"], port)
        await read_exactly(stream, 2)
        with pytest.raises(TlsFailed):
            await stream.start_tls(client_context(verify=False), "mx.test")
        await stream.close()


@on_both_loops
async def test_bytes_before_the_handshake_are_refused() -> None:
    async with serving(upgrading("mx.test", injected=b"250 trust me\r\n")) as port:
        stream = await dial(["127.0.0.1"], port)
        stream.write(b"STLS")
        while stream.received < 10:
            await turns(1)
        with pytest.raises(TlsFailed, match="between"):
            await stream.start_tls(client_context(verify=False), "mx.test")
        await stream.close()


@on_both_loops
async def test_the_second_address_answers() -> None:
    async with serving(echo, "127.0.0.2") as port:
        stream = await dial(["127.0.0.3", "127.0.0.2"], port)
        assert stream.peer == ("127.0.0.2", port)
        await stream.close()


@on_both_loops
async def test_no_address_answers() -> None:
    port = free_port()
    with pytest.raises(DialFailed) as caught:
        await dial(["127.0.0.1", "127.0.0.2"], port)
    assert caught.value.failures == (
        ("127.0.0.1", "connection refused"),
        ("127.0.0.2", "connection refused"),
    )
    with pytest.raises(DialFailed, match="no address"):
        await dial([], port)


@on_loop
async def test_a_silent_handshake_times_out() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with serving(silent) as port:
        with pytest.raises(DialFailed, match="timed out"):
            await dial(["127.0.0.1"], port, patience=0.02, tls=ClientTls(client_context(verify=False), "mx.test"))


@on_loop
async def test_the_source_address_is_used() -> None:
    async with serving(echo) as port:
        stream = await dial(["127.0.0.1"], port, sources=["::1", "127.0.0.7"])
        assert stream.local[0] == "127.0.0.7"
        await stream.close()


def test_families_alternate() -> None:
    assert in_turn(["::1", "::2", "::3", "1.1.1.1", "2.2.2.2"]) == ["::1", "1.1.1.1", "::2", "2.2.2.2", "::3"]
    assert in_turn(["1.1.1.1"]) == ["1.1.1.1"]
    assert in_turn([]) == []


@on_both_loops
async def test_a_unix_socket(tmp_path: Path) -> None:
    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await echo(reader, writer)
        writer.close()
        done.set()

    path, done = str(tmp_path / "x.sock"), asyncio.Event()
    server = await asyncio.start_unix_server(once, path)
    stream = await dial([path], 0, sources=["127.0.0.7"])
    stream.write(b"hello")
    assert await read_exactly(stream, 5) == b"hello"
    assert stream.peer == (path, 0)
    await stream.close()
    await done.wait()
    server.close()
    await server.wait_closed()
    Path(path).unlink(missing_ok=True)
    with pytest.raises(DialFailed, match="no such file"):
        await dial([str(tmp_path / "none.sock")], 0)


def test_addresses_of_this_machine() -> None:
    assert is_of_this_machine("127.0.0.1")
    assert is_of_this_machine("127.99.0.1")
    for address in ("192.0.2.77", "2001:db8::77", "224.0.0.1"):
        assert not is_of_this_machine(address)

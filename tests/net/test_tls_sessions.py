"""Sessions that are resumed, on both loops and in both versions of TLS, and the certificates that go with them."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from posthouse.base.errors import Permanent
from posthouse.net.dial import ClientTls, DialFailed, dial
from posthouse.net.stream import Stream, TlsFailed
from posthouse.net.tls_sessions import KEPT, MOST, KeepingContext, keeping_context
from tests.support import certificates
from tests.support.certificates import context_of, issue, root
from tests.support.clock import FakeClock
from tests.support.loop import on_both_loops, on_loop

MIDDLE = issue("Posthouse test middle", root(), authority=True)
LEAF = issue("mx.a.test", MIDDLE)


@asynccontextmanager
async def server(context: ssl.SSLContext, *, starttls: bool = False) -> AsyncIterator[int]:
    """Says hello after the handshake."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if starttls:
                await reader.readexactly(1)
                writer.write(b"go ahead")
                await writer.start_tls(context)
            writer.write(b"hello")
            await reader.read()
        except (OSError, ssl.SSLError):
            pass
        finally:
            writer.close()

    running = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=None if starttls else context)
    try:
        yield running.sockets[0].getsockname()[1]
    finally:
        running.close()


async def visit(port: int, context: ssl.SSLContext, name: str = "mx.a.test", *, keep: bool = True) -> Stream:
    stream = await dial(["127.0.0.1"], port, tls=ClientTls(context, name))
    assert await stream.read() == b"hello"
    if keep:
        stream.keep_session()
    await stream.close()
    return stream


def resumed(stream: Stream) -> bool:
    assert stream.tls is not None
    return stream.tls.resumed


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("verify", [True, False])
@on_both_loops
async def test_a_session_is_resumed_with_its_chain(version: ssl.TLSVersion, verify: bool) -> None:
    serving = context_of(LEAF, MIDDLE)
    serving.maximum_version = version
    context = keeping_context(verify=verify, ca=certificates.root_file())
    async with server(serving) as port:
        streams = [await visit(port, context) for _ in range(3)]
    assert [resumed(stream) for stream in streams] == [False, True, True]
    for stream in streams:
        assert stream.chain() == (LEAF.der, MIDDLE.der)
        assert stream.tls is not None
        assert stream.tls.verified is verify


@on_both_loops
async def test_a_session_is_resumed_after_starttls() -> None:
    context = keeping_context(verify=False)
    async with server(context_of(LEAF, MIDDLE), starttls=True) as port:
        for expected in (False, True):
            stream = await dial(["127.0.0.1"], port)
            assert stream.chain() == ()
            stream.keep_session()  # nothing to keep yet
            stream.write(b"s")
            assert await stream.read() == b"go ahead"
            await stream.start_tls(context, "mx.a.test")
            assert await stream.read() == b"hello"
            assert resumed(stream) is expected
            assert stream.chain() == (LEAF.der, MIDDLE.der)
            stream.keep_session()
            await stream.close()


@on_loop
async def test_only_what_is_kept_is_resumed() -> None:
    context = keeping_context(verify=False)
    async with server(context_of(LEAF)) as port:
        await visit(port, context, keep=False)
        assert not resumed(await visit(port, context))
        assert not resumed(await visit(port, context, "other.a.test"))  # another name
        assert not resumed(await visit(port, keeping_context(verify=False)))  # another context
        assert resumed(await visit(port, context))
        context.forget("mx.a.test")
        assert not resumed(await visit(port, context))


@on_loop
async def test_a_session_grows_old_by_its_first_handshake() -> None:
    clock = FakeClock()
    context = keeping_context(verify=False, now=clock.monotonic)
    async with server(context_of(LEAF)) as port:
        await visit(port, context)
        clock.move(KEPT - 1)
        assert resumed(await visit(port, context))  # kept anew, and yet no longer
        clock.move(2)
        assert not resumed(await visit(port, context))


@on_loop
async def test_another_server_is_not_taken_for_the_first() -> None:
    """A server that does not know the session makes a new one, and shows its own certificate."""
    context = keeping_context(verify=False)
    other = issue("mx.a.test", root())
    async with server(context_of(LEAF)) as first, server(context_of(other)) as second:
        await visit(first, context)
        stream = await visit(second, context)
    assert not resumed(stream)
    assert stream.chain() == (other.der,)


@on_loop
async def test_the_number_of_sessions_is_bounded() -> None:
    context = keeping_context(verify=False)
    async with server(context_of(LEAF)) as port:
        await visit(port, context)
        kept = context.kept("mx.a.test")
        assert kept is not None
        for number in range(MOST):
            context.sessions[f"h{number}.test"] = kept
        await visit(port, context, "last.test")
    assert len(context.sessions) == MOST
    assert context.kept("mx.a.test") is None
    assert context.kept("last.test") is not None


@pytest.mark.parametrize(
    ("leaf", "why"),
    [
        (issue("other.test", root()), "Hostname mismatch"),
        (issue("mx.a.test", root(), expired=True), "certificate has expired"),
        (issue("mx.a.test", issue("Somebody", None)), "unable to get local issuer"),
        (issue("mx.a.test", root(), names=()), "Hostname mismatch"),  # the common name does not count
    ],
)
@on_both_loops
async def test_verification(leaf: certificates.Pair, why: str) -> None:
    context = keeping_context(verify=True, ca=certificates.root_file())
    async with server(context_of(leaf)) as port:
        with pytest.raises(DialFailed, match=why):
            await dial(["127.0.0.1"], port, tls=ClientTls(context, "mx.a.test"))
        assert (await visit(port, keeping_context(verify=False))).chain() == (leaf.der,)


@on_both_loops
async def test_a_name_that_cannot_be_sent_fails_the_handshake_only() -> None:
    async with server(context_of(LEAF), starttls=True) as port:
        stream = await dial(["127.0.0.1"], port)
        stream.write(b"s")
        assert await stream.read() == b"go ahead"
        with pytest.raises(TlsFailed):
            await stream.start_tls(keeping_context(verify=False), "." + "x" * 70 + ".test")


def test_the_files_of_the_system_and_bad_ones(tmp_path: object) -> None:
    context = keeping_context(verify=True)
    assert isinstance(context, KeepingContext)
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    with pytest.raises(Permanent, match="cannot be used"):
        keeping_context(verify=True, ca=certificates.root_file().with_name("none.pem"))

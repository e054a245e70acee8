"""COMPRESS=DEFLATE: what is said under it arrives, in pieces of any size; bombs and noise are bounded."""

import zlib

import pytest

from posthouse.imap.commands import mailboxes
from posthouse.imap.commands.any import Noop, Turn, Unauthenticate
from posthouse.imap.deflate import PIECE, Deflate
from posthouse.imap.options import Options
from posthouse.imap.server import ImapServer


def _compressor() -> "zlib._Compress":
    return zlib.compressobj(9, zlib.DEFLATED, -15)


def _said(compressor: "zlib._Compress", data: bytes) -> bytes:
    return compressor.compress(data) + compressor.flush(zlib.Z_SYNC_FLUSH)


def _engine() -> ImapServer:
    engine = ImapServer(Options(plaintext_login=True))
    engine.receive(b"l LOGIN bob x\r\n")
    assert engine.next_event() is not None
    engine.authenticated()
    engine.take_output()
    return engine


@pytest.mark.parametrize("step", [1, 3, 1000])
def test_everything_after_the_answer_is_compressed(step: int) -> None:
    engine, compressor = _engine(), _compressor()
    # A client that is in a hurry sends the first compressed octets with the command.
    data = b"a COMPRESS DEFLATE\r\n" + _said(compressor, b"b CAPABILITY\r\n") + _said(compressor, b"c SELECT x\r\n")
    output, events = b"", []
    for at in range(0, len(data), step):
        engine.receive(data[at : at + step])
        while (event := engine.next_event()) is not None:
            events.append(event)
        output += engine.take_output()
    assert events == [mailboxes.Select("x", False)]
    plain, _, compressed = output.partition(b"\r\n")
    assert plain == b"a OK DEFLATE begins"
    inflated = zlib.decompressobj(-15).decompress(compressed)
    assert inflated.startswith(b"* CAPABILITY ")
    assert b"COMPRESS=DEFLATE" not in inflated
    assert inflated.endswith(b"\r\nb OK That is all\r\n")


@pytest.mark.parametrize("hurry", [True, False])
@pytest.mark.parametrize("modes", [[zlib.Z_SYNC_FLUSH], [zlib.Z_FINISH], [zlib.Z_SYNC_FLUSH, zlib.Z_FINISH]])
def test_it_ends_with_unauthenticate(hurry: bool, modes: list[int]) -> None:
    engine, compressor = _engine(), _compressor()
    data = b"a COMPRESS DEFLATE\r\n" + _said(compressor, b"b NOOP\r\n") + compressor.compress(b"c UNAUTHENTICATE\r\n")
    data += b"".join([compressor.flush(mode) for mode in modes])
    after = b"d CAPABILITY\r\ne LOGIN bob x\r\n"
    output, events = b"", []
    for piece in [data + after] if hurry else [data, after]:  # RFC 8437 section 3 allows hurry
        engine.receive(piece)
        while (event := engine.next_event()) is not None:
            events.append(type(event).__name__)
            if isinstance(event, Unauthenticate):
                engine.unauthenticated()
            elif isinstance(event, Noop):
                engine.ok("Nothing done")
        output += engine.take_output()
    assert events == ["Noop", "Unauthenticate", "Login"]
    inflater = zlib.decompressobj(-15)
    inflated = inflater.decompress(output.partition(b"\r\n")[2])
    assert inflated.startswith(b"b OK Nothing done\r\nc OK [CAPABILITY ")
    assert inflated.count(b"\r\n") == 2
    assert inflater.eof
    assert inflater.unused_data.startswith(b"* CAPABILITY ")
    assert inflater.unused_data.endswith(b"d OK That is all\r\n")
    assert not engine.closed


def test_unauthenticate_can_be_switched_off() -> None:
    engine = ImapServer(Options(plaintext_login=True, unauthenticate=False))
    engine.receive(b"l LOGIN bob x\r\na UNAUTHENTICATE\r\n")
    assert engine.next_event() is not None
    engine.authenticated()
    assert engine.next_event() is None
    said = engine.take_output()
    assert said.count(b"UNAUTHENTICATE") == 0
    assert said.endswith(b"\r\na BAD No such command\r\n")


def test_it_is_begun_once_and_with_deflate() -> None:
    engine = _engine()
    engine.receive(b"a COMPRESS LZ4\r\n")
    assert engine.next_event() is None
    assert engine.take_output().startswith(b"a BAD ")
    engine.receive(b"b COMPRESS DEFLATE\r\n")
    assert engine.next_event() is None
    engine.take_output()
    engine.receive(_said(_compressor(), b"c COMPRESS DEFLATE\r\n"))
    assert engine.next_event() is None
    assert zlib.decompressobj(-15).decompress(engine.take_output()).startswith(b"c NO [COMPRESSIONACTIVE]")


def test_a_bomb_is_inflated_piece_by_piece() -> None:
    deflate = Deflate()
    bomb = _said(_compressor(), bytes(50_000_000))
    assert len(bomb) < 60_000
    deflate.feed(bomb)
    assert len(deflate.take()) <= PIECE
    assert deflate.held > len(bomb) * 9 // 10
    # A line without end in an engine: it is thrown away as it comes.
    engine = _engine()
    engine.receive(b"a COMPRESS DEFLATE\r\n")
    assert engine.next_event() is None
    engine.receive(bomb)
    turns = 0
    while engine.next_event() == Turn():
        turns += 1
    assert turns > 40
    assert engine.buffered < 2 * PIECE


def test_noise_ends_the_connection() -> None:
    engine = _engine()
    engine.receive(b"a COMPRESS DEFLATE\r\n" + b"\xff" * 100)
    assert engine.next_event() is None
    assert engine.closed
    assert b"BYE" in zlib.decompressobj(-15).decompress(engine.take_output().partition(b"\r\n")[2])


def test_the_end_of_the_stream_is_the_end() -> None:
    deflate = Deflate()
    ended = _compressor()
    deflate.feed(ended.compress(b"x") + ended.flush(zlib.Z_FINISH) + b"y")
    assert deflate.take() == b"x"
    with pytest.raises(zlib.error):
        deflate.take()

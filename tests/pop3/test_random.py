"""The POP3 engine and random input; messages and TOP against the obvious way."""

from hypothesis import given, settings
from hypothesis import strategies as st

from posthouse.pop3.server import Options
from tests.pop3.play import MESSAGES, Player

commands = st.sampled_from(
    [b"USER bob", b"PASS secret word", b"STAT", b"LIST", b"UIDL 1", b"RETR 1", b"TOP 1 1", b"DELE 2", b"RSET",
     b"NOOP", b"LANG", b"LANG de", b"UTF8", b"AUTH PLAIN", b"AGJvYgBzZWNyZXQgd29yZA==", b"AUTH LOGIN",
     b"CAPA", b"STLS", b"*", b"QUIT"]
)  # fmt: skip
pieces = st.lists(st.one_of(commands.map(lambda c: c + b"\r\n"), st.binary(max_size=40)), max_size=30)


@settings(max_examples=150, deadline=None)
@given(pieces, st.integers(1, 50), st.booleans())
def test_anything_may_come(sent: list[bytes], step: int, secure: bool) -> None:
    data = b"".join(sent)
    options = Options(secure=secure, starttls=not secure, plaintext_auth=True)
    whole, cut = Player(options), Player(options)
    output = whole.send(data)
    output.decode("utf-8")
    assert output.isascii() or b"LANG" in data.upper()
    if b"STLS" not in data.upper():  # where the handshake cuts the stream depends on the chunks
        assert cut.send(data, step) == output
    assert whole.engine.closed or whole.engine.buffered <= 12288


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from([b".", b"\r\n", b"a", b"..", b"\r\n.\r\n"]), max_size=30), st.integers(1, 9))
def test_a_message_comes_back_as_it_was(parts: list[bytes], piece: int) -> None:
    message = b"".join(parts) + b"\r\n"
    player = Player(messages=[message])
    player.piece = piece
    player.send(b"USER bob\r\nPASS secret word\r\n")
    output = player.send(b"RETR 1\r\n").removeprefix(b"+OK Message follows\r\n")
    lines = output.split(b"\r\n")
    assert lines[-2:] == [b".", b""]
    assert b"".join(line.removeprefix(b".") + b"\r\n" for line in lines[:-2]) == message


def reference_top(message: bytes, lines: int) -> bytes:
    """The obvious way: split into lines."""
    result, body, left = b"", False, lines
    for line in message.splitlines(keepends=True):
        if body and left == 0:
            break
        left -= body
        result += line
        body = body or line in (b"\r\n", b"\n")
    return result


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.sampled_from([b"\r\n", b"\n", b"a", b"b: c\r\n"]), max_size=20),
    st.integers(0, 5),
    st.integers(1, 6),
)
def test_top_against_the_obvious_way(parts: list[bytes], lines: int, step: int) -> None:
    from posthouse.pop3.top import Top

    message = b"".join(parts)
    top, result = Top(lines), b""
    for at in range(0, len(message), step):
        if top.done:
            break
        result += top.feed(message[at : at + step])
    assert result == reference_top(message, lines)


def test_messages_of_the_conversations() -> None:
    assert [len(m) for m in MESSAGES] == [57, 16, 27]

"""The POP3 engine: what no conversation shows: languages, STLS, limits, failures."""

from array import array

import pytest

from posthouse.pop3 import languages, replies
from posthouse.pop3.events import Login, Pause, Retrieve, StartTls
from posthouse.pop3.maildrop import Maildrop
from posthouse.pop3.server import Options, Pop3Server
from tests.pop3.play import LOGIN, PLAIN_PORT, STEPS, Player, play


def test_what_is_set_is_announced() -> None:
    lines = Player(Options(secure=True, expire=0, login_delay=90)).send(b"CAPA\r\n").split(b"\r\n")
    assert b"EXPIRE 0" in lines
    assert b"LOGIN-DELAY 90" in lines
    lines = Player(Options(secure=True, expire=30)).send(b"CAPA\r\n").split(b"\r\n")
    assert b"EXPIRE 30" in lines
    assert not any(line.startswith(b"LOGIN-DELAY") for line in lines)


def test_stls_comes_before_utf8() -> None:
    """RFC 6856 section 2.1."""
    player = Player(PLAIN_PORT)
    assert player.send(b"UTF8\r\nSTLS\r\n").endswith(b"-ERR STLS comes before UTF8\r\n")
    assert not player.engine.closed


def test_names_and_passwords_that_are_no_utf8_are_refused() -> None:
    player = Player()
    assert player.send(b"USER b\xf6b\r\n").endswith(b"-ERR Wrong arguments\r\n")
    assert player.send(b"USER bob\r\nPASS \xf6\r\n").endswith(b"-ERR [AUTH] Wrong name or password\r\n")


def test_every_reply_is_translated() -> None:
    every = [value for value in vars(replies).values() if isinstance(value, replies.Reply)]
    every += [
        replies.greeting("host"),
        replies.opened(1, 2),
        replies.too_soon(3),
        replies.language("de"),
        replies.failure("id"),
    ]
    german = languages._GERMAN
    assert {one.text for one in every} == set(german)
    for english, said in german.items():
        assert english.count("{}") == said.count("{}")
        assert said.isprintable()
    assert replies.language("de").encode("de").startswith(b"+OK de ")
    # RFC 1939 section 3: a response is 512 octets at most
    assert all(len(one.encode(tag)) < 512 for one in every for tag in languages.LANGUAGES)


@pytest.mark.parametrize(
    ("wanted", "tag"),
    [("en", "en"), ("DE", "de"), ("de-AT-1996", "de"), ("en-x-pirate", "en"), ("fr", None), ("x-de", None), ("-", None),
     ("*", "en"), ("*-de", None), ("deu", None), ("de-", "de")],
)  # fmt: skip
def test_which_language_is_meant(wanted: str, tag: str | None) -> None:
    assert languages.chosen(wanted) == tag


def test_plaintext_can_be_allowed() -> None:
    play(LOGIN, 10_000, Player(Options(plaintext_auth=True)))


def test_stls_where_there_is_no_tls() -> None:
    assert b"-ERR TLS is not available here" in Player(Options()).send(b"STLS\r\n")


def test_what_is_pipelined_behind_stls_is_never_executed() -> None:
    player = Player(PLAIN_PORT)
    output = player.send(b"STLS\r\nUSER bob\r\n")
    assert output.endswith(b"-ERR Nothing may follow STLS before the TLS handshake\r\n")
    assert player.engine.closed
    assert not player.events


def test_what_comes_before_the_answer_to_stls_is_dropped() -> None:
    engine = Pop3Server(PLAIN_PORT)
    engine.receive(b"STLS\r\n")
    assert engine.next_event() == StartTls()
    engine.receive(b"USER mallory\r\n")
    engine.reply(replies.BEGIN_TLS)
    engine.tls_started()
    assert engine.buffered == 0
    assert engine.next_event() is None


def test_stls_forgets_the_name() -> None:
    player = Player(Options(starttls=True, plaintext_auth=True))
    player.send(b"USER mallory\r\n")
    player.send(b"STLS\r\n")
    assert player.send(b"PASS x\r\n") == b"-ERR Send USER first\r\n"


def test_deletions_are_told_at_quit_only() -> None:
    player = Player()
    player.send(b"USER bob\r\nPASS secret word\r\nDELE 3\r\nDELE 1\r\n")
    assert not player.updates
    player.send(b"QUIT\r\n")
    assert player.updates == [(1, 3)]
    assert player.engine.closed


def test_a_refused_update_still_closes() -> None:
    player = Player()
    player.send(b"USER bob\r\nPASS secret word\r\n")
    engine = player.engine
    engine.receive(b"QUIT\r\n")
    engine.next_event()
    engine.fail(replies.NOT_REMOVED)
    assert engine.take_output() == b"-ERR [SYS/TEMP] Some messages could not be removed\r\n"
    assert engine.closed


def test_nothing_is_read_after_the_end() -> None:
    player = Player()
    player.send(b"QUIT\r\nUSER bob\r\n")
    player.send(b"USER bob\r\n")
    assert not player.events
    assert player.send(b"") == b""


@pytest.mark.parametrize(
    ("data", "reply"),
    [
        (b"X" * 3000, replies.TOO_LONG),
        (b"X" * 3000 + b"\r\n", replies.TOO_LONG),
        (b"USER bob\nPASS x\r\n", replies.BARE_LF),
        (b"USER bob\n", replies.BARE_LF),
        (b"AUTH PLAIN\r\n" + b"A" * 13000, replies.TOO_LONG),
    ],
)
@pytest.mark.parametrize("step", STEPS)
def test_lines_that_end_the_connection(data: bytes, reply: replies.Reply, step: int) -> None:
    player = Player()
    assert player.send(data, step).endswith(reply.encode())
    assert player.engine.closed


def test_too_many_mistakes() -> None:
    player = Player(Options(secure=True, max_errors=3))
    output = player.send(b"A\r\nB\r\nC\r\nD\r\n")
    assert output.count(b"-ERR Unknown command") == 3
    assert output.endswith(b"-ERR Too many errors\r\n")


def test_wrong_passwords_are_mistakes() -> None:
    player = Player(Options(secure=True, max_errors=2))
    output = player.send(b"USER bob\r\nPASS 1\r\n" * 3)
    assert output.count(b"[AUTH]") == 2
    assert player.engine.closed


def test_events_show_no_password() -> None:
    assert "hunter2" not in repr(Login("bob", "hunter2"))


def test_a_failure_within_a_message_can_only_close() -> None:
    player = Player()
    player.send(b"USER bob\r\nPASS secret word\r\n")
    engine = player.engine
    engine.receive(b"RETR 1\r\n")
    assert engine.next_event() == Retrieve(1, None)
    engine.fail(replies.MESSAGE_GONE)
    assert engine.take_output() == b"-ERR Message was removed by another client\r\n"
    engine.receive(b"RETR 1\r\n")
    engine.next_event()
    engine.content(b"Subject")
    engine.take_output()
    engine.fail(replies.MESSAGE_GONE)
    assert engine.closed
    assert engine.take_output() == b""


def test_goodbye() -> None:
    player = Player()
    player.send(b"")
    player.engine.goodbye(None)  # the autologout timer says nothing (RFC 1939 section 3)
    assert player.engine.closed
    assert player.engine.take_output() == b""
    player = Player()
    player.engine.goodbye(replies.SHUTTING_DOWN)
    assert player.engine.take_output().endswith(b"-ERR [SYS/TEMP] The server is shutting down\r\n")


def many(count: int) -> Pop3Server:
    engine = Pop3Server(Options(secure=True))
    engine.receive(b"USER bob\r\nPASS x\r\n")
    engine.next_event()
    engine.authenticated(Maildrop(1, array("I", range(1, count + 1)), array("Q", [1000]) * count))
    engine.take_output()
    return engine


@pytest.mark.parametrize("command", [b"LIST", b"UIDL"])
def test_a_long_listing_is_told_in_bounded_pieces(command: bytes) -> None:
    engine = many(50_000)
    engine.receive(command + b"\r\n")
    pieces = []
    while engine.next_event() == Pause():
        pieces.append(engine.take_output())
        engine.proceed()
    pieces.append(engine.take_output())
    assert max(map(len, pieces)) < 128 * 1024
    lines = b"".join(pieces).split(b"\r\n")
    assert len(lines) == 50_003
    assert lines[50_000].split()[0] == b"50000"
    assert lines[-2] == b"."


def test_many_commands_at_once_do_not_gather_output() -> None:
    """A client that asks without reading: the engine must wait for it, not fill the memory."""
    engine = many(1000)
    engine.receive(b"LIST\r\n" * 1000)
    most = total = 0
    while engine.next_event() == Pause():
        output = engine.take_output()
        most, total = max(most, len(output)), total + len(output)
        engine.proceed()
    assert most < 128 * 1024
    assert total > 8_000_000
    assert engine.buffered == 0

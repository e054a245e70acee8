"""The POP3 engine: conversations at every chunk size, limits, and random input."""

from array import array

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posthouse.pop3 import languages, replies
from posthouse.pop3.events import Login, Pause, Retrieve, StartTls
from posthouse.pop3.maildrop import Maildrop
from posthouse.pop3.server import Options, Pop3Server
from tests.pop3.play import MESSAGES, STEPS, Player, play

LOGIN = """
    S: +OK mail.here.test …
    C: USER bob
    S: +OK Send the password
    C: PASS secret word
    S: +OK 3 messages, 100 octets
"""

CONVERSATIONS = {
    "login and quit": LOGIN
    + """
    C: quit
    S: +OK Bye
    """,
    "wrong password, then the right one": """
    S: +OK …
    C: USER bob
    S: +OK …
    C: PASS guess
    S: -ERR [AUTH] Wrong name or password
    C: PASS guess
    S: -ERR Send USER first
    C: USER bob
    S: +OK …
    C: PASS secret word
    S: +OK 3 messages, 100 octets
    """,
    "states": """
    S: +OK …
    C: STAT
    S: -ERR Not possible in this state
    C: RETR 1
    S: -ERR Not possible in this state
    C: PASS x
    S: -ERR Send USER first
    C: USER
    S: -ERR Wrong arguments
    C: HELP
    S: -ERR Unknown command
    C: QUIT
    S: +OK Bye
    """,
    "no second login": LOGIN
    + """
    C: USER bob
    S: -ERR Not possible in this state
    C: STLS
    S: -ERR Not possible in this state
    """,
    "stat, list, uidl": LOGIN
    + """
    C: STAT
    S: +OK 3 100
    C: LIST
    S: +OK Listing follows
    S: 1 57
    S: 2 16
    S: 3 27
    S: .
    C: LIST 2
    S: +OK 2 16
    C: UIDL
    S: +OK Listing follows
    S: 1 7.101
    S: 2 7.102
    S: 3 7.103
    S: .
    C: UIDL 3
    S: +OK 3 7.103
    """,
    "retrieve, with dots stuffed": LOGIN
    + """
    C: RETR 1
    S: +OK Message follows
    S: From: a@x.test
    S: Subject: one
    S:
    S: line 1
    S: ..line 2
    S: line 3
    S: .
    C: RETR 3
    S: +OK Message follows
    S: Subject: three
    S:
    S: ..
    S: ..
    S: ..
    S: .
    """,
    "top": LOGIN
    + """
    C: TOP 1 0
    S: +OK Message follows
    S: From: a@x.test
    S: Subject: one
    S:
    S: .
    C: TOP 1 2
    S: +OK Message follows
    S: From: a@x.test
    S: Subject: one
    S:
    S: line 1
    S: ..line 2
    S: .
    C: TOP 2 1000
    S: +OK Message follows
    S: Subject: two
    S:
    S: .
    C: TOP 1
    S: -ERR Wrong arguments
    C: TOP 1 -1
    S: -ERR Wrong arguments
    """,
    "delete": LOGIN
    + """
    C: DELE 2
    S: +OK Marked for deletion
    C: DELE 2
    S: -ERR Message is marked for deletion
    C: RETR 2
    S: -ERR Message is marked for deletion
    C: STAT
    S: +OK 2 84
    C: LIST
    S: +OK Listing follows
    S: 1 57
    S: 3 27
    S: .
    C: RSET
    S: +OK Nothing is marked for deletion
    C: STAT
    S: +OK 3 100
    C: DELE 3
    S: +OK …
    C: DELE 1
    S: +OK …
    C: QUIT
    S: +OK Bye
    """,
    "numbers": LOGIN
    + """
    C: RETR 0
    S: -ERR No such message
    C: RETR 4
    S: -ERR No such message
    C: RETR
    S: -ERR Wrong arguments
    C: RETR one
    S: -ERR Wrong arguments
    C: RETR 99999999999999999999
    S: -ERR Wrong arguments
    C: LIST -1
    S: -ERR Wrong arguments
    C: LIST 00002
    S: +OK 2 16
    C: NOOP
    S: +OK OK
    """,
    "capabilities under TLS": """
    S: +OK …
    C: capa
    S: +OK Capability list follows
    S: TOP
    S: UIDL
    S: PIPELINING
    S: RESP-CODES
    S: AUTH-RESP-CODE
    S: EXPIRE NEVER
    S: UTF8 USER
    S: LANG
    S: IMPLEMENTATION Posthouse
    S: USER
    S: SASL PLAIN LOGIN
    S: .
    """,
    "languages": """
    S: +OK …
    C: LANG MUL
    S: -ERR This language is not spoken here
    C: LANG
    S: +OK Language listing follows
    S: en English
    S: de Deutsch
    S: .
    C: lang de-AT
    S: +OK de Ab jetzt wird diese Sprache gesprochen
    C: LANG uga
    S: -ERR Diese Sprache wird hier nicht gesprochen
    C: HELP
    S: -ERR Unbekannter Befehl
    C: USER bob
    S: +OK Nun das Kennwort
    C: PASS guess
    S: -ERR [AUTH] Name oder Kennwort falsch
    C: USER bob
    S: +OK …
    C: PASS secret word
    S: +OK 3 Nachrichten, 100 Oktette
    C: DELE 1
    S: +OK Zum Löschen vorgemerkt
    C: LANG en de
    S: -ERR Falsche Angaben
    C: LANG *
    S: +OK en This language is spoken from now on
    C: RSET
    S: +OK Nothing is marked for deletion
    """,
    "utf-8": """
    S: +OK …
    C: UTF8 now
    S: -ERR Wrong arguments
    C: UTF8
    S: +OK UTF-8 from now on
    C: UTF8
    S: +OK UTF-8 from now on
    C: USER böb
    S: +OK …
    C: PASS geheimes Wört
    S: -ERR [AUTH] Wrong name or password
    C: USER bob
    S: +OK …
    C: PASS secret word
    S: +OK …
    C: UTF8
    S: -ERR Not possible in this state
    """,
    "sasl plain with an initial response": """
    S: +OK …
    C: AUTH PLAIN AGJvYgBzZWNyZXQgd29yZA==
    S: +OK 3 messages, 100 octets
    """,
    "sasl plain without": """
    S: +OK …
    C: auth plain
    S: +…
    C: AGJvYgBzZWNyZXQgd29yZA==
    S: +OK 3 messages, 100 octets
    """,
    "sasl login": """
    S: +OK …
    C: AUTH LOGIN
    S: + VXNlcm5hbWU6
    C: Ym9i
    S: + UGFzc3dvcmQ6
    C: c2VjcmV0IHdvcmQ=
    S: +OK 3 messages, 100 octets
    """,
    "sasl mistakes": """
    S: +OK …
    C: AUTH PLAIN
    S: +…
    C: *
    S: -ERR Authentication cancelled
    C: AUTH PLAIN
    S: +…
    C: not base64!
    S: -ERR Response is not base64
    C: AUTH PLAIN %%%
    S: -ERR Response is not base64
    C: AUTH PLAIN =
    S: -ERR [AUTH] Malformed authentication message
    C: AUTH PLAIN AGJvYgBndWVzcw==
    S: -ERR [AUTH] Wrong name or password
    C: AUTH KERBEROS_V4
    S: -ERR Unknown authentication mechanism
    C: AUTH
    S: +OK Mechanisms follow
    S: PLAIN
    S: LOGIN
    S: .
    """,
}

PLAIN_PORT = Options(starttls=True)


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("name", CONVERSATIONS)
def test_conversations(name: str, step: int) -> None:
    play(CONVERSATIONS[name], step)


@pytest.mark.parametrize("step", STEPS)
def test_without_tls_no_password_is_taken(step: int) -> None:
    player = play(
        """
        S: +OK …
        C: CAPA
        S: +OK …
        S: TOP
        S: UIDL
        S: PIPELINING
        S: RESP-CODES
        S: AUTH-RESP-CODE
        S: EXPIRE NEVER
        S: UTF8 USER
        S: LANG
        S: IMPLEMENTATION Posthouse
        S: STLS
        S: .
        C: USER bob
        S: -ERR [AUTH] Passwords are taken over TLS only: use STLS
        C: AUTH PLAIN AGJvYgBzZWNyZXQgd29yZA==
        S: -ERR [AUTH] Passwords are taken over TLS only: use STLS
        C: AUTH
        S: +OK …
        S: .
        C: STLS now
        S: -ERR Wrong arguments
        C: STLS
        S: +OK Begin TLS negotiation
        --
        C: STLS
        S: -ERR TLS is active already
        C: USER bob
        S: +OK …
        C: PASS secret word
        S: +OK 3 messages, 100 octets
        """,
        step,
        Player(PLAIN_PORT),
    )
    assert player.events == [StartTls(), Login("bob", "secret word")]


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

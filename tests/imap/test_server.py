"""The engine by itself: states, literals, limits, goodbyes; and whatever bytes come, nothing but answers."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posthouse.imap import replies
from posthouse.imap.commands import any as common
from posthouse.imap.commands import append, auth, mailboxes
from posthouse.imap.options import Options
from posthouse.imap.server import ImapServer

STEPS = [1, 2, 3, 7, 1_000_000]
OPTIONS = Options(plaintext_login=True, max_line=500, max_literal=1000, max_literal_before_login=100, max_message=5000)


class Play:
    """Feeds an engine and answers its events in the simplest way."""

    def __init__(self, options: Options = OPTIONS, step: int = 1_000_000) -> None:
        self.engine = ImapServer(options)
        self.step = step
        self.events: list[Any] = []
        self.output = b""
        self.content = b""

    def send(self, data: bytes) -> bytes:
        """What the engine says to these bytes."""
        self.output = b""
        for at in range(0, len(data), self.step):
            self.engine.receive(data[at : at + self.step])
            while (event := self.engine.next_event()) is not None:
                self.events.append(event)
                self.answer(event)
            self.output += self.engine.take_output()
        return self.output

    def answer(self, event: Any) -> None:
        engine = self.engine
        if isinstance(event, auth.Login):
            if event.password == "x":
                engine.authenticated()
            else:
                engine.not_authenticated()
        elif isinstance(event, auth.Authenticate):
            engine.challenge(b"")
        elif isinstance(event, auth.AuthResponse):
            engine.not_authenticated()
        elif isinstance(event, auth.StartTls):
            engine.start_tls()
            engine.tls_started()
        elif isinstance(event, mailboxes.Select):
            engine.selected()
            engine.ok("SELECT completed", b"READ-WRITE")
        elif isinstance(event, mailboxes.Idle):
            engine.idle()
        elif isinstance(event, mailboxes.Done):
            engine.end_idle()
        elif isinstance(event, append.Append):
            self.content = b""
            if event.target.name == "no":
                engine.no(replies.TRY_CREATE)
            else:
                engine.proceed()
        elif isinstance(event, append.AppendData):
            self.content += event.data
            if self.content.startswith(b"stop"):
                engine.no(replies.STORAGE_FULL)
            else:
                engine.proceed()
        elif not isinstance(event, append.AppendAborted):
            engine.ok("done")


def logged_in(step: int = 1_000_000) -> Play:
    play = Play(step=step)
    play.send(b"l LOGIN bob x\r\n")
    return play


def test_greeting() -> None:
    engine = ImapServer(Options())
    engine.greet("mail.example.org")
    greeting = engine.take_output()
    assert greeting.startswith(b"* OK [CAPABILITY IMAP4rev1 IMAP4rev2 ")
    assert b"STARTTLS LOGINDISABLED]" in greeting


@pytest.mark.parametrize("step", STEPS)
def test_states(step: int) -> None:
    play = Play(step=step)
    assert play.send(b"a SELECT x\r\n") == b"a BAD Log in first\r\n"
    assert play.send(b"a FOO\r\n") == b"a BAD No such command\r\n"
    assert play.send(b"\r\n") == b""
    assert play.send(b"a\r\n").startswith(b"* BAD ")
    assert play.send(b"+ NOOP\r\n").startswith(b"* BAD ")
    assert play.send(b"a LOGIN bob x\r\n").startswith(b"a OK [CAPABILITY IMAP4rev1 ")
    assert play.send(b"a LOGIN bob x\r\n") == b"a BAD You are logged in already\r\n"
    assert play.send(b"a FETCH 1 UID\r\n") == b"a BAD No mailbox is selected\r\n"
    assert play.send(b"a select x\r\n").startswith(b"a OK ")
    assert play.send(b"a uid fetch 1 flags\r\n") == b"a OK done\r\n"
    assert play.send(b"a LOGOUT\r\nb NOOP\r\n") == b"* BYE Goodbye\r\na OK LOGOUT completed\r\n"
    assert play.engine.closed


@pytest.mark.parametrize("step", STEPS)
def test_enable(step: int) -> None:
    play = logged_in(step)
    assert play.send(b"a ENABLE FOO\r\n") == b"* ENABLED\r\na OK ENABLE completed\r\n"
    assert play.send(b"a enable imap4rev2\r\n") == b"* ENABLED IMAP4rev2\r\na OK ENABLE completed\r\n"
    play.send('a SELECT "ü"\r\n'.encode())
    assert play.events[-1] == mailboxes.Select("ü", False)


@pytest.mark.parametrize("step", STEPS)
def test_literals(step: int) -> None:
    play = Play(step=step)
    assert play.send(b"a LOGIN {3}\r\n") == b"+ Go ahead\r\n"
    assert play.send(b"bob {1}\r\n") == b"+ Go ahead\r\n"
    assert play.send(b"x\r\n").startswith(b"a OK")
    assert play.send(b"a SELECT {2000}\r\n") == b"a BAD [TOOBIG] The literals of this command are too large\r\n"
    skipped = b"b SELECT {2000+}\r\n" + b"x" * 2000 + b"\r\nc NOOP\r\n"
    assert play.send(skipped) == b"b BAD [TOOBIG] The literals of this command are too large\r\nc OK done\r\n"


@pytest.mark.parametrize("step", STEPS)
def test_before_login_nothing_large_is_taken(step: int) -> None:
    assert Play(step=step).send(b"a LOGIN {101}\r\n").startswith(b"a BAD [TOOBIG]")
    play = Play(step=step)
    assert play.send(b"a LOGIN {101+}\r\n") == b"* BYE [TOOBIG] That is more than this server takes\r\n"
    assert play.engine.closed
    play = Play(step=step)
    assert play.send(b"a APPEND x {10}\r\n") == b"a BAD Log in first\r\n"


@pytest.mark.parametrize("step", STEPS)
def test_append(step: int) -> None:
    play = logged_in(step)
    message = b"From: x\r\n\r\na b {3}\r\n"
    command = b"a APPEND {1+}\r\nx (\\Seen) {%d}\r\n" % len(message)
    assert play.send(command) == b"+ Go ahead\r\n"
    assert play.send(message + b"\r\n") == b"a OK done\r\n"
    assert play.content == message
    assert play.send(b"a APPEND x {%d+}\r\n%b\r\nb NOOP\r\n" % (len(message), message)) == b"a OK done\r\nb OK done\r\n"
    assert play.content == message
    assert play.send(b"a APPEND x {0+}\r\n\r\n") == b"a OK done\r\n"


@pytest.mark.parametrize("step", STEPS)
def test_append_refused(step: int) -> None:
    play = logged_in(step)
    trycreate = b"a " + replies.TRY_CREATE.encode() + b"\r\n"
    assert play.send(b"a APPEND no {3}\r\n") == trycreate
    assert play.send(b"a APPEND no {3+}\r\nabc\r\nb NOOP\r\n") == trycreate + b"b OK done\r\n"
    assert play.send(b"a APPEND x {6000}\r\n") == b"a " + replies.TOO_BIG.encode() + b"\r\n"
    assert play.send(b"a APPEND x {6000+}\r\n" + b"y" * 6000 + b"\r\nb NOOP\r\n") == (
        b"a " + replies.TOO_BIG.encode() + b"\r\nb OK done\r\n"
    )
    full = b"a " + replies.STORAGE_FULL.encode() + b"\r\n"
    assert play.send(b"a APPEND x {8+}\r\nstop....\r\nb NOOP\r\n") == full + b"b OK done\r\n"
    assert play.send(b"a APPEND x (\\Foo) {3+}\r\nabc\r\nb NOOP\r\n") == (
        b"a BAD APPEND: no such system flag\r\nb OK done\r\n"
    )
    assert play.send(b"a APPEND x {3+}\r\nabc foo\r\nb NOOP\r\n") == (
        b"a BAD APPEND: the message has to be a literal\r\nb OK done\r\n"
    )
    assert play.events[-2] == append.AppendAborted()
    assert play.send(b"a APPEND x {3+}\r\nabc" + b"y" * 1000 + b"\r\nb NOOP\r\n") == (
        b"a BAD [TOOBIG] The command is too long\r\nb OK done\r\n"
    )
    assert play.events[-2] == append.AppendAborted()
    play.send(b"a APPEND x\r\n")
    assert play.output.startswith(b"a BAD APPEND")
    gone = play.send(b"a APPEND x {99999999999+}\r\n")
    assert gone.startswith(b"* BYE [TOOBIG]")


@pytest.mark.parametrize("step", STEPS)
def test_idle(step: int) -> None:
    play = logged_in(step)
    assert play.send(b"a IDLE\r\n") == b"+ idling\r\n"
    play.engine.untagged(b"3 EXISTS")
    assert play.send(b"done\r\n") == b"* 3 EXISTS\r\na OK IDLE completed\r\n"
    assert play.send(b"a IDLE\r\nb NOOP\r\nc NOOP\r\n") == b"+ idling\r\na BAD IDLE is ended by DONE\r\nc OK done\r\n"
    assert play.send(b"a IDLE\r\n" + b"x" * 5000 + b"\r\nc NOOP\r\n").endswith(
        b"a BAD IDLE is ended by DONE\r\nc OK done\r\n"
    )


@pytest.mark.parametrize("step", STEPS)
def test_authenticate(step: int) -> None:
    play = Play(step=step)
    assert play.send(b"a AUTHENTICATE PLAIN\r\n") == b"+ \r\n"
    assert play.send(b"*\r\n") == b"a BAD Cancelled\r\n"
    assert play.send(b"a AUTHENTICATE PLAIN\r\n!!\r\n").endswith(b"a BAD That is not base64\r\n")
    assert play.send(b"a AUTHENTICATE PLAIN\r\nAGE=\r\n").endswith(
        b"a NO [AUTHENTICATIONFAILED] Wrong name or password\r\n"
    )
    assert play.events[-1] == auth.AuthResponse(b"\0a")
    assert play.send(b"a AUTHENTICATE X-FOO\r\n") == b"a NO [CANNOT] That way to log in is not offered\r\n"


def test_logging_in_needs_tls() -> None:
    play = Play(Options())
    assert play.send(b"a LOGIN bob x\r\n").startswith(b"a NO [PRIVACYREQUIRED]")
    assert play.send(b"a STARTTLS\r\n") == b"a OK Begin the TLS handshake\r\n"
    assert b"STARTTLS" not in play.send(b"a CAPABILITY\r\n")
    assert play.send(b"a STARTTLS\r\n") == b"a BAD TLS is here already\r\n"
    assert play.send(b"a LOGIN bob x\r\n").startswith(b"a OK")


def test_what_follows_starttls_in_the_clear_is_never_obeyed() -> None:
    play = Play(Options())
    assert play.send(b"a STARTTLS\r\nb NOOP\r\n") == b"a BAD Nothing may follow STARTTLS before the handshake\r\n"
    assert play.events == []
    engine = ImapServer(Options())
    engine.receive(b"a STARTTLS\r\n")
    assert engine.next_event() == auth.StartTls()
    engine.receive(b"b NOOP\r\n")
    engine.start_tls()
    assert engine.next_event() is None
    engine.tls_started()
    assert engine.next_event() is None
    engine.receive(b"c NOOP\r\n")
    assert engine.next_event() == common.Noop("NOOP")


def test_what_comes_under_tls_before_the_handshake_is_reported_counts() -> None:
    engine = ImapServer(Options())
    engine.receive(b"a STARTTLS\r\n")
    assert engine.next_event() == auth.StartTls()
    engine.start_tls()
    engine.receive(b"b NOOP\r\n")
    assert engine.next_event() is None
    engine.tls_started()
    assert engine.next_event() == common.Noop("NOOP")


def test_too_many_errors() -> None:
    play = Play()
    assert play.send(b"a FOO\r\n" * 30).count(b"\r\n") == 21
    assert play.output.endswith(b"* BYE Too many errors\r\n")
    play = Play()
    play.send(b"a LOGIN bob y\r\n" * 9)
    assert play.output.count(b"AUTHENTICATIONFAILED") == 5
    assert play.engine.closed


def test_an_engine_costs_little_memory() -> None:
    import tracemalloc

    tracemalloc.start()
    try:
        engines = [ImapServer(OPTIONS) for _ in range(200)]
        before = tracemalloc.get_traced_memory()[0]
        more = [ImapServer(OPTIONS) for _ in range(200)]
        used = (tracemalloc.get_traced_memory()[0] - before) / 200
    finally:
        tracemalloc.stop()
    assert len(engines) == len(more)
    assert used < 1500


WORDS = st.sampled_from(
    [
        b"a ",
        b"b ",
        b"NOOP",
        b"LOGIN bob x",
        b"SELECT x",
        b"\r\n",
        b"\n",
        b"{3}",
        b"{3+}",
        b"{700+}",
        b"{9999999+}",
        b"APPEND x ",
        b"IDLE",
        b"DONE",
        b"AUTHENTICATE PLAIN",
        b"*",
        b"AGE=",
        b"LOGOUT",
        b"x" * 300,
        b"\0",
        b"\xff",
        b" ",
        b"(",
        b"UID ",
        b"FETCH 1 BODY[]",
        b"SEARCH ALL",
        b"STARTTLS",
        b"abc",
        b"ENABLE IMAP4rev2",
        b"STORE 1 FLAGS ()",
        b"~{3}",
        b"CAPABILITY",
    ]
)


@given(st.lists(WORDS, max_size=40), st.sampled_from(STEPS), st.booleans())
@settings(max_examples=300)
def test_whatever_comes_the_engine_answers(words: list[bytes], step: int, inside: bool) -> None:
    play = logged_in(step) if inside else Play(step=step)
    output = play.send(b"".join(words))
    assert output == b"" or output.endswith(b"\r\n")
    assert b"\0" not in output
    assert play.engine.closed or play.engine.buffered <= 1001
    for line in output.split(b"\r\n")[:-1]:
        assert line[:2] in (b"* ", b"+ ", b"a ", b"b ") or line.split(b" ")[1] in (b"OK", b"NO", b"BAD"), line


@given(st.binary(max_size=200), st.booleans())
def test_random_bytes(data: bytes, inside: bool) -> None:
    play = logged_in() if inside else Play()
    assert (
        play.send(data + b"\r\n").endswith(b"\r\n") or data.strip(b"\r\n") == b"" or play.engine.closed or b"{" in data
    )

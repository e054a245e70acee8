"""Plays a conversation against the engine, with a small session behind it, at any chunk size.

Lines "C: …" are sent, lines "S: …" must come back, in this order; "…" at the end of an S line matches the
rest. Everything the client says is sent at once (pipelined), cut into chunks of `step` bytes; then the
output must equal all S lines. A line "--" waits: what is after it is sent when what is before was answered.
"""

from array import array
from textwrap import dedent

from posthouse.pop3 import replies
from posthouse.pop3.events import Auth, AuthResponse, Event, Login, Pause, Retrieve, StartTls, Update
from posthouse.pop3.maildrop import Maildrop
from posthouse.pop3.server import Options, Pop3Server
from posthouse.wire import sasl

MESSAGES = [
    b"From: a@x.test\r\nSubject: one\r\n\r\nline 1\r\n.line 2\r\nline 3\r\n",
    b"Subject: two\r\n\r\n",
    b"Subject: three\r\n\r\n" + b".\r\n" * 3,
]
SECURE = Options(secure=True)
STEPS = (1, 2, 3, 7, 10_000)
LOGIN = """
    S: +OK mail.here.test …
    C: USER bob
    S: +OK Send the password
    C: PASS secret word
    S: +OK 3 messages, 100 octets
"""
PLAIN_PORT = Options(starttls=True)


class Player:
    """Bob's password is "secret word"; he has `messages`."""

    def __init__(self, options: Options = SECURE, messages: list[bytes] = MESSAGES) -> None:
        self.engine = Pop3Server(options)
        self.engine.greet(replies.greeting("mail.here.test"))
        self.messages = messages
        self.events: list[Event] = []
        self.updates: list[tuple[int, ...]] = []
        self.piece = 10

    def send(self, data: bytes, step: int = 10_000) -> bytes:
        """Feed the engine, answer its events, return its output."""
        output = b""
        for at in range(0, len(data), step):
            self.engine.receive(data[at : at + step])
            while (event := self.engine.next_event()) is not None:
                self.events.append(event)
                output += self.answer(event)
        return output + self.engine.take_output()

    def answer(self, event: Event) -> bytes:
        match event:
            case StartTls():
                self.engine.reply(replies.BEGIN_TLS)
                self.engine.tls_started()
            case Login(name, password):
                self._login(name, password)
            case Auth(mechanism, initial):
                made = sasl.server(mechanism)
                assert made is not None
                self._mechanism = made
                self._step(initial)
            case AuthResponse(data):
                self._step(data)
            case Retrieve(number, _):
                message = self.messages[number - 1]
                for at in range(0, len(message), self.piece):
                    if self.engine.content(message[at : at + self.piece]):
                        break
                self.engine.end_content()
            case Pause():
                output = self.engine.take_output()
                self.engine.proceed()
                return output
            case Update(deleted):
                self.updates.append(deleted)
                self.engine.reply(replies.BYE)
        return b""

    def _step(self, data: bytes | None) -> None:
        match self._mechanism.step(data):
            case sasl.Challenge(challenge):
                self.engine.challenge(challenge)
            case sasl.Credentials(authcid, _, password):
                self._login(authcid, password)
            case _:
                self.engine.reply(replies.AUTH_MALFORMED)

    def _login(self, name: str, password: str) -> None:
        if (name, password) == ("bob", "secret word"):
            sizes = array("Q", [len(m) for m in self.messages])
            self.engine.authenticated(Maildrop(7, array("I", range(101, 101 + len(sizes))), sizes))
        else:
            self.engine.reply(replies.AUTH_FAILED)


def play(conversation: str, step: int, player: Player | None = None) -> Player:
    """Check a conversation."""
    player = player or Player()
    lines = [line for line in dedent(conversation).strip().split("\n") if line]
    parts: list[list[str]] = [[]]
    for line in lines:
        if line == "--":
            parts.append([])
        else:
            parts[-1].append(line)
    for part in parts:
        sent = "".join(line[3:] + "\r\n" for line in part if line.startswith("C:"))
        wanted = [line[3:] for line in part if line.startswith("S:")]
        got = player.send(sent.encode(), step).decode().split("\r\n")
        assert got.pop() == ""
        assert len(got) == len(wanted), got
        for have, want in zip(got, wanted, strict=True):
            if want.endswith("…"):
                assert have.startswith(want[:-1]), (have, want)
            else:
                assert have == want
    return player

"""The client engine: back to back with the server engine, and against servers that misbehave."""

import re
from collections.abc import Callable
from typing import Any

import pytest

from posthouse.smtp import client as c
from posthouse.smtp import replies
from posthouse.smtp.client import (
    Authenticated,
    AuthRefused,
    Closed,
    Failed,
    NeedContent,
    Ready,
    Sent,
    SmtpClient,
    StartTls,
    TlsRefused,
)
from posthouse.smtp.client_transaction import UTF8_NOT_OFFERED
from posthouse.smtp.replies import Reply
from posthouse.smtp.server import ServerOptions
from tests.support.play import CHUNKS, cut
from tests.support.smtp_site import SmtpSite


class Pair:
    """A client and a server engine with a wire between them that carries `chunk` bytes at a time."""

    def __init__(self, chunk: int = 1 << 20, pipelining: bool = True, **settings: Any) -> None:
        self.site = SmtpSite(ServerOptions(hostname="mx.example.org", **settings))
        self.client = SmtpClient("client.example", pipelining=pipelining)
        self.chunk = chunk
        self.wire: list[bytes] = []  # what the client sent
        self.site.engine.greet(replies.greeting("mx.example.org"))

    def next(self) -> Any:
        """The client's next event."""
        engine = self.site.engine
        while True:
            happened = self.client.next_event()
            sent = self.client.take_output()
            self.wire.append(sent)
            for piece in cut(sent, self.chunk):
                engine.receive(piece)
                while (event := engine.next_event()) is not None:
                    self.site.answer(event)
            if happened is not None:
                return happened
            answer = engine.take_output()
            assert answer, "both sides wait for each other"
            for piece in cut(answer, self.chunk):
                self.client.receive(piece)

    def send(self, *recipients: str, content: bytes = b"Subject: x\r\n\r\nx\r\n", **params: Any) -> Sent:
        self.client.send("alice@example.com", recipients, **params)
        event = self.next()
        if isinstance(event, NeedContent):
            for piece in cut(content, self.chunk):
                self.client.content(piece)
            self.client.end_content()
            event = self.next()
        assert isinstance(event, Sent)
        return event


def scripted(*answers: str, pipelining: bool = True) -> tuple[SmtpClient, Callable[[], Any]]:
    """A client whose server says the given lines, one string for each time the client waits."""
    client = SmtpClient("client.example", pipelining=pipelining)
    script = iter(answers)

    def following() -> Any:
        while (event := client.next_event()) is None:
            client.take_output()
            answer = next(script, None)
            if answer is None:
                client.lost()
            else:
                client.receive(answer.encode())
        return event

    return client, following


GREETED = ("220 mx ESMTP\r\n", "250-mx\r\n250-PIPELINING\r\n250 SIZE 1000\r\n")


@pytest.mark.parametrize("chunk", CHUNKS)
@pytest.mark.parametrize("pipelining", [True, False])
def test_several_messages_to_several_recipients(chunk: int, pipelining: bool) -> None:
    pair = Pair(chunk, pipelining)
    ready = pair.next()
    assert isinstance(ready, Ready)
    assert ready.extensions["SIZE"] == "52428800"
    recipients = ["bob@example.org", "nobody@example.org", "full@example.org", "carol@example.org"]
    for _ in range(2):
        sent = pair.send(*recipients, size=18, content=b".dots\r\n..\r\nno end")
        assert [(r.recipient, r.reply.code, r.command, r.remote) for r in sent.results] == [
            ("bob@example.org", 250, "end", True),
            ("nobody@example.org", 550, "RCPT", True),
            ("full@example.org", 452, "RCPT", True),
            ("carol@example.org", 250, "end", True),
        ]
        assert [r.accepted for r in sent.results] == [True, False, False, True]
    assert sent.results[0].reply == Reply(250, "2.0.0", "Accepted as 2")
    assert [m.content for m in pair.site.accepted] == [b".dots\r\n..\r\nno end\r\n"] * 2
    assert pair.site.accepted[0].recipients == ["bob@example.org", "carol@example.org"]
    assert pair.site.accepted[0].params.size == 18
    pair.client.quit()
    assert pair.next() == Closed()
    assert pair.client.closed
    groups = [w for w in pair.wire if b"MAIL FROM" in w]
    assert all((b"DATA" in group) == pipelining for group in groups)


@pytest.mark.parametrize("pipelining", [True, False])
def test_when_nobody_is_left_no_content_is_sent_and_the_next_message_is_fine(pipelining: bool) -> None:
    pair = Pair(pipelining=pipelining)
    pair.next()
    sent = pair.send("nobody@example.org", "nobody@example.org")
    assert [(r.reply.status, r.command) for r in sent.results] == [("5.1.1", "RCPT")] * 2
    assert pair.send("bob@example.org").results[0].accepted
    assert b"".join(pair.wire).count(b"RSET") == 1


@pytest.mark.parametrize("pipelining", [True, False])
def test_a_refused_sender_refuses_all_recipients(pipelining: bool) -> None:
    pair = Pair(pipelining=pipelining)
    pair.next()
    pair.client.send("x@spam.example", ["bob@example.org", "carol@example.org"])
    sent = pair.next()
    assert {(r.reply.text, r.command, r.remote) for r in sent.results} == {("Refused", "MAIL", True)}
    assert pair.send("bob@example.org").results[0].accepted


def test_refused_content() -> None:
    pair = Pair()
    pair.next()
    sent = pair.send("bob@example.org", content=b"please refuse\r\n")
    assert sent.results[0].reply == Reply(554, "5.7.1", "Refused for what it says")
    assert pair.send("bob@example.org").results[0].accepted


def test_bare_line_ends_never_leave() -> None:
    pair = Pair(3)
    pair.next()
    pair.send("bob@example.org", content=b"a\n.\nMAIL FROM:<x@y>\r.\r\r\n.\r\nb\n.\r\n")
    assert pair.site.accepted[0].content == b"a\r\n.\r\nMAIL FROM:<x@y>\r\n.\r\n\r\n.\r\nb\r\n.\r\n"
    assert len(pair.site.accepted) == 1


def test_tls_and_authentication() -> None:
    pair = Pair(submission=True, starttls=True, mechanisms=("PLAIN", "LOGIN"))
    pair.next()
    pair.client.authenticate("alice", "secret")
    refused = pair.next()
    assert isinstance(refused, AuthRefused)
    assert not refused.remote
    pair.client.start_tls()
    assert pair.next() == StartTls()
    pair.site.engine.tls_started()
    pair.client.tls_started("TLSv1.3")
    assert isinstance(pair.next(), Ready)
    assert not pair.client.offers("STARTTLS")
    pair.client.start_tls()
    assert pair.next() == TlsRefused(c.TLS_NOT_OFFERED)
    pair.client.authenticate("alice", "wrong")
    wrong = pair.next()
    assert isinstance(wrong, AuthRefused)
    assert (wrong.reply.code, wrong.remote) == (535, True)
    pair.client.authenticate("alice", "secret")
    assert isinstance(pair.next(), Authenticated)
    assert pair.send("dave@elsewhere.example").results[0].accepted
    transcript = "\n".join(pair.client.transcript)
    assert "AUTH PLAIN (secret)" in transcript
    assert "AGFsaWNl" not in transcript
    assert "octets of content" in transcript


def test_login_mechanism_and_plaintext() -> None:
    pair = Pair(submission=True, plaintext_auth=True, mechanisms=("LOGIN",))
    pair.next()
    pair.client.authenticate("alice", "secret", plaintext=True)
    assert isinstance(pair.next(), Authenticated)
    assert not [line for line in pair.client.transcript if "c2VjcmV0" in line or "YWxpY2U" in line]


def test_hello_falls_back_to_helo() -> None:
    client, following = scripted("220 old\r\n", "500 what?\r\n", "250 old\r\n")
    assert following() == Ready({})
    assert client.transcript == [
        "S: 220 old",
        "C: EHLO client.example",
        "S: 500 what?",
        "C: HELO client.example",
        "S: 250 old",
    ]


@pytest.mark.parametrize(
    ("answers", "code", "command", "remote"),
    [
        (["554 5.7.1 go away\r\n"], 554, "greeting", True),
        (["421 4.3.2 busy\r\n"], 421, "greeting", True),
        (["220 mx\r\n", "421 bye\r\n"], 421, "EHLO", True),
        (["220 mx\r\n", "451 later\r\n"], 451, "EHLO", True),
        (["220 mx\r\n", "500 no\r\n", "500 no\r\n"], 500, "HELO", True),
        (["hello?\r\n"], 451, "", False),
        (["220 mx\r\n250 what\r\n250 more\r\n"], 451, "", False),
        (["x" * 5000], 451, "", False),
        (["220-x\r\n" * 300], 451, "", False),
        ([], 451, "", False),
    ],
)
def test_a_connection_that_cannot_be_used(answers: list[str], code: int, command: str, remote: bool) -> None:
    client, following = scripted(*answers)
    event = following()
    if isinstance(event, Ready):
        event = following()
    assert isinstance(event, Failed)
    assert (event.reply.code, event.command, event.remote) == (code, command, remote)
    assert client.closed
    assert client.next_event() is None


@pytest.mark.parametrize(
    ("answers", "code", "command", "remote"),
    [
        (["421 4.3.2 going down\r\n"], 421, "MAIL", True),
        ([], 451, "", False),
        (["250 ok\r\n250 ok\r\n451 4.7.1 greylisted\r\n"], 451, "DATA", True),
        (["250 ok\r\n250 ok\r\n250 strange\r\n"], 451, "DATA", False),
        (["250 ok\r\n250 ok\r\n421 bye\r\n"], 421, "DATA", True),
        (["250 ok\r\n354 strange\r\n354 go\r\n", "554 no recipients\r\n"], 451, "RCPT", False),
        (["354 strange\r\n550 no\r\n503 no\r\n"], 451, "MAIL", False),
    ],
)
def test_a_transaction_that_breaks_ends_with_sent(answers: list[str], code: int, command: str, remote: bool) -> None:
    client, following = scripted(*GREETED, *answers)
    following()
    client.send("a@example.com", ["b@example.org"])
    sent = following()
    assert isinstance(sent, Sent)
    (result,) = sent.results
    assert (result.reply.code, result.command, result.remote) == (code, command, remote)
    assert not result.accepted


@pytest.mark.parametrize(
    ("answer", "code", "remote"),
    [("552 5.3.4 enough\r\n", 552, True), ("250 already\r\n", 451, False), ("421 bye\r\n", 421, True)],
)
def test_a_reply_in_the_midst_of_the_content(answer: str, code: int, remote: bool) -> None:
    client, following = scripted(*GREETED, "250 ok\r\n250 ok\r\n354 go\r\n", answer)
    following()
    client.send("a@example.com", ["b@example.org"])
    assert following() == NeedContent()
    client.content(b"x" * 100)
    assert client.patience == c.TIMEOUTS["content"]
    (result,) = following().results
    assert (result.reply.code, result.remote, client.closed) == (code, remote, True)
    client.content(b"more")
    client.end_content()
    assert client.take_output() == b""


def test_patience_follows_the_phase() -> None:
    client, following = scripted(*GREETED, pipelining=False)
    assert client.patience == 300
    following()
    client.send("a@example.com", ["b@example.org"])
    seen = []
    for answer in (b"250 ok\r\n", b"250 ok\r\n", b"354 go\r\n"):
        seen.append(client.patience)
        client.receive(answer)
        event = client.next_event()
    assert event == NeedContent()
    client.end_content()
    assert [*seen, client.patience] == [300, 300, 120, 600]


def test_what_cannot_be_sent_is_refused_here() -> None:
    client, following = scripted(*GREETED, "250 ok\r\n" * 2 + "354 go\r\n", "250 ok\r\n")
    following()
    client.send("a@example.com", ["b@example.org"], size=1001)
    (result,) = following().results
    assert (result.reply.code, result.reply.status, result.remote) == (552, "5.3.4", False)
    assert not client.take_output()
    client.send("a@example.com", ["grün@example.org", "x@y> SIZE=1\r\nDATA", "b@example.org"], size=1000)
    assert following() == NeedContent()
    client.end_content()
    assert [(r.reply.code, r.remote) for r in following().results] == [(553, False), (553, False), (250, True)]
    client.send("a\r\nb@example.com", ["b@example.org"])
    assert not following().results[0].accepted
    client.send("grün@example.com", ["b@example.org"])
    assert following().results[0].reply == UTF8_NOT_OFFERED


def test_parameters_only_where_offered() -> None:
    client, following = scripted("220 mx\r\n", "250-mx\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250 AUTH=LOGIN\r\n")
    following()
    assert client.extensions["AUTH"].split() == ["LOGIN"]
    client.send("a@example.com", ["grün@example.org"], size=5, eight_bit=True)
    assert client.take_output() == b"MAIL FROM:<a@example.com> BODY=8BITMIME SMTPUTF8\r\n"


def test_bytes_injected_before_the_handshake_end_it() -> None:
    client, following = scripted("220 mx\r\n", "250-mx\r\n250 STARTTLS\r\n", "220 go\r\n250 evil\r\n")
    following()
    client.start_tls()
    event = following()
    assert isinstance(event, Failed)
    assert client.closed


def test_a_server_that_asks_for_ever() -> None:
    client, following = scripted("220 mx\r\n", "250-mx\r\n250 AUTH LOGIN\r\n", *["334 VXNlcm5hbWU6\r\n"] * 9)
    following()
    client.authenticate("alice", "secret", plaintext=True)
    event = following()
    assert isinstance(event, AuthRefused)
    assert client.transcript[-2:] == ["C: *", "S: 334 VXNlcm5hbWU6"]


def test_abort_sends_no_end() -> None:
    pair = Pair()
    pair.next()
    pair.client.send("alice@example.com", ["bob@example.org"])
    assert pair.next() == NeedContent()
    pair.client.content(b"half a message\r\n")
    pair.client.abort()
    assert pair.client.take_output() == b""
    (result,) = pair.next().results
    assert (result.reply.code, result.remote, pair.client.closed) == (451, False, True)


def test_the_transcript_is_bounded_and_can_be_taken() -> None:
    pair = Pair()
    pair.next()
    first = pair.client.take_transcript()
    assert first[0].startswith("S: 220 mx.example.org")
    for _ in range(20):
        pair.send(*["nobody@example.org"] * 15)
        pair.site.engine._errors = 0
    assert sum(map(len, pair.client.transcript)) < c.MAX_TRANSCRIPT
    many = [f"u{n}@example.org" for n in range(1000)] * 2
    pair.send(*many)
    assert pair.client.transcript[-1] == "! more lines were left out"


def test_a_thousand_recipients_each_with_a_result() -> None:
    pair = Pair()
    pair.next()
    many = [f"{'nobody' if n % 100 == 0 else f'u{n}'}@example.org" for n in range(1100)]
    sent = pair.send(*many)
    codes = [r.reply.code for r in sent.results]
    assert [r.recipient for r in sent.results] == many
    assert codes.count(550) == 10
    assert codes.count(452) == 100  # beyond the limit of one transaction: the queue sends them again
    assert codes.count(250) == 990


def test_methods_out_of_turn_are_our_own_bug() -> None:
    client = SmtpClient("client.example")
    with pytest.raises(RuntimeError):
        client.send("a@example.com", ["b@example.org"])


def test_multi_line_replies_keep_their_lines() -> None:
    client, following = scripted(*GREETED, "250 ok\r\n550-5.1.1 first\r\n550 5.1.1 second \xff\r\n503 no\r\n")
    following()
    client.send("a@example.com", ["b@example.org"])
    (result,) = following().results
    assert result.reply == Reply(550, "5.1.1", "first\nsecond ÿ")
    assert re.fullmatch(r"S: 550 5.1.1 second .", client.transcript[-2])

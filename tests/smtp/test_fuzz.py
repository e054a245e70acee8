"""Hostile peers: whatever comes, engines do not raise, do not hold much, do not say much."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from posthouse.smtp import client as c
from posthouse.smtp import replies
from posthouse.smtp.client import NeedContent, Ready, Sent, SmtpClient
from posthouse.smtp.options import EXTENSIONS
from posthouse.smtp.server import ServerOptions
from posthouse.smtp.states import AUTH_LINE
from posthouse.wire.dots import has_bare
from tests.support.smtp_site import SmtpSite

_WORDS = [
    b"EHLO c.example", b"HELO c", b"MAIL FROM:<a@example.com>", b"mail from:<> SIZE=5 BODY=8BITMIME",
    b"RCPT TO:<b@example.org>", b"RCPT TO:<nobody@example.org>", b"DATA", b"RSET", b"NOOP", b"QUIT", b"VRFY x",
    b"HELP", b"STARTTLS", b"AUTH PLAIN AGFsaWNlAHNlY3JldA==", b"AUTH LOGIN", b"YWxpY2U=", b"c2VjcmV0", b"*", b".",
    b"Subject: x", b"", b"..", b"GET / HTTP/1.0", b"EXPN", b"BDAT 3 LAST",
    b"BDAT 5", b"BDAT 0 LAST", b"BDAT 99999999999", b"BDAT x", b"LHLO c",
    b"MAIL FROM:<\xc3\xa4@b.c> SMTPUTF8 BODY=BINARYMIME", b"XCLIENT ADDR=1.2.3.4", b"ETRN x",
    b"RCPT TO:<b@example.org> NOTIFY=NEVER", b"x" * 600, b"x" * 2100, b'"<>@,;:\\"',
]  # fmt: skip
_ENDS = st.sampled_from([b"\r\n"] * 12 + [b"\n", b"\r", b"\r\r\n", b"\0\r\n", b" \r\n", b""])
_lines = st.lists(st.tuples(st.sampled_from(_WORDS), _ENDS).map(b"".join), max_size=30)
_dialogue = st.one_of(
    _lines,
    st.lists(st.one_of(st.binary(max_size=30), st.sampled_from(_WORDS), _ENDS), max_size=30),
    # a good beginning, then anything
    st.tuples(
        st.just([b"EHLO c\r\n", b"MAIL FROM:<a@b.c>\r\n", b"RCPT TO:<b@example.org>\r\n", b"DATA\r\n"]), _lines
    ).map(lambda both: both[0] + both[1]),
)


@settings(max_examples=300, deadline=None)
@given(_dialogue, st.booleans(), st.sets(st.sampled_from(EXTENSIONS)).map(frozenset), st.booleans())
def test_server(pieces: list[bytes], submission: bool, extensions: frozenset[str], lmtp: bool) -> None:
    site = SmtpSite(
        ServerOptions(
            hostname="mx.example.org",
            submission=submission,
            starttls=True,
            plaintext_auth=True,
            mechanisms=("PLAIN", "LOGIN"),
            max_size=500,
            max_errors=10,
            extensions=extensions,
            lmtp=lmtp,
        )
    )
    engine = site.engine
    engine.greet(replies.greeting("mx.example.org"))
    received = said = 0
    for piece in pieces:
        engine.receive(piece)
        received += len(piece)
        while (event := engine.next_event()) is not None:
            site.answer(event)
        if site.starting_tls:
            site.starting_tls = False
            engine.tls_started()
        said += len(engine.take_output())
        assert engine.buffered <= AUTH_LINE
    # At most one reply a line; the longest is that to EHLO.
    assert said <= 600 + 400 * (received + 1)
    assert engine.closed or engine._errors < 10
    for message in site.accepted:
        assert not has_bare(message.content)
        assert len(message.content) <= 500
        assert message.recipients
        assert message.submitter == "alice" or not submission
        assert message.sender in ("", "a@example.com", "a@b.c")


_replies = st.sampled_from(
    [
        "220 mx ESMTP", "250 ok", "250-mx", "250-PIPELINING", "250-STARTTLS", "250-AUTH PLAIN LOGIN", "250 SIZE 100",
        "354 go", "334 ", "334 !", "334 VXNlcm5hbWU6", "235 2.7.0 hello", "421 4.3.2 bye", "451 4.7.1 later",
        "550 5.1.1 no", "550-5.1.1 no", "221 bye", "999 what", "hello", "", "2", "250", "250\t", "x" * 3000,
    ]
).map(str.encode)  # fmt: skip
_answers = st.lists(
    st.one_of(
        st.tuples(_replies, st.sampled_from([b"\r\n"] * 8 + [b"\n", b"\r", b""])).map(b"".join),
        st.binary(max_size=20),
        st.just(b"250-mx\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 AUTH PLAIN\r\n"),
        st.just(b"250 ok\r\n250 ok\r\n354 go\r\n"),
    ),
    max_size=25,
)


@settings(max_examples=300, deadline=None)
@given(_answers, st.booleans(), st.booleans(), st.booleans())
def test_client(pieces: list[bytes], tls: bool, login: bool, pipelining: bool) -> None:
    client = SmtpClient("client.example", pipelining=pipelining)
    recipients = ["b@example.org", "c@example.org", "no address"]
    wishes: list[Any] = [
        *[client.start_tls] * tls,
        *[lambda: client.authenticate("alice", "secret", plaintext=True)] * login,
        *[lambda: client.send("a@example.com", recipients, size=50, eight_bit=True)] * 3,
        client.quit,
    ]
    sending = sent = 0
    for piece in [b"220 mx\r\n", *pieces, None]:
        if piece is None:
            client.lost("nothing more came")
        else:
            client.receive(piece)
        while (event := client.next_event()) is not None:
            match event:
                case NeedContent():
                    client.content(b"line\r\n.dot\n")
                    client.end_content()
                case c.StartTls():
                    client.tls_started()
                case c.Failed() | c.Closed():
                    assert client.closed
                case _:
                    if isinstance(event, Sent):
                        assert [result.recipient for result in event.results] == recipients
                        assert not event.results[2].accepted
                        sent += 1
                    if isinstance(event, Ready | c.TlsRefused | c.Authenticated | c.AuthRefused) and client.closed:
                        continue
                    if wishes and not client.closed and not client._events:
                        wish = wishes.pop(0)
                        wish()
                        sending += wish not in (client.quit, client.start_tls) and client._transaction is not None
        output = client.take_output()
        assert not has_bare(output)
        assert len(output) < 2000
        assert client.buffered <= 2100
    assert client.closed
    assert client.next_event() is None
    assert sent >= sending
    assert not [line for line in client.transcript if "c2VjcmV0" in line]

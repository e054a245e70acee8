"""The server engine: every command in every state, smuggling, and what only the session can bring about."""

import base64
from typing import Any

import pytest

from posthouse.smtp import replies, states
from posthouse.smtp.events import Auth, Content, ContentAborted, Hello, Mail, Rcpt, StartTls, Xclient
from posthouse.smtp.options import EXTENSIONS
from posthouse.smtp.params import MailParams
from posthouse.smtp.replies import Reply
from posthouse.smtp.server import ServerOptions, SmtpServer
from posthouse.smtp.verbs import VERBS
from posthouse.wire.address import Address
from tests.support.play import CHUNKS, cut
from tests.support.smtp_site import SmtpSite
from tests.wire.test_dots import SMUGGLING

STATES = {
    "new": [],
    "ready": ["EHLO c.example"],
    "mail": ["EHLO c.example", "MAIL FROM:<a@example.com>"],
    "rcpt": ["EHLO c.example", "MAIL FROM:<a@example.com>", "RCPT TO:<b@example.org>"],
    "chunk": ["EHLO c.example", "MAIL FROM:<a@example.com>", "RCPT TO:<b@example.org>", "BDAT 0"],
    "auth": ["EHLO c.example", "AUTH LOGIN"],
    "shut": [],
    "data": ["EHLO c.example", "MAIL FROM:<a@example.com>", "RCPT TO:<b@example.org>", "DATA"],
    "octets": ["EHLO c.example", "MAIL FROM:<a@example.com>", "RCPT TO:<b@example.org>"],
    "tls": ["EHLO c.example", "STARTTLS"],
}

# What each command is answered in each state; "-" is nothing. In "auth" every line is a response: QUIT is base64, as it
# happens, so it is taken as the name. In "data" and "octets" it is content, in "tls" the handshake is due; who is in
# "shut" is not wanted.
TABLE = """
command                     new  ready  mail  rcpt  chunk  auth  shut  data  octets  tls
EHLO c.example              250  250    250   250   250    501   503   -     -    -
HELO c.example              250  250    250   250   250    501   503   -     -    -
LHLO c.example              500  500    500   500   500    501   503   -     -    -
MAIL FROM:<a@example.com>   503  250    503   503   503    501   503   -     -    -
RCPT TO:<b@example.org>     503  503    250   250   503    501   503   -     -    -
DATA                        503  503    503   354   503    334   503   -     -    -
BDAT 0                      503  503    503   250   250    501   503   -     -    -
BDAT 0 LAST                 503  503    503   250   250    501   503   -     -    -
BURL imap://a/b/;UID=1      503  530    530   530   530    501   503   -     -    -
RSET                        250  250    250   250   250    334   503   -     -    -
NOOP                        250  250    250   250   250    334   503   -     -    -
QUIT                        221  221    221   221   221    334   221   -     -    -
VRFY b                      252  252    252   252   252    501   503   -     -    -
EXPN b                      252  252    252   252   252    501   503   -     -    -
ETRN example.org            503  459    503   503   503    501   503   -     -    -
HELP                        214  214    214   214   214    334   503   -     -    -
STARTTLS                    503  220    503   503   503    334   503   -     -    -
AUTH PLAIN                  503  334    503   503   503    501   503   -     -    -
XCLIENT NAME=x              220  220    503   503   503    501   503   -     -    -
TURN                        502  502    502   502   502    334   503   -     -    -
XYZZY                       500  500    500   500   500    501   503   -     -    -
GET / HTTP/1.1              421  421    421   421   421    501   421   -     -    -
*                           500  500    500   500   500    501   503   -     -    -
"""
_HEAD, *_ROWS = TABLE.strip().splitlines()
CASES = [
    (row[:28].strip(), state, 0 if code == "-" else int(code))
    for row in _ROWS
    for state, code in zip(_HEAD.split()[1:], row[28:].split(), strict=True)
]


def opened(**settings: Any) -> SmtpSite:
    site = SmtpSite(ServerOptions(hostname="mx.example.org", **settings))
    site.engine.greet(replies.greeting("mx.example.org"))
    site.engine.take_output()
    return site


def say(site: SmtpSite, *lines: str | bytes, chunk: int = 1 << 20) -> list[int]:
    """Send lines; return the codes of the replies."""
    data = b"".join([(line.encode() if isinstance(line, str) else line) + b"\r\n" for line in lines])
    return raw(site, data, chunk)


def raw(site: SmtpSite, data: bytes, chunk: int = 1 << 20) -> list[int]:
    for piece in cut(data, chunk):
        site.engine.receive(piece)
        while (event := site.engine.next_event()) is not None:
            site.answer(event)
    lines = site.engine.take_output().split(b"\r\n")
    assert lines.pop() == b""
    return [int(line[:3]) for line in lines if line[3:4] == b" "]


@pytest.mark.parametrize(("command", "state", "code"), CASES)
def test_every_command_in_every_state(command: str, state: str, code: int) -> None:
    site = opened(starttls=True, plaintext_auth=True, mechanisms=("PLAIN", "LOGIN"), extensions=frozenset(EXTENSIONS))
    for line in STATES[state]:
        assert say(site, line)[0] < 400
    if state == "octets":
        assert say(site, "BDAT 100") == []
    if state == "shut":
        site.engine.shut_out()
    assert say(site, command) == ([code] if code else [])
    assert site.engine.closed == (code in (221, 421))


def test_the_table_has_all_verbs() -> None:
    tested = {command.split()[0].encode() for command, _, _ in CASES}
    alike = {b"SEND", b"SOML", b"SAML", b"POST", b"PUT", b"OPTIONS", b"CONNECT", b"PRI"}
    assert set(VERBS) <= tested | alike


def test_the_table_has_all_states() -> None:
    seen = set()
    for state, lines in STATES.items():
        site = opened(starttls=True, plaintext_auth=True, mechanisms=("LOGIN",), extensions=frozenset(EXTENSIONS))
        say(site, *lines)
        say(site, "BDAT 100") if state == "octets" else site.engine.shut_out() if state == "shut" else None
        seen.add(site.engine.state)
    single = {states.REFUSED, states.OPEN, states.READY, states.MAIL, states.RCPT, states.CONTENT, states.AUTH}
    assert seen == single | {states.TLS, states.CHUNKS}
    every = states.COMMANDS | states.CONTENT | states.TLS | states.NEW
    assert sum(seen) + states.NEW == every, "a state that is new belongs into the table"
    engine = SmtpServer(ServerOptions(hostname="mx.example.org"))
    engine.receive(b"EHLO c.example\r\nQUIT\r\n")
    assert engine.next_event() is None, "before the greeting nothing is read"
    assert engine.take_output() == b""


@pytest.mark.parametrize("sequence", SMUGGLING, ids=repr)
def test_no_sequence_smuggles_a_second_message(sequence: bytes) -> None:
    for chunk in (1, 5, 1 << 20):
        site = opened()
        assert say(site, *STATES["rcpt"], "DATA") == [250, 250, 250, 354]
        smuggled = b"MAIL FROM:<evil@example.com>\r\nRCPT TO:<b@example.org>\r\nDATA\r\nEvil: yes\r\n.\r\n"
        codes = raw(site, b"Subject: x\r\n\r\nx" + sequence + smuggled, chunk)
        assert codes in ([250], [550])
        assert len(site.accepted) == (codes == [250])
        assert len(site.aborted) == (codes == [550])
        assert all(message.sender == "a@example.com" for message in site.accepted)
        assert say(site, "NOOP") == [250]


@pytest.mark.parametrize("end", [b"\r\n\0.\r\n", b"\r\n.\0\r\n", b"\r\n\0\0.\0\r\n", b"\r\n\0\r\n.\r\n"])
def test_a_dot_hidden_by_nuls_is_refused(end: bytes) -> None:
    for chunk in (1, 2, 3, 7, 1 << 20):
        site = opened()
        say(site, *STATES["rcpt"], "DATA")
        codes = raw(site, b"Subject: x\r\n\r\nx" + end + (b"" if end.endswith(b"\n.\r\n") else b".\r\n"), chunk)
        assert codes == [550]
        assert site.aborted == [replies.NUL_CONTENT]
    site = opened()
    say(site, *STATES["rcpt"], "DATA")
    assert raw(site, b"x\0y\r\nx\0\r\n..\r\n.\r\n") == [250], "elsewhere a NUL ends nothing"


def test_bare_content_is_refused_before_its_end_is_known() -> None:
    site = opened()
    say(site, *STATES["rcpt"], "DATA")
    assert raw(site, b"fine\r\nbare\nline\r\n") == []
    assert site.aborted == [replies.BARE_CONTENT]
    assert raw(site, b"more\n\r\n") == []
    assert raw(site, b".\r\n") == [550]
    assert len(site.aborted) == 1


def test_nothing_is_executed_across_starttls() -> None:
    site = opened(starttls=True)
    say(site, "EHLO c.example")
    assert say(site, "STARTTLS", "MAIL FROM:<evil@example.com>") == [554]
    assert site.engine.closed

    engine = SmtpServer(ServerOptions(hostname="mx.example.org", starttls=True))
    engine.greet(replies.greeting("mx"))
    engine.receive(b"EHLO c.example\r\n")
    assert isinstance(engine.next_event(), Hello)
    engine.reply(replies.OK)
    engine.receive(b"STARTTLS\r\n")
    assert engine.next_event() == StartTls()
    engine.receive(b"MAIL FROM:<evil@example.com>\r\n")  # while the session was busy
    engine.reply(replies.READY_FOR_TLS)
    assert engine.buffered == 0
    assert engine.next_event() is None
    engine.receive(b"EHLO inside.example\r\n")  # came with the end of the handshake
    assert engine.next_event() is None
    engine.tls_started()
    assert engine.secure
    assert engine.next_event() == Hello("EHLO", "inside.example")


def test_a_refused_starttls_changes_nothing() -> None:
    engine = SmtpServer(ServerOptions(hostname="mx.example.org", starttls=True))
    engine.greet(replies.greeting("mx"))
    engine.receive(b"EHLO c.example\r\n")
    engine.next_event()
    engine.reply(replies.OK)
    engine.receive(b"STARTTLS\r\n")
    engine.next_event()
    engine.reply(replies.TLS_UNAVAILABLE)
    engine.receive(b"MAIL FROM:<a@example.com>\r\n")
    assert engine.next_event() == Mail(Address("a", "example.com"), MailParams())


def test_tls_forgets_who_it_was() -> None:
    site = opened(submission=True, starttls=True, plaintext_auth=True, mechanisms=("PLAIN",))
    assert say(site, "EHLO c.example", "AUTH PLAIN AGFsaWNlAHNlY3JldA==") == [250, 235]
    assert say(site, "STARTTLS") == [220]
    site.engine.tls_started()
    assert site.engine.authenticated_as == ""
    assert say(site, "EHLO c.example", "MAIL FROM:<a@example.org>") == [250, 530]


@pytest.mark.parametrize("command", ["DATA", "STARTTLS", "BDAT 3"])
def test_input_after_a_command_that_must_be_waited_for(command: str) -> None:
    site = opened(starttls=True)
    say(site, *STATES["rcpt"])
    assert say(site, command, "Subject: what follows is not for a mail server") == [554]
    assert site.engine.closed


def test_auth_needs_ehlo_and_offers_what_is_safe() -> None:
    site = opened(mechanisms=("PLAIN", "SCRAM-SHA-256"))
    assert say(site, "HELO c.example", "AUTH PLAIN") == [250, 503]
    site.engine.receive(b"EHLO c.example\r\n")
    event = site.engine.next_event()
    site.answer(event)
    assert b"AUTH SCRAM-SHA-256\r\n" in site.engine.take_output()
    site.engine.receive(b"AUTH SCRAM-SHA-256 =\r\n")
    assert site.engine.next_event() == Auth("SCRAM-SHA-256", b"")
    site.engine.challenge(b"r=1")
    assert site.engine.take_output() == b"334 cj0x\r\n"


def test_a_long_auth_line_is_fine_and_a_longer_one_is_not() -> None:
    site = opened(plaintext_auth=True, mechanisms=("PLAIN",))
    say(site, "EHLO c.example")
    token = base64.b64encode(b"\0alice\0" + b"x" * 9000).decode()
    assert say(site, f"AUTH PLAIN {token}") == [501]
    assert say(site, "AUTH PLAIN") == [334]
    assert raw(site, b"A" * 12300) == [500, 421]
    assert site.engine.closed


def test_secrets_stay_out_of_what_is_printed() -> None:
    assert "secret" not in repr(Auth("PLAIN", b"\0alice\0secret"))


def test_require_tls() -> None:
    site = opened(require_tls=True, starttls=True, submission=True)
    assert say(site, "EHLO c.example", "MAIL FROM:<a@example.org>") == [250, 530]
    site.engine.tls_started()
    assert say(site, "EHLO c.example", "MAIL FROM:<a@example.org>") == [250, 530]
    assert site.engine.take_output() == b""


def test_content_comes_in_pieces_as_it_came() -> None:
    engine = opened().engine
    for line in (*STATES["rcpt"], "DATA"):
        engine.receive(line.encode() + b"\r\n")
        while engine.next_event() is not None:
            engine.reply(replies.OK)
    engine.receive(b"first piece")
    assert engine.next_event() == Content(b"first piece", False)
    engine.receive(b", second piece\r\n.\r\nQUIT\r\n")
    assert engine.next_event() is None  # back-pressure: the first is not answered
    assert engine.buffered == 25
    engine.proceed()
    assert engine.next_event() == Content(b", second piece\r\n", True)
    engine.reply(Reply(250, "2.0.0", "Kept"))
    assert engine.next_event() is None
    assert engine.closed
    assert engine.take_output().endswith(b"250 2.0.0 Kept\r\n221 2.0.0 Goodbye\r\n")


def test_the_session_may_refuse_in_the_midst() -> None:
    for refuse in (SmtpServer.reply, SmtpServer.fail):
        engine = opened().engine
        for line in (*STATES["rcpt"], "DATA"):
            engine.receive(line.encode() + b"\r\n")
            while engine.next_event() is not None:
                engine.reply(replies.OK)
        engine.take_output()
        engine.receive(b"first piece")
        assert isinstance(engine.next_event(), Content)
        refuse(engine, replies.STORAGE_FULL)
        engine.receive(b"second piece\r\n")
        assert engine.next_event() is None
        assert engine.take_output() == b""
        engine.receive(b".\r\nMAIL FROM:<a@example.com>\r\n")
        assert isinstance(engine.next_event(), Mail)
        assert engine.take_output() == replies.STORAGE_FULL.encode()


def test_a_last_word_comes_at_any_time() -> None:
    engine = opened().engine
    engine.receive(b"EHLO c.example\r\n")
    assert isinstance(engine.next_event(), Hello)
    engine.goodbye(replies.SHUTTING_DOWN)
    engine.reply(replies.OK)  # the session answers a moment too late
    engine.proceed()
    engine.challenge(b"")
    engine.fail(replies.LOCAL_ERROR)
    engine.goodbye(replies.TIMEOUT)
    engine.receive(b"NOOP\r\n")
    assert engine.next_event() is None
    assert engine.take_output() == replies.SHUTTING_DOWN.encode()
    assert engine.buffered == 0


def test_answers_without_a_question_are_our_own_bug() -> None:
    engine = opened().engine
    with pytest.raises(RuntimeError):
        engine.reply(replies.OK)
    with pytest.raises(RuntimeError):
        engine.proceed()
    engine.fail(replies.LOCAL_ERROR)
    assert engine.take_output() == b""


def test_a_421_from_the_session_closes() -> None:
    engine = opened().engine
    engine.receive(b"HELO c.example\r\n")
    engine.next_event()
    engine.reply(replies.TOO_MANY_CONNECTIONS)
    assert engine.closed


def test_parameters_reach_the_session() -> None:
    engine = opened(extensions=frozenset({"DSN"})).engine
    engine.receive(b"EHLO c.example\r\n")
    engine.next_event()
    engine.reply(replies.OK)
    engine.receive(b"MAIL FROM:<> SIZE=77 BODY=8BITMIME ENVID=a+2Bb RET=HDRS\r\n")
    event = engine.next_event()
    assert event == Mail(Address("", ""), MailParams(77, "8BITMIME", False, None, "HDRS", "a+b"))
    engine.reply(replies.SENDER_OK)
    engine.receive(b"RCPT TO:<b@example.org> NOTIFY=success,FAILURE ORCPT=rfc822;B+40x\r\n")
    event = engine.next_event()
    assert isinstance(event, Rcpt)
    assert event.params.notify == ("SUCCESS", "FAILURE")
    assert event.params.orcpt == "rfc822;B@x"


@pytest.mark.parametrize("chunk", CHUNKS)
def test_memory_stays_small_while_too_much_is_swallowed(chunk: int) -> None:
    site = opened(max_size=100)
    say(site, *STATES["rcpt"], "DATA")
    size = 2_000 if chunk < 10 else 1_000_000
    for piece in cut(b"x" * size, chunk):
        site.engine.receive(piece)
        while (event := site.engine.next_event()) is not None:
            site.answer(event)
        assert site.engine.buffered == 0
    assert site.aborted == [replies.MESSAGE_TOO_BIG]
    assert not site._content
    assert raw(site, b"\r\n.\r\n") == [552]


def test_the_number_of_events_for_content_is_the_number_of_chunks() -> None:
    site = opened()
    say(site, *STATES["rcpt"], "DATA")
    before = site.events
    for piece in cut(b"line\r\n..dots\r\n" * 10_000, 65_536):
        raw(site, piece)
    assert site.events - before <= 3
    assert raw(site, b".\r\n") == [250]
    assert site.accepted[0].content == b"line\r\n.dots\r\n" * 10_000


def test_aborted_content_is_an_event_that_needs_no_answer() -> None:
    engine = opened(max_size=10).engine
    for line in (*STATES["rcpt"], "DATA"):
        engine.receive(line.encode() + b"\r\n")
        while engine.next_event() is not None:
            engine.reply(replies.OK)
    engine.receive(b"more than ten octets\r\n.\r\nNOOP\r\n")
    engine.take_output()
    assert engine.next_event() == ContentAborted(replies.MESSAGE_TOO_BIG)
    assert engine.next_event() is None
    assert engine.take_output() == replies.MESSAGE_TOO_BIG.encode() + replies.OK.encode()


def test_what_is_not_offered_does_not_exist() -> None:
    site = opened()
    assert say(site, *STATES["rcpt"]) == [250, 250, 250]
    assert say(site, "BDAT 0 LAST") == [502]
    assert say(site, "EXPN b", "RSET") == [502, 250]
    assert say(site, "XCLIENT NAME=x") == [550]
    for word in ("SMTPUTF8", "RET=HDRS", "BODY=BINARYMIME", "REQUIRETLS", "BY=100;R", "HOLDFOR=5", "MT-PRIORITY=1"):
        (code,) = say(site, f"MAIL FROM:<a@example.com> {word}")
        assert code == (501 if word.startswith("BODY") else 555)


PARAMETERS = [  # what MAIL says, and what it is answered where everything is offered and TLS is on
    ("SIZE=100", 250), ("SIZE=", 501), ("SIZE=999999999999", 552), ("SIZE=1 SIZE=1", 501), ("SIZE=1e3", 501),
    ("BODY=7BIT", 250), ("BODY=8bitmime", 250), ("BODY=BINARYMIME", 250), ("BODY=X", 501), ("BODY", 501),
    ("SMTPUTF8", 250), ("SMTPUTF8=1", 501), ("RET=FULL", 250), ("RET=NONE", 501), ("ENVID=a+2Bb", 250),
    ("ENVID=" + "x" * 101, 501), ("ENVID=a+zz", 501), ("ENVID=a+0D+0A", 501), ("AUTH=<>", 250),
    ("AUTH=a+40b.example", 250),
    ("AUTH=", 501), ("REQUIRETLS", 250), ("REQUIRETLS=1", 501), ("BY=120;R", 250), ("BY=59;R", 501), ("BY=0;R", 501),
    ("BY=-5;N", 250), ("BY=-5;R", 501), ("BY=5;NT", 250), ("BY=5;X", 501), ("BY=9999999999;R", 501),
    ("HOLDFOR=60", 250),
    ("HOLDFOR=86401", 501), ("HOLDFOR=0", 501), ("HOLDFOR=-1", 501), ("HOLDUNTIL=1970-01-01T00:10:00Z", 250),
    ("HOLDUNTIL=1970-01-09T00:00:00Z", 501), ("HOLDUNTIL=1970-02-30T00:00:00Z", 501), ("HOLDUNTIL=tomorrow", 501),
    ("HOLDFOR=5 HOLDUNTIL=1970-01-01T00:10:00Z", 501), ("MT-PRIORITY=-9", 250), ("MT-PRIORITY=9", 250),
    ("MT-PRIORITY=10", 501), ("MT-PRIORITY=+1", 501), ("MT-PRIORITY=-0", 501), ("XYZZY=1", 555), ("TRANSID=<1@x>", 555),
]  # fmt: skip


@pytest.mark.parametrize(("words", "code"), PARAMETERS)
def test_parameters_of_mail(words: str, code: int) -> None:
    site = opened(
        secure=True, extensions=frozenset(EXTENSIONS), hold_interval=86_400, by_minimum=60, mechanisms=("PLAIN",)
    )
    say(site, "EHLO c.example")
    assert say(site, f"MAIL FROM:<a@example.com> {words}") == [code]
    assert not site.engine.closed


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("NOTIFY=NEVER", 250), ("NOTIFY=success,delay,failure", 250), ("NOTIFY=NEVER,SUCCESS", 501), ("NOTIFY=", 501),
        ("NOTIFY=SUCCESS,SUCCESS", 501), ("ORCPT=rfc822;b+40example.org", 250), ("ORCPT=b+40example.org", 501),
        ("ORCPT=utf-8;gr\\x{FC}n@example.org", 250), ("ORCPT=utf-8;\\x{D800}@example.org", 501),
        ("ORCPT=rfc822;" + "x" * 501, 501), ("SIZE=1", 555),
    ],
)  # fmt: skip
def test_parameters_of_rcpt(words: str, code: int) -> None:
    site = opened(extensions=frozenset(EXTENSIONS))
    say(site, "EHLO c.example", "MAIL FROM:<a@example.com>")
    assert say(site, f"RCPT TO:<b@example.org> {words}") == [code]


def test_requiretls_is_offered_under_tls_only() -> None:
    site = opened(extensions=frozenset({"REQUIRETLS"}), starttls=True)
    assert say(site, "EHLO c.example", "MAIL FROM:<a@example.com> REQUIRETLS") == [250, 555]
    assert say(site, "STARTTLS") == [220]
    site.engine.tls_started()
    assert say(site, "EHLO c.example", "MAIL FROM:<a@example.com> REQUIRETLS") == [250, 250]


def test_xclient_begins_anew() -> None:
    engine = opened(extensions=frozenset({"XCLIENT"})).engine
    engine.receive(b"EHLO proxy.example\r\n")
    engine.next_event()
    engine.reply(replies.OK)
    assert b"250-XCLIENT NAME ADDR" in engine.take_output()
    engine.receive(b"XCLIENT NAME=[UNAVAILABLE] ADDR=IPv6:2001:db8::1 LOGIN=a+40b\r\n")
    assert engine.next_event() == Xclient({"NAME": None, "ADDR": "IPv6:2001:db8::1", "LOGIN": "a@b"})
    engine.reply(replies.greeting("mx.example.org"))
    assert engine.take_output().startswith(b"220 mx.example.org")
    engine.receive(b"MAIL FROM:<a@example.com>\r\n")
    assert engine.next_event() is None
    assert engine.take_output().startswith(b"503")


@pytest.mark.parametrize("args", ["", "NAME", "NAME=", "=x", "NAME=a+0D+0Ab", "NAME=x FOO"])
def test_xclient_that_makes_no_sense(args: str) -> None:
    site = opened(extensions=frozenset({"XCLIENT"}))
    say(site, "EHLO c.example")
    assert say(site, f"XCLIENT {args}".rstrip()) == [501]


def test_lmtp_answers_for_each_recipient() -> None:
    site = opened(lmtp=True, extensions=frozenset({"CHUNKING"}))
    site.engine.receive(b"EHLO c.example\r\n")
    assert site.engine.next_event() is None
    assert site.engine.take_output() == b"500 5.5.1 This is LMTP: say LHLO\r\n"
    assert say(site, "HELO c.example", "LHLO c.example") == [500, 250]
    assert say(site, "MAIL FROM:<a@example.com>", "RCPT TO:<nobody@example.org>", "DATA") == [250, 550, 503]
    assert say(site, "RCPT TO:<b@example.org>", "RCPT TO:<c@example.org>", "DATA") == [250, 250, 354]
    assert say(site, "Subject: x", "", "x", ".") == [250, 250]
    again = ("MAIL FROM:<a@example.com>", "RCPT TO:<b@example.org>", "RCPT TO:<c@example.org>")
    assert say(site, *again, "DATA") == [250, 250, 250, 354]
    assert say(site, "bare\nend", ".") == [550, 550]
    assert raw(site, "\r\n".join([*again, "BDAT 3", "a\r\nBDAT 0 LAST", ""]).encode()) == [250] * 6


def test_the_session_may_answer_each_recipient_of_lmtp_apart() -> None:
    engine = opened(lmtp=True).engine
    for line in ("LHLO c", "MAIL FROM:<a@b.c>", "RCPT TO:<b@example.org>", "RCPT TO:<c@example.org>", "DATA"):
        engine.receive(line.encode() + b"\r\n")
        while engine.next_event() is not None:
            engine.reply(replies.OK)
    engine.take_output()
    engine.receive(b"x\r\n.\r\n")
    assert isinstance(engine.next_event(), Content)
    engine.reply_each([replies.OK, replies.MAILBOX_FULL])
    assert engine.take_output() == replies.OK.encode() + replies.MAILBOX_FULL.encode()


def test_a_reply_that_cannot_be_sent_leaves_the_command_to_be_answered() -> None:
    engine = SmtpServer(ServerOptions(hostname="mail.example.org"))
    engine.greet(replies.greeting("mail.example.org"))
    engine.receive(b"EHLO x\r\n")
    assert engine.next_event() is not None
    engine.take_output()
    for wrong in (Reply(550, "5.7.1", b"octets"), Reply(0, "", "no code"), Reply(1000, "", "too high")):  # type: ignore[arg-type]
        with pytest.raises((TypeError, ValueError, AttributeError)):
            engine.reply(wrong)
        assert engine.take_output() == b""
    engine.fail(Reply(451, "4.3.0", "Something went wrong"))
    assert engine.take_output() == b"451 4.3.0 Something went wrong\r\n"

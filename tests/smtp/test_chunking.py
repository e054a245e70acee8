"""BDAT: content in counted chunks (RFC 3030), cut wherever the network cuts it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.smtp import replies
from posthouse.smtp.events import Burl, Content, ContentAborted
from posthouse.smtp.options import EXTENSIONS, ServerOptions
from posthouse.smtp.server import SmtpServer
from tests.smtp.test_server import STATES, opened, raw, say
from tests.support.play import CHUNKS
from tests.support.smtp_site import SmtpSite

BEGIN = b"MAIL FROM:<a@example.com>%b\r\nRCPT TO:<b@example.org>\r\n"


def chunked(**settings: object) -> SmtpSite:
    site = opened(extensions=frozenset(EXTENSIONS), **settings)
    say(site, "EHLO c.example")
    return site


@pytest.mark.parametrize("chunk", CHUNKS)
def test_a_message_in_three_chunks_and_another_behind_it(chunk: int) -> None:
    site = chunked()
    data = BEGIN % b"" + b"BDAT 12\r\nSubject: x\r\nBDAT 6\r\n\r\n.\r\n\rBDAT 5 LAST\r\n\nend\r\nNOOP\r\n"
    data = data.replace(b"end\r\n", b"en\r\n")
    assert raw(site, data, chunk) == [250, 250, 250, 250, 250, 250]
    assert site.accepted[0].content == b"Subject: x\r\n\r\n.\r\n\r\nen\r\n"
    assert raw(site, BEGIN % b"" + b"BDAT 4\r\n1\r\n2BDAT 0 LAST\r\n", chunk) == [250, 250, 250, 250]
    assert site.accepted[1].content == b"1\r\n2"


@pytest.mark.parametrize("chunk", CHUNKS)
def test_what_looks_like_commands_is_content(chunk: int) -> None:
    site = chunked()
    evil = b".\r\nMAIL FROM:<evil@example.com>\r\nRCPT TO:<b@example.org>\r\nBDAT 0 LAST\r\n"
    assert raw(site, BEGIN % b"" + b"BDAT %d LAST\r\n" % len(evil) + evil, chunk) == [250, 250, 250]
    assert [message.content for message in site.accepted] == [evil]


@pytest.mark.parametrize("chunk", CHUNKS)
def test_a_chunk_out_of_place_is_swallowed(chunk: int) -> None:
    site = chunked()
    assert raw(site, b"BDAT 6 LAST\r\nQUIT\r\nNOOP\r\n", chunk) == [503, 250]
    assert raw(site, b"MAIL FROM:<a@example.com>\r\nBDAT 6\r\nQUIT\r\nNOOP\r\n", chunk) == [250, 503, 250]
    assert raw(site, b"RCPT TO:<nobody@example.org>\r\nBDAT 6 LAST\r\nQUIT\r\n", chunk) == [550, 554]
    assert raw(site, b"RCPT TO:<b@example.org>\r\nBDAT 2 LAST\r\nok", chunk) == [250, 250]
    assert [message.content for message in site.accepted] == [b"ok"]


@pytest.mark.parametrize("chunk", CHUNKS)
def test_bare_line_ends_are_refused_across_chunks_but_not_in_binary(chunk: int) -> None:
    site = chunked()
    content = b"BDAT 2\r\nx\rBDAT 2\r\nyzBDAT 1 LAST\r\n!"
    assert raw(site, BEGIN % b"" + content, chunk) == [250, 250, 250, 550, 503]
    assert site.aborted == [replies.BARE_CONTENT]
    assert raw(site, BEGIN % b"" + b"BDAT 2 LAST\r\nx\r", chunk) == [250, 250, 550]
    assert raw(site, BEGIN % b" BODY=BINARYMIME" + content, chunk) == [250, 250, 250, 250, 250]
    assert site.accepted[-1].content == b"x\ryz!"
    assert site.accepted[-1].params.body == "BINARYMIME"


def test_binary_needs_bdat() -> None:
    site = chunked()
    assert raw(site, BEGIN % b" BODY=BINARYMIME" + b"DATA\r\n") == [250, 250, 503]


def test_data_and_bdat_do_not_mix() -> None:
    site = chunked()
    assert say(site, *STATES["rcpt"][1:], "BDAT 0", "DATA") == [250, 250, 250, 503]
    assert say(site, "RSET", *STATES["rcpt"][1:], "DATA") == [250, 250, 250, 354]


@pytest.mark.parametrize("args", [b"", b" x", b" -1", b" 5 FIRST", b" 5 LAST LAST", b" 999999999999999999999"])
def test_a_bdat_that_cannot_be_counted_closes(args: bytes) -> None:
    site = chunked()
    assert raw(site, BEGIN % b"" + b"BDAT%b\r\nMAIL FROM:<evil@example.com>\r\n" % args) == [250, 250, 501]
    assert site.engine.closed


def test_too_much_is_refused_and_far_too_much_closes() -> None:
    site = chunked(max_size=100)
    assert raw(site, BEGIN % b"" + b"BDAT 60\r\n" + b"x" * 60 + b"BDAT 60 LAST\r\n" + b"x" * 60) == [250, 250, 250, 552]
    assert site.aborted == [replies.MESSAGE_TOO_BIG]
    assert raw(site, BEGIN % b"" + b"BDAT 99999999 LAST\r\n") == [250, 250, 421]
    assert site.engine.closed


def test_the_session_may_refuse_a_chunk() -> None:
    engine = chunked().engine
    for line in STATES["rcpt"][1:]:
        engine.receive(line.encode() + b"\r\n")
        while engine.next_event() is not None:
            engine.reply(replies.OK)
    engine.take_output()
    engine.receive(b"BDAT 4\r\nabcd")
    assert engine.next_event() == Content(b"abcd", False)
    engine.reply(replies.STORAGE_FULL)
    engine.receive(b"BDAT 2 LAST\r\nef")
    assert engine.next_event() is None
    assert engine.take_output() == replies.STORAGE_FULL.encode() + replies.NEED_MAIL.encode()


@given(st.lists(st.binary(max_size=40), min_size=1, max_size=6), st.integers(1, 50))
def test_binary_content_arrives_as_it_was_sent(pieces: list[bytes], chunk: int) -> None:
    site = chunked()
    data = b"".join([b"BDAT %d\r\n" % len(piece) + piece for piece in pieces]) + b"BDAT 0 LAST\r\n"
    codes = raw(site, BEGIN % b" BODY=BINARYMIME" + data, chunk)
    assert codes == [250] * (len(pieces) + 3)
    assert site.accepted[0].content == b"".join(pieces)


def test_many_empty_chunks_at_once_are_no_matter() -> None:
    site = chunked()
    codes = raw(site, BEGIN % b"" + b"BDAT 0\r\n" * 5000 + b"BDAT 0 LAST\r\nBDAT 1\r\nx" + b"BDAT 1 LAST\r\nx" * 10)
    assert codes == [250] * 5003 + [503] * 11
    assert site.accepted[0].content == b""


def test_content_from_elsewhere_is_refused_as_any_other() -> None:
    engine = SmtpServer(ServerOptions(hostname="mx.example.org", extensions=frozenset(EXTENSIONS)))
    engine.greet(replies.greeting("mx.example.org"))
    engine.receive(b"EHLO c.example\r\n")
    assert engine.next_event() is not None
    engine.authenticated("alice")
    engine.reply(replies.OK)

    def begin() -> None:
        engine.receive(BEGIN % b"" + b"BURL imap://x/y/;UID=1\r\nNOOP\r\n")
        for _ in range(2):
            assert engine.next_event() is not None
            engine.reply(replies.OK)
        assert engine.next_event() == Burl(b"imap://x/y/;UID=1", False)
        assert engine.next_event() is None  # what came behind it waits
        engine.take_output()

    begin()
    assert engine.fetched(6, False)
    assert engine.fetched_data(b"a\r\nb\n") == ContentAborted(replies.BARE_CONTENT)
    engine.fetched_end()
    assert engine.next_event() is None
    assert engine.take_output() == replies.BARE_CONTENT.encode() + replies.OK.encode()
    begin()
    assert engine.fetched(6, False)
    assert engine.fetched_data(b"a\r\nb\r\n") == Content(b"a\r\nb\r\n", False)
    engine.fetched_end()
    assert engine.next_event() is None
    assert engine.take_output() == replies.chunk_taken(6).encode() + replies.OK.encode()
    engine.receive(b"BURL imap://x/y/;UID=2 LAST\r\n")
    assert engine.next_event() == Burl(b"imap://x/y/;UID=2", True)
    assert not engine.fetched(1 << 40, True)
    assert engine.closed
    assert "imap" not in repr(Burl(b"imap://x/y/;UID=2", True))

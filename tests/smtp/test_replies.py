"""Replies: how they are written, how those of others are read, and that ours follow the rules."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.smtp import replies
from posthouse.smtp.replies import Reply
from posthouse.smtp.reply_reader import MAX_REPLY, BadReply, ReplyReader
from posthouse.wire.buffer import ReceiveBuffer
from tests.support.play import cut

ALL = [(name, value) for name, value in vars(replies).items() if isinstance(value, Reply)]


def read(data: bytes, size: int = 1 << 20) -> list[Reply]:
    buffer, reader, found = ReceiveBuffer(), ReplyReader(), []
    for piece in cut(data, size):
        buffer.feed(piece)
        while (reply := reader.next(buffer)) is not None:
            found.append(reply)
    return found


@pytest.mark.parametrize(("name", "reply"), ALL)
def test_every_reply_follows_the_rules(name: str, reply: Reply) -> None:
    assert reply.text.isascii()
    assert all(len(line) <= 512 for line in reply.encode().split(b"\n"))
    if reply.code // 100 == 3:
        assert reply.status == ""
    else:
        # RFC 2034 section 4: the class of the status is that of the code
        assert re.fullmatch(r"[245]\.\d{1,3}\.\d{1,3}", reply.status)
        assert reply.status[0] == str(reply.code)[0]
    assert read(reply.encode()) == [reply]


def test_writing() -> None:
    assert Reply(250, "2.0.0", "one\ntwo").encode() == b"250-2.0.0 one\r\n250 2.0.0 two\r\n"
    assert Reply(220, "", "mx").encode() == b"220 mx\r\n"
    assert Reply(550, "5.1.1", "a\r\nb\0ü").encode() == b"550-5.1.1 a?\r\n550 5.1.1 b??\r\n"
    assert len(Reply(550, "5.1.1", "x" * 5000).encode()) < 512
    assert str(Reply(550, "5.1.1", "No")) == "550 5.1.1 No"
    assert str(Reply(354, "", "Go")) == "354 Go"


def test_what_a_reply_means() -> None:
    assert replies.OK.accepted
    assert replies.START_MAIL.accepted
    assert not replies.STORAGE_FULL.accepted
    assert replies.STORAGE_FULL.temporary
    assert not replies.NO_SUCH_USER.temporary


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_reading(size: int) -> None:
    data = b"250-mx\r\n250-SIZE\r\n250\r\n550 5.1.1\r\n451 5.1.1 other class\r\n220  two blanks\r\n"
    assert read(data, size) == [
        Reply(250, "", "mx\nSIZE\n"),
        Reply(550, "5.1.1", ""),
        Reply(451, "", "5.1.1 other class"),
        Reply(220, "", " two blanks"),
    ]


@pytest.mark.parametrize("data", [b"\r\n", b"25\r\n", b"150 x\r\n", b"650 x\r\n", b"250x\r\n", b"HTTP/1.1 200\r\n"])
def test_what_is_no_reply(data: bytes) -> None:
    with pytest.raises(BadReply):
        read(data)


def test_bounds() -> None:
    with pytest.raises(BadReply):
        read(b"250-x\r\n" * 300)
    with pytest.raises(BadReply):
        read(b"250 " + b"x" * 5000)
    (reply,) = read((b"250-" + b"x" * 2000 + b"\r\n") * 200 + b"250 end\r\n")
    assert len(reply.text) <= MAX_REPLY


_text = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=60)


@given(st.integers(200, 599), st.lists(_text, min_size=1, max_size=4).map("\n".join))
def test_what_we_write_we_can_read(code: int, text: str) -> None:
    status = "" if code < 400 and code >= 300 else f"{code // 100}.0.0"
    if code // 100 == 3:
        status = ""
    reply = Reply(code, status, text)
    (again,) = read(reply.encode())
    if status:
        assert again.code == code
        assert again.status == status
        assert [line.strip() for line in again.text.split("\n")] == [line.strip() for line in text.split("\n")]

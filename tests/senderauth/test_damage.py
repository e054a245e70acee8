"""What happens to messages on their way, which signatures survive it, and what ARC saves.

Each row is a damage, and the canonical forms (header/body) whose DKIM signature is right afterwards. A forwarder that
seals what it made of the message loses nothing: whoever trusts it learns what the signature was worth when it came.
The seal itself is relaxed/relaxed: behind it, what breaks such a signature breaks the chain.
"""

import asyncio
import quopri
import re
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posthouse.senderauth import dkim
from posthouse.senderauth.authres import Method
from posthouse.senderauth.dkim import Signer
from posthouse.senderauth.dkim_canon import Canon
from tests.senderauth.chains import NOW, RELAYS, Change, resolver, sealed, verified
from tests.senderauth.keys import ed_key

CANONS: list[Canon] = ["simple", "relaxed"]
MESSAGE = (
    b'From: "Anna, who\r\n\twrites" <anna@example.org>\r\nTo: list@list.test\r\nSubject: Hello  there\r\n'
    b"Date: Mon, 01 Jan 2024 00:00:00 +0000\r\nMessage-ID: <1@example.org>\r\nMIME-Version: 1.0\r\n"
    b"Content-Type: text/plain;\r\n charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\nX-Mailer: Some\r\n\r\n"
    + "Grüße,  \r\n\ttab\r\nFrom here on\r\nit goes  on.\r\n".encode()
    + b"long " * 30
    + b"\r\n\r\n\r\n"
)


def head(old: bytes, new: bytes) -> Change:
    """Something else in the header."""

    def change(message: bytes) -> bytes:
        header, body = dkim.split(message)
        return re.sub(old, new, header, count=1) + body

    return change


def body(work: Change) -> Change:
    def change(message: bytes) -> bytes:
        header, content = dkim.split(message)
        return header + work(content)

    return change


def top(lines: bytes) -> Change:
    return lambda message: lines + message


def many(*changes: Change) -> Change:
    def change(message: bytes) -> bytes:
        for one in changes:
            message = one(message)
        return message

    return change


def reordered(message: bytes) -> bytes:
    header, content = dkim.split(message)
    date = re.search(rb"\r\nDate:[^\r]*", header)
    if date is None:  # it is on top already
        return message
    return date[0][2:] + b"\r\n" + header.replace(date[0], b"") + content


def wrapped(content: bytes) -> bytes:
    return re.sub(rb"((?:long ){10})", rb"\1\r\n", content)


def quoted(content: bytes) -> bytes:
    return quopri.encodestring(content.replace(b"\r\n", b"\n")).replace(b"\n", b"\r\n")


def latin(content: bytes) -> bytes:
    return content.decode().encode("latin-1")


MULTIPART = head(rb"text/plain;\r\n charset=utf-8", b"multipart/mixed; boundary==b")


def in_multipart(content: bytes) -> bytes:
    part = b"--=b\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n"
    return part + content + b"\r\n" + part.replace(b"charset=utf-8", b"name=footer") + b"the list\r\n--=b--\r\n"


NONE: set[str] = set()
ALL = {f"{header}/{content}" for header, content in product(CANONS, CANONS)}
LOOSE_HEADER = {"relaxed/simple", "relaxed/relaxed"}
LOOSE_BODY = {"simple/relaxed", "relaxed/relaxed"}
TABLE: list[tuple[str, Change, set[str]]] = [
    # What lists do
    ("a footer", body(lambda content: content + b"-- \r\nlist\r\n"), NONE),
    ("a tag in the subject", head(rb"\nSubject: ", b"\nSubject: [list] "), NONE),
    ("another From", many(head(rb"<anna@", b"<list@"), top(b"Reply-To: anna@example.org\r\n")), NONE),
    ("a Reply-To", top(b"Reply-To: list@list.test\r\n"), NONE),
    ("fields of the list", top(b"List-Id: <list.test>\r\nSender: x@list.test\r\n"), ALL),
    ("a Precedence field at the end of the header", head(rb"\r\n\r\n\Z", b"\r\nPrecedence: list\r\n\r\n"), ALL),
    ("one more recipient", head(rb"list@list.test", b"list@list.test, b@example.net"), NONE),
    ("another Message-ID", head(rb"<1@example.org>", b"<2@list.test>"), NONE),
    ("a multipart around the text", many(MULTIPART, body(in_multipart)), NONE),
    ("another charset", many(head(rb"utf-8", b"iso-8859-1"), body(latin)), NONE),
    # What servers do
    ("trace fields", top(b"Received: by b; Mon, 01 Jan 2024 00:00:00 +0000\r\nReturn-Path: <x@list.test>\r\n"), ALL),
    ("8 bit to quoted-printable", many(head(rb"8bit", b"quoted-printable"), body(quoted)), NONE),
    ("lines that are wrapped", body(wrapped), NONE),
    ("another order of the fields", reordered, ALL),
    ("another fold", head(rb"who\r\n\twrites", b"who writes"), LOOSE_HEADER),
    ("names of fields in another case", head(rb"\nSubject:", b"\nSUBJECT:"), LOOSE_HEADER),
    ("no blank behind the colon", head(rb"\nSubject: ", b"\nSubject:"), LOOSE_HEADER),
    ("single blanks in the header", head(rb"Hello  there", b"Hello there"), LOOSE_HEADER),
    ("no blanks at the ends of lines", body(lambda content: re.sub(rb"[ \t]+\r\n", b"\r\n", content)), LOOSE_BODY),
    ("single blanks in the body", body(lambda content: content.replace(b"goes  on", b"goes on")), LOOSE_BODY),
    ("tabs become blanks", body(lambda content: content.replace(b"\ttab", b" tab")), LOOSE_BODY),
    ("tabs become eight blanks", body(lambda content: content.replace(b"\ttab", b"        tab")), LOOSE_BODY),
    ("blanks at the beginning of a line go", body(lambda content: content.replace(b"\ttab", b"tab")), NONE),
    ("From in a line is quoted", body(lambda content: content.replace(b"\nFrom ", b"\n>From ")), NONE),
    ("empty lines at the end", body(lambda content: content + b"\r\n\r\n"), ALL),
    ("no empty lines at the end", body(lambda content: content.rstrip(b"\r\n") + b"\r\n"), ALL),
    ("no last line end", body(lambda content: content.rstrip(b"\r\n")), ALL),
    ("an empty line in the middle", body(lambda content: content.replace(b"From here", b"\r\nFrom here")), NONE),
    ("a field that nobody signs", head(rb"X-Mailer: Some", b"X-Mailer: None"), ALL),
]  # fmt: skip
# SMTP has no such lines: nobody can seal that.
ODD: list[tuple[str, Change, set[str]]] = [
    ("LF for CRLF", lambda message: message.replace(b"\r\n", b"\n"), NONE),
    ("CR CR LF", lambda message: message.replace(b"\r\n", b"\r\r\n"), NONE),
]


def rows(table: list[tuple[str, Change, set[str]]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(("change", "survive"), [row[1:] for row in table], ids=[row[0] for row in table])


def signed(canon: str) -> bytes:
    header: Canon = "simple" if canon.startswith("simple") else "relaxed"
    content: Canon = "simple" if canon.endswith("simple") else "relaxed"
    return dkim.sign(MESSAGE, [Signer("example.org", "ed", ed_key(), header, content)], NOW)


def word(message: bytes) -> str:
    (one,) = asyncio.run(dkim.verify(message, resolver().txt, NOW))
    return one.word


@rows(TABLE + ODD)
def test_which_signature_survives(change: Change, survive: set[str]) -> None:
    for canon in ALL:
        damaged = change(signed(canon))
        assert damaged != signed(canon)
        assert (word(damaged) == "pass") == (canon in survive), canon


@rows(TABLE)
def test_arc_saves_what_came_before_the_damage(change: Change, survive: set[str]) -> None:
    """The list verifies, changes, seals: the chain tells of the signature that is gone."""
    message = signed("relaxed/relaxed")
    saw = [Method("dkim", word(message), "", (("header.d", "example.org"),))]
    before = sealed(message, "one.test")
    chain = verified(sealed(change(before), "two.test", cv=verified(before).word, saw=saw))
    assert (chain.word, chain.oldest_pass) == ("pass", 0 if "relaxed/relaxed" in survive else 2)
    assert chain.results[-1].methods[0] == saw[0]


@rows(TABLE + ODD)
def test_behind_the_seal_it_is_like_a_relaxed_signature(change: Change, survive: set[str]) -> None:
    chain = verified(change(sealed(signed("relaxed/relaxed"))))
    assert (chain.word == "pass") == ("relaxed/relaxed" in survive), chain.reason


# Of these any number in any order
_HARMLESS = [change for name, change, survive in TABLE if survive == ALL and "field that" not in name]
_LISTS = [change for name, change, _ in TABLE[:10] if "multipart" not in name and "charset" not in name]


@settings(deadline=None)
@given(st.lists(st.sampled_from(_HARMLESS), max_size=6), st.sampled_from(sorted(ALL)))
def test_any_harmless_damage(changes: list[Change], canon: str) -> None:
    message = many(*changes)(signed(canon))
    assert word(message) == "pass"
    assert verified(many(*changes)(sealed(message))).word == "pass"


@settings(deadline=None)
@given(st.lists(st.lists(st.sampled_from(_HARMLESS + _LISTS), max_size=3, unique=True), min_size=1, max_size=3))
def test_any_lists_in_a_row(lists: list[list[Change]]) -> None:
    message = signed("relaxed/relaxed")
    for number, changes in enumerate(lists):
        message = sealed(many(*changes)(message), RELAYS[number], cv=verified(message).word)
    chain = verified(message)
    assert (chain.word, len(chain.sets)) == ("pass", len(lists))
    damaged = message.replace(b"it goes", b"it went")
    assert verified(damaged).word == "fail"

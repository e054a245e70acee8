"""The small parts: numbers, names, dates, flags, patterns, strings, structure encodings."""

import re
import unicodedata
from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.imap import body, dates, flags, names, numbers, patterns, replies, structure
from posthouse.mime.scan import scan
from posthouse.store import model

# Numbers


@given(st.sets(st.integers(1, 60)))
def test_sets_are_written_and_read(values: set[int]) -> None:
    text = numbers.format_set(sorted(values))
    if not values:
        assert text == b""
        return
    found = numbers.parse_set(text)
    assert found is not None
    uids = array("I", range(1, 61))
    assert [uids[i] for low, high in numbers.by_uid(found, uids, 60) for i in range(low, high)] == sorted(values)


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), min_size=1, max_size=5), st.integers(0, 8))
def test_sets_mean_what_a_plain_loop_finds(ranges: list[tuple[int, int]], count: int) -> None:
    wanted = numbers.SequenceSet(tuple(ranges))
    expected: set[int] | None = set()
    for low, high in ranges:
        starred = not low or not high
        a, b = sorted((low or count, high or count))
        there = set(range(max(a, 1), b + 1)) & set(range(1, count + 1))
        if starred and count and a > count:
            there = {count}
        if not there and not starred:
            expected = None
            break
        assert expected is not None
        expected |= there
    found = numbers.by_number(wanted, count)
    if expected is None:
        assert found is None
    else:
        assert found is not None
        assert {i + 1 for low, high in found for i in range(low, high)} == expected


def test_membership() -> None:
    ranges = [(2, 4), (9, 10)]
    assert [v for v in range(12) if numbers.contains(ranges, v)] == [2, 3, 9]


# Names


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_names_survive_both_writings(name: str) -> None:
    for utf8 in (True, False):
        raw = names.encode(name, utf8)
        assert utf8 or re.fullmatch(rb"[\x20-\x7e]*", raw)
        decoded = names.decode(raw, utf8)
        assert decoded == names.canonical(unicodedata.normalize("NFC", name))


def test_modified_utf7() -> None:
    assert names.encode("台北 & 日本語", False) == b"&U,BTFw- &- &ZeVnLIqe-"  # RFC 3501 section 5.1.3
    assert names.decode(b"~peter/mail/&U,BTFw-/&ZeVnLIqe-", False) == "~peter/mail/台北/日本語"
    for wrong in (b"&", b"&x", b"x&", b"&2AA-", b"&a/b-", b"&!-"):
        assert names.problem(names.decode(wrong, False))
    assert names.problem(names.decode(b"\xff", True))


def test_which_names_may_be_made() -> None:
    for good in ("x", "a/b", "ä", "INBOX/x", "a.b", 'q"\\'):
        assert names.problem(good) is None
    for wrong in ("", "/", "/a", "a//b", "a\x01", "a%", "*", "x" * 256, "/".join("x" * 60), "\u2028"):
        assert names.problem(wrong)


# Dates


@given(st.integers(-62_000_000_000, 250_000_000_000))
def test_dates_are_read_as_written(second: int) -> None:
    text = dates.date_time(second * 1_000_000)
    assert len(text) == 28
    assert dates.parse_date_time(text[1:-1]) == second * 1_000_000


def test_dates() -> None:
    assert dates.parse_date_time(b"17-Jul-1996 02:44:25 -0700") == 837596665_000_000
    assert dates.parse_date_time(b" 1-jan-1970 00:00:60 +0000") == 59_000_000
    for wrong in (
        b"",
        b"32-Jan-2000 00:00:00 +0000",
        b"01-Jan-2000 24:00:00 +0000",
        b"01-Jan-2000 00:00:00 +2500",
        b"01-Jan-0000 00:00:00 +0000",
        b"01-Jan-0001 00:00:00 +2359",
    ):
        dates.parse_date_time(wrong)
    assert dates.parse_date_time(b"01-Jan-0000 00:00:00 +0000") is None
    assert dates.date_time(10**30)  # never fails


# Flags


def test_flags() -> None:
    assert (flags.SEEN, flags.ANSWERED, flags.FLAGGED, flags.DELETED, flags.DRAFT) == (
        model.SEEN,
        model.ANSWERED,
        model.FLAGGED,
        model.DELETED,
        model.DRAFT,
    )
    assert flags.flags_of([b"\\SEEN", b"$forwarded", b"x", b"X", b"\\Recent"]) == flags.Flags(1, ("$Forwarded", "x"))
    assert isinstance(flags.flags_of([b"\\Foo"]), str)
    assert flags.flag_text(31, "a b", True) == rb"\Answered \Flagged \Deleted \Seen \Draft a b \Recent"


# Patterns


@given(st.text("ab/*%", max_size=8), st.text("ab/", max_size=8))
def test_patterns_match_as_a_regular_expression_would(pattern: str, name: str) -> None:
    expression = "".join(".*" if c == "*" else "[^/]*" if c == "%" else re.escape(c) for c in pattern)
    assert patterns.matcher(pattern)(name) == bool(re.fullmatch(expression, name, re.DOTALL))


def test_a_hostile_pattern_costs_little() -> None:
    assert not patterns.matcher("*a" * 60 + "b")("a" * 1000)
    assert not patterns.matcher("*a" * 500)("a" * 1000)
    assert patterns.full("Inbox/", "%%**") == "INBOX/*"
    assert patterns.full("a", "%%/%") == "a%/%"


@given(st.text("ab/*%", max_size=8), st.text("ab/", max_size=8))
def test_patterns_match_as_regular_expressions_do(pattern: str, name: str) -> None:
    meaning = {"*": ".*", "%": "[^/]*"}
    expected = re.fullmatch("".join(meaning.get(letter, letter) for letter in pattern), name) is not None
    assert patterns.matcher(pattern)(name) == expected


# Strings


def test_strings() -> None:
    assert replies.astring(b"INBOX") == b"INBOX"
    assert replies.astring(b"nil") == b'"nil"'
    assert replies.astring(b"") == b'""'
    assert replies.astring(b'a"b\\') == b'"a\\"b\\\\"'
    assert replies.astring("ä".encode()) == b"{2}\r\n\xc3\xa4"
    assert replies.astring("ä".encode(), True) == '"ä"'.encode()
    assert replies.quoted(b"a\r\nb", True) == b"{4}\r\na\r\nb"
    assert b"\r" not in replies.no("bad\r\n* OK injected").encode()


# BODY from BODYSTRUCTURE

MESSAGES = [
    b"Subject: x\r\n\r\nhello\r\n",
    b"",
    b'Content-Type: multipart/mixed; boundary="="\r\n\r\n--=\r\nContent-Type: text/html; charset=utf-8\r\n'
    b'Content-Disposition: inline; filename="a (b) \\"c\\" {3}"\r\nContent-Language: de, en\r\n\r\nx\r\n--=\r\n'
    b'Content-Type: message/rfc822\r\nContent-Description: \xff{4} (\r\n\r\nSubject: \xe4 ) "\r\n\r\ninner\r\n--=\r\n'
    b"Content-Type: image/png\r\nContent-ID: <1@x>\r\nContent-Transfer-Encoding: base64\r\n"
    b"Content-MD5: abc\r\n\r\nAAAA\r\n--=--\r\n",
    b"Content-Type: message/rfc822\r\n\r\nContent-Type: multipart/alternative; boundary=b\r\n\r\n"
    b"--b\r\n\r\n1\r\n--b\r\n\r\n2\r\n--b--\r\n",
]


@pytest.mark.parametrize("message", MESSAGES)
def test_body_is_bodystructure_without_extensions(message: bytes) -> None:
    scanned = scan(message)
    assert body.body(structure.body_structure(scanned)) == structure.body(scanned)


@given(st.binary(max_size=60), st.sampled_from(["a", "b"]))
def test_body_of_odd_headers(odd: bytes, kind: str) -> None:
    message = b'Content-Type: text/plain; x="' + odd + b'"\r\nContent-Description: ' + odd + b"\r\n"
    if kind == "b":
        message = b'Content-Type: message/rfc822\r\nContent-Disposition: x; a="' + odd + b'"\r\n\r\n' + message
    scanned = scan(message + b"\r\nx\r\n")
    assert body.body(structure.body_structure(scanned)) == structure.body(scanned)

"""Structured fields: content types, parameters, dates, message ids."""

import email.utils
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.mime import fields, trace
from tests.support.growth import assert_linear


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b" text/plain", ("text/plain", {})),
        (b"TEXT/Html;Charset=UTF-8", ("text/html", {"charset": "UTF-8"})),
        (b'text/plain; charset="utf-8"; format=flowed', ("text/plain", {"charset": "utf-8", "format": "flowed"})),
        (b" text / plain ; a = b ; c\t=\r\n d", ("text/plain", {"a": "b", "c": "d"})),
        (b"text/plain; charset=us-ascii (Plain text)", ("text/plain", {"charset": "us-ascii"})),
        (b"text/plain (a (nested) comment); a=b", ("text/plain", {"a": "b"})),
        (b'a/b; name="(no) comment; \\"quoted\\""', ("a/b", {"name": '(no) comment; "quoted"'})),
        (b'a/b; x="two\r\n lines"', ("a/b", {"x": "two lines"})),
        (b"a/b; name=my file.txt; x=y", ("a/b", {"name": "my file.txt", "x": "y"})),
        (b"multipart/mixed; boundary=a(b)c", ("multipart/mixed", {"boundary": "a(b)c"})),
        (b"multipart/mixed boundary=abc", ("multipart/mixed", {"boundary": "abc"})),
        (b'multipart/mixed; boundary="abc" charset="x"', ("multipart/mixed", {"boundary": "abc", "charset": "x"})),
        (b'a/b; x="never closed', ("a/b", {"x": "never closed"})),
        (b"a/b; x=1; x=2; X=3", ("a/b", {"x": "1"})),
        (b"a/b; x=", ("a/b", {"x": ""})),
        (b'a/b; x=""; y=z', ("a/b", {"x": "", "y": "z"})),
        (b"a/b; =x; ;; y=z;", ("a/b", {"y": "z"})),
        (b"a/b; x", ("a/b", {})),
        (b"text", ("text/plain", {})),
        (b"", ("text/plain", {})),
        (b"text/", ("text/plain", {})),
        (b"/plain", ("text/plain", {})),
        (b"text/plain/more; a=b", ("text/plain", {"a": "b"})),
        (b"application/vnd.x+json;v=1", ("application/vnd.x+json", {"v": "1"})),
        # RFC 2231 section 3 and 4.1
        (b'a/b; URL*0="ftp://"; URL*1="cs.utk.edu"', ("a/b", {"url": "ftp://cs.utk.edu"})),
        (b"a/b; t*=us-ascii'en-us'This%20is%20fun", ("a/b", {"t*": "us-ascii'en-us'This%20is%20fun"})),
        (
            b"a/b; t*0*=us-ascii'en'This%20is%20even%20more%20; t*1*=%2A%2A%2Afun%2A%2A%2A%20; t*2=\"isn't it!\"",
            ("a/b", {"t*": "us-ascii'en'This%20is%20even%20more%20%2A%2A%2Afun%2A%2A%2A%20isn%27t%20it!"}),
        ),
        (b"a/b; t*1=two; t*0=one; t*3=four", ("a/b", {"t": "onetwofour"})),
        (b"a/b; t=whole; t*0=one; t*1=two", ("a/b", {"t": "onetwo"})),
        (b"a/b; t*0=one; t=whole; t*1=two", ("a/b", {"t": "onetwo"})),
        (b"a/b; t*0*=utf-8''%C3; t=whole; t*1*=%A4", ("a/b", {"t": "whole", "t*": "utf-8''%C3%A4"})),
        (b"a/b; t=whole; t*0*=x''%41; t*=y''%42", ("a/b", {"t": "whole", "t*": "y''%42"})),
        (b"text; charset=x; name=y", ("text/plain", {"charset": "x", "name": "y"})),
        (b"a/b; t*99999=x; *=y; t**=z", ("a/b", {"t*99999": "x", "*": "y", "t**": "z"})),
    ],
)
def test_content_type(value: bytes, expected: tuple[str, dict[str, str]]) -> None:
    kind, subtype, params = fields.content_type(value)
    assert ((kind + b"/" + subtype).decode(), {k.decode(): v.decode() for k, v in params}) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"attachment; filename=a.txt", "a.txt"),
        (b"attachment; filename*=utf-8''%e2%82%ac%20rates", "€ rates"),
        (b"attachment; filename=x; filename*=iso-8859-1'en'%A3%20rates", "£ rates"),
        (b"attachment; filename*0*=utf-8''%c3; filename*1*=%a4.txt", "ä.txt"),
        (b'attachment; filename="=?utf-8?b?w6Q=?= =?utf-8?q?.txt?="', "ä.txt"),
        (b'attachment; filename="\xc3\xa4.txt"', "ä.txt"),
        (b"attachment; filename*=no%20charset", "no charset"),
        (b"attachment; filename*=utf-8'%41", "utf-8'A"),
        (b"attachment; filename*=x-odd''%E4", "ä"),
        (b"attachment", None),
        (b"attachment; filename=", None),
    ],
)
def test_readable_parameter(value: bytes, expected: str | None) -> None:
    kind, params = fields.disposition(value)
    assert kind == b"attachment"
    assert fields.readable_parameter(params, b"filename") == expected


def test_parameter() -> None:
    _, _, params = fields.content_type(b"a/b; boundary*0*=us-ascii''a%2D; boundary*1=b; c=d")
    assert fields.parameter(params, b"boundary") == b"a-b"
    assert fields.parameter(params, b"c") == b"d"
    assert fields.parameter(params, b"x") == b""


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b" base64", b"base64"),
        (b"7BIT", b"7bit"),
        (b" Quoted-Printable ", b"quoted-printable"),
        (b"(why?) 8bit;x", b"8bit"),
        (b'"base64"', b"base64"),
        (b"", b""),
        (b"\r\n base64\r", b"base64"),
    ],
)
def test_token(value: bytes, expected: bytes) -> None:
    assert fields.token(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b" <a@b>", ["a@b"]),
        (b"<a@b> <c@d>\r\n\t<e@f>", ["a@b", "c@d", "e@f"]),
        (b"<a@b><c@d>", ["a@b", "c@d"]),
        (b"<folded\r\n @inside>", ["folded@inside"]),
        (b'Your message of "Mon" <a@b>', ["a@b"]),
        (b"no.brackets@here", ["no.brackets@here"]),
        (b"a@b, c@d", ["a@b", "c@d"]),
        (b"<a@b", ["a@b"]),
        (b"<a@b <c@d>", ["c@d"]),
        (b"<> < >", []),
        (b"nothing", []),
        (b"<8-bit\xfc@x>", ["8-bit\ufffd@x"]),
        (b"<no-at>", ["no-at"]),
    ],
)
def test_message_ids(value: bytes, expected: list[str]) -> None:
    assert fields.message_ids(value) == expected


def test_message_ids_are_limited() -> None:
    assert len(fields.message_ids(b"<a@b>" * 5000)) == 1000
    assert len(fields.message_ids(b"a@b " * 5000)) <= 1001
    assert len(fields.message_ids(b"<a@b>" * 5, limit=2)) == 2


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        # RFC 5322 appendix A.1.1, A.5, A.6.2
        (b"Fri, 21 Nov 1997 09:55:06 -0600", "1997-11-21T15:55:06"),
        (b"Thu,\r\n 13\r\n Feb\r\n 1969\r\n 23:32\r\n -0330 (Newfoundland Time)", "1969-02-14T03:02:00"),
        (b"21 Nov 97 09:55:06 GMT", "1997-11-21T09:55:06"),
        (b"Fri, 21 Nov 1997 09(comment):   55  :  06 -0600", "1997-11-21T15:55:06"),
        (b"Mon, 2 Jun 2025 10:00:00 +0200", "2025-06-02T08:00:00"),
        (b"2 Jun 2025 10:00 +0000", "2025-06-02T10:00:00"),
        (b"2 Jun 2025 10:00:00", "2025-06-02T10:00:00"),
        (b"Mon, 02 Jun 25 10:00:00 EST", "2025-06-02T15:00:00"),
        (b"Mon, 02 Jun 49 10:00:00 Z", "2049-06-02T10:00:00"),
        (b"Mon, 02 Jun 125 10:00:00 Z", "2025-06-02T10:00:00"),
        (b"Mon 2 Jun 2025 10:00:00 UT", "2025-06-02T10:00:00"),
        (b"Monday, 2-June-2025 10:00:00 PDT", "2025-06-02T17:00:00"),
        (b"Mon,2Jun2025 10:00:00 GMT+02:00", "2025-06-02T08:00:00"),
        (b"Mon, 2 Jun 2025 10.00.00 +0200", "2025-06-02T08:00:00"),
        (b"Mon, 2 Jun 2025 10:00:00.123 +0200", "2025-06-02T08:00:00"),
        (b"Mon, 2 Jun 2025 10:00:60 +0000", "2025-06-02T10:00:59"),
        (b"Mon, 2 Jun 2025 10:00:00 PM +0000", "2025-06-02T22:00:00"),
        (b"Mon, 2 Jun 2025 12:00:00 AM", "2025-06-02T00:00:00"),
        (b"Mon, 2 Jun 2025 10:00:00 PST", "2025-06-02T18:00:00"),
        (b"Mon, 2 Jun 2025 10:00:00 XYZ", "2025-06-02T10:00:00"),
        (b"Mon, 2 Jun 2025 10:00:00 +9900", "2025-06-02T10:00:00"),
        (b"Mon, 2 Jun 2025 10:00:00 -200", "2025-06-02T12:00:00"),
        (b'Mon, 2 Jun 2025 10:00:00 "GMT"', "2025-06-02T10:00:00"),
        (b"Mon Jun  2 10:00:00 2025", "2025-06-02T10:00:00"),
        (b"Mon Jun  2 10:00:00 EDT 2025", "2025-06-02T14:00:00"),
        (b"Mon Jun  2 10:00:00 2025 +0200", "2025-06-02T08:00:00"),
        (b"2025-06-02T10:00:00Z", "2025-06-02T10:00:00"),
        (b"2025-06-02 10:00:00 +02:00", "2025-06-02T08:00:00"),
        (b"2025-06-02", "2025-06-02T00:00:00"),
        (b"Thu, 1 Jan 1970 00:00:00 +0000", "1970-01-01T00:00:00"),
        (b"Fri, 31 Dec 9999 23:59:59 -0000", "9999-12-31T23:59:59"),
        (b"Sun, 31 Feb 2025 10:00:00 +0000", None),
        (b"Mon, 2 Foo 2025 10:00:00 +0000", None),
        (b"Mon, 2 Jun 2025 99:00:00 +0000", None),
        (b"Mon, 2 Jun 2025", None),
        (b"yesterday", None),
        (b"", None),
        (b"\xff\0", None),
        (b"Mon, 2 Jun 99999 10:00:00 +0000", None),
    ],
)
def test_date_time(value: bytes, expected: str | None) -> None:
    at = fields.date_time(value)
    assert (None if at is None else datetime.fromtimestamp(at // 1_000_000, UTC).isoformat()[:19]) == expected


@given(st.integers(min_value=0, max_value=253402300799), st.integers(min_value=-14 * 60, max_value=14 * 60))
def test_date_time_like_cpython(at: int, offset: int) -> None:
    assert fields.date_time(trace.date_time(at * 1_000_000).encode()) == at * 1_000_000
    sign = "-" if offset < 0 else "+"
    text = trace.date_time(at * 1_000_000)[:-5] + f"{sign}{abs(offset) // 60:02d}{abs(offset) % 60:02d}"
    theirs = email.utils.mktime_tz(email.utils.parsedate_tz(text))  # type: ignore[arg-type]
    assert fields.date_time(text.encode()) == theirs * 1_000_000


_pieces = [b"text/plain", b";", b"=", b'"', b"a", b"*", b"*0", b"*1*", b"(", b")", b"\\", b" ", b"\r\n ", b"%41", b"'"]
_pieces += [b"Mon, ", b"2 ", b"Jun ", b"2025 ", b"10:", b"00", b"+0200", b"-", b"<", b">", b"@", b"T", b"Z", b"PM"]


@given(st.lists(st.sampled_from(_pieces) | st.binary(max_size=3)).map(b"".join))
def test_nothing_fails(value: bytes) -> None:
    kind, subtype, params = fields.content_type(value)
    assert kind
    assert subtype
    assert (kind, subtype, params) == fields._any_content_type(value)
    for name, _ in params:
        assert name
        fields.readable_parameter(params, name)
        fields.parameter(params, name.rstrip(b"*"))
    fields.token(value)
    fields.disposition(value)
    fields.message_ids(value)
    at = fields.date_time(value)
    assert at is None or abs(at) < 1 << 63


@pytest.mark.parametrize(
    "piece", [b"a", b'"', b"(", b"\\", b"a=", b"a*0=x;", b"<", b"<a@b>", b"a@b ", b"(a)", b" ", b'"\\']
)
def test_linear_time(piece: bytes) -> None:
    works: list[Callable[[bytes], object]] = [
        fields.content_type,
        fields.disposition,
        fields.message_ids,
        fields.date_time,
        fields.token,
    ]
    for work in works:
        assert_linear(work, lambda n: b"a/b;" + piece * n)
        assert_linear(work, lambda n: b"a/b; x=y;" + piece * n * 4)


@given(
    st.sampled_from([" ", "", "  "]),
    st.sampled_from(["Mon, ", "", "mon, "]),
    st.integers(0, 40),
    st.sampled_from(["Jan", "Feb", "FEB", "Xyz", "Dec"]),
    st.sampled_from([0, 1600, 1970, 2024, 9999]),
    st.integers(0, 25),
    st.integers(0, 61),
    st.integers(0, 61),
    st.sampled_from([" +0000", " -0830", " +2459", " +2500", " GMT", "", " +0100 (CET)", " +0100\r"]),
)
def test_the_usual_date_is_read_as_any_other(
    blank: str, day: str, number: int, month: str, year: int, hour: int, minute: int, second: int, zone: str
) -> None:
    value = f"{blank}{day}{number} {month} {year:04} {hour:02}:{minute:02}:{second:02}{zone}".encode()
    assert fields.zoned_date_time(value) == fields._any_zoned_date_time(value)

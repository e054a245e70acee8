"""ENVELOPE and BODYSTRUCTURE: valid for any message, right for sound ones."""

import email
import email.policy
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.imap.body import decoded, is_attached
from posthouse.imap.body import part as part_of
from posthouse.imap.structure import MAX_ADDRESSES, body, body_structure, envelope, string
from posthouse.mime import header
from posthouse.mime.addresses import Group, _Parser
from posthouse.mime.scan import Part, scan
from posthouse.mime.sections import find_part
from tests.imap.grammar import Reader, read_body, read_envelope
from tests.mime.strategies import messages
from tests.support.growth import assert_linear

NO_ONE = [None] * 6


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"", b'""'),
        (b"plain text", b'"plain text"'),
        (b'a "b" \\c', b'"a \\"b\\" \\\\c"'),
        (b"tab\there", b'"tab\there"'),
        (b"caf\xc3\xa9", b"{5}\r\ncaf\xc3\xa9"),
        (b"a\0b\x01", b"{3}\r\nab\x01"),
        (b"\0", b"{0}\r\n"),
        (b"a\rb\n", b"{4}\r\na\rb\n"),
        (b"x" * 1024, b'"' + b"x" * 1024 + b'"'),
        (b"x" * 1025, b"{1025}\r\n" + b"x" * 1025),
    ],
)
def test_string(value: bytes, expected: bytes) -> None:
    assert string(value) == expected


@given(st.binary(max_size=20) | st.text(alphabet='ab "\\\t', max_size=20).map(str.encode))
def test_string_reads_back(value: bytes) -> None:
    reader = Reader(string(value))
    assert reader.string() == value.replace(b"\0", b"")
    reader.end()


# The examples of RFC 9051 section 7.5.2, as far as they are messages.
def test_envelope_of_the_rfc() -> None:
    raw = (
        b"Date: Wed, 17 Jul 1996 02:23:25 -0700 (PDT)\r\n"
        b"From: Terry Gray <gray@cac.washington.edu>\r\n"
        b"Subject: IMAP4rev2 WG mtg summary and minutes\r\n"
        b"To: imap@cac.washington.edu\r\n"
        b"cc: minutes@CNRI.Reston.VA.US, John Klensin <KLENSIN@MIT.EDU>\r\n"
        b"Message-Id: <B27397-0100000@cac.washington.ed>\r\n\r\n"
    )
    gray = b'(("Terry Gray" NIL "gray" "cac.washington.edu"))'
    assert envelope(raw) == (
        b'("Wed, 17 Jul 1996 02:23:25 -0700 (PDT)" "IMAP4rev2 WG mtg summary and minutes" '
        + b" ".join([gray] * 3)
        + b' ((NIL NIL "imap" "cac.washington.edu")) ((NIL NIL "minutes" "CNRI.Reston.VA.US")'
        b'("John Klensin" NIL "KLENSIN" "MIT.EDU")) NIL NIL "<B27397-0100000@cac.washington.ed>")'
    )


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (b"", [None, None, *NO_ONE, None, None]),
        (b"Subject:\r\nDate: \r\n", [b"", b"", *NO_ONE, None, None]),
        (b"Subject: a\r\n b\r\n\tc\r\n", [None, b"a b\tc", *NO_ONE, None, None]),
        (b"subject : first\nSUBJECT: second\n", [None, b"first", *NO_ONE, None, None]),
        (b"In-Reply-To: <a@b>\nMessage-ID:<c@d>", [None, None, *NO_ONE, b"<a@b>", b"<c@d>"]),
        (b"X-Subject: x\n Subject: y\nNot-Date: z\n", [None, None, *NO_ONE, None, None]),
    ],
)
def test_envelope_fields(fields: bytes, expected: list[Any]) -> None:
    assert read_envelope(envelope(fields)) == expected


A = [None, None, b"a", b"x.org"]
B = [b"B", None, b"b", b"x.org"]
END = [None] * 4


@pytest.mark.parametrize(
    ("fields", "index", "expected"),
    [
        (b"From: a@x.org\n", 2, [A]),
        (b"From: a@x.org\n", 3, [A]),
        (b"From: a@x.org\n", 4, [A]),
        (b"From: a@x.org\nSender: B <b@x.org>\n", 3, [B]),
        (b"From: a@x.org\nSender: \nReply-To: <>\n", 3, [A]),
        (b"From: a@x.org\nSender: \nReply-To: <>\n", 4, [A]),
        (b"Sender: a@x.org\n", 2, None),
        (b"To: a@x.org, B <b@x.org>\n", 5, [A, B]),
        (b"To: a@x.org\nTo: B <b@x.org>\n", 5, [A, B]),
        (b'To: "B" <b@x.org>\n', 5, [B]),
        (b"To: (B) b@x.org\n", 5, [[b"B", None, b"b", b"x.org"]]),
        (b'To: "a b"@x.org\n', 5, [[None, None, b"a b", b"x.org"]]),
        (b"To: <@r.org,@s.org:a@x.org>\n", 5, [[None, b"@r.org,@s.org", b"a", b"x.org"]]),
        (b"To: a\n", 5, [[None, None, b"a", b"MISSING_DOMAIN"]]),
        (b"To: Some Body\n", 5, [[b"Some Body", None, b"MISSING_MAILBOX", b"MISSING_DOMAIN"]]),
        (b"Cc: undisclosed-recipients:;\n", 6, [[None, None, b"undisclosed-recipients", None], END]),
        (b"Cc: g:a@x.org, B <b@x.org>;, a@x.org\n", 6, [[None, None, b"g", None], A, B, END, A]),
        (b"Bcc: :;\n", 7, [[None, None, b"", None], END]),
        (b"Bcc: a@[192.0.2.1]\n", 7, [[None, None, b"a", b"[192.0.2.1]"]]),
        (b'Bcc: J\xfcrgen "\xfc" <a@x.org>\n', 7, [[b"J\xfcrgen \xfc", None, b"a", b"x.org"]]),
        (b"Bcc: =?utf-8?q?=C3=BC?= <a@x.org>\n", 7, [[b"=?utf-8?q?=C3=BC?=", None, b"a", b"x.org"]]),
        (b"Bcc: ,, ;\n", 7, None),
    ],
)
def test_envelope_addresses(fields: bytes, index: int, expected: Any) -> None:
    assert read_envelope(envelope(fields))[index] == expected


def slow_addresses(value: bytes) -> list[list[bytes | None]] | None:
    """Without the patterns for the common forms."""
    out: list[list[bytes | None]] = []
    for item in _Parser(10_000).read(value):
        if isinstance(item, Group):
            out.append([None, None, item.name, None])
        for name, local, domain, route in item.members if isinstance(item, Group) else [item]:
            out.append([name or None, route or None, local or b"MISSING_MAILBOX", domain or b"MISSING_DOMAIN"])
        if isinstance(item, Group):
            out.append([None] * 4)
    return out or None


def slow_envelope(head: bytes) -> list[Any]:
    """The same, field by field and without haste."""

    def text(name: bytes) -> bytes | None:
        value = header.find(head, name)
        return None if value is None else re.sub(rb"\r*\n", b"", value).strip()

    def people(name: bytes) -> Any:
        values = header.find_all(head, name)
        if name in (b"from", b"sender", b"reply-to"):
            values = values[:1]
        return slow_addresses(b"\n,".join(values)) if values else None

    author = people(b"from")
    out = [text(b"date"), text(b"subject"), author, people(b"sender") or author, people(b"reply-to") or author]
    out += [people(b"to"), people(b"cc"), people(b"bcc"), text(b"in-reply-to"), text(b"message-id")]
    return out


def without_nul(value: Any) -> Any:
    if isinstance(value, list):
        return [without_nul(one) for one in value]
    return value.replace(b"\0", b"") if isinstance(value, bytes) else value


_names = st.sampled_from([b"Date", b"SUBJECT", b"From", b"Sender", b"reply-to", b"To", b"Cc", b"Bcc", b"In-Reply-To"])
_pieces = [b"A", b"B <b@x.org>", b'"C" <c@d>', b"e@f.g", b",", b" ", b"\r\n ", b";", b"g:", b"<", b">", b"@", b"(c)"]
_pieces += [b"(", b")", b'"', b"\\", b".", b"[", b"]", b"\xfc", b"=?x?q?y?=", b"a  b", b":", b"\t", b"\0", b", "]
_values = st.lists(st.sampled_from(_pieces), max_size=12).map(b"".join)
headers = st.lists(st.tuples(_names, _values), max_size=8).map(
    lambda fields: b"".join([name + b": " + value + b"\r\n" for name, value in fields]) + b"\r\n"
)


@given(headers)
def test_envelope_like_the_slow_one(head: bytes) -> None:
    assert read_envelope(envelope(head)) == without_nul(slow_envelope(head))


@given(messages)
def test_envelope_is_always_valid(raw: bytes) -> None:
    read_envelope(envelope(raw))
    read_envelope(envelope(scan(raw).root.header_bytes))


SOUND = [
    "Ann <ann@example.com>",
    "ann@example.com",
    '"Ann, A." <ann@example.com>, Bob <bob@example.org>',
    "Group: Ann <ann@example.com>, bob@example.org;, carol@example.net",
    "(comment) ann@example.com (more)",
    '"quoted \\"pair\\"" <"odd local"@example.com>',
    "Ann\r\n <ann@example.com>,\r\n\tbob@example.org",
    "<ann@[192.0.2.1]>",
    "A. N. Other <a.n.other@sub.example.com>",
]


@pytest.mark.parametrize("value", SOUND)
def test_envelope_like_cpython_where_the_field_is_right(value: str) -> None:
    raw = f"To: {value}\r\n\r\n".encode()
    theirs = email.message_from_bytes(raw, policy=email.policy.default)["to"].addresses
    ours = [one for one in read_envelope(envelope(raw))[5] if one[3] is not None]
    expected = [(a.display_name, a.username, a.domain) for a in theirs]
    assert [((n or b"").decode(), x.decode(), d.decode()) for n, _, x, d in ours] == [
        (name if "comment" not in value else ours[0][0].decode(), local, domain) for name, local, domain in expected
    ]


def test_body_structure_of_a_text() -> None:
    raw = b"Content-Type: TEXT/Plain; Charset=UTF-8\r\nContent-Transfer-Encoding: 8BIT\r\n\r\none\r\ntwo\r\n"
    assert body_structure(scan(raw)) == b'("text" "plain" ("charset" "UTF-8") NIL NIL "8bit" 10 2 NIL NIL NIL NIL)'
    assert body(scan(raw)) == b'("text" "plain" ("charset" "UTF-8") NIL NIL "8bit" 10 2)'
    default = b'("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 0 0 NIL NIL NIL NIL)'
    assert body_structure(scan(b"")) == default


def test_body_structure_of_a_multipart() -> None:
    raw = (
        b"Content-Type: multipart/mixed; boundary=b; x=y\r\nContent-Language: de\r\nContent-Disposition: inline\r\n\r\n"
        b"--b\r\n\r\nhello\r\n--b\r\nContent-Type: image/png; name=a.png\r\nContent-Transfer-Encoding: base64\r\n"
        b"Content-ID: <1@x>\r\nContent-Description: a picture\r\nContent-MD5: Q2hlY2s=\r\nContent-Language: en, fr\r\n"
        b'Content-Location: a.png\r\nContent-Disposition: attachment; filename="a \\"b\\".png"; size=3\r\n\r\nAAAA\r\n'
        b"--b--\r\n"
    )
    assert body_structure(scan(raw)) == (
        b'(("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 5 0 NIL NIL NIL NIL)'
        b'("image" "png" ("name" "a.png") "<1@x>" "a picture" "base64" 4 "Q2hlY2s=" '
        b'("attachment" ("filename" "a \\"b\\".png" "size" "3")) ("en" "fr") "a.png")'
        b' "mixed" ("boundary" "b" "x" "y") ("inline" NIL) "de" NIL)'
    )
    assert body(scan(raw)) == (
        b'(("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 5 0)'
        b'("image" "png" ("name" "a.png") "<1@x>" "a picture" "base64" 4) "mixed")'
    )


def test_body_structure_of_a_message_in_a_message() -> None:
    raw = b"Content-Type: message/rfc822\r\n\r\nSubject: s\r\n\r\nx\r\n"
    assert body_structure(scan(raw)) == (
        b'("message" "rfc822" NIL NIL NIL "7bit" 17 (NIL "s" NIL NIL NIL NIL NIL NIL NIL NIL) '
        b'("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 3 1 NIL NIL NIL NIL) 3 NIL NIL NIL NIL)'
    )
    opaque = read_body(body_structure(scan(b"Content-Transfer-Encoding: base64\n" + raw)), True)
    assert opaque[:2] == [b"message", b"rfc822"]
    assert opaque[7] == [None] * 10


def test_a_multipart_without_parts_is_text() -> None:
    result = read_body(body_structure(scan(b"Content-Type: multipart/mixed; boundary=b\n\nwhat came\n")), True)
    assert result[:2] == [b"text", b"plain"]
    assert result[6:8] == [10, 1]


ALTERNATIVE = (
    b"Content-Type: multipart/alternative; boundary=b\n\n--b\n\nhello\n--b\nContent-Type: text/html%b\n\n<p>\n--b--\n"
)


@pytest.mark.parametrize(
    ("raw", "attached"),
    [
        (b"\nhello\n", False),
        (b"Content-Type: text/csv; NAME=x.csv\n\n1;2\n", True),
        (b"Content-Type: text/csv; name*=utf-8''gr%C3%BCn.csv\n\n1;2\n", True),
        (b"Content-Type: text/csv; charset=utf-8; name=x.csv\nContent-Disposition: inline\n\n1;2\n", False),
        (b"Content-Type: text/csv; charset=name\n\n1;2\n", False),
        (b"Content-Disposition: Attachment\n\n1;2\n", True),
        (b'Content-Type: text/plain; x="(\\"attachment\\" NIL)"\n\n1;2\n', False),
        (b'Content-Description: ("name" "x")\n\n1;2\n', False),
        (ALTERNATIVE % b"", False),
        (ALTERNATIVE % b"; name=x.html", True),
        (ALTERNATIVE % b"\nContent-Disposition: inline; filename=x.html", False),
        (b"Content-Type: message/rfc822; name=x.eml\n\nSubject: s\n\nx\n", True),
        (b"Content-Type: message/rfc822\nContent-Disposition: inline\n\n" + ALTERNATIVE % b"; name=x.html", True),
        (b"Content-Type: message/rfc822\n\nSubject: s\n\nx\n", False),
        (b"Content-Type: multipart/mixed; boundary=b; name=x\n\n--b\n\nhello\n--b--\n", False),
        (b"Content-Type: multipart/mixed; boundary=b\n" + b"\n--b\n\nhello" * 20 + b"\n--b--\n", False),
    ],
)
def test_is_attached(raw: bytes, attached: bool) -> None:
    assert is_attached(body_structure(scan(raw))) is attached


@given(messages)
def test_is_attached_reads_every_structure(raw: bytes) -> None:
    def attached(fields: list[Any]) -> bool:
        if isinstance(fields[0], list):
            return any(map(attached, fields[0]))
        if fields[:2] in ([b"message", b"rfc822"], [b"message", b"global"]) and attached(fields[8]):
            return True
        disposition = fields[-3]
        names = (fields[2] or [])[::2]
        return disposition[0] == b"attachment" if disposition else any(re.match(rb"name(\*|$)", name) for name in names)

    structure = body_structure(scan(raw))
    assert is_attached(structure) is attached(read_body(structure, True))


def test_is_attached_is_linear_and_no_recursion() -> None:
    assert_linear(is_attached, lambda size: b"(" * size + b")" * size)
    leaf = b'("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 0 0 NIL NIL NIL NIL)'
    assert_linear(is_attached, lambda size: b"(%b %b)" % (leaf * size, b'"mixed" NIL NIL NIL NIL'))


def test_the_structure_of_what_is_decoded() -> None:
    part = b'("image" "png" NIL NIL NIL "base64" 164 NIL NIL NIL NIL)'
    assert decoded(part, b"binary", 123) == b'("image" "png" NIL NIL NIL "binary" 123 NIL NIL NIL NIL)'
    message = body_structure(scan(b"Content-Type: message/rfc822\r\n\r\nSubject: s\r\n\r\nx\r\n"))
    mixed = body_structure(scan(b"Content-Type: multipart/mixed; boundary=b\n\n--b\n\nhello\n--b--\n"))
    assert (decoded(message, b"7bit", 1), decoded(mixed, b"7bit", 1)) == (message, mixed)


@given(messages)
def test_body_structure_is_always_valid(raw: bytes) -> None:
    result = scan(raw)
    long, short = read_body(body_structure(result), True), read_body(body(result), False)

    def check(part: Part, long: list[Any], short: list[Any]) -> None:
        if part.parts:
            assert (len(long), len(short)) == (6, 2)
            assert len(long[0]) == len(short[0]) == len(part.parts)
            for child, one, two in zip(part.parts, long[0], short[0], strict=True):
                check(child, one, two)
        else:
            assert long[6] == short[6] == part.end - part.body
            if part.message:
                assert long[9] == part.lines
                check(part.message, long[8], short[8])

    check(result.root, long, short)


ADDRESS_PIECES = [b"a@b,", b"A <a@b> ", b"(", b'"', b"<", b"a@b ", b"g:", b'"\\', b"@:", b"x ", b"[", b"a.", b"\\"]
PARAMETER_PIECES = [b"a=b;", b"a", b'"', b'a="', b"(", b"\\", b"a*0=b;", b"=", b"; ", b"a*=", b'"\\', b"%", b"( "]


@pytest.mark.parametrize("piece", [*ADDRESS_PIECES, b"\nTo: x"])
def test_envelope_in_linear_time(piece: bytes) -> None:
    assert_linear(envelope, lambda n: b"To: " + piece * n + b"\r\n\r\n")


@pytest.mark.parametrize("piece", PARAMETER_PIECES)
@pytest.mark.parametrize("head", [b"Content-Type: a/b;", b"Content-Disposition: a;", b"Content-Language: "])
def test_body_structure_in_linear_time(head: bytes, piece: bytes) -> None:
    assert_linear(lambda raw: body_structure(scan(raw)), lambda n: head + piece * n + b"\r\n\r\n")


def test_many_addresses_do_not_become_many_more_octets() -> None:
    names = (b"To", b"Cc", b"Bcc", b"From", b"Sender", b"Reply-To")
    head = b"".join([name + b": " + b"a," * 9000 + b"\n" for name in names])
    assert len(envelope(head)) < 3 * MAX_ADDRESSES * 40  # the author stands in for sender and reply-to
    message = b"--b\nContent-Type: message/rfc822\n\n" + head + b"\nx\n"
    raw = b"Content-Type: multipart/mixed; boundary=b\n\n" + message * 60
    found = body_structure(scan(raw))
    assert len(found) < 3 * MAX_ADDRESSES * 40 + 60 * 500
    assert len(read_body(found, True)[0]) == 60


def test_very_deep_and_very_many() -> None:
    deep = b"Content-Type: message/rfc822\n\n" * 500
    read_body(body_structure(scan(deep)), True)
    boundaries = b"".join([b"Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n" % (n, n) for n in range(500)])
    read_body(body_structure(scan(boundaries)), True)
    many = read_body(
        body_structure(scan(b"Content-Type: multipart/mixed; boundary=b\n\n" + b"--b\n\nx\n" * 12_000)), True
    )
    assert len(many[0]) == 9_999


@given(messages)
def test_the_structure_of_a_part_is_there_exactly_if_the_part_is(raw: bytes) -> None:
    result = scan(raw)
    whole = body_structure(result)
    paths: list[tuple[int, ...]] = [()]
    while paths:
        path = paths.pop()
        found, structure = find_part(result, path), part_of(whole, path)
        assert (found is None) == (structure is None), path
        if found is None or structure is None:
            continue
        shown = read_body(structure, True)
        if path and not isinstance(shown[0], list):
            assert shown[6] == found.end - found.body
        if len(path) < 4:
            paths += [(*path, number) for number in (1, 2, 3)]

"""Readable text, previews, file names."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.mime import text
from posthouse.mime.scan import scan
from tests.mime.strategies import messages
from tests.support.growth import assert_linear


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("plain", "plain"),
        ("", ""),
        ("<p>One</p><p>Two</p>", "One\n\nTwo"),
        ("one<br>two<BR/>three", "one\ntwo\nthree"),
        ("<b>bo</b>ld", "bold"),
        ("a &amp; b &lt;c&gt; &nbsp; &#252;&#xfc;", "a & b <c> üü"),
        ("<style>p { x }</style>a<script>if (a<b && c>d) '<p>x</p>'</script>b", "ab"),
        ("<head><title>T</title></head><body>x</body>", "x"),
        ("a<!-- <b>hidden</b> -- still > -->b<!-- never closed", "ab"),
        ("a < b and c > d", "a < b and c > d"),
        ("1<2, <", "1<2, <"),
        ("<a href='x>y'>t</a>", "y'>t"),  # a ">" in an attribute: some of it shows, nothing is lost
        ("<!DOCTYPE html><?xml x?><html>x", "x"),
        ("<table><tr><td>1</td><td>2</td></tr><tr><td>3</td></tr></table>", "1 2\n3"),
        ("  many \n\n\n blanks\t\xa0here ", "many blanks here"),
        ("<ul><li>a</li><li>b</li></ul>", "a\nb"),
        ("<style/>x", "x"),
        ("<STYLE type=a>x</Style>y", "y"),
        ("&#99999999999999999999;&#xFFFFFFFFFFF;&#0;", "\ufffd\ufffd\ufffd"),
        ("&#" + "9" * 5000 + ";", "\ufffd"),
    ],
)
def test_html_to_text(source: str, expected: str) -> None:
    assert text.html_to_text(source) == expected


@given(st.lists(st.sampled_from(["<", ">", "<p>", "</", "<!--", "-->", "<script>", "&", "&#", "x", " ", "\n", '"'])))
def test_html_never_fails(pieces: list[str]) -> None:
    assert len(text.html_to_text("".join(pieces))) <= 3 * len("".join(pieces))


@pytest.mark.parametrize(
    "piece", ["<", "<a ", "<!--", "<script>", "&#", "&#9", "<p>", '<a "', ">", "&lt;", " \n", "<a>-->"]
)
def test_html_in_linear_time(piece: str) -> None:
    assert_linear(text.html_to_text, lambda n: piece * n, 1000)


HEAD = b"Content-Type: text/%b; charset=%b\nContent-Transfer-Encoding: %b\n\n"


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"\nhello\r\n  world\r\n", "hello world"),
        (b"\n> quoted\n\nown words\n> more", "own words"),
        (b"\n> only\n> quoted", "> only > quoted"),
        (HEAD % (b"plain", b"utf-8", b"8bit") + "Grüße".encode(), "Grüße"),
        (HEAD % (b"plain", b"iso-8859-1", b"quoted-printable") + b"Gr=FC=DFe", "Grüße"),
        (HEAD % (b"plain", b"utf-8", b"base64") + b"R3LDvMOfZQ==", "Grüße"),
        (HEAD % (b"html", b"utf-8", b"7bit") + b"<style>x</style><p>a</p><p>b&nbsp;c</p>", "a b c"),
        (HEAD % (b"html", b"utf-8", b"7bit") + b"<style>" + b"x" * 20_000 + b"</style>seen", "seen"),
        (HEAD % (b"plain", b"utf-8", b"8bit") + "a\u200b\u00ad\ufeffb\x00c\x1bd".encode(), "abcd"),
        (b"Content-Type: image/png\n\nx", ""),
        (b"Content-Type: multipart/mixed\n\nno boundary", "no boundary"),
        (b"\n" + b"word " * 100, "word " * 50 + "word…"),
        (b"\n" + b" \n" * 2000 + b"far down", "far down"),
        (HEAD % (b"plain", b"utf-8", b"8bit") + "ä".encode() * 127 + b"a", "ä" * 127 + "a"),
        (HEAD % (b"plain", b"utf-8", b"8bit") + b" " * 4095 + "ä".encode(), ""),
        (b"", ""),
    ],
)
def test_preview(raw: bytes, expected: str) -> None:
    assert text.preview(scan(raw)) == expected


@given(messages)
def test_preview_is_one_short_line(raw: bytes) -> None:
    preview = text.preview(scan(raw))
    assert len(preview) <= text.PREVIEW
    assert preview.isprintable()
    preview.encode("utf-8")


def test_readable() -> None:
    raw = HEAD % (b"html", b"utf-8", b"quoted-printable") + b"<p>a=3Cb</p>"
    part = scan(raw).root
    assert text.readable(part, raw[part.body : part.end]) == "a<b"
    part.subtype = b"plain"
    assert text.readable(part, raw[part.body : part.end]) == "<p>a<b</p>"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (b"Content-Disposition: attachment; filename=a.txt\nContent-Type: a/b; name=b.txt", "a.txt"),
        (b"Content-Disposition: attachment\nContent-Type: a/b; name=b.txt", "b.txt"),
        (b"Content-Type: a/b; name*=utf-8''%C3%A4", "ä"),
        (b'Content-Disposition: inline; filename="C:\\\\temp\\\\a.txt"', "a.txt"),
        (b'Content-Disposition: inline; filename="../../etc/passwd"', "passwd"),
        (b"Content-Disposition: inline; filename*=utf-8''a%00b%0Ac", "abc"),
        (b'Content-Disposition: inline; filename="dir/"', None),
        (b'Content-Disposition: inline; filename="  "', None),
        (b"X: y", None),
    ],
)
def test_filename(fields: bytes, expected: str | None) -> None:
    assert text.filename(scan(fields + b"\n\n").root) == expected

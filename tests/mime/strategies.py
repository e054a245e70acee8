"""Random messages: well-formed trees, and heaps of what messages are made of."""

from hypothesis import strategies as st

WORDS = [
    b"\r\n", b"\n", b"\r\n\r\n", b"\n\n", b"\r", b"\r\r\n", b"--", b"--a", b"--b", b"--a--", b"--b--", b"\r\n--a\r\n",
    b"\n--b\n", b"\r\n--a--\r\n", b"\r\n--b--  \r\n", b"--a\r\n--a\r\n", b"--a:b", b"\r\n--a:b\r\n",
    b"Content-Type: multipart/mixed; boundary=a\r\n", b"Content-Type: multipart/digest; boundary=\"b\"\r\n",
    b"content-type: multipart/alternative;\r\n boundary=\"a:b\"\n", b"Content-Type: multipart/mixed; boundary=a--\r\n",
    b"Content-Type: multipart/mixed\r\n", b"Content-Type: message/rfc822\r\n", b"Content-Type: message/global\r\n",
    b"Content-Type: text/html; charset=utf-8\r\n", b"Content-Type: text/plain; charset*=x''y\r\n",
    b"Content-Type: \r\n",
    b"Content-Transfer-Encoding: base64\r\n", b"Content-Transfer-Encoding: 8bit\r\n", b"Content-Transfer-Encoding:\r\n",
    b"Content-Disposition: attachment; filename=\"x\\\"y\"\r\n", b"Content-ID: <\xfc@x>\r\n", b"Content-MD5: \x00\r\n",
    b"Content-Language: en, (c) de\r\n", b"Content-Location: x\r\n", b"Content-Description: a\r\n b\r\n",
    b"Subject: x\r\n", b" folded\r\n", b"\tfolded\n", b"From x y\n", b">From x\n",
    b"From a@b  Mon Jan  1 00:00:00 2024\n", b"\xef\xbb\xbf", b"\xef\xbb\xbfContent-Type: text/html\n",
    b"Content-Transfer-Encoding: x-uue\n", b"From : a@b\r\n", b"text", b"\x00",
    b"From: A <a@b>, g: x@y, z;, \"q\\\"\" <@r:s@t>\r\n", b"To: \xfc <a>, ,;\r\n", b"Sender:\r\n", b"Date: (x\r\n",
    b"a" * 60, b" " * 30, b": ", b":", b"=", b"\xff\xfe", b"aGVsbG8=", b"=E4=", b"<p>", b"{3}\r\n", b"\"", b"\\", b"(",
]  # fmt: skip

heaps = st.lists(st.sampled_from(WORDS) | st.binary(max_size=4), max_size=40).map(b"".join)

_line = st.text(alphabet='abc -.:<>"(', max_size=12).map(str.encode)


@st.composite
def entities(draw: st.DrawFn, depth: int = 0, number: int = 0) -> bytes:
    """A well-formed entity; boundaries differ at each level."""
    kinds = ["text", "html", "base64", "multipart", "message"] if depth < 3 else ["text", "html"]
    kind = draw(st.sampled_from(kinds))
    eol = b"\r\n"
    if kind in ("text", "html"):
        lines = draw(st.lists(_line, max_size=3))
        return b"Content-Type: text/%b%b%b%b" % (b"plain" if kind == "text" else b"html", eol, eol, eol.join(lines))
    if kind == "base64":
        return b"Content-Type: image/png" + eol + b"Content-Transfer-Encoding: base64" + eol + eol + b"AAAA"
    if kind == "message":
        return b"Content-Type: message/rfc822" + eol + eol + b"Subject: s" + eol + draw(entities(depth + 1))
    boundary = b"b%d=_x" % depth
    parts = draw(st.lists(entities(depth + 1), min_size=1, max_size=3))
    out = [b'Content-Type: multipart/mixed; boundary="' + boundary + b'"' + eol + eol]
    out += [b"--" + boundary + eol + part + eol for part in parts]
    return b"".join([*out, b"--" + boundary + b"--" + eol])


# Heaps that begin as multiparts have parts more often than not.
_STARTS = [
    b"Content-Type: multipart/mixed; boundary=a\r\n\r\n--a\r\n",
    b"Content-Type: multipart/digest; boundary=b\n\n--b\n",
    b"Content-Type: multipart/mixed; boundary=a\n\n--a\nContent-Type: multipart/mixed; boundary=b\n\n--b\n",
    b"Content-Type: message/rfc822\n\nContent-Type: multipart/mixed; boundary=a\n\n--a\n",
]
likely = st.tuples(st.sampled_from(_STARTS), heaps).map(b"".join)

# Some know no line end but CR.
messages = st.one_of(
    heaps, likely, entities(), likely.map(lambda raw: raw.replace(b"\r\n", b"\n").replace(b"\n", b"\r"))
)

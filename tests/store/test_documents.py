"""Texts of attached documents are found, and no document costs more than it may."""

import asyncio
import base64
import contextlib
import io
import math
import os
import types
import zipfile
import zlib
from collections.abc import Callable, Iterator

import pytest

from posthouse.imap import keys
from posthouse.mime.scan import Part, scan
from posthouse.store.index import documents, gather
from posthouse.store.index.documents import Documents, kind_of
from posthouse.store.index.rows import Mark
from tests.support.imap_site import ImapSite
from tests.support.indexed import Indexed, found
from tests.support.store import opened

WORD = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
OPEN = "urn:oasis:names:tc:opendocument:xmlns:text:1.0"


def zipped(name: str, content: str | bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return file.getvalue()


def docx(*paragraphs: str) -> bytes:
    run = "<w:r><w:t>%s</w:t></w:r>"
    inside = "".join(f"<w:p>{run % text[:3]}{run % text[3:]}</w:p>" for text in paragraphs)
    return zipped("word/document.xml", f'<w:document xmlns:w="{WORD}"><w:body>{inside}</w:body></w:document>')


def odt(*paragraphs: str) -> bytes:
    inside = "".join(f"<t:p>{text[:3]}<t:span>{text[3:]}</t:span><t:tab/>end</t:p>" for text in paragraphs)
    return zipped("content.xml", f'<office xmlns:t="{OPEN}"><t:h>A heading</t:h>{inside}</office>')


def pdf(text: str, stream: bytes | None = None) -> bytes:
    """A document of one page, written by hand."""
    shown = b"BT /F1 12 Tf 72 720 Td (%b) Tj ET" % text.encode("latin-1")
    content = zlib.compress(shown if stream is None else stream)
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R "
        b"/Resources << /Font << /F1 5 0 R >> >> >>",
        b"<< /Length %d /Filter /FlateDecode >>\nstream\n" % len(content) + content + b"\nendstream",
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    out, places = b"%PDF-1.4\n", []
    for number, one in enumerate(objects, 1):
        places.append(len(out))
        out += b"%d 0 obj\n%b\nendobj\n" % (number, one)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    size = len(objects) + 1
    end = b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (size, len(out))
    return out + b"xref\n0 %d\n0000000000 65535 f \n" % size + table + end


def part(kind: bytes, name: bytes = b"") -> Part:
    head = b"Content-Type: " + kind + b"\r\n"
    if name:
        head += b'Content-Disposition: attachment; filename="' + name + b'"\r\n'
    return scan(head + b"\r\n").root


PDF, DOCX, ODT = (
    part(b"application/pdf"),
    part(b"application/octet-stream", b"Letter.DOCX"),
    part(b"application/vnd.oasis.opendocument.text"),
)


@pytest.fixture
def read() -> Iterator[Documents]:
    reader = Documents()
    yield reader
    reader.rest()


def test_documents_are_read(read: Documents) -> None:
    assert "The zeppelin rises" in read(PDF, lambda: pdf("The zeppelin rises"))
    assert read(DOCX, lambda: docx("marzipan & more".replace("&", "and"), "two")) == "marzipan and more\ntwo"
    assert read(ODT, lambda: odt("marzipan")) == "A heading\nmarzipan end"
    plain = part(b"application/octet-stream", b"notes.txt")
    assert read(plain, lambda: b"\xef\xbb\xbfK\xc3\xa4se") == "Käse"
    assert read(plain, lambda: b"K\xe4se") == "Käse"
    assert read(plain, lambda: b"binary\0") == ""


@pytest.mark.parametrize(
    ("kind", "name", "is_"),
    [
        (b"application/pdf", b"", "pdf"),
        (b"application/octet-stream", b"a.pdf", "pdf"),
        (b"application/octet-stream", b"a.md", "plain"),
        (b"application/octet-stream", b"a.exe", None),
        (b"application/octet-stream", b"", None),
        (b"image/jpeg", b"a.pdf", None),
        (b"application/zip", b"a.docx", None),
    ],
)
def test_kinds(kind: bytes, name: bytes, is_: str | None) -> None:
    assert kind_of(part(kind, name)) == is_


LAUGHS = '<!DOCTYPE x [<!ENTITY a "ha">' + "".join(
    f'<!ENTITY {chr(97 + n)} "{f"&{chr(96 + n)};" * 10}">' for n in range(1, 12)
)


@pytest.mark.parametrize(
    ("one", "made"),
    [
        (DOCX, lambda: zipped("word/document.xml", b"<x>" + b" " * (100 * 1024 * 1024))),
        (DOCX, lambda: docx("marzipan" * 200_000, *["marzipan"] * 500_000)),
        (
            DOCX,
            lambda: zipped("word/document.xml", LAUGHS + f']><d xmlns:w="{WORD}"><w:p><w:t>&l;</w:t></w:p></d>'),
        ),
        (DOCX, lambda: b"PK\x03\x04 no archive"),
        (ODT, lambda: zipped("content.xml", "<a>" * 200_000)),
        (PDF, lambda: b"%PDF-1.4\n" + b"nonsense " * 100_000),
        (PDF, lambda: pdf("", b" " * (300 * 1024 * 1024))),
        (PDF, lambda: pdf("", b"BT " + b"(a) Tj " * 1_000_000)),
        (PDF, lambda: pdf("x").replace(b"/Kids [3 0 R]", b"/Kids [2 0 R]")),
    ],
    ids=["blanks", "elements", "laughs", "no zip", "deep", "no pdf", "pdf of blanks", "pdf of letters", "circle"],
)
def test_a_hostile_document_ends_within_its_limits_and_the_next_is_read(one: Part, made: Callable[[], bytes]) -> None:
    content = made()
    read = Documents(seconds=2, memory=256 * 1024 * 1024)
    try:
        assert len(read(one, lambda: content)) <= documents.MAX_TEXT
        assert read(DOCX, lambda: docx("marzipan")) == "marzipan"
    finally:
        read.rest()


def test_what_is_too_large_is_not_even_decoded(read: Documents, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "MAX_FILE", 1000)
    large = part(b"application/pdf")
    large.end = large.body + 2000

    def never() -> bytes:
        raise AssertionError("it was decoded")

    assert read(large, never) == ""
    assert read(PDF, lambda: b"%PDF" * 1000) == ""


def test_one_that_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    read = Documents(wait=0.0)
    try:
        assert read(DOCX, lambda: docx("marzipan")) == ""
    finally:
        read.rest()


def test_it_works_beside_many_connections(read: Documents) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(1100):  # select() knows descriptors up to 1023
            try:
                stack.callback(os.close, os.open(os.devnull, os.O_RDONLY))
            except OSError:
                break
        assert read(DOCX, lambda: docx("marzipan")) == "marzipan"


def test_long_texts_are_cut(read: Documents) -> None:
    plain = part(b"application/octet-stream", b"notes.txt")
    assert len(read(plain, lambda: b"word " * 1_000_000)) == documents.MAX_TEXT


def test_a_process_reads_so_many(read: Documents, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "MANY", 2)
    seen = set()
    for _ in range(5):
        assert read(DOCX, lambda: docx("marzipan")) == "marzipan"
        assert read._process is not None
        seen.add(read._process.pid)
    assert len(seen) == 3


def test_a_search_finds_what_is_attached() -> None:
    def mail(kind: bytes, content: bytes) -> bytes:
        return (
            b"Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n\r\nSee there.\r\n--x\r\nContent-Type: "
            + kind
            + b"\r\nContent-Transfer-Encoding: base64\r\n\r\n"
            + base64.encodebytes(content)
            + b"--x--\r\n"
        )

    async def main() -> None:
        async with opened() as database:
            site = await ImapSite.make(database)
            await site.deliver(mail(b"application/pdf", pdf("The zeppelin rises")))
            await site.deliver(mail(b"application/vnd.oasis.opendocument.text", odt("marzipan")))
            await site.deliver(mail(b"application/pdf", b"broken"))
            async with Indexed(database, Documents()) as indexed:
                await indexed.catch_up()
                assert await database.read(found, keys.Text(keys.Scope.BODY, "ZEPPELIN rises")) == [1]
                assert await database.read(found, keys.Text(keys.Scope.TEXT, "marzipan")) == [2]
                assert await database.read(found, keys.Text(keys.Scope.BODY, "see there")) == [1, 2, 3]

    asyncio.run(main())


def test_a_message_of_costly_documents_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """One whose documents have taken too long is indexed without the others."""
    message = (
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--b\r\nContent-Type: application/pdf\r\n\r\nx\r\n" * 5
    )
    read: list[bytes] = []

    def extract(_: Part, content: Callable[[], bytes]) -> str:
        read.append(content())
        if len(read) == 2:
            monkeypatch.setattr(gather, "time", types.SimpleNamespace(monotonic=lambda: math.inf))
        return "words"

    async def main() -> None:
        async with opened() as database:
            site = await ImapSite.make(database)
            await site.deliver(message + b"--b\r\n\r\nlast\r\n")
            found = await database.read(gather.gather, Mark(0, 0), extract, math.inf)
            assert read == [b"x", b"x"]
            assert found.said[0].body.count("words") == 2
            assert found.said[0].body.endswith("last")

    asyncio.run(main())

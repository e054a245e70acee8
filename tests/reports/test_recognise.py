"""Which report a message or file holds: ways of attaching it, ways of packing it, and bombs."""

import gzip
import io
import zipfile
import zlib

import pytest

from posthouse.mime.compose import Attachment, message
from posthouse.reports import recognise, unpack
from posthouse.reports.dmarc_aggregate import Aggregate
from posthouse.reports.dmarc_failure import Failure
from posthouse.reports.recognise import of_file, of_message
from posthouse.reports.tls_rpt import TlsReport, write
from posthouse.reports.unpack import Unreadable
from tests.reports.test_dmarc_aggregate import feedback
from tests.reports.test_tls_rpt import REPORT

XML = feedback().encode()
JSON = write(REPORT)


def zipped(*files: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, data in files:
            archive.writestr(name, data)
    return out.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        XML,
        gzip.compress(XML),
        gzip.compress(XML[:100]) + gzip.compress(XML[100:]),
        gzip.compress(XML) + b"\0" * 7,
        zipped(("a.xml", XML)),
        zipped(("__MACOSX/a.xml", b"x"), ("folder/", b""), ("readme.txt", b"x"), ("folder/A.XML", XML)),
        zipped(("a.xml", XML), method=zipfile.ZIP_STORED),
        zipped(("a.xml.gz", gzip.compress(XML))),
        zipped(("no-name", XML)),
    ],
)
def test_files_in_every_packing(data: bytes) -> None:
    assert isinstance(of_file(data), Aggregate)


def test_json_and_messages_are_files_too() -> None:
    assert of_file(JSON) == REPORT
    assert of_file(gzip.compress(JSON)) == REPORT
    mail = _mail(Attachment(gzip.compress(JSON), "application/tlsrpt+gzip", "x.json.gz"))
    assert of_file(mail) == REPORT
    assert of_file(b"From someone at some time\r\n" + mail) == REPORT
    with pytest.raises(Unreadable, match="neither"):
        of_file(b"\x7fELF\x02\x01\x01")


def _mail(*attachments: Attachment) -> bytes:
    return message(
        sender="r@there.test",
        to=["dmarc@here.test"],
        subject="Report Domain: example.org Submitter: there.test Report-ID: <r1>",
        date=0,
        message_id="1@there.test",
        text="A report.",
        attachments=attachments,
    )


@pytest.mark.parametrize(
    "attachment",
    [
        Attachment(gzip.compress(XML), "application/gzip", "a!b!1!2.xml.gz"),
        Attachment(gzip.compress(XML), "application/x-gzip"),
        Attachment(zipped(("a.xml", XML)), "application/zip", "a.zip"),
        Attachment(zipped(("a.xml", XML)), "application/x-zip-compressed"),
        Attachment(XML, "text/xml", "a.xml"),
        Attachment(gzip.compress(XML), "application/octet-stream", "A.XML.GZ"),
        Attachment(XML, "text/plain", "a.xml"),
        Attachment(_mail(Attachment(XML, "text/xml", "a.xml")), "message/rfc822"),
    ],
)
def test_attachments_of_every_type(attachment: Attachment) -> None:
    # Something else goes along, as often does.
    logo = Attachment(b"\x89PNG" + bytes(100), "image/png", "logo.png")
    assert isinstance(of_message(_mail(logo, attachment)), Aggregate)


def test_a_message_that_is_nothing_but_a_zip() -> None:
    body = zipped(("a.xml", XML))
    head = b"From: r@there.test\r\nContent-Type: application/zip\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    assert isinstance(of_message(head + zlib_base64(body)), Aggregate)


def zlib_base64(data: bytes) -> bytes:
    import base64

    return base64.encodebytes(data).replace(b"\n", b"\r\n")


def test_a_file_that_is_none_does_not_hide_one_that_is() -> None:
    report = of_message(
        _mail(Attachment(b"<html/>" * 9, "text/xml", "signature.xml"), Attachment(JSON, "application/json", "r.json"))
    )
    assert isinstance(report, TlsReport)


def test_junk_says_why() -> None:
    with pytest.raises(Unreadable, match="holds no report"):
        of_message(_mail())
    with pytest.raises(Unreadable, match="no DMARC report"):
        of_message(_mail(Attachment(b"<html></html>" * 9, "text/xml", "x.xml")))
    with pytest.raises(Unreadable):
        of_message(b"")
    many = [Attachment(b"<html></html>" * 9, "text/xml", f"{n}.xml") for n in range(recognise.MAX_TRIED)]
    with pytest.raises(Unreadable):
        of_message(_mail(*many, Attachment(XML, "text/xml", "late.xml")))


def _encrypted() -> bytes:
    data = bytearray(zipped(("a.xml", XML)))
    for mark in (b"PK\x03\x04", b"PK\x01\x02"):
        at = data.index(mark) + (6 if mark.endswith(b"\x04") else 8)
        data[at] |= 1
    return bytes(data)


BOMBS = {
    "gzip that is 1000 times as large": (gzip.compress(b"<feedback>" + bytes(20_000_000)), "times its size"),
    "zip that is 1000 times as large": (zipped(("a.xml", bytes(20_000_000))), "times its size"),
    "gzip in gzip in gzip": (gzip.compress(gzip.compress(gzip.compress(gzip.compress(XML)))), "again and again"),
    "zip of many files": (zipped(*[(f"{n}.xml", b"x") for n in range(30)]), "more than 20 files"),
    "zip with nothing in it": (zipped(("folder/", b"")), "empty|damaged"),
    "gzip cut short": (gzip.compress(XML)[:-30], "damaged"),
    "gzip with wrong octets": (gzip.compress(XML)[:20] + b"\xff" * 50, "damaged"),
    "gzip with a wrong sum": (gzip.compress(XML)[:-8] + bytes(8), "damaged"),
    "zip cut short": (zipped(("a.xml", XML))[:-30], "damaged"),
    "zip that is encrypted": (_encrypted(), "encrypted"),
    "zip that says how much memory it takes": (zipped(("a.xml", XML), method=zipfile.ZIP_LZMA), "unusual method"),
    "zip with an unknown method": (zipped(("a.xml", XML)).replace(b"\x08\x00", b"\x63\x00"), "damaged"),
}


@pytest.mark.parametrize(("data", "why"), list(BOMBS.values()), ids=list(BOMBS))
def test_bombs_and_broken_archives(data: bytes, why: str) -> None:
    with pytest.raises(Unreadable, match=why):
        of_file(data)


def test_sizes_end_somewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpack, "MAX_PLAIN", 5000)
    padded = feedback().replace("There", "There" + "<!-- -->" * 1000).encode()
    for data in (padded, gzip.compress(padded), zipped(("a.xml", padded))):
        with pytest.raises(Unreadable, match="more than"):
            of_file(data)
    monkeypatch.setattr(unpack, "MAX_PACKED", 100)
    with pytest.raises(Unreadable, match="packed report has more"):
        of_file(gzip.compress(XML))


FAILURE = (
    b"From: r@there.test\r\nContent-Type: multipart/report; report-type=feedback-report; boundary=b\r\n\r\n"
    b"--b\r\nContent-Type: text/plain\r\n\r\nA message failed.\r\n--b\r\nContent-Type: message/feedback-report\r\n\r\n"
    b"Feedback-Type: auth-failure\r\nVersion: 1\r\nUser-Agent: There/1\r\nAuth-Failure: dmarc\r\n"
    b"Authentication-Results: there.test; dmarc=fail header.from=example.org\r\nOriginal-Mail-From: <a@bad.test>\r\n"
    b"Original-Rcpt-To: <b@there.test>\r\nSource-IP: 192.0.2.9\r\nReported-Domain: Example.org\r\n"
    b"Delivery-Result: reject\r\nIdentity-Alignment: none\r\nDKIM-Domain: bad.test\r\nIncidents: 3\r\n\r\n"
    b"--b\r\nContent-Type: text/rfc822-headers\r\n\r\nFrom: Boss <boss@example.org>\r\nSubject: =?utf-8?q?h=C3=A9?=\r\n"
    b"Message-ID: <m1@bad.test>\r\n\r\n--b--\r\n"
)


def test_a_failure_report() -> None:
    found = of_message(FAILURE)
    assert found == Failure(
        domain="example.org",
        failed="dmarc",
        report_id="m1@bad.test",
        identity_alignment="none",
        result="reject",
        source_ip="192.0.2.9",
        sender="a@bad.test",
        recipients=("b@there.test",),
        incidents=3,
        authentication="there.test; dmarc=fail header.from=example.org",
        dkim_domain="bad.test",
        reporter="There/1",
        author="boss@example.org",
        subject="h\u00e9",
    )


def test_a_complaint_is_no_failure_report() -> None:
    with pytest.raises(Unreadable):
        of_message(FAILURE.replace(b"auth-failure", b"abuse"))


def test_a_failure_report_that_says_little() -> None:
    bare = FAILURE.replace(b"Reported-Domain: Example.org\r\n", b"").replace(b"DKIM-Domain: bad.test\r\n", b"")
    found = of_message(bare.replace(b"Incidents: 3", b"Incidents: \xb2"))
    assert isinstance(found, Failure)
    assert (found.domain, found.incidents) == ("example.org", 1)


def test_zlib_alone_is_not_taken_for_gzip() -> None:
    with pytest.raises(Unreadable):
        of_file(zlib.compress(XML))

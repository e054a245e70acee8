"""What a message costs on its way in, step by step, in microseconds of one core.

python -m bench.mime

Each figure is the best of several runs, so that other work on the machine disturbs little.
"""

import timeit
from collections.abc import Callable

from rich.console import Console
from rich.table import Table

from posthouse.imap.structure import body_structure, envelope
from posthouse.mime import bodies, fields, header, text, trace, words
from posthouse.mime.scan import Scanner, scan
from posthouse.mime.sections import find_section, pack, unpack

HEADER = b"""\
Received: from mail.example.com (mail.example.com [192.0.2.1])\r
\tby mx.example.org with ESMTPS id ABCDEF\r
\tfor <bob@example.org>; Mon, 2 Jun 2025 10:00:00 +0200\r
DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d=example.com; s=s1;\r
\th=from:to:subject:date:message-id; bh=47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=;\r
\tb=dzdVyOfAKCdLXdJOc9G2q8LoXSlEniSbav+yuU4zGeeruD00lszZVoG4ZHRNiYzR\r
Message-ID: <20250602080000.12345@example.com>\r
Date: Mon, 02 Jun 2025 10:00:00 +0200\r
MIME-Version: 1.0\r
User-Agent: Mozilla Thunderbird\r
To: Bob Example <bob@example.org>, "Carol, X." <carol@example.org>\r
Cc: dave@example.net\r
From: Alice Example <alice@example.com>\r
Subject: Re: The meeting on Thursday, and what we should bring\r
In-Reply-To: <abcdef.67890@example.org>\r
References: <one@example.org> <two@example.com> <abcdef.67890@example.org>\r
"""
TEXT = b"Content-Type: text/plain; charset=UTF-8; format=flowed\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
LINE = b"The quick brown fox jumps over the lazy dog, again and again.\r\n"
LISTED = (b"date", b"from", b"to", b"subject", b"message-id", b"references")  # what most clients list with


def plain(size: int) -> bytes:
    return (HEADER + TEXT + LINE * (size // len(LINE)))[:size]


def multipart(size: int) -> bytes:
    """Text, HTML and an attachment that fills it up."""
    outer, inner = b"------------abcdef0123456789", b"=_alternative"
    start = (
        HEADER + b'Content-Type: multipart/mixed; boundary="%b"\r\n\r\n' % outer
        + b'--%b\r\nContent-Type: multipart/alternative; boundary="%b"\r\n\r\n' % (outer, inner)
        + b"--%b\r\n%b%b\r\n" % (inner, TEXT, LINE * 10)
        + b"--%b\r\nContent-Type: text/html; charset=utf-8\r\n\r\n<p>%b</p>\r\n--%b--\r\n" % (inner, LINE * 10, inner)
        + b'--%b\r\nContent-Type: application/pdf; name="a.pdf"\r\nContent-Transfer-Encoding: base64\r\n' % outer
        + b'Content-Disposition: attachment; filename="a.pdf"\r\n\r\n'
    )  # fmt: skip
    line = b"JVBERi0xLjQKJeLjz9MKMyAwIG9iago8PC9MZW5ndGggNCAwIFIvRmlsdGVyL0ZsYXRlRGVjb2Rl\r\n"
    return start + line * ((size - len(start)) // len(line)) + b"--%b--\r\n" % outer


def chunks(raw: bytes) -> None:
    scanner = Scanner()
    for at in range(0, len(raw), 65_536):
        scanner.feed(raw[at : at + 65_536])
    scanner.finish()


def main() -> None:
    small, parts, large = plain(4096), multipart(16_384), multipart(10 << 20)
    one, many = scan(small), scan(parts)
    head = one.root.header_bytes
    packed = pack(many)
    chosen = header.selector(LISTED)
    attachment = find_section(scan(large), (2,))
    assert attachment is not None
    encoded = large[attachment.start : attachment.start + (1 << 20)]
    rows: list[tuple[str, int, Callable[[], object]]] = [
        ("scan, 4 KiB of text", 2000, lambda: scan(small)),
        ("scan, 16 KiB, 5 parts", 1000, lambda: scan(parts)),
        ("scan, 10 MiB, at once", 2, lambda: scan(large)),
        ("scan, 10 MiB, chunks of 64 KiB", 2, lambda: chunks(large)),
        ("envelope", 2000, lambda: envelope(head)),
        ("body_structure, one part", 2000, lambda: body_structure(one)),
        ("body_structure, 5 parts", 1000, lambda: body_structure(many)),
        ("pack, 5 parts", 2000, lambda: pack(many)),
        ("unpack and find 1.2", 2000, lambda: find_section(unpack(packed), (1, 2))),
        ("preview", 2000, lambda: text.preview(one)),
        ("header fields that clients list with", 2000, lambda: chosen(head)),
        ("message ids", 2000, lambda: fields.message_ids(b" <one@example.org> <two@example.com>\r\n <c@d>")),
        ("date", 2000, lambda: fields.date_time(b" Mon, 02 Jun 2025 10:00:00 +0200")),
        ("subject with encoded words", 2000, lambda: words.decode(b"=?utf-8?B?R3LDvA==?= =?utf-8?q?=C3=9Fe?=")),
        ("count Received", 2000, lambda: trace.count_received(head)),
        ("base64, 1 MiB", 10, lambda: bodies.decode(encoded, b"base64")),
    ]
    table = Table("step", "µs")
    table.columns[1].justify = "right"
    for name, number, work in rows:
        table.add_row(name, f"{min(timeit.repeat(work, number=number, repeat=7)) / number * 1e6:,.1f}")
    Console().print(table)


if __name__ == "__main__":
    main()

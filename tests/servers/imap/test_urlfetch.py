"""URLFETCH of parts that are sent in pieces: their form is known before the first goes out (RFC 5524)."""

import asyncio
import base64
import re

import pytest

from posthouse.imap.fetch import SMALL
from tests.support.imap_site import ImapSite

URL = "imap://alice%40example.org@mail.example.org/INBOX/;UID=1/;SECTION=1;URLAUTH=anonymous"


@pytest.mark.parametrize(
    ("octets", "encoding"),
    [
        (b"ascii " * SMALL, b"7bit"),
        (b"ascii " * SMALL + b"\xff", b"8bit"),
        (b"ascii " * SMALL + b"\0", b"binary"),
    ],
    ids=["7bit", "8bit", "binary"],
)
def test_a_large_part_is_a_literal8_only_if_it_holds_a_nul(octets: bytes, encoding: bytes) -> None:
    message = b"Content-Type: application/x; name=x\r\nContent-Transfer-Encoding: base64\r\n\r\n" + base64.encodebytes(
        octets
    )

    async def main() -> None:
        async with ImapSite.filled([message]) as (_, client):
            made = await client.command(f'GENURLAUTH "{URL}" INTERNAL')
            found = re.search(rb'GENURLAUTH "(.*)"', made)
            assert found is not None
            answer = await client.command(b'URLFETCH ("%b" BINARY BODYPARTSTRUCTURE)' % found[1])
            sign = b"~" if encoding == b"binary" else b""
            structure = b'("application" "x" ("name" "x") NIL NIL "%b" %d NIL NIL NIL NIL)' % (encoding, len(octets))
            value = b"%b{%d}\r\n%b" % (sign, len(octets), octets)
            assert b'" (BODYPARTSTRUCTURE %b) (BINARY %b)\r\nT OK' % (structure, value) in answer

    asyncio.run(main())

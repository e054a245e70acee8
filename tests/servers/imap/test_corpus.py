"""The corpus through the whole of IMAP: what BODYSTRUCTURE names is there, and is what the message has there."""

import asyncio
from pathlib import Path
from typing import Any

from tests.imap.grammar import Reader
from tests.imap.parts import has_message, is_multipart, named
from tests.support.imap_site import ImapSite
from tests.support.store import opened

PATHS = sorted((Path(__file__).parents[2] / "messages").glob("*/*.eml"))


def answers(data: bytes, number: int) -> list[tuple[bytes, Any]]:
    """The items of a FETCH response of one message: (name, value), read by the grammar."""
    reader = Reader(data)
    reader.take(b"* %d FETCH (" % number)
    items: list[tuple[bytes, Any]] = []
    while not reader.sees(b")"):
        if items:
            reader.space()
        end = min(at for at in (data.find(b" ", reader.at), data.find(b")", reader.at)) if at >= 0)
        if data.startswith(b"BODY[", reader.at):
            end = data.index(b"]", reader.at) + 1
        name = data[reader.at : end]
        reader.at = end + 1
        if name == b"ENVELOPE":
            items.append((name, reader.envelope()))
        elif name in (b"BODYSTRUCTURE", b"BODY"):
            items.append((name, reader.body(name == b"BODYSTRUCTURE")))
        else:
            items.append((name, reader.nstring()))
    return items


def test_every_part_that_is_named_can_be_fetched() -> None:
    async def main() -> None:
        async with opened() as database:
            site = await ImapSite.make(database)
            for path in PATHS:
                await site.deliver(path.read_bytes(), prefix=b"Return-Path: <a@example.com>\r\n")
            client = await site.logged_in("INBOX")
            for number, path in enumerate(PATHS, 1):
                raw = path.read_bytes().replace(b"\0", b"\x80")  # a literal has no NUL
                data = await client.command(f"FETCH {number} (ENVELOPE BODYSTRUCTURE BODY)")
                _, (_, long), (_, short) = answers(data, number)
                parts = list(named(long))
                assert [numbers for numbers, _ in parts] == [numbers for numbers, _ in named(short)]
                wanted = [".".join(map(str, numbers)) for numbers, _ in parts]
                items = " ".join(f"BODY.PEEK[{one}]" for one in wanted)
                data = await client.command(f"FETCH {number} ({items})")
                found = dict(answers(data, number))
                for one, (_, structure) in zip(wanted, parts, strict=True):
                    body = found[b"BODY[%b]" % one.encode()]
                    assert body is not None, (path.stem, one)
                    assert body in raw
                    if not is_multipart(structure):
                        assert len(body) == structure[6], (path.stem, one)
                    if has_message(structure):
                        again = await client.command(
                            f"FETCH {number} (BODY.PEEK[{one}.HEADER] BODY.PEEK[{one}.TEXT] BODY.PEEK[{one}.MIME])"
                        )
                        head, text, mime = (value for _, value in answers(again, number))
                        assert mime is not None
                        if structure[5].lower() not in (b"base64", b"quoted-printable"):
                            assert head + text == body
            client.close()

    asyncio.run(main())

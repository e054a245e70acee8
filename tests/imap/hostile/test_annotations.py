"""METADATA (RFC 5464) on a real socket: every bound, odd names and values, and mailboxes of others."""

import asyncio
from pathlib import Path

from posthouse.imap.commands.metadata import MAX_NAME
from posthouse.store.annotations import MAX_VALUE
from tests.support import house
from tests.support.imap_wire import Wire, wire

TOO_MANY = b"T NO [METADATA TOOMANY] "
THEIRS = "Shared/alice@posthouse.test/Work"


async def put(client: Wire, mailbox: str, entry: str, value: bytes, binary: bool = False) -> bytes:
    literal = b"%b{%d+}\r\n%b" % (b"~" if binary else b"", len(value), value)
    return await client.last(f"SETMETADATA {mailbox} ({entry} ".encode() + literal + b")")


async def count(client: Wire, mailbox: str) -> int:
    lines = await client.ask(f"GETMETADATA {mailbox} (DEPTH infinity) (/private /shared)")
    assert lines[-1].startswith(b"T OK"), lines
    return sum(line.count(b"/private/") + line.count(b"/shared/") for line in lines)


def test_values_are_octets_up_to_a_size(tmp_path: Path) -> None:
    async def main() -> None:
        async with house.opened(tmp_path) as site, wire(site) as client:
            every = bytes(range(256))
            for value in (b"", b"\0", every, b'")\r\nx LOGOUT\r\n', b"NIL", b"{5}\r\n", every * (MAX_VALUE // 256)):
                binary = b"\0" in value
                assert (await put(client, "INBOX", "/private/comment", value, binary)).startswith(b"T OK"), value[:20]
                answer = (await client.ask("GETMETADATA INBOX /private/comment"))[0]
                assert answer.startswith(b"* METADATA INBOX (/private/comment ")
                shown = answer.removeprefix(b"* METADATA INBOX (/private/comment ").removesuffix(b")")
                written = b"{%d}\r\n%b" % (len(value), value)
                quoted = b'"%b"' % value.replace(b"\\", b"\\\\").replace(b'"', b'\\"')
                assert shown in (written, b"~" + written, quoted), value[:20]
                assert shown.startswith(b"~") == binary
            answer = await put(client, "INBOX", "/private/comment", bytes(MAX_VALUE + 1), binary=True)
            assert answer.startswith(b"T NO [METADATA MAXSIZE %d] " % MAX_VALUE)
            for size in (MAX_VALUE + 1, 1_000_000):
                answer = await put(client, "INBOX", "/private/comment", b"x" * size)
                assert answer.startswith((b"T NO [METADATA MAXSIZE 32768] ", b"T BAD [TOOBIG] ")), size
                assert await client.works()
            assert (await client.ask("GETMETADATA (MAXSIZE 1) INBOX /private/comment"))[-1].startswith(
                b"T OK [METADATA LONGENTRIES %d] " % MAX_VALUE
            )

    asyncio.run(main())


def test_names(tmp_path: Path) -> None:
    async def main() -> None:
        async with house.opened(tmp_path) as site, wire(site) as client:
            deep = "/private" + "/a" * ((MAX_NAME - 8) // 2)
            assert len(deep) <= MAX_NAME
            assert (await put(client, "INBOX", deep, b"x")).startswith(b"T OK")
            assert await count(client, "INBOX") == 1
            assert len(await client.ask("GETMETADATA INBOX (DEPTH 1) /private")) == 1  # it is no child
            for bad in (
                deep + "/a" * 2,
                "/private",
                "/private/",
                "/private//a",
                "/private/a/",
                "/private/*",
                "/private/a%",
                "/public/a",
                "private/a",
                "/privatea/b",
                "/shared/vendor/x",
                '"/private/a\x01"',
                '"/private/\xe9"',
                '""',
                '"/private/' + "a" * 65_000 + '"',
            ):
                line = f"SETMETADATA INBOX ({bad} x)".encode("latin-1")
                assert (await client.last(line)).startswith(b"T BAD"), bad[:40]
                assert await client.works()
            # Names are one whatever their case; the last value of one named twice stands.
            assert (await client.last('SETMETADATA INBOX (/PRIVATE/X "a" /private/x "b")')).startswith(b"T OK")
            assert (await client.ask("GETMETADATA INBOX /Private/x"))[0].endswith(b'(/Private/x "b")')
            assert await count(client, "INBOX") == 2
            many = " ".join(f"/private/a{n}" for n in range(101))
            assert (await client.last(f"GETMETADATA INBOX ({many})")).startswith(b"T BAD")
            for option in ("DEPTH 2", "MAXSIZE -1", "MAXSIZE 99999999999999999999", "DEPTH", "X 1"):
                assert (await client.last(f"GETMETADATA ({option}) INBOX /private")).startswith((b"T BAD", b"T OK")), (
                    option
                )
                assert await client.works()

    asyncio.run(main())


def test_there_are_only_so_many_at_a_mailbox_and_of_an_account(tmp_path: Path) -> None:
    async def main() -> None:
        async with house.opened(tmp_path) as site, wire(site) as client:
            for scope in ("private", "shared"):
                pairs = " ".join(f'/{scope}/n/{n} "x"' for n in range(100))
                assert (await client.last(f"SETMETADATA INBOX ({pairs})")).startswith(b"T OK")
                assert (await put(client, "INBOX", f"/{scope}/more", b"x")).startswith(TOO_MANY)
                # One that is there may change, and one in place of another comes.
                assert (await put(client, "INBOX", f"/{scope}/n/7", b"y" * 1000)).startswith(b"T OK")
                line = f'SETMETADATA INBOX (/{scope}/n/8 NIL /{scope}/more "x")'
                assert (await client.last(line)).startswith(b"T OK")
            assert await count(client, "INBOX") == 200
            # 4 MiB of values an account: 128 of the largest.
            room = 4 * 1024 * 1024 - 2 * (1000 + 99)
            stored = 0
            for mailbox in ("Sent", "Archive"):
                for number in range(100):
                    answer = await put(client, mailbox, f"/private/n/{number}", b"v" * MAX_VALUE)
                    if not answer.startswith(b"T OK"):
                        assert answer.startswith(TOO_MANY)
                        break
                    stored += 1
            assert stored == room // MAX_VALUE
            assert (await put(client, '""', "/private/x", b"v" * MAX_VALUE)).startswith(TOO_MANY)
            assert (await put(client, '""', "/private/x", b"v")).startswith(b"T OK")

    asyncio.run(main())


def test_at_a_mailbox_of_another(tmp_path: Path) -> None:
    """Rights decide; shared annotations count for the owner of the mailbox, private ones for who has them."""

    async def main() -> None:
        async with house.opened(tmp_path) as site, wire(site) as alice, wire(site, "bob") as bob:
            await alice.ask("CREATE Work")
            await alice.ask('SETMETADATA Work (/shared/comment "ours" /private/comment "mine")')
            refused = (b"T NO [NONEXISTENT] ", b"T NO [NOPERM] ", b"T NO [TRYCREATE] ")
            for rights in ("", "l"):
                await alice.ask(f'SETACL Work bob@posthouse.test "{rights}"')
                for line in (f"GETMETADATA {THEIRS} /shared/comment", f'SETMETADATA {THEIRS} (/private/x "x")'):
                    assert (await bob.ask(line))[-1].startswith(refused), (rights, line)
            await alice.ask("SETACL Work bob@posthouse.test lr")
            lines = await bob.ask(f"GETMETADATA {THEIRS} (/shared/comment /private/comment)")
            assert lines[0].endswith(b'(/shared/comment "ours" /private/comment NIL)')
            assert (await bob.last(f'SETMETADATA {THEIRS} (/shared/comment "his")')).startswith(refused)
            both = f'SETMETADATA {THEIRS} (/private/comment "his" /shared/comment "his")'
            assert (await bob.last(both)).startswith(refused)
            assert (await bob.ask(f"GETMETADATA {THEIRS} /private/comment"))[0].endswith(b"(/private/comment NIL)")
            assert (await bob.last(f'SETMETADATA {THEIRS} (/private/comment "his")')).startswith(b"T OK")
            assert (await alice.ask("GETMETADATA Work /private/comment"))[0].endswith(b'(/private/comment "mine")')
            # Bob fills his own; alice has room all the same, also at this mailbox.
            pairs = " ".join(f'/private/n/{n} "x"' for n in range(99))
            assert (await bob.last(f"SETMETADATA {THEIRS} ({pairs})")).startswith(b"T OK")
            assert (await bob.last(f'SETMETADATA {THEIRS} (/private/more "x")')).startswith(TOO_MANY)
            assert (await alice.last(f"SETMETADATA Work ({pairs})")).startswith(b"T OK")
            # Who may write there counts against alice's, not past her bound.
            await alice.ask("SETACL Work bob@posthouse.test lrswite")
            pairs = " ".join(f'/shared/n/{n} "x"' for n in range(99))
            assert (await bob.last(f"SETMETADATA {THEIRS} ({pairs})")).startswith(b"T OK")
            assert (await bob.last(f'SETMETADATA {THEIRS} (/shared/more "x")')).startswith(TOO_MANY)
            assert (await alice.last('SETMETADATA Work (/shared/more "x")')).startswith(TOO_MANY)
            assert (await bob.last('SETMETADATA "" (/shared/comment "x")')).startswith(b"T NO [NOPERM] ")
            assert (await bob.last('SETMETADATA nowhere (/private/comment "x")')).startswith(b"T NO [NONEXISTENT] ")

    asyncio.run(main())

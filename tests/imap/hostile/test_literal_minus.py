"""LITERAL- (RFC 7888) on a real socket: what has more than 4096 octets and does not ask is passed over, in whatever
command, and never taken for commands."""

import asyncio
from pathlib import Path

import pytest

from tests.support import house
from tests.support.imap_wire import wire

EVIL = (b"x LOGOUT\r\nx DELETE Archive\r\n" * 200)[:4097]  # what would happen if it were read as commands
COMMANDS = (
    b"APPEND INBOX %b",
    b"APPEND INBOX (\\Seen) %b",
    b"APPEND INBOX ~%b",
    b"APPEND INBOX CATENATE (TEXT %b)",
    b"APPEND INBOX {4+}\r\nabcd %b",
    b"APPEND %b {4+}\r\nabcd",
    b"APPEND nowhere %b",
    b"REPLACE 1 INBOX %b",
    b"UID REPLACE 1 INBOX %b",
    b"CREATE %b",
    b"SELECT %b",
    b"LIST {0+}\r\n %b",
    b"SEARCH SUBJECT %b",
    b"SEARCH SUBJECT {1+}\r\nx BODY %b",
    b"UID SEARCH RETURN (SAVE) TEXT %b",
    b"SETMETADATA INBOX (/private/comment %b)",
    b"SETMETADATA INBOX (/private/comment ~%b)",
    b"GENURLAUTH %b INTERNAL",
    b'ID ("name" %b)',
    b"NONSENSE %b",
)


@pytest.mark.parametrize("size", [4097, 70_000, 1_000_000])
def test_what_does_not_ask_is_passed_over_in_every_command(tmp_path: Path, size: int) -> None:
    async def main() -> None:
        async with house.opened(tmp_path, imap={"literal_plus": False}) as site, wire(site) as client:
            assert b" LITERAL- " in (await client.ask("CAPABILITY"))[0] + b" "
            await client.ask("SELECT INBOX")
            evil = EVIL * (size // len(EVIL) + 1)
            for command in COMMANDS:
                answer = await client.ask(command % (b"{%d+}\r\n%b" % (size, evil[:size])))
                assert [line[:13] for line in answer] == [b"T BAD [TOOBIG"], command
                assert await client.works(), command
            assert (await client.ask("STATUS Archive (MESSAGES)"))[0] == b"* STATUS Archive (MESSAGES 0)"
            assert (await client.ask("STATUS INBOX (MESSAGES)"))[0] == b"* STATUS INBOX (MESSAGES 0)"

    asyncio.run(main())


def test_in_the_middle_of_commands_that_do_not_wait(tmp_path: Path) -> None:
    """Each is answered once and in order, those around it are done."""

    async def main() -> None:
        async with house.opened(tmp_path, imap={"literal_plus": False}) as site, wire(site) as client:
            small, large = b"Subject: x\r\n\r\n" + b"y" * 4082, EVIL
            assert len(small) == 4096 == len(large) - 1
            parts = []
            for number in range(30):
                one = large if number % 3 == 1 else small
                parts.append(b"a%d APPEND INBOX {%d+}\r\n%b\r\n" % (number, len(one), one))
                parts.append(b"n%d NOOP\r\n" % number)
            sent = b"".join(parts) + b"end NOOP\r\n"
            for at in range(0, len(sent), 1009):  # in pieces that end anywhere
                client.writer.write(sent[at : at + 1009])
                await client.writer.drain()
            lines = [line for line in await client.until(b"end") if not line.startswith(b"*")]
            words = [line.split(b" ")[:3] for line in lines[:-1]]
            assert [tag for tag, _, _ in words] == [b"%b%d" % (kind, n) for n in range(30) for kind in (b"a", b"n")]
            for tag, condition, code in words:
                refused = tag[:1] == b"a" and int(tag[1:]) % 3 == 1
                assert (condition, code) == ((b"BAD", b"[TOOBIG]") if refused else (b"OK", code)), tag
            assert (await client.ask("STATUS INBOX (MESSAGES)"))[0] == b"* STATUS INBOX (MESSAGES 20)"

    asyncio.run(main())


def test_a_multiappend_with_one_that_does_not_ask_stores_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        async with house.opened(tmp_path, imap={"literal_plus": False}) as site, wire(site) as client:
            answer = await client.last(b"APPEND INBOX {4+}\r\nabcd {4097+}\r\n" + EVIL + b" {4+}\r\nabcd")
            assert answer.startswith(b"T BAD [TOOBIG]")
            assert await client.works()
            # Asking helps: it is the size alone that is looked at.
            lines = await client.ask(
                b"APPEND INBOX {4+}\r\nabcd {4097}", EVIL + b" {4096+}\r\n" + EVIL[:4096] + b"\r\n"
            )
            assert lines[-1].startswith(b"T OK [APPENDUID ")
            assert lines[-1].split()[4] == b"1:3]"

    asyncio.run(main())


def test_before_login_and_beyond_all_measure(tmp_path: Path) -> None:
    async def main() -> None:
        async with house.opened(tmp_path, imap={"literal_plus": False}) as site:
            for command in (b"LOGIN {4097+}\r\n", b"APPEND INBOX {4097+}\r\n", b"ID {4097+}\r\n"):
                async with wire(site, "") as client:
                    client.writer.write(b"a " + command + EVIL)
                    assert [line[:5] for line in await client.until(b"a")] == [b"* BYE"], command
            for size in (b"99999999999", b"9" * 30, b"18446744073709551616"):
                async with wire(site) as client:
                    client.writer.write(b"a APPEND INBOX {" + size + b"+}\r\n" + EVIL)
                    lines = await client.until(b"a")
                    assert lines, size
                    assert lines[0].startswith((b"* BYE", b"a BAD")), size

    asyncio.run(main())

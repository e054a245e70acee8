"""An IMAP client on a real socket that sends whatever a test wants, and reads until a tag is answered."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator

from tests.support.house import PASSWORD, House

_literal = re.compile(rb"\{(\d+)\}\r\n$").search


class Wire:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self._tags = 0

    async def response(self) -> bytes:
        """One response with its literals; b"" at the end of the connection."""
        out = b""
        while True:
            line = await self.reader.readline()
            out += line
            found = _literal(line)
            if found is None:
                return out
            out += await self.reader.readexactly(int(found[1]))

    async def until(self, tag: bytes) -> list[bytes]:
        """The responses up to the one with this tag, or that ends the connection, without CRLF."""
        out = []
        while line := await self.response():
            out.append(line.removesuffix(b"\r\n"))
            if line.startswith(tag + b" "):
                break
        return out

    async def ask(self, command: str | bytes, *lines: bytes) -> list[bytes]:
        """Send a command with a tag of its own; its responses, that tag as "T". Each of `lines` is sent after a "+"."""
        self._tags += 1
        tag = b"t%d" % self._tags
        self.writer.write(tag + b" " + (command.encode() if isinstance(command, str) else command) + b"\r\n")
        out = []
        for line in lines:
            out.append(await self.response())
            if not out[-1].startswith(b"+"):
                return [re.sub(rb"^" + tag + rb" ", b"T ", one.removesuffix(b"\r\n")) for one in out]
            self.writer.write(line)
        return [re.sub(rb"^" + tag + rb" ", b"T ", one) for one in await self.until(tag)]

    async def last(self, command: str | bytes, *lines: bytes) -> bytes:
        """The tagged response to a command."""
        return (await self.ask(command, *lines))[-1]

    async def works(self) -> bool:
        """Is the connection in step?"""
        return await self.ask("NOOP") == [b"T OK NOOP completed"]


@contextlib.asynccontextmanager
async def wire(house: House, name: str = "alice") -> AsyncIterator[Wire]:
    """A connection, logged in as `name`; "": before that."""
    reader, writer = await asyncio.open_connection("127.0.0.1", house.ports["imap"], limit=1 << 24)
    client = Wire(reader, writer)
    try:
        assert (await client.response()).startswith(b"* OK")
        if name:
            assert (await client.last(f"LOGIN {name}@posthouse.test {PASSWORD}")).startswith(b"T OK")
        yield client
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def literals(messages: list[bytes], flags: bytes = b"") -> bytes:
    """Messages as an APPEND has them, sent without waiting."""
    return b"".join(b" %b{%d+}\r\n%b" % (flags, len(message), message) for message in messages)

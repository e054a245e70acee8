"""A remote server that takes all mail and remembers the subjects: where the queue delivers in tests."""

import asyncio
import re
from types import TracebackType
from typing import Self


class Sink:
    """Use it as `async with Sink() as sink`; `sink.port` is where it listens."""

    def __init__(self) -> None:
        self.port = 0
        self.subjects: dict[str, int] = {}
        self._changed = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=1 << 22)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()

    async def wait_for(self, subjects: set[str], seconds: float) -> None:
        """Return once all `subjects` have come; fails after `seconds`."""
        async with asyncio.timeout(seconds):
            while not subjects <= self.subjects.keys():
                self._changed.clear()
                await self._changed.wait()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 sink.test ESMTP\r\n")
        try:
            while line := await reader.readline():
                verb = line[:4].upper()
                if verb == b"DATA":
                    writer.write(b"354 go on\r\n")
                    message = await reader.readuntil(b"\r\n.\r\n")
                    match = re.search(rb"^Subject: (\S+)", message, re.M)
                    if match:
                        subject = match[1].decode()
                        self.subjects[subject] = self.subjects.get(subject, 0) + 1
                        self._changed.set()
                    writer.write(b"250 2.0.0 taken\r\n")
                elif verb == b"EHLO":
                    writer.write(b"250-sink.test\r\n250 PIPELINING\r\n")
                elif verb == b"QUIT":
                    writer.write(b"221 bye\r\n")
                    break
                else:
                    writer.write(b"250 2.0.0 OK\r\n")
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            writer.close()

"""A remote mail server for the tests of the queue: it does what the test says, step by step.

`script` maps a step to what happens there: a reply ("450 4.2.0 later"), DROP (the connection is cut),
SILENCE (no answer, ever), or a list of those, one for each time (the last repeats). Steps: "connect", "EHLO",
"HELO", "STARTTLS", "AUTH", "MAIL", "RCPT", "RCPT bob@x.test", "DATA", "content" (after the first bytes of it),
"end" (after the final dot; of LMTP "end bob@x.test", one for each recipient), "QUIT". What is not in the script
succeeds.
"""

import asyncio
import re
import ssl
from typing import NamedTuple

DROP, SILENCE = "DROP", "SILENCE"
Script = dict[str, str | list[str]]


class Taken(NamedTuple):
    """A message that was answered 250 (or whose end had come when the script cut the line)."""

    sender: str
    recipients: tuple[str, ...]
    content: bytes
    secure: bool


class _Cut(Exception):
    pass


class Remote:
    """One server. `taken` is what it accepted, `commands` all it was told."""

    def __init__(
        self,
        script: Script | None = None,
        *,
        extensions: tuple[str, ...] = ("PIPELINING", "8BITMIME", "ENHANCEDSTATUSCODES"),
        tls: ssl.SSLContext | None = None,
        implicit: bool = False,
        lmtp: bool = False,
    ) -> None:
        self.script = script or {}
        self.extensions = extensions
        self.tls = tls
        self.implicit = implicit
        self.lmtp = lmtp
        self.peers: list[str] = []  # where connections came from
        self.taken: list[Taken] = []
        self.commands: list[str] = []
        self.connections = 0
        self.open = 0
        self.most_open = 0
        self.gate: asyncio.Event | None = None  # if set, every "end" waits for it
        self.arrived = asyncio.Event()  # somebody waits at the gate
        self._changed = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._seen: dict[str, int] = {}

    async def start(self, address: str = "127.0.0.1", port: int = 0) -> int:
        self._server = await asyncio.start_server(
            self._connected, address, port, limit=1 << 24, ssl=self.tls if self.implicit else None
        )
        result: int = self._server.sockets[0].getsockname()[1]
        return result

    async def start_on(self, path: str) -> None:
        """Listen on a UNIX socket."""
        self._server = await asyncio.start_unix_server(self._connected, path, limit=1 << 24)

    async def wait_for(self, count: int) -> None:
        """Return once so many messages were taken."""
        while len(self.taken) < count:
            self._changed.clear()
            await self._changed.wait()

    async def stop(self) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        self.peers.append((writer.get_extra_info("peername") or [""])[0])
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        try:
            await self._serve(reader, writer)
        except (_Cut, OSError, EOFError, asyncio.CancelledError):
            writer.transport.abort()
        finally:
            self.open -= 1
            self._tasks.discard(task)
            writer.close()

    async def _say(self, writer: asyncio.StreamWriter, step: str, default: str) -> str:
        """Do what the script says at a step; return the reply that was given."""
        acts = self.script.get(step, default)
        if isinstance(acts, list):
            number = self._seen.get(step, 0)
            self._seen[step] = number + 1
            acts = acts[min(number, len(acts) - 1)] or default
        if acts == DROP:
            raise _Cut
        if acts == SILENCE:
            await asyncio.get_running_loop().create_future()
        writer.write(acts.encode() + b"\r\n")
        await writer.drain()
        return acts

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        secure = self.implicit
        sender, begun, chunks = "", False, b""
        recipients: list[str] = []
        if not (await self._say(writer, "connect", "220 remote.test ESMTP")).startswith("2"):
            return
        while line := (await reader.readline()).decode("utf-8").rstrip("\r\n"):
            self.commands.append(line)
            verb = line.partition(" ")[0].upper()
            path = match[1] if (match := re.search(r"<(.*?)>", line)) else ""
            match verb:
                case "EHLO" | "LHLO" if (verb == "LHLO") is self.lmtp:
                    offered = [*self.extensions, *(["STARTTLS"] if self.tls and not secure else [])]
                    lines = ["remote.test", *offered]
                    hello = [f"250{' ' if n == len(lines) - 1 else '-'}{one}" for n, one in enumerate(lines)]
                    await self._say(writer, "EHLO", "\r\n".join(hello))
                case "STARTTLS":
                    reply = await self._say(writer, "STARTTLS", "220 2.0.0 go ahead")
                    if reply.startswith("220"):
                        assert self.tls is not None
                        await writer.start_tls(self.tls)
                        secure = True
                case "MAIL":
                    sender, recipients = path, []
                    begun = (await self._say(writer, "MAIL", "250 2.1.0 OK")).startswith("2")
                case "RCPT" if not begun:
                    await self._say(writer, "RCPT early", "503 5.5.1 MAIL first")
                case "RCPT":
                    step = f"RCPT {path}" if f"RCPT {path}" in self.script else "RCPT"
                    if (await self._say(writer, step, "250 2.1.5 OK")).startswith("2"):
                        recipients.append(path)
                case "DATA":
                    if not recipients:
                        await self._say(writer, "DATA", "503 5.5.1 no recipients")
                    elif (await self._say(writer, "DATA", "354 go ahead")).startswith("354"):
                        await self._content(reader, writer, Taken(sender, tuple(recipients), b"", secure))
                case "BDAT":
                    words = line.split()
                    chunks += await reader.readexactly(int(words[1]))
                    reply = await self._say(writer, "BDAT", "250 2.0.0 taken")
                    if words[-1].upper() == "LAST":
                        if reply.startswith("2"):
                            self.taken.append(Taken(sender, tuple(recipients), chunks, secure))
                            self._changed.set()
                        chunks = b""
                case "QUIT":
                    await self._say(writer, "QUIT", "221 2.0.0 bye")
                    return
                case _:
                    await self._say(writer, verb, "235 2.7.0 welcome" if verb == "AUTH" else "250 2.0.0 OK")

    async def _content(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, taken: Taken) -> None:
        if "content" in self.script:
            await reader.read(1)
            await self._say(writer, "content", "")
            writer.write_eof()
            raise _Cut
        content = (await reader.readuntil(b"\r\n.\r\n")).removesuffix(b".\r\n").replace(b"\r\n..", b"\r\n.")
        if self.gate is not None:
            self.arrived.set()
            await self.gate.wait()
        taken = taken._replace(content=content)
        if self.script.get("end") == DROP:
            self.taken.append(taken)
        if self.lmtp:
            replies = [await self._say(writer, f"end {one}", "250 2.0.0 taken") for one in taken.recipients]
            got = [one for one, reply in zip(taken.recipients, replies, strict=True) if reply.startswith("2")]
            self.taken.append(taken._replace(recipients=tuple(got)))
            self._changed.set()
        elif (await self._say(writer, "end", "250 2.0.0 taken")).startswith("2"):
            self.taken.append(taken)
            self._changed.set()

"""The proof of `posthouse demo`: one message through submission, read back over IMAP and POP3.

It speaks the three protocols byte by byte on the real ports, as a mail program would, so that what it shows is
what went over the wire (but for passwords and the bulk of the message). It uses neither the engines nor the
store: it would otherwise prove them with themselves. What does not go as it should is a `ProofFailed`
with the protocol and the line; the dialogue up to there is kept.
"""

import asyncio
import base64
import re
import ssl
from collections.abc import Mapping
from typing import NamedTuple

from posthouse.base.errors import PosthouseError, Temporary
from posthouse.net.dial import ClientTls, dial
from posthouse.net.stream import Stream

PATIENCE = 20.0  # seconds for all of it; it takes a fraction of one
MAX_LINE = 65536


class ProofFailed(PosthouseError):
    """The server did not do what it promises."""


class Turn(NamedTuple):
    """One line of a dialogue: "C" said it, or "S"; "" is a remark."""

    who: str
    text: str


class Chapter(NamedTuple):
    """One connection."""

    title: str
    turns: list[Turn]


class Person(NamedTuple):
    """An account and its password."""

    address: str
    password: str


class Proof:
    """One run of it. `chapters` grow as it goes."""

    def __init__(self, host: str, ports: Mapping[str, int], ca: ssl.SSLContext) -> None:
        self.chapters: list[Chapter] = []
        self._host = host
        self._ports = ports
        self._tls = ClientTls(ca, host)

    async def run(self, sender: Person, recipient: Person, message: bytes, message_id: str) -> None:
        """Send `message` (lines end in CRLF) and find it again. Raises `ProofFailed`."""
        try:
            async with asyncio.timeout(PATIENCE):
                await self._submit(sender, recipient, message)
                await self._read_by_imap(recipient, message, message_id)
                await self._read_by_pop3(recipient, message)
        except TimeoutError:
            raise ProofFailed(f"{self._where()}: no answer within {PATIENCE:g} s") from None
        except Temporary as error:  # the connection broke, or TLS could not be agreed
            raise ProofFailed(f"{self._where()}: {error}") from error

    def _where(self) -> str:
        return self.chapters[-1].title if self.chapters else "start"

    async def _open(self, service: str, title: str, *, secure: bool) -> "_Talk":
        port = self._ports[service]
        turns: list[Turn] = []
        self.chapters.append(Chapter(f"{title}, port {port}", turns))
        stream = await dial([self._host], port, patience=5.0, tls=self._tls if secure else None)
        talk = _Talk(stream, turns, f"{title} on port {port}")
        if secure:
            talk.remark_tls()
        return talk

    async def _submit(self, sender: Person, recipient: Person, message: bytes) -> None:
        talk = await self._open("submission", "Submission with STARTTLS", secure=False)
        await talk.reply("220")
        talk.say("EHLO demo.posthouse.test")
        await talk.reply("250")
        talk.say("STARTTLS")
        await talk.reply("220")
        await talk.start_tls(self._tls)
        talk.say("EHLO demo.posthouse.test")
        await talk.reply("250")
        plain = base64.b64encode(f"\0{sender.address}\0{sender.password}".encode()).decode()
        talk.say(f"AUTH PLAIN {plain}", f"AUTH PLAIN (name and password of {sender.address})")
        await talk.reply("235")
        talk.say(f"MAIL FROM:<{sender.address}>")
        await talk.reply("250")
        talk.say(f"RCPT TO:<{recipient.address}>")
        await talk.reply("250")
        talk.say("DATA")
        await talk.reply("354")
        stuffed = message.replace(b"\r\n.", b"\r\n..")
        talk.send(stuffed + b".\r\n")
        talk.quote(message)
        talk.turns.append(Turn("C", "."))
        await talk.reply("250")
        talk.say("QUIT")
        await talk.reply("221")
        await talk.close()

    async def _read_by_imap(self, reader: Person, message: bytes, message_id: str) -> None:
        talk = await self._open("imaps", "IMAP over TLS", secure=True)
        await talk.expect("* OK")
        talk.say(f"a LOGIN {reader.address} {_quoted(reader.password)}", f"a LOGIN {reader.address} (password)")
        await talk.until("a OK")
        talk.say("b SELECT INBOX")
        await talk.until("b OK")
        talk.say(f'c UID SEARCH HEADER Message-ID "{message_id}"')
        found = await talk.until("c OK")
        uids = [word for line in found if line.startswith("* SEARCH") for word in line.split()[2:]]
        if not uids:
            raise ProofFailed(f"{self._where()}: the message is not in the INBOX")
        talk.say(f"d UID FETCH {uids[-1]} (FLAGS RFC822.SIZE BODY.PEEK[])")
        await talk.until("d OK")
        if not any(literal.endswith(message) for literal in talk.literals):
            raise ProofFailed(f"{self._where()}: what came back is not what was sent")
        talk.remark("the same message, byte for byte")
        talk.say("e LOGOUT")
        await talk.until("e OK")
        await talk.close()

    async def _read_by_pop3(self, reader: Person, message: bytes) -> None:
        talk = await self._open("pop3s", "POP3 over TLS", secure=True)
        await talk.expect("+OK")
        talk.say(f"USER {reader.address}")
        await talk.expect("+OK")
        talk.say(f"PASS {reader.password}", "PASS (password)")
        await talk.expect("+OK")
        talk.say("STAT")
        stat = await talk.expect("+OK")
        last = int(stat.split()[1])
        for number in range(last, max(last - 10, 0), -1):  # mail may have come in between
            talk.say(f"RETR {number}")
            await talk.expect("+OK")
            if (await talk.dotted()).endswith(message):
                talk.remark("the same message, byte for byte")
                break
        else:
            raise ProofFailed(f"{self._where()}: the message is not there")
        talk.say("QUIT")
        await talk.expect("+OK")
        await talk.close()


class _Talk:
    """A connection and the record of what was said on it."""

    def __init__(self, stream: Stream, turns: list[Turn], title: str) -> None:
        self.turns = turns
        self.literals: list[bytes] = []
        self._stream = stream
        self._title = title
        self._held = bytearray()

    def say(self, line: str, shown: str = "") -> None:
        """Send a line; `shown` is what the record says instead."""
        self.turns.append(Turn("C", shown or line))
        self.send(line.encode() + b"\r\n")

    def send(self, data: bytes) -> None:
        self._stream.write(data)

    def remark(self, text: str) -> None:
        self.turns.append(Turn("", text))

    def remark_tls(self) -> None:
        if tls := self._stream.tls:
            self.remark(f"{tls.version} with {tls.cipher}, certificate verified")

    def quote(self, message: bytes) -> None:
        """Put a message into the record, short: a few lines of it, and its size."""
        lines = message.decode("utf-8", "replace").split("\r\n")[:-1]
        self.turns += [Turn("C", line) for line in lines[:5]]
        if len(lines) > 5:
            self.remark(f"… {len(lines) - 5} more lines, {len(message)} bytes in all")

    async def start_tls(self, tls: ClientTls) -> None:
        if self._held:
            raise ProofFailed(f"{self._title}: text after the reply to STARTTLS")
        await self._stream.start_tls(tls.context, tls.name)
        self.remark_tls()

    async def _more(self) -> None:
        data = await self._stream.read()
        if not data:
            raise ProofFailed(f"{self._title}: the server closed the connection")
        self._held += data

    async def _line(self) -> str:
        start = 0
        while (end := self._held.find(b"\r\n", start)) < 0:
            start = max(len(self._held) - 1, 0)
            if start > MAX_LINE:
                raise ProofFailed(f"{self._title}: the server sent a line without an end")
            await self._more()
        line = self._held[:end].decode("utf-8", "replace")
        del self._held[: end + 2]
        return line

    async def _take(self, size: int) -> bytes:
        while len(self._held) < size:
            await self._more()
        data = bytes(self._held[:size])
        del self._held[:size]
        return data

    async def expect(self, start: str) -> str:
        """One line that begins so."""
        line = await self._line()
        self.turns.append(Turn("S", line))
        if not line.startswith(start):
            raise ProofFailed(f'{self._title}: expected "{start}", got: {line}')
        return line

    async def reply(self, code: str) -> None:
        """An SMTP reply of one line or several."""
        while (await self.expect(code))[3:4] == "-":
            pass

    async def until(self, start: str) -> list[str]:
        """IMAP responses up to the tagged one, which must begin so; literals are put aside."""
        tag, lines = start.split()[0] + " ", []
        while True:
            line = await self._line()
            while (found := re.search(r"\{(\d{1,9})\}$", line)) is not None:
                self.literals.append(await self._take(int(found[1])))
                line = f"{line} … {await self._line()}"
            self.turns.append(Turn("S", line))
            lines.append(line)
            if line.startswith(tag):
                if not line.startswith(start):
                    raise ProofFailed(f"{self._title}: {line}")
                return lines

    async def dotted(self) -> bytes:
        """The lines of a POP3 answer up to the one with a dot alone."""
        lines = []
        while (line := await self._line()) != ".":
            lines.append(line.removeprefix("."))
        self.turns += [Turn("", f"… {len(lines)} lines"), Turn("S", ".")]
        return "".join(line + "\r\n" for line in lines).encode()

    async def close(self) -> None:
        await self._stream.close()


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'

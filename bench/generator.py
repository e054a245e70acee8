"""A load generator for SMTP in asyncio, for machines without smtp-source. It waits for each reply, as that does."""

import asyncio


async def _session(
    host: str, port: int, sender: str, recipients: tuple[str, ...], body: bytes, left: list[int], keep: bool
) -> None:
    while left[0] > 0:
        reader, writer = await asyncio.open_connection(host, port)
        try:
            await _expect(reader, b"220")
            await _say(reader, writer, b"HELO client.example.com", b"250")
            while left[0] > 0:
                left[0] -= 1
                number = left[0]
                recipient = recipients[number % len(recipients)]
                await _say(reader, writer, b"MAIL FROM:<%b>" % sender.encode(), b"250")
                await _say(reader, writer, b"RCPT TO:<%b>" % recipient.encode(), b"250")
                await _say(reader, writer, b"DATA", b"354")
                # With many recipients no two contents are the same, so that none is kept for two messages.
                own = b"X-Number: %d\r\n" % number if len(recipients) > 1 else b""
                await _say(reader, writer, own + body + b"\r\n.", b"250")
                if not keep:
                    break
            await _say(reader, writer, b"QUIT", b"221")
        finally:
            writer.close()


async def _say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, line: bytes, wanted: bytes) -> None:
    writer.write(line + b"\r\n")
    await writer.drain()
    await _expect(reader, wanted)


async def _expect(reader: asyncio.StreamReader, wanted: bytes) -> None:
    while True:
        line = await reader.readline()
        if not line.startswith(wanted):
            raise SystemExit(f"the server answered {line!r}")
        if line[3:4] != b"-":
            return


async def load(host: str, port: int, recipient: str, count: int, size: int, sessions: int, keep: bool) -> None:
    """Send `count` messages of about `size` bytes over `sessions` connections at a time."""
    await spread(host, port, (recipient,), count, size, sessions, keep)


async def spread(
    host: str, port: int, recipients: tuple[str, ...], count: int, size: int, sessions: int, keep: bool
) -> None:
    """`load` to recipients in turn."""
    head = b"From: <sender@example.com>\r\nTo: <%b>\r\nSubject: load test\r\n\r\n" % recipients[0].encode()
    line = b"X" * 70 + b"\r\n"
    body = head + line * max(1, (size - len(head)) // len(line)) + b"end"
    left = [count]
    await asyncio.gather(
        *(_session(host, port, "sender@example.com", recipients, body, left, keep) for _ in range(sessions))
    )

"""What the SMTP server engine costs alone: no socket, no session, no disk.

    python -m bench.smtp_engine

Prints microseconds for a whole mail transaction (MAIL, RCPT, DATA, content, 250) in lockstep, best of
several, and the speed of dot decoding. The budget is 50 us at 4 KiB.
"""

import time

from posthouse.smtp import replies
from posthouse.smtp.events import Content
from posthouse.smtp.server import ServerOptions, SmtpServer
from posthouse.wire.dots import DotDecoder

LINE = b"The quick brown fox jumps over the lazy dog. And again it jumps over it, ok.\r\n"
READ = 64 * 1024  # what one read brings at most


def transactions(count: int, size: int) -> float:
    """Seconds for one transaction; sender and recipient differ each time."""
    engine = SmtpServer(ServerOptions(hostname="mx.example.org"))
    engine.greet(replies.greeting("mx.example.org"))
    engine.receive(b"EHLO client.example\r\n")
    engine.next_event()
    engine.reply(replies.OK)
    content = (LINE * (size // len(LINE) + 1))[: size - 2] + b"\r\n.\r\n"
    pieces = [content[at : at + READ] for at in range(0, len(content), READ)]
    begin = time.perf_counter()
    for number in range(count):
        engine.receive(b"MAIL FROM:<alice%d@example.com> SIZE=%d\r\n" % (number, size))
        engine.next_event()
        engine.reply(replies.SENDER_OK)
        engine.take_output()
        engine.receive(b"RCPT TO:<bob%d@example.org>\r\n" % number)
        engine.next_event()
        engine.reply(replies.RECIPIENT_OK)
        engine.take_output()
        engine.receive(b"DATA\r\n")
        engine.next_event()
        engine.take_output()
        for piece in pieces:
            engine.receive(piece)
            event = engine.next_event()
            assert isinstance(event, Content)
            if event.last:
                engine.reply(replies.Reply(250, "2.0.0", f"Accepted as {number}"))
            else:
                engine.proceed()
        engine.take_output()
        engine.next_event()
    return (time.perf_counter() - begin) / count


def decoding() -> float:
    """Bytes a second."""
    chunk = (LINE * 1000)[:READ]
    decoder = DotDecoder()
    begin = time.perf_counter()
    for _ in range(1000):
        decoder.feed(chunk)
    return 1000 * len(chunk) / (time.perf_counter() - begin)


if __name__ == "__main__":
    for size, count in ((200, 10_000), (4096, 10_000), (1 << 20, 100)):
        best = min(transactions(count, size) for _ in range(5))
        print(f"transaction of {size:>8} bytes: {best * 1e6:8.1f} us")
    print(f"dot decoding: {max(decoding() for _ in range(5)) / 1e6:.0f} MB/s")

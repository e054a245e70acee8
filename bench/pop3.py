"""POP3: fetching a mailbox over one connection, as programs do it.

python -m bench.pop3 [--messages 2000] [--runs 5]

Fills a mailbox by APPEND with mail of many sizes (half of it below 4 KiB, some above 256 KiB, 20 KiB on average), then
logs in, asks LIST and UIDL, and fetches all of it: one RETR after the other, and pipelined. The mailbox stays as it is.
The client keeps nothing of what it reads and looks only for the end of each message.
"""

import argparse
import socket
import statistics
import time
from collections.abc import Callable

from rich.console import Console
from rich.table import Table

from bench import imap
from bench.mime import multipart, plain
from bench.server import PASSWORD, Demo

# Of a hundred messages: how many, their kind, their size.
Kind = Callable[[int], bytes]
MIX: tuple[tuple[int, Kind, int], ...] = (
    (55, plain, 2500),
    (25, plain, 6000),
    (12, multipart, 25_000),
    (6, multipart, 90_000),
    (2, multipart, 300_000),
)
_MIXED = [(make, size) for share, make, size in MIX for _ in range(share)]


def message(number: int) -> bytes:
    """One of the mix; no two are the same."""
    make, size = _MIXED[number * 37 % 100]
    return b"X-Number: %d\r\n" % number + make(size + number * 131 % (size // 4))


class Client:
    """A blocking client."""

    def __init__(self, demo: Demo) -> None:
        self._socket = socket.create_connection((demo.info["host"], demo.info["ports"]["pop3"]), 60)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.line(b"")

    def line(self, command: bytes) -> bytes:
        """Send a command, read one line."""
        if command:
            self._socket.sendall(command + b"\r\n")
        data = b""
        while not data.endswith(b"\r\n"):
            data += self._read()
        if not data.startswith(b"+OK"):
            raise SystemExit(f"the server answered {data!r}")
        return data

    def lines(self, command: bytes) -> int:
        """Send a command, read all lines of its answer; returns how many octets came."""
        self._socket.sendall(command + b"\r\n")
        size, tail = 0, b""
        while not tail.endswith(b"\r\n.\r\n"):
            data = self._read()
            size += len(data)
            tail = (tail + data[-5:])[-5:]
        return size

    def pipeline(self, commands: bytes, answers: int) -> int:
        """Send commands, read so many answers."""
        self._socket.sendall(commands)
        size, tail = 0, b""
        while answers:
            data = self._read()
            size += len(data)
            seen = tail + data
            answers -= seen.count(b"\r\n.\r\n")
            tail = b"" if seen.endswith(b"\r\n.\r\n") else seen[-4:]
        return size

    def _read(self) -> bytes:
        data = self._socket.recv(1 << 18)
        if not data:
            raise SystemExit("the server closed the connection")
        return data

    def close(self) -> None:
        self._socket.close()


def fetch(demo: Demo, count: int, pipelined: bool) -> tuple[float, float, int]:
    """Fetch everything once: seconds, CPU seconds of the server, octets."""
    cpu, began = demo.cpu(), time.perf_counter()
    client = Client(demo)
    client.line(b"USER user0@posthouse.test")
    client.line(b"PASS " + PASSWORD.encode())
    assert int(client.line(b"STAT").split()[1]) >= count
    client.lines(b"LIST")
    client.lines(b"UIDL")
    if pipelined:
        size = sum(
            client.pipeline(b"".join([b"RETR %d\r\n" % n for n in range(first, min(first + 50, count + 1))]), step)
            for first in range(1, count + 1, 50)
            for step in (min(50, count + 1 - first),)
        )
    else:
        size = sum(client.lines(b"RETR %d" % n) for n in range(1, count + 1))
    client.line(b"QUIT")
    client.close()
    return time.perf_counter() - began, demo.cpu() - cpu, size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=2000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--offset", type=int, default=23000)
    options = parser.parse_args()
    count = options.messages
    table = Table(title=f"POP3, {count} messages, one connection, median of {options.runs}")
    for name in ("", "messages/s", "MB/s", "CPU-ms a message"):
        table.add_column(name, justify="right" if name else "left")
    with Demo(options.offset) as demo:
        filler = imap.Client(demo).login()
        for n in range(count):
            data = message(n)
            filler.send(b"A%d APPEND INBOX {%d+}\r\n%b\r\n" % (n, len(data), data))
            if n % 20 == 19 or n == count - 1:
                filler.wait(b"A%d" % n)
        filler.close()
        for name, pipelined in (("one RETR after the other", False), ("50 on the way", True)):
            fetch(demo, count, pipelined)
            runs = [fetch(demo, count, pipelined) for _ in range(options.runs)]
            wall = statistics.median(run[0] for run in runs)
            cpu = statistics.median(run[1] for run in runs)
            size = runs[0][2]
            table.add_row(name, f"{count / wall:,.0f}", f"{size / wall / 1e6:,.0f}", f"{cpu / count * 1000:.3f}")
    Console().print(table)


if __name__ == "__main__":
    main()

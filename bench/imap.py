"""IMAP: listing, selecting, and what an idle connection costs.

python -m bench.imap [--messages 20000] [--large 100000] [--idle 2000]

Fills mailboxes by APPEND (pipelined), then times single commands on one connection: the first time on a fresh
server, and again. Idle connections are plain ones that have logged in, selected and sent IDLE.
"""

import argparse
import contextlib
import resource
import socket
import time
from collections.abc import Iterator

from rich.console import Console
from rich.table import Table

from bench.server import PASSWORD, Demo


class Client:
    """A blocking client that keeps little of what it reads."""

    def __init__(self, demo: Demo) -> None:
        self._socket = socket.create_connection((demo.info["host"], demo.info["ports"]["imap"]), 300)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._number = 0
        self._socket.recv(4096)

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def command(self, line: bytes) -> int:
        """Run a command; returns how many bytes came."""
        self._number += 1
        tag = b"z%d" % self._number
        self.send(tag + b" " + line + b"\r\n")
        return self.wait(tag)

    def wait(self, tag: bytes) -> int:
        """Read to the tagged response."""
        total, tail = 0, b"\r\n"
        while True:
            data = self._socket.recv(1 << 20)
            if not data:
                raise SystemExit(f"the server closed the connection: {tail[-200:]!r}")
            total += len(data)
            tail = (tail + data)[-4096:]
            at = tail.rfind(b"\r\n" + tag + b" ")
            if at >= 0 and tail.endswith(b"\r\n"):
                if not tail.startswith(b"OK", at + len(tag) + 3):
                    raise SystemExit(tail[at:].decode())
                return total

    def login(self) -> "Client":
        self.command(b'LOGIN "user0@posthouse.test" "%b"' % PASSWORD.encode())
        return self

    def close(self) -> None:
        self._socket.close()


def message(number: int) -> bytes:
    """A small multipart message; two of three answer one before."""
    asked = number - number % 3
    answers = b"" if asked == number else b"In-Reply-To: <%d@example.com>\r\nReferences: <%d@example.com>\r\n" % (
        number - 1, asked
    )  # fmt: skip
    text = b"The quick brown fox jumps over the lazy dog.\r\n" * (number % 20 + 5)
    return (
        b"Received: from mx.example.com by mail.example.org; Mon, 1 Jan 2025 00:00:00 +0000\r\n"
        b"From: Anna Example <anna%d@example.com>\r\nTo: Bob <user0@posthouse.test>, <c@example.org>\r\n"
        b"Subject: Message number %d about things\r\nDate: Mon, 1 Jan 2025 00:00:00 +0000\r\n"
        b"Message-ID: <%d@example.com>\r\n%bMIME-Version: 1.0\r\n"
        b'Content-Type: multipart/alternative; boundary="b%d"\r\n\r\n'
        b"--b%d\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n%b\r\n"
        b"--b%d\r\nContent-Type: text/html; charset=utf-8\r\n\r\n<p>%b</p>\r\n--b%d--\r\n"
        % (number % 500, number, number, answers, number, number, text, number, text, number)
    )


def fill(client: Client, mailbox: bytes, count: int, small: bool) -> float:
    """Append messages, twenty on the way at a time; returns messages a second."""
    began = time.perf_counter()
    for n in range(count):
        data = b"Subject: %d\r\n\r\nx\r\n" % n if small else message(n)
        client.send(b"A%d APPEND %b {%d+}\r\n%b\r\n" % (n, mailbox, len(data), data))
        if n % 20 == 19 or n == count - 1:
            client.wait(b"A%d" % n)
    return count / (time.perf_counter() - began)


@contextlib.contextmanager
def timed(rows: list[tuple[str, float, float]], name: str, demo: Demo) -> Iterator[None]:
    cpu, began = demo.cpu(), time.perf_counter()
    yield
    rows.append((name, (time.perf_counter() - began) * 1000, (demo.cpu() - cpu) * 1000))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=20_000)
    parser.add_argument("--large", type=int, default=100_000)
    parser.add_argument("--idle", type=int, default=2000)
    parser.add_argument("--offset", type=int, default=22000)
    options = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    rows: list[tuple[str, float, float]] = []
    with Demo(options.offset) as demo:
        bare = demo.memory()
        client = Client(demo).login()
        client.command(b"CREATE Large")
        rate = fill(client, b"INBOX", options.messages, False)
        fill(client, b"Large", options.large, True)
        client.close()
        for when in ("first", "again"):
            client = Client(demo).login()
            with timed(rows, f"SELECT, {options.messages} messages, {when}", demo):
                client.command(b"SELECT INBOX")
            for items in (b"FLAGS UID RFC822.SIZE ENVELOPE BODYSTRUCTURE", b"FLAGS UID RFC822.SIZE INTERNALDATE"):
                with timed(rows, f"FETCH 1:* ({items.decode()}), {when}", demo):
                    client.command(b"FETCH 1:* (%b)" % items)
            for command in (
                *(b"UID SORT (%b) UTF-8 ALL" % key for key in (b"ARRIVAL", b"SIZE", b"DATE", b"FROM", b"SUBJECT")),
                b"UID SORT RETURN (PARTIAL 1:50 COUNT) (REVERSE DATE) UTF-8 ALL",
                *(b"UID THREAD %b UTF-8 ALL" % way for way in (b"ORDEREDSUBJECT", b"REFERENCES", b"REFS")),
            ):
                with timed(rows, f"{command.decode()}, {when}", demo):
                    client.command(command)
            with timed(rows, f"SELECT, {options.large} messages, {when}", demo):
                client.command(b"SELECT Large")
            client.close()
        before = demo.memory()
        idle = []
        for _ in range(options.idle):
            one = Client(demo).login()
            one.command(b"SELECT INBOX")
            one.send(b"i IDLE\r\n")
            one._socket.recv(4096)
            idle.append(one)
        each = (demo.memory() - before) * 1024 / max(1, options.idle)
        for one in idle:
            one.close()
    table = Table(title="IMAP on two cores")
    table.add_column("command")
    table.add_column("ms", justify="right")
    table.add_column("CPU-ms", justify="right")
    for name, wall, cpu in rows:
        table.add_row(name, f"{wall:.1f}", f"{cpu:.0f}")
    console = Console()
    console.print(table)
    console.print(f"APPEND, pipelined by 20: {rate:,.0f}/s")
    console.print(f"bare demo {bare:.0f} MiB; {options.idle} IDLE connections cost {each:.1f} KiB each")


if __name__ == "__main__":
    main()

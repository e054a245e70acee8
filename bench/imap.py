"""IMAP: listing, selecting, and what an idle connection costs.

python -m bench.imap [--messages 20000] [--large 100000] [--idle 2000]

Fills mailboxes by APPEND (pipelined), then times single commands on one connection: the first time on a fresh
server, and again. Idle connections are plain ones that have logged in, selected and sent IDLE.
"""

import argparse
import base64
import contextlib
import random
import resource
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from rich.console import Console
from rich.table import Table

from bench.server import PASSWORD, Demo

WORDS = (b"budget", b"holiday", b"invoice", b"meeting", b"travel", b"zebra", b"garden")
FIELDS = b"DATE FROM TO SUBJECT MESSAGE-ID REFERENCES"
# What is timed in the INBOX: a name, and the command or the commands one after the other.
ROWS: tuple[tuple[str, tuple[bytes, ...]], ...] = (
    ("SELECT", (b"SELECT INBOX",)),
    ("FETCH 1:* (FLAGS UID RFC822.SIZE INTERNALDATE)", (b"FETCH 1:* (FLAGS UID RFC822.SIZE INTERNALDATE)",)),
    ("FETCH 1:* (ENVELOPE BODYSTRUCTURE)", (b"FETCH 1:* (ENVELOPE BODYSTRUCTURE)",)),
    (
        "FETCH 1:* (UID FLAGS BODY.PEEK[HEADER.FIELDS (...)])",
        (b"FETCH 1:* (UID FLAGS BODY.PEEK[HEADER.FIELDS (%b)])" % FIELDS,),
    ),
    ("FETCH 1:2000 BODY.PEEK[]", (b"FETCH 1:2000 BODY.PEEK[]",)),
    ("1,000 x UID FETCH n BODY.PEEK[]", tuple(b"UID FETCH %d BODY.PEEK[]" % n for n in range(1, 1001))),
    ("STORE 1:* +FLAGS (keyword)", (b"STORE 1:* +FLAGS.SILENT (bench)",)),
    ("STORE 1:* -FLAGS (keyword)", (b"STORE 1:* -FLAGS.SILENT (bench)",)),
    *(
        (f"UID SORT ({key.decode()})", (b"UID SORT (%b) UTF-8 ALL" % key,))
        for key in (b"ARRIVAL", b"SIZE", b"DATE", b"FROM", b"SUBJECT")
    ),
    *(
        (f"UID THREAD {way.decode()}", (b"UID THREAD %b UTF-8 ALL" % way,))
        for way in (b"ORDEREDSUBJECT", b"REFERENCES", b"REFS")
    ),
    ("SEARCH SUBJECT word", (b"SEARCH SUBJECT zebra",)),
    ("SEARCH BODY word", (b"SEARCH BODY word777",)),
    ("SEARCH TEXT word", (b"SEARCH TEXT word777",)),
)


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


ATTACHMENT = base64.encodebytes(random.Random(1).randbytes(54_000)).replace(b"\n", b"\r\n")


def message(number: int) -> bytes:
    """A multipart message; two of three answer one before, and every fourth has an attachment, so that 2,000 of them
    are about 40 MB."""
    asked = number - number % 3
    answers = b"" if asked == number else b"In-Reply-To: <%d@example.com>\r\nReferences: <%d@example.com>\r\n" % (
        number - 1, asked
    )  # fmt: skip
    text = b"The quick brown fox jumps over the lazy dog.\r\n" * (number % 20 + 5)
    header = (
        b"Received: from mx.example.com by mail.example.org; Mon, 1 Jan 2025 00:00:00 +0000\r\n"
        b"From: Anna Example <anna%d@example.com>\r\nTo: Bob <user0@posthouse.test>, <c@example.org>\r\n"
        b"Subject: Message number %d about %b\r\nDate: Mon, 1 Jan 2025 00:00:00 +0000\r\n"
        b"Message-ID: <%d@example.com>\r\n%bMIME-Version: 1.0\r\n"
        b'Content-Type: multipart/mixed; boundary="b%d"\r\n\r\n'
        % (number % 500, number, WORDS[number % len(WORDS)], number, answers, number)
    )
    parts = [
        b"Content-Type: text/plain; charset=utf-8\r\n\r\n%b word%d\r\n" % (text, number % 1000),
        b"Content-Type: text/html; charset=utf-8\r\n\r\n<p>%b</p>\r\n" % text,
    ]
    if number % 4 == 0:
        name = b'Content-Type: application/pdf; name="report%d.pdf"\r\n' % number
        parts.append(name + b"Content-Transfer-Encoding: base64\r\n\r\n" + ATTACHMENT)
    return header + b"".join(b"--b%d\r\n%b" % (number, part) for part in parts) + b"--b%d--\r\n" % number


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


def parallel_logins(demo: Demo, count: int = 2000, together: int = 20) -> float:
    """Connections that log in, select and log out, in threads that mostly wait; returns how many a second."""

    def one(_: int) -> None:
        client = Client(demo).login()
        client.command(b"SELECT INBOX")
        client.command(b"LOGOUT")
        client.close()

    began = time.perf_counter()
    with ThreadPoolExecutor(together) as pool:
        list(pool.map(one, range(count)))
    return count / (time.perf_counter() - began)


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
            for name, commands in ROWS:
                with timed(rows, f"{name}, {when}", demo):
                    for command in commands:
                        client.command(command)
            with timed(rows, f"1,000 x STORE n +FLAGS, pipelined, {when}", demo):
                client.send(b"".join(b"S%d STORE %d +FLAGS (x%d)\r\n" % (n, n, len(rows)) for n in range(1, 1001)))
                client.wait(b"S1000")
            with timed(rows, f"SELECT, {options.large} messages, {when}", demo):
                client.command(b"SELECT Large")
            client.close()
        logins = parallel_logins(demo)
        before = demo.memory()
        idle = []
        for _ in range(options.idle):
            one = Client(demo).login()
            one.command(b"SELECT INBOX")
            one.send(b"i IDLE\r\n")
            one._socket.recv(4096)
            idle.append(one)
        each = (demo.memory() - before) * 1024 / max(1, options.idle)
        with timed(rows, f"one new message told to {options.idle} in IDLE", demo):
            client = Client(demo).login()
            data = message(1)
            client.send(b"A APPEND INBOX {%d+}\r\n%b\r\n" % (len(data), data))
            for one in idle:
                while b"EXISTS" not in one._socket.recv(4096):
                    pass
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
    console.print(f"LOGIN + SELECT + LOGOUT, 20 at a time: {logins:,.0f}/s")
    console.print(f"APPEND, pipelined by 20: {rate:,.0f}/s")
    console.print(f"bare demo {bare:.0f} MiB; {options.idle} IDLE connections cost {each:.1f} KiB each")


if __name__ == "__main__":
    main()

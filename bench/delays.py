"""How long others wait beside a huge FETCH, a client that reads slowly, and large searches.

python -m bench.delays [--messages 4000]

One connection asks NOOP again and again while others do what is heavy; what is shown is how long its answers took. The
goal is that nothing delays it by more than 20 ms.
"""

import argparse
import multiprocessing
import socket
import time
from collections.abc import Callable
from multiprocessing.synchronize import Event

from rich.console import Console
from rich.table import Table

from bench.imap import FIELDS, Client, fill
from bench.search import indexed
from bench.server import Demo

LARGE = 20  # MB of one message
SECONDS = 4.0  # for each row
CONTEXT = multiprocessing.get_context("fork")  # others are processes, so that none waits for the interpreter of another


Other = Callable[[Demo, Event], None]


def again(line: bytes) -> Other:
    """A client that says the same until it is told to end."""

    def run(demo: Demo, ended: Event) -> None:
        client = Client(demo).login()
        client.command(b"SELECT INBOX")
        while not ended.is_set():
            client.command(line)
        client.close()

    return run


def slow(demo: Demo, ended: Event) -> None:
    """A client that asks for everything and takes little of it at a time."""
    client = Client(demo).login()
    client._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    client.command(b"SELECT INBOX")
    client.send(b"s FETCH 1:* BODY.PEEK[]\r\n")
    while not ended.is_set():
        client._socket.recv(16384)
        time.sleep(0.005)
    client.close()


def uploads(demo: Demo, ended: Event) -> None:
    """A client that brings messages one behind the other."""
    client = Client(demo).login()
    client.command(b"CREATE Uploads")
    while not ended.is_set():
        fill(client, b"Uploads", 200, False)
    client.close()


ROWS: tuple[tuple[str, tuple[Other, ...]], ...] = (
    ("nothing", ()),
    ("FETCH 1:* BODY.PEEK[]", (again(b"FETCH 1:* BODY.PEEK[]"),)),
    ("FETCH of a message of 20 MB", (again(b"FETCH * BODY.PEEK[]"),)),
    ("FETCH of its attachment by BINARY", (again(b"FETCH * BINARY.PEEK[1]"),)),
    ("FETCH 1:* (ENVELOPE BODYSTRUCTURE)", (again(b"FETCH 1:* (ENVELOPE BODYSTRUCTURE)"),)),
    ("FETCH 1:* (BODY.PEEK[HEADER.FIELDS (...)])", (again(b"FETCH 1:* (BODY.PEEK[HEADER.FIELDS (%b)])" % FIELDS),)),
    ("FETCH 1:* (FLAGS UID)", (again(b"FETCH 1:* (FLAGS UID)"),)),
    ("STORE 1:* FLAGS", (again(b"STORE 1:* +FLAGS.SILENT (a)"), again(b"STORE 1:* -FLAGS.SILENT (a)"))),
    ("SORT and THREAD", (again(b"UID SORT (SUBJECT) UTF-8 ALL"), again(b"UID THREAD REFS UTF-8 ALL"))),
    ("a search that reads messages", (again(b"SEARCH OR BODY ab BODY cd"),)),
    ("five slow readers of everything", (slow,) * 5),
    ("APPEND, pipelined", (uploads,)),
)


def delays(demo: Demo, beside: tuple[Other, ...]) -> tuple[int, list[float]]:
    """How many answers came, and ms each took, ascending."""
    ended = CONTEXT.Event()
    others = [CONTEXT.Process(target=one, args=(demo, ended)) for one in beside]
    client = Client(demo).login()
    for other in others:
        other.start()
    time.sleep(0.3 if others else 0.0)
    took = []
    until = time.perf_counter() + SECONDS
    while (began := time.perf_counter()) < until:
        client.command(b"NOOP")
        took.append((time.perf_counter() - began) * 1000)
        time.sleep(0.001)
    ended.set()
    for other in others:
        other.join()
    client.close()
    return len(took), sorted(took)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=4000)
    parser.add_argument("--offset", type=int, default=25000)
    options = parser.parse_args()
    table = Table(title="NOOP beside")
    table.add_column("what others do")
    for column in ("answers", "median, ms", "p99, ms", "max, ms"):
        table.add_column(column, justify="right")
    with Demo(options.offset) as demo:
        client = Client(demo).login()
        fill(client, b"INBOX", options.messages, False)
        head = b"Subject: large\r\nMIME-Version: 1.0\r\nContent-Transfer-Encoding: base64\r\n\r\n"
        large = head + (b"QUJD" * 19 + b"\r\n") * (LARGE * 1_000_000 // 78)
        client.send(b"L APPEND INBOX {%d+}\r\n%b\r\n" % (len(large), large))
        client.wait(b"L")
        client.close()
        indexed(demo)
        for name, beside in ROWS:
            count, took = delays(demo, beside)
            table.add_row(
                name,
                f"{count:,}",
                f"{took[count // 2]:.2f}",
                f"{took[min(count - 1, count * 99 // 100)]:.2f}",
                f"{took[-1]:.1f}",
            )
    Console().print(table)


if __name__ == "__main__":
    main()

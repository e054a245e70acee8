"""Relaying: messages a second from the first byte in to the last message at the next server.

python -m bench.relay [--count N] [--runs N] [--backlog N --domains N]

smtp-source sends to `posthouse serve`, which relays to smtp-sink; both are of Debian's postfix package. Everything
happens on loopback. With --backlog that many messages of one sender to so many domains are queued while everything is
paused, and the server is stopped. Then the pause is lifted and the server started: how long from then until the first
and the last are delivered, by the way of each domain (MX lookup, a connection of its own), and how much memory that
takes.
"""

import argparse
import asyncio
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.generator import spread
from bench.server import TICK
from posthouse.store import pauses
from posthouse.store.database import Tx
from posthouse.store.sqlite import SqliteDatabase

PATH = os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin"
CONFIGURATION = """\
hostname = "mail.posthouse.test"
data = "data"
[limits]
shutdown_grace = "3 s"
connections_per_ip = 10000
[relay]
networks = ["127.0.0.0/8"]
{way}
[queue]
concurrency = {concurrency}
concurrency_per_destination = {concurrency}
[log]
level = "{level}"
{dns}
[[listen]]
service = "smtp"
address = "127.0.0.1"
port = {port}
"""

SMARTHOST = """
[relay.smarthost]
host = "127.0.0.1"
port = {sink}
tls = "none"
"""
DIRECT = "port = {sink}"
DNS = """
[dns]
only_zone = true
zone = { "*.bench.test" = { A = ["127.0.0.1"] } }
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Sink:
    """smtp-sink, and how many messages it has."""

    def __init__(self, port: int) -> None:
        program = shutil.which("smtp-sink", path=PATH)
        if program is None:
            raise SystemExit("smtp-sink is not installed (Debian: apt-get install postfix)")
        user = ["-u", "nobody"] if os.geteuid() == 0 else []
        self._process = subprocess.Popen(
            [program, "-c", "-m", "5000", *user, f"127.0.0.1:{port}", "1000"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self._seen = b""

    def wait_for(self, count: int, patience: float = 600.0) -> int:
        """Until it has so many messages; how many it has then."""
        assert self._process.stdout is not None
        end = time.monotonic() + patience
        while time.monotonic() < end:
            self._seen = (self._seen + os.read(self._process.stdout.fileno(), 65536))[-200:]
            found = re.findall(rb"mesg=(\d+)", self._seen)
            if found and int(found[-1]) >= count:
                return int(found[-1])
        raise SystemExit(f"the sink has not got {count} messages in {patience:.0f} s: {self._seen[-60:]!r}")

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(10)


class Server:
    """`posthouse serve` with everything going to the sink: as to a smart host, or to each domain by itself."""

    def __init__(self, folder: Path, sink: int, concurrency: int, level: str, direct: bool = False) -> None:
        self.port = free_port()
        self.path = folder / "posthouse.toml"
        text = CONFIGURATION.format(
            way=(DIRECT if direct else SMARTHOST).format(sink=sink),
            dns=DNS if direct else "",
            port=self.port,
            concurrency=concurrency,
            level=level,
        )
        self.path.write_text(text, "utf-8")
        self._log = open(folder / "log", "ab")  # noqa: SIM115 - as long as the server
        self._process = subprocess.Popen(
            [sys.executable, "-m", "posthouse", "serve", "--config", str(self.path)],
            stdout=subprocess.PIPE,
            stderr=self._log,
        )
        assert self._process.stdout is not None
        if not self._process.stdout.readline():
            raise SystemExit(f"the server did not start: {(folder / 'log').read_text()}")

    def cpu(self) -> float:
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICK

    def peak(self) -> float:
        text = Path(f"/proc/{self._process.pid}/status").read_text()
        return int(re.search(r"VmHWM:\s+(\d+)", text)[1]) / 1024  # type: ignore[index]

    def stop(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(60)
        self._log.close()


def send(port: int, count: int, recipient: str) -> None:
    source = shutil.which("smtp-source", path=PATH)
    if source is None:
        raise SystemExit("smtp-source is not installed (Debian: apt-get install postfix)")
    command = [source, "-4", "-d", "-s", "20", "-m", str(count), "-l", "4096", "-f", "sender@example.com"]
    subprocess.run([*command, "-t", recipient, f"127.0.0.1:{port}"], check=True, timeout=900)


def relay(count: int, concurrency: int, level: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="posthouse-bench-") as folder:
        port = free_port()
        sink, server = Sink(port), Server(Path(folder), port, concurrency, level)
        try:
            send(server.port, 40, "to@sink.test")
            sink.wait_for(40)
            cpu, began = server.cpu(), time.perf_counter()
            send(server.port, count, "to@sink.test")
            taken = time.perf_counter() - began
            sink.wait_for(40 + count)
            wall, used = time.perf_counter() - began, server.cpu() - cpu
            return {"rate": count / wall, "taken": count / taken, "cpu": used * 1000 / count, "peak": server.peak()}
        finally:
            server.stop()
            sink.stop()


async def in_store(folder: Path, work: Callable[[Tx], Any]) -> Any:
    """Do something to the store of a server that is not running."""
    database = await SqliteDatabase.open(folder / "data", 0)
    try:
        return await database.write(work)
    finally:
        await database.close()


def backlog(count: int, domains: int, concurrency: int, level: str) -> dict[str, Any]:
    """Queue while everything is paused, then open."""
    with tempfile.TemporaryDirectory(prefix="posthouse-bench-") as name:
        folder, port = Path(name), free_port()
        asyncio.run(in_store(folder, lambda tx: pauses.pause(tx, "*", 0)))
        server = Server(folder, port, concurrency, level, direct=True)
        recipients = tuple(f"to@d{number}.bench.test" for number in range(domains))
        began = time.perf_counter()
        asyncio.run(spread("127.0.0.1", server.port, recipients, count, 4096, 20, True))
        queued, queuing = time.perf_counter() - began, server.peak()
        server.stop()
        asyncio.run(in_store(folder, lambda tx: pauses.resume(tx, "*")))
        sink, began = Sink(port), time.perf_counter()
        server = Server(folder, port, concurrency, level, direct=True)
        try:
            ready = time.perf_counter() - began
            sink.wait_for(1)
            first = time.perf_counter() - began
            cpu = server.cpu()
            sink.wait_for(count, 1800)
            wall = time.perf_counter() - began
            return {
                "queued /s": count / queued,
                "peak MiB while queuing": queuing,
                "started s": ready,
                "first s": first,
                "all s": wall,
                "delivered /s": count / (wall - first),
                "CPU-ms a message": (server.cpu() - cpu) * 1000 / count,
                "peak MiB": server.peak(),
            }
        finally:
            server.stop()
            sink.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--concurrency", type=int, default=20)
    parser.add_argument("--level", default="info", help="log level of the server")
    parser.add_argument("--backlog", type=int, default=0)
    parser.add_argument("--domains", type=int, default=1000)
    options = parser.parse_args()
    console = Console()
    if options.backlog:
        told = backlog(options.backlog, options.domains, options.concurrency, options.level)
        console.print(json.dumps({key: round(value, 2) for key, value in told.items()}))
        return
    rows = sorted((relay(options.count, options.concurrency, options.level) for _ in range(options.runs)),
                  key=lambda row: row["rate"])  # fmt: skip
    middle = rows[len(rows) // 2]
    table = Table(title="Relay, smtp-source to smtp-sink, 4 KiB")
    for column in ("messages", "end to end /s", "taken /s", "CPU-ms a message", "peak MiB"):
        table.add_column(column, justify="right")
    table.add_row(str(options.count), *(f"{middle[key]:,.2f}" for key in ("rate", "taken", "cpu", "peak")))
    console.print(table)


if __name__ == "__main__":
    main()

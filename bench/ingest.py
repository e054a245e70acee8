"""Durable local delivery: messages a second and CPU-ms of the server a message.

python -m bench.ingest [--count N] [--runs N] [--generator auto|smtp-source|own]

Load is smtp-source (Debian's postfix package) where it is installed, else our own generator. Every message
that was sent must be in the mailbox afterwards, asked over IMAP, or the benchmark fails.
"""

import argparse
import asyncio
import imaplib
import os
import shutil
import subprocess
import time
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from bench.generator import load
from bench.server import PASSWORD, Demo


class Case(NamedTuple):
    name: str
    size: int
    sessions: int
    keep: bool
    share: float  # of --count


CASES = (
    Case("4 KiB, many a session", 4096, 20, True, 1.0),
    Case("4 KiB, one a session", 4096, 20, False, 1.0),
    Case("1 MiB, 4 sessions", 1 << 20, 4, True, 0.04),
    Case("10 MiB, 4 sessions", 10 << 20, 4, True, 0.006),
)


def find_source() -> str | None:
    return shutil.which("smtp-source", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")


def send(demo: Demo, case: Case, count: int, source: str | None) -> None:
    host, port = demo.info["host"], demo.info["ports"]["smtp"]
    recipient = "user0@posthouse.test"
    if source is None:
        asyncio.run(load(host, port, recipient, count, case.size, case.sessions, case.keep))
        return
    command = [source, "-4", "-s", str(case.sessions), "-m", str(count), "-l", str(case.size)]
    command += ["-f", "sender@example.com", "-t", recipient, "-M", "client.example.com"]
    command += (["-d"] if case.keep else []) + [f"{host}:{port}"]
    subprocess.run(command, check=True, timeout=600)


def held(demo: Demo) -> int:
    """How many messages the mailbox holds, asked over IMAP."""
    with imaplib.IMAP4(demo.info["host"], demo.info["ports"]["imap"]) as client:
        client.login("user0@posthouse.test", PASSWORD)
        answer = client.select("INBOX", readonly=True)[1][0]
        return int(answer or b"0")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--generator", choices=["auto", "smtp-source", "own"], default="auto")
    parser.add_argument("--offset", type=int, default=21000)
    options = parser.parse_args()
    source = None if options.generator == "own" else find_source()
    if options.generator == "smtp-source" and source is None:
        raise SystemExit("smtp-source is not installed (Debian: apt-get install postfix)")
    table = Table(title=f"Durable local delivery, {'smtp-source' if source else 'own generator'}, on two cores")
    for column in ("case", "messages", "messages/s", "MB/s", "CPU-ms a message", "peak MiB"):
        table.add_column(column, justify="left" if column == "case" else "right")
    console = Console()
    for case in CASES:
        count = max(20, int(options.count * case.share))
        rows = []
        for _ in range(options.runs):
            with Demo(options.offset) as demo:
                send(demo, case, min(40, count), source)
                before, cpu, began = held(demo), demo.cpu(), time.perf_counter()
                send(demo, case, count, source)
                wall, used = time.perf_counter() - began, demo.cpu() - cpu
                arrived = held(demo) - before
                if arrived != count:
                    raise SystemExit(f"{case.name}: {count} sent, {arrived} in the mailbox")
                rows.append((count / wall, count * case.size / wall / 1e6, used * 1000 / count, demo.peak()))
        rows.sort()
        rate, speed, each, peak = rows[len(rows) // 2]
        table.add_row(case.name, str(count), f"{rate:,.0f}", f"{speed:,.0f}", f"{each:.2f}", f"{peak:.0f}")
        console.print(f"{case.name}: {rate:,.0f}/s, {each:.2f} CPU-ms")
    console.print(table)


if __name__ == "__main__":
    main()

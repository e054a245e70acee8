"""Slow clients beside a normal one: does the mail of the normal one arrive, and how long does it take?

python -m bench.slow [--connections N] [--seconds N]

N connections to the SMTP port (from as many loopback addresses as are needed) send an octet a second each and never
finish a command. Meanwhile a normal client delivers a message every 100 ms; its times are compared with those before.
"""

import argparse
import asyncio
import resource
import smtplib
import statistics
import time

from rich.console import Console
from rich.table import Table

from bench.server import Demo

EACH = 90  # connections from one address, below limits.connections_per_ip


async def slow_client(host: str, port: int, source: str, stop: asyncio.Event, counts: dict[str, int]) -> None:
    try:
        _, writer = await asyncio.open_connection(host, port, local_addr=(source, 0))
    except OSError:
        counts["refused"] += 1
        return
    counts["open"] += 1
    try:
        writer.write(b"EHLO slow")
        while not stop.is_set() and not writer.is_closing():
            writer.write(b"x")
            await asyncio.sleep(1.0)
    finally:
        writer.close()


def deliver(host: str, port: int) -> float:
    started = time.monotonic()
    with smtplib.SMTP(host, port, timeout=30) as client:
        client.sendmail("x@example.com", ["user0@posthouse.test"], "Subject: x\n\nx")
    return time.monotonic() - started


async def measure(host: str, port: int, seconds: float) -> list[float]:
    times = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        times.append(await asyncio.to_thread(deliver, host, port))
        await asyncio.sleep(0.1)
    return times


async def main(demo: Demo, count: int, seconds: float) -> None:
    host, port = demo.info["host"], demo.info["ports"]["smtp"]
    before = await measure(host, port, seconds)
    stop, counts = asyncio.Event(), {"open": 0, "refused": 0}
    tasks = []
    for number in range(count):
        address = number // EACH
        source = f"127.0.{address // 250 + 1}.{address % 250 + 1}"
        tasks.append(asyncio.create_task(slow_client(host, port, source, stop, counts)))
        if number % 200 == 199:
            await asyncio.sleep(0.05)
    await asyncio.sleep(2.0)
    during = await measure(host, port, seconds)
    stop.set()
    await asyncio.gather(*tasks, return_exceptions=True)
    table = Table(title=f"One normal client beside {counts['open']} slow ones ({counts['refused']} refused)")
    for name in ("", "messages", "median ms", "longest ms"):
        table.add_column(name, justify="right")
    for name, times in (("alone", before), ("beside slow clients", during)):
        median, longest = statistics.median(times) * 1000, max(times) * 1000
        table.add_row(name, str(len(times)), f"{median:.1f}", f"{longest:.1f}")
    Console().print(table)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--connections", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--offset", type=int, default=31_000)
    options = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with Demo(options.offset) as running:
        asyncio.run(main(running, options.connections, options.seconds))

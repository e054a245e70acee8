"""`posthouse explain ADDRESS` among many messages: seconds until it is known that an address is nowhere.

python -m bench.explain [--messages N] [--runs N]

Every message has an event of its acceptance and one of an attempt with its transcript. The address that is looked for
is in none of them: that is the longest search.
"""

import argparse
import asyncio
import random
import shutil
import tempfile
import time
from pathlib import Path

from posthouse.base import ids
from posthouse.cli.explain import find
from posthouse.store import events
from posthouse.store.database import Tx
from posthouse.store.sqlite import SqliteDatabase

TRANSCRIPT = ["S: 220 mx ESMTP", "C: EHLO mail.example.org", *["S: 250-SOMETHING that is offered"] * 10,
              *["C: MAIL FROM:<a@example.org> SIZE=4096", "S: 250 2.1.0 OK"] * 6]  # fmt: skip


def fill(tx: Tx, source: ids.IdSource, began: int, count: int) -> None:
    chance = random.Random(began)
    for n in range(count):
        trace = source.next(began + n * 1_000_000)
        there = f"there{chance.randrange(300)}.example"
        to = f"user{chance.randrange(2000)}@{there}"
        accepted = {
            "session": ids.to_text(trace), "service": "smtp", "ip": "192.0.2.7", "hello": "mx.client.example",
            "sender": f"sender{chance.randrange(3000)}@client.example", "ms": 12, "name": "mx.client.example",
            "tls": "TLSv1.3 TLS_AES_256_GCM_SHA384", "recipients": [to], "became": [{"queued": there}], "local": 0,
            "remote": 1, "size": 4096, "hash": "0" * 32, "message_id": f"{trace}@client.example",
        }  # fmt: skip
        verdict = {"state": "delivered", "code": 250, "status": "2.0.0", "text": "taken", "host": there, "remote": True}
        attempt = {"destination": there, "host": there, "results": {to: verdict}, "transcript": TRANSCRIPT}
        events.add(tx, trace, trace, "accepted", accepted, trace >> 1)
        events.add(tx, trace, source.next(began + n * 1_000_000 + 200_000), "attempt", attempt)


async def measure(folder: Path, messages: int, runs: int) -> None:
    now = time.time_ns() // 1000
    database = await SqliteDatabase.open(folder, now)
    try:
        source, began = ids.IdSource(), now - 30 * 86_400_000_000
        for at in range(0, messages, 1000):
            await database.write(fill, source, began + at * 1_000_000, min(1000, messages - at))
        size = (folder / "posthouse.db").stat().st_size / 1e6
        for what in ("nobody@nowhere.example", "user7@there7.example"):
            times = []
            for _ in range(runs):
                start = time.perf_counter()
                found = await find(database, what, 20, 0)
                times.append(time.perf_counter() - start)
            print(
                f"{what}: {len(found.cases)} found, {found.searched} messages looked at ({size:.0f} MB): "
                f"{sorted(times)[len(times) // 2]:.2f} s"
            )
    finally:
        await database.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="posthouse-bench-"))
    try:
        asyncio.run(measure(folder, options.messages, options.runs))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()

"""What it costs to sign a submitted message, in CPU-ms: the way into the store (fields looked at, the body hashed) and
the signatures, with keys that are remembered. Without sockets and without storing anything.

python -m bench.signing
"""

import asyncio
import io
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from bench.dkim import message
from posthouse.base import log
from posthouse.base.clock import SystemClock
from posthouse.base.log import get_logger
from posthouse.base.signing_settings import Signing as Settings
from posthouse.delivery.submitted import Stamp, Submitted
from posthouse.senderauth import own_keys
from posthouse.senderauth.dkim import split
from posthouse.senderauth.signing import Signing
from posthouse.store import accounts, dkim_keys
from posthouse.store.database import Tx
from posthouse.store.feed import ChangeFeed
from posthouse.store.sqlite import SqliteDatabase

DOMAIN = "example.org"  # that of From in `message`
NOW = 1_800_000_000_000_000
SIZES = ((4096, 300), (1 << 20, 10))


async def cost(work: Callable[[], Awaitable[object]], times: int) -> float:
    """CPU-ms of one time, all threads, the best of five."""
    best = 1e9
    for _ in range(5):
        start = time.process_time()
        for _ in range(times):
            await work()
        best = min(best, time.process_time() - start)
    return best / times * 1000


def publish(tx: Tx) -> None:
    accounts.add_domain(tx, DOMAIN, NOW)
    for key in dkim_keys.add(tx, DOMAIN, own_keys.make(("rsa-sha256", "ed25519-sha256"), NOW), NOW):
        dkim_keys.checked(tx, key, True, "", NOW)
        dkim_keys.use(tx, key.id, NOW)


async def run(folder: Path) -> None:
    database = await SqliteDatabase.open(folder, NOW)
    feed = ChangeFeed()
    database.on_commit(feed.publish)
    await database.write(publish)
    stamp = Stamp("unique@example.org", NOW)
    ways = {"RSA-2048": ("rsa-sha256",), "RSA-2048 and Ed25519": ("rsa-sha256", "ed25519-sha256"), "nobody signs": ()}
    for name, algorithms in ways.items():
        settings = Settings.model_validate({"algorithms": algorithms} if algorithms else {"sign": "never"})
        signing = Signing(database, feed, SystemClock(), get_logger(), settings, "mail.example.org")
        for size, times in SIZES:
            raw = message(size)

            async def sign(raw: bytes = raw, signing: Signing = signing, count: int = len(algorithms)) -> None:
                taken = Submitted(stamp, signing)
                stored = taken.feed(raw) + taken.finish()
                signed = await taken.sign(split(stored)[0], b"")
                assert signed.fields.count(b"DKIM-Signature:") == count

            await sign()
            print(f"{size:>9} octets, {name}: {await cost(sign, times):.3f} CPU-ms")
    await database.close()


def main() -> None:
    log.configure("json", "error", io.BytesIO())
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(run(Path(folder)))


if __name__ == "__main__":
    main()

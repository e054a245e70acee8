"""`posthouse explain ADDRESS` among many messages: seconds until it is known that an address is nowhere.

python -m bench.explain [--messages N] [--runs N] [--verified]

Every message has an event of its acceptance and one of an attempt with its transcript; with --verified the first tells
what was found of who sent it, too. The address that is looked for is in none of them: that is the longest search.
"""

import argparse
import asyncio
import base64
import random
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from posthouse.base import ids
from posthouse.cli.explain import find
from posthouse.store import events
from posthouse.store.database import Tx
from posthouse.store.sqlite import SqliteDatabase

TRANSCRIPT = ["S: 220 mx ESMTP", "C: EHLO mail.example.org", *["S: 250-SOMETHING that is offered"] * 10,
              *["C: MAIL FROM:<a@example.org> SIZE=4096", "S: 250 2.1.0 OK"] * 6]  # fmt: skip


def authentication(domain: str, chance: random.Random) -> dict[str, Any]:
    """What `senderauth/verdict_trace.py` tells of a message with one signature."""
    host, policy = f"mx.{domain}", "v=DMARC1; p=reject; rua=mailto:reports@example.org"
    record, own = "v=spf1 include:_spf.example.org mx -all", "v=spf1 a -all"
    key = f"v=DKIM1; k=rsa; p={base64.b64encode(chance.randbytes(294)).decode()}"
    texts = {domain: record, "_spf.example.org": "v=spf1 ip4:203.0.113.0/24 ip4:192.0.2.0/24 ?all", host: own}
    texts |= {f"key._domainkey.{domain}": key, f"_dmarc.{domain}": policy}
    passed = {"result": "pass", "domain": domain}
    return {
        "spf": [
            passed | {"identity": "mailfrom", "record": record, "mechanism": "include:_spf.example.org"},
            {"result": "pass", "identity": "helo", "domain": host, "record": own, "mechanism": "a"},
        ],
        "dkim": [
            passed | {
                "selector": "key", "algorithm": "rsa-sha256", "bits": 2048, "canon": "relaxed/relaxed",
                "signed": "from from reply-to subject subject date date to to cc message-id message-id in-reply-to",
                "body_hash": base64.b64encode(chance.randbytes(32)).decode(),
                "header_hash": base64.b64encode(chance.randbytes(32)).decode(), "tag": "qzMmeVbw", "aligned": True,
            }
        ],
        "iprev": {"result": "pass", "name": host},
        "dmarc": {
            "result": "pass", "author": domain, "policy": "reject", "policy_domain": domain, "organization": domain,
            "record": policy, "aligned": ["spf", "dkim"],
            "because": [
                f"the record of {domain} applies",
                f"SPF proves {domain}, and it is the domain of From",
                f"DKIM proves {domain}, and it is the domain of From",
            ],
        },
        "done": "none",
        "sender": True,
        "dns": [
            *({"name": name, "kind": "TXT", "values": [text]} for name, text in texts.items()),
            {"name": host, "kind": "A", "values": ["192.0.2.7"]},
            {"name": "7.2.0.192.in-addr.arpa", "kind": "PTR", "values": [host]},
            {"name": f"default._bimi.{domain}", "kind": "TXT"},
        ],
    }  # fmt: skip


def fill(tx: Tx, source: ids.IdSource, began: int, count: int, verified: bool) -> None:
    chance = random.Random(began)
    for n in range(count):
        trace = source.next(began + n * 1_000_000)
        there = f"there{chance.randrange(300)}.example"
        to = f"user{chance.randrange(2000)}@{there}"
        accepted: dict[str, Any] = {
            "session": ids.to_text(trace), "service": "smtp", "ip": "192.0.2.7", "hello": "mx.client.example",
            "sender": f"sender{chance.randrange(3000)}@client.example", "ms": 12, "name": "mx.client.example",
            "tls": "TLSv1.3 TLS_AES_256_GCM_SHA384", "recipients": [to], "became": [{"queued": there}], "local": 0,
            "remote": 1, "size": 4096, "hash": "0" * 32, "message_id": f"{trace}@client.example",
        }  # fmt: skip
        if verified:
            accepted["authentication"] = authentication(f"client{chance.randrange(300)}.example", chance)
        verdict = {"state": "delivered", "code": 250, "status": "2.0.0", "text": "taken", "host": there, "remote": True}
        attempt = {"destination": there, "host": there, "results": {to: verdict}, "transcript": TRANSCRIPT}
        events.add(tx, trace, trace, "accepted", accepted, trace >> 1)
        events.add(tx, trace, source.next(began + n * 1_000_000 + 200_000), "attempt", attempt)


async def measure(folder: Path, messages: int, runs: int, verified: bool) -> None:
    now = time.time_ns() // 1000
    database = await SqliteDatabase.open(folder, now)
    try:
        source, began = ids.IdSource(), now - 30 * 86_400_000_000
        for at in range(0, messages, 1000):
            await database.write(fill, source, began + at * 1_000_000, min(1000, messages - at), verified)
        size = (folder / "posthouse.db").stat().st_size / 1e6
        for what in ("nobody@nowhere.example", "user7@there7.example"):
            times, used = [], []
            for _ in range(runs):
                start, cpu = time.perf_counter(), time.process_time()
                found = await find(database, what, 20, 0)
                times.append(time.perf_counter() - start)
                used.append(time.process_time() - cpu)
            print(
                f"{what}: {len(found.cases)} found, {found.searched} messages looked at ({size:.0f} MB): "
                f"{sorted(times)[len(times) // 2]:.2f} s, {sorted(used)[len(used) // 2]:.2f} CPU-s"
            )
    finally:
        await database.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--verified", action="store_true")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="posthouse-bench-"))
    try:
        asyncio.run(measure(folder, options.messages, options.runs, options.verified))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()

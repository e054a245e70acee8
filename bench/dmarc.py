"""What DMARC costs, in CPU-ms a message, with every answer of the DNS in the cache of the resolver.

python -m bench.dmarc

A name server on loopback answers the first time, the resolver itself after that. Each figure is the best of several
runs, so that other work on the machine disturbs little. The public suffix list is read before the clock starts; what
that costs is the last line.
"""

import asyncio
import resource
import subprocess
import sys
import time
from collections.abc import Sequence

from tests.support.nameserver import NameServer, Table

from posthouse.base.clock import SystemClock
from posthouse.net.dns import SystemResolver
from posthouse.senderauth import dkim, dmarc, organization, spf

HEADER = (
    b"Received: by mx.example.org; Mon, 01 Jan 2024 00:00:00 +0000\r\n" * 4
    + b"Subject: x\r\nFrom: Ann <ann@%b>\r\n\r\n"
)
TABLE: Table = {("_dmarc.example.org.", "TXT"): ['"v=DMARC1; p=reject; sp=quarantine; rua=mailto:reports@example.org"']}
TIMES = 2000
READ = """
import time, tracemalloc
from posthouse.senderauth import organization
start = time.process_time()
organization.registrable("example.org")
print(round((time.process_time() - start) * 1000))
organization._suffixes.cache_clear()
organization.registrable.cache_clear()
tracemalloc.start()
organization.registrable("example.org")
print(tracemalloc.get_traced_memory()[0] >> 10)
"""


def passed(domain: str) -> dkim.Result:
    return dkim.Result("pass", "", domain, "s")


# name, From, what SPF and DKIM proved
CASES: Sequence[tuple[str, bytes, str, Sequence[str]]] = (
    ("the domain itself", b"example.org", "example.org", ["example.org"]),
    (
        "its bounces below it, and a stranger's signature",
        b"example.org",
        "bounces.example.org",
        ["esp.test", "example.org"],
    ),
    ("a name below the record, all of it relaxed", b"news.example.org", "bounces.example.org", ["mail.example.org"]),
    ("forged", b"example.org", "evil.test", ["evil.test"]),
    ("a domain without a record", b"plain.test", "plain.test", ["plain.test"]),
)


async def main() -> None:
    server = NameServer(TABLE, ttl=3600)
    port = await server.start()
    resolver = SystemResolver(SystemClock(), ["127.0.0.1"], port=port)
    organization.registrable("example.org")
    for name, author, sender, signers in CASES:
        header = HEADER % author
        senders, signatures = [spf.Result("pass", "mailfrom", sender)], [passed(signer) for signer in signers]
        best = 1e9
        for _ in range(6):
            start = time.process_time()
            for _ in range(TIMES):
                found = await dmarc.evaluate(resolver, dmarc.author_domains(header), senders, signatures, dice=0.5)
            best = min(best, time.process_time() - start)
        print(f"{best / TIMES * 1000:.3f} CPU-ms: {name} ({found.word}, {len(found.lookups)} answers)")
    await server.stop()


if __name__ == "__main__":
    asyncio.run(main())
    read = subprocess.run([sys.executable, "-c", READ], capture_output=True, text=True, check=True).stdout.split()
    print(f"the public suffix list, once: {read[0]} CPU-ms, {read[1]} KiB")
    print(f"this process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10} MiB")

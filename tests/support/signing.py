"""Domains that sign, for tests: keys made once, given to a store as if the DNS had them, and a DNS that has them."""

import asyncio
from functools import cache
from typing import Any

from posthouse.net.dns import ZoneResolver
from posthouse.senderauth import dkim, own_keys
from posthouse.senderauth.dkim import Result
from posthouse.senderauth.domain_records import DomainRecord
from posthouse.store import dkim_keys
from posthouse.store.database import Database, Tx
from posthouse.store.dkim_keys import DkimKey, NewKey
from tests.support.nameserver import Table

BOTH = ("rsa-sha256", "ed25519-sha256")
MADE = 1_780_000_000_000_000  # microseconds


@cache
def new_keys() -> tuple[NewKey, ...]:
    return tuple(own_keys.make(BOTH, MADE))


async def sign_for(database: Database, domain: str) -> list[DkimKey]:
    """Give a domain keys that sign."""

    def work(tx: Tx) -> list[DkimKey]:
        for key in dkim_keys.add(tx, domain, new_keys(), MADE):
            dkim_keys.checked(tx, key, True, "", MADE)
            dkim_keys.use(tx, key.id, MADE)
        return dkim_keys.of_domain(tx, domain)

    return await database.write(work)


def zone(keys: list[DkimKey]) -> dict[str, Any]:
    """The records as a table of `ZoneResolver`."""
    return {key.name: {"TXT": [key.record.encode()]} for key in keys}


def table(keys: list[DkimKey]) -> Table:
    """The records as a table of `tests.support.nameserver`."""
    lines = {key: DomainRecord("DKIM", key.name, "TXT", key.record, "").line for key in keys}
    return {(f"{key.name}.", "TXT"): [line.partition(" IN TXT ")[2]] for key, line in lines.items()}


async def verified(message: bytes, keys: list[DkimKey], now: int) -> list[Result]:
    """What our own verifier says of a message at `now` (microseconds)."""
    return await dkim.verify(message, ZoneResolver(zone(keys)).txt, now // 1_000_000)


def dkimpy_says(message: bytes, keys: list[DkimKey]) -> list[bool]:
    """What dkimpy says of each signature."""
    import dkim as dkimpy  # the name of its package

    records = {f"{key.name}.".encode(): key.record.encode() for key in keys}
    count = message.partition(b"\r\n\r\n")[0].lower().count(b"dkim-signature:")
    judge: Any = dkimpy.DKIM(message)

    def txt(name: bytes, timeout: float = 5) -> bytes | None:
        return records.get(name)

    said = []
    for number in range(count):
        try:
            said.append(bool(judge.verify(number, dnsfunc=txt)))
        except dkimpy.DKIMException:
            said.append(False)
    return said


def words(results: list[Result]) -> list[tuple[str, str]]:
    return [(result.word, result.algorithm) for result in results]


def run_verified(message: bytes, keys: list[DkimKey], now: int) -> list[Result]:
    return asyncio.run(verified(message, keys, now))

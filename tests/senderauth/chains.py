"""Messages that forwarders have sealed, for the tests of ARC."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from posthouse.net.dns import ZoneResolver
from posthouse.senderauth import arc, authres, dkim
from posthouse.senderauth.arc import Chain, Sealer
from posthouse.senderauth.arc_fields import Status
from posthouse.senderauth.authres import Method
from posthouse.senderauth.dkim import record_of
from tests.senderauth.keys import MESSAGE, ed_key, key, rsa_key

NOW = 1_700_000_000  # the programs of others look at the clock
Change = Callable[[bytes], bytes]

RELAYS = ["one.test", "two.test", "three.test"]
SAW = [Method("dmarc", "pass", "", (("header.from", "example.org"),)), Method("spf", "pass")]


def resolver(**more: Any) -> ZoneResolver:
    """The keys of all domains that seal here; and of example.org, which signs."""
    table = {
        f"{name}._domainkey.{domain}": {"TXT": [text.encode()]}
        for domain in ("example.org", *RELAYS)
        for name, text in (("rsa", record_of(rsa_key())), ("ed", record_of(ed_key())))
    }
    return ZoneResolver(table | more)


def verified(message: bytes, asked: Any = None, now: int = NOW) -> Chain:
    return asyncio.run(arc.verify(message, (asked or resolver()).txt, now))


def sealed(
    message: bytes = MESSAGE,
    domain: str = RELAYS[0],
    kind: str = "ed",
    cv: Status | None = None,
    saw: Sequence[Method] = SAW,
    **more: Any,
) -> bytes:
    """A message with one more set, by default what has to be said of its chain."""
    sealer = Sealer(domain, kind, key(kind), **more)
    header, content = dkim.split(message)
    body = sealer.body()
    body.feed(content)
    cv = verified(message).word if cv is None else cv
    return sealer.fields(header, body, cv, authres.pieces(f"mx.{domain}", saw), NOW) + message


def forwarded(message: bytes = MESSAGE, *changes: Change, kind: str = "ed") -> bytes:
    """A message that has passed all relays; each may change it before it seals."""
    for number, domain in enumerate(RELAYS):
        cv = verified(message).word  # as it came
        message = sealed(changes[number](message) if number < len(changes) else message, domain, kind, cv)
    return message

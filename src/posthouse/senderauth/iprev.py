"""iprev (RFC 8601 section 3): the name that an address says it has, confirmed by the addresses that this name has.

A few names are looked at, side by side, within a time. Nothing the DNS says raises; that a name is not confirmed means
little by itself, so nothing is decided here.
"""

import asyncio
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Literal, NamedTuple

from posthouse.net.dns import NoSuchDomain, Resolver, Unavailable, reverse_name
from posthouse.senderauth.spf import MOST_VALUES, Lookup

MOST = 5  # names of one address that are looked at
PATIENCE = 5.0  # seconds for everything

Word = Literal["pass", "fail", "temperror", "permerror"]  # RFC 8601 section 2.7.3


class Iprev(NamedTuple):
    """What the DNS says about the name of an address."""

    result: Word
    name: str = ""  # the one that is confirmed
    reason: str = ""  # why there is none
    names: tuple[str, ...] = ()  # that the address says it has, the first of them
    lookups: tuple[Lookup, ...] = ()


async def check(resolver: Resolver, ip: IPv4Address | IPv6Address | str, *, patience: float = PATIENCE) -> Iprev:
    """Look the names of an address up, and their addresses. Raises ValueError for a text that is no address."""
    address = ip_address(ip) if isinstance(ip, str) else ip
    if isinstance(address, IPv6Address):
        address = address.ipv4_mapped or address
    kind = "A" if isinstance(address, IPv4Address) else "AAAA"
    lookups: list[Lookup] = []

    async def ask(name: str, kind: str) -> tuple[str, ...]:
        try:
            values = (await resolver.answer(name, kind)).values
        except NoSuchDomain:
            lookups.append(Lookup(name, kind, failure="no such domain"))
            return ()
        except Unavailable:
            lookups.append(Lookup(name, kind, failure="no answer"))
            raise
        lookups.append(Lookup(name, kind, tuple(map(str, values[:MOST_VALUES]))))
        return values

    async def leads_back(name: str) -> bool | None:
        try:
            return any(ip_address(value) == address for value in await ask(name, kind))
        except Unavailable:
            return None

    names: tuple[str, ...] = ()
    found = Iprev("temperror", reason=f"the DNS took longer than {patience:g} s")
    try:
        async with asyncio.timeout(patience):
            names = tuple([name for name in await ask(reverse_name(str(address)), "PTR") if name][:MOST])
            answers = [await leads_back(names[0])] if len(names) == 1 else await asyncio.gather(*map(leads_back, names))
            found = _judged(str(address), dict(zip(names, answers, strict=True)))
    except Unavailable as error:
        found = Iprev("temperror", reason=str(error))
    except TimeoutError:
        pass
    return found._replace(names=names, lookups=tuple(lookups))


def _judged(address: str, answers: dict[str, bool | None]) -> Iprev:
    if not answers:
        return Iprev("permerror", reason=f"{address} has no name in the DNS")
    for name, back in answers.items():
        if back:
            return Iprev("pass", name)
    if None in answers.values():
        return Iprev("temperror", reason=f"no answer from the DNS for the addresses of {', '.join(answers)}")
    return Iprev("fail", reason=f"{', '.join(answers)} has not the address {address}")

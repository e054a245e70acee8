"""Names that a client has or says: forward-confirmed reverse DNS (RFC 8601 section 3, iprev) and its greeting.

The resolver keeps what it was told; trouble of the DNS is `None`, which is not "has no name".
"""

import asyncio

from posthouse.base.errors import PosthouseError
from posthouse.net.dns import NoSuchDomain, Resolver
from posthouse.wire.address import parse_domain

MOST = 5  # names of one address that are looked at
PATIENCE = 5.0  # seconds


async def confirmed_name(resolver: Resolver, ip: str) -> str | None:
    """The name that an address has and that leads back to it; "" if there is none, None if nobody could say."""
    try:
        async with asyncio.timeout(PATIENCE):
            names = (await resolver.ptr(ip))[:MOST]
            for name in names:
                try:
                    if ip in await resolver.addresses(name):
                        return name
                except NoSuchDomain:
                    continue
            return ""
    except NoSuchDomain:
        return ""
    except (PosthouseError, ValueError, TimeoutError):
        return None


def odd_greeting(hello: str, hostname: str, ip: str) -> str:
    """What is wrong with a greeting, in words; "" if nothing is."""
    name = parse_domain(hello) or ""
    if not name or ("." not in name and not name.startswith("[")):
        return "it is no full host name or address literal"
    if name == hostname.lower():
        return "it is our own name"
    if name.startswith("[") and name.strip("[]").lower().removeprefix("ipv6:") != ip:
        return "it is another address than the one it comes from"
    return ""

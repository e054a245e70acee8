"""Names that a client has or says: forward-confirmed reverse DNS (RFC 8601 section 3, iprev) and its greeting.

The resolver keeps what it was told; trouble of the DNS is `None`, which is not "has no name".
"""

from posthouse.net.dns import Resolver
from posthouse.senderauth import iprev
from posthouse.wire.address import parse_domain


async def confirmed_name(resolver: Resolver, ip: str) -> str | None:
    """The name that an address has and that leads back to it; "" if there is none, None if nobody could say."""
    try:
        found = await iprev.check(resolver, ip)
    except ValueError:  # no address: a client on a UNIX socket
        return None
    return None if found.result == "temperror" else found.name


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

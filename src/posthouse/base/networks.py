"""IP addresses as text, and the networks they belong to. Text that is no address belongs to none."""

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Network = IPv4Network | IPv6Network


def parse_networks(text: str) -> list[Network]:
    """Networks in a text, parted by blanks; raises ValueError."""
    return [ip_network(word, strict=False) for word in text.split()]


def trusted(address: str, networks: Iterable[Network]) -> bool:
    """Is this IP address in one of the networks? Text that is no address (a socket's path) is not."""
    try:
        ip = ip_address(address)
    except ValueError:
        return False
    if ip.version == 6 and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    return any(ip.version == network.version and ip in network for network in networks)


_TRANSLATED = IPv6Network("64:ff9b::/96")  # RFC 6052: the last 32 bits are an IPv4 address
_UNICAST, _6TO4 = IPv6Network("2000::/3"), IPv6Network("2002::/16")
_6TO4_RELAYS = IPv4Network("192.88.99.0/24")  # RFC 7526


def public(address: str) -> bool:
    """Whether everybody can reach this IP address: not for a way round to an inner one. Text that is none is not."""
    try:
        ip = ip_address(address)
    except ValueError:
        return False
    if isinstance(ip, IPv6Address):
        if ip in _TRANSLATED:
            return public(str(IPv4Address(int(ip) & 0xFFFF_FFFF)))
        return ip.is_global and ip in _UNICAST and ip not in _6TO4
    return ip.is_global and not ip.is_multicast and ip not in _6TO4_RELAYS


def host_and_port(text: str, port: int) -> tuple[str, int] | None:
    """The parts of HOST, HOST:PORT, an IPv6 address, or one in brackets with a port behind; None: it is none of these.
    Without a port it is `port`."""
    host, _, given = text.rpartition(":") if text.count(":") == 1 or "]:" in text else (text, "", str(port))
    host = host.removeprefix("[").removesuffix("]") if host.startswith("[") == host.endswith("]") else ""
    good = given.isascii() and given.isdecimal() and len(given) <= 5 and 0 < int(given) < 65536
    return (host, int(given)) if host and good else None


def name_server(text: str, port: int = 53) -> tuple[str, int]:
    """The address and the port of a name server as the settings name it; raises ValueError."""
    found = host_and_port(text, port)
    try:
        if found is not None:
            return str(ip_address(found[0])), found[1]
    except ValueError:
        pass
    raise ValueError(
        f"{text[:60]!r} is not the address of a name server; write one like 9.9.9.9, with a port if it is not 53: "
        "127.0.0.1:5353 or [::1]:5353"
    )


def site(ip: str) -> str:
    """What counts as one client: an IPv4 address, an IPv6 /64 (one customer's network)."""
    if ":" not in ip:
        return ip
    return str(IPv6Network((ip.partition("%")[0], 64), strict=False).network_address)

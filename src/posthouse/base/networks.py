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


def site(ip: str) -> str:
    """What counts as one client: an IPv4 address, an IPv6 /64 (one customer's network)."""
    if ":" not in ip:
        return ip
    return str(IPv6Network((ip.partition("%")[0], 64), strict=False).network_address)

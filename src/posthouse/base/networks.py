"""IP addresses as text, and the networks they belong to. Text that is no address belongs to none."""

from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

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


def site(ip: str) -> str:
    """What counts as one client: an IPv4 address, an IPv6 /64 (one customer's network)."""
    if ":" not in ip:
        return ip
    return str(IPv6Network((ip.partition("%")[0], 64), strict=False).network_address)

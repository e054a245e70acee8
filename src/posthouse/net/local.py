"""Is an IP address one of this machine's? Asked of the system by binding a socket to it; nothing is sent."""

import errno
import socket
from ipaddress import ip_address


def is_of_this_machine(address: str) -> bool:
    """Whether a socket can have this address. An address that can have none at all (of a family that the system does
    not speak) is not ours; trouble of another kind says nothing, and counts as yes."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.bind((address, 0))
    except OSError as error:
        return error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
    return not ip_address(address).is_multicast

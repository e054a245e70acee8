"""Free ports for servers that run as programs of their own."""

import random
import socket

from posthouse.base.settings import STANDARD_PORTS


def free_offset() -> int:
    """An offset for `posthouse demo --port-offset` at which every port is free on both loopback addresses."""
    for offset in random.sample(range(12000, 31000, 20), 100):  # below the ports that systems give to clients
        if all(_is_free(port + offset) for port in STANDARD_PORTS.values()):
            return offset
    raise AssertionError("no free ports")


def free_port() -> int:
    """A port at which nobody listens."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _is_free(port: int) -> bool:
    for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        try:
            with socket.socket(family, socket.SOCK_STREAM) as probe:
                probe.bind((address, port))
        except OSError as error:
            if family == socket.AF_INET or error.errno == 98:  # EADDRINUSE; others: no IPv6 here
                return False
    return True

"""The PROXY protocol, versions 1 and 2: for whom a load balancer speaks.

`source` reads one header from a socket and not an octet more, so that a TLS handshake may follow. Only peers
that are configured as proxies may say anything; what is not a header raises `ProtocolError`, and the connection
ends there: to guess would let anyone pretend to be anyone.
"""

import re
from collections.abc import Awaitable, Callable
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import NamedTuple

from posthouse.base.errors import ProtocolError

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
_MAX_LINE = 107  # of version 1, with its CRLF
_MAX_BODY = 2048  # of version 2; the longest addresses take 216, the rest are TLVs, which we do not need

# "PROXY" SP ("TCP4" / "TCP6") SP address SP address SP port SP port CRLF / "PROXY UNKNOWN" ... CRLF
_ADDRESS = rb"([0-9a-fA-F:.]+)"
_line = re.compile(
    rb"PROXY (?:UNKNOWN(?: [ -~]*)?|TCP([46]) " + _ADDRESS + b" " + _ADDRESS + rb" (\d{1,5}) (\d{1,5}))\r\n"
)

Read = Callable[[int], Awaitable[bytes]]  # so many octets, or fewer at the end


class Peer(NamedTuple):
    """The client behind a proxy."""

    ip: str
    port: int


async def source(read: Read) -> Peer | None:
    """The client behind the proxy, or None where the proxy speaks for itself (a health check)."""
    head = await _exactly(read, 12)
    if head == SIGNATURE:
        version, family, high, low = await _exactly(read, 4)
        length = high << 8 | low
        if version >> 4 != 2 or length > _MAX_BODY:
            raise ProtocolError("PROXY header of an unknown version, or too long")
        return _binary(version & 15, family, await _exactly(read, length))
    if not head.startswith(b"PROXY "):
        raise ProtocolError("no PROXY header")
    while not head.endswith(b"\n"):
        if len(head) >= _MAX_LINE:
            raise ProtocolError("PROXY header without an end")
        head += await _exactly(read, 1)
    return _text(head)


def _text(line: bytes) -> Peer | None:
    match = _line.fullmatch(line)
    if match is None:
        raise ProtocolError("malformed PROXY header")
    if match[1] is None:
        return None
    try:
        address = ip_address(match[2].decode("ascii"))
    except ValueError as error:
        raise ProtocolError("malformed address in a PROXY header") from error
    if address.version != int(match[1]) or int(match[4]) > 65535:
        raise ProtocolError("malformed address in a PROXY header")
    return _peer(address, int(match[4]))


def _binary(command: int, family: int, body: bytes) -> Peer | None:
    if command == 0:  # LOCAL
        return None
    if command != 1:
        raise ProtocolError("unknown command in a PROXY header")
    # The families of the protocol: address family in the high bits, STREAM in the low ones.
    if family == 0x11 and len(body) >= 12:
        return _peer(IPv4Address(body[:4]), int.from_bytes(body[8:10], "big"))
    if family == 0x21 and len(body) >= 36:
        return _peer(IPv6Address(body[:16]), int.from_bytes(body[32:34], "big"))
    raise ProtocolError("a PROXY header for something that is not TCP")


def _peer(address: IPv4Address | IPv6Address, port: int) -> Peer:
    mapped = getattr(address, "ipv4_mapped", None)
    return Peer(str(mapped or address), port)


async def _exactly(read: Read, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = await read(size - len(data))
        if not piece:
            raise ProtocolError("the connection ended within a PROXY header")
        data += piece
    return data

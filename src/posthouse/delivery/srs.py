"""Sender Rewriting Scheme: envelope senders of mail that is forwarded, in the form all implementations write. Pure.

A message that we pass on for its sender would fail SPF, because our server is not one of the sender's. So the sender
becomes an address of ours that says where bounces belong:

    SRS0=HHHH=TT=origin.example=alice@us.example          (alice@origin.example was the sender)
    SRS1=HHHH=first.example==HHHH=TT=origin.example=alice@us.example    (first.example had rewritten it before)

HHHH is what only we can compute (HMAC-SHA1 of the rest in lower case, in base 64, four characters), TT the day in
base 32, counted modulo 1024. Case is ignored when an address comes back, because servers change it. There is no RFC;
the form is that of the paper "The Sender Rewriting Scheme" (Wong, 2003) and of its C and Perl implementations.

Answers are an address or a `Fault`; nothing is raised.
"""

import base64
import hmac
import re
from collections.abc import Sequence
from enum import Enum

from posthouse.wire.address import MAX_SRS, Address, parse_domain

DAYS = 21  # an address can be turned back for so long
DAY = 86_400_000_000  # microseconds
HASH = 4  # characters of the hash: fewer are not believed
MAX_LENGTH = 254  # octets of an address (RFC 5321 section 4.5.3.1.3)
_DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
_tag = re.compile(r"SRS[01][-+=]", re.IGNORECASE).match


class Fault(Enum):
    """Why an address cannot be rewritten, or not be turned back; the value is for people."""

    NOT_SRS = "This is not an address of forwarded mail"
    FORGED = "This address of forwarded mail was not made here"
    EXPIRED = "This address of forwarded mail is too old"
    TOO_LONG = "The sender's address is too long to be rewritten"


def is_srs(address: Address) -> bool:
    """Whether an address has the form of a rewritten one."""
    return _tag(address.local_part) is not None


def forward(sender: Address, domain: str, key: bytes, now: int) -> Address | Fault:
    """The sender of a message that `domain` passes on at the time `now` (microseconds). The null sender stays."""
    if sender.is_null:
        return sender
    local, host = sender.local_part, sender.domain
    if is_srs(sender) and local[3] == "0":
        rest = f"{host}={local[4:]}"
        local = f"SRS1={_hash(key, host + local[4:])}={rest}"
    elif is_srs(sender) and (again := _first_hop(local[5:])) is not None:
        _, host, opaque = again
        local = f"SRS1={_hash(key, host + opaque)}={host}={opaque}"
    else:
        day = _day(now)
        local = f"SRS0={_hash(key, day + host + local)}={day}={host}={local}"
    made = Address(local, domain)
    return made if len(local.encode()) <= MAX_SRS and len(str(made).encode()) <= MAX_LENGTH else Fault.TOO_LONG


def reverse(address: Address, keys: Sequence[bytes], now: int) -> Address | Fault:
    """Where a bounce to an address of ours belongs. `keys` are the key of today and the one before."""
    if not is_srs(address):
        return Fault.NOT_SRS
    rest = address.local_part[5:]
    if address.local_part[3] == "1":
        parts = _first_hop(rest)
        if parts is None:
            return Fault.NOT_SRS
        said, host, opaque = parts
        if not _is_ours(said, keys, host + opaque):
            return Fault.FORGED
        return _address("SRS0" + opaque, host)
    fields = rest.split("=", 3)
    if len(fields) != 4 or not all(fields):
        return Fault.NOT_SRS
    said, day, host, local = fields
    if not _is_ours(said, keys, day + host + local):
        return Fault.FORGED
    if not _is_fresh(day.upper(), now):
        return Fault.EXPIRED
    return _address(local, host)


def _first_hop(rest: str) -> tuple[str, str, str] | None:
    """Hash, host and what that host wrote (with the separator it used) of an SRS1 local part without its tag."""
    fields = rest.split("=", 2)
    return (fields[0], fields[1], fields[2]) if len(fields) == 3 and all(fields) and fields[2][0] in "-+=" else None


def _address(local: str, host: str) -> Address | Fault:
    domain = parse_domain(host, True)
    return Address(local, domain) if domain is not None else Fault.NOT_SRS


def _hash(key: bytes, text: str) -> str:
    return base64.b64encode(hmac.digest(key, text.lower().encode("utf-8", "surrogatepass"), "sha1"))[:HASH].decode()


def _is_ours(said: str, keys: Sequence[bytes], text: str) -> bool:
    wanted = said.lower().encode("utf-8", "surrogatepass")
    return any(hmac.compare_digest(_hash(key, text).lower().encode(), wanted) for key in keys)


def _day(now: int) -> str:
    day = now // DAY
    return _DIGITS[day >> 5 & 31] + _DIGITS[day & 31]


def _is_fresh(day: str, now: int) -> bool:
    if len(day) != 2 or any(digit not in _DIGITS for digit in day):
        return False
    written = _DIGITS.index(day[0]) << 5 | _DIGITS.index(day[1])
    return (now // DAY - written) % 1024 <= DAYS

"""Where a domain wants its reports: the records of DMARC and TLSRPT as far as reports go. Pure; nothing here raises.

`tags` reads "v=…; rua=…" (RFC 9989 section 4.7, RFC 8460 section 3), `destinations` the addresses in rua, `confirms`
whether somebody else agrees to get them (RFC 9990 section 4).
"""

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from posthouse.base.settings_types import is_hostname
from posthouse.wire.address import Address

MAX_RECORD = 4096  # octets of a record that are read
MAX_TARGETS = 5  # addresses of one record that are used: RFC 9990 section 3.5 lets us have a limit, RFC 7489 wanted two

_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_limit = re.compile(r"!(\d{1,15})([kmgt]?)\Z", re.IGNORECASE).search
_version = re.compile(r"[ \t]*v[ \t]*=[ \t]*(DMARC1|TLSRPTv1)[ \t]*(?:;|\Z)").match


class Target(NamedTuple):
    """One address that wants reports."""

    scheme: str  # "mailto" or "https"
    address: str  # of mail, or the whole URL
    host: str  # whose it is, in lower case
    most: int = 0  # octets of a message with a report; 0: it does not say


def text_of(record: bytes) -> str:
    """A TXT record as a text."""
    return record[:MAX_RECORD].decode("ascii", "replace")


def tags(record: str, version: str) -> dict[str, str] | None:
    """The tags of a record, names in lower case, the first of each; None if it is not of this version."""
    found = _version(record)
    if found is None or found[1] != version:
        return None
    values: dict[str, str] = {}
    for piece in record[:MAX_RECORD].split(";"):
        name, equals, value = piece.partition("=")
        if equals:
            values.setdefault(name.strip().lower(), value.strip())
    return values


def the_record(texts: Iterable[bytes], version: str) -> str | None:
    """The one record of this version; None if there is none, or several (which is none, too)."""
    records = [text for text in map(text_of, texts) if tags(text, version) is not None]
    return records[0] if len(records) == 1 else None


def destinations(rua: str, schemes: Sequence[str] = ("mailto",)) -> tuple[Target, ...]:
    """The addresses in a rua that can be used, at most MAX_TARGETS; those of other schemes and broken ones are not."""
    found: dict[str, Target] = {}
    for uri in rua[:MAX_RECORD].split(","):
        target = _target(uri.strip())
        if target is not None and target.scheme in schemes and len(found) < MAX_TARGETS:
            found.setdefault(target.address.lower(), target)
    return tuple(found.values())


def _target(uri: str) -> Target | None:
    scheme, colon, rest = uri.partition(":")
    if not colon:
        return None
    if scheme.lower() == "https":
        return _https(uri)
    if scheme.lower() != "mailto":
        return None
    most = 0
    if (limit := _limit(rest)) is not None:
        most = int(limit[1]) * _UNITS[limit[2].lower()]
        rest = rest[: limit.start()]
    address = Address.parse(unquote(rest.partition("?")[0]).strip())
    if address is None or not is_hostname(address.domain):
        return None
    return Target("mailto", str(address), address.domain.lower(), most)


def _https(uri: str) -> Target | None:
    if not uri.isascii() or not uri.isprintable() or " " in uri:
        return None
    try:
        parts = urlsplit(uri)
        host, port = (parts.hostname or "").lower(), parts.port
    except ValueError:
        return None
    # No names without a dot, no addresses, no other ports: a report must not become a request to some inner network.
    if not is_hostname(host) or "." not in host or host.rpartition(".")[2].isdigit() or parts.username is not None:
        return None
    return Target("https", uri, host) if port in (None, 443) else None


def confirms(texts: Iterable[bytes], target: Target) -> Target | None:
    """Where to send what another domain wants `target` to get, by the TXT records of DOMAIN._report._dmarc.HOST; None:
    nowhere. An address in the answer counts in place of the one that was asked for, if it is at the same host."""
    agreed = [found for text in map(text_of, texts) if (found := tags(text, "DMARC1")) is not None]
    if not agreed:
        return None
    others = [found["rua"] for found in agreed if found.get("rua")]
    if not others:
        return target
    instead = destinations(others[0])
    if not instead or instead[0].host != target.host:
        return None
    return instead[0]

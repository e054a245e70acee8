"""Where mail for a destination goes: captured, the smart host, or the hosts its DNS names (RFC 5321 section 5.1).

A route is a list of hosts in the order to try them, or a verdict: `NoRoute` says why there is none, and whether
that may change. Trouble of the DNS is always temporary: it never bounces mail.
"""

import ipaddress
from collections.abc import Callable
from typing import NamedTuple

from posthouse.base.errors import Permanent
from posthouse.base.settings import Settings
from posthouse.net.dns import NoSuchDomain, Resolver, Unavailable

MAX_HOSTS = 10  # of one destination that are tried in one attempt


class Host(NamedTuple):
    """One server to try."""

    name: str
    port: int
    tls: str  # "opportunistic", "starttls" (required, verified), "implicit" or "none"
    user: str = ""
    password: str = ""


class Capture(NamedTuple):
    """Mail stays here: a demo."""


class NoRoute(NamedTuple):
    """There is no way. `status` begins with 4 (try later) or 5 (never)."""

    status: str
    why: str


Route = list[Host] | Capture | NoRoute


async def find(destination: str, settings: Settings, resolver: Resolver, shuffle: Callable[[list[str]], None]) -> Route:
    """The route to a destination domain. `shuffle` mixes hosts of equal preference."""
    if settings.relay.capture:
        return Capture()
    smarthost = settings.relay.smarthost
    if smarthost is not None:
        password = ""
        if smarthost.password_file is not None:
            try:
                password = smarthost.password_file.read_text("utf-8").splitlines()[0].strip()
            except (OSError, IndexError, UnicodeDecodeError) as error:
                return NoRoute("4.3.5", f"the password of the smart host cannot be read: {error}")
        return [Host(smarthost.host, smarthost.port, smarthost.tls, smarthost.user or "", password)]
    if destination.startswith("["):
        return [Host(destination[1:-1].removeprefix("IPv6:"), 25, "opportunistic")]
    try:
        records = await resolver.mx(destination)
    except NoSuchDomain:
        return NoRoute("5.1.2", f"the domain {destination} does not exist")
    except Unavailable as error:
        return NoRoute("4.4.3", f"the DNS gave no answer for {destination}: {error}")
    except Permanent as error:
        return NoRoute("5.1.2", f"{destination} is not a domain: {error}")
    if not records:
        return [Host(destination, 25, "opportunistic")]  # the implicit MX
    if all(name in ("", ".") for _, name in records):
        return NoRoute("5.1.10", f"the domain {destination} takes no mail (null MX, RFC 7505)")
    return _sorted(destination, records, settings.hostname, shuffle)


def _sorted(
    destination: str, records: list[tuple[int, str]], hostname: str, shuffle: Callable[[list[str]], None]
) -> list[Host] | NoRoute:
    """By preference; hosts that are no better than ourselves are left out, as they would send it back."""
    ours = [preference for preference, name in records if name == hostname]
    names: list[str] = []
    for preference in sorted({p for p, _ in records}):
        if ours and preference >= min(ours):
            break
        same = sorted({name for p, name in records if p == preference and name not in ("", ".")})
        shuffle(same)
        names += same
    if not names:
        return NoRoute("5.4.6", f"the mail servers of {destination} lead back to this server, which does not serve it")
    return [Host(name, 25, "opportunistic") for name in names[:MAX_HOSTS]]


async def addresses(host: Host, resolver: Resolver) -> list[str]:
    """The IP addresses of a host; an address stands for itself. Raises as the resolver does."""
    try:
        return [str(ipaddress.ip_address(host.name))]
    except ValueError:
        return await resolver.addresses(host.name)

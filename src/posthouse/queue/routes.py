"""Where mail for a domain goes: the hosts to try, in their order, or the reason why there are none.

RFC 5321 section 5.1: MX records by preference, equal ones in random order; without MX records the domain
itself; null MX (RFC 7505) takes no mail. A list that names this server is cut there: hosts of the same or a
higher preference value would only send the message back. With a smart host everything goes to that.

A reason is a reply as a server might have given it, 4yz or 5yz. An answer that the DNS did not give is
always 4yz: it never bounces mail.
"""

import random
import re
from collections.abc import Collection
from ipaddress import ip_address
from typing import Literal, NamedTuple

from posthouse.net.dns import NoSuchDomain, Resolver, Unavailable
from posthouse.smtp.replies import Reply

MAX_HOSTS = 10  # of a domain; more are not tried in one attempt
SMTP_PORT = 25

TlsMode = Literal["none", "opportunistic", "starttls", "implicit"]

# address-literal of RFC 5321 section 4.1.3
_literal = re.compile(r"\[(?:IPv6:)?([0-9A-Fa-f:.]+)\]", re.I).fullmatch


class Credentials(NamedTuple):
    """What to log in with."""

    user: str
    password: str

    def __repr__(self) -> str:
        return f"Credentials({self.user!r}, ...)"  # never a password in a log


class Host(NamedTuple):
    """One server to try."""

    name: str  # a domain name, or an IP address
    port: int = SMTP_PORT
    tls: TlsMode = "opportunistic"
    login: Credentials | None = None
    sources: tuple[str, ...] = ()  # own addresses to connect from
    helo: str = ""  # what we call ourselves there; "": the host name
    lmtp: bool = False


class Router:
    """Finds routes. `names` are what this server is called; `chance` puts equal hosts in order."""

    def __init__(
        self,
        resolver: Resolver,
        names: Collection[str],
        chance: random.Random,
        smarthost: Host | None = None,
        port: int = SMTP_PORT,
        own_ports: Collection[int] = (),
    ) -> None:
        self._resolver = resolver
        self._names = frozenset(name.lower() for name in names)
        self._chance = chance
        self._smarthost = smarthost
        self._port = port
        self._own_ports = frozenset(own_ports)

    def next_hop(self, destination: str) -> str:
        """What shares connections and limits: the destination, or the smart host for all of them."""
        return self._smarthost.name if self._smarthost is not None else destination

    async def hosts(self, destination: str) -> tuple[Host, ...] | Reply:
        """The servers for a destination (a domain or an address literal), or why there are none."""
        if self._smarthost is not None:
            return (self._smarthost,)
        if destination.startswith("["):
            return self._of_literal(destination)
        try:
            records = await self._resolver.mx(destination)
        except NoSuchDomain:
            return Reply(550, "5.1.2", f"The domain {destination} does not exist")
        except Unavailable as error:
            return Reply(451, "4.4.3", f"The DNS gave no answer for {destination}: {error}")
        if not records:
            names = [destination]
            if destination in self._names:
                return _loop(destination)
        else:
            named = [record for record in records if record[1]]
            if not named:
                return Reply(556, "5.1.10", f"The domain {destination} says that it takes no mail (null MX)")
            ours = min((preference for preference, name in named if name in self._names), default=None)
            nearer = [record for record in named if ours is None or record[0] < ours]
            if not nearer:
                return _loop(destination)
            names = [name for _, _, name in sorted((p, self._chance.random(), name) for p, name in nearer)]
        # The same host under two preferences is tried once.
        return tuple(Host(name, self._port) for name in list(dict.fromkeys(names))[:MAX_HOSTS])

    def _of_literal(self, destination: str) -> tuple[Host, ...] | Reply:
        match = _literal(destination)
        try:
            address = str(ip_address(match[1])) if match else ""
        except ValueError:
            address = ""
        if not address:
            return Reply(550, "5.1.2", f"{destination} is not an IP address")
        return (Host(address, self._port),)

    async def addresses(self, host: Host) -> list[str] | Reply:
        """The IP addresses of a host, or why there are none."""
        try:
            found = [str(ip_address(host.name))]
        except ValueError:
            try:
                found = await self._resolver.addresses(host.name)
            except NoSuchDomain:
                found = []
            except Unavailable as error:
                return Reply(451, "4.4.3", f"The DNS gave no address of {host.name}: {error}")
        if not found:
            return Reply(550, "5.4.4", f"The mail server {host.name} has no address")
        away = [address for address in found if not self._is_own(address, host.port)]
        if not away:
            return Reply(550, "5.4.6", f"The mail server {host.name} has the address of this server: mail would loop")
        return away

    def _is_own(self, address: str, port: int) -> bool:
        """An MX of 127.0.0.1 or 0.0.0.0 means: nobody. Connected to, it would be this very server.
        A smart host is meant as it is written."""
        if port not in self._own_ports or self._smarthost is not None:
            return False
        ip = ip_address(address)
        return ip.is_loopback or ip.is_unspecified


def _loop(destination: str) -> Reply:
    return Reply(
        550, "5.4.6", f"The DNS names this server for {destination}, which is not one of its domains: mail would loop"
    )

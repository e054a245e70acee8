"""Which way mail takes, and the hosts on it in their order, or the reason why there are none.

`Router.route` chooses: what an operator said of the message, else the first [[route]] that fits (`queue/route_table.py`
makes them of the settings), else the smart host, else the MX records. `Router.hosts` finds the servers of a route. RFC
5321 section 5.1: MX records by preference, equal ones in random order; without MX records the domain itself; null MX
(RFC 7505) takes no mail; aliases are followed, also where RFC 2181 section 10.3 allows none. A list that names this
server is cut there: hosts of the same or a higher preference value would only send the message back. Hosts of the
settings are meant as they are written.

A reason is a reply as a server might have given it, 4yz or 5yz. An answer that the DNS did not give is
always 4yz, and so is a choice that makes no sense any more: they never bounce mail.
"""

import random
import re
from collections.abc import Callable, Collection, Sequence
from ipaddress import IPv6Address, ip_address
from pathlib import Path
from typing import Literal, NamedTuple

from posthouse.base.route_settings import NULL_SENDER
from posthouse.net.dns import NoSuchDomain, Resolver, Unavailable, normal
from posthouse.net.local import is_of_this_machine
from posthouse.queue.pools import Pool
from posthouse.smtp.replies import Reply

MAX_HOSTS = 10  # of a domain; more are not tried in one attempt
SMTP_PORT = 25
LOOP = "5.4.6"  # the status that says: this is our own server, and so is whoever is farther away

TlsMode = Literal["none", "opportunistic", "starttls", "implicit"]
Kind = Literal["smtp", "webhook", "discard", "error"]

# address-literal of RFC 5321 section 4.1.3
_literal = re.compile(r"\[(?:IPv6:)?([0-9A-Fa-f:.]+)\]", re.I).fullmatch
# "host:NAME", "host:NAME:PORT", "host:[ADDRESS]:PORT" as an operator chose
_chosen_host = re.compile(r"host:(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9_.-]{1,253}))(?::(\d{1,5}))?").fullmatch
_EVERYWHERE = ("*", "0.0.0.0", "::")  # noqa: S104 - looked for, not listened on


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
    pool: Pool | None = None  # own addresses to connect from
    lmtp: bool = False
    validated: bool | None = None  # the DNS named it, by records that were validated or not; None: the settings did
    ca: Path | None = None  # whose certificates are trusted; None: those of this machine
    path: str = ""  # the UNIX socket that it listens on


class Target(NamedTuple):
    """Where a webhook route posts to."""

    url: str
    secret: bytes
    ca: Path | None = None

    def __repr__(self) -> str:
        return "Target(...)"  # addresses of webhooks are often secrets themselves


class Route(NamedTuple):
    """One way for mail. Of a [[route]] it is the template, of one recipient the way it takes."""

    name: str = ""  # of the [[route]]; "" for what everything takes
    kind: Kind = "smtp"
    next_hop: str = ""  # what shares connections, pace and limits
    destination: str = ""  # a domain or an address literal
    hosts: tuple[Host, ...] = ()  # fixed ones; without, the MX records of the destination lead
    host: Host = Host("")  # what is said of each host that the DNS names
    reply: Reply | None = None  # of an error
    target: Target | None = None

    def towards(self, destination: str) -> "Route":
        """The way to a destination."""
        if self.next_hop:  # all of it goes there
            return self._replace(destination=destination)
        hop = f"{destination} route:{self.name}" if self.name else destination
        return self._replace(destination=destination, next_hop=hop)


class Patterns:
    """Some patterns of one `to` or `from`, in lower case; none: everything fits."""

    __slots__ = ("_below", "_empty", "_exact")

    def __init__(self, patterns: Collection[str]) -> None:
        self._empty = not patterns
        self._exact = frozenset(one for one in patterns if not one.startswith("*."))
        self._below = frozenset(one.removeprefix("*.") for one in patterns if one.startswith("*."))

    def fits(self, names: Collection[str], domain: str) -> bool:
        """Whether one of the names (in lower case) or the domain is meant."""
        if self._empty or not self._exact.isdisjoint(names) or domain in self._exact:
            return True
        while self._below and (domain := domain.partition(".")[2]):
            if domain in self._below:
                return True
        return False


class Row(NamedTuple):
    """A [[route]]: who takes it."""

    to: Patterns
    from_: Patterns
    route: Route


class Table:
    """The routes of the settings, and what everything else takes."""

    def __init__(self, rows: Sequence[Row] = (), default: Route | None = None) -> None:
        self._rows = tuple(rows)
        self._named = {row.route.name.lower(): row.route for row in rows}
        self.default = default or Route()

    def find(self, sender: str, account: str, recipient: str, destination: str) -> Route:
        """The first route that fits, or what everything takes."""
        if not self._rows:
            return self.default
        sender = sender.lower()
        names = (sender or NULL_SENDER, account.lower())
        to, domain = (recipient.lower(),), sender.rpartition("@")[2]
        for row in self._rows:
            if row.to.fits(to, destination) and row.from_.fits(names, domain):
                return row.route
        return self.default

    def named(self, name: str) -> Route | None:
        """The route of a name."""
        return self._named.get(name.lower())


class Router:
    """Finds routes. `names` are what this server is called; `chance` puts equal hosts in order.

    `listening` are the addresses ("*": all) and ports at which this server takes mail from others, `is_local` says
    whether an address is one of this machine's.
    """

    def __init__(
        self,
        resolver: Resolver,
        names: Collection[str],
        chance: random.Random,
        table: Table | None = None,
        *,
        listening: Collection[tuple[str, int]] = (),
        is_local: Callable[[str], bool] = is_of_this_machine,
    ) -> None:
        self._resolver = resolver
        self._names = frozenset(normal(name) for name in names)
        self._chance = chance
        self._table = table or Table()
        self._listening = frozenset(listening)
        self._is_local = is_local

    # Which way

    def route(self, sender: str, account: str, recipient: str, destination: str, chosen: str = "") -> Route:
        """The way of one recipient. `account`: the name of who submitted the message; `chosen`: what an operator
        wants, "" for what the settings say."""
        if chosen:
            return self._chosen(chosen, destination)
        return self._table.find(sender, account, recipient, destination).towards(destination)

    def _chosen(self, chosen: str, destination: str) -> Route:
        if chosen.startswith("route:"):
            route = self._table.named(chosen.removeprefix("route:"))
            if route is not None:
                return route.towards(destination)
            return _unknown(
                chosen, destination, f"There is no route called {chosen.removeprefix('route:')[:70]} any more"
            )
        match = _chosen_host(chosen)
        port = int(match[3] or SMTP_PORT) if match else 0
        if match is None or not 0 < port < 65536:
            return _unknown(
                chosen, destination, f"{chosen[:100]} is no route; it is written host:NAME or host:NAME:PORT"
            )
        name = (match[1] or match[2]).lower()
        host = self._table.default.host._replace(name=name, port=port, tls="opportunistic", validated=None)
        return Route(next_hop=f"{name} host:{name}:{port}", destination=destination, hosts=(host,))

    # The hosts on it

    async def hosts(self, route: Route) -> tuple[Host, ...] | Reply:
        """The servers of a route, or why there are none."""
        if route.hosts:
            return route.hosts
        destination = route.destination
        if destination.startswith("["):
            return _of_literal(route)
        try:
            answer = await self._resolver.answer(destination, "MX")
        except NoSuchDomain:
            return Reply(550, "5.1.2", f"The domain {destination} does not exist")
        except Unavailable as error:
            return Reply(451, "4.4.3", f"The DNS gave no answer for {destination}: {error}")
        records = sorted(answer.values)
        if not records:
            names = [destination]
            if not self._names.isdisjoint((destination, answer.name)):
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
        found = list(dict.fromkeys(names))[:MAX_HOSTS]
        return tuple(route.host._replace(name=name, validated=answer.secure) for name in found)

    async def addresses(self, host: Host) -> list[str] | Reply:
        """The addresses of a host, or why there are none. The status `LOOP` says that it is this server: those that
        are farther away are not to be tried either."""
        if host.path:
            return [host.path]
        try:
            found, alias = [str(ip_address(host.name))], ""
        except ValueError:
            try:
                found = await self._resolver.addresses(host.name)
                alias = await self._alias(host)
            except NoSuchDomain:
                found, alias = [], ""
            except Unavailable as error:
                return Reply(451, "4.4.3", f"The DNS gave no address of {host.name}: {error}")
        if not found and host.validated is None:
            # A mistake of ours: the senders can do nothing about it.
            return Reply(451, "4.3.5", f"There is no host {host.name}, which the settings or an operator name")
        if not found:
            return Reply(550, "5.4.4", f"The mail server {host.name} has no address")
        if host.validated is not None:
            if alias in self._names or any(self._is_own(address, host.port) for address in found):
                text = f"The mail server {host.name} is this server: mail would loop"
                return Reply(550, LOOP, text)
            found = [address for address in found if not self._is_nobody(address, host.port)]
            if not found:
                return Reply(550, "5.4.4", f"The mail server {host.name} has only addresses that lead nowhere")
        if host.pool is not None:
            reached = [address for address in found if host.pool.reaches(address)]
            if not reached:
                text = f"The mail server {host.name} has no address of a family that pool {host.pool.name} has"
                return Reply(451, "4.4.4", text)
            return reached
        return found

    async def _alias(self, host: Host) -> str:
        """The name behind the aliases of a host that the DNS named; it was just asked for its addresses."""
        if host.validated is None:
            return ""
        try:
            return (await self._resolver.answer(host.name, "A")).name
        except (NoSuchDomain, Unavailable):  # it has IPv6 addresses alone
            return ""

    def _is_own(self, address: str, port: int) -> bool:
        """Would a connection there come to this very server?"""
        return any(
            port == other
            and (address == at or (at in _EVERYWHERE and not _is_here(address) and self._is_local(address)))
            for at, other in self._listening
        )

    def _is_nobody(self, address: str, port: int) -> bool:
        """An MX of 127.0.0.1 or 0.0.0.0 means: nobody. Connected to, it would be this server."""
        return _is_here(address) and any(port == other for _, other in self._listening)


def _is_here(address: str) -> bool:
    ip = ip_address(address)
    if isinstance(ip, IPv6Address):
        ip = ip.ipv4_mapped or ip
    return ip.is_loopback or ip.is_unspecified


def _of_literal(route: Route) -> tuple[Host, ...] | Reply:
    match = _literal(route.destination)
    try:
        address = str(ip_address(match[1])) if match else ""
    except ValueError:
        address = ""
    if not address:
        return Reply(550, "5.1.2", f"{route.destination} is not an IP address")
    return (route.host._replace(name=address, validated=False),)


def _loop(destination: str) -> Reply:
    return Reply(
        550, LOOP, f"The DNS names this server for {destination}, which is not one of its domains: mail would loop"
    )


def _unknown(chosen: str, destination: str, says: str) -> Route:
    """A choice that cannot be followed: the message waits until an operator chooses again."""
    reply = Reply(451, "4.3.5", f"{says}; choose another with `posthouse queue reroute`")
    return Route(kind="error", next_hop=f"{destination} {chosen[:100]}", destination=destination, reply=reply)

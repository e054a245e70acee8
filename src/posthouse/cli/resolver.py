"""The option --resolver of commands that ask the DNS, and the resolver that they ask."""

import os
from typing import TYPE_CHECKING, Annotated

import typer

from posthouse.cli import opening, output

if TYPE_CHECKING:
    from posthouse.net.dns import Resolver

HELP = "Ask this resolver in place of the configured ones, or the system's."
Option = Annotated[str, typer.Option("--resolver", metavar="HOST:PORT", help=HELP)]


def name_server(text: str) -> tuple[list[str], int]:
    """The addresses and the port that --resolver names; a host is looked up as this machine does it. Raises what typer
    prints for a wrong call."""
    import socket
    from ipaddress import ip_address

    from posthouse.base.networks import host_and_port

    named = host_and_port(text, 53)
    hint = "write an address or a host, with a port if it is not 53: 127.0.0.1:5353"
    if named is None:
        raise typer.BadParameter(hint, param_hint="--resolver")
    host, port = named
    try:
        return [str(ip_address(host))], port
    except ValueError:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
        except (OSError, UnicodeError):
            raise typer.BadParameter(f"{host!r} has no address; {hint}", param_hint="--resolver") from None
    return list(dict.fromkeys(str(address[0]) for *_, address in found)), port


def chosen(options: output.Options, text: str, timeout: float = 5.0) -> "Resolver":
    """The resolver that --resolver names; without it, the one of the settings, or the system's where there are none.
    Nothing is kept: who asks with a command wants to know how it is now."""
    from posthouse.base.clock import SystemClock
    from posthouse.net.dns import SystemResolver, ZoneResolver, zone_of_text

    if text:
        servers, port = name_server(text)
        return SystemResolver(SystemClock(), servers, port=port, timeout=timeout, cache_size=0)
    if not _configured(options):
        return SystemResolver(SystemClock(), timeout=timeout, cache_size=0)
    dns = opening.settings(options).dns
    system = SystemResolver(
        SystemClock(),
        list(dns.nameservers),
        timeout=min(dns.timeout, timeout),
        cache_size=0,
        validating={"auto": None, "yes": True, "no": False}[dns.validating],
    )
    if not dns.zone and not dns.only_zone:
        return system
    return ZoneResolver(zone_of_text(dns.zone), None if dns.only_zone else system)


def _configured(options: output.Options) -> bool:
    """Whether there are settings to go by. A file that somebody names has to be good; one that is not where it would
    be, or is not for this user, is none of his: these commands serve anybody with a mail problem."""
    from posthouse import config

    named = options.config is not None or bool(os.environ.get(config.ENVIRONMENT))
    return named or os.access(config.find(), os.R_OK)

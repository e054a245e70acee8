"""`ServerOptions`: what the connections of one listener share; and what EHLO offers because of them.

An extension that is not offered does not exist: its parameters are unknown (`params.py`), its commands not
implemented (`verbs.py`). Which are wanted is for the configuration; some need TLS or a login besides.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import NamedTuple

from posthouse.smtp.params import Accepted, Limits, accepted
from posthouse.wire import sasl

# What may be switched on besides PIPELINING, SIZE, 8BITMIME and ENHANCEDSTATUSCODES, in the order of EHLO.
EXTENSIONS = (
    "SMTPUTF8",  # RFC 6531
    "DSN",  # RFC 3461
    "CHUNKING",  # RFC 3030
    "BINARYMIME",  # RFC 3030; with CHUNKING only
    "BURL",  # RFC 4468; with CHUNKING, for who is logged in
    "REQUIRETLS",  # RFC 8689; under TLS only
    "DELIVERBY",  # RFC 2852
    "FUTURERELEASE",  # RFC 4865; needs `hold_interval`
    "MT-PRIORITY",  # RFC 6710
    "LIMITS",  # RFC 9422
    "EXPN",
    "XCLIENT",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerOptions:
    """What all connections of one listener share."""

    hostname: str
    lmtp: bool = False  # LHLO, and a reply for each recipient (RFC 2033)
    submission: bool = False  # a port for our own users: MAIL needs authentication (RFC 6409 section 4.3)
    max_size: int = 50 * 1024 * 1024
    max_recipients: int = 1000
    max_errors: int = 20  # in a row: an accepted message forgives
    extensions: frozenset[str] = frozenset()  # of EXTENSIONS
    mechanisms: tuple[str, ...] = ()
    starttls: bool = False
    secure: bool = False  # TLS from the first byte
    require_auth: bool = False
    require_tls: bool = False
    plaintext_auth: bool = False  # PLAIN and LOGIN without TLS: for tests and closed networks
    by_minimum: int = 0  # seconds: the shortest time to deliver by that is taken
    hold_interval: int = 0  # seconds: how long a message may be held


class Offer(NamedTuple):
    """What a client may use now."""

    lines: tuple[str, ...]  # of the answer to EHLO, after the first
    names: frozenset[str]
    mechanisms: frozenset[str]
    params: Accepted


@lru_cache(256)
def offer(options: ServerOptions, secure: bool, authenticated: bool, certified: bool, day: int) -> Offer:
    """What is offered to a connection: under TLS or not, logged in or not, with a client certificate or not.

    `day` (days since 1970) is today, for the latest date a message may be held until.
    """
    wanted = options.extensions
    lines = ["PIPELINING", f"SIZE {options.max_size}", "8BITMIME", "ENHANCEDSTATUSCODES"]
    if options.starttls and not secure:
        lines.append("STARTTLS")
    mechanisms = sasl.usable(
        options.mechanisms,
        secure=secure,
        certified=certified,
        plaintext=options.plaintext_auth,
        require_tls=options.require_tls,
    )
    if mechanisms and not authenticated:
        lines.append("AUTH " + " ".join(mechanisms))
    until = day * 86_400 + options.hold_interval
    arguments = {
        "REQUIRETLS": "" if secure else None,
        "BINARYMIME": "" if "CHUNKING" in wanted else None,
        "BURL": "imap" if "CHUNKING" in wanted and authenticated else None,
        "DELIVERBY": str(options.by_minimum or ""),
        "FUTURERELEASE": f"{options.hold_interval} {_date_time(until)}" if options.hold_interval else None,
        "LIMITS": f"RCPTMAX={options.max_recipients}",
        "XCLIENT": "NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT",
    }
    for name in EXTENSIONS:
        argument = arguments.get(name, "")
        if name in wanted and argument is not None:
            lines.append(f"{name} {argument}".rstrip())
    lines.append("HELP")
    names = frozenset(line.partition(" ")[0] for line in lines) | ({"AUTH"} if mechanisms else set())
    limits = Limits(
        max_size=options.max_size,
        binary="BINARYMIME" in names,
        secure=secure,
        by_minimum=options.by_minimum,
        hold_interval=options.hold_interval,
        hold_until=until,
    )
    return Offer(tuple(lines), names, frozenset(mechanisms), accepted(names, limits))


def _date_time(at: int) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


# Before EHLO: no parameter is known.
NOTHING = Offer((), frozenset(), frozenset(), accepted(frozenset(), Limits(max_size=0)))

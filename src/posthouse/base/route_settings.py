"""The tables [[route]] and [[pool]]: which mail leaves by which way, and from which addresses of ours.

What a route does is `queue/routes.py` and `queue/transports.py`; docs/routes.md is for people. The text of the file is
checked here, the names that point from one table to another too (`references`); the files that are named are looked at
by `config check` and read when the server starts.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from ipaddress import ip_address
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from posthouse.base.settings_types import FilePath, HostName, Section, is_hostname

Via = Literal["direct", "smarthost", "lmtp", "webhook", "discard", "error"]
TlsWish = Literal["starttls", "implicit", "opportunistic", "none"]

MAX_ROUTES = 1000
MAX_POOLS = 100
MAX_SOURCES = 256  # of a pool
MAX_PATTERNS = 10_000  # of a route, each way
MAX_ROUTE_HOSTS = 10  # as many as a domain's MX records may lead to
MAX_URL = 2000
NULL_SENDER = "<>"

_name = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}").fullmatch
_printable = re.compile(r"[!-~]+").fullmatch
_local_part = re.compile(r"[^\s\x00-\x1f\x7f]{1,240}").fullmatch
# Reply-code, enhanced status code of the same class (RFC 2034 section 4), text
_reply = re.compile(r"(([45])[0-5]\d) (\2\.\d{1,3}\.\d{1,3}) (\S.{0,399})").fullmatch

# What may be written with each kind of route; what must be, see `Route._is_whole`.
FITS: dict[Via, frozenset[str]] = {
    "direct": frozenset({"pool", "tls"}),
    "smarthost": frozenset({"pool", "tls", "host", "port", "user", "password_file", "ca"}),
    "lmtp": frozenset({"tls", "host", "port", "path", "ca"}),
    "webhook": frozenset({"url", "secret_file", "ca"}),
    "discard": frozenset(),
    "error": frozenset({"reply"}),
}
_CHOICES = frozenset[str]().union(*FITS.values())
_STANDARD_TLS: dict[Via, TlsWish] = {"direct": "opportunistic", "smarthost": "starttls"}


class Source(Section):
    """One of our own addresses to connect from."""

    address: str = Field(description="An IPv4 or IPv6 address of this machine.")
    helo: HostName = Field(description="The name to say in EHLO from there; its address, and back, as the DNS has it.")

    @field_validator("address")
    @classmethod
    def _is_address(cls, text: str) -> str:
        try:
            address = ip_address(text)
        except ValueError:
            raise ValueError(f"{text[:60]!r} is not an IP address; write one like 192.0.2.1 or 2001:db8::1") from None
        if address.is_unspecified or address.is_multicast or "%" in text:
            raise ValueError(f"{text[:60]} is no address to connect from; write one that `ip address` shows")
        return str(address)


class Pool(Section):
    """Own addresses that mail leaves from, in turn. See docs/routes.md."""

    name: str = Field(description="A name of your own; routes and [relay] name it.")
    sources: tuple[Source, ...] = Field(
        min_length=1,
        max_length=MAX_SOURCES,
        description="The addresses and their names, one [[pool.sources]] each.",
    )

    @field_validator("name")
    @classmethod
    def _is_name(cls, name: str) -> str:
        return named(name)

    @field_validator("sources")
    @classmethod
    def _once(cls, sources: tuple[Source, ...]) -> tuple[Source, ...]:
        for address, count in Counter(source.address for source in sources).items():
            if count > 1:
                raise ValueError(f"{address} stands here {count} times; leave one")
        return sources


class Route(Section):
    """A way for some of the mail that leaves; the first that fits counts. See docs/routes.md."""

    name: str = Field(description="A name of your own, for commands and the trace.")
    to: tuple[str, ...] = Field(
        default=(),
        max_length=MAX_PATTERNS,
        description='Recipients: domains, "*.example.org" (every name below it) or whole addresses; default: all.',
    )
    from_: tuple[str, ...] = Field(
        default=(),
        alias="from",
        max_length=MAX_PATTERNS,
        description='Who sends: names of accounts, whole sender addresses or their domains; "<>" is a bounce; '
        "default: all.",
    )
    via: Via = Field(description="direct (by MX records), smarthost, lmtp, webhook, discard or error.")
    pool: str = Field(default="", description="The [[pool]] to connect from; default: that of [relay].")
    tls: TlsWish | None = Field(
        default=None,
        description="starttls (required and verified), implicit, opportunistic or none; default: opportunistic for "
        "direct, starttls for a smart host, none for lmtp.",
    )
    host: tuple[HostName, ...] = Field(
        default=(),
        max_length=MAX_ROUTE_HOSTS,
        description="The server, or several: tried in their order.",
    )
    port: int | None = Field(default=None, ge=1, le=65535, description="Its port; default for a smart host: 587.")
    user: str | None = Field(default=None, min_length=1, description="Name to log in with at a smart host.")
    password_file: FilePath | None = Field(default=None, description="File whose first line is the password.")
    ca: FilePath | None = Field(
        default=None, description="PEM file of the CA that certificates must come from; default: those of this machine."
    )
    path: FilePath | None = Field(default=None, description="The UNIX socket to speak LMTP with, instead of a host.")
    url: str = Field(default="", description="Where messages are posted: https://, or http:// in your own network.")
    secret_file: FilePath | None = Field(
        default=None, description="File with the secret that signs the posts; `openssl rand -hex 32` makes one."
    )
    reply: str = Field(default="", description='The answer of an error route, like "550 5.7.1 Not from here".')

    @field_validator("name")
    @classmethod
    def _is_name(cls, name: str) -> str:
        return named(name)

    @field_validator("to", "from_")
    @classmethod
    def _are_patterns(cls, patterns: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(_pattern(one) for one in patterns)

    @field_validator("to")
    @classmethod
    def _to_somebody(cls, patterns: tuple[str, ...]) -> tuple[str, ...]:
        if NULL_SENDER in patterns:
            raise ValueError("nobody has the address <>; it can stand in `from`")
        return patterns

    @field_validator("host", mode="before")
    @classmethod
    def _one_or_several(cls, host: object) -> object:
        return (host,) if isinstance(host, str) else host

    @field_validator("url")
    @classmethod
    def _is_url(cls, url: str) -> str:
        return _url(url) if url else url

    @field_validator("reply")
    @classmethod
    def _is_reply(cls, text: str) -> str:
        if text and (not _reply(text) or not text.isprintable()):
            raise ValueError(f'{text[:60]!r} is no reply that refuses; write one like "550 5.7.1 Not from here"')
        return text

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        written = {name for name in _CHOICES if getattr(self, name) not in (None, (), "")}
        if strange := sorted(written - FITS[self.via]):
            raise ValueError(f'`{strange[0]}` means nothing with via = "{self.via}"; remove it')
        if (self.user is None) != (self.password_file is None):
            missing = "password_file" if self.password_file is None else "user"
            raise ValueError(f"user and password_file belong together; add `{missing}` or leave both out")
        match self.via:
            case "smarthost" if not self.host:
                raise ValueError("where the mail goes is missing; add `host`")
            case "direct" if self.tls == "implicit":
                raise ValueError("other domains' servers do not speak TLS from the first byte; write starttls")
            case "lmtp" if (self.path is None) == (not self.host):
                raise ValueError("lmtp needs a server; write `host` and `port`, or `path`")
            case "lmtp" if (self.path is None) == (self.port is None):
                raise ValueError("a host has a port and a UNIX socket has none; write `host` and `port`, or `path`")
            case "lmtp" if self.path is not None and (self.tls or self.ca):
                raise ValueError("a UNIX socket has no TLS; remove `tls` and `ca`")
            case "webhook" if not self.url or self.secret_file is None:
                raise ValueError("a webhook needs `url` and `secret_file`; write both")
            case "error" if not self.reply:
                raise ValueError('what it answers is missing; add `reply`, like "550 5.7.1 Not from here"')
        return self

    @property
    def tls_mode(self) -> TlsWish:
        """How TLS is spoken."""
        return self.tls or _STANDARD_TLS.get(self.via, "none")

    @property
    def answer(self) -> tuple[int, str, str]:
        """Code, status and text of `reply`."""
        match = _reply(self.reply)
        assert match is not None
        return int(match[1]), match[3], match[4]


def named(name: str) -> str:
    """A name that can stand in commands; raises ValueError."""
    if not _name(name):
        raise ValueError(f"{name[:70]!r} is no name; write letters, digits, dots and hyphens, 64 at the most")
    return name


def _pattern(text: str) -> str:
    if text == NULL_SENDER:
        return text
    local_part, at, domain = text.rpartition("@")
    good = bool(_local_part(local_part)) if at else True
    if not good or not is_hostname(domain if at else domain.removeprefix("*.")):
        hint = "as xn--…" if not text.isascii() else 'like example.org, "*.example.org" or joe@example.org'
        raise ValueError(f"{text[:60]!r} is neither a domain nor an address; write one {hint}")
    return text.lower()


def _url(url: str) -> str:
    shown = url[:60] + "…" * (len(url) > 60)
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if len(url) > MAX_URL or not _printable(url) or parts.scheme not in ("https", "http") or not parts.hostname:
        raise ValueError(f"{shown!r} is not an address of the web; write one like https://example.org/mail")
    if parts.username is not None or parts.fragment or port == 0:
        raise ValueError("names and passwords in an address end up in logs; posts are signed, so leave them out")
    return url


def references(
    routes: Sequence[Route], pools: Sequence[Pool], relay_pool: str
) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Where names of routes and pools are wrong: the path in the file, and what to say of it."""
    for table, names in (("route", [one.name for one in routes]), ("pool", [one.name for one in pools])):
        seen: set[str] = set()
        for number, name in enumerate(names):
            if name.lower() in seen:
                yield (table, number, "name"), f"another {table} is called {name} too; give it a name of its own"
            seen.add(name.lower())
    known = {one.name for one in pools}
    asked: list[tuple[tuple[str | int, ...], str]] = [(("relay", "pool"), relay_pool)]
    asked += [(("route", number, "pool"), one.pool) for number, one in enumerate(routes)]
    for path, name in asked:
        if name and name not in known:
            cure = f"known are {', '.join(sorted(known)[:10])}" if known else "add it as a table [[pool]]"
            yield path, f"there is no pool called {name[:70]!r}; {cure}"

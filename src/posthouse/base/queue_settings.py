"""Settings of mail to other servers: smart host, relaying, the queue with its pace and its reports.

Part of `base/settings.py`, which has the rest and says how they are read.
"""

from typing import Literal, NamedTuple, Self

from pydantic import Field, field_validator, model_validator

from posthouse.base.settings_types import FilePath, HostName, Networks, Section, Span, is_hostname


class Smarthost(Section):
    """Send everything that is not local through this server."""

    host: HostName = Field(description="Name or address of the server.")
    port: int = Field(default=587, ge=1, le=65535, description="Its port.")
    tls: Literal["starttls", "implicit", "opportunistic", "none"] = Field(
        default="starttls",
        description="starttls (required), implicit, opportunistic (used if offered, unverified) or none.",
    )
    user: str | None = Field(default=None, description="Name to log in with.")
    password_file: FilePath | None = Field(default=None, description="File whose first line is the password.")

    @model_validator(mode="after")
    def _login(self) -> Self:
        if (self.user is None) != (self.password_file is None):
            missing = "password_file" if self.password_file is None else "user"
            raise ValueError(f"user and password_file belong together; add `{missing}` or leave both out")
        return self


class Relay(Section):
    """Mail to other servers."""

    networks: Networks = Field(
        default=(), description='Networks that may send to anywhere without logging in, like "192.0.2.0/24".'
    )
    smarthost: Smarthost | None = Field(default=None, description="Send everything through one other server.")
    capture: bool = Field(
        default=False,
        description="Keep mail to other domains in the folder `captured` of the data and never send it.",
    )
    pool: str = Field(
        default="",
        description="The [[pool]] that mail leaves from, where its route names no other; see docs/routes.md.",
    )
    port: int = Field(default=25, ge=1, le=65535, description="Port of other servers; only for tests and labs.")
    srs: bool = Field(
        default=True,
        description="Rewrite the sender of mail that aliases pass on to other servers (SRS), so that SPF holds.",
    )
    srs_domain: str = Field(
        default="", description="Domain of rewritten senders, whose MX is this server; default: `hostname`."
    )

    @field_validator("srs_domain")
    @classmethod
    def _is_domain(cls, name: str) -> str:
        if name and not is_hostname(name):
            raise ValueError(f"{name!r} is not a domain; write one like fwd.example.org")
        return name.lower()


class TransportSecurity(Section):
    """How certain other servers must be before they get mail."""

    dane: bool = Field(
        default=True,
        description="Ask for the certificates that domains name in signed DNS records (DANE); it needs a resolver that "
        "validates.",
    )
    mta_sts: bool = Field(default=True, description="Keep to the policies that domains publish by HTTPS (MTA-STS).")
    ca: FilePath | None = Field(
        default=None,
        description="PEM file of the CAs that other mail servers' certificates must lead to, where one must; default: "
        "those of the system.",
    )


class DestinationLimit(Section):
    """How fast single destinations may be served; the first that fits counts."""

    domains: tuple[str, ...] = Field(
        min_length=1, description='Domains, or names of smart hosts; "*.example.org" is every name below example.org.'
    )
    concurrency: int | None = Field(default=None, ge=1, le=100, description="Messages on their way at one time.")
    per_minute: float = Field(default=0.0, ge=0, description="Messages in a minute; 0 is no limit.")


class Limit(NamedTuple):
    """What is allowed towards one next hop."""

    most: int  # deliveries at one time
    per_minute: float = 0.0  # messages; 0: no limit


def is_within(name: str, pattern: str) -> bool:
    """Is a domain what the pattern says: itself, or with "*." anything below?"""
    pattern = pattern.lower()
    return name.endswith(pattern[1:]) if pattern.startswith("*.") else name == pattern


class Queue(Section):
    """Mail that waits to be sent to other servers."""

    retry: tuple[Span, ...] = Field(
        default=(60.0, 180.0, 420.0, 900.0, 1800.0, *(3600.0,) * 10, 14400.0),
        min_length=1,
        description="Waits between attempts; the last one repeats (RFC 5321: 30 min or more).",
    )
    lifetime_days: float = Field(
        default=5.0,
        gt=0,
        le=30,
        description="Days until mail is given back to its sender; RFC 5321: 4 to 5.",
    )
    concurrency: int = Field(default=50, ge=1, le=1000, description="Messages on their way out at one time.")
    concurrency_per_destination: int = Field(
        default=20,
        ge=1,
        le=100,
        description="Messages on their way to one destination at one time; it begins with 4 and learns from replies.",
    )
    limit: tuple[DestinationLimit, ...] = Field(default=(), description="Limits for single destinations.")

    def limit_of(self, destination: str) -> Limit:
        """What is allowed towards a next hop: a domain or the name of a smart host, and behind a blank its route."""
        destination = destination.partition(" ")[0]
        for one in self.limit:
            if any(is_within(destination, domain) for domain in one.domains):
                most = self.concurrency_per_destination if one.concurrency is None else one.concurrency
                return Limit(most, one.per_minute)
        return Limit(self.concurrency_per_destination)

    delay_warning: Span = Field(
        default=4 * 3600.0,
        description="Time after which a sender hears that a message is late; 0: only who asks for it.",
    )
    double_bounces: bool = Field(
        default=False, description="Tell the postmaster of mail that failed and has nobody to be returned to."
    )
    suppress: bool = Field(
        default=True, description="Refuse mail of accounts to addresses that refused theirs for good."
    )
    suppress_days: float = Field(
        default=30.0, gt=0, le=3650, description="Days that such an address stays on the suppression list."
    )

    feedback: tuple[str, ...] = Field(
        default=(),
        max_length=100,
        description="Addresses of ours at which reports of complaints arrive (RFC 5965); see docs/webhooks.md.",
    )

    @field_validator("feedback")
    @classmethod
    def _are_addresses(cls, addresses: tuple[str, ...]) -> tuple[str, ...]:
        for address in addresses:
            if not all(address.rpartition("@")) or not is_hostname(address.rpartition("@")[2]):
                raise ValueError(f"{address!r} is not an address; write one like fbl@example.org")
        return tuple(address.lower() for address in addresses)

    @field_validator("retry")
    @classmethod
    def _not_at_once(cls, waits: tuple[float, ...]) -> tuple[float, ...]:
        if min(waits) < 1:
            raise ValueError("a wait shorter than a second would be a flood; write at least 1")
        return waits

"""Every setting of the configuration file: its name, type, default and one line of documentation.

`posthouse config example`, `posthouse config reference` and the error texts come from this file. Reading
the TOML file, saying where in it a mistake is, and looking at what the paths point to is `config.py`.
The objects never change once made. The file holds what is needed before the database opens; domains,
accounts and addresses live in the database.

Sizes may be numbers of bytes or text ("50 MiB"), spans of time seconds or text ("5 min"). Relative
paths start at the folder of the configuration file.
"""

import os
import socket
from ipaddress import IPv4Network, IPv6Network, ip_address
from pathlib import Path
from typing import Literal, Self, get_args

from pydantic import (
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import InitErrorDetails

from posthouse.base.authentication_settings import Authentication
from posthouse.base.errors import Permanent
from posthouse.base.filter_settings import Filter
from posthouse.base.queue_settings import Queue, Relay, TransportSecurity
from posthouse.base.report_settings import Reports
from posthouse.base.route_settings import MAX_POOLS, MAX_ROUTES, Pool, Route, references
from posthouse.base.settings_types import (
    FilePath,
    HostName,
    NameServer,
    Networks,
    Section,
    Size,
    Span,
    in_folder,
    is_hostname,
)
from posthouse.base.signing_settings import Signing
from posthouse.base.webhook_settings import Webhook, distinct

Service = Literal["smtp", "submission", "submissions", "lmtp", "imap", "imaps", "pop3", "pop3s"]

# The ports of RFC 8314 section 7 and of each protocol: what a service listens on unless told otherwise.
STANDARD_PORTS: dict[Service, int] = {
    "smtp": 25,
    "submission": 587,
    "submissions": 465,
    "imap": 143,
    "imaps": 993,
    "pop3": 110,
    "pop3s": 995,
}
SERVICES: tuple[Service, ...] = get_args(Service)
IMPLICIT_TLS: frozenset[Service] = frozenset({"submissions", "imaps", "pop3s"})

EVERY_ADDRESS = "*"
"""In `listen.address`: every IPv4 and every IPv6 address of this machine."""


class Listen(Section):
    """One port to serve. Without any [[listen]] every service is served on its standard port."""

    service: Service = Field(description="What to serve: " + ", ".join(SERVICES) + ".")
    address: str = Field(
        default=EVERY_ADDRESS,
        description='The IP address to listen on; "*" is every IPv4 and IPv6 address of this machine.',
    )
    port: int = Field(ge=0, le=65535, description="The port; by default the service's standard port (lmtp has none).")
    path: FilePath | None = Field(default=None, description="A UNIX socket to listen on instead, without TLS.")
    networks: Networks = Field(default=(), description="Only these may connect; default: everyone.")
    proxy_protocol: bool = Field(
        default=False, description="Every connection begins with a PROXY header (v1 or v2); see `proxies`."
    )
    require_tls: bool = Field(default=False, description="Take no login and no mail without TLS.")
    tls_profile: Literal["modern", "legacy"] = Field(
        default="modern",
        description="modern is TLS 1.2 and 1.3; legacy allows TLS 1.0 as well, for old devices on a port of their own.",
    )
    certificate: FilePath | None = Field(default=None, description="Another certificate for this port: a PEM file.")
    key: FilePath | None = Field(default=None, description="Its private key: a PEM file.")
    client_ca: FilePath | None = Field(
        default=None, description="PEM file of the CA whose client certificates log in (AUTH EXTERNAL)."
    )
    allow_plaintext_auth: bool = Field(
        default=False,
        description="Take passwords on this port without TLS. Only for loopback and closed networks.",
    )
    cram_md5: bool = Field(
        default=False,
        description="Offer CRAM-MD5 on this port, for accounts that have a password for it; others fail with it.",
    )

    @model_validator(mode="before")
    @classmethod
    def _standard_port(cls, values: object) -> object:
        if isinstance(values, dict) and "port" not in values:
            if "path" in values:
                return values | {"port": 0}
            if values.get("service") in STANDARD_PORTS:
                return values | {"port": STANDARD_PORTS[values["service"]]}
        return values

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if (self.certificate is None) != (self.key is None):
            missing = "key" if self.key is None else "certificate"
            raise ValueError(f"certificate and key belong together; add `{missing}` or leave both out")
        if self.path is not None and self.implicit_tls:
            raise ValueError(f"{self.service} needs TLS, which a UNIX socket has not; write address and port")
        if self.tls_profile == "legacy" and not self.networks:
            raise ValueError("old TLS can be broken by others; name the `networks` of the devices that need it")
        return self

    @field_validator("address")
    @classmethod
    def _is_address(cls, address: str) -> str:
        if address == EVERY_ADDRESS:
            return address
        try:
            return str(ip_address(address))
        except ValueError:
            raise ValueError(
                f'{address!r} is not an IP address; write one like 192.0.2.1 or ::1, or "*" for every address'
            ) from None

    @property
    def implicit_tls(self) -> bool:
        """TLS from the first byte (RFC 8314 section 3); the others offer STARTTLS."""
        return self.service in IMPLICIT_TLS


class NamedCertificate(Section):
    """A certificate for clients that ask for these names (SNI)."""

    names: tuple[str, ...] = Field(
        min_length=1, description='Host names; "*.example.org" is every name just below example.org.'
    )
    certificate: FilePath = Field(description="PEM file with the certificate, then the chain of its CA.")
    key: FilePath = Field(description="PEM file with the certificate's private key.")


class Tls(Section):
    """The certificate. Without one a CA and a certificate are made in the data folder."""

    certificate: FilePath | None = Field(
        default=None, description="PEM file with the certificate of `hostname`, then the chain of its CA."
    )
    key: FilePath | None = Field(default=None, description="PEM file with the certificate's private key.")

    named: tuple[NamedCertificate, ...] = Field(
        default=(), description="Certificates for other host names of this server, one [[tls.named]] each."
    )

    @model_validator(mode="after")
    def _both(self) -> Self:
        if (self.certificate is None) != (self.key is None):
            missing = "key" if self.key is None else "certificate"
            raise ValueError(f"certificate and key belong together; add `{missing}` or leave both out")
        return self


class Storage(Section):
    """The database and the message contents."""

    key_file: FilePath | None = Field(
        default=None,
        description="File with the key that encrypts the database and all contents; keep a copy elsewhere.",
    )
    key_env: str | None = Field(
        default=None, min_length=1, description="Environment variable with that key, instead of a file."
    )
    inline_max: Size = Field(
        default=256 << 10,
        le=16 << 20,
        description="Contents up to this size live in the database, larger ones in files of their own.",
    )
    reserve: Size = Field(
        default=256 << 20,
        description="Refuse mail for now (452) when less than this is free on the disk of the data folder.",
    )

    @model_validator(mode="after")
    def _one_key(self) -> Self:
        if self.key_file is not None and self.key_env is not None:
            raise ValueError("there is one encryption key; remove `key_file` or `key_env`")
        return self


class Imap(Section):
    """What IMAP offers beside the standards."""

    gmail: bool = Field(
        default=False,
        description="Offer Gmail's X-GM-EXT-1: labels, message and thread numbers, Gmail's search language. For "
        "programs that know nothing else; docs/imap.md says what is the same and what is not.",
    )
    literal_plus: bool = Field(
        default=True,
        description="Clients may send literals of any size unasked (LITERAL+); if not, only those up to 4096 octets "
        "(LITERAL-), and a message waits until it is known whether it is wanted.",
    )


class Pop3(Section):
    """How long POP3 keeps mail, and how often programs may look for it."""

    expire: int | None = Field(
        default=None,
        ge=0,
        le=36_500,
        description="Days that messages stay in the INBOX at least (EXPIRE). Older ones that were read and are not "
        "flagged go when a POP3 session ends with QUIT; 0: once POP3 fetched them. Not set: nothing goes by itself.",
    )
    login_delay: Span = Field(
        default=0.0,
        le=86_400,
        description="Time between two logins of one account by POP3 (LOGIN-DELAY); 0: as often as it likes.",
    )


class OAuth(Section):
    """Somebody else who says who is who: OAUTHBEARER and XOAUTH2 with tokens of this issuer."""

    issuer: str = Field(min_length=1, description="The issuer as it names itself in tokens (claim iss).")
    audience: str = Field(default="", description="The audience that tokens must be for (claim aud).")
    jwks: str | None = Field(default=None, description="The issuer's keys: an https:// address, or the path of a file.")
    introspection: str | None = Field(default=None, description="Address that says whether a token is good (RFC 7662).")
    client_id: str = Field(default="", description="Our name at the introspection address.")
    client_secret_file: FilePath | None = Field(default=None, description="File with our secret there.")
    claim: str = Field(default="email", description="The claim that holds the account's name, a whole address.")
    scope: str = Field(default="", description="Scopes that tokens must have, parted by blanks; empty: any.")

    @field_validator("jwks")
    @classmethod
    def _in_folder(cls, jwks: str | None, info: ValidationInfo) -> str | None:
        if jwks is None or jwks.startswith(("https://", "http://")):
            return jwks
        return str(in_folder(Path(jwks), info))

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.jwks is None and self.introspection is None:
            raise ValueError("tokens could not be verified; add `jwks` or `introspection`")
        if not self.audience:
            raise ValueError("tokens for other services would be taken; add `audience`, our name in the claim aud")
        return self


class Auth(Section):
    """How people and programs log in."""

    channel_binding: bool = Field(
        default=False,
        description="Offer the -PLUS forms of SCRAM. Off, as some programs (mutt) choose them and then cannot do them.",
    )
    password_strength: int = Field(
        default=2, ge=0, le=4, description="How hard a new password must be to guess: 0 (anything) to 4."
    )
    unauthenticate: bool = Field(
        default=True,
        description="Let IMAP clients log in as somebody else on the same connection (UNAUTHENTICATE). Switch it off "
        "behind a proxy that only looks at the first login.",
    )
    oauth: OAuth | None = Field(default=None, description="Take tokens of an OAuth issuer.")


class Smtp(Section):
    """What SMTP offers beyond the plain exchange of mail."""

    verify: Literal["nobody", "users", "everyone"] = Field(
        default="users", description="Who gets real answers to VRFY and EXPN; others hear 252."
    )
    hold: Span = Field(
        default=7 * 86_400.0,
        le=365 * 86_400,
        description="Longest time a user may have a message held before it is sent (FUTURERELEASE); 0: not at all.",
    )
    deliver_by: Span = Field(
        default=60.0, ge=1, description="Shortest time that may be asked for to deliver in (DELIVERBY)."
    )
    chunking: bool = Field(default=True, description="Offer CHUNKING and BINARYMIME.")
    any_sender: bool = Field(
        default=False, description="Let users send in the name of anybody, not only with addresses of their own."
    )


class Limits(Section):
    """What a client may use. The numbers suit a small server and are far above what people need."""

    message_size: Size = Field(default=50 << 20, ge=65536, description="Largest message taken, announced as SIZE.")
    recipients: int = Field(
        default=1000,
        ge=100,
        le=100_000,
        description="Recipients of one message; RFC 5321 wants at least 100.",
    )
    errors: int = Field(
        default=20,
        ge=1,
        description="Commands refused on one connection before it is closed; logins count as well.",
    )
    connections: int = Field(
        default=20_000,
        ge=1,
        description="Connections at one time, all services together; when 3/4 are taken, strangers get less time.",
    )
    connections_per_ip: int = Field(
        default=100, ge=1, description="Connections at one time from one IPv4 address or one IPv6 /64."
    )
    login_timeout: Span = Field(
        default=60.0,
        ge=1,
        description="Time for a client of IMAP or POP3 to log in; also for the TLS handshake.",
    )
    command_timeout: Span = Field(
        default=300.0, ge=1, description="Time to wait for an SMTP command; RFC 5321 wants at least 5 min."
    )
    content_timeout: Span = Field(
        default=180.0, ge=1, description="Time to wait for the next bytes of a message that is being sent."
    )
    imap_timeout: Span = Field(
        default=1800.0, ge=1, description="Time to wait for an IMAP command; RFC 9051 wants at least 30 min."
    )
    imap_messages: int = Field(
        default=0,
        ge=0,
        description="Messages that one IMAP command works on, announced as MESSAGELIMIT; at least 1000, 0 is no limit.",
    )
    pop3_timeout: Span = Field(
        default=600.0, ge=1, description="Time to wait for a POP3 command; RFC 1939 wants at least 10 min."
    )
    shutdown_grace: Span = Field(
        default=10.0, description="Time that running work has to finish when the server is asked to stop."
    )
    quota_storage: Size = Field(
        default=0,
        description="What an account may hold that has no quota of its own (`posthouse account quota`); 0: no limit.",
    )
    hops: int = Field(
        default=100,
        ge=10,
        description="Received fields that mean a mail loop; RFC 5321 wants at least 100.",
    )
    trusted: Networks = Field(
        default=(IPv4Network("127.0.0.0/8"), IPv6Network("::1/128")),
        description="Networks to which limits per address and the slowing down of logins do not apply.",
    )

    @field_validator("imap_messages")
    @classmethod
    def _is_enough(cls, messages: int) -> int:
        if 0 < messages < 1000:
            raise ValueError("RFC 9738 wants at least 1000; 0 is no limit")
        return messages


class Dns(Section):
    """Where names are looked up."""

    nameservers: tuple[NameServer, ...] = Field(
        default=(),
        description="IP addresses of resolvers to ask, with a port if it is not 53: 9.9.9.9, 127.0.0.1:5353, "
        "[::1]:5353; by default those of /etc/resolv.conf.",
    )
    timeout: Span = Field(default=10.0, gt=0, description="Time for one lookup, repeats included.")
    validating: Literal["auto", "yes", "no"] = Field(
        default="auto",
        description="Do these resolvers validate DNSSEC, on a way nobody else is on? DANE needs it. auto: those on "
        "loopback addresses are believed.",
    )
    zone: dict[str, dict[str, tuple[str, ...]]] = Field(
        default={},
        description='Answers given without asking: name = { MX = ["10 mail.test"], A = ["192.0.2.1"] }.',
    )
    only_zone: bool = Field(default=False, description="Ask nobody: names that are not in `zone` do not exist.")

    @field_validator("zone")
    @classmethod
    def _lower(cls, zone: dict[str, dict[str, tuple[str, ...]]]) -> dict[str, dict[str, tuple[str, ...]]]:
        known = {"A", "AAAA", "MX", "TXT", "CNAME", "PTR", "TLSA"}
        lowered: dict[str, dict[str, tuple[str, ...]]] = {}
        for name, records in zone.items():
            kinds = {kind.upper(): values for kind, values in records.items()}
            if unknown := kinds.keys() - known:
                raise ValueError(f"{name}: {min(unknown)} is not one of {', '.join(sorted(known))}")
            lowered[name.lower().rstrip(".")] = kinds
        return lowered


class Log(Section):
    """The log: one line an event, on standard error."""

    format: Literal["human", "json"] = Field(default="human", description="Lines for people or for programs.")
    level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="The least to log.")


def _own_name() -> str:
    """This machine's name as it knows it itself: no resolver is asked."""
    name = socket.gethostname()
    return name if is_hostname(name) else "localhost"


def _every_service() -> tuple[Listen, ...]:
    return tuple(Listen(service=service, port=port) for service, port in STANDARD_PORTS.items())


class Settings(Section):
    """The whole configuration file."""

    hostname: HostName = Field(
        default_factory=_own_name,
        description="Public name of this server, as in its MX record; default: this machine's.",
    )
    data: FilePath = Field(
        default=Path("data"),
        description="Folder of the database, contents and self-made certificate; default: `data` beside this file.",
    )
    postmaster: str = Field(
        default="",
        description="Account that gets mail to postmaster; default: the first account.",
    )
    listen: tuple[Listen, ...] = Field(
        default_factory=_every_service, description="The ports to serve, one [[listen]] each."
    )
    tls: Tls = Field(default=Tls(), description="The certificate.")
    storage: Storage = Field(default=Storage(), description="The database and the contents.")
    limits: Limits = Field(default=Limits(), description="What a client may use.")
    relay: Relay = Field(default=Relay(), description="Mail to other servers.")
    auth: Auth = Field(default=Auth(), description="How people log in.")
    smtp: Smtp = Field(default=Smtp(), description="What SMTP offers.")
    imap: Imap = Field(default=Imap(), description="What IMAP offers beside the standards.")
    pop3: Pop3 = Field(default=Pop3(), description="What POP3 does by itself.")
    filter: Filter = Field(default=Filter(), description="Who may send what.")
    signing: Signing = Field(default=Signing(), description="Signatures of our domains.")
    authentication: Authentication = Field(default=Authentication(), description="Who sent this.")
    proxies: Networks = Field(
        default=(), description="Load balancers and proxies whose PROXY headers and XCLIENT commands are believed."
    )
    dns: Dns = Field(default=Dns(), description="Where names are looked up.")
    log: Log = Field(default=Log(), description="The log.")
    queue: Queue = Field(default=Queue(), description="Mail that waits.")
    transport_security: TransportSecurity = Field(
        default=TransportSecurity(), description="How certain other servers must be."
    )
    reports: Reports = Field(default=Reports(), description="Reports about authentication and TLS.")
    webhook: tuple[Webhook, ...] = Field(
        default=(), description="Programs that are told what became of mail, one [[webhook]] each."
    )

    @field_validator("webhook")
    @classmethod
    def _names_differ(cls, webhooks: tuple[Webhook, ...]) -> tuple[Webhook, ...]:
        return distinct(webhooks)

    pool: tuple[Pool, ...] = Field(
        default=(), max_length=MAX_POOLS, description="Own addresses that mail leaves from, one [[pool]] each."
    )
    route: tuple[Route, ...] = Field(
        default=(), max_length=MAX_ROUTES, description="Ways for some of the mail that leaves, one [[route]] each."
    )

    @model_validator(mode="after")
    def _named(self) -> Self:
        wrong = [
            InitErrorDetails(type="value_error", loc=path, input=None, ctx={"error": ValueError(says)})
            for path, says in references(self.route, self.pool, self.relay.pool)
        ]
        if wrong:
            raise ValidationError.from_exception_data("Settings", wrong)
        return self

    @field_validator("listen")
    @classmethod
    def _distinct(cls, listen: tuple[Listen, ...]) -> tuple[Listen, ...]:
        seen: dict[tuple[str, int], Service] = {}
        for one in listen:
            if one.path is not None:
                continue
            other = seen.setdefault((one.address, one.port), one.service)
            if one.port and other is not one.service and other != one.service:
                raise ValueError(f"port {one.port} is given to {other} and to {one.service}; change one")
        return listen


def storage_key(storage: Storage) -> bytes | None:
    """The encryption key of the store, or None; raises `Permanent` if it is named and not there."""
    if storage.key_file is not None:
        try:
            text = storage.key_file.read_bytes().strip()
        except OSError as error:
            raise Permanent(f"storage.key_file {storage.key_file} cannot be read: {error.strerror}") from error
        where = f"storage.key_file {storage.key_file}"
    elif storage.key_env is not None:
        text = os.environ.get(storage.key_env, "").strip().encode()
        where = f"the environment variable {storage.key_env} (storage.key_env)"
    else:
        return None
    if len(text) < 16:
        raise Permanent(f"{where} holds no key of at least 16 characters; make one with `openssl rand -hex 32`")
    return text

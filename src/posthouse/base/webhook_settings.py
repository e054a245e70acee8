"""The tables [[webhook]]: programs elsewhere that are told what became of mail.

What is told, and how, is docs/webhooks.md; the calls are made by `queue/webhooks.py`. The text of the file is checked
here; the file with the secret is looked at by `config check` and read when the server starts.
"""

import re
from ipaddress import ip_address
from typing import Literal, Self, get_args
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from posthouse.base.errors import Permanent
from posthouse.base.settings_types import FilePath, Section, Span, is_hostname

Event = Literal["delivered", "deferred", "bounced", "complained"]
EVENTS: tuple[Event, ...] = get_args(Event)
MIN_SECRET = 16  # octets
MAX_SECRET = 1024
MAX_WEBHOOKS = 50  # every one may have as many threads as calls at one time
MAX_URL = 2000

_name = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}").fullmatch
# Names that only mean something in one's own network: no dot, or a domain that is set aside (RFC 6762, RFC 6761,
# and .internal by ICANN in 2024).
_own_network = re.compile(r"[^.]+|(?:.+\.)?(?:localhost|local|internal|home\.arpa)").fullmatch
_printable = re.compile(r"[!-~]+").fullmatch


class Webhook(Section):
    """A program that is told by HTTP what became of mail. See docs/webhooks.md."""

    name: str = Field(description="A name of your own, for commands and the log.")
    url: str = Field(description="Where to: https://, or with `insecure` http:// in your own network.")
    events: tuple[Event, ...] = Field(
        default=EVENTS, min_length=1, description="What is told: " + ", ".join(EVENTS) + "."
    )
    secret_file: FilePath = Field(
        description="File with the secret that signs the calls, 16 characters or more; see `openssl rand -hex 32`."
    )
    accounts: tuple[str, ...] = Field(default=(), description="Only mail of these accounts; default: of all.")
    domains: tuple[str, ...] = Field(
        default=(),
        description='Only mail with senders of these domains; "*.example.org" is every name below example.org.',
    )
    timeout: Span = Field(default=10.0, gt=0, le=60, description="Time for one call, the answer included.")
    concurrency: int = Field(default=4, ge=1, le=16, description="Calls at one time.")
    insecure: bool = Field(
        default=False,
        description="Allow http:// to loopback and private addresses, and to names of your own network.",
    )

    @field_validator("name")
    @classmethod
    def _is_name(cls, name: str) -> str:
        if not _name(name):
            raise ValueError(f"{name[:70]!r} is no name; write letters, digits, dots and hyphens, 64 at the most")
        return name

    @field_validator("url")
    @classmethod
    def _is_url(cls, url: str) -> str:
        shown = url[:60] + ("…" if len(url) > 60 else "")
        if len(url) > MAX_URL or not _printable(url) or not url.startswith(("https://", "http://")):
            raise ValueError(f"{shown!r} is not an address of the web; write one like https://example.org/posthouse")
        try:
            parts = urlsplit(url)
            parts.port  # noqa: B018 - raises if it is none
        except ValueError:
            raise ValueError(f"{shown!r} cannot be read; write one like https://example.org/posthouse") from None
        if not parts.hostname:
            raise ValueError(f"{shown!r} names no host; write one like https://example.org/posthouse")
        if parts.username is not None or parts.fragment:
            raise ValueError("names and passwords in an address end up in logs; calls are signed, so leave them out")
        return url

    @field_validator("accounts", "domains")
    @classmethod
    def _lower(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(name.lower() for name in names)

    @field_validator("domains")
    @classmethod
    def _are_domains(cls, domains: tuple[str, ...]) -> tuple[str, ...]:
        for domain in domains:
            if not is_hostname(domain.removeprefix("*.")):
                raise ValueError(f'{domain!r} is not a domain; write one like example.org, or "*.example.org"')
        return domains

    @model_validator(mode="after")
    def _is_safe(self) -> Self:
        parts = urlsplit(self.url)
        if parts.scheme == "https":
            return self
        if not self.insecure:
            raise ValueError("http:// shows everybody on the way who gets mail; write https://, or set `insecure`")
        if not _is_near(parts.hostname or ""):
            raise ValueError("http:// is only for your own network, with `insecure` too; write https://")
        return self


def _is_near(host: str) -> bool:
    try:
        address = ip_address(host)
    except ValueError:
        return bool(_own_network(host))
    return address.is_loopback or address.is_private


def distinct(webhooks: tuple[Webhook, ...]) -> tuple[Webhook, ...]:
    """All of them, if their names differ."""
    if len(webhooks) > MAX_WEBHOOKS:
        raise ValueError(f"there are {len(webhooks)} webhooks; {MAX_WEBHOOKS} are the most")
    names: set[str] = set()
    for one in webhooks:
        if one.name.lower() in names:
            raise ValueError(f"two webhooks have the name {one.name}; rename one")
        names.add(one.name.lower())
    return webhooks


def wrong_with_secret(webhook: Webhook) -> str:
    """Why there is no secret to sign with, in words; "" if there is one."""
    try:
        secret_of(webhook)
    except Permanent as error:
        return str(error).partition(": ")[2]
    return ""


def secret_of(webhook: Webhook) -> bytes:
    """The secret that signs the calls. Raises `Permanent`."""
    path = webhook.secret_file
    where = f"secret_file of webhook {webhook.name}"
    try:
        with path.open("rb") as file:
            secret = file.read(MAX_SECRET + 100).strip()
    except OSError as error:
        raise Permanent(f"{where}: {path} cannot be read: {error.strerror}") from error
    if len(secret) < MIN_SECRET:
        raise Permanent(f"{where}: {path} holds no secret of at least {MIN_SECRET} characters")
    if len(secret) > MAX_SECRET:
        raise Permanent(f"{where}: {path} is longer than {MAX_SECRET} characters")
    return secret

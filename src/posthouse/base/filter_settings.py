"""The table [filter]: rules, limits, DNS lists, greylisting, checks of names, and the operator's Python hooks.

What they do is `posthouse.filter`; how to write them is docs/filter.md.
"""

import re
from ipaddress import IPv4Address
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from posthouse.base.settings_types import FilePath, HostName, Networks, Section, Size, Span

Action = Literal["accept", "reject", "defer", "tarpit", "tag", "require_tls", "require_auth"]
Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
LONGEST_DELAY = 60.0  # seconds

_hours = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-4]):([0-5]\d)").fullmatch
_tag = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}").fullmatch


class Rule(Section):
    """One rule. All its conditions must hold; of several values in one condition, one. The first that decides wins."""

    network: Networks = Field(default=(), description="The client's address is in one of these.")
    service: tuple[Literal["smtp", "submission", "submissions", "lmtp"], ...] = Field(
        default=(), description="The port is one of these services."
    )
    tls: bool | None = Field(default=None, description="The connection has TLS, or has not.")
    authenticated: bool | None = Field(default=None, description="The client has logged in, or has not.")
    hello: tuple[str, ...] = Field(default=(), description='What it says in EHLO: patterns like "*.dyn.example".')
    reverse_dns: tuple[str, ...] = Field(
        default=(), description='Its name in the DNS, forward-confirmed: patterns; "" is none.'
    )
    sender: tuple[str, ...] = Field(
        default=(),
        description='The sender: patterns; "@example.org" is the domain and all below it, "" the null sender.',
    )
    recipient: tuple[str, ...] = Field(default=(), description="A recipient: patterns as for the sender.")
    larger: Size | None = Field(default=None, description="The message is larger, by SIZE or in fact.")
    spf: tuple[Literal["none", "neutral", "pass", "fail", "softfail", "temperror", "permerror"], ...] = Field(
        default=(), description="What SPF says of the sender is one of these words."
    )
    dkim: tuple[Literal["none", "pass", "fail", "neutral", "policy", "temperror", "permerror"], ...] = Field(
        default=(), description="What DKIM says: pass if one signature passes, else the word of the first."
    )
    dmarc: tuple[Literal["none", "pass", "fail", "temperror", "permerror"], ...] = Field(
        default=(), description="What DMARC says of the domain in From is one of these words."
    )
    hours: str | None = Field(default=None, description='Time of day in UTC, like "22:00-06:00".')
    days: tuple[Day, ...] = Field(default=(), description="Days of the week in UTC: mon, tue, wed, thu, fri, sat, sun.")
    action: Action = Field(description="accept, reject, defer, tarpit, tag, require_tls or require_auth.")
    code: int | None = Field(default=None, description="The code to answer with: 5yz to reject, 4yz to defer.")
    text: str = Field(default="", description="The text to answer with.")
    tag: str = Field(default="", description="With tag: the word that the message is marked with.")
    delay: Span = Field(default=5.0, le=LONGEST_DELAY, description="With tarpit: how long the answer waits.")

    @property
    def has_conditions(self) -> bool:
        """Whether it looks at anything."""
        return any(
            value not in ((), None) for name, value in self if name not in ("action", "code", "text", "tag", "delay")
        )

    @field_validator("sender", "recipient")
    @classmethod
    def _may_be_addresses(cls, patterns: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in patterns:
            if pattern not in ("", "<>") and not set(pattern) & set("@*?"):
                raise ValueError(f'{pattern!r} fits no address; for a domain and all below it write "@{pattern}"')
        return patterns

    @field_validator("hours")
    @classmethod
    def _are_hours(cls, hours: str | None) -> str | None:
        if hours is not None and not _hours(hours):
            raise ValueError(f'{hours!r} is no time of day; write it like "22:00-06:00"')
        if hours is not None and hours[:5] == hours[6:]:
            raise ValueError(f"{hours!r} is no time at all; leave `hours` out for the whole day")
        return hours

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.action == "tag" and not _tag(self.tag):
            raise ValueError("a tag is a word of letters, digits, dots and hyphens; add `tag`")
        if self.code is not None:
            first = {"reject": 5, "defer": 4}.get(self.action)
            if first is None:
                raise ValueError(f"{self.action} gives no code; remove `code`")
            if self.code // 100 != first:
                raise ValueError(f"{self.code} does not {self.action}; write a code from {first}00 to {first}99")
        return self


class DnsList(Section):
    """A DNS list of the bad, or of the good (RFC 5782)."""

    zone: HostName = Field(description="Where to ask, like zen.spamhaus.org.")
    of: Literal["ip", "domain"] = Field(
        default="ip", description="What it lists: client addresses, or domains (of EHLO, reverse DNS and sender)."
    )
    weight: float = Field(
        default=1.0, allow_inf_nan=False, description="What a hit counts; less than 0: a list of the good."
    )
    answers: tuple[str, ...] = Field(
        default=(), description='Answers that count, like "127.0.0.2-127.0.0.11"; default: all but 127.255.255.*.'
    )

    @field_validator("answers")
    @classmethod
    def _are_answers(cls, answers: tuple[str, ...]) -> tuple[str, ...]:
        for answer in answers:
            first, _, last = answer.partition("-")
            try:
                if IPv4Address(first) > IPv4Address(last or first):
                    raise ValueError
            except ValueError:
                raise ValueError(f'{answer!r} is no answer of a list; write it like "127.0.0.2-127.0.0.11"') from None
        return answers


class Rate(Section):
    """How much may be sent; 0 is no limit."""

    messages_per_hour: int = Field(default=0, ge=0, description="Messages in any hour.")
    messages_per_day: int = Field(default=0, ge=0, description="Messages in any day.")
    recipients_per_hour: int = Field(default=0, ge=0, description="Recipients in any hour.")
    recipients_per_day: int = Field(default=0, ge=0, description="Recipients in any day.")

    @property
    def is_set(self) -> bool:
        """Whether anything is limited."""
        return bool(
            self.messages_per_hour or self.messages_per_day or self.recipients_per_hour or self.recipients_per_day
        )


class Filter(Section):
    """Who may send what."""

    policy: FilePath | None = Field(default=None, description="Python file with hooks of your own: docs/filter.md.")
    policy_timeout: Span = Field(default=5.0, gt=0, le=60, description="How long one hook may take.")
    banner_delay: Span = Field(
        default=0.0, le=30, description="Wait before the greeting; who speaks first is refused. 0: do not wait."
    )
    reverse_dns: Literal["ignore", "tag", "defer", "require"] = Field(
        default="ignore", description="Clients without a confirmed name in the DNS: ignore, tag, defer or refuse them."
    )
    hello: Literal["ignore", "tag", "reject"] = Field(
        default="ignore", description="A greeting that is no host name, or is ours: ignore, tag or reject it."
    )
    reject_score: float = Field(default=1.0, gt=0, description="Sum of the weights of DNS lists that refuses mail.")
    greylist: bool = Field(default=False, description="Ask unknown senders to come again.")
    greylist_delay: Span = Field(default=300.0, ge=1, description="How long they must wait at least.")
    greylist_lifetime_days: float = Field(
        default=36.0, gt=1, le=400, description="How long one who came again is remembered."
    )
    rule: tuple[Rule, ...] = Field(default=(), description="Rules in order, one [[filter.rule]] each.")
    list: tuple[DnsList, ...] = Field(default=(), description="DNS lists, one [[filter.list]] each.")
    account_limit: Rate = Field(default=Rate(), description="What one account may send.")
    network_limit: Rate = Field(
        default=Rate(), description="What one IPv4 address or IPv6 /64 may send without logging in."
    )

"""The table [authentication]: what is verified of mail that strangers bring, and what follows from it.

What it means is docs/authentication.md; who verifies is `posthouse.senderauth`.
"""

from ipaddress import IPv4Network, IPv6Network
from typing import Literal

from pydantic import Field

from posthouse.base.settings_types import HostName, Networks, Section, Span


class Authentication(Section):
    """Who sent this: SPF, DKIM, DMARC and ARC of mail that comes in."""

    verify: bool = Field(
        default=True, description="Verify mail of strangers at all. Off, nothing of this table counts."
    )
    authserv_id: HostName | None = Field(
        default=None,
        description="Our name in Authentication-Results; default: `hostname`. Servers of one operator may share one.",
    )
    dmarc: Literal["enforce", "mark"] = Field(
        default="enforce",
        description="enforce: do what the domain in From asks for mail that fails (refuse it, put it into Junk); "
        "mark: deliver it, and only write down what was found.",
    )
    trouble: Literal["accept", "defer"] = Field(
        default="accept",
        description="Mail about which the DNS gave no answer: accept it, or ask to try again (451).",
    )
    patience: Span = Field(
        default=20.0,
        ge=1,
        le=60,
        description="Time for all questions to the DNS about one message; RFC 7208 wants 20 s.",
    )
    exempt: Networks = Field(
        default=(IPv4Network("127.0.0.0/8"), IPv6Network("::1/128")),
        description="Clients whose mail is not verified and whose own Authentication-Results are kept, as an MX or "
        "filter of yours in front; so are `relay.networks` and UNIX sockets.",
    )
    trusted_sealers: tuple[HostName, ...] = Field(
        default=(),
        description="Domains of forwarders whose ARC seals are believed: mail that fails DMARC is taken if all of the "
        "last ones to seal it are among these and one of them saw it pass.",
    )
    mailing_lists: tuple[HostName, ...] = Field(
        default=(),
        description="Domains of mailing lists: mail that is proved to come from one of these, or from below one, is "
        "taken though its author's domain fails DMARC.",
    )

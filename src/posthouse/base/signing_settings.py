"""Settings of signatures below mail of our own domains (DKIM). Part of `base/settings.py`."""

from typing import Literal

from pydantic import Field

from posthouse.base.settings_types import NameServer, Section

Algorithm = Literal["rsa-sha256", "ed25519-sha256"]


class Signing(Section):
    """Signatures below mail of our own domains (DKIM)."""

    sign: Literal["published", "always", "never"] = Field(
        default="published",
        description="published: with keys whose record the DNS has; always: without asking, where this server sees "
        "another DNS than the world; never: mail is not signed.",
    )
    algorithms: tuple[Algorithm, ...] = Field(
        default=("rsa-sha256", "ed25519-sha256"),
        min_length=1,
        description="Each message gets a signature of each of these.",
    )
    rotate_days: int = Field(
        default=180,
        ge=0,
        le=3650,
        description="Days after which a new key is made, to be published, and then used; 0: only by `dkim rotate`.",
    )
    nameservers: tuple[NameServer, ...] = Field(
        default=(),
        max_length=10,
        description="IP addresses of further resolvers (with a port if it is not 53) that must know the record of a "
        "key before it is used.",
    )

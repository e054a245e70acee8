"""Settings of the reports about authentication and TLS: those we send, and where those of others arrive."""

from typing import Self

from pydantic import Field, field_validator, model_validator

from posthouse.base.settings_types import Section, is_hostname


def _address(address: str) -> str:
    if not all(address.rpartition("@")) or not is_hostname(address.rpartition("@")[2]):
        raise ValueError(f"{address!r} is not an address; write one like reports@example.org")
    return address.lower()


class Reports(Section):
    """Reports about authentication (DMARC) and TLS: docs/reports.md."""

    send: bool = Field(
        default=True, description="Send daily reports to domains that ask for them (RFC 9990, RFC 8460)."
    )
    organization: str = Field(
        default="", max_length=200, description="Who reports; default: the domain the reports come from."
    )
    domain: str = Field(
        default="",
        description="Domain of ours that the reports come from; default: the first one of this server. It should sign.",
    )
    contact: str = Field(
        default="", description="Address for questions about reports; default: postmaster of that domain."
    )
    sender: str = Field(
        default="", description="Reverse-path of reports, to hear of those that fail; default: none (<>)."
    )
    domains_per_day: int = Field(
        default=1000, ge=0, le=1_000_000, description="Domains that get reports of a kind on one day."
    )
    addresses: tuple[str, ...] = Field(
        default=(), max_length=100, description="Addresses of ours at which the reports of others arrive (rua)."
    )
    keep_days: int = Field(default=400, ge=1, le=10_000, description="Days that reports of others are kept.")

    @field_validator("addresses")
    @classmethod
    def _are_addresses(cls, addresses: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(map(_address, addresses))

    @field_validator("contact", "sender")
    @classmethod
    def _is_address(cls, address: str) -> str:
        return _address(address) if address else ""

    @field_validator("domain")
    @classmethod
    def _is_domain(cls, domain: str) -> str:
        if domain and not is_hostname(domain):
            raise ValueError(f"{domain!r} is not a domain; write one like example.org")
        return domain.lower()

    @model_validator(mode="after")
    def _aligned(self) -> Self:
        if self.domain and self.contact and self.contact.rpartition("@")[2] != self.domain:
            raise ValueError(
                f"reports come from {self.domain}, so {self.contact} would fail DMARC; take an address of that domain"
            )
        return self

"""Types that settings have in common: sizes, spans of time, paths, networks, host names; and the base of a table."""

import re
from ipaddress import IPv4Network, IPv6Network, ip_address
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator

from posthouse.base.networks import Network, name_server
from posthouse.base.units import parse_size, parse_span

# RFC 1123 section 2.1, letters of any case; an underscore is tolerated because machines are named so.
is_hostname = re.compile(r"(?=.{1,253}\Z)[a-z0-9_](?:[a-z0-9_-]*)(?:\.[a-z0-9_][a-z0-9_-]*)*", re.I).fullmatch


def in_folder(path: Path, info: ValidationInfo) -> Path:
    """A path of the file: relative ones start at its folder."""
    folder = info.context.get("folder") if info.context else None
    path = path.expanduser()
    return folder / path if folder is not None else path


def _network(value: object) -> object:
    """`192.0.2.7/24` means the network it lies in; Python's strict reading would refuse it."""
    if isinstance(value, str) and "/" in value:
        address, _, length = value.partition("/")
        try:
            bits = 32 if ip_address(address.strip()).version == 4 else 128
        except ValueError:
            return value
        if length.strip().isdigit() and int(length) <= bits:
            number = int(ip_address(address.strip())) >> (bits - int(length)) << (bits - int(length))
            kind = IPv4Network if bits == 32 else IPv6Network
            return kind((number, int(length)))
    return value


def _hostname(name: str) -> str:
    if not is_hostname(name):
        raise ValueError(f"{name!r} is not a host name; write one like mail.example.org")
    return name.lower()


def _name_server(text: str) -> str:
    name_server(text)
    return text


Size = Annotated[int, BeforeValidator(parse_size), Field(ge=0)]
Span = Annotated[float, BeforeValidator(parse_span), Field(ge=0)]
FilePath = Annotated[Path, AfterValidator(in_folder)]
Networks = tuple[Annotated[Network, BeforeValidator(_network)], ...]
HostName = Annotated[str, AfterValidator(_hostname)]
NameServer = Annotated[str, AfterValidator(_name_server)]  # `networks.name_server` reads it


class Section(BaseModel):
    """One table of the configuration file. Unknown keys are errors: a typo must never be a silent default."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    @field_validator("*", mode="before")
    @classmethod
    def _no_guessing(cls, value: object, info: ValidationInfo) -> object:
        """pydantic takes "yes", "on" and 1 for true; TOML has a word for it."""
        kind = cls.model_fields[info.field_name or ""].annotation
        if kind in (bool, bool | None) and not isinstance(value, bool | None):
            shown = f'"{value}"' if isinstance(value, str) else str(value)
            raise ValueError(f"{shown[:60]} does not fit here; write true or false")
        return value

"""What a domain should have in the DNS, printed: as lines of a zone file with comments, or as JSON.

Behind `posthouse domain add`, `posthouse domain dns` and `posthouse dkim dns`.
"""

import asyncio
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from posthouse.cli import opening, output
from posthouse.cli.resolver import chosen

if TYPE_CHECKING:
    from posthouse.net.dns import Resolver
    from posthouse.senderauth.domain_records import DomainRecord
    from posthouse.senderauth.own_keys import Look
    from posthouse.store.database import Tx
    from posthouse.store.dkim_keys import DkimKey

LOOKUP = 5.0  # seconds for a question to the resolver


def keys_of(options: output.Options, name: str) -> "tuple[str, list[DkimKey]]":
    """The canonical name of a domain of ours, and its keys. Raises `NotFound`."""
    from posthouse.base.errors import NotFound
    from posthouse.store import accounts, dkim_keys

    domain = accounts.canonical_domain(name)

    def work(tx: "Tx") -> "list[DkimKey]":
        if not accounts.is_ours(tx, domain):
            raise NotFound(f"domain {domain} is not one of ours: `posthouse domain list` shows them")
        return dkim_keys.of_domain(tx, domain)

    return domain, opening.read(options, work)


def show(options: output.Options, name: str, resolver: str, as_json: bool, purposes: Sequence[str] = ()) -> None:
    """Print the records of a domain; `purposes` are those wanted, all by default."""
    from posthouse.senderauth import domain_records

    settings = opening.settings(options)
    domain, keys = keys_of(options, name)
    sending = domain_records.Sending.of(settings)
    records = domain_records.wanted(domain, settings.hostname, keys, settings.reports.addresses, sending)
    records = [record for record in records if not purposes or record.purpose in purposes]
    looks = asked(chosen(options, resolver, LOOKUP), records)
    retiring = [key for key in keys if key.state == "retiring"]
    if as_json:
        policy = {} if purposes else {"mta_sts_policy": domain_records.policy(settings.hostname)}
        print(
            json.dumps({"domain": domain, "records": facts(records, looks), "retiring": _retiring(retiring)} | policy)
        )
        return
    put(options, records, looks, retiring)
    if not keys and (not purposes or "DKIM" in purposes):
        comment = f"; {domain} has no keys to sign with: `posthouse dkim rotate {domain}` makes them"
        output.console(options).print(comment, markup=False, soft_wrap=True)
    if not purposes:
        screen = output.console(options)
        screen.print(
            f"; The policy for https://mta-sts.{domain}/.well-known/mta-sts.txt:", markup=False, soft_wrap=True
        )
        for line in domain_records.policy(settings.hostname).splitlines():
            screen.print(f";   {line}", markup=False, soft_wrap=True)


def asked(resolver: "Resolver", records: "Sequence[DomainRecord]") -> "list[Look]":
    """What the DNS has of each."""
    from posthouse.senderauth import domain_records

    async def run() -> "list[Look]":
        return await domain_records.compare(resolver, records)

    return asyncio.run(run())


def put(
    options: output.Options,
    records: "Sequence[DomainRecord]",
    looks: "Sequence[Look | None]",
    retiring: "Sequence[DkimKey]" = (),
) -> None:
    """Lines for people, which a zone file takes as they are; a look that is None: nobody asked."""
    from rich.text import Text

    from posthouse.base.clock import SystemClock

    screen = output.console(options)
    for record, look in zip(records, looks, strict=True):
        said = Text(f"; {record.purpose}: {record.why}")
        if look is not None:
            said.append(". " + word(look), style={True: "green", False: "yellow", None: "dim"}[look.present])
            if look.trouble:
                said.append(output.clean(f" ({look.trouble})"))
        screen.print(said, soft_wrap=True)
        screen.print(record.line, markup=False, soft_wrap=True)
    now = SystemClock().now()
    for key in retiring:
        screen.print(f"; {key.name}: {withdraw(key, now)}", markup=False, soft_wrap=True)


def word(look: "Look") -> str:
    """Whether the DNS has a record, in words."""
    return {True: "In the DNS", False: "NOT in the DNS", None: "No answer"}[look.present]


def withdraw(key: "DkimKey", now: int) -> str:
    """What is to be done about the record of a retiring key."""
    from posthouse.servers.rotation import KEPT

    until = key.changed + KEPT
    if now < until:
        return f"may be withdrawn after {output.when(until)[:10]}"
    return f"withdraw its record: nothing needs it since {output.when(until)[:10]}"


def facts(records: "Sequence[DomainRecord]", looks: "Sequence[Look | None]") -> list[dict[str, Any]]:
    """The records for programs."""
    return [
        {
            "purpose": record.purpose,
            "name": record.name,
            "type": record.kind,
            "value": record.value,
            "strings": list(record.strings) if record.kind == "TXT" else [],
            "zone": record.line,
            "why": record.why,
        }
        | ({"in_dns": look.present, "seen": look.trouble} if look is not None else {})
        for record, look in zip(records, looks, strict=True)
    ]


def _retiring(keys: "Sequence[DkimKey]") -> list[dict[str, str]]:
    from posthouse.base.clock import SystemClock

    now = SystemClock().now()
    return [{"name": key.name, "says": withdraw(key, now)} for key in keys]

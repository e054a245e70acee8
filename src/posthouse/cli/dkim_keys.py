"""`posthouse dkim keys`, `rotate` and `dns`: the keys that sign the mail of our domains."""

import asyncio
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from posthouse.cli import domain_dns, opening, output
from posthouse.cli.resolver import Option, chosen

if TYPE_CHECKING:
    from posthouse.senderauth.own_keys import Look
    from posthouse.store.database import Tx
    from posthouse.store.dkim_keys import DkimKey

_Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_Domain = Annotated[str, typer.Argument(help="A domain of ours.")]


def keys(
    context: typer.Context,
    domain: Annotated[str, typer.Argument(help="Only those of this domain.")] = "",
    resolver: Option = "",
    as_json: _Json = False,
) -> None:
    """Show the keys of our domains, how they stand, and whether the DNS has their records."""
    from posthouse.senderauth import own_keys
    from posthouse.store import dkim_keys

    found = domain_dns.keys_of(context.obj, domain)[1] if domain else opening.read(context.obj, dkim_keys.all_keys)
    asked = chosen(context.obj, resolver, domain_dns.LOOKUP)

    async def look() -> "list[Look]":
        places = asyncio.Semaphore(20)

        async def one(key: "DkimKey") -> "Look":
            async with places:
                return await own_keys.look([asked], key.name, key.record)

        return list(await asyncio.gather(*(one(key) for key in found)))

    looks = asyncio.run(look())
    settings = opening.settings(context.obj)
    if not resolver and any(look.present and not key.seen for key, look in zip(found, looks, strict=True)):
        opening.tell(settings.data, "signing")  # the server need not wait for its next round
    from posthouse.base.clock import SystemClock

    now = SystemClock().now()
    if as_json:
        print(json.dumps([_facts(key, look, now) for key, look in zip(found, looks, strict=True)]))
        return
    rows = [
        (
            key.domain,
            key.selector,
            key.algorithm,
            key.state,
            output.age(now - key.created),
            {True: "yes", False: "NO", None: "no answer"}[look.present],
            _says(key, look, settings.signing.sign, now, takes_over(key, found)),
        )
        for key, look in zip(found, looks, strict=True)
    ]
    empty = "There are no keys: `posthouse dkim rotate DOMAIN` makes some, `posthouse domain add` too."
    columns = ("Domain", "Selector", "Algorithm", "State", "Age", "In the DNS", "What that means")
    output.show(context.obj, False, columns, rows, empty, ("What that means",))


def takes_over(key: "DkimKey", keys: "Sequence[DkimKey]") -> int:
    """When an announced key may take the place of the one that signs, in microseconds; 0: nothing has to be waited for,
    or its record was not seen yet."""
    from posthouse.servers.rotation import SETTLED

    replaces = any(
        (one.domain, one.algorithm, one.state) == (key.domain, key.algorithm, "used") and one.seen for one in keys
    )
    return key.seen + SETTLED if key.seen and replaces else 0


def _says(key: "DkimKey", look: "Look", sign: str, now: int, after: int = 0) -> str:
    if sign == "never":
        return "mail is not signed, as signing.sign says"
    if key.state == "retiring":
        says = domain_dns.withdraw(key, now)
        return "is forgotten within an hour" if look.present is False and says.startswith("withdraw its") else says
    said = f": {look.trouble}" if look.trouble else ""
    if key.state == "used" and (look.present is not False or sign == "always"):
        return f"signs mail{said}"
    if look.present is False:
        does = "does not sign until its record is published" if key.state == "used" else "publish its record"
        return f"{does}{said}. `posthouse dkim dns {key.domain}` shows it"
    if after and sign != "always":
        return (
            f"signs in the first round after {output.when(after)[:16]} UTC: the DNS must have had it for an hour{said}"
        )
    return f"signs soon{said}"


def _facts(key: "DkimKey", look: "Look", now: int) -> dict[str, Any]:
    return {
        "domain": key.domain,
        "selector": key.selector,
        "algorithm": key.algorithm,
        "state": key.state,
        "created": output.when(key.created),
        "since": output.when(key.changed),
        "name": key.name,
        "record": key.record,
        "in_dns": look.present,
        "seen": look.trouble,
    } | ({"says": domain_dns.withdraw(key, now)} if key.state == "retiring" else {})


def rotate(
    context: typer.Context,
    domain: _Domain,
    anew: Annotated[
        bool, typer.Option("--anew", help="Make others in place of those that wait to be published.")
    ] = False,
    as_json: _Json = False,
) -> None:
    """Make new keys for a domain and show what to publish. They sign once the DNS has them, the old ones until then."""
    from posthouse.base.clock import SystemClock
    from posthouse.senderauth import domain_records, own_keys
    from posthouse.store import dkim_keys

    name, known = domain_dns.keys_of(context.obj, domain)
    settings = opening.settings(context.obj)
    waiting = {key.algorithm for key in known if key.state == "announced"}
    algorithms = [one for one in settings.signing.algorithms if anew or one not in waiting]
    now = SystemClock().now()
    made = own_keys.make(algorithms, now)

    def work(tx: "Tx") -> "list[DkimKey]":
        if made:
            dkim_keys.add(tx, name, made, now)
        return [key for key in dkim_keys.of_domain(tx, name) if key.state == "announced"]

    announced = opening.write(context.obj, work)
    opening.tell(settings.data, "signing")
    records = [one for one in domain_records.wanted(name, settings.hostname, announced) if one.purpose == "DKIM"]
    if as_json:
        output.done(
            context.obj, True, "", domain=name, made=len(made), records=domain_dns.facts(records, [None] * len(records))
        )
        return
    screen = output.console(context.obj)
    says = "Publish these records" if made else "Keys wait to be published already (--anew makes others)"
    replaces = any(key.state == "used" for key in known)
    when = (
        "once the DNS has had them for an hour; the old ones sign until then" if replaces else "once the DNS has them"
    )
    screen.print(f"; {says}; the server uses them {when}:", markup=False, soft_wrap=True)
    domain_dns.put(context.obj, records, [None] * len(records))


def dns(context: typer.Context, domain: _Domain, resolver: Option = "", as_json: _Json = False) -> None:
    """Show the DNS records of a domain's keys, as a zone file has them."""
    domain_dns.show(context.obj, domain, resolver, as_json, ("DKIM",))

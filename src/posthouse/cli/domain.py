"""`posthouse domain`: the domains this server takes mail for."""

from typing import TYPE_CHECKING, Annotated

import typer

from posthouse.cli import domain_dns, opening, output
from posthouse.cli.resolver import Option

if TYPE_CHECKING:
    from posthouse.store.database import Tx
    from posthouse.store.dkim_keys import DkimKey

app = typer.Typer(help="The domains this server takes mail for.", no_args_is_help=True)
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Yes = Annotated[bool, typer.Option("--yes", help="Take a name without a dot, too.")]


@app.command()
def add(context: typer.Context, name: str, yes: Yes = False, as_json: Json = False) -> None:
    """Take a domain as ours, make its keys, and show what to publish in the DNS."""
    from posthouse.base.clock import SystemClock
    from posthouse.base.errors import Permanent
    from posthouse.senderauth import domain_records, own_keys
    from posthouse.store import accounts, dkim_keys

    name = accounts.canonical_domain(name)
    if "." not in name and not yes:
        raise Permanent(f"{name} has no dot: a domain looks like example.org. Say --yes if you mean it")
    settings, now = opening.settings(context.obj), SystemClock().now()
    made = own_keys.make(settings.signing.algorithms, now) if settings.signing.sign != "never" else []

    def work(tx: "Tx") -> "list[DkimKey]":
        accounts.add_domain(tx, name, now)
        return dkim_keys.add(tx, name, made, now) if made else []

    keys = opening.write(context.obj, work)
    opening.tell(settings.data, "signing")
    sending = domain_records.Sending.of(settings)
    records = domain_records.wanted(name, settings.hostname, keys, settings.reports.addresses, sending)
    nobody_asked: list[None] = [None] * len(records)
    text = f"Domain {name} is ours now. Next: posthouse account add NAME@{name}"
    if as_json:
        output.done(context.obj, True, text, domain=name, records=domain_dns.facts(records, nobody_asked))
        return
    output.done(
        context.obj, False, f"{text}\nTo be published in the DNS (`posthouse domain dns {name}` shows it again):\n"
    )
    domain_dns.put(context.obj, records, nobody_asked)


@app.command()
def dns(context: typer.Context, name: str, resolver: Option = "", as_json: Json = False) -> None:
    """Show what a domain should have in the DNS, as a zone file has it, and what it has."""
    domain_dns.show(context.obj, name, resolver, as_json)


@app.command("list")
def list_(context: typer.Context, as_json: Json = False) -> None:
    """List the domains."""
    from posthouse.store import accounts

    rows = [(name, count, output.when(created)) for name, count, created in opening.read(
        context.obj, accounts.list_domains)]  # fmt: skip
    empty = "No domains yet. Add one: posthouse domain add example.org"
    output.show(context.obj, as_json, ("Domain", "Addresses", "Added"), rows, empty)


@app.command()
def remove(context: typer.Context, name: str, as_json: Json = False) -> None:
    """Give a domain up, with its keys; its accounts must be gone."""
    from posthouse.store import accounts

    opening.write(context.obj, accounts.remove_domain, name)
    output.done(context.obj, as_json, f"Domain {name} is not ours any more.", domain=name)

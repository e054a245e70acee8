"""`posthouse domain`: the domains this server takes mail for."""

from typing import Annotated

import typer

from posthouse.cli import opening, output

app = typer.Typer(help="The domains this server takes mail for.", no_args_is_help=True)
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Yes = Annotated[bool, typer.Option("--yes", help="Take a name without a dot, too.")]


@app.command()
def add(context: typer.Context, name: str, yes: Yes = False, as_json: Json = False) -> None:
    """Take a domain as ours."""
    from posthouse.base.clock import SystemClock
    from posthouse.base.errors import Permanent
    from posthouse.store import accounts

    name = accounts.canonical_domain(name)
    if "." not in name and not yes:
        raise Permanent(f"{name} has no dot: a domain looks like example.org. Say --yes if you mean it")
    opening.write(context.obj, accounts.add_domain, name, SystemClock().now())
    output.done(
        context.obj, as_json, f"Domain {name} is ours now. Next: posthouse account add NAME@{name}", domain=name
    )


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
    """Give a domain up; its accounts must be gone."""
    from posthouse.store import accounts

    opening.write(context.obj, accounts.remove_domain, name)
    output.done(context.obj, as_json, f"Domain {name} is not ours any more.", domain=name)

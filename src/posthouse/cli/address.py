"""`posthouse address`: aliases and catch-alls, the other ways to an account."""

from typing import TYPE_CHECKING, Annotated

import typer

from posthouse.cli import opening, output

if TYPE_CHECKING:
    from posthouse.store.model import AddressRow

app = typer.Typer(help="Aliases and catch-alls.", no_args_is_help=True)
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Alias = Annotated[str, typer.Argument(help="The alias; @example.org is the catch-all of a domain.")]


@app.command()
def add(
    context: typer.Context,
    alias: Alias,
    target: Annotated[str, typer.Argument(help="An account, or any other address.")],
    as_json: Json = False,
) -> None:
    """Lead an address to an account or to another address; several targets may share an alias."""
    from posthouse.store import accounts

    opening.write(context.obj, accounts.add_address, alias, target)
    output.done(context.obj, as_json, f"Mail for {alias} goes to {target}.", alias=alias, target=target)


@app.command("list")
def list_(context: typer.Context, as_json: Json = False) -> None:
    """List all addresses and where they lead."""
    from posthouse.store import accounts

    rows = [
        (f"{row.local_part}@{row.domain}", row.account or row.target, _kind(row))
        for row in opening.read(context.obj, accounts.list_addresses)
    ]
    output.show(context.obj, as_json, ("Address", "Leads to", "Kind"), rows, "No addresses yet.")


def _kind(row: "AddressRow") -> str:
    """own: the account's name itself; alias: another way, to it or to an address elsewhere."""
    return "own" if row.account == f"{row.local_part}@{row.domain}" else "alias"


@app.command()
def remove(
    context: typer.Context,
    alias: Alias,
    target: Annotated[str | None, typer.Argument(help="Only this target.")] = None,
    as_json: Json = False,
) -> None:
    """Remove an alias, or one of its targets."""
    from posthouse.store import accounts

    count = opening.write(context.obj, accounts.remove_address, alias, target)
    output.done(context.obj, as_json, f"Removed {count} of {alias}.", alias=alias, removed=count)

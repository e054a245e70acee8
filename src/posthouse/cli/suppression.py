"""`posthouse suppression`: addresses that refused mail for good, and are not sent to again for a while."""

from typing import TYPE_CHECKING, Annotated

import typer

from posthouse.cli import opening, output

if TYPE_CHECKING:
    from posthouse.store.database import Tx

app = typer.Typer(help="Addresses that are not sent to any more.", no_args_is_help=True)
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Account = Annotated[str, typer.Option("--account", help="Only for this account; default: for all.")]


def _id(tx: "Tx", account: str) -> int | None:
    from posthouse.store import accounts

    return accounts.find_account(tx, account).id if account else None


@app.command("list")
def list_(
    context: typer.Context,
    account: Annotated[str, typer.Option("--account", help="Only the list of this account.")] = "",
    most: Annotated[int, typer.Option("--most", min=1, max=100_000, help="How many at the most.")] = 1000,
    as_json: Json = False,
) -> None:
    """List the addresses, with the reason and what the other server said."""
    from posthouse.base.clock import SystemClock
    from posthouse.store import suppression

    now = SystemClock().now()
    rows = [
        (
            entry.address,
            name or "all",
            entry.reason,
            output.when(entry.since),
            output.when(entry.until) if entry.until else "for good",
            entry.reply,
        )
        for name, entry in opening.read(
            context.obj, lambda tx: suppression.listing(tx, now, _id(tx, account), most=most)
        )
    ]
    columns = ("Address", "Account", "Reason", "Since", "Until", "Reply")
    output.show(context.obj, as_json, columns, rows, "No address is suppressed.", folded=("Reply",))


@app.command()
def add(
    context: typer.Context,
    address: Annotated[str, typer.Argument(help="Who is not to be sent to.")],
    account: Account = "",
    reason: Annotated[str, typer.Option("--reason", help="Why, in a few words.")] = "by the operator",
    days: Annotated[float, typer.Option("--days", min=0, max=36500, help="For so long; 0: for good.")] = 0,
    as_json: Json = False,
) -> None:
    """Put an address on the list."""
    from posthouse.base.clock import SystemClock
    from posthouse.store import suppression

    now = SystemClock().now()
    address = suppression.canonical(address)
    until = now + int(days * 86_400_000_000) if days else 0

    def work(tx: "Tx") -> None:
        owner = _id(tx, account)
        everybody = suppression.EVERYBODY if owner is None else owner
        suppression.remove(tx, address, everybody)
        suppression.add(tx, suppression.Entry(everybody, address, reason[:200], "", now, until))

    opening.write(context.obj, work)
    text = f"{address} is on the list of {account or 'this server: nobody here sends there any more'}."
    output.done(context.obj, as_json, text, address=address, account=account, until=until)


@app.command()
def remove(
    context: typer.Context,
    address: Annotated[str, typer.Argument(help="Who may be sent to again.")],
    account: Annotated[
        str, typer.Option("--account", help="Off the list of this account only; default: off all.")
    ] = "",
    as_json: Json = False,
) -> None:
    """Take an address off the list, so that it is tried again."""
    from posthouse.base.errors import NotFound
    from posthouse.store import suppression

    address = suppression.canonical(address)
    count = opening.write(context.obj, lambda tx: suppression.remove(tx, address, _id(tx, account)))
    if not count:
        raise NotFound(f"{address} is not on the list{f' of {account}' if account else ''}")
    output.done(context.obj, as_json, f"{address} may be sent to again.", address=address, removed=count)

"""`posthouse srs`: the key by which senders of forwarded mail are rewritten, and what rewritten addresses say."""

from typing import Annotated

import typer

from posthouse.cli import opening, output

app = typer.Typer(help="Senders of forwarded mail (SRS).", no_args_is_help=True)
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def reverse(
    context: typer.Context,
    address: Annotated[str, typer.Argument(help="An address like SRS0=...@mail.example.org.")],
    as_json: Json = False,
) -> None:
    """Show whom a rewritten address stands for."""
    from posthouse.base.clock import SystemClock
    from posthouse.base.errors import Permanent
    from posthouse.delivery import srs
    from posthouse.delivery.forwarding import KEY
    from posthouse.store import keys
    from posthouse.wire.address import Address

    parsed = Address.parse(address)
    if parsed is None:
        raise Permanent(f"{address!r} is not an address")
    found = srs.reverse(parsed, opening.write(context.obj, keys.usable, KEY), SystemClock().now())
    if isinstance(found, srs.Fault):
        raise Permanent(f"{address}: {found.value}")
    output.done(context.obj, as_json, str(found), address=address, origin=str(found))


@app.command()
def rotate(context: typer.Context, as_json: Json = False) -> None:
    """Make a new key. Addresses made with the last one are believed still; wait 21 days before you do it again."""
    from posthouse.delivery.forwarding import KEY
    from posthouse.store import keys

    opening.write(context.obj, keys.rotate, KEY)
    output.done(context.obj, as_json, "Forwarded mail is signed with a new key from now on.")

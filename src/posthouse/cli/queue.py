"""`posthouse queue`: mail that waits to be sent to other servers."""

from typing import Annotated, Any

import typer

from posthouse.cli import opening, output

app = typer.Typer(help="Mail that waits to be sent.", no_args_is_help=True)
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("list")
def list_(
    context: typer.Context,
    most: Annotated[int, typer.Option("--most", min=1, max=10_000, help="How many messages at the most.")] = 100,
    as_json: Json = False,
) -> None:
    """List the messages in the queue, oldest first, a line for each recipient."""
    from posthouse.base import ids
    from posthouse.store import outbox

    rows: list[tuple[Any, ...]] = []
    for message, recipients in opening.read(context.obj, outbox.listing, 0, most):
        for one in recipients:
            said = f"{one.last_code} {one.last_status} {one.last_text}".strip() if one.last_text else ""
            next_ = output.when(one.next_attempt) if one.state == "due" else one.state
            row = (ids.to_text(message.id), output.when(message.created), message.sender or "<>", message.size)
            rows.append((*row, one.address, one.attempts, next_, said))
    columns = ("Id", "Since", "Sender", "Size", "Recipient", "Attempts", "Next", "Last reply")
    output.show(context.obj, as_json, columns, rows, "The queue is empty.", folded=("Last reply",))

"""`posthouse account quota`: what accounts hold and how much they may."""

from typing import TYPE_CHECKING, Annotated

import typer

from posthouse.base.errors import Permanent
from posthouse.cli import opening, output

if TYPE_CHECKING:
    from posthouse.store.quota import Usage

Storage = Annotated[
    str | None, typer.Option("--storage", help='Octets like 5GB; "none", or "default" for limits.quota_storage.')
]
Messages = Annotated[str | None, typer.Option("--messages", help='A number of messages, or "none".')]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def register(app: typer.Typer) -> None:
    """Put this command under `posthouse account`."""
    app.command()(quota)


def quota(
    context: typer.Context,
    address: Annotated[str | None, typer.Argument(help="The account; without it all are listed.")] = None,
    storage: Storage = None,
    messages: Messages = None,
    as_json: Json = False,
) -> None:
    """Show what accounts hold, or limit one. Mail for an account that is full is put off until there is room."""
    from posthouse.store import accounts
    from posthouse.store import quota as stored

    default = opening.settings(context.obj).limits.quota_storage
    if address is not None and (storage is not None or messages is not None):
        octets = None if storage is None else _octets(storage)
        opening.write(context.obj, stored.set_limits, address, octets, None if messages is None else _count(messages))
    elif storage is not None or messages is not None:
        raise Permanent("say which account the quota is for: posthouse account quota NAME --storage 5GB")
    rows = opening.read(context.obj, stored.of_all, default)
    if address is not None:
        account = opening.read(context.obj, accounts.find_account, address)
        rows = [row for row in rows if row.account_id == account.id]
    if as_json:
        columns = ("Account", "Octets", "Octets limit", "Messages", "Messages limit")
        output.show(context.obj, True, columns, [row[1:3] + row[4:5] + row[3:4] + row[5:] for row in rows], "")
        return
    columns = ("Account", "Holds", "Of", "Messages", "Of at most")
    output.show(context.obj, False, columns, [_shown(row) for row in rows], "No accounts yet.")


def _shown(row: "Usage") -> tuple[str, ...]:
    from posthouse.base.units import format_size, human_size

    storage = format_size(row.storage_limit) if row.storage_limit else "no limit"
    return row.name, human_size(row.size), storage, str(row.messages), str(row.message_limit or "no limit")


def _octets(text: str) -> int:
    from posthouse.base.units import parse_size
    from posthouse.store.quota import AS_SETTINGS

    if text == "default":
        return AS_SETTINGS
    if text == "none":
        return 0
    try:
        octets = parse_size(text)
    except ValueError as error:
        raise Permanent(f'--storage: {error}, or "none", or "default"') from error
    if not isinstance(octets, int) or octets <= 0:
        raise Permanent('--storage: a quota of nothing would refuse all mail; write a size, "none" or "default"')
    return octets


def _count(text: str) -> int:
    if text == "none":
        return 0
    if not text.isascii() or not text.isdigit() or not 0 < int(text) < 1 << 31:
        raise Permanent('--messages: write a number above 0, or "none"')
    return int(text)

"""`posthouse mailbox`: the mailboxes of an account, and who else may use them."""

from typing import TYPE_CHECKING, Annotated

import typer

from posthouse.base.errors import NotFound, Permanent
from posthouse.cli import opening, output

if TYPE_CHECKING:
    from posthouse.store.database import Tx
    from posthouse.store.model import Mailbox

app = typer.Typer(help="Mailboxes, and who else may use them.", no_args_is_help=True)
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Owner = Annotated[str, typer.Argument(help="The account whose mailbox it is.")]
LEVELS = {"read": "lrs", "write": "lrswite", "all": "lrswipkxtea", "none": ""}


@app.command("list")
def list_(context: typer.Context, owner: Owner, as_json: Json = False) -> None:
    """List the mailboxes of an account."""
    from posthouse.store import accounts, acl, mailboxes

    def look(tx: "Tx") -> list[tuple[object, ...]]:
        account = accounts.find_account(tx, owner)
        return [
            (m.name, m.messages, m.unseen, m.size, ", ".join(f"{e.name} {e.rights}" for e in acl.entries(tx, m.id)))
            for m in mailboxes.list_all(tx, account.id)
        ]

    columns = ("Mailbox", "Messages", "Unseen", "Octets", "Shared with")
    output.show(context.obj, as_json, columns, opening.read(context.obj, look), "No mailboxes.", ("Shared with",))


@app.command()
def acl(
    context: typer.Context,
    owner: Owner,
    mailbox: Annotated[str, typer.Argument(help="The mailbox, like INBOX or Work/2026.")],
    who: Annotated[str | None, typer.Argument(help='An account; "anyone" is all of them.')] = None,
    rights: Annotated[str | None, typer.Argument(help="read, write, all, none, or letters of RFC 4314.")] = None,
    as_json: Json = False,
) -> None:
    """Show who else may use a mailbox, or let somebody. They find it as Shared/OWNER/MAILBOX."""
    from posthouse.store import accounts
    from posthouse.store import acl as stored

    if who is not None and rights is None:
        raise Permanent("say what is to be permitted: read, write, all or none")
    if who is not None and rights is not None:
        wanted = _meant(rights)

        def change(tx: "Tx") -> None:
            found = _mailbox(tx, owner, mailbox)
            account_id = stored.ANYONE if who == "anyone" else accounts.find_account(tx, who).id
            if account_id == found.account_id:
                raise Permanent(f"{who} owns the mailbox and may do everything there")
            stored.grant(tx, found, account_id, wanted)

        opening.write(context.obj, change)
    rows = opening.read(context.obj, lambda tx: stored.entries(tx, _mailbox(tx, owner, mailbox).id))
    shown = [(row.name, row.rights) for row in rows]
    output.show(context.obj, as_json, ("Account", "Rights"), shown, "Nobody but the owner.")


def _mailbox(tx: "Tx", owner: str, name: str) -> "Mailbox":
    from posthouse.store import accounts, mailboxes

    found = mailboxes.by_name(tx, accounts.find_account(tx, owner).id, name)
    if found is None:
        raise NotFound(f"{owner} has no mailbox {name!r}: `posthouse mailbox list {owner}` shows them")
    return found


def _meant(text: str) -> frozenset[str]:
    from posthouse.imap.commands.acl import meant
    from posthouse.imap.tokens import BadSyntax

    try:
        return meant(LEVELS.get(text, text))
    except BadSyntax as error:
        raise Permanent(f"{text!r} names {error}") from error

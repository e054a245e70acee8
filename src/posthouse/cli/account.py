"""`posthouse account`: people and programs with mailboxes and a password."""

import secrets
import sys
from typing import Annotated

import typer

from posthouse.base.errors import Permanent
from posthouse.cli import account_login, account_quota, opening, output

app = typer.Typer(help="Accounts: who has mailboxes and a password.", no_args_is_help=True)
account_login.register(app)
account_quota.register(app)
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
FromStdin = Annotated[bool, typer.Option("--password-stdin", help="Read the password from standard input.")]
Generate = Annotated[bool, typer.Option("--generate", help="Make up a password and print it.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


def _password(from_stdin: bool, generate: bool) -> tuple[str, bool]:
    """The password and whether we made it up."""
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n"), False
    if generate or not sys.stdin.isatty():
        return secrets.token_urlsafe(15), True
    return str(typer.prompt("Password", hide_input=True, confirmation_prompt=True)), False


@app.command()
def add(
    context: typer.Context,
    address: str,
    name: Annotated[str, typer.Option(help="The name of the person.")] = "",
    password_stdin: FromStdin = False,
    generate: Generate = False,
    as_json: Json = False,
) -> None:
    """Make an account. Without a terminal and without --password-stdin a password is made up and printed."""
    from posthouse.auth import passwords
    from posthouse.base.clock import SystemClock
    from posthouse.store import accounts

    address = "@".join(accounts.split_address(address))
    least = opening.settings(context.obj).auth.password_strength
    password, made_up = _password(password_stdin, generate)
    passwords.check_password(password, least, (address, name))
    made = passwords.make(password)
    opening.write(context.obj, accounts.add_account, address, made.hash, SystemClock().now(), name, made.scram)
    shown = {"password": password} if made_up else {}
    text = f"Account {address} is ready." + (f" Its password is {password} {account_login.ONCE}" if made_up else "")
    output.done(context.obj, as_json, text, account=address, **shown)


@app.command("list")
def list_(context: typer.Context, as_json: Json = False) -> None:
    """List the accounts."""
    from posthouse.store import accounts, credentials

    second = opening.read(context.obj, credentials.with_second_factor)
    rows = [
        (
            a.name,
            a.display_name,
            output.when(a.created),
            "disabled" if a.disabled else "active",
            "on" if a.id in second else "off",
        )
        for a in opening.read(context.obj, accounts.list_accounts)
    ]
    empty = "No accounts yet. Add one: posthouse account add alice@example.org"
    output.show(context.obj, as_json, ("Account", "Name", "Added", "State", "Second factor"), rows, empty)


@app.command()
def remove(context: typer.Context, address: str, yes: Yes = False, as_json: Json = False) -> None:
    """Remove an account with all its mail."""
    from posthouse.store import accounts

    opening.read(context.obj, accounts.find_account, address)
    if not yes and not sys.stdin.isatty():
        raise Permanent(f"removing {address} removes all its mail: say --yes if you mean it")
    if not yes:
        typer.confirm(f"Remove {address} and all its mail?", abort=True)
    opening.write(context.obj, accounts.remove_account, address)
    output.done(context.obj, as_json, f"Account {address} and its mail are gone.", account=address)


@app.command()
def password(
    context: typer.Context,
    address: str,
    password_stdin: FromStdin = False,
    generate: Generate = False,
    as_json: Json = False,
) -> None:
    """Give an account a new password."""
    from posthouse.auth import passwords
    from posthouse.auth.login import salt_of
    from posthouse.base.clock import SystemClock
    from posthouse.store import accounts, credentials
    from posthouse.store.database import Tx

    def look(tx: Tx) -> credentials.Candidate:
        return credentials.of_account(tx, accounts.find_account(tx, address).id)

    account = opening.read(context.obj, look)
    new, made_up = _password(password_stdin, generate)
    passwords.check_password(new, opening.settings(context.obj).auth.password_strength, (account.name,))
    made = passwords.make(new, salt=salt_of(account))

    def change(tx: Tx) -> None:
        accounts.set_password(tx, account.account_id, made.hash, SystemClock().now(), made.scram)

    opening.write(context.obj, change)
    shown = {"password": new} if made_up else {}
    text = f"{address} has a new password." + (f" Its password is {new} {account_login.ONCE}" if made_up else "")
    output.done(context.obj, as_json, text, account=address, **shown)

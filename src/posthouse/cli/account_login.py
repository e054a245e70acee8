"""`posthouse account ...`: what else an account logs in with, in whose name it sends, and who tried to log in.

App passwords are for one program each, tokens for programs that speak OAUTHBEARER, certificates for machines. With a
second factor (TOTP) on, mail programs need app passwords.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from posthouse.base.errors import NotFound, Permanent
from posthouse.cli import opening, output

if TYPE_CHECKING:
    from posthouse.store.credentials import Candidate

ONCE = "(shown this once; --json prints it for programs)"
KINDS = {
    "app": "app password",
    "token": "token",
    "certificate": "certificate",
    "totp": "second factor",
    "cram": "CRAM-MD5 password",
}
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Scope = Annotated[
    list[str] | None, typer.Option("--scope", help="What it is good for: smtp, imap, pop3. Repeatable; default: all.")
]
Network = Annotated[
    list[str] | None, typer.Option("--network", help="From where it may be used, like 192.0.2.0/24. Repeatable.")
]
Days = Annotated[int, typer.Option("--days", min=0, help="After so many days it is good no more; 0: never.")]
Label = Annotated[str, typer.Argument(help="A name for it, like phone or backup.")]

app_password = typer.Typer(help="App passwords: one for each program or device.", no_args_is_help=True)
token = typer.Typer(help="Bearer tokens (OAUTHBEARER, XOAUTH2) that this server gives out.", no_args_is_help=True)
certificate = typer.Typer(help="Client certificates that log in (EXTERNAL).", no_args_is_help=True)
totp = typer.Typer(help="The second factor: codes of an authenticator app.", no_args_is_help=True)
cram_md5 = typer.Typer(help="CRAM-MD5, which needs a readable password; for old devices.", no_args_is_help=True)
send_as = typer.Typer(help="In whose name an account may send besides its own addresses.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Put these commands under `posthouse account`."""
    for name, group in (
        ("app-password", app_password),
        ("token", token),
        ("certificate", certificate),
        ("totp", totp),
        ("cram-md5", cram_md5),
        ("send-as", send_as),
    ):
        app.add_typer(group, name=name)
    app.command()(logins)


def _account(context: typer.Context, address: str) -> "Candidate":
    from posthouse.store import accounts, credentials
    from posthouse.store.database import Tx

    def look(tx: Tx) -> credentials.Candidate:
        return credentials.of_account(tx, accounts.find_account(tx, address).id)

    return opening.read(context.obj, look)


def _bounds(scope: list[str] | None, network: list[str] | None, days: int) -> dict[str, Any]:
    """The bounds of a credential as they are stored."""
    from posthouse.base.clock import SystemClock
    from posthouse.base.networks import parse_networks

    scopes, networks = sorted(set(scope or ())), list(network or ())
    for one in scopes:
        if one not in ("smtp", "imap", "pop3"):
            raise Permanent(f"there is no scope {one!r}: take smtp, imap or pop3")
    for one in networks:
        try:
            parse_networks(one)
        except ValueError as error:
            raise Permanent(f"{one!r} is not a network: write it like 192.0.2.0/24 or 2001:db8::/32") from error
    expires = SystemClock().now() + days * 86_400_000_000 if days else 0
    return {"scopes": " ".join(scopes), "networks": " ".join(networks), "expires": expires}


def _add(context: typer.Context, account: "Candidate", kind: str, secret: str, **fields: Any) -> None:
    from posthouse.base.clock import SystemClock
    from posthouse.store import credentials

    opening.write(context.obj, credentials.add, account.account_id, kind, secret, SystemClock().now(), **fields)


def _remove(context: typer.Context, address: str, kind: str, label: str = "") -> None:
    from posthouse.store import credentials

    account = _account(context, address)
    if not opening.write(context.obj, credentials.remove, account.account_id, kind, label):
        raise NotFound(f"{account.name} has no {KINDS[kind]}" + (f" with the name {label!r}" if label else ""))


def _list(context: typer.Context, address: str, kind: str, as_json: bool, empty: str) -> None:
    rows = [
        (
            one.label,
            one.scopes or "all",
            one.networks or "anywhere",
            output.when(one.expires) if one.expires else "never",
            output.when(one.created),
            f"{output.when(one.used)} from {one.used_ip}" if one.used else "never",
        )
        for one in _account(context, address).of_kind(kind)
    ]
    output.show(context.obj, as_json, ("Name", "For", "From", "Expires", "Made", "Last used"), rows, empty)


@app_password.command("add")
def add_app_password(
    context: typer.Context,
    address: str,
    label: Label,
    scope: Scope = None,
    network: Network = None,
    days: Days = 0,
    as_json: Json = False,
) -> None:
    """Make an app password and print it: it is shown this once."""
    from posthouse.auth import passwords
    from posthouse.auth.login import salt_of

    account = _account(context, address)
    password = passwords.new_app_password()
    made = passwords.make(password, salt=salt_of(account))
    bounds = _bounds(scope, network, days)
    _add(context, account, "app", passwords.fast_hash(password), label=label, scram=made.scram, **bounds)
    text = f"The app password {label!r} of {account.name} is {password} {ONCE}"
    output.done(context.obj, as_json, text, account=account.name, label=label, password=password)


@app_password.command("list")
def list_app_passwords(context: typer.Context, address: str, as_json: Json = False) -> None:
    """List the app passwords of an account, and when each was last used."""
    _list(context, address, "app", as_json, "No app passwords yet.")


@app_password.command("remove")
def remove_app_password(context: typer.Context, address: str, label: Label, as_json: Json = False) -> None:
    """Take an app password back."""
    _remove(context, address, "app", label)
    output.done(context.obj, as_json, f"The app password {label!r} is good no more.", label=label)


@token.command("add")
def add_token(
    context: typer.Context,
    address: str,
    label: Label,
    scope: Scope = None,
    network: Network = None,
    days: Days = 90,
    as_json: Json = False,
) -> None:
    """Make a bearer token and print it: it is shown this once."""
    from posthouse.auth import passwords

    account = _account(context, address)
    made = passwords.new_token()
    _add(context, account, "token", passwords.fast_hash(made), label=label, **_bounds(scope, network, days))
    text = f"The token {label!r} of {account.name} is {made} {ONCE}"
    output.done(context.obj, as_json, text, account=account.name, label=label, token=made)


@token.command("list")
def list_tokens(context: typer.Context, address: str, as_json: Json = False) -> None:
    """List the tokens of an account."""
    _list(context, address, "token", as_json, "No tokens yet.")


@token.command("remove")
def remove_token(context: typer.Context, address: str, label: Label, as_json: Json = False) -> None:
    """Take a token back."""
    _remove(context, address, "token", label)
    output.done(context.obj, as_json, f"The token {label!r} is good no more.", label=label)


@certificate.command("add")
def add_certificate(
    context: typer.Context,
    address: str,
    label: Label,
    file: Annotated[Path, typer.Argument(help="The certificate, PEM.")],
    scope: Scope = None,
    network: Network = None,
    as_json: Json = False,
) -> None:
    """Let a client certificate log in. The port's `client_ca` must have made it."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes

    try:
        made = x509.load_pem_x509_certificate(file.read_bytes())
    except FileNotFoundError:
        raise Permanent(f"{file}: there is no such file") from None
    except (OSError, ValueError) as error:
        raise Permanent(f"{file} is no PEM certificate: {error}") from error
    account = _account(context, address)
    fingerprint = made.fingerprint(hashes.SHA256()).hex()
    _add(context, account, "certificate", fingerprint, label=label, **_bounds(scope, network, 0))
    text = f"The certificate {label!r} logs in as {account.name}."
    output.done(context.obj, as_json, text, account=account.name, label=label, fingerprint=fingerprint)


@certificate.command("list")
def list_certificates(context: typer.Context, address: str, as_json: Json = False) -> None:
    """List the certificates of an account."""
    _list(context, address, "certificate", as_json, "No certificates yet.")


@certificate.command("remove")
def remove_certificate(context: typer.Context, address: str, label: Label, as_json: Json = False) -> None:
    """A certificate logs in no more."""
    _remove(context, address, "certificate", label)
    output.done(context.obj, as_json, f"The certificate {label!r} is good no more.", label=label)


@totp.command("on")
def totp_on(
    context: typer.Context,
    address: str,
    secret: Annotated[str, typer.Option(help="Finish: the secret that the first call printed.")] = "",
    code: Annotated[str, typer.Option(help="Finish: the code that the app shows now.")] = "",
    as_json: Json = False,
) -> None:
    """Ask for a second factor. The first call prints a secret for the authenticator app; call again with it and the
    code of the app, which proves that the app has it. From then on mail programs need app passwords."""
    import time

    from posthouse.auth import totp as codes

    account = _account(context, address)
    if code and not secret:
        raise Permanent("--code needs --secret: the secret that the first call printed")
    if not secret:
        made = codes.new_secret()
        uri = codes.uri(made, account.name, opening.settings(context.obj).hostname)
        text = (
            f"Put this into the authenticator app:\n{uri}\n\nor, typed by hand, this secret:\n{made}\n\n"
            f"Then, with the code that the app shows:\n"
            f"posthouse account totp on {account.name} --secret {made} --code CODE"
        )
        output.done(context.obj, as_json, text, account=account.name, secret=made, uri=uri)
        return
    try:
        right = codes.matches(secret.upper(), code, int(time.time()))
    except ValueError as error:
        raise Permanent("this is not the secret that was printed") from error
    if not right:
        raise Permanent("the code does not fit: look at the app's code of this moment, and at this machine's clock")
    _add(context, account, "totp", secret.upper())
    text = f"The second factor of {account.name} is on. Mail programs need app passwords from now on."
    output.done(context.obj, as_json, text, account=account.name)


@totp.command("off")
def totp_off(context: typer.Context, address: str, as_json: Json = False) -> None:
    """The password alone is enough again."""
    _remove(context, address, "totp")
    output.done(context.obj, as_json, f"The second factor of {address} is off.", account=address)


@cram_md5.command("on")
def cram_on(context: typer.Context, address: str, as_json: Json = False) -> None:
    """Make a password for CRAM-MD5 alone and print it. It is kept in readable form: that is how CRAM-MD5 works."""
    from posthouse.auth import passwords

    if not any(listen.cram_md5 for listen in opening.settings(context.obj).listen):
        raise Permanent("CRAM-MD5 is not offered: set cram_md5 = true at the [[listen]] of a port first")
    account = _account(context, address)
    password = passwords.new_app_password()
    _add(context, account, "cram", password)
    text = f"The CRAM-MD5 password of {account.name} is {password} {ONCE}"
    output.done(context.obj, as_json, text, account=account.name, password=password)


@cram_md5.command("off")
def cram_off(context: typer.Context, address: str, as_json: Json = False) -> None:
    """Forget the password for CRAM-MD5."""
    _remove(context, address, "cram")
    output.done(context.obj, as_json, f"{address} has no password for CRAM-MD5 any more.", account=address)


@send_as.command("add")
def add_send_as(
    context: typer.Context,
    address: str,
    other: Annotated[str, typer.Argument(help='An address, "@example.org" for all of a domain, or "*" for anybody.')],
    as_json: Json = False,
) -> None:
    """Let an account send in the name of an address."""
    from posthouse.store import accounts

    opening.write(context.obj, accounts.grant, address, other)
    output.done(context.obj, as_json, f"{address} may send as {other}.", account=address, address=other)


@send_as.command("list")
def list_send_as(context: typer.Context, address: str, as_json: Json = False) -> None:
    """List what was granted to an account."""
    from posthouse.store import accounts

    rows = [(one,) for one in opening.read(context.obj, accounts.grants, address)]
    output.show(context.obj, as_json, ("May send as",), rows, "Only its own addresses.")


@send_as.command("remove")
def remove_send_as(context: typer.Context, address: str, other: str, as_json: Json = False) -> None:
    """Take that right back."""
    from posthouse.store import accounts

    opening.write(context.obj, accounts.grant, address, other, False)
    output.done(context.obj, as_json, f"{address} may not send as {other} any more.", account=address, address=other)


def logins(
    context: typer.Context,
    address: str,
    most: Annotated[int, typer.Option("--most", min=1, max=1000, help="So many, the newest first.")] = 50,
    as_json: Json = False,
) -> None:
    """List the attempts to log in to an account, right and wrong."""
    from posthouse.store import attempts

    account = _account(context, address)
    opening.tell(opening.settings(context.obj).data, "logins")  # those of the last seconds wait in the server
    rows = [
        (output.when(one.at), one.service, one.mechanism, one.ip, one.result, one.credential)
        for one in opening.read(context.obj, attempts.of_account, account.account_id, most)
    ]
    head = ("When", "Service", "How", "From", "Result", "Credential")
    output.show(context.obj, as_json, head, rows, "Nobody has tried yet.")

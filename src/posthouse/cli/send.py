"""`posthouse send`: submit a message through a server, this one or any other, with our own SMTP client.

Without --server it goes to the server of the configuration file, on this machine, trusting its certificate.
The exit code is 0 only if every recipient was taken; --verbose shows the whole conversation.
"""

import asyncio
import json
import mimetypes
import os
import random
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple, cast

import typer

from posthouse.base.errors import Permanent
from posthouse.cli import output

if TYPE_CHECKING:
    from posthouse.base.settings import Settings
    from posthouse.mime.compose import Attachment
    from posthouse.queue.results import Report
    from posthouse.queue.routes import Credentials, Host, TlsMode

PASSWORD = "POSTHOUSE_PASSWORD"  # noqa: S105 - the name of a variable
PIECE = 65536
GREETING = 20.0  # seconds to wait for a server's first word
MODES = ("auto", "starttls", "implicit", "none")


class _Way(NamedTuple):
    """Where the message goes, and whose certificates are trusted there."""

    host: "Host"
    ca: Path | None
    address: str = ""  # where the host is, if not where its name says


def send(
    context: typer.Context,
    recipients: Annotated[list[str], typer.Argument(help="Addresses to send to.")],
    sender: Annotated[str, typer.Option("--from", help="Address to send from; default: the login name.")] = "",
    subject: Annotated[str, typer.Option(help="Subject of the message.")] = "",
    text: Annotated[str | None, typer.Option(help="Its text; default: read from standard input.")] = None,
    file: Annotated[
        Path | None, typer.Option("--file", help="Send this message (.eml) as it is; - is standard input.")
    ] = None,
    server: Annotated[str, typer.Option(metavar="HOST[:PORT]", help="Default: the server of the configuration.")] = "",
    attach: Annotated[list[Path] | None, typer.Option("--attach", help="Attach this file; may be repeated.")] = None,
    tls: Annotated[
        str,
        typer.Option(
            help="starttls, implicit, none, or auto: by the port (465: implicit, 25: none, any other: starttls)."
        ),
    ] = "auto",
    ca: Annotated[Path | None, typer.Option(help="PEM file of the CA to trust; default: the system's.")] = None,
    user: Annotated[str, typer.Option(help="Login name; default: the address of --from.")] = "",
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help=f"Read the password from the input's first line; else ${PASSWORD}.")
    ] = False,
    no_login: Annotated[bool, typer.Option("--no-login", help="Do not log in.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show the conversation.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Send a message through a server, and show what it says to each recipient."""
    if tls not in MODES:
        raise typer.BadParameter(f"write one of {', '.join(MODES)}", param_hint="--tls")
    if not sender and not user:
        raise typer.BadParameter("say who sends: --from you@example.org", param_hint="--from")
    if tls == "none" and not no_login and server:
        raise typer.BadParameter("a password is not sent without TLS; add --no-login", param_hint="--tls")
    if attach and file is not None:
        raise typer.BadParameter("--file is sent as it is: it takes no attachments", param_hint="--attach")
    sender = sender or user
    for address in (sender, *recipients):
        _look_at(address)
    attachments = [_attachment(path) for path in attach or ()]
    password = "" if no_login else _password(password_stdin, user or sender)
    way = _way(context.obj, server, tls, ca, "" if no_login else user or sender, password)
    content = _content(file, text, sender, recipients, subject, attachments)
    report = asyncio.run(_submit(way, sender, tuple(dict.fromkeys(recipients)), content))
    if way.host.tls == "starttls" and any("did not answer" in line for line in report.transcript):
        sys.stderr.write("A port that is silent may want TLS from the first byte: try --tls implicit.\n")
    if any("certificate not accepted" in verdict.text for verdict in report.verdicts.values()):
        sys.stderr.write(
            "The certificate is not trusted: give its CA with --ca FILE, or --tls none (with --no-login).\n"
        )
    _show(context.obj, report, verbose, as_json)
    if any(verdict.state != "delivered" for verdict in report.verdicts.values()):
        raise typer.Exit(1)


def _password(from_stdin: bool, user: str) -> str:
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    if given := os.environ.get(PASSWORD):
        return given
    if not sys.stdin.isatty():
        raise Permanent(f"no password for {user}: set {PASSWORD}, say --password-stdin, or --no-login")
    return str(typer.prompt(f"Password of {user}", hide_input=True, err=True))


def _way(options: output.Options, server: str, tls: str, ca: Path | None, user: str, password: str) -> _Way:
    from posthouse.queue.routes import Host

    if not server:
        from posthouse.cli import opening

        return _own(opening.settings(options), tls, ca, user, password)
    name, _, text = server.rpartition(":") if server.count(":") == 1 or "]:" in server else (server, "", "")
    if text and not (text.isdecimal() and 0 < int(text) < 65536):
        raise typer.BadParameter(f"{text} is not a port", param_hint="--server")
    port = int(text) if text else {"implicit": 465, "none": 25}.get(tls, 587)
    mode = _mode(tls, {465: "implicit", 25: "none"}.get(port, "starttls"))
    if mode == "none" and user:
        raise typer.BadParameter("a password is not sent without TLS; add --no-login, or --tls starttls")
    return _Way(Host(name.strip("[]"), port, mode, _login(user, password)), ca)


def _mode(wanted: str, fitting: str) -> "TlsMode":
    return cast("TlsMode", fitting if wanted == "auto" else wanted)


def _own(settings: "Settings", tls: str, ca: Path | None, user: str, password: str) -> _Way:
    """The submission port of the configuration, by its loopback or configured address."""
    from posthouse.base.settings import EVERY_ADDRESS
    from posthouse.queue.routes import Host

    wanted = {"implicit": ("submissions",), "starttls": ("submission",), "none": ("smtp",)}
    services = wanted.get(tls, ("submissions", "submission"))
    for service in services:
        for listen in settings.listen:
            if listen.service == service:
                address = "127.0.0.1" if listen.address in (EVERY_ADDRESS, "0.0.0.0", "::") else listen.address  # noqa: S104
                mode = _mode(tls, "implicit" if listen.implicit_tls else "starttls")
                if ca is None and settings.tls.certificate is None:
                    ca = settings.data / "tls" / "ca.pem"
                    if not ca.exists():
                        raise Permanent(f"{ca} is not there: start the server once, it makes its certificate")
                # A certificate names the host, not the address at which it listens here.
                return _Way(Host(settings.hostname, listen.port, mode, _login(user, password)), ca, address)
    raise Permanent(f"the configuration serves no {' or '.join(services)}: name a server with --server")


def _login(user: str, password: str) -> "Credentials | None":
    from posthouse.queue.routes import Credentials

    return Credentials(user, password) if user else None


def _look_at(address: str) -> None:
    """Before anything is asked or connected: could this be an address at all?"""
    from posthouse.wire.address import Address

    if Address.parse(address) is None:
        raise Permanent(f"{address!r} is not an address: it should look like name@example.org")


def _attachment(path: Path) -> "Attachment":
    from posthouse.mime.compose import Attachment

    try:
        content = path.read_bytes()
    except OSError as error:
        raise Permanent(f"{path} cannot be attached: {error.strerror}") from error
    kind, encoding = mimetypes.guess_type(path.name)
    return Attachment(content, "application/octet-stream" if kind is None or encoding else kind, path.name)


def _content(
    file: Path | None,
    text: str | None,
    sender: str,
    recipients: list[str],
    subject: str,
    attachments: "list[Attachment]",
) -> bytes:
    """The message, from a file or composed."""
    if file is not None:
        try:
            return sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
        except OSError as error:
            raise Permanent(f"{file} cannot be read: {error.strerror}") from error
    from posthouse.base.clock import SystemClock
    from posthouse.base.ids import IdSource, to_text
    from posthouse.mime import compose

    if text is None:
        text = sys.stdin.read()
    now = SystemClock().now()
    return compose.message(
        sender=compose.mailbox(sender),
        to=[compose.mailbox(recipient) for recipient in recipients],
        subject=subject,
        date=now,
        message_id=f"{to_text(IdSource().next(now))}@{sender.rpartition('@')[2] or 'localhost'}",
        text=text,
        attachments=attachments,
    )


async def _submit(way: _Way, sender: str, recipients: tuple[str, ...], content: bytes) -> "Report":
    from posthouse.base.clock import SystemClock
    from posthouse.net.dial import dial
    from posthouse.net.dns import SystemResolver, Unavailable
    from posthouse.queue import remote
    from posthouse.queue.outgoing import Outgoing
    from posthouse.queue.routes import Route, Router
    from posthouse.smtp.client import TIMEOUTS

    async def pieces() -> AsyncIterator[bytes]:
        for at in range(0, len(content), PIECE):
            yield content[at : at + PIECE]

    outgoing = Outgoing(sender, recipients, len(content), not content.isascii(), pieces)

    class Names(SystemResolver):
        """Names as the system knows them (/etc/hosts too); our own is here."""

        async def addresses(self, host: str) -> list[str]:
            try:
                found = await asyncio.get_running_loop().getaddrinfo(way.address or host, 0, type=socket.SOCK_STREAM)
            except OSError as error:
                raise Unavailable(f"{host} has no address: {error.strerror}") from error
            return [str(address[0]) for _, _, _, _, address in found]

    resolver = Names(SystemClock())
    router = Router(resolver, (), random.Random())  # noqa: S311 - there is nothing to choose
    # A person waits: a server that says nothing for so long will say nothing.
    patience = {**TIMEOUTS, "greeting": GREETING}
    sending = remote.Sender(router, dial, "localhost", timeouts=patience, ca=way.ca)
    return await sending.attempt(Route(destination=way.host.name, hosts=(way.host,)), outgoing)


def _show(options: output.Options, report: "Report", verbose: bool, as_json: bool) -> None:
    if as_json:
        results = [
            {
                "recipient": one,
                "ok": v.state == "delivered",
                "replied": v.remote,
                "code": v.code if v.remote else 0,
                "status": v.status,
                "text": v.text,
            }
            for one, v in report.verdicts.items()
        ]
        facts = {"ok": all(one["ok"] for one in results), "recipients": results, "tls": report.tls}
        print(json.dumps(facts | ({"transcript": report.transcript} if verbose else {})))
        return
    screen = output.console(options)
    if verbose:
        for line in report.transcript:
            screen.print(line, markup=False, soft_wrap=True, style="dim")
    for recipient, verdict in report.verdicts.items():
        taken = verdict.state == "delivered"
        refused = "[red]refused[/red]" if verdict.remote else "[red]not sent[/red]"
        screen.print("[green]taken[/green]  " if taken else refused, end=" ")
        # Without a server's reply there is a reason of our own, and no code.
        said = f"{verdict.code or ''} {verdict.status} {verdict.text}".strip() if verdict.remote else verdict.text
        screen.print(f"{recipient}: {said}", markup=False, soft_wrap=True)

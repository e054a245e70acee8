"""What `posthouse demo` prints for people: the dialogue of the proof, the ports, the accounts, lines to copy.

With `quiet` it prints nothing, except why the proof failed, on standard error.
"""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from posthouse import __version__
from posthouse.cli import output

if TYPE_CHECKING:
    from posthouse.cli.proof import Person, Proof, Turn

USUAL_OFFSET = 2000
SECURITY = {
    "smtp": "STARTTLS; for mail from other servers",
    "submission": "STARTTLS; for sending",
    "submissions": "TLS; for sending",
    "imap": "STARTTLS; for reading",
    "imaps": "TLS; for reading",
    "pop3": "STLS; for fetching",
    "pop3s": "TLS; for fetching",
}


class Screen:
    """Prints to standard output; colours follow the terminal, NO_COLOR and --no-color."""

    def __init__(self, *, quiet: bool, no_color: bool) -> None:
        self._quiet = quiet
        self._no_color = no_color

    def _console(self, *, stderr: bool = False) -> Any:
        return output.console(output.Options(None, self._no_color), stderr=stderr)

    def proved(self, proof: "Proof", seconds: float) -> None:
        """The dialogue, and that it went well."""
        screen = self._console()
        screen.print(f"[bold]Posthouse {__version__}[/bold]  demo\n")
        _dialogue(screen, proof)
        screen.print(f"[bold green]It works.[/bold green] Proved in {seconds:.1f} s from the start.\n")

    def failed(self, proof: "Proof", why: str, log: Path) -> None:
        """The dialogue up to where it broke off, and why."""
        if not self._quiet:
            screen = self._console()
            _dialogue(screen, proof)
        screen = self._console(stderr=True)
        screen.print("[bold red]The proof failed:[/bold red]", end=" ")
        screen.print(why, markup=False, soft_wrap=True)
        screen.print(f"The log is {log}", markup=False, soft_wrap=True)

    def ready(self, facts: Mapping[str, Any], people: "Sequence[Person]") -> None:
        """Everything that one needs to use it."""
        from rich.table import Table

        screen = self._console()
        ports = Table(box=None, pad_edge=False, header_style="bold", title_justify="left")
        for column in ("Service", "Address", "Security"):
            ports.add_column(column)
        for service, port in facts["ports"].items():
            ports.add_row(service, f"{facts['host']}:{port}", SECURITY[service])
        screen.print(ports)
        screen.print()
        accounts = Table(box=None, pad_edge=False, header_style="bold")
        accounts.add_column("Account", style="cyan")
        accounts.add_column("Password", style="cyan")
        for person in people:
            accounts.add_row(person.address, _plain(person.password))
        screen.print(accounts)
        screen.print()
        for name, path in (("Trust this CA", facts["ca"]), ("Folder", facts["dir"])):
            screen.print(f"[bold]{name}[/bold]", end="  ")
            screen.print(path, markup=False, soft_wrap=True)
        for title, text in lines_to_copy(facts, people).items():
            screen.print(f"\n[bold]{title}[/bold]")
            screen.print(text, markup=False, highlight=False, soft_wrap=True, style="cyan")
        screen.print(
            "\nMail to other domains is captured and shown here. [bold]Ctrl-C[/bold] stops; "
            "`posthouse demo --dir` with the folder above takes it up again.",
            soft_wrap=True,
        )

    def captured(self, facts: Mapping[str, object]) -> None:
        """Mail to another domain was kept."""
        if self._quiet:
            return
        recipients = facts.get("recipients")
        to = ", ".join(map(str, recipients)) if isinstance(recipients, (tuple, list)) else str(recipients)
        screen = self._console()
        screen.print("[bold yellow]captured[/bold yellow]", end=" ")
        text = f"from {facts.get('sender') or '<>'} to {to}: {facts.get('file')}"
        screen.print(_plain(text), markup=False, soft_wrap=True)

    def goodbye(self, folder: Path, port_offset: int) -> None:
        """After Ctrl-C."""
        screen = self._console()
        screen.print("\nStopped; nothing is lost. To take it up again:")
        offset = f" --port-offset {port_offset}" if port_offset != USUAL_OFFSET else ""
        screen.print(
            f"{output.called()} demo{offset} --dir {shlex.quote(str(folder))}",
            markup=False,
            soft_wrap=True,
            style="cyan",
        )


def _plain(text: str) -> str:
    """Text from outside cannot steer the terminal."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _dialogue(screen: Any, proof: "Proof") -> None:
    from rich.text import Text

    for chapter in proof.chapters:
        screen.print(f"[bold]{chapter.title}[/bold]")
        for turn in chapter.turns:
            screen.print(Text.assemble(*_line(turn)), soft_wrap=True)
        screen.print()


def _line(turn: "Turn") -> list[tuple[str, str]]:
    if turn.who == "C":
        return [("  C  ", "bold cyan"), (_plain(turn.text), "cyan")]
    if turn.who == "S":
        return [("  S  ", "bold green"), (_plain(turn.text), "")]
    return [("     ", ""), (_plain(turn.text), "dim italic")]


def lines_to_copy(facts: Mapping[str, Any], people: "Sequence[Person]") -> dict[str, str]:
    """Title -> a command for the shell, ready to paste."""
    ports, host, ca = facts["ports"], facts["host"], shlex.quote(facts["ca"])
    sender, reader = people[0], people[min(1, len(people) - 1)]
    me, my_password = sender.address, shlex.quote(sender.password)
    to, to_password = reader.address, reader.password
    user, to_user = shlex.quote(f"{me}:{sender.password}"), shlex.quote(f"{to}:{to_password}")
    python = f"""\
import imaplib, smtplib, ssl
from email.message import EmailMessage
from email.utils import formatdate
tls = ssl.create_default_context(cafile={facts["ca"]!r})
message = EmailMessage()
message["From"], message["To"], message["Date"] = {me!r}, {to!r}, formatdate()
message["Subject"] = "Hello from Python"
message.set_content("Hello.")
with smtplib.SMTP_SSL({host!r}, {ports["submissions"]}, context=tls) as smtp:
    smtp.login({me!r}, {sender.password!r})
    smtp.send_message(message)
with imaplib.IMAP4_SSL({host!r}, {ports["imaps"]}, ssl_context=tls) as imap:
    imap.login({to!r}, {to_password!r})
    imap.select("INBOX")
    print(imap.search(None, "ALL"))"""
    return {
        "Send with Posthouse": (
            f"POSTHOUSE_PASSWORD={my_password} {output.called()} send --server {host}:{ports['submission']} --ca {ca} "
            f"--from {me} --subject Hello --text Hello {to}"
        ),
        "Send with curl": (
            f"printf 'From: {me}\\r\\nTo: {to}\\r\\nDate: %s\\r\\nSubject: Hello\\r\\n\\r\\nHello.\\r\\n' "
            f'"$(date -R)" | '
            f"curl --cacert {ca} --user {user} --mail-from {me} --mail-rcpt {to} "
            f"--upload-file - smtps://{host}:{ports['submissions']}"
        ),
        "Read with curl": f"curl --cacert {ca} --user {to_user} 'imaps://{host}:{ports['imaps']}/INBOX;MAILINDEX=1'",
        "Send with swaks": (
            f"swaks --server {host} --port {ports['submission']} --tls --tls-verify --tls-ca-path {ca} "
            f"--auth PLAIN --auth-user {me} --auth-password {my_password} --from {me} --to {to}"
        ),
        "Both with Python": f"python3 - <<'END'\n{python}\nEND",
    }

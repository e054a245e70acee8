"""`posthouse demo`: a whole server on loopback that first proves itself.

It writes a configuration into a folder, runs what `posthouse serve` runs, makes the accounts, sends a message
through the real ports and reads it back (`proof.py`), says how to use it (`demo_screen.py`), and serves until
Ctrl-C. The folder can be taken up again with its mail. Nothing leaves the machine: the names it knows are in
the configuration, and mail to elsewhere is captured.
"""

import json
import os
import secrets
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from posthouse.base.errors import NotFound, Permanent, PosthouseError
from posthouse.cli.demo_screen import USUAL_OFFSET

if TYPE_CHECKING:
    from posthouse.app import App
    from posthouse.base.settings import Settings
    from posthouse.cli.proof import Person, Proof

DOMAIN = "posthouse.test"  # RFC 6761 section 6.2: it is nobody's
HOST = "127.0.0.1"
MARK = "# Written by `posthouse demo`"
DEFAULT_NAMES = ("alice", "bob")

# The file is written anew at each start: ports and paths are those of the command line.
CONFIGURATION = """\
{mark}, and written anew each time it runs: copy it to change it.
# `posthouse --config {path} account list` and the other commands work on the demo with it.
hostname = "mail.{domain}"
data = "data"
postmaster = "{postmaster}"

[storage]
reserve = "16 MiB"

[limits]
shutdown_grace = "3 s"

# Mail to other domains is kept in the folder data/captured and goes nowhere.
[relay]
capture = true

# The whole world of the demo. No resolver is asked.
[dns]
only_zone = true
[dns.zone."{domain}"]
MX = ["10 mail.{domain}"]
[dns.zone."mail.{domain}"]
A = ["127.0.0.1"]
"""
LISTEN = """
[[listen]]
service = "{service}"
address = "{address}"
port = {port}
allow_plaintext_auth = true
"""


def demo(
    context: typer.Context,
    port_offset: Annotated[
        int, typer.Option(min=0, max=64000, help="Added to every standard port: SMTP 25 becomes 2025.")
    ] = USUAL_OFFSET,
    folder: Annotated[
        Path | None,
        typer.Option("--dir", help="Where the demo lives, and is taken up again; default: a new temporary folder."),
    ] = None,
    account: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME:PASSWORD", help=f"An account name@{DOMAIN}; may be repeated. Default: alice, bob."),
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Stop after the proof: 0 if it went well, else 1.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print one JSON line when ready, and nothing else.")] = False,
) -> None:
    """Run a whole mail server on this machine and show that it works. Nothing leaves the machine."""
    started = time.monotonic()
    given = [_account(text) for text in account or ()]
    ports = _ports(port_offset)
    addresses = _loopback_addresses()
    _refuse_taken_ports(ports, addresses)
    made_here = folder is None
    place = Path(tempfile.mkdtemp(prefix="posthouse-demo-")) if folder is None else _folder(folder)
    run = _Run(place, ports, addresses, given, started, check=check, quiet=quiet, no_color=context.obj.no_color)
    run.serve()
    if check and made_here and not run.failure:
        shutil.rmtree(place, ignore_errors=True)
    elif not quiet and not check and not run.failure:
        run.screen.goodbye(place, port_offset)
    if run.failure:
        raise typer.Exit(1)


class _Run:
    """One run of the demo."""

    def __init__(
        self,
        folder: Path,
        ports: dict[str, int],
        addresses: Sequence[str],
        given: "Sequence[Person]",
        started: float,
        *,
        check: bool,
        quiet: bool,
        no_color: bool,
    ) -> None:
        from posthouse import config
        from posthouse.cli.demo_screen import Screen

        self.failure = ""
        self.screen = Screen(quiet=quiet, no_color=no_color)
        self._folder = folder
        self._ports = ports
        self._started = started
        self._check = check
        self._quiet = quiet
        self._people = _people(folder, given)
        path = folder / "posthouse.toml"
        path.write_text(_configuration(path, ports, addresses, self._people[0].address), "utf-8")
        self.settings: Settings = config.load(path)

    def serve(self) -> None:
        """Everything from here on is `posthouse serve`, but for what it says."""
        from posthouse.base import log
        from posthouse.cli import serve

        with open(self._folder / "posthouse.log", "ab") as file:
            log.configure("human", "info", file)
            serve.run(self.settings, self._ready, captured=self.screen.captured)

    async def _ready(self, app: "App") -> bool:
        """The server listens: make it a demo, prove it, say so. True: go on serving."""
        from posthouse.cli.proof import ProofFailed
        from posthouse.net.tls import client_context

        assert app.tls is not None
        ca = app.tls.ca
        assert ca is not None
        await _make_accounts(app, self._people)
        proof, problem = await self._prove(app.ports, client_context(verify=True, ca=ca))
        if isinstance(problem, ProofFailed):
            self.failure = str(problem)
            self.screen.failed(proof, self.failure, self._folder / "posthouse.log")
            return False
        if self._quiet:
            facts = self._facts(ca)
            sys.stdout.write(json.dumps(facts) + "\n")
            sys.stdout.flush()
        else:
            seconds = time.monotonic() - self._started
            self.screen.proved(proof, seconds)
            if not self._check:
                self.screen.ready(self._facts(ca), self._people)
        return not self._check

    async def _prove(self, ports: dict[str, int], context: Any) -> "tuple[Proof, PosthouseError | None]":
        from posthouse.cli.proof import Proof, ProofFailed

        sender, recipient = self._people[0], self._people[min(1, len(self._people) - 1)]
        message, message_id = _message(sender.address, recipient.address)
        proof = Proof(HOST, ports, context)
        try:
            await proof.run(sender, recipient, message, message_id)
        except ProofFailed as error:
            return proof, error
        return proof, None

    def _facts(self, ca: Path) -> dict[str, Any]:
        return {
            "host": HOST,
            "ports": self._ports,
            "accounts": {person.address: person.password for person in self._people},
            "ca": str(ca),
            "dir": str(self._folder),
            "pid": os.getpid(),
        }


def _account(text: str) -> "Person":
    """`NAME:PASSWORD`; the name may have @posthouse.test. A password may hold colons, but only ASCII: the
    proof types it in POP3's PASS and IMAP's LOGIN, where nothing else is sure to be understood."""
    from posthouse.cli.proof import Person

    name, colon, password = text.partition(":")
    name, _, domain = name.lower().partition("@")
    plain = name.replace("-", "").replace("_", "").replace(".", "")
    if not colon or not plain.isalnum() or not plain.isascii() or domain not in ("", DOMAIN):
        raise typer.BadParameter(f"{text!r}: write it as NAME:PASSWORD, like carol:secret123", param_hint="--account")
    if not password or not password.isascii() or not password.isprintable():
        raise typer.BadParameter(
            f"the password of {name} must be of printable ASCII characters, at least one", param_hint="--account"
        )
    return Person(f"{name}@{DOMAIN}", password)


def _ports(offset: int) -> dict[str, int]:
    from posthouse.base.settings import STANDARD_PORTS

    if max(STANDARD_PORTS.values()) + offset > 65535:
        raise typer.BadParameter("ports end at 65535", param_hint="--port-offset")
    return {str(service): port + offset for service, port in STANDARD_PORTS.items()}


def _loopback_addresses() -> list[str]:
    """127.0.0.1, and ::1 where this machine has it: `localhost` may mean either to a mail program."""
    addresses = [HOST]
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.bind(("::1", 0))
        addresses.append("::1")
    except OSError:
        pass
    return addresses


def _refuse_taken_ports(ports: dict[str, int], addresses: Sequence[str]) -> None:
    """Look before anything is written, so that one error can name every port that is not to be had."""
    taken: dict[int, str] = {}
    for service, port in ports.items():
        for address in addresses:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            with socket.socket(family, socket.SOCK_STREAM) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind((address, port))
                    probe.listen(1)
                except PermissionError:
                    raise Permanent(
                        f"port {port} ({service}) is below 1024 and needs root. "
                        "Choose higher ports, for instance: posthouse demo --port-offset 2000"
                    ) from None
                except OSError:
                    taken.setdefault(port, service)
    if taken:
        names = ", ".join(f"{port} ({service})" for port, service in taken.items())
        offset = next(iter(_free_offsets(ports)), 30000)
        verb, which = ("is", "port") if len(taken) == 1 else ("are", "ports")
        raise Permanent(
            f"{which} {names} on {HOST} {verb} taken by another program, perhaps by another demo. "
            f"Choose others, for instance: posthouse demo --port-offset {offset}"
        )


def _free_offsets(ports: dict[str, int]) -> Iterator[int]:
    """Offsets at which every port is free now."""
    standard = min(ports.values())
    for offset in range(3000, 60000, 1000):
        try:
            for port in ports.values():
                with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    probe.bind((HOST, port - standard + 25 + offset))
        except OSError:
            continue
        yield offset


def _folder(folder: Path) -> Path:
    """The folder of --dir, made if need be. A configuration that is not ours is not written over."""
    folder = folder.expanduser().resolve()
    configuration = folder / "posthouse.toml"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if configuration.exists() and not configuration.read_text("utf-8", "replace").startswith(MARK):
            raise Permanent(
                f"{configuration} is not a demo's: the demo would write over it. "
                f"Give --dir another folder, or run it: posthouse --config {configuration} serve"
            )
    except OSError as error:
        raise Permanent(
            f"--dir {folder} cannot be used: {error.strerror}. Name a folder that you can write to."
        ) from None
    return folder


def _people(folder: Path, given: "Sequence[Person]") -> "list[Person]":
    """The accounts: those given, then those of the last time; if there are none, alice and bob.

    The demo keeps its passwords readable beside its data (0600), to print them again the next time.
    """
    from posthouse.cli.proof import Person

    path = folder / "accounts.json"
    people = {person.address: person.password for person in given}
    try:
        kept = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        kept = {}
    for address, password in kept.items() if isinstance(kept, dict) else ():
        people.setdefault(str(address), str(password))
    if not people:
        people = {f"{name}@{DOMAIN}": secrets.token_urlsafe(9) for name in DEFAULT_NAMES}
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        json.dump(people, file, indent=1)
    return [Person(address, password) for address, password in people.items()]


def _configuration(path: Path, ports: dict[str, int], addresses: Sequence[str], postmaster: str) -> str:
    text = CONFIGURATION.format(mark=MARK, path=path, domain=DOMAIN, postmaster=postmaster)
    for service, port in ports.items():
        for address in addresses:
            text += LISTEN.format(service=service, address=address, port=port)
    return text


async def _make_accounts(app: "App", people: "Sequence[Person]") -> None:
    """Make the domain and the accounts, or give those that are there the printed passwords."""
    import asyncio

    from posthouse.auth import passwords
    from posthouse.store import accounts
    from posthouse.store.database import Tx

    # A demo's password may be short: it is printed on the screen anyway.
    hashes = await asyncio.gather(
        *(asyncio.to_thread(passwords.make, person.password, shortest=1) for person in people)
    )

    def make(tx: Tx) -> None:
        now = app.clock.now()
        if not any(name == DOMAIN for name, _, _ in accounts.list_domains(tx)):
            accounts.add_domain(tx, DOMAIN, now)
        for person, made in zip(people, hashes, strict=True):
            try:
                account_id = accounts.find_account(tx, person.address).id
                accounts.set_password(tx, account_id, made.hash, now, made.scram)
            except NotFound:
                name = person.address.partition("@")[0].capitalize()
                accounts.add_account(tx, person.address, made.hash, now, name, made.scram)

    await app.database.write(make)


def _message(sender: str, recipient: str) -> tuple[bytes, str]:
    """The message of the proof, and its Message-ID."""
    from email.utils import formatdate

    message_id = f"<{secrets.token_hex(8)}@demo.{DOMAIN}>"
    lines = [
        f"From: {sender.partition('@')[0].capitalize()} <{sender}>",
        f"To: {recipient.partition('@')[0].capitalize()} <{recipient}>",
        "Subject: Posthouse works",
        f"Date: {formatdate(localtime=True)}",
        f"Message-ID: {message_id}",
        "MIME-Version: 1.0",
        "Content-Type: text/plain; charset=utf-8",
        "",
        "Hello,",
        "",
        "this message went through submission with STARTTLS, was on disk before the",
        "server said 250, and came back over IMAP and POP3, byte for byte:",
        ".. even the lines that begin with a dot.",
        "",
        "Reply to it with any mail program: everything stays on this machine.",
        "",
    ]
    return "".join(line + "\r\n" for line in lines).encode(), message_id

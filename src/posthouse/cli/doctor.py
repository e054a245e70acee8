"""`posthouse doctor`: is everything around the server as it has to be, and what to do where it is not.

Each check is a row of `CHECKS`: a function that looks at one thing and returns `Seen`. They run at the same time, each
for `PATIENCE` seconds at the most; what a check raises is a failure of it alone. Nothing is changed, and nobody is
asked but the resolver. What the configuration file itself says is for `posthouse config check`.
"""

import asyncio
import ctypes
import json
import os
import shutil
import socket
import stat
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, TypeVar

import typer

from posthouse.base.errors import PosthouseError
from posthouse.cli import opening, output
from posthouse.cli.resolver import name_server

if TYPE_CHECKING:
    from posthouse.base.settings import Settings
    from posthouse.net.dns import Resolver, SystemResolver
    from posthouse.store.database import Tx

T = TypeVar("T")
State = Literal["ok", "warn", "fail", "untested"]
PATIENCE = 15.0  # seconds for a check
LOOKUP = 5.0  # seconds for a question to the resolver
STUCK = 4 * 3600  # seconds after which mail should have gone
MOST_ADDRESSES = 8  # of the host name whose names are asked for
MOST_DOMAINS = 50  # of ours that are looked at
MOST_NAMED = 5  # of them
DAYS_LEFT = 14  # of a certificate: fewer are a warning
_SECOND = 1_000_000
_COLOURS = {"ok": "green", "warn": "yellow", "fail": "red", "untested": "dim"}


class Seen(NamedTuple):
    """What a check found."""

    state: State
    says: str
    cure: str = ""  # what to do


_SILENT = Seen("untested", "the resolver gave no answer")


class Around(NamedTuple):
    """What the checks look at."""

    settings: "Settings"
    system: "SystemResolver | None"  # None: the settings alone answer
    resolver: "Resolver"  # with the answers of the settings
    now: int
    synchronised: Callable[[], bool | None]


def doctor(
    context: typer.Context,
    resolver: Annotated[
        str,
        typer.Option(metavar="HOST:PORT", help="Ask this resolver (an IP address) in place of the configured ones."),
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Look whether everything around the server is as it has to be. Exit code 1: something is not."""
    settings = opening.settings(context.obj)
    seen = asyncio.run(examine(_around(settings, resolver)))
    healthy = all(one.state != "fail" for _, one in seen)
    if as_json:
        print(json.dumps({"ok": healthy, "checks": [{"check": name, **one._asdict()} for name, one in seen]}))
    else:
        _show(context.obj, seen)
    if not healthy:
        raise typer.Exit(1)


def _around(settings: "Settings", resolver: str) -> Around:
    from posthouse.base.clock import SystemClock
    from posthouse.net.dns import SystemResolver, ZoneResolver, zone_of_text

    dns, clock = settings.dns, SystemClock()
    validating = {"auto": None, "yes": True, "no": False}[dns.validating]
    servers, port = (list(dns.nameservers), 53) if not resolver else name_server(resolver)
    system = SystemResolver(clock, servers, port=port, timeout=min(dns.timeout, LOOKUP), validating=validating)
    asked = None if dns.only_zone else system
    names = asked if asked is not None and not dns.zone else ZoneResolver(zone_of_text(dns.zone), asked)
    return Around(settings, asked, names, clock.now(), kernel_synchronised)


async def examine(around: Around, patience: float = PATIENCE) -> list[tuple[str, Seen]]:
    """All checks, in their order."""
    seen = await asyncio.gather(*(_one(look, around, patience) for look in CHECKS.values()))
    return list(zip(CHECKS, seen, strict=True))


async def _one(look: "Check", around: Around, patience: float) -> Seen:
    try:
        async with asyncio.timeout(patience):
            return await look(around)
    except TimeoutError:
        return Seen("fail", f"no result within {patience:g} s", "See what holds it up: the disk, or the resolver.")
    except (PosthouseError, OSError) as error:
        return Seen("fail", str(error))
    except Exception as error:  # a mistake of ours must not hide what the others found
        return Seen("fail", f"the check itself failed: {error!r}", "Please report it.")


def _show(options: output.Options, seen: list[tuple[str, Seen]]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("State", "Check"):
        table.add_column(title, no_wrap=True)
    table.add_column("What was seen, and what to do", overflow="fold")
    for name, one in seen:
        said = Text(one.says)
        if one.cure:
            said.append(f"\n{one.cure}", style="bold" if one.state != "untested" else "")
        table.add_row(Text(one.state, style=_COLOURS[one.state]), name, said)
    screen = output.console(options)
    if not screen.is_terminal:
        screen.width = output.WIDEST
    screen.print(table)


# The checks


async def configuration(around: Around) -> Seen:
    """What the file says, and what it points to."""
    from posthouse import config

    problems = await asyncio.to_thread(config.check, around.settings)
    if not problems:
        return Seen("ok", "nothing is wrong with it")
    wrong = any(not problem.warning for problem in problems)
    says = "; ".join(f"{problem.key}: {problem.text}" for problem in problems)
    return Seen("fail" if wrong else "warn", says, "`posthouse config check` tells the lines and the cures.")


async def resolver(around: Around) -> Seen:
    """Somebody answers questions to the DNS."""
    from posthouse.net.dns import NoSuchDomain, Unavailable

    if around.system is None:
        return Seen("ok", "nobody is asked: dns.only_zone is on")
    try:
        await around.system.answer(around.settings.hostname, "A")
    except NoSuchDomain:
        pass  # an answer, too
    except Unavailable as error:
        cure = "Mail to other domains waits until it answers: see dns.nameservers, or /etc/resolv.conf."
        return Seen("fail", str(error), cure)
    return Seen("ok", f"it answers for {around.settings.hostname}")


async def dnssec(around: Around) -> Seen:
    """A resolver that validates: without one there is no DANE."""
    if not around.settings.transport_security.dane:
        return Seen("ok", "DANE is off, as transport_security.dane says")
    if around.system is None:
        return Seen("warn", "DANE is off: nobody is asked, as dns.only_zone is on")
    found = await around.system.validation()
    if found.vouches and found.trusted:
        if found.deceived:
            cure = 'Set dns.validating = "no", or repair the resolver: forged answers would be believed.'
            return Seen("fail", f"the resolver says that it validates, and does not: {found.text}", cure)
        return Seen("ok" if found.refuses else "warn", f"DANE is on: {found.text}")
    if found.vouches:
        cure = (
            "Run a validating resolver on this machine (unbound is one out of the box), or set "
            'dns.validating = "yes" if nobody else can be on the way to this one.'
        )
        says = f"DANE is off: the resolver validates, but its answers could be changed on their way; {found.text}"
        return Seen("warn", says, cure)
    cure = "Run a resolver that validates on this machine; unbound is one out of the box."
    return Seen("warn", f"DANE is off: the resolver is not known to validate DNSSEC; {found.text}", cure)


async def host_name(around: Around) -> Seen:
    """The host name leads here."""
    from posthouse.net.local import is_of_this_machine

    name = around.settings.hostname
    addresses = await _addresses(around)
    if addresses is None:
        return _SILENT
    if not addresses:
        return Seen("fail", f"{name} has no address in the DNS", "Add an A or AAAA record, or correct `hostname`.")
    listed = ", ".join(addresses)
    if any(map(is_of_this_machine, addresses)):
        return Seen("ok", f"{name} is {listed}")
    cure = "Right behind a router that passes connections on to this machine; else correct the record or `hostname`."
    return Seen("warn", f"{name} is {listed}, which this machine has not", cure)


async def reverse_name(around: Around) -> Seen:
    """The addresses have a name: many servers want one (RFC 1912 section 2.1)."""
    from ipaddress import ip_address

    from posthouse.net.dns import NoSuchDomain, Unavailable

    name = around.settings.hostname
    addresses = await _addresses(around)
    if addresses is None:
        return _SILENT
    public = [address for address in addresses if ip_address(address).is_global][:MOST_ADDRESSES]
    if not public:
        return Seen("untested", f"{name} has no public address")
    bad: list[str] = []
    for address in public:
        try:
            names = await around.resolver.ptr(address)
        except NoSuchDomain:
            names = []
        except Unavailable:
            return _SILENT
        if name not in names:
            bad.append(f"{address} is called {', '.join(names[:5])}" if names else f"{address} has no name")
    if not bad:
        return Seen("ok", f"{', '.join(public)}: {name}")
    cure = f"Ask the owner of the network to set it to {name} (a PTR record): many servers refuse mail without it."
    return Seen("warn", "; ".join(bad), cure)


async def _addresses(around: Around) -> list[str] | None:
    """Those of the host name; None: the resolver did not say."""
    from posthouse.net.dns import NoSuchDomain, Unavailable

    try:
        return await around.resolver.addresses(around.settings.hostname)
    except NoSuchDomain:
        return []
    except Unavailable:
        return None


async def domains(around: Around) -> Seen:
    """What others are to believe of mail in the name of our domains: MX, SPF, keys, DMARC."""
    from posthouse.senderauth import domain_records
    from posthouse.store import accounts, dkim_keys

    def look(tx: "Tx") -> "dict[str, list[dkim_keys.DkimKey]]":
        names = [name for name, _, _ in accounts.list_domains(tx)]
        return {name: dkim_keys.of_domain(tx, name) for name in names[:MOST_DOMAINS]}

    found = await _from_store(around, look)
    if not found:
        return Seen("ok" if found is not None else "untested", "there are no domains yet")
    signs = around.settings.signing.sign != "never"
    missing: list[str] = []
    unknown = False
    for name, keys in found.items():
        records = domain_records.wanted(name, around.settings.hostname, keys, around.settings.reports.addresses)
        records = [one for one in records if one.purpose in ("MX", "SPF", "DMARC") or (one.purpose == "DKIM" and signs)]
        looks = await domain_records.compare(around.resolver, records)
        lacks = [
            f"{one.purpose} ({one.name.partition('._domainkey.')[0]})" if one.purpose == "DKIM" else one.purpose
            for one, look in zip(records, looks, strict=True)
            if look.present is False
        ]
        unknown = unknown or any(look.present is None for look in looks)
        if signs and not keys:
            lacks.append("any key to sign with")
        if lacks:
            missing.append(f"{name} lacks {', '.join(lacks)}")
    if missing:
        cure = (
            "`posthouse domain dns NAME` shows the records. Mail is not signed with a key that the DNS does not have."
        )
        return Seen("warn", "; ".join(missing[:MOST_NAMED]) + ("; ..." if missing[MOST_NAMED:] else ""), cure)
    return (
        _SILENT if unknown else Seen("ok", f"the DNS has what it should have of {', '.join(list(found)[:MOST_NAMED])}")
    )


async def port_25(around: Around) -> Seen:
    """The way out."""
    smart = around.settings.relay.smarthost
    if around.settings.relay.capture:
        return Seen("ok", "not needed: mail to other domains is captured")
    if smart is not None:
        return Seen("ok", f"not needed: mail to other domains goes by {smart.host}")
    cure = "Many providers close it: send a message elsewhere and look at `posthouse queue list`."
    return Seen("untested", "whether port 25 of other servers can be reached is not tried from here", cure)


async def certificate(around: Around) -> Seen:
    """What clients are shown: good, for the host name, and for a while yet."""
    from posthouse.config import wrong_with_certificate

    settings = around.settings
    path = settings.tls.certificate
    if path is None:
        path = settings.data / "tls" / "server.pem"
        cure = "Get one from a public CA (Let's Encrypt gives them free), and name it in [tls]."
        if not path.exists():
            return Seen("warn", "there is none yet: the server makes its own when it starts", cure)
        until = await asyncio.to_thread(_end_of, path)
        return Seen("warn", f"it is self-made, until {until:%Y-%m-%d}: mail programs will not trust it", cure)
    if says := await asyncio.to_thread(wrong_with_certificate, path, settings.tls.key, [settings.hostname]):
        return Seen("fail", says, "Renew it; a new file is taken up without a restart.")
    also = [one.certificate for one in settings.tls.named]
    also += [one.certificate for one in settings.listen if one.certificate is not None]
    ends = {one: await asyncio.to_thread(_end_of, one) for one in dict.fromkeys([path, *also])}
    first = min(ends, key=lambda one: ends[one])
    left = ends[first] - datetime.fromtimestamp(around.now / _SECOND, UTC)
    days = left // timedelta(days=1)
    text = f"{first} ends on {ends[first]:%Y-%m-%d}, in {days} days"
    if left <= timedelta(0):
        return Seen("fail", f"{first} ended on {ends[first]:%Y-%m-%d}", "Renew it.")
    if days < DAYS_LEFT:
        return Seen("warn", text, "Renew it, and see why that did not happen by itself.")
    return Seen("ok", f"it is for {settings.hostname}; {text}")


def _end_of(path: Path) -> datetime:
    from cryptography import x509

    try:
        return x509.load_pem_x509_certificates(path.read_bytes())[0].not_valid_after_utc
    except ValueError as error:
        raise OSError(f"{path} is no certificate: {error}") from error


async def disk(around: Around) -> Seen:
    """Room for mail."""
    from posthouse.base.units import human_size

    data, reserve = around.settings.data, around.settings.storage.reserve
    place = data
    while not place.exists() and place != place.parent:
        place = place.parent
    free = (await asyncio.to_thread(shutil.disk_usage, place)).free
    text = f"{human_size(free)} free for {data}"
    if free <= reserve:
        return Seen("fail", f"{text}: no mail is taken below {human_size(reserve)}", "Make room, or move `data`.")
    if free <= 4 * reserve:
        return Seen("warn", text, f"Make room: below {human_size(reserve)} no mail is taken.")
    return Seen("ok", text)


async def waiting(around: Around) -> Seen:
    """What waits in the queue, whether it waits too long, and what is paused."""
    from posthouse.cli.queue_options import plural
    from posthouse.queue import operating
    from posthouse.store import health, outbox_admin

    def look(tx: "Tx") -> tuple[outbox_admin.Counts, health.Stuck, list[str]]:
        stuck = health.stuck(tx, around.now - STUCK * _SECOND, around.now)
        return outbox_admin.counts(tx, around.now), stuck, [p.destination for p in operating.current(tx, around.now)]

    found = await _from_store(around, look)
    if found is None:
        return Seen("untested", "there is no database yet")
    counts, stuck, paused = found
    text = f"{plural(counts.messages, 'message')}; recipients: {counts.due} due, {counts.waiting} to be tried again, "
    text += f"{counts.claimed} under way, {counts.held} held"
    cures = []
    if stuck.recipients:
        worst = ", ".join(f"{name or 'here'} ({number})" for name, number in stuck.destinations)
        text += f". {stuck.recipients} wait for more than {STUCK // 3600} h: {worst}"
        cures.append("`posthouse queue list` shows what the other servers said.")
    if paused:
        names = ["everything" if name == "*" else name for name in paused[:3]] + ["others"] * (len(paused) > 3)
        text += f". Paused: {', '.join(names)}"
        cures.append("`posthouse queue pause --list` says why; `resume` ends it.")
    return Seen("warn" if cures else "ok", text, " ".join(cures))


async def clock(around: Around) -> Seen:
    """The time: TLS, DNSSEC and the queue depend on it."""
    from posthouse.store import health

    cure = "Set the time, and keep it right by NTP (systemd-timesyncd, chrony)."
    today = f"{datetime.fromtimestamp(around.now / _SECOND, UTC):%Y-%m-%d %H:%M} UTC"
    if around.now < datetime(2026, 1, 1, tzinfo=UTC).timestamp() * _SECOND:
        return Seen("fail", f"it is {today}, says the clock: before this program was written", cure)
    newest = await _from_store(around, health.newest) or 0
    if newest > around.now + 60 * _SECOND:
        return Seen(
            "fail", f"it is {today}, says the clock, and the newest message came at {output.when(newest)}", cure
        )
    if around.synchronised() is False:
        return Seen("warn", f"it is {today}; nobody keeps the clock right, says the kernel", cure)
    return Seen("ok", f"it is {today}")


def kernel_synchronised() -> bool | None:
    """Whether the kernel says that somebody keeps its clock right (adjtimex, without changing anything)."""
    try:
        state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.create_string_buffer(512))
    except (OSError, AttributeError):
        return None
    return None if state < 0 else state != 5  # TIME_ERROR: the clock is not synchronised


async def data_folder(around: Around) -> Seen:
    """Nobody else can read the mail."""
    data = around.settings.data
    try:
        folder = os.stat(data)
    except FileNotFoundError:
        return Seen("warn", f"{data} is not there yet", "The server makes it when it starts.")
    if not stat.S_ISDIR(folder.st_mode):
        return Seen("fail", f"{data} is no folder", "Correct `data`.")
    if folder.st_uid != os.geteuid() != 0:
        cure = "Run this command, and the server, as the owner of the folder."
        return Seen("fail", f"{data} belongs to somebody else (uid {folder.st_uid})", cure)
    secret = [data / "posthouse.db", data / "tls" / "ca.key", data / "tls" / "server.key", data / "admin.sock"]
    shown = [path for path in secret if path.exists() and path.stat().st_mode & 0o077]
    if shown:
        cure = f"Run `chmod go= {' '.join(map(str, shown))}`."
        return Seen("fail", f"others may open {', '.join(map(str, shown))}", cure)
    if folder.st_mode & 0o077:
        return Seen("warn", f"others may look into {data}", f"Run `chmod 700 {data}`.")
    return Seen("ok", f"{data} is open to its owner alone")


async def server(around: Around) -> Seen:
    """A running server answers."""
    data = around.settings.data
    try:
        answer = await asyncio.to_thread(_ask, data)
    except (FileNotFoundError, ConnectionRefusedError):
        return Seen("warn", "no server works on this data folder", "Start it: `posthouse serve`.")
    except (OSError, ValueError) as error:
        text = f"the server does not answer at {data / 'admin.sock'}: {error or type(error).__name__}"
        return Seen("fail", text, "Look at its log.")
    if answer.get("draining"):
        return Seen("warn", "it answers, but sends nothing: it is drained", "`posthouse queue undrain`, or a restart.")
    return Seen("ok", "it answers")


def _ask(data: Path) -> dict[str, Any]:
    """What the server says of its queue; whatever that is, it answers."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(5)
        folder = os.open(data, os.O_PATH | os.O_DIRECTORY)
        try:
            client.connect(f"/proc/self/fd/{folder}/admin.sock")  # as in cli/opening.py
        finally:
            os.close(folder)
        client.sendall(b'{"do": "queue.state"}\n')
        with client.makefile("rb") as answers:
            answer = json.loads(answers.readline())
    if not isinstance(answer, dict):
        raise ValueError("that is no answer")
    return answer


async def _from_store(around: Around, work: "Callable[[Tx], T]") -> "T | None":
    """Read in the store; None if there is none."""
    from posthouse.base.settings import storage_key
    from posthouse.store.sqlite import SqliteDatabase

    storage = around.settings.storage
    if not (around.settings.data / "posthouse.db").exists():
        return None
    key = storage_key(storage)
    database = await SqliteDatabase.open(around.settings.data, around.now, key, storage.inline_max)
    try:
        return await database.read(work)
    finally:
        await database.close()


Check = Callable[[Around], Awaitable[Seen]]
CHECKS: dict[str, Check] = {
    "configuration": configuration,
    "data folder": data_folder,
    "disk": disk,
    "clock": clock,
    "resolver": resolver,
    "DNSSEC": dnssec,
    "host name": host_name,
    "reverse name": reverse_name,
    "certificate": certificate,
    "domains": domains,
    "port 25": port_25,
    "queue": waiting,
    "server": server,
}

"""`posthouse spf check`: what SPF says about a client and a sender, and what it was found by."""

import asyncio
import json
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from posthouse.cli import output, resolver

if TYPE_CHECKING:
    from posthouse.net.dns import Resolver
    from posthouse.senderauth.spf import Result

app = typer.Typer(help="Who may send for a domain (SPF).", no_args_is_help=True)


@app.callback()
def _spf() -> None:
    """Who may send for a domain (SPF)."""


@app.command()
def check(
    context: typer.Context,
    ip: Annotated[str, typer.Option("--ip", metavar="IP", help="The address of the client.")] = "",
    helo: Annotated[str, typer.Option("--helo", metavar="NAME", help="The name it gave in EHLO.")] = "",
    mail_from: Annotated[
        str, typer.Option("--mail-from", metavar="ADDRESS", help="The sender; empty: the name in EHLO is checked.")
    ] = "",
    resolver: resolver.Option = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    batch: Annotated[
        bool,
        typer.Option("--batch", help="Read JSON lines with ip, helo, mailfrom and resolver; answer each with one."),
    ] = False,
) -> None:
    """Check whether an address may send mail for a domain. The last line is the result, a tab, and the explanation."""
    if batch:
        if ip or helo or mail_from:
            raise typer.BadParameter("with it, the lines say whom to check: leave --ip, --helo and --mail-from out")
        _batch(context.obj, resolver)
        return
    from posthouse.base.errors import Permanent

    if not ip:
        raise typer.BadParameter("say which address the mail came from", param_hint="--ip")
    if not (helo or mail_from):
        raise typer.BadParameter("say who sent: --mail-from, --helo or both", param_hint="--mail-from")
    try:
        found = asyncio.run(_check(_chosen(context.obj, resolver), ip, helo, mail_from))
    except ValueError as error:
        raise Permanent(str(error)) from None
    if as_json:
        said = found._asdict()
        print(json.dumps({**said, "lookups": [lookup._asdict() for lookup in found.lookups]}))
    else:
        _show(found)


def _chosen(options: output.Options, text: str) -> "Resolver":
    from posthouse.cli.resolver import chosen

    return chosen(options, text)


async def _check(asked: "Resolver", ip: str, helo: str, mail_from: str) -> "Result":
    from ipaddress import ip_address

    from posthouse.base.clock import SystemClock
    from posthouse.senderauth.spf import check_mail_from

    try:
        address = ip_address(ip.partition("%")[0])
    except ValueError:
        raise ValueError(f"{ip[:100]!r} is not an IP address") from None
    return await check_mail_from(asked, address, helo, mail_from, now=SystemClock().now())


def _show(found: "Result") -> None:
    def line(name: str, text: str) -> None:
        if text:
            print(f"{name:<10} {output.clean(text)}".replace("\n", " "))

    line("checked", f"{found.domain} ({found.identity})")
    for lookup in found.lookups:
        line("asked", f"{lookup.name} {lookup.kind}: {lookup.failure or ', '.join(lookup.values) or 'nothing'}")
    line("record", found.record)
    line("matched", found.mechanism)
    line("problem", found.problem)
    print(f"{found.result}\t{found.explanation}" if found.explanation else found.result)


def _batch(options: output.Options, default: str) -> None:
    async def run() -> None:
        resolvers: dict[str, Resolver] = {}
        while line := await asyncio.to_thread(sys.stdin.buffer.readline):
            if line.strip():
                print(json.dumps(await _answer(options, resolvers, line, default)), flush=True)

    asyncio.run(run())


def _case(line: bytes) -> dict[str, Any]:
    try:
        case = json.loads(line)
    except (ValueError, RecursionError):
        case = None
    if not isinstance(case, dict):
        raise ValueError('this is no JSON object like {"ip": "192.0.2.9", "mailfrom": "ann@example.org"}')
    return case


async def _answer(options: output.Options, resolvers: "dict[str, Resolver]", line: bytes, default: str) -> Any:
    """The answer to one line. One that cannot be used is answered as well, so that answers and lines stay in step."""
    try:
        case = _case(line)
        ip, helo, mail_from = (str(case.get(key) or "") for key in ("ip", "helo", "mailfrom"))
        where = str(case.get("resolver") or case.get("dns") or default)  # "dns": as test drivers for SPF call it
        if where not in resolvers:
            resolvers[where] = _chosen(options, where)
        if not ip:
            raise ValueError("ip is missing: the address the mail came from")
        found = await _check(resolvers[where], ip, helo, mail_from)
    except (ValueError, typer.BadParameter) as error:
        return {"result": "error", "explanation": "", "error": str(error)}
    return {"result": found.result, "explanation": found.explanation}

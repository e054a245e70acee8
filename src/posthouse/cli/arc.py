"""`posthouse arc`: verify the chain of a message in a file, and seal one. No server and no settings are needed.

Messages are read as by `posthouse dkim`: whole, with LF taken for CRLF where there is no CRLF.
"""

import asyncio
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from posthouse.cli import dkim as dkim_commands
from posthouse.cli import output
from posthouse.cli.resolver import Option, chosen

if TYPE_CHECKING:
    from posthouse.senderauth.arc import Chain

app = typer.Typer(help="Chains of forwarders (ARC): verify and seal.", no_args_is_help=True)
_File = Annotated[str, typer.Argument(help="A file with a message; - is standard input.")]


def _verified(options: output.Options, message: bytes, resolver: str) -> "Chain":
    from posthouse.base.clock import SystemClock
    from posthouse.senderauth import arc

    clock = SystemClock()
    asked = chosen(options, resolver, dkim_commands.LOOKUP)

    async def run() -> "Chain":
        return await arc.verify(message, asked.txt, clock.now() // 1_000_000)

    return asyncio.run(run())


@app.command()
def verify(
    context: typer.Context,
    file: _File = "-",
    resolver: Option = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON: everything the result rests on.")] = False,
) -> None:
    """Verify the chain of a message. The last line is pass, fail or none."""
    chain = _verified(context.obj, dkim_commands.read_message(file), resolver)
    if as_json:
        told = chain._asdict()
        told["results"] = [_told(results) for results in chain.results]
        told["sets"] = [{**seen._asdict(), "results": _told(seen.results)} for seen in chain.sets]
        print(json.dumps({"result": told.pop("word"), **told}))
    else:
        _show(context.obj, chain)
        print(chain.word)


def _told(results: "object") -> "object":
    from posthouse.senderauth.authres import Results

    assert isinstance(results, Results)
    return {
        "authserv_id": results.authserv_id,
        "methods": [{**one._asdict(), "properties": dict(one.properties)} for one in results.methods],
    }


def _show(options: output.Options, chain: "Chain") -> None:
    rows = [
        (
            str(seen.instance),
            seen.sealer,
            seen.seal or "not checked",
            seen.message or "not checked",
            " ".join(f"{one.method}={one.result}" for one in seen.results.methods) or "nothing",
            seen.reason,
        )
        for seen in chain.sets
    ]
    columns = ["Set", "Sealed by", "Seal", "Message", "What it saw", "What is wrong"]
    none = "The message has no chain." if chain.word == "none" else "The chain is not looked at any further."
    output.show(options, False, columns, rows, none, ["What it saw", "What is wrong"])
    for line in (chain.reason, *chain.weaknesses):
        if line:
            print(output.clean(line))


@app.command()
def seal(
    context: typer.Context,
    authserv_id: Annotated[str, typer.Option(help="Whose Authentication-Results are what was seen: our name.")],
    selector: Annotated[str, typer.Option(help="The name of the key below _domainkey in the domain.")],
    domain: Annotated[str, typer.Option(help="The domain that seals.")],
    key: Annotated[Path, typer.Option(metavar="FILE", help="The private key, in PEM.")],
    file: _File = "-",
    headers: Annotated[
        str, typer.Option(metavar="LIST", help="The fields to sign, with colons between; by default all that matter.")
    ] = "",
    time: Annotated[
        int | None, typer.Option(metavar="T", min=0, help="Seconds since 1970 for t=; by default now.")
    ] = None,
    resolver: Option = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON: what was found, and the fields.")] = False,
) -> None:
    """Verify the chain of a message, and print the three header fields of one more set."""
    from posthouse.base.clock import SystemClock
    from posthouse.senderauth import arc, authres
    from posthouse.senderauth import dkim as dkims

    sealer = arc.Sealer(domain, selector, dkim_commands.read_key(key), headers.split(":") if headers else ())
    message = dkim_commands.read_message(file)
    chain = _verified(context.obj, message, resolver)
    header, content = dkims.split(message)
    body = sealer.body()
    body.feed(content)
    now = SystemClock().now() // 1_000_000 if time is None else time
    made = sealer.fields(header, body, chain.word, authres.gathered(header, authserv_id), now)
    if not made:
        print("nothing to do: the newest seal says that the chain has failed, so no more is added", file=sys.stderr)
    if as_json:
        print(json.dumps({"cv": chain.word, "reason": chain.reason, "fields": made.decode("utf-8", "replace")}))
    else:
        sys.stdout.buffer.write(made)
        sys.stdout.buffer.flush()

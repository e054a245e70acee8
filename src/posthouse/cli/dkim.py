"""`posthouse dkim`: verify the signatures of a message in a file, and sign one; the keys of our domains are
`dkim_keys.py`.

To verify and sign, no server and no settings are needed. Both read the message whole. Lines that end with LF alone, as
in most files, are taken as if they ended with CRLF, unless there is a CRLF as well: then every byte is what it is. The
separator of a mailbox file on top ("From ...") is left out.
"""

import asyncio
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from posthouse.cli import dkim_keys, mime, output
from posthouse.cli.resolver import Option, chosen

if TYPE_CHECKING:
    from posthouse.senderauth.dkim import PrivateKey, Result
    from posthouse.senderauth.dkim_canon import Canon
    from posthouse.senderauth.own_keys import Look

app = typer.Typer(help="Signatures of domains (DKIM): verify, sign, and the keys of ours.", no_args_is_help=True)
app.command()(dkim_keys.keys)
app.command()(dkim_keys.rotate)
app.command()(dkim_keys.dns)
_File = Annotated[str, typer.Argument(help="A file with a message; - is standard input.")]
MAX_KEY_FILE = 1 << 20
LOOKUP = 10.0  # seconds for a key


def read_message(file: str) -> bytes:
    """The message in a file, its lines ending as they do on the way."""
    raw = mime.read(file)
    if raw.startswith((b"From ", b">From ")):
        raw = raw.partition(b"\n")[2]
    return raw if b"\r\n" in raw else raw.replace(b"\n", b"\r\n")


def read_key(file: Path) -> "PrivateKey":
    """A private key in PEM. Raises `Permanent`."""
    from posthouse.base.errors import Permanent
    from posthouse.senderauth.dkim import private_key

    try:
        with open(file, "rb") as opened:
            return private_key(opened.read(MAX_KEY_FILE))
    except OSError as error:
        raise Permanent(f"{file} cannot be read: {error.strerror}") from error
    except Permanent as error:
        raise Permanent(f"{file}: {error}") from error


@app.command()
def verify(
    context: typer.Context,
    file: _File = "-",
    resolver: Option = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON: everything each result rests on.")] = False,
) -> None:
    """Verify the signatures of a message. The last line has one result a signature, or "none"."""
    from posthouse.base.clock import SystemClock
    from posthouse.senderauth import dkim

    clock = SystemClock()
    asked = chosen(context.obj, resolver, LOOKUP)
    message = read_message(file)

    async def run() -> "list[Result]":
        return await dkim.verify(message, asked.txt, clock.now() // 1_000_000)

    results = asyncio.run(run())
    words = ",".join(result.word for result in results) or "none"
    if as_json:
        print(json.dumps({"result": words, "signatures": [result._asdict() for result in results]}))
    else:
        _show(context.obj, results)
        print(words)


def _show(options: output.Options, results: "list[Result]") -> None:
    rows = [
        (
            result.word,
            result.domain,
            result.selector,
            f"{result.algorithm} {result.bits or ''} {result.canon}".strip(),
            "; ".join(filter(None, (result.reason, *result.weaknesses))),
        )
        for result in results
    ]
    columns = ["Result", "Domain", "Selector", "How", "What was seen"]
    output.show(options, False, columns, rows, "The message has no signature.", ["What was seen"])


@app.command()
def sign(
    domain: Annotated[str, typer.Option(help="The domain that signs.")],
    selector: Annotated[str, typer.Option(help="The name of the key below _domainkey in the domain.")],
    key: Annotated[Path, typer.Option(metavar="FILE", help="The private key, in PEM.")],
    file: _File = "-",
    canon: Annotated[
        str, typer.Option(metavar="HEADER/BODY", help="What may change on the way: simple or relaxed, for each.")
    ] = "relaxed/relaxed",
    alg: Annotated[
        Literal["rsa-sha256", "ed25519-sha256"] | None, typer.Option(help="The algorithm; by default that of the key.")
    ] = None,
    resolver: Annotated[
        str, typer.Option("--resolver", metavar="HOST:PORT", help="Ask this resolver if the DNS has the key.")
    ] = "",
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON: the field of the signature, and its key.")
    ] = False,
) -> None:
    """Sign a message: it is printed with its signature on top, lines ending with CRLF. With --resolver a warning says
    if others will not find the key; the message is signed all the same."""
    from posthouse.base.clock import SystemClock
    from posthouse.base.errors import Permanent
    from posthouse.senderauth import dkim

    canons: dict[str, Canon] = {"simple": "simple", "relaxed": "relaxed"}
    header_canon, _, body_canon = canon.partition("/")
    if header_canon not in canons or body_canon not in canons:
        raise typer.BadParameter("write simple/simple, simple/relaxed, relaxed/simple or relaxed/relaxed")
    signer = dkim.Signer(domain, selector, read_key(key), canons[header_canon], canons[body_canon])
    if alg is not None and alg != signer.algorithm:
        raise Permanent(f"{key} is a key for {signer.algorithm}, not for {alg}")
    message = read_message(file)
    signed = dkim.sign(message, [signer], SystemClock().now() // 1_000_000)
    name, record = f"{selector}._domainkey.{domain}", dkim.record_of(signer.key)
    look = _published(name, record, resolver) if resolver else None
    if look is not None and not look.present:
        print(f"warning: {name} in the DNS: {output.clean(look.trouble)}", file=sys.stderr)
    if as_json:
        facts = {"fields": signed[: len(signed) - len(message)].decode(), "name": name, "record": record}
        facts |= {"algorithm": signer.algorithm, "canon": canon}
        print(json.dumps(facts | ({"in_dns": look.present, "seen": look.trouble} if look is not None else {})))
        return
    sys.stdout.buffer.write(signed)
    sys.stdout.buffer.flush()


def _published(name: str, record: str, resolver: str) -> "Look":
    """Whether the DNS has the key."""
    from posthouse.base.clock import SystemClock
    from posthouse.cli.resolver import name_server
    from posthouse.net.dns import SystemResolver
    from posthouse.senderauth import own_keys

    servers, port = name_server(resolver)

    async def run() -> "Look":
        return await own_keys.look([SystemResolver(SystemClock(), servers, port=port, timeout=LOOKUP)], name, record)

    return asyncio.run(run())

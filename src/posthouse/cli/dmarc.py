"""`posthouse dmarc check`: what SPF, DKIM and DMARC say about a message in a file, and what its domain wants done.
`posthouse dmarc record`: the record of a domain in words, with its mistakes.

The message is read as `posthouse dkim verify` reads it.
"""

import asyncio
import json
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from posthouse.cli import output, resolver

if TYPE_CHECKING:
    from posthouse.net.dns import Resolver
    from posthouse.senderauth import bimi, dkim, dmarc, spf
    from posthouse.senderauth.organization import Found, Walk, Walker

app = typer.Typer(help="What the domain in From says about mail (DMARC).", no_args_is_help=True)


class _Checked(NamedTuple):
    """What was found out about a message."""

    spf: "list[spf.Result]"
    dkim: "list[dkim.Result]"
    dmarc: "dmarc.Result"
    bimi: "bimi.Indicator"


@app.command()
def check(
    context: typer.Context,
    file: Annotated[str, typer.Argument(help="A file with a message; - is standard input.")] = "-",
    ip: Annotated[
        str, typer.Option("--ip", metavar="IP", help="The address of the client; without it SPF is not checked.")
    ] = "",
    helo: Annotated[str, typer.Option("--helo", metavar="NAME", help="The name it gave in EHLO.")] = "",
    mail_from: Annotated[
        str | None,
        typer.Option(
            "--mail-from",
            metavar="ADDRESS",
            help="The sender in the envelope; without it that of Return-Path.",
            show_default=False,
        ),
    ] = None,
    resolver: resolver.Option = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON: everything the result rests on.")] = False,
) -> None:
    """Check a message as a server does that takes it. The last line is the result of DMARC."""
    from ipaddress import ip_address

    from posthouse.base.errors import Permanent
    from posthouse.cli.dkim import read_message
    from posthouse.cli.resolver import chosen

    try:
        address = ip_address(ip.partition("%")[0]) if ip else None
    except ValueError:
        raise Permanent(f"{ip!r} is not an IP address") from None
    message = read_message(file)
    checked = asyncio.run(_check(chosen(context.obj, resolver), message, address, helo, mail_from))
    if as_json:
        print(json.dumps(_plain(checked)))
    else:
        _show(context.obj, checked, address is not None)


async def _check(asked: "Resolver", message: bytes, ip: Any, helo: str, mail_from: str | None) -> _Checked:
    from posthouse.base.clock import SystemClock
    from posthouse.mime import header as headers
    from posthouse.senderauth import bimi, dkim, dmarc, spf

    now = SystemClock().now()
    header, _ = dkim.split(message)
    is_known = mail_from is not None or headers.find(header, b"return-path") is not None
    if mail_from is None:
        mail_from = (headers.find(header, b"return-path") or b"").strip().decode("utf-8", "replace")

    async def sender() -> "list[spf.Result]":
        if ip is None:
            return []
        checks = [spf.check_helo(asked, ip, helo, now=now)] if helo else []
        if mail_from.strip("<> "):
            checks.append(spf.check_mail_from(asked, ip, helo, mail_from, now=now))
        return list(await asyncio.gather(*checks))

    senders, signatures = await asyncio.gather(sender(), dkim.verify(message, asked.txt, now // 1_000_000))
    # Nobody throws dice for a message in a file: what pct= leaves to chance is told in words.
    nobody = is_known and not mail_from.strip("<> ") and dmarc.claims_nobody(header)
    found = await dmarc.evaluate(asked, dmarc.author_domains(header), senders, signatures, dice=0.0, nobody=nobody)
    return _Checked(senders, signatures, found, await bimi.find(asked, found, header))


def _show(options: output.Options, checked: _Checked, with_ip: bool) -> None:
    found = checked.dmarc
    rows: list[tuple[str, str, str, str]] = [
        (
            f"SPF {'EHLO' if one.identity == 'helo' else 'MAIL FROM'}",
            one.result,
            one.domain,
            one.problem or one.mechanism or one.explanation,
        )
        for one in checked.spf
    ]
    rows += [
        ("DKIM", one.word, one.domain, "; ".join(filter(None, (one.reason, *one.weaknesses))) or f"s={one.selector}")
        for one in checked.dkim
    ]
    rows.append(("DMARC", found.word, found.domain, _alignment(found)))
    if found.record:
        asks = f"asks for {found.policy}" if found.policy else "asks for nothing that can be read"
        if found.word == "pass" and found.policy not in ("", "none"):
            asks += ", for mail that fails"
        rows.append(("Policy", found.disposition, found.policy_domain, f"{asks}: {found.record}"))
    if checked.bimi.word != "skipped":
        rows.append(("BIMI", checked.bimi.word, checked.bimi.domain, checked.bimi.location or checked.bimi.because))
    output.show(options, False, ["Check", "Result", "Domain", "What was seen"], rows, "", ["What was seen"])
    print()
    if not with_ip:
        print("SPF was not checked: --ip says which address the message came from.")
    for sentence in found.because:
        print(output.clean(sentence[:1].upper() + sentence[1:]).replace("\n", " ") + ".")
    print(_advice(checked))
    print(found.word)


def _alignment(found: "dmarc.Result") -> str:
    """What proves the domain in From."""
    if not found.domain:
        return "there is no domain in From to be proved"
    match found.aligned_spf, found.aligned_dkim:
        case True, True:
            return "SPF and DKIM prove the domain in From"
        case False, False:
            known = "; an answer of the DNS is missing" if found.word == "temperror" else ""
            return f"neither SPF nor DKIM proves the domain in From{known}"
        case spf, _:
            return f"{'SPF' if spf else 'DKIM'} proves the domain in From"


def _advice(checked: _Checked) -> str:
    """What the result means for the message."""
    found = checked.dmarc
    match found.word, found.disposition:
        case "pass", _:
            return f"The message comes from {found.domain}, as far as that domain has a say."
        case "fail", "none":
            return f"The message may be forged; {found.domain} wants nothing done about it."
        case "fail", "quarantine":
            return f"The message may be forged; {found.domain} wants it among the junk."
        case "fail", _:
            return f"The message may be forged; {found.domain} wants it refused."
        case "none", _ if not found.domain:
            return "A bounce of an old server; DMARC has nothing to say of it."
        case "none", _:
            return "Nobody says who may use the domain in From."
        case "temperror", _:
            return "Whether the message is forged can be said when the DNS answers."
        case _:
            return "Nothing can be said about this message."


def _plain(value: Any) -> Any:
    """Named tuples as objects, all the way down."""
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return {name: _plain(part) for name, part in value._asdict().items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return value


@app.command()
def record(
    context: typer.Context,
    domain: Annotated[str, typer.Argument(help="A domain.")],
    resolver: resolver.Option = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show the DMARC record that applies to a domain, in words, with its mistakes."""
    from posthouse.base.errors import Permanent
    from posthouse.cli.resolver import chosen
    from posthouse.senderauth import dmarc_record
    from posthouse.wire.address import parse_domain

    name = parse_domain(domain.removesuffix("."), utf8=True)
    if name is None or name.startswith("["):
        raise Permanent(f"{domain!r} is not the name of a domain")
    walk, mistakes = asyncio.run(_walk(chosen(context.obj, resolver), name))
    if walk.failure and not (walk.found and walk.found[0].domain == name):
        raise Permanent(walk.failure)
    found = walk.found[0] if walk.found and walk.found[0].domain == name else walk.policy
    if found is None:
        if mistakes:
            raise Permanent("; ".join(mistakes))
        hint = f'publish a TXT record at _dmarc.{walk.organization}, to begin with: "v=DMARC1; p=none; rua=mailto:…"'
        raise Permanent(f"{name} has no DMARC record, nor has a domain above it; {hint}")
    inherited = found.domain != name
    mistakes += found.record.mistakes
    if not found.record.usable:
        mistakes.append("servers ignore this record: it has no valid policy and asks for no reports")
    lines = dmarc_record.explain(found.raw)
    if as_json:
        facts = {
            "domain": name,
            "policy_domain": found.domain,
            "organization": walk.organization,
            "record": found.text,
            "policy": found.record.policy(inherited) if found.record.usable else "",
            "tags": [line._asdict() for line in lines],
            "mistakes": mistakes,
        }
        print(json.dumps(facts))
        return
    print(f"{found.text}\n")
    rows = [(line.tag, line.value, line.meaning) for line in lines]
    output.show(context.obj, False, ["Tag", "Value", "What it means"], rows, "", ["Value", "What it means"])
    print()
    if inherited:
        print(f"It is the record of {found.domain}: {name} has none itself.")
    print(f"The organization is {walk.organization}.")
    if walk.failure:
        print(f"Something above {name} is not known: {walk.failure}")
    for mistake in mistakes:
        print(f"Mistake: {output.clean(mistake)}".replace("\n", " "))


async def _walk(asked: "Resolver", name: str) -> "tuple[Walk, list[str]]":
    """The walk from a domain, and mistakes that only other names show."""
    from posthouse.net.dns import Answer, side_by_side
    from posthouse.senderauth import dmarc_record
    from posthouse.senderauth.organization import Walker

    walker = Walker(asked)
    walk = await walker.walk(name)
    mistakes: list[str] = []
    for lookup in walker.lookups:
        records = dmarc_record.select([value.encode("ascii", "replace") for value in lookup.values])
        if len(records) > 1:
            mistakes.append(f"{lookup.name} has {len(records)} DMARC records: servers ignore them all")
    (here,) = await side_by_side(asked, [(name, "TXT")])
    if isinstance(here, Answer) and dmarc_record.select(here.values):
        mistakes.append(f"a DMARC record stands at {name}, where nobody looks: its place is _dmarc.{name}")
    if walk.found:
        mistakes += await _refused(asked, walker, walk.found[0])
    return walk, mistakes


async def _refused(asked: "Resolver", walker: "Walker", found: "Found") -> list[str]:
    """Who does not say that it takes the reports of another organization (RFC 9990 section 4): servers send it none."""
    from urllib.parse import unquote

    from posthouse.net.dns import NoSuchDomain, Unavailable, side_by_side
    from posthouse.senderauth import dmarc_record
    from posthouse.wire.address import parse_domain

    uris = [one.uri for one in found.record.rua + found.record.ruf if one.uri.lower().startswith("mailto:")]
    hosts = {parse_domain(unquote(uri.partition("?")[0]).rpartition("@")[2], utf8=True) for uri in uris}
    own = (await walker.walk(found.domain)).organization
    others = []
    for host in sorted(filter(None, hosts)):
        walk = await walker.walk(host)
        if walk.organization != own:
            others.append(host)
    names = [f"{found.domain}._report._dmarc.{host}" for host in others]
    mistakes = []
    for host, name, answer in zip(
        others, names, await side_by_side(asked, [(name, "TXT") for name in names]), strict=True
    ):
        if isinstance(answer, Unavailable):
            continue
        if isinstance(answer, NoSuchDomain) or not dmarc_record.select(answer.values):
            mistakes.append(
                f'{host} does not say that it takes these reports: it needs a TXT record "v=DMARC1" at {name}'
            )
    return mistakes

"""`posthouse config`: check the configuration file, print an example, print every setting."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import typer

from posthouse.cli import output

app = typer.Typer(help="The configuration file: check it, print an example, list every setting.", no_args_is_help=True)
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]

HEAD = """\
# The configuration of Posthouse. Every setting has a default: what stands behind "#" is it.
# Sizes may be numbers or text ("50 MiB"), times too ("5 min"). Relative paths start at this file's folder.
# Domains, accounts and addresses are not here: see `posthouse domain`, `account` and `address`.
# Check it with `posthouse config check`.
"""
# What a newcomer has to write; everything else in the example is commented out.
FIRST = {"hostname": '"mail.example.org"', "data": '"/var/lib/posthouse"', "postmaster": '"you@example.org"'}
# Values for settings that have no default, so that their line shows how one looks.
SAMPLES = {
    "authentication.authserv_id": '"mx.example.org"',
    "auth.oauth.issuer": '"https://login.example.org"',
    "auth.oauth.audience": '"posthouse"',
    "auth.oauth.jwks": '"https://login.example.org/keys"',
    "auth.oauth.introspection": '"https://login.example.org/introspect"',
    "auth.oauth.client_secret_file": '"/etc/posthouse/oauth.secret"',
    "filter.policy": '"/etc/posthouse/policy.py"',
    "pop3.expire": "30",
    "filter.rule.tls": "false",
    "filter.rule.authenticated": "false",
    "filter.rule.larger": '"20 MiB"',
    "filter.rule.hours": '"22:00-06:00"',
    "filter.rule.action": '"reject"',
    "filter.rule.code": "550",
    "filter.list.zone": '"zen.spamhaus.org"',
    "webhook.name": '"application"',
    "webhook.url": '"https://app.example.org/posthouse"',
    "webhook.secret_file": '"/etc/posthouse/webhook.secret"',
    "queue.limit.domains": '["example.net", "*.example.net"]',
    "queue.limit.concurrency": "5",
    "listen.service": '"submissions"',
    "listen.port": "465",
    "listen.path": '"/run/posthouse/lmtp.sock"',
    "listen.certificate": '"/etc/ssl/mail.example.org.pem"',
    "listen.key": '"/etc/ssl/mail.example.org.key"',
    "listen.client_ca": '"/etc/posthouse/clients-ca.pem"',
    "tls.named.names": '["mail.example.net"]',
    "tls.named.certificate": '"/etc/ssl/mail.example.net.pem"',
    "tls.named.key": '"/etc/ssl/mail.example.net.key"',
    "tls.certificate": '"/etc/ssl/mail.example.org.pem"',
    "tls.key": '"/etc/ssl/mail.example.org.key"',
    "storage.key_file": '"/etc/posthouse/storage.key"',
    "storage.key_env": '"POSTHOUSE_KEY"',
    "transport_security.ca": '"/etc/posthouse/lab-ca.pem"',
    "relay.smarthost.host": '"smtp.example.net"',
    "relay.smarthost.user": '"example"',
    "relay.smarthost.password_file": '"/etc/posthouse/smarthost.password"',
    "relay.pool": '"bulk"',
    "pool.name": '"bulk"',
    "pool.sources.address": '"192.0.2.25"',
    "pool.sources.helo": '"out1.example.org"',
    "route.name": '"partner"',
    "route.to": '["example.net", "*.example.net"]',
    "route.from": '["alice@example.org", "example.org"]',
    "route.via": '"smarthost"',
    "route.tls": '"starttls"',
    "route.host": '["mx1.example.net", "mx2.example.net"]',
    "route.port": "587",
    "route.user": '"example"',
    "route.password_file": '"/etc/posthouse/partner.password"',
    "route.ca": '"/etc/posthouse/partner-ca.pem"',
    "route.path": '"/run/app/lmtp.sock"',
    "route.url": '"https://app.example.org/mail"',
    "route.secret_file": '"/etc/posthouse/mail.secret"',
    "route.reply": '"550 5.7.1 Not from here"',
}
# Settings that do not go with the others of the example.
ONLY_WITH = {
    "route.path": "lmtp, instead of a host",
    "route.url": "webhook",
    "route.secret_file": "webhook",
    "route.reply": "error",
}


@app.command()
def check(context: typer.Context, as_json: Json = False) -> None:
    """Check the configuration file and what it points to. Exit code 1: it would not work."""
    from posthouse import config

    path = config.find(context.obj.config)
    try:
        settings = config.load(path)
        problems = config.check(settings, str(path), path.read_text("utf-8"))
    except config.ConfigError as error:
        problems = list(error.problems)
    wrong = [problem for problem in problems if not problem.warning]
    if as_json:
        print(json.dumps({"ok": not wrong, "file": str(path), "problems": [one._asdict() for one in problems]}))
    else:
        screen = output.console(context.obj)
        for problem in problems:
            kind, style = ("warning", "yellow") if problem.warning else ("error", "bold red")
            screen.print(f"[{style}]{kind}:[/{style}]", end=" ")
            screen.print(str(problem), markup=False, soft_wrap=True)
        if not problems:
            screen.print(f"{path} is good.", markup=False, soft_wrap=True)
    if wrong:
        raise typer.Exit(1)


@app.command()
def example() -> None:
    """Print a configuration file with every setting, its document and its default."""
    sys.stdout.write(example_text())


@app.command()
def reference(context: typer.Context, as_json: Json = False) -> None:
    """List every setting with its type, default and document."""
    if as_json:
        print(json.dumps(list(settings_of_the_file()), ensure_ascii=False))
        return
    from rich.text import Text

    screen = output.console(context.obj)
    for one in settings_of_the_file():
        default = f" = {one['default']}" if one["default"] else ""
        screen.print(Text.assemble((one["key"], "bold"), default, (f"  {one['type']}", "dim")), soft_wrap=True)
        screen.print(f"    {one['doc']}", markup=False, soft_wrap=True)


def settings_of_the_file() -> Iterator[dict[str, str]]:
    """Every setting: its dotted key, type, default as TOML ("" for none) and document."""
    from posthouse import config

    for path, model in config.sections():
        tables = {inner[-1] for inner, _ in config.sections() if len(inner) == len(path) + 1 and inner[:-1] == path}
        for name, field in config.keys(model).items():
            if name in tables:
                continue
            kind = type_name(field.annotation, field.metadata)
            default = "" if field.is_required() or (name in FIRST and not path) else toml(field.default, kind)
            yield {"key": ".".join((*path, name)), "type": kind, "default": default, "doc": field.description or ""}


def example_text() -> str:
    """The example file. It is valid, with the lines behind "#" too (a test says so)."""
    from posthouse import config

    lines, rows = [HEAD], list(settings_of_the_file())
    for path, model in config.sections():
        if path:
            lines.append(f"\n# {' '.join((model.__doc__ or '').split())}\n#{config.title(path)}")
        for row in rows:
            key = tuple(row["key"].split("."))
            if key[:-1] != path:
                continue
            lines.append(f"# {row['doc']}")
            value = SAMPLES.get(row["key"]) or row["default"]
            only = f"  # only with via = {ONLY_WITH[row['key']]}" if row["key"] in ONLY_WITH else ""
            line = f"{key[-1]} = {FIRST[row['key']]}\n" if row["key"] in FIRST else f"#{key[-1]} = {value}{only}"
            lines.append(line)
    return "\n".join(lines) + "\n"


def type_name(annotation: Any, metadata: list[Any]) -> str:
    """The type of a setting in the words of the file."""
    from posthouse.base import units

    parsers = {getattr(one, "func", None) for one in metadata}
    if units.parse_size in parsers:
        return "size"
    if units.parse_span in parsers:
        return "time"
    arguments = [one for one in get_args(annotation) if one not in (type(None), ...)]
    origin = get_origin(annotation)
    if origin is tuple:
        return f"list of {_many(arguments[0])}"
    if origin is dict:
        return "table"
    if arguments and all(isinstance(one, str) for one in arguments):
        return " | ".join(arguments)
    if hasattr(annotation, "__metadata__"):  # Annotated
        return type_name(arguments[0], list(annotation.__metadata__))
    if arguments:
        return type_name(arguments[0], metadata)
    names = {bool: "true | false", int: "number", float: "number", str: "text", Path: "path"}
    return names.get(annotation, "text")


def _many(annotation: Any) -> str:
    from posthouse.base import settings_types, units

    if annotation in get_args(settings_types.Networks):
        return "networks"
    if any(getattr(one, "func", None) is units.parse_span for one in getattr(annotation, "__metadata__", ())):
        return "times"
    return "texts"


def toml(value: object, kind: str) -> str:
    """A default as it would stand in the file; "" for none."""
    from posthouse.base import units

    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float)):
        if kind == "size":
            return f'"{units.format_size(int(value))}"'
        return f'"{units.format_span(value)}"' if kind in ("time", "list of times") else f"{value:g}"
    if isinstance(value, tuple):
        return f"[{', '.join(toml(one, kind) for one in value)}]"
    if isinstance(value, dict):
        return "{}"
    return json.dumps(str(value), ensure_ascii=False)

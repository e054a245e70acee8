"""The command `posthouse`: its options and the list of its commands, one file each.

Modules of commands import what they need inside their functions, so that `posthouse --help` is quick. An error
that we foresee is printed as a sentence (what happened, where, what to do) and ends with exit code 1; a wrong
call ends with 2.
"""

import errno
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from posthouse import __version__
from posthouse.base.errors import PosthouseError
from posthouse.cli import (
    account,
    address,
    arc,
    check,
    config,
    demo,
    dkim,
    dmarc,
    doctor,
    domain,
    explain,
    index,
    mailbox,
    mime,
    output,
    queue,
    reports,
    send,
    serve,
    spf,
    srs,
    suppression,
    webhook,
)

app = typer.Typer(
    name="posthouse",
    help="A complete mail server: SMTP, IMAP and POP3 in one process.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"posthouse {__version__}")
        raise typer.Exit


@app.callback()
def options(
    context: typer.Context,
    config_file: Annotated[
        Path | None,
        typer.Option("--config", "-c", envvar="POSTHOUSE_CONFIG", help="The configuration file.", show_default=False),
    ] = None,
    no_color: Annotated[bool, typer.Option("--no-color", help="Print without colours.")] = False,
    _: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """A complete mail server: SMTP, IMAP and POP3 in one process."""
    context.obj = output.Options(config_file, no_color)


app.command("demo")(demo.demo)
app.command("serve")(serve.serve)
app.add_typer(domain.app, name="domain")
app.add_typer(account.app, name="account")
app.add_typer(address.app, name="address")
app.add_typer(mailbox.app, name="mailbox")
app.add_typer(queue.app, name="queue")
app.add_typer(suppression.app, name="suppression")
app.add_typer(srs.app, name="srs")
app.add_typer(webhook.app, name="webhook")
app.add_typer(reports.app, name="reports")
app.add_typer(index.app, name="index")
app.add_typer(spf.app, name="spf")
app.command("explain")(explain.explain)
app.command("send")(send.send)
app.command("doctor")(doctor.doctor)
app.command("check")(check.check)
app.add_typer(mime.app, name="mime")
app.add_typer(dkim.app, name="dkim")
app.add_typer(dmarc.app, name="dmarc")
app.add_typer(arc.app, name="arc")
app.add_typer(config.app, name="config")


def leading(arguments: Sequence[str]) -> list[str]:
    """The arguments with --config and --no-color first, where typer wants them: people write them last."""
    first: list[str] = []
    rest: list[str] = []
    left = iter(arguments)
    for argument in left:
        if argument == "--":
            return [*first, *rest, argument, *left]
        if argument in ("--config", "-c"):
            first += [argument, *(value for value in (next(left, None),) if value is not None)]
        elif argument == "--no-color" or argument.startswith("--config="):
            first.append(argument)
        else:
            rest.append(argument)
    return first + rest


def main() -> None:
    """Run the command line of this process."""
    arguments = leading(sys.argv[1:])
    plain = "--no-color" in arguments[: arguments.index("--") if "--" in arguments else None]
    if plain:  # typer prints help and wrong calls by itself, before any option is known
        import typer.rich_utils

        typer.rich_utils.COLOR_SYSTEM = None
    try:
        try:
            app(arguments)
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()  # what cannot be written is an error now, and not of the interpreter at its end
    except PosthouseError as error:
        output.complain(str(error), plain=plain)
        sys.exit(1)
    except BrokenPipeError:  # `posthouse queue list | head`
        sys.stderr.close()
        sys.exit(1)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EIO) or error.filename is not None:
            raise
        output.complain(f"the output could not be written: {error.strerror}", plain=plain)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left of it
        sys.exit(1)

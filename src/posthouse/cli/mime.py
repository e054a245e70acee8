"""`posthouse mime`: messages in files, looked at with the server's own eyes. No server and no configuration is needed.

A file that cannot be read, or is larger than any message that the server takes, is an error in a sentence.
"""

import sys
from typing import Annotated

import typer

from posthouse.cli import output

app = typer.Typer(help="Look at messages in files.", no_args_is_help=True)

MAX_SIZE = 256 << 20  # it is read into memory


def read(file: str) -> bytes:
    """A message in a file, or on standard input. Raises `Permanent`."""
    from posthouse.base.errors import Permanent

    try:
        if file == "-":
            raw = sys.stdin.buffer.read(MAX_SIZE + 1)
        else:
            with open(file, "rb") as opened:
                raw = opened.read(MAX_SIZE + 1)
    except OSError as error:
        raise Permanent(f"{file} cannot be read: {error.strerror}") from error
    except ValueError as error:  # a name with a NUL
        raise Permanent(f"{file!r} cannot be read: {error}") from error
    if len(raw) > MAX_SIZE:
        raise Permanent(f"{file} is larger than {MAX_SIZE >> 20} MiB, no message is")
    return raw


@app.command()
def tree(
    file: Annotated[str, typer.Argument(help="A file with a message; - is standard input.")] = "-",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON: every part with its content, decoded.")] = False,
) -> None:
    """Show the parts of a message, as IMAP numbers them."""
    from posthouse.mime import tree as trees

    node = trees.read(read(file))
    write = sys.stdout.write
    if as_json:
        for piece in trees.to_json(node):
            write(piece)
        write("\n")
        return
    encoding = sys.stdout.encoding or "utf-8"
    subject = node.subject()
    for line in (f"Subject: {subject}" if subject is not None else "(no subject)", *trees.to_lines(node)):
        write(output.clean(line).encode(encoding, "replace").decode(encoding) + "\n")

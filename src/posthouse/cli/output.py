"""What commands print: tables for people, JSON for programs, errors as sentences. Colours follow the terminal,
NO_COLOR and `--no-color`."""

import datetime
import json
import os
import shlex
import shutil
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from rich.console import Console


WIDEST = 10_000  # characters of a table that nobody looks at


class Options(NamedTuple):
    """The options before the command."""

    config: Path | None = None
    no_color: bool = False


def console(options: Options | None = None, *, stderr: bool = False) -> "Console":
    """Where to print for people."""
    from rich.console import Console

    if options is not None and options.no_color:  # no bold either: no escape sequence at all
        return Console(stderr=stderr, color_system=None, highlight=False)
    return Console(stderr=stderr, highlight=False)


def show(
    options: Options,
    as_json: bool,
    columns: Sequence[str],
    rows: Iterable[Sequence[Any]],
    empty: str,
    folded: Sequence[str] = (),
) -> None:
    """A table, or a JSON list of objects; `empty` is the sentence for an empty table, `folded` are the columns of texts
    that may take several lines."""
    rows = list(rows)
    if as_json:
        names = [column.lower().replace(" ", "_") for column in columns]
        print(json.dumps([dict(zip(names, row, strict=True)) for row in rows], default=str))
        return
    screen = console(options)
    if not rows:
        screen.print(empty)
        return
    from rich.measure import Measurement
    from rich.table import Table

    # Ids, addresses and times are there to be copied: they stay whole, and only texts are folded. Where that is
    # not enough, or nobody looks, the table is as wide as it has to be.
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        if column in folded:
            table.add_column(column, overflow="fold", min_width=20)
        else:
            table.add_column(column, no_wrap=True)
    for row in rows:
        table.add_row(*["" if value is None else str(value) for value in row])
    natural, least = Measurement.get(screen, screen.options.update(max_width=WIDEST), table)[::-1]
    screen.width = natural if not screen.is_terminal else min(natural, max(screen.width, least))
    screen.print(table, crop=False, soft_wrap=False)


def done(options: Options, as_json: bool, text: str, **facts: Any) -> None:
    """What a command did: a sentence, or its facts as JSON."""
    if as_json:
        print(json.dumps({"ok": True, **facts}, default=str))
    else:
        console(options).print(text, markup=False, soft_wrap=True)  # what it names is there to be copied


def coloured(plain: bool = False) -> bool:
    """Whether standard error is for people who see colours; `plain` is `--no-color`."""
    return sys.stderr.isatty() and not plain and not os.environ.get("NO_COLOR")


def complain(text: str, *, plain: bool = False) -> None:
    """An error for people, on standard error; `plain` is `--no-color`."""
    mark = "\x1b[1;31merror:\x1b[0m" if coloured(plain) else "error:"
    print(f"{mark} {text}", file=sys.stderr)


def called() -> str:
    """How to call this program in a shell: by its name where the shell finds it, else by where it is."""
    if shutil.which("posthouse"):
        return "posthouse"
    beside = Path(sys.executable).with_name("posthouse")
    return shlex.quote(str(beside)) if beside.exists() else f"{shlex.quote(sys.executable)} -m posthouse"


def when(at: int) -> str:
    """A time (microseconds) for people, in UTC."""
    return datetime.datetime.fromtimestamp(at // 1_000_000, datetime.UTC).strftime("%Y-%m-%d %H:%M:%S")

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
    from rich.table import Table

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
    """A table, on a narrow screen blocks of lines, or a JSON list of objects; `empty` is the sentence for an empty
    table, `folded` are the columns of texts that may take several lines."""
    rows = list(rows)
    if as_json:
        names = [column.lower().replace(" ", "_") for column in columns]
        print(json.dumps([dict(zip(names, row, strict=True)) for row in rows], default=str))
        return
    screen = console(options)
    if not rows:
        screen.print(empty, markup=False)
        return
    made = table(columns, rows, folded)
    if screen.is_terminal and widths(screen, made)[0] > screen.width:
        blocks(screen, columns, rows)
    else:
        put(screen, made)


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]], folded: Sequence[str] = ()) -> "Table":
    """A table. Ids, addresses and times are there to be copied: they stay whole, and only texts are folded."""
    from rich.table import Table
    from rich.text import Text

    made = Table(box=None, pad_edge=False, header_style="bold")
    cells = [
        [cell if isinstance(cell, Text) else Text("" if cell is None else clean(str(cell))) for cell in row]
        for row in rows
    ]
    for number, column in enumerate(columns):
        if column in folded:
            made.add_column(column, overflow="fold", min_width=20)
        else:
            # Rich cuts at blanks what has no least width: a time would lose its minutes.
            widest = max((row[number].cell_len for row in cells), default=0)
            made.add_column(column, no_wrap=True, min_width=max(widest, len(column)))
    for row in cells:
        made.add_row(*row)
    return made


def widths(screen: "Console", made: "Table") -> tuple[int, int]:
    """How wide a table has to be at the least, and how wide it likes to be."""
    from rich.measure import Measurement

    return Measurement.get(screen, screen.options.update(max_width=WIDEST), made)


def put(screen: "Console", made: "Table") -> None:
    """Print a table. Where what must stay whole needs more, or nobody looks, it is as wide as it has to be."""
    least, natural = widths(screen, made)
    screen.width = natural if not screen.is_terminal else min(natural, max(screen.width, least))
    screen.print(made, crop=False, soft_wrap=False)


def blocks(screen: "Console", columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """A table for a screen on which it has no room: a block of lines a row, each cell with its name; the first one,
    which says what the row is about, stands alone."""
    from rich.padding import Padding
    from rich.text import Text

    for first, *others in rows:
        screen.print(Text(clean(str(first)), "bold"), soft_wrap=True)
        lines = [Text()]
        for name, cell in zip(columns[1:], others, strict=True):
            value = cell if isinstance(cell, Text) else Text("" if cell is None else clean(str(cell)))
            if not value.plain.strip():
                continue
            piece = Text.assemble((f"{name} ", "dim"), value)
            if not lines[-1]:
                lines[-1] = piece
            elif lines[-1].cell_len + piece.cell_len + 4 <= screen.width:
                lines[-1] = Text.assemble(lines[-1], "  ", piece)
            else:
                lines.append(piece)
        for line in filter(None, lines):
            if max(map(len, line.plain.split())) > screen.width - 2:
                screen.print(Text("  ") + line, soft_wrap=True)  # a word has to stay whole: the terminal folds it
            else:
                screen.print(Padding(line, (0, 0, 0, 2)))


def clean(text: str) -> str:
    """A text without anything that a terminal would act upon: control and format characters, half surrogates."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode("ascii") for c in text)


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


def age(microseconds: int) -> str:
    """A span of time for people, in one unit: "45 s", "12 min", "3 h", "2 d"."""
    seconds = max(microseconds, 0) // 1_000_000
    for unit, name, upto in ((1, "s", 60), (60, "min", 60), (3600, "h", 48)):
        if seconds < unit * upto:
            return f"{seconds // unit} {name}"
    return f"{seconds // 86400} d"


def called() -> str:
    """How to call this program in a shell: by its name where the shell finds it, else by where it is."""
    if shutil.which("posthouse"):
        return "posthouse"
    beside = Path(sys.executable).with_name("posthouse")
    return shlex.quote(str(beside)) if beside.exists() else f"{shlex.quote(sys.executable)} -m posthouse"


def when(at: int) -> str:
    """A time (microseconds) for people, in UTC."""
    return datetime.datetime.fromtimestamp(at // 1_000_000, datetime.UTC).strftime("%Y-%m-%d %H:%M:%S")

"""Tables for people: what is there to be copied stays whole, however narrow the screen is."""

import os

import pytest
from rich.console import Console

from posthouse.cli import output

COLUMNS = ("Id", "Time", "From", "To", "State", "Last word")
FIRST = ("1M8FK2GNX94GG", "2026-11-27 22:47:31", "alice@example.org", "bob@example.net and 3 more", "3 delivered", "")
SAID = "550 5.1.1 Recipient rejected: no such user"
ROWS = [FIRST, ("1M8FK2G4TEP92", "2026-11-27 22:47:30", "<>", "carol@example.org", "failed", SAID)]


def shown(width: int, monkeypatch: pytest.MonkeyPatch, *, terminal: bool = True) -> str:
    with open(os.devnull, "w") as nothing:
        screen = Console(width=width, force_terminal=terminal, no_color=True, record=True, file=nothing)
        monkeypatch.setattr(output, "console", lambda _options: screen)
        output.show(output.Options(), False, COLUMNS, ROWS, "Nothing.", folded=("Last word",))
        return screen.export_text()


@pytest.mark.parametrize("width", [60, 80, 100, 132, 200])
def test_ids_times_and_addresses_stay_whole(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    text = shown(width, monkeypatch)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    for row in ROWS:
        for cell in row[:-1]:
            assert cell in text
    assert "no such user" in " ".join(text.split())


def test_a_narrow_screen_gets_blocks_that_name_their_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [line.rstrip() for line in shown(80, monkeypatch).splitlines()]
    assert lines == [
        "1M8FK2GNX94GG",
        "  Time 2026-11-27 22:47:31  From alice@example.org",
        "  To bob@example.net and 3 more  State 3 delivered",
        "1M8FK2G4TEP92",
        "  Time 2026-11-27 22:47:30  From <>  To carol@example.org  State failed",
        "  Last word 550 5.1.1 Recipient rejected: no such user",
    ]


def test_a_pipe_gets_a_line_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = shown(80, monkeypatch, terminal=False).splitlines()
    assert len(lines) == 3
    assert lines[0].split() == " ".join(COLUMNS).split()

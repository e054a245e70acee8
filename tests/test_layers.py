"""The floors of the house are a rule: imports go down only, the pure half does no I/O, SQL stays in the store.

The table is that of docs/architecture.md.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import posthouse

SOURCE = Path(posthouse.__file__).parent
LIMIT = 600  # lines in a file

FLOORS: list[set[str]] = [
    {"base"},
    {"wire", "mime", "net"},
    {"smtp", "imap", "pop3", "reports"},
    {"store"},
    {"auth", "senderauth", "filter", "delivery", "queue"},
    {"servers", "web"},
    {"app"},
    {"cli", "config", "__main__"},
]
# Sideways, by name: who may use a neighbour on the same floor.
SIDEWAYS = {
    ("delivery", "senderauth"),
    ("delivery", "filter"),
    ("filter", "senderauth"),
    ("queue", "senderauth"),
    ("cli", "config"),
    ("__main__", "cli"),
}
FLOOR = {name: number for number, names in enumerate(FLOORS) for name in names}
PURE = {"wire", "mime", "smtp", "imap", "pop3", "reports"}
NOT_IN_PURE = {
    "asyncio",
    "socket",
    "ssl",
    "time",
    "random",
    "secrets",
    "os",
    "logging",
    "threading",
    "apsw",
    "structlog",
}
# asyncio over the engines, for programs: the one door of a pure package to the outside.
NOT_PURE = ("smtp/aio/",)
DRIVERS = {"apsw": {"store/sqlite.py"}, "psycopg": {"store/postgres.py"}, "dns": {"net/dns.py"}}


def imported(tree: ast.AST) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                yield node.lineno, f"{node.module}.{alias.name}"


def package(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def breaches(root: Path) -> Iterator[str]:
    for path in sorted(root.rglob("*.py")):
        own, where = package(path), path.relative_to(root)
        if own == "__init__":
            continue
        for line, name in imported(ast.parse(path.read_bytes())):
            first, *rest = name.split(".")
            if first == "posthouse" and rest and rest[0] != "__version__":
                other = rest[0]
                if other != own and FLOOR[other] >= FLOOR[own] and (own, other) not in SIDEWAYS:
                    yield f"{where}:{line}: {own} may not import {other}"
            if own in PURE and first in NOT_IN_PURE and not str(where).startswith(NOT_PURE):
                yield f"{where}:{line}: {own} is pure and may not import {first}"
            if first in DRIVERS and str(where) not in DRIVERS[first]:
                yield f"{where}:{line}: only {', '.join(DRIVERS[first])} may import {first}"


def test_imports_go_down_only() -> None:
    assert not list(breaches(SOURCE))


def test_every_package_has_a_floor() -> None:
    assert {package(p) for p in SOURCE.rglob("*.py")} - {"__init__"} <= FLOOR.keys()


def test_sql_is_in_the_store_only() -> None:
    statement = re.compile(
        r"\b(SELECT\s.+\sFROM|INSERT INTO|DELETE FROM|UPDATE\s\w+\sSET|CREATE TABLE|PRAGMA)\b", re.DOTALL
    )
    found = []
    for path in SOURCE.rglob("*.py"):
        if package(path) == "store":
            continue
        found += [
            f"{path.relative_to(SOURCE)}:{node.lineno}"
            for node in ast.walk(ast.parse(path.read_bytes()))
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and statement.search(node.value)
        ]
    assert not found


def test_files_have_one_subject_and_say_which() -> None:
    long = []
    for path in SOURCE.rglob("*.py"):
        text = path.read_text("utf-8")
        if text.count("\n") > LIMIT:
            long.append(f"{path.relative_to(SOURCE)} has more than {LIMIT} lines")
        if text.strip() and not ast.get_docstring(ast.parse(text)):
            long.append(f"{path.relative_to(SOURCE)} does not say what it does")
    assert not long


def test_the_rule_catches_a_breach(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A check that cannot fail is none."""
    folder = tmp_path / "wire"
    folder.mkdir()
    (folder / "bad.py").write_text("import asyncio\nfrom posthouse.store import model\n")
    monkeypatch.setitem(globals(), "SOURCE", tmp_path)
    assert len(list(breaches(tmp_path))) == 2

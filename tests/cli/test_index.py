"""`posthouse index`, with and without a running server."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from posthouse.base.errors import Permanent
from posthouse.cli import index, opening
from tests.cli.test_commands import Server
from tests.cli.test_serve import configuration
from tests.support.imap_site import ImapSite
from tests.support.program import Serve, Terminal, run
from tests.support.store import opened


def fill(folder: Path, count: int) -> None:
    async def main() -> None:
        async with opened(folder) as database:
            site = await ImapSite.make(database)
            for number in range(count):
                await site.deliver(b"Subject: Number %d\r\n\r\nText\r\n" % number)

    asyncio.run(main())


def test_without_a_server(tmp_path: Path) -> None:
    server = Server(tmp_path)
    fill(tmp_path / "data", 3)
    before = server.json("index", "status")
    assert (before["messages"], before["waiting"], before["last"]) == (0, 3, 3)
    after = server.json("index", "rebuild")
    assert (after["messages"], after["waiting"], after["position"]) == (3, 0, 3)
    assert after["octets"] > 1000
    assert "3" in server.text("index", "status")
    (tmp_path / "data" / "search.db").write_bytes(b"nonsense" * 1000)
    assert server.text("index", "rebuild").startswith("The search index has 3 messages, ")


def test_with_a_server(tmp_path: Path) -> None:
    path = configuration(tmp_path)
    fill(tmp_path / "data", 40)
    server = Serve(path)
    try:

        def asked(*arguments: str) -> Any:
            done = run("--config", str(path), "index", *arguments, "--json")
            assert done.returncode == 0, done.stderr
            return json.loads(done.stdout)

        after = asked("rebuild")
        assert (after["messages"], after["waiting"]) == (40, 0)
        assert asked("status") == after
        terminal = Terminal("--config", str(path), "index", "rebuild")
        terminal.read_until("40 messages")
        assert terminal.end() == 0
    finally:
        log = server.stop()
    assert "server.failed" not in log


def test_a_server_that_cannot_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(tmp_path)
    monkeypatch.setattr(opening, "ask", lambda *_, **__: {"ok": False, "error": "no room"})
    with pytest.raises(Permanent, match="no room"):
        server.text("index", "rebuild")


def test_sizes() -> None:
    assert index._size(2048) == "2 KiB"
    assert index._size(3 << 20) == "3.0 MiB"

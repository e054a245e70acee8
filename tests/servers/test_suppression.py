"""Who logged in is kept from addresses that refused mail for good; and the commands that show and change the list."""

import asyncio
import base64
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from posthouse.base.errors import NotFound, Permanent
from posthouse.store import accounts, suppression
from posthouse.store.suppression import EVERYBODY, Entry
from tests.cli.test_commands import Server
from tests.support.house import PASSWORD, House, opened

SUBMISSION = {"service": "submission", "address": "127.0.0.1", "port": 0, "allow_plaintext_auth": True}
MX = {"service": "smtp", "address": "127.0.0.1", "port": 0}


def run(folder: Path, test: Callable[[House], Awaitable[None]], **changes: Any) -> None:
    async def main() -> None:
        async with asyncio.timeout(60), opened(folder, listen=[SUBMISSION, MX], **changes) as house:
            await test(house)

    asyncio.run(main())


async def asked(house: House, who: str, *recipients: str) -> list[str]:
    login = "AUTH PLAIN " + base64.b64encode(f"\0{who}@posthouse.test\0{PASSWORD}".encode()).decode()
    rcpts = [f"RCPT TO:<{r}>" for r in recipients]
    start = ("EHLO c.example", login, f"MAIL FROM:<{who}@posthouse.test>")
    return (await house.said("submission", *start, *rcpts))[4:]


async def put(house: House, account_id: int, address: str, reply: str = "") -> None:
    now = house.app.clock.now()
    entry = Entry(account_id, address, "user-unknown", reply, now, now + 3_600_000_000)
    await house.database.write(suppression.add, entry)


def test_an_account_does_not_send_where_nobody_is(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        alice = (await house.database.read(accounts.find_account, "alice@posthouse.test")).id
        await put(house, alice, "gone@far.example", "550 5.1.1 nobody\nhere " + "x" * 400)
        await put(house, EVERYBODY, "trap@far.example")
        await put(house, alice, "bob@posthouse.test")
        for _ in range(2):  # the second time the directory remembers
            gone, trap, fine, ours = await asked(
                house, "alice", "Gone@far.example", "trap@far.example", "ok@far.example", "bob@posthouse.test"
            )
            assert gone.startswith("550 5.1.1 gone@far.example is on the suppression list since ")
            assert "550 5.1.1 nobody" in gone
            assert "posthouse suppression remove gone@far.example" in gone
            assert trap.startswith("550 5.1.1 trap@far.example is on the suppression list")
            assert fine.startswith("250 ")
            assert ours.startswith("250 "), "our own addresses answer for themselves"
        (other,) = await asked(house, "bob", "gone@far.example")
        assert other.startswith("250 "), "it is alice's list"
        await house.database.write(suppression.remove, "gone@far.example")
        (again,) = await asked(house, "alice", "gone@far.example")
        assert again.startswith("250 ")

    run(tmp_path, test)


def test_it_is_for_submitters_only_and_can_be_switched_off(tmp_path: Path) -> None:
    async def network(house: House) -> None:
        await put(house, EVERYBODY, "trap@far.example")
        replies = await house.said("smtp", "EHLO c.example", "MAIL FROM:<x@y.example>", "RCPT TO:<trap@far.example>")
        assert replies[-1].startswith("250 ")

    async def off(house: House) -> None:
        await put(house, EVERYBODY, "trap@far.example")
        assert (await asked(house, "alice", "trap@far.example"))[0].startswith("250 ")

    run(tmp_path / "network", network, relay={"capture": True, "networks": ["127.0.0.0/8"]})
    run(tmp_path / "off", off, queue={"suppress": False})


def test_the_commands(tmp_path: Path) -> None:
    server = Server(tmp_path)
    assert "No address is suppressed." in server.text("suppression", "list")
    server.text("domain", "add", "example.org")
    server.text("account", "add", "alice@example.org", "--password-stdin", given="correct horse battery staple\n")
    assert "nobody here sends there" in server.text("suppression", "add", "Trap@far.example", "--reason", "a trap")
    added = server.json("suppression", "add", "gone@far.example", "--account", "alice@example.org", "--days", "7")
    assert added["address"] == "gone@far.example"
    rows = server.json("suppression", "list")
    assert [(r["address"], r["account"], r["reason"]) for r in rows] == [
        ("gone@far.example", "alice@example.org", "by the operator"),
        ("trap@far.example", "all", "a trap"),
    ]
    assert rows[1]["until"] == "for good"
    assert len(server.json("suppression", "list", "--account", "alice@example.org")) == 1
    with pytest.raises(NotFound, match="is not on the list of alice"):
        server.text("suppression", "remove", "trap@far.example", "--account", "alice@example.org")
    assert server.json("suppression", "remove", "trap@far.example")["removed"] == 1
    assert "may be sent to again" in server.text("suppression", "remove", "gone@far.example")
    assert server.json("suppression", "list") == []
    with pytest.raises(Permanent, match="is not an address"):
        server.text("suppression", "add", "nobody")
    assert "new key" in server.text("srs", "rotate")
    with pytest.raises(Permanent, match="was not made here"):
        server.text("srs", "reverse", "SRS0=abcd=AA=far.example=bob@mail.example.org")

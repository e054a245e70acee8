"""SMTP as a whole: the app on real sockets. Who may send what to whom, what is kept, and what is said."""

import asyncio
import base64
import smtplib
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from posthouse.base.errors import StorageFull
from posthouse.store import accounts
from posthouse.store.intake import Intake
from tests.support.clock import turns
from tests.support.house import PASSWORD, House, opened


def run(folder: Path, test: Callable[[House], Awaitable[None]], **changes: Any) -> None:
    async def main() -> None:
        async with asyncio.timeout(60), opened(folder, **changes) as house:
            await test(house)

    asyncio.run(main())


MESSAGE = "From: x@example.com\r\nSubject: hello\r\n\r\nbody\r\n."


async def send(house: House, *recipients: str, message: str | bytes = MESSAGE, service: str = "smtp") -> list[str]:
    rcpts = [f"RCPT TO:<{r}>" for r in recipients]
    return await house.said(service, "EHLO c.example", "MAIL FROM:<x@example.com>", *rcpts, "DATA", message, "QUIT")


def test_a_message_is_in_the_mailbox_when_250_is_said(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        replies = await send(house, "bob@posthouse.test")
        assert replies[-2].startswith("250 2.0.0 Accepted, id ")
        (message,) = await house.inbox("bob")
        assert message.startswith(b"Return-Path: <x@example.com>\r\nReceived: from c.example ([127.0.0.1])")
        assert message.endswith(b"\r\nFrom: x@example.com\r\nSubject: hello\r\n\r\nbody\r\n")
        assert b"with ESMTP id " in message

    run(tmp_path, test)


def test_who_hangs_up_while_the_message_is_finished_is_nobody_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The login goes with the connection; what it was asked for must not be done without it."""
    began, go_on, done = threading.Event(), threading.Event(), threading.Event()
    whole = Intake._finish

    def slow(self: Intake) -> object:
        began.set()
        assert go_on.wait(30)
        try:
            return whole(self)
        finally:
            done.set()

    monkeypatch.setattr(Intake, "_finish", slow)
    forged = "From: CEO <ceo@posthouse.test>\r\n\r\n" + ("y" * 70 + "\r\n") * 10_000 + ".\r\n"
    login = base64.b64encode(b"\0alice@posthouse.test\0" + PASSWORD.encode()).decode()

    async def test(house: House) -> None:
        port = house.ports["submissions"]
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=house.context, server_hostname="mail.posthouse.test"
        )
        await reader.readline()
        commands = ("EHLO x", f"AUTH PLAIN {login}", "MAIL FROM:<alice@posthouse.test>", "RCPT TO:<bob@posthouse.test>")
        for command in (*commands, "DATA"):
            writer.write(command.encode() + b"\r\n")
            while (line := await reader.readline())[3:4] == b"-":
                pass
            assert line[:1] in b"23", line
        writer.write(forged.encode())
        await asyncio.to_thread(began.wait, 30)
        writer.transport.abort()
        while any(len(listener) for listener in house.app._listeners):
            await turns()
        go_on.set()
        await asyncio.to_thread(done.wait, 30)
        for _ in range(5):
            await turns()
            await house.database.write(lambda _tx: None)
        assert await house.inbox("bob") == []

    run(tmp_path, test)


def test_who_gets_mail(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        await house.database.write(accounts.add_address, "all@posthouse.test", "alice@posthouse.test")
        await house.database.write(accounts.add_address, "all@posthouse.test", "bob@posthouse.test")
        for address in ("Bob@POSTHOUSE.test", "bob+list@posthouse.test", "all@posthouse.test"):
            assert (await send(house, address))[-2].startswith("250 "), address
        assert len(await house.inbox("bob")) == 3
        assert len(await house.inbox("alice")) == 1
        both = await send(house, "bob@posthouse.test", "all@posthouse.test", "bob+x@posthouse.test")
        assert both[-2].startswith("250 ")
        assert len(await house.inbox("bob")) == 4, "once, however many ways lead there"
        replies = await send(house, "nobody@posthouse.test")
        assert replies[3].startswith("550 5.1.1 ")
        assert replies[4].startswith("554 5.5.1 ")
        for postmaster in ("postmaster", "Postmaster@posthouse.test"):
            assert (await send(house, postmaster))[-2].startswith("250 ")
        await house.database.write(accounts.add_address, "@posthouse.test", "bob@posthouse.test")
        assert (await send(house, "nobody@posthouse.test"))[-2].startswith("250 "), "the change counts at once"

    run(tmp_path, test)


def test_relaying_is_for_those_who_logged_in_and_for_configured_networks(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        assert (await send(house, "x@elsewhere.example"))[3].startswith("550 5.7.1 ")
        replies = await house.said("submission", "EHLO c.example", "MAIL FROM:<alice@posthouse.test>")
        assert replies[-1].startswith("530 5.7.0 ")
        replies = await house.said("submission", "EHLO c.example", "AUTH PLAIN AGFsaWNlAHg=")
        assert replies[-1].startswith("538 5.7.11 "), "no password without TLS"

        def submit() -> None:
            with smtplib.SMTP("127.0.0.1", house.ports["submission"]) as client:
                client.starttls(context=house.context)
                client.login("alice@posthouse.test", PASSWORD)
                client.sendmail(
                    "alice@posthouse.test", ["bob@posthouse.test", "x@elsewhere.example"], "Subject: 1\n\n1"
                )
            with smtplib.SMTP_SSL("localhost", house.ports["submissions"], context=house.context) as client:
                client.login("alice", PASSWORD)
                client.sendmail("alice@posthouse.test", ["bob@posthouse.test"], "Subject: 2\n\n2")
                with pytest.raises(smtplib.SMTPRecipientsRefused):
                    client.sendmail("alice@posthouse.test", ["nobody@posthouse.test"], "Subject: 3\n\n3")

        await asyncio.to_thread(submit)
        first, second = await house.inbox("bob")
        assert b"with ESMTPSA id" in first
        assert b"Subject: 2" in second

    run(tmp_path, test)


def test_a_configured_network_may_relay(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        assert (await send(house, "x@elsewhere.example"))[-2].startswith("250 ")

    run(tmp_path, test, relay={"capture": True, "networks": ["127.0.0.0/8"]})


@pytest.mark.parametrize("end", [b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\r\n.\r"])
def test_a_smuggled_message_is_neither_executed_nor_kept(tmp_path: Path, end: bytes) -> None:
    async def test(house: House) -> None:
        inner = b"MAIL FROM:<evil@example.com>\r\nRCPT TO:<alice@posthouse.test>\r\nDATA\r\nSubject: smuggled\r\n\r\n"
        message = b"Subject: outer\r\n\r\nx" + end + inner + b"y\r\n."
        replies = await house.said(
            "smtp", "EHLO c", "MAIL FROM:<x@example.com>", "RCPT TO:<bob@posthouse.test>", "DATA", message, "NOOP"
        )
        assert replies[-2].startswith("550 5.6.11 ")
        assert replies[-1].startswith("250 ")
        assert not await house.inbox("alice")
        assert not await house.inbox("bob")

    run(tmp_path, test)


def test_a_full_disk_is_452_and_the_service_returns_with_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(house: House) -> None:
        app = house.app
        monkeypatch.setattr(app, "_room", (app.clock.monotonic() + 1e6, False))
        replies = await house.said("smtp", "EHLO c", "MAIL FROM:<x@example.com>")
        assert replies[-1].startswith("452 4.3.1 ")
        monkeypatch.setattr(app, "_room", (app.clock.monotonic() + 1e6, True))

        pages = await house.database.write(lambda tx: tx.all("PRAGMA page_count")[0][0])
        await house.database.write(lambda tx: tx.all(f"PRAGMA max_page_count = {pages}"))
        large = "Subject: large\r\n\r\n" + "".join(f"{n * 7919 % 10007:x}" for n in range(15_000)) + "\r\n."
        answers = [(await send(house, "bob@posthouse.test", message=large + f"{n}\r\n."))[-2] for n in range(3)]
        assert any(answer.startswith("452 4.3.1 ") for answer in answers)
        kept = sum(answer.startswith("250 ") for answer in answers)
        await house.database.write(lambda tx: tx.all("PRAGMA max_page_count = 1000000"))
        assert (await send(house, "bob@posthouse.test"))[-2].startswith("250 ")
        assert len(await house.inbox("bob")) == kept + 1

    run(tmp_path, test)


def test_what_goes_wrong_in_the_store_is_451_and_the_connection_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(house: House) -> None:
        def broken(*_: object) -> None:
            raise RuntimeError("on purpose")

        from posthouse.delivery import accept

        monkeypatch.setattr(accept, "commit", broken)
        replies = await house.said(
            "smtp", "EHLO c", "MAIL FROM:<x@example.com>", "RCPT TO:<bob@posthouse.test>", "DATA", MESSAGE, "NOOP"
        )
        assert replies[-2].startswith("451 4.3.0 ")
        assert "on purpose" not in replies[-2]
        assert replies[-1].startswith("250 ")

        def full(*_: object) -> None:
            raise StorageFull("on purpose")

        monkeypatch.setattr(accept, "commit", full)
        assert (await send(house, "bob@posthouse.test"))[-2].startswith("452 4.3.1 ")

    run(tmp_path, test)


def test_a_message_in_circles_ends(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        message = "Received: by x\r\n" * 100 + MESSAGE
        assert (await send(house, "bob@posthouse.test", message=message))[-2].startswith("554 5.4.6 ")

    run(tmp_path, test)


def test_large_messages_go_to_files_and_come_back_whole(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        body = "".join(f"line {n} {n * 7919 % 10007}\r\n" for n in range(150_000))
        replies = await send(house, "bob@posthouse.test", message=f"Subject: large\r\n\r\n{body}.")
        assert replies[-2].startswith("250 ")
        (message,) = await house.inbox("bob")
        assert message.endswith(body.encode())
        assert [p for p in (tmp_path / "data" / "blobs").rglob("*") if p.is_file()]

    run(tmp_path, test)


def test_a_large_message_that_is_refused_leaves_no_file(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        message = "Subject: x\r\n\r\n" + "x" * 998 * 300 + "\r\nbare\nline\r\n."
        assert (await send(house, "bob@posthouse.test", message=message))[-2].startswith("550 5.6.11 ")
        reader, writer = await asyncio.open_connection("127.0.0.1", house.ports["smtp"])
        for line in ("EHLO c", "MAIL FROM:<x@example.com>", "RCPT TO:<bob@posthouse.test>", "DATA"):
            writer.write(line.encode() + b"\r\n")
            while (await reader.readline())[3:4] == b"-":
                pass
        await reader.readline()
        writer.write(b"y" * 300_000)
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    run(tmp_path, test)
    assert not [p for p in (tmp_path / "data" / "blobs").rglob("*") if p.is_file()]

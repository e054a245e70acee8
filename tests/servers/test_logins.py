"""Logins as clients see them: who must wait is told so, and an account that goes takes its sessions along."""

import asyncio
import base64
import contextlib
import io
import json
import smtplib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

from posthouse.auth.throttle import FREE_TRIES
from posthouse.store import accounts
from tests.support.house import PASSWORD, House, opened


def run(folder: Path, test: Callable[[House], Awaitable[None]], **changes: Any) -> None:
    async def main() -> None:
        async with asyncio.timeout(60), opened(folder, **changes) as house:
            await test(house)

    asyncio.run(main())


class Talk:
    """A conversation in lines."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def line(self) -> str:
        return (await self._reader.readline()).decode()

    async def say(self, text: str, until: str) -> str:
        """Send a line; the line of the answer that begins with `until`."""
        self._writer.write(text.encode() + b"\r\n")
        while not (line := await self.line()).startswith(until):
            assert line, f"closed after {text}"
        return line


@contextlib.asynccontextmanager
async def talk(house: House, service: str) -> AsyncIterator[Talk]:
    tls = house.context if service in ("submissions", "imaps", "pop3s") else None
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", house.ports[service], ssl=tls, server_hostname="localhost" if tls else None
    )
    try:
        conversation = Talk(reader, writer)
        await conversation.line()
        yield conversation
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def plain(password: str) -> str:
    return base64.b64encode(f"\0alice@posthouse.test\0{password}".encode()).decode()


def test_who_must_wait_is_not_told_that_the_password_is_wrong(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        for _ in range(FREE_TRIES):
            async with talk(house, "imap") as imap:
                assert "NO [AUTHENTICATIONFAILED]" in await imap.say("a LOGIN alice wrong", "a ")
        async with talk(house, "imap") as imap:
            assert "a NO [UNAVAILABLE]" in await imap.say(f"a LOGIN alice {PASSWORD}", "a ")
        async with talk(house, "pop3") as pop3:
            assert "+OK" in await pop3.say("USER alice@posthouse.test", "+OK")
            assert "-ERR [SYS/TEMP]" in await pop3.say(f"PASS {PASSWORD}", "-ERR")
        async with talk(house, "submissions") as smtp:
            await smtp.say("EHLO c.example", "250 ")
            assert await smtp.say(f"AUTH PLAIN {plain(PASSWORD)}", "454 4.7.0 ")
        async with talk(house, "imap") as imap:
            assert "a OK" in await imap.say(f"a LOGIN bob {PASSWORD}", "a ")

    run(tmp_path, test, limits={"trusted": ()})


def test_an_account_that_is_removed_takes_its_sessions_along(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        async with (
            talk(house, "imap") as idle,
            talk(house, "imap") as other,
            talk(house, "pop3") as pop3,
            talk(house, "submissions") as smtp,
        ):
            await idle.say(f"a LOGIN alice {PASSWORD}", "a OK")
            await idle.say("b SELECT Sent", "b OK")
            await idle.say("c IDLE", "+ ")
            await other.say(f"a LOGIN bob {PASSWORD}", "a OK")
            await pop3.say("USER alice", "+OK")
            await pop3.say(f"PASS {PASSWORD}", "+OK")
            await smtp.say("EHLO c.example", "250 ")
            await smtp.say(f"AUTH PLAIN {plain(PASSWORD)}", "235 ")
            await house.database.write(accounts.remove_account, "alice@posthouse.test")
            assert (await idle.line()).startswith("* BYE ")
            assert await idle.line() == ""
            assert (await pop3.line()).startswith("-ERR ")
            assert (await smtp.line()).startswith("421 ")
            assert "b OK" in await other.say("b NOOP", "b ")

    run(tmp_path, test)


def test_every_line_of_the_log_names_its_session(tmp_path: Path) -> None:
    written = io.BytesIO()

    async def test(house: House) -> None:
        async with talk(house, "submissions") as smtp:
            await smtp.say("EHLO c.example", "250 ")
            await smtp.say(f"AUTH PLAIN {plain('wrong')}", "535 ")
            await smtp.say(f"AUTH PLAIN {plain(PASSWORD)}", "235 ")
            await smtp.say("MAIL FROM:<alice@posthouse.test>", "250 ")
            await smtp.say("RCPT TO:<nobody@posthouse.test>", "550 ")
            await smtp.say("RCPT TO:<bob@posthouse.test>", "250 ")
            await smtp.say("DATA", "354 ")
            await smtp.say("Subject: x\r\n\r\nx\r\n.", "250 ")
        lines = [json.loads(line) for line in written.getvalue().splitlines() if b'"session"' in line]
        events = {line["event"]: line for line in lines}
        assert list(events) == ["login.refused", "login.accepted", "smtp.rejected", "smtp.accepted"]
        assert len({line["session"] for line in lines}) == 1
        assert lines[0]["session"]
        assert events["smtp.rejected"]["recipient"] == "nobody@posthouse.test"
        assert events["smtp.rejected"]["code"] == 550
        assert events["smtp.rejected"]["login"] == events["smtp.rejected"]["sender"] == "alice@posthouse.test"
        assert events["smtp.accepted"]["login"] == "alice@posthouse.test"
        assert PASSWORD.encode() not in written.getvalue()

    run(tmp_path, test, written=written)


def test_a_login_before_starttls_is_forgotten_with_it(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        def submit() -> tuple[int, bytes]:
            with smtplib.SMTP("localhost", house.ports["smtp"]) as client:
                client.ehlo()
                assert client.docmd("AUTH", "PLAIN " + plain(PASSWORD))[0] == 235
                client.starttls(context=house.context)
                client.ehlo()
                assert client.mail("alice@posthouse.test")[0] == 250
                return client.rcpt("somebody@elsewhere.example")

        code, text = await asyncio.to_thread(submit)
        assert (code, text[:6]) == (550, b"5.7.1 ")

    listen = [{"service": "smtp", "address": "127.0.0.1", "port": 0, "allow_plaintext_auth": True}]
    run(tmp_path, test, listen=listen)


def test_a_client_that_goes_while_its_password_is_checked_leaves_nothing(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        logins = house.app.logins
        for service, lines in (
            ("imap", f"a LOGIN alice {PASSWORD}\r\n"),
            ("pop3", f"USER alice@posthouse.test\r\nPASS {PASSWORD}\r\n"),
        ):
            for _ in range(5):
                logins.forget()
                reader, writer = await asyncio.open_connection("127.0.0.1", house.ports[service])
                await reader.readline()
                writer.write(lines.encode())
                await writer.drain()
                writer.transport.abort()
        while any(len(listener) for listener in house.app._listeners) or logins._waiting:
            await house.database.read(accounts.active)
        assert logins._open == {}

    run(tmp_path, test)


def test_all_imap_ports_share_what_they_know(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        for _ in range(3):
            await house.said("smtp", "EHLO c", "MAIL FROM:<x@y.z>", "RCPT TO:<alice@posthouse.test>", "DATA", "x\r\n.")
        async with talk(house, "imaps") as first, talk(house, "imap") as second:
            for imap in (first, second):
                assert "a OK" in await imap.say(f"a LOGIN alice {PASSWORD}", "a ")
            assert await first.say("b SELECT INBOX", "* 3 RECENT")
            assert await second.say("b SELECT INBOX", "* 0 RECENT")

    run(tmp_path, test)

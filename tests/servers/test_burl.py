"""BURL: a client sends what lies in a mailbox here, authorized by GENURLAUTH (RFC 4468, RFC 4467)."""

import asyncio
import base64
import imaplib
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from tests.support.house import PASSWORD, House, opened

ALICE, BOB = "alice@posthouse.test", "bob@posthouse.test"
DRAFT = (
    b"From: alice@posthouse.test\r\nTo: bob@posthouse.test\r\nSubject: a draft\r\n"
    b"Date: Mon, 02 Nov 2026 10:00:00 +0000\r\nMessage-ID: <draft@posthouse.test>\r\n\r\n.dots and all\r\n"
)
BEGIN = (f"MAIL FROM:<{ALICE}>", f"RCPT TO:<{BOB}>")
OPEN: dict[str, Any] = {
    "listen": [
        {"service": service, "address": "127.0.0.1", "port": 0, "allow_plaintext_auth": True}
        for service in ("submission", "imap")
    ]
}


def _authorize(port: int, access: str, section: str, message: bytes) -> str:
    with imaplib.IMAP4("127.0.0.1", port) as imap:
        imap.login(ALICE, PASSWORD)
        uid = re.search(rb"APPENDUID \d+ (\d+)", imap.append("Drafts", "", "", message)[1][0])
        assert uid is not None
        url = f"imap://alice%40posthouse.test@mail.posthouse.test/Drafts/;UID={int(uid[1])}{section};URLAUTH={access}"
        imaplib.Commands["GENURLAUTH"] = ("AUTH",)
        status, said = imap._simple_command("GENURLAUTH", f'"{url}"', "INTERNAL")
        assert status == "OK", said
        made = imap.response("GENURLAUTH")[1][0]
        assert isinstance(made, bytes)
        return made.decode().strip('"')


async def authorized(house: House, access: str = f"submit+{ALICE}", section: str = "", message: bytes = DRAFT) -> str:
    """A URL of a message that is put into alice's Drafts."""
    return await asyncio.to_thread(_authorize, house.ports["imap"], access, section, message)


async def said(house: House, *lines: str, login: str = ALICE) -> list[str]:
    """The last line of each reply on the port for submission, after EHLO and a login."""
    auth = "AUTH PLAIN " + base64.b64encode(f"\0{login}\0{PASSWORD}".encode()).decode()
    replies = await house.said("submission", "EHLO c.test", auth, *lines)
    return [reply.splitlines()[-1] for reply in replies[3:]]


def run(folder: Path, test: Callable[[House], Awaitable[None]], **changes: Any) -> None:
    async def main() -> None:
        async with asyncio.timeout(120), opened(folder, **OPEN, **changes) as house:
            await test(house)

    asyncio.run(main())


def test_a_draft_is_sent_without_being_fetched(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        url = await authorized(house)
        replies = await said(house, "EHLO again", *BEGIN, f"BURL {url} LAST", "NOOP")
        assert [reply[:3] for reply in replies] == ["250"] * 5
        (message,) = await house.inbox("bob")
        assert message.endswith(DRAFT)

    run(tmp_path, test)


def test_chunks_of_both_kinds_make_one_message(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        text = await authorized(house, "anonymous", "/;SECTION=TEXT")
        header = await authorized(house, f"user+{ALICE}", "/;SECTION=HEADER")
        replies = await said(house, *BEGIN, f"BURL {header}", "BDAT 5\r\nabc", f"BURL {text}", "BDAT 0 LAST")
        assert [reply[:3] for reply in replies] == ["250"] * 6
        (message,) = await house.inbox("bob")
        assert message.endswith(DRAFT.partition(b"\r\n\r\n")[0] + b"\r\n\r\nabc\r\n.dots and all\r\n")

    run(tmp_path, test)


def test_what_cannot_be_read_ends_the_transaction(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        good = await authorized(house)
        bobs = await authorized(house, f"submit+{BOB}")
        for url in (
            bobs,  # for somebody else
            good[:-1] + ("0" if good[-1] != "0" else "1"),  # another token
            good.partition(":internal:")[0],  # none
            "imap://alice%40posthouse.test@example.com/Drafts/;UID=1",
            "http://127.0.0.1/secret",
        ):
            replies = await said(house, *BEGIN, f"BURL {url} LAST", f"BURL {good} LAST", *BEGIN, "RSET")
            assert [reply[:3] for reply in replies] == ["250", "250", "554", "503", "250", "250", "250"], url
        assert await house.inbox("bob") == []
        replies = await said(
            house, "MAIL FROM:<bob@posthouse.test>", f"RCPT TO:<{BOB}>", f"BURL {bobs} LAST", login=BOB
        )
        # Read it may be, but its author is not bob.
        assert replies[-1].startswith("550 ")
        replies = await said(house, f"BURL {good}", BEGIN[0], f"BURL {good}", BEGIN[1], "BURL", f"BURL {good} FIRST")
        assert [reply[:3] for reply in replies] == ["503", "250", "503", "250", "501", "501"]

    run(tmp_path, test)


def test_content_is_refused_as_any_other(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        half = await authorized(house, message=DRAFT + b"x\r\n" * 12_000)
        replies = await said(house, *BEGIN, f"BURL {half}", f"BURL {half} LAST", "NOOP", *BEGIN, "RSET")
        assert [reply[:3] for reply in replies] == ["250", "250", "250", "552", "250", "250", "250", "250"]
        assert await house.inbox("bob") == []

    run(tmp_path, test, limits={"message_size": 65536, "trusted": []})


def test_it_is_for_those_who_are_logged_in(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        hello, burl = (await house.said("submission", "EHLO c.test", "BURL imap://x/y/;UID=1 LAST"))[1:]
        assert "BURL" not in hello
        assert burl.startswith("530 ")
        auth = "AUTH PLAIN " + base64.b64encode(f"\0{ALICE}\0{PASSWORD}".encode()).decode()
        hello = (await house.said("submission", "EHLO c.test", auth, "EHLO c.test"))[-1]
        assert "250-BURL imap\r\n" in hello

    run(tmp_path, test)

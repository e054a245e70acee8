"""A whole server in the test's own process, on free ports, with alice and bob; at its end the store must be
consistent. `house.said(...)` holds a conversation in lines."""

import asyncio
import contextlib
import io
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from posthouse.app import App
from posthouse.auth import passwords
from posthouse.base import log
from posthouse.base.settings import Settings
from posthouse.net.dns import Resolver
from posthouse.net.tls import client_context
from posthouse.store import accounts, check
from posthouse.store.database import Tx

PASSWORD = "a-password-for-tests"
SERVICES = ("smtp", "submission", "submissions", "imap", "imaps", "pop3", "pop3s")
_made: passwords.Made | None = None


class House:
    """A running server."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.ports = app.ports
        self.database = app.database

    @property
    def context(self) -> ssl.SSLContext:
        """TLS that trusts the house's own CA."""
        assert self.app.tls is not None
        return client_context(verify=True, ca=self.app.tls.ca)

    async def said(self, service: str, *lines: str | bytes) -> list[str]:
        """Send lines one after the other, wait for the whole reply to each; the replies (SMTP)."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.ports[service])
        replies = [await _reply(reader)]
        try:
            for line in lines:
                writer.write((line.encode() if isinstance(line, str) else line) + b"\r\n")
                replies.append(await _reply(reader))
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
        return replies

    async def inbox(self, name: str) -> list[bytes]:
        """The messages in the INBOX of alice or bob."""
        from posthouse.store import messages

        def read(tx: Tx) -> list[bytes]:
            rows = tx.all(
                "SELECT email_id FROM entry JOIN mailbox ON mailbox.id = mailbox_id "
                "JOIN account ON account.id = mailbox.account_id "
                "WHERE account.name = ? AND mailbox.name = 'INBOX' AND expunged = 0 ORDER BY uid",
                f"{name}@posthouse.test",
            )
            return [messages.read_source(tx, email_id) for (email_id,) in rows]

        return await self.database.read(read)


async def _reply(reader: asyncio.StreamReader) -> str:
    text = b""
    while True:
        line = await reader.readline()
        text += line
        if not line or line[3:4] != b"-":
            return text.decode()


def settings(folder: Path, **changes: Any) -> Settings:
    """Settings of a house: every service on a free port, mail for elsewhere captured."""
    listen = [
        {"service": name, "address": "127.0.0.1", "port": 0, "allow_plaintext_auth": name in ("imap", "pop3")}
        for name in SERVICES
    ]
    values: dict[str, Any] = {
        "hostname": "mail.posthouse.test",
        "data": str(folder / "data"),
        "listen": listen,
        "relay": {"capture": True},
        "dns": {"only_zone": True},
        "storage": {"reserve": 0},
    }
    return Settings.model_validate(values | changes)


@contextlib.asynccontextmanager
async def opened(
    folder: Path,
    written: io.BytesIO | None = None,
    captured: Callable[[dict[str, object]], None] | None = None,
    resolver: Resolver | None = None,
    **changes: Any,
) -> AsyncIterator[House]:
    """Open a house in `folder`; `written` gets its log as JSON lines, `captured` what would have been sent on."""
    global _made
    log.configure("json", "warning" if written is None else "info", io.BytesIO() if written is None else written)
    made = _made = _made or passwords.make(PASSWORD)
    async with App(settings(folder, **changes), captured=captured, resolver=resolver) as app:

        def people(tx: Tx) -> None:
            if accounts.list_domains(tx):
                return
            accounts.add_domain(tx, "posthouse.test", 1_000_000)
            for name in ("alice", "bob"):
                accounts.add_account(tx, f"{name}@posthouse.test", made.hash, 1_000_000, "", made.scram)

        await app.database.write(people)
        yield House(app)
        assert await app.database.read(check.findings) == []
        assert app.database.index is not None
        assert await app.database.index.findings() == []

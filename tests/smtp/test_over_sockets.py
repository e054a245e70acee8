"""The engines with strangers and over real sockets: Python's smtplib against the server, and our client too."""

import asyncio
import smtplib
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from posthouse.net.stream import Stream
from posthouse.smtp import client as c
from posthouse.smtp import replies
from posthouse.smtp.client import NeedContent, Ready, Sent, SmtpClient
from posthouse.smtp.server import ServerOptions
from tests.support.certificates import root_file, server_context
from tests.support.loop import on_loop
from tests.support.smtp_site import SmtpSite


class _Serve(asyncio.Protocol):
    """The smallest runtime for a server engine."""

    def __init__(self, site: SmtpSite) -> None:
        self.site = site
        self._transport: Any = None
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self.site.engine.greet(replies.greeting("mx.example.org"))
        self._transport.write(self.site.engine.take_output())

    def data_received(self, data: bytes) -> None:
        engine = self.site.engine
        engine.receive(data)
        self._pump()
        self._transport.write(engine.take_output())
        if self.site.starting_tls:
            self.site.starting_tls = False
            self._task = asyncio.create_task(self._start_tls())
        if engine.closed:
            self._transport.close()

    def _pump(self) -> None:
        while (event := self.site.engine.next_event()) is not None:
            self.site.answer(event)

    async def _start_tls(self) -> None:
        loop = asyncio.get_running_loop()
        self._transport = await loop.start_tls(self._transport, self, server_context(), server_side=True)
        self.site.engine.tls_started()
        self.data_received(b"")


@asynccontextmanager
async def serving(**settings: Any) -> AsyncIterator[tuple[int, list[SmtpSite]]]:
    """A port on loopback, and the sites of the connections made to it."""
    sites: list[SmtpSite] = []

    def connected() -> _Serve:
        sites.append(SmtpSite(ServerOptions(hostname="mx.example.org", **settings)))
        return _Serve(sites[-1])

    server = await asyncio.get_running_loop().create_server(connected, "127.0.0.1", 0, family=socket.AF_INET)
    async with server:
        yield server.sockets[0].getsockname()[1], sites


MESSAGE = "Subject: Grüße\r\n\r\n.dot\r\n..dots\r\n.\r\nthe end".encode()
STORED = MESSAGE + b"\r\n"
SUBMISSION = {"submission": True, "starttls": True, "mechanisms": ("PLAIN", "LOGIN")}


@on_loop
async def test_smtplib_sends_and_is_refused() -> None:
    def talk(port: int) -> None:
        with smtplib.SMTP("127.0.0.1", port, "client.example", timeout=10) as smtp:
            assert smtp.ehlo()[0] == 250
            assert smtp.has_extn("pipelining")
            assert smtp.esmtp_features["size"] == "52428800"
            refused = smtp.sendmail(
                "alice@example.com", ["bob@example.org", "nobody@example.org"], MESSAGE, ["BODY=8BITMIME"]
            )
            assert refused == {"nobody@example.org": (550, b"5.1.1 No such mailbox here")}
            with pytest.raises(smtplib.SMTPRecipientsRefused):
                smtp.sendmail("alice@example.com", ["nobody@example.org"], MESSAGE)
            with pytest.raises(smtplib.SMTPSenderRefused):
                smtp.sendmail("x@spam.example", ["bob@example.org"], MESSAGE)
            smtp.sendmail("", ["postmaster@example.org"], b"x" * 300_000)
            assert smtp.noop()[0] == 250
            assert smtp.verify("bob")[0] == 252
            assert smtp.rset()[0] == 250

    async with serving() as (port, sites):
        await asyncio.to_thread(talk, port)
    first, second = sites[0].accepted
    assert first.content == STORED
    assert first.recipients == ["bob@example.org"]
    assert first.params.body == "8BITMIME"
    assert second.content == b"x" * 300_000 + b"\r\n"


@on_loop
async def test_smtplib_submits_over_tls() -> None:
    def talk(port: int) -> None:
        context = ssl.create_default_context(cafile=str(root_file()))
        context.check_hostname = False
        for mechanism in ("auth_plain", "auth_login"):
            with smtplib.SMTP("127.0.0.1", port, "client.example", timeout=10) as smtp:
                with pytest.raises(smtplib.SMTPSenderRefused) as refused:
                    smtp.sendmail("alice@example.org", ["dave@elsewhere.example"], MESSAGE)
                assert refused.value.smtp_code == 530
                smtp.starttls(context=context)
                smtp.ehlo()
                smtp.user, smtp.password = "alice", "wrong"
                name = mechanism.removeprefix("auth_").upper()
                with pytest.raises(smtplib.SMTPAuthenticationError):
                    smtp.auth(name, getattr(smtp, mechanism))
                smtp.password = "secret"
                assert smtp.auth(name, getattr(smtp, mechanism), initial_response_ok=name == "PLAIN")[0] == 235
                smtp.sendmail("alice@example.org", ["dave@elsewhere.example"], MESSAGE)

    async with serving(**SUBMISSION) as (port, sites):
        await asyncio.to_thread(talk, port)
    assert [(m.submitter, m.content) for site in sites for m in site.accepted] == [("alice", STORED)] * 2


async def step(client: SmtpClient, stream: Stream) -> c.Event:
    """The driver: all that a user of the client engine has to do."""
    now, replies_seen, deadline = asyncio.get_running_loop().time, -1, 0.0
    while True:
        event = client.next_event()
        stream.write(client.take_output())
        if event is not None:
            return event
        if client.replies != replies_seen:
            replies_seen, deadline = client.replies, now() + client.patience
        async with asyncio.timeout_at(deadline):
            data = await stream.read()
        if data:
            client.receive(data)
        else:
            client.lost()


@on_loop
async def test_our_client_over_a_stream_with_tls() -> None:
    async with serving(**SUBMISSION) as (port, sites):
        _, stream = await asyncio.get_running_loop().create_connection(Stream, "127.0.0.1", port)
        client = SmtpClient("client.example")
        assert isinstance(await step(client, stream), Ready)
        client.start_tls()
        assert await step(client, stream) == c.StartTls()
        context = ssl.create_default_context(cafile=str(root_file()))
        context.check_hostname = False
        await stream.start_tls(context, "")
        client.tls_started()
        assert isinstance(await step(client, stream), Ready)
        client.authenticate("alice", "secret")
        assert isinstance(await step(client, stream), c.Authenticated)
        client.send("alice@example.org", ["dave@elsewhere.example", "nobody@example.org"], size=len(MESSAGE))
        assert await step(client, stream) == NeedContent()
        for at in range(0, len(MESSAGE), 10):
            client.content(MESSAGE[at : at + 10])
            stream.write(client.take_output())
            await stream.drain()
        client.end_content()
        sent = await step(client, stream)
        assert isinstance(sent, Sent)
        assert [result.accepted for result in sent.results] == [True, False]
        client.quit()
        assert await step(client, stream) == c.Closed()
        await stream.close()
    assert sites[0].accepted[0].content == STORED

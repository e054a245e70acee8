"""The server and the client for programs, against each other, against the standard library, and the examples."""

import asyncio
import smtplib
import subprocess
import sys
from pathlib import Path

import pytest

from posthouse.net.tls import client_context, self_made, server_context
from posthouse.smtp.aio import Client, Message, Refused, SendError, Server, send
from posthouse.smtp.aio.server import collecting
from posthouse.smtp.params import MailParams, RcptParams
from tests.support.house import PASSWORD, House, opened
from tests.support.loop import on_loop

EXAMPLES = Path(__file__).parents[2] / "examples"
TEXT = b"From: a@example.com\r\nSubject: x\r\n\r\n.dots\r\n..\r\nbare\nend\r\n"


async def is_alice(name: str, password: str) -> bool:
    return (name, password) == ("alice", "secret")


@on_loop
async def test_what_is_sent_arrives() -> None:
    async with collecting() as (server, taken), await Client.connect("127.0.0.1", server.port, tls="none") as client:
        assert "CHUNKING" in client.extensions
        results = await client.send("a@example.com", ["b@example.org", "c@example.org"], TEXT)
        assert [(r.recipient, r.accepted) for r in results] == [("b@example.org", True), ("c@example.org", True)]
        mail, rcpt = MailParams(ret="HDRS", envid="7"), {"b@example.org": RcptParams(("NEVER",))}
        await client.send("", ["b@example.org"], b"x" * 1_000_000, mail=mail, rcpt=rcpt)
        assert "BDAT" not in "".join(client.transcript)
        assert "in chunks" in "".join(client.transcript)
    first, second = taken
    assert (first.sender, first.recipients) == ("a@example.com", ("b@example.org", "c@example.org"))
    assert first.content == TEXT.replace(b"bare\n", b"bare\r\n")
    assert (second.mail.ret, second.rcpt[0].notify, len(second.content)) == ("HDRS", ("NEVER",), 1_000_002)


@on_loop
async def test_recipients_and_messages_can_be_refused() -> None:
    async def on_recipient(message: Message, recipient: str) -> None:
        assert message.sender == "a@example.com"
        if recipient.startswith("nobody"):
            raise Refused("No such person", 550, "5.1.1")

    async def on_message(message: Message) -> str:
        if b"spam" in message.content:
            raise Refused("We do not like it")
        if b"bug" in message.content:
            raise ValueError("a bug of the program")
        return "Thank you"

    errors: list[BaseException] = []
    async with (
        Server(on_message, on_recipient=on_recipient, on_error=errors.append) as server,
        await Client.connect("127.0.0.1", server.port, tls="none") as client,
    ):
        good, bad = await client.send("a@example.com", ["b@example.org", "nobody@example.org"], b"x")
        assert (good.reply.text, bad.reply.status) == ("Thank you", "5.1.1")
        (spam,) = await client.send("a@example.com", ["b@example.org"], b"spam")
        assert (spam.reply.code, spam.reply.status) == (550, "5.7.1")
        (bug,) = await client.send("a@example.com", ["b@example.org"], b"bug")
        assert bug.reply.code == 451
    assert [type(error) for error in errors] == [ValueError]


@on_loop
async def test_tls_and_login(tmp_path: Path) -> None:
    ca, certificate, key = self_made(tmp_path, ["localhost", "127.0.0.1"])
    context, trusting = server_context(certificate, key), client_context(verify=True, ca=ca)
    for implicit, tls in ((False, "starttls"), (True, "implicit"), (False, "opportunistic")):
        async with collecting(tls=context, implicit_tls=implicit, check_password=is_alice, require_auth=True) as (
            server,
            taken,
        ):
            chosen = None if tls == "opportunistic" else trusting
            async with await Client.connect("localhost", server.port, tls=tls, context=chosen) as client:  # type: ignore[arg-type]
                (refused,) = await client.send("a@example.com", ["b@example.org"], b"x")
                assert refused.reply.code == 530
                with pytest.raises(SendError) as raised:
                    await client.login("alice", "hunter2")
                assert raised.value.reply is not None
                assert raised.value.reply.code == 535
                assert "hunter2" not in "".join(raised.value.transcript)
                await client.login("alice", "secret")
                (result,) = await client.send("a@example.com", ["b@example.org"], b"x")
                assert result.accepted
        assert taken[0].login == "alice"
        assert taken[0].secure


@on_loop
async def test_what_is_required_is_not_given_up() -> None:
    async with collecting(check_password=is_alice) as (server, _):
        with pytest.raises(SendError, match="STARTTLS"):
            await Client.connect("127.0.0.1", server.port)
        async with await Client.connect("127.0.0.1", server.port, tls="opportunistic") as client:
            with pytest.raises(SendError, match=r"TLS|mechanism"):
                await client.login("alice", "secret")
        port = server.port
    with pytest.raises(SendError, match="no connection"):
        await Client.connect("127.0.0.1", port)


@on_loop
async def test_lmtp_and_the_standard_library() -> None:
    async with collecting(lmtp=True) as (server, taken):

        def deliver() -> dict[str, tuple[int, bytes]]:
            with smtplib.LMTP("127.0.0.1", server.port) as client:
                return client.sendmail("a@example.com", ["b@example.org"], "Subject: x\n\nx")

        assert await asyncio.to_thread(deliver) == {}
    assert taken[0].content == b"Subject: x\r\n\r\nx\r\n"


def test_what_a_handler_raises_is_logged_with_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    async def on_message(_message: Message) -> None:
        raise LookupError("the shelf is empty")

    async def main() -> None:
        async with Server(on_message) as server:
            (result,) = await send("a@example.com", ["b@example.org"], TEXT, port=server.port, tls="none")
            assert not result.accepted
            assert result.reply.code == 451
            assert "shelf" not in result.reply.text

    asyncio.run(main())
    (record,) = [one for one in caplog.records if one.name == "posthouse.smtp"]
    assert record.exc_info is not None
    assert "the shelf is empty" in caplog.text
    assert "in on_message" in caplog.text


def test_scram_with_a_real_server(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        port = house.ports["submission"]
        async with await Client.connect("localhost", port, context=house.context) as client:
            await client.login("alice@posthouse.test", PASSWORD)
            assert any("AUTH SCRAM-SHA-256 (secret)" in line for line in client.transcript)
            (result,) = await client.send(
                "alice@posthouse.test", ["bob@posthouse.test"], TEXT.replace(b"a@example.com", b"")
            )
            assert result.accepted
        results = await send(
            "alice@posthouse.test", ["bob@posthouse.test"], b"Subject: y\r\n\r\ny\r\n",
            port=port, user="alice", password=PASSWORD, context=house.context,
        )  # fmt: skip
        assert results[0].accepted
        assert len(await house.inbox("bob")) == 2

    async def main() -> None:
        async with asyncio.timeout(60), opened(tmp_path) as house:
            await test(house)

    asyncio.run(main())


def test_the_example_is_as_short_as_promised() -> None:
    code = (EXAMPLES / "receive.py").read_text().split('"""')[2]
    assert len([line for line in code.splitlines() if line.strip()]) <= 10


@on_loop
async def test_the_example_that_receives_does() -> None:
    async with collecting() as (server, _):
        port = server.port  # free in a moment
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(EXAMPLES / "receive.py"), str(port), stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(30):
            while True:
                try:
                    results = await send(
                        "a@example.com", ["b@example.org"], b"x", host="127.0.0.1", port=port, tls="none"
                    )
                    break
                except SendError:
                    assert process.returncode is None
            assert results[0].accepted
            assert await process.stdout.readline() == b"a@example.com -> b@example.org: 3 octets\n"
    finally:
        process.terminate()
        await process.wait()


def test_the_example_that_sends(tmp_path: Path) -> None:
    async def main() -> None:
        async with asyncio.timeout(60), opened(tmp_path) as house:
            assert house.app.tls is not None
            process = await asyncio.create_subprocess_exec(
                sys.executable, str(EXAMPLES / "send.py"), "localhost", str(house.ports["submission"]),
                "alice@posthouse.test", PASSWORD, str(house.app.tls.ca), "alice@posthouse.test",
                "bob@posthouse.test", "nobody@posthouse.test", stdout=asyncio.subprocess.PIPE,
            )  # fmt: skip
            said, _ = await process.communicate()
            assert process.returncode == 0
            first, second = said.decode().splitlines()
            assert first.startswith("bob@posthouse.test: 250 2.0.0 ")
            assert second.startswith("nobody@posthouse.test: 550 5.1.1 ")
            assert len(await house.inbox("bob")) == 1
            command = [sys.executable, str(EXAMPLES / "send.py"), "localhost", str(house.ports["submission"])]
            people = ["alice@posthouse.test", "bob@posthouse.test"]
            for password, ca, why in (
                ("wrong", str(house.app.tls.ca), b"not sent: 535 5.7.8"),
                (PASSWORD, str(tmp_path / "no.pem"), b"not sent: the CA file"),
            ):
                process = await asyncio.create_subprocess_exec(
                    *command, "alice@posthouse.test", password, ca, *people, stderr=asyncio.subprocess.PIPE
                )
                _, said = await process.communicate()
                assert process.returncode == 1
                assert said.startswith(why), said

    asyncio.run(main())


def test_the_example_that_tests() -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(EXAMPLES)]
    command.append(str(EXAMPLES / "test_with_a_server.py"))
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr

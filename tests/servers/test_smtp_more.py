"""SMTP beyond the plain exchange of mail, as a whole: DSN, holding, LMTP, proxies, senders, VRFY, TLS of a port."""

import asyncio
import base64
import smtplib
import socket
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from posthouse.auth.login import Login
from posthouse.net.tls import self_made
from posthouse.servers.smtp.transaction import Transaction, Where
from posthouse.smtp.params import MailParams
from posthouse.store import accounts, outbox_admin
from posthouse.store.blobs.writer import Content
from posthouse.store.envelope import is_unauthentic, unpack_mail
from posthouse.wire.address import Address
from tests.store.test_sqlite import DIGEST
from tests.support.house import PASSWORD, House, opened


def run(folder: Path, test: Callable[[House], Awaitable[None]], **changes: Any) -> None:
    async def main() -> None:
        async with asyncio.timeout(60), opened(folder, **changes) as house:
            await test(house)

    asyncio.run(main())


def listening(service: str, **options: Any) -> dict[str, Any]:
    return {"service": service, "address": "127.0.0.1", "port": 0, **options}


CLEAR: dict[str, Any] = {"listen": [listening("smtp"), listening("submission", allow_plaintext_auth=True)]}
LOGIN = "AUTH PLAIN " + base64.b64encode(f"\0alice@posthouse.test\0{PASSWORD}".encode()).decode()
MESSAGE = "From: alice@posthouse.test\r\nSubject: hello\r\n\r\nbody\r\n."


async def submitted(house: House, *lines: str) -> list[str]:
    return (await house.said("submission", "EHLO c.example", LOGIN, *lines))[3:]


def test_success_is_reported_in_the_same_transaction(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        replies = await submitted(
            house,
            "MAIL FROM:<alice@posthouse.test> RET=HDRS ENVID=env+2B1",
            "RCPT TO:<bob@posthouse.test> NOTIFY=SUCCESS ORCPT=rfc822;robert@posthouse.test",
            "DATA",
            MESSAGE,
        )
        assert replies[-1].startswith("250 ")
        (report,) = await house.inbox("alice")
        assert b"Return-Path: <>\r\n" in report
        assert b"\r\nAction: delivered\r\nStatus: 2.0.0\r\n" in report
        assert b"\r\nOriginal-Envelope-Id: env+1\r\n" in report
        assert b"\r\nOriginal-Recipient: rfc822;robert@posthouse.test\r\n" in report
        assert len(await house.inbox("bob")) == 1

    run(tmp_path, test, **CLEAR)


def test_what_a_hook_discards_is_not_called_delivered(tmp_path: Path) -> None:
    policy = tmp_path / "policy.py"
    policy.write_text(
        "from posthouse.filter.hooks import discard\n"
        "def on_deliver(d):\n    return discard() if d.account.startswith('bob') else None\n"
    )
    asks = "NOTIFY=SUCCESS"

    async def test(house: House) -> None:
        lines = ("MAIL FROM:<alice@posthouse.test>", f"RCPT TO:<bob@posthouse.test> {asks}")
        replies = await submitted(house, *lines, "DATA", MESSAGE)
        assert replies[-1].startswith("250 ")
        assert await house.inbox("bob") == []
        assert await house.inbox("alice") == []
        replies = await submitted(house, lines[0], f"RCPT TO:<alice@posthouse.test> {asks}", "DATA", MESSAGE)
        assert replies[-1].startswith("250 ")
        assert len(await house.inbox("alice")) == 2, "the message, and that it was delivered"

    run(tmp_path, test, **CLEAR, filter={"policy": str(policy)})


@pytest.mark.parametrize(("may_hurry", "passed_on"), [(False, None), (True, 6)])
def test_strangers_make_nothing_urgent_anywhere(may_hurry: bool, passed_on: int | None) -> None:
    transaction = Transaction(Address("a", "b.example"), MailParams(priority=6), 0)
    where = Where("s", "smtp", "mail.here.test", "x", "EHLO", "192.0.2.1", "", "", None)
    content = Content(b"hash", 1, 1, 0, b"x", None)
    made = transaction.delivery(where, 1, 1, 1, content, DIGEST, may_hurry, None)
    assert unpack_mail(made.options).priority == passed_on
    assert made.priority == (passed_on or 0)


def test_the_tag_that_says_forged_goes_with_the_queued_message() -> None:
    where = Where("s", "smtp", "mail.here.test", "x", "EHLO", "192.0.2.1", "", "", None)
    for login, marked in ((None, True), (Login(1, "alice@posthouse.test"), False)):
        transaction = Transaction(Address("a", "b.example"), MailParams(), 0)
        transaction.tags = ["odd", "unauthentic"]
        content = Content(b"hash", 1, 1, 0, b"x", None)
        made = transaction.delivery(where._replace(login=login), 1, 1, 1, content, DIGEST, False, None)
        assert is_unauthentic(made.options) is marked


def test_a_list_is_reported_once(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        for member in ("alice@posthouse.test", "bob@posthouse.test", "x@elsewhere.example"):
            await house.database.write(accounts.add_address, "all@posthouse.test", member)
        await submitted(
            house,
            "MAIL FROM:<alice@posthouse.test>",
            "RCPT TO:<all@posthouse.test> NOTIFY=SUCCESS,FAILURE",
            "DATA",
            MESSAGE,
        )
        reports = [m for m in await house.inbox("alice") if b"Action:" in m]
        assert len(reports) == 1
        assert b"\r\nAction: expanded\r\n" in reports[0]

    run(tmp_path, test, **CLEAR)


def test_a_held_message_is_in_the_queue_and_not_in_the_mailbox(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        replies = await submitted(
            house, "MAIL FROM:<alice@posthouse.test> HOLDFOR=3600", "RCPT TO:<bob@posthouse.test>", "DATA", MESSAGE
        )
        assert replies[-1].startswith("250 ")
        assert await house.inbox("bob") == []
        ((message, (recipient,)),) = await house.database.read(outbox_admin.listing)
        assert recipient.address == "bob@posthouse.test"
        assert 3_500_000_000 < recipient.next_attempt - message.created < 3_700_000_000
        replies = await submitted(house, "MAIL FROM:<alice@posthouse.test> HOLDUNTIL=2001-01-01T00:00:00Z")
        assert replies[-1].startswith("501 ")
        replies = await submitted(house, "MAIL FROM:<alice@posthouse.test> HOLDFOR=600 BY=60;R")
        assert replies[-1].startswith("501 "), "its time would be over before it goes"
        replies = await submitted(house, "MAIL FROM:<alice@posthouse.test> HOLDFOR=60 BY=600;R")
        assert replies[-1].startswith("250 ")
        replies = await house.said("smtp", "EHLO c.example", "MAIL FROM:<x@example.com> HOLDFOR=60")
        assert replies[-1].startswith("555 "), "not for strangers"

    run(tmp_path, test, **CLEAR)


def test_users_send_as_themselves_unless_granted_more(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        async def sent(envelope: str, author: str) -> str:
            replies = await submitted(
                house,
                f"MAIL FROM:<{envelope}>",
                "RCPT TO:<bob@posthouse.test>",
                "DATA",
                f"From: {author}\r\n\r\nx\r\n.",
            )
            return next((reply for reply in replies if reply[0] in "45"), replies[-1])

        me = "alice@posthouse.test"
        assert (await sent(me, f"Alice <{me}>")).startswith("250 ")
        assert (await sent("alice+news@posthouse.test", me)).startswith("250 ")
        assert (await sent("", me)).startswith("250 "), "receipts have no sender"
        assert (await sent("bob@posthouse.test", me)).startswith("553 5.7.1 ")
        assert (await sent(me, "Bob <bob@posthouse.test>")).startswith("550 5.7.1 You may not send as bob@")
        assert (await sent(me, f"{me}, boss@elsewhere.example")).startswith("550 5.7.1 ")
        for header in (f"{me}\r\nSender: bob@posthouse.test", f"{me}\r\nResent-From: bob@posthouse.test",
                       f"{me}\r\nSubject: x\r\njunk\r\nFrom: bob@posthouse.test",
                       f"{me}\r\n\ufeffFrom: bob@posthouse.test", f"{me}\r\nFrom\0: bob@posthouse.test"):  # fmt: skip
            assert (await sent(me, header)).startswith("550 "), header
        await house.database.write(accounts.grant, me, "bob@posthouse.test")
        assert (await sent("bob@posthouse.test", "bob@posthouse.test")).startswith("250 ")
        assert (await sent("boss@elsewhere.example", me)).startswith("553 ")
        await house.database.write(accounts.grant, me, "@elsewhere.example")
        assert (await sent("boss@elsewhere.example", "x@elsewhere.example")).startswith("250 ")
        assert await house.database.read(accounts.grants, me) == ["@elsewhere.example", "bob@posthouse.test"]
        await house.database.write(accounts.grant, me, "bob@posthouse.test", False)
        assert (await sent("bob@posthouse.test", me)).startswith("553 ")

    run(tmp_path, test, **CLEAR)


def test_vrfy_and_expn_answer_users_alone(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        await house.database.write(accounts.add_address, "all@posthouse.test", "alice@posthouse.test")
        await house.database.write(accounts.add_address, "all@posthouse.test", "x@elsewhere.example")
        replies = await house.said("smtp", "EHLO c.example", "VRFY bob@posthouse.test", "EXPN all@posthouse.test")
        assert [reply[:3] for reply in replies[2:]] == ["252", "252"]
        replies = await submitted(
            house, "VRFY bob", "VRFY <nobody@posthouse.test>", "VRFY x@elsewhere.example", "EXPN all", "VRFY a b"
        )
        assert replies[0] == "250 2.1.5 <bob@posthouse.test>\r\n"
        assert [reply[:3] for reply in replies[1:3]] == ["550", "252"]
        assert replies[3] == "250-2.1.5 <alice@posthouse.test>\r\n250 2.1.5 <x@elsewhere.example>\r\n"
        assert replies[4].startswith("501 ")

    run(tmp_path, test, **CLEAR)


def test_international_addresses_end_to_end(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        made = await house.database.read(accounts.find_account, "bob@posthouse.test")
        await house.database.write(accounts.add_domain, "bücher.example", made.created)
        await house.database.write(accounts.add_address, "grün@bücher.example", "bob@posthouse.test")
        replies = await house.said(
            "smtp",
            "EHLO c.example",
            "MAIL FROM:<ä@example.com> SMTPUTF8",
            "RCPT TO:<GRÜN@bücher.example>",
            "RCPT TO:<grün@xn--bcher-kva.example>",
            "RCPT TO:<gru\u0308n@bücher.example>",
            "DATA",
            "Subject: Grüße\r\n\r\nx\r\n.",
        )
        assert [reply[:3] for reply in replies[2:]] == ["250", "250", "250", "250", "354", "250"]
        (message,) = await house.inbox("bob")
        assert message.startswith("Return-Path: <ä@example.com>\r\n".encode())
        assert b"with UTF8SMTP id" in message
        replies = await house.said("smtp", "EHLO c.example", "MAIL FROM:<ä@example.com>")
        assert replies[-1].startswith("553 5.6.7 ")

    run(tmp_path, test, **CLEAR)


def test_chunks_and_binary(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", house.ports["smtp"])
        content = b"Subject: b\r\nContent-Transfer-Encoding: binary\r\n\r\n\x00\r\n.\r\n\xff" + b"x" * 200_000
        writer.write(
            b"EHLO c\r\nMAIL FROM:<a@example.com> BODY=BINARYMIME\r\nRCPT TO:<bob@posthouse.test>\r\n"
            + b"BDAT %d\r\n" % len(content[:100_000])
            + content[:100_000]
            + b"BDAT %d LAST\r\n" % len(content[100_000:])
            + content[100_000:]
            + b"QUIT\r\n"
        )
        said = (await reader.read()).decode().splitlines()
        writer.close()
        assert [line[:3] for line in said[-5:]] == ["250", "250", "250", "250", "221"]
        (message,) = await house.inbox("bob")
        assert message.endswith(content)

    run(tmp_path, test, **CLEAR)


def lmtp_over(path: Path, *lines: str) -> list[str]:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        file = client.makefile("rwb")
        file.readline()
        file.write("".join(f"{line}\r\n" for line in lines).encode())
        file.flush()
        return file.read().decode().splitlines()


def test_lmtp_over_a_socket_and_tcp(tmp_path: Path) -> None:
    path = tmp_path / "lmtp.sock"

    async def test(house: House) -> None:
        lines = (
            "LHLO mta.example",
            "MAIL FROM:<x@example.com>",
            "RCPT TO:<alice@posthouse.test>",
            "RCPT TO:<nobody@posthouse.test>",
            "RCPT TO:<bob@posthouse.test>",
            "RCPT TO:<x@elsewhere.example>",
        )
        # DATA must be waited for, so the content comes by BDAT here
        said = await asyncio.to_thread(lmtp_over, path, *lines, "BDAT 3 LAST\r\nx\r\nQUIT")
        assert [line[:3] for line in said[-7:]] == ["250", "550", "250", "550", "250", "250", "221"]
        replies = await house.said("lmtp", *lines[:3], "DATA", "Subject: y\r\n\r\ny\r\n.")
        assert replies[-1].startswith("250 ")
        assert replies[1].startswith("250-mail.posthouse.test greets mta.example")
        assert any(b"with LMTP id" in message for message in await house.inbox("alice"))
        assert (await house.said("lmtp", "EHLO c.example"))[-1].startswith("500 ")
        assert path.stat().st_mode & 0o777 == 0o660

    run(tmp_path, test, listen=[listening("lmtp"), {"service": "lmtp", "path": str(path)}])
    assert not path.exists()


@pytest.mark.parametrize(
    ("header", "ip"),
    [
        (b"PROXY TCP4 192.0.2.7 127.0.0.1 4711 25\r\n", "192.0.2.7"),
        (b"PROXY TCP6 2001:db8::7 ::1 4711 25\r\n", "IPv6:2001:db8::7"),
        (b"PROXY UNKNOWN\r\n", "127.0.0.1"),
        (
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + bytes([192, 0, 2, 8, 127, 0, 0, 1]) + b"\x12\x67\0\x19",
            "192.0.2.8",
        ),
        (b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0", "127.0.0.1"),
    ],
)
@pytest.mark.parametrize("service", ["smtp", "submissions"])
def test_behind_a_proxy(tmp_path: Path, header: bytes, ip: str, service: str) -> None:
    async def test(house: House) -> None:
        def talk() -> str:
            with socket.create_connection(("127.0.0.1", house.ports[service])) as plain:
                plain.sendall(header)
                client = plain
                if service == "submissions":
                    client = house.context.wrap_socket(plain, server_hostname="localhost")
                file = client.makefile("rwb")
                file.readline()
                login = LOGIN + "\r\n" if service == "submissions" else ""
                text = f"EHLO c\r\n{login}MAIL FROM:<alice@posthouse.test>\r\nRCPT TO:<bob@posthouse.test>\r\n"
                file.write(text.encode() + b"BDAT 3 LAST\r\nx\r\nQUIT\r\n")
                file.flush()
                said = file.read().decode()
                client.close()
                return said

        await asyncio.to_thread(talk)
        await asyncio.to_thread(talk)
        messages = await house.inbox("bob")
        assert len(messages) in (0, 2)
        for message in messages:
            assert f"([{ip}])".encode() in message

    run(tmp_path, test, listen=[listening(service, proxy_protocol=True)], proxies=["127.0.0.1"])


@pytest.mark.parametrize(
    "header",
    [
        b"EHLO c.example\r\n",
        b"PROXY TCP4 300.0.2.7 127.0.0.1 1 2\r\n",
        b"PROXY " + b"x" * 200,
        b"PROXY TCP4 ::1 ::1 1 2\r\n",
        b"\r\n\r\n\0\r\nQUIT\n\x31\x11\0\x0c" + bytes(12),
        b"\r\n\r\n\0\r\nQUIT\n\x21\x12\0\x0c" + bytes(12),
    ],
)
def test_who_does_not_speak_as_a_proxy_is_not_heard(tmp_path: Path, header: bytes) -> None:
    async def test(house: House) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", house.ports["smtp"])
        writer.write(header + b"EHLO c\r\n" * 20)
        try:
            assert await reader.read() == b""
        except ConnectionResetError:
            pass
        writer.close()

    run(tmp_path, test, listen=[listening("smtp", proxy_protocol=True)], proxies=["127.0.0.1"])


def test_only_proxies_may_use_a_port_of_proxies(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", house.ports["smtp"])
        writer.write(b"PROXY TCP4 192.0.2.7 127.0.0.1 4711 25\r\n")
        try:
            assert await reader.read() == b""
        except ConnectionResetError:
            pass
        writer.close()

    run(tmp_path, test, listen=[listening("smtp", proxy_protocol=True)], proxies=["192.0.2.1"])


def test_xclient_from_a_proxy(tmp_path: Path) -> None:
    lines = (
        "EHLO proxy.example",
        "XCLIENT NAME=c.example ADDR=192.0.2.77 PORT=4711 HELO=there.example PROTO=ESMTP LOGIN=alice@posthouse.test",
        "EHLO there.example",
        "MAIL FROM:<alice@posthouse.test>",
        "RCPT TO:<bob@posthouse.test>",
        "DATA",
        MESSAGE,
    )

    async def test(house: House) -> None:
        replies = await house.said("smtp", *lines)
        assert "XCLIENT" in replies[1]
        assert replies[2].startswith("220 ")
        assert replies[-1].startswith("250 ")
        (message,) = await house.inbox("bob")
        assert b"from there.example ([192.0.2.77])" in message
        assert b"with ESMTPA id" in message
        replies = await house.said("smtp", "EHLO p", "XCLIENT LOGIN=nobody@posthouse.test")
        assert replies[-1].startswith("550 ")

    run(tmp_path, test, **CLEAR, proxies=["127.0.0.1"])

    async def others(house: House) -> None:
        replies = await house.said("smtp", *lines[:2])
        assert "XCLIENT" not in replies[1]
        assert replies[2].startswith("550 5.7.0 ")

    run(tmp_path / "2", others, **CLEAR, proxies=["192.0.2.1"])


def pair(folder: Path, name: str) -> dict[str, str]:
    _, certificate, key = self_made(folder, [name])
    return {"certificate": str(certificate), "key": str(key)}


def test_who_is_refused_for_the_address_that_a_proxy_tells_may_only_quit(tmp_path: Path) -> None:
    rule = {"network": ["203.0.113.0/24"], "action": "reject"}

    async def test(house: House) -> None:
        replies = await house.said(
            "smtp", "EHLO p", "XCLIENT ADDR=203.0.113.9", "EHLO x", "MAIL FROM:<a@b.example>", "QUIT"
        )
        assert replies[2].startswith("5")
        assert replies[3].startswith("5")
        assert replies[4].startswith("5")
        assert replies[5].startswith("221 ")
        # Nobody knows who it is: it has no more rights than anybody.
        for unknown in ("[UNAVAILABLE]", "[TEMPUNAVAIL]"):
            lines = (
                "EHLO p",
                f"XCLIENT ADDR={unknown}",
                "EHLO x",
                "MAIL FROM:<a@b.example>",
                "RCPT TO:<x@far.example>",
            )
            replies = await house.said("smtp", *lines)
            assert replies[-1].startswith("550 5.7.1 "), replies
        replies = await house.said("smtp", "EHLO p", "MAIL FROM:<a@b.example>", "RCPT TO:<x@far.example>")
        assert replies[-1].startswith("250 "), "the proxy itself may relay"

    relay = {"capture": True, "networks": ["127.0.0.0/8"]}
    run(tmp_path, test, **(CLEAR | {"relay": relay}), proxies=["127.0.0.1"], filter={"rule": [rule]})


def test_certificates_by_name_and_by_port(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        def names(service: str, wanted: str) -> set[str]:
            context = ssl.create_default_context()
            context.check_hostname = False
            for place in ("a", "b"):
                context.load_verify_locations(tmp_path / place / "ca.pem")
            assert house.app.tls is not None
            context.load_verify_locations(house.app.tls.ca)
            with (
                socket.create_connection(("127.0.0.1", house.ports[service])) as plain,
                context.wrap_socket(plain, server_hostname=wanted) as client,
            ):
                shown: Any = client.getpeercert()
                return {value for kind, value in shown["subjectAltName"] if kind == "DNS"}

        assert "mail.posthouse.test" in await asyncio.to_thread(names, "submissions", "mail.posthouse.test")
        assert await asyncio.to_thread(names, "submissions", "mail.other.example") == {"mail.other.example"}
        assert await asyncio.to_thread(names, "submissions", "x.wild.example") == {"*.wild.example"}
        assert await asyncio.to_thread(names, "imaps", "mail.other.example") == {"mail.port.example"}

    (tmp_path / "a").mkdir()
    named = [
        {"names": ["mail.other.example"], **pair(tmp_path / "a", "mail.other.example")},
        {"names": ["*.wild.example"], **pair(tmp_path / "b", "*.wild.example")},
    ]
    own = pair(tmp_path / "b2", "mail.port.example")
    (tmp_path / "b" / "ca2.pem").write_bytes((tmp_path / "b2" / "ca.pem").read_bytes())
    both = (tmp_path / "b" / "ca.pem").read_bytes() + (tmp_path / "b2" / "ca.pem").read_bytes()
    (tmp_path / "b" / "ca.pem").write_bytes(both)
    run(tmp_path, test, listen=[listening("submissions"), listening("imaps", **own)], tls={"named": named})


def test_an_old_device_on_a_port_of_its_own(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        def send(service: str) -> None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            context.set_ciphers("ALL:@SECLEVEL=0")
            context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1
            with smtplib.SMTP("127.0.0.1", house.ports[service]) as client:
                client.starttls(context=context)
                client.login("alice", PASSWORD)
                client.sendmail("alice@posthouse.test", ["bob@posthouse.test"], "Subject: scan\n\nx")

        with pytest.warns(DeprecationWarning, match="TLS"):
            await asyncio.to_thread(send, "submission")
        with pytest.warns(DeprecationWarning, match="TLS"), pytest.raises((ssl.SSLError, OSError)):
            await asyncio.to_thread(send, "smtp")
        (message,) = await house.inbox("bob")
        assert b"(TLSv1 " in message

    legacy = listening("submission", tls_profile="legacy", networks=["127.0.0.0/8"])
    run(tmp_path, test, listen=[legacy, listening("smtp")])


def test_a_port_for_some_networks_and_with_tls_only(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        replies = await house.said("smtp")
        assert replies[0].startswith("421 4.7.0 ")
        replies = await house.said("submission", "EHLO c.example", LOGIN, "MAIL FROM:<alice@posthouse.test>")
        assert "AUTH" not in replies[1]
        assert [reply[:3] for reply in replies[2:]] == ["538", "530"]

    closed = listening("smtp", networks=["192.0.2.0/24"])
    run(tmp_path, test, listen=[closed, listening("submission", require_tls=True)])

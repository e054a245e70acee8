"""What goes wrong at the worst moment, and who says what he is not: hooks that fail, proxies, LMTP and held mail."""

import asyncio
import contextlib
import io
import json
import smtplib
import threading
from pathlib import Path
from typing import Any

import pytest

from posthouse.delivery import accept
from posthouse.filter.gate import Gate
from posthouse.filter.visitor import Ruling, Stage, Visitor
from posthouse.servers.smtp.transaction import SECOND, Transaction, Where
from posthouse.smtp.params import DeliverBy, MailParams
from posthouse.store.blobs.writer import Content
from posthouse.store.intake import Intake
from posthouse.wire.address import Address
from tests.servers.test_mechanisms import add, client_ca
from tests.servers.test_smtp_filter import run as run_filter
from tests.servers.test_smtp_more import CLEAR, LOGIN, MESSAGE, listening, lmtp_over, run, submitted
from tests.store.test_sqlite import DIGEST
from tests.support.house import House


def unable_at(stage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The filters fail at a stage, and not by a verdict."""
    check = Gate.check

    async def fail(gate: Gate, at: Stage, visitor: Visitor, content: Any = None) -> Ruling:
        if at == stage:
            raise RuntimeError("it cannot be asked")
        return await check(gate, at, visitor, content)

    monkeypatch.setattr(Gate, "check", fail)


def test_who_cannot_be_judged_at_the_connection_is_told_to_come_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unable_at("connect", monkeypatch)

    async def test(house: House) -> None:
        (greeting,) = await house.said("smtp")
        assert greeting.startswith("421 Something went wrong here")

    run_filter(tmp_path, test, "def on_connect(client): return None")


def test_who_cannot_be_judged_at_login_is_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unable_at("auth", monkeypatch)

    async def test(house: House) -> None:
        replies = await house.said("submission", "EHLO c.example", LOGIN, "MAIL FROM:<alice@posthouse.test>")
        assert replies[2].startswith("451 4.3.0 ")
        assert replies[3].startswith("530 ")

    run_filter(tmp_path, test, "def on_auth(auth): return None")


PROXY: dict[str, Any] = CLEAR | {"proxies": ["127.0.0.1"]}


def test_a_proxy_that_names_somebody_unknown_may_only_quit(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        replies = await house.said(
            "smtp", "EHLO p", "XCLIENT ADDR=192.0.2.7 LOGIN=nobody@posthouse.test", "EHLO c", "QUIT"
        )
        assert [reply[:3] for reply in replies[2:]] == ["550", "503", "221"]

    run(tmp_path, test, **PROXY)


def test_a_hook_is_asked_about_a_login_that_a_proxy_tells(tmp_path: Path) -> None:
    policy = tmp_path / "policy.py"
    policy.write_text(
        "from posthouse.filter.hooks import *\n"
        "def on_auth(auth): return reject('Not alice') if auth.login.startswith('alice@') and auth.ip else None\n"
    )

    async def test(house: House) -> None:
        for name, code in (("alice", "550"), ("bob", "220")):
            replies = await house.said("smtp", "EHLO p", f"XCLIENT ADDR=192.0.2.7 LOGIN={name}@posthouse.test", "NOOP")
            assert replies[2].startswith(code)
            assert replies[3].startswith("250 " if code == "220" else "503 ")

    run(tmp_path, test, **PROXY, filter={"policy": str(policy)})


def test_an_address_from_a_proxy_has_one_spelling(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        lines = ("EHLO c", "MAIL FROM:<x@example.com>", "RCPT TO:<bob@posthouse.test>", "DATA", MESSAGE)
        for address in ("IPv6:::ffff:192.0.2.7", "192.0.2.7", "IPV6:2001:DB8:0::7%25eth0"):
            replies = await house.said("smtp", "EHLO p", f"XCLIENT ADDR={address}", *lines)
            assert replies[-1].startswith("250 "), replies
        first, second, third = await house.inbox("bob")
        assert b"([192.0.2.7])" in first
        assert b"([192.0.2.7])" in second
        assert b"([IPv6:2001:db8::7])" in third

    run(tmp_path, test, **PROXY)


def test_the_certificate_of_a_proxy_is_not_its_client_s(tmp_path: Path) -> None:
    ca, context, fingerprint = client_ca(tmp_path)

    async def test(house: House) -> None:
        assert house.app.tls is not None
        context.load_verify_locations(house.app.tls.ca)
        await add(house, "certificate", fingerprint, label="proxy")

        def speak() -> list[tuple[int, bytes]]:
            with smtplib.SMTP_SSL("localhost", house.ports["submissions"], context=context) as smtp:
                first = smtp.ehlo("proxy.example")
                smtp.docmd("XCLIENT", "ADDR=192.0.2.7")
                return [first, smtp.ehlo("client.example"), smtp.docmd("AUTH", "EXTERNAL =")]

        first, second, login = await asyncio.to_thread(speak)
        assert b"EXTERNAL" in first[1]
        assert b"EXTERNAL" not in second[1]
        assert login[0] == 504

    proxies = ["127.0.0.1", "::1"]
    run(tmp_path, test, listen=[listening("submissions", client_ca=str(ca))], proxies=proxies)


CONTENT = Content(b"hash", 1, 1, 0, b"x", None)


def made(params: MailParams, due: int, now: int, lifetime: int) -> accept.Delivery:
    transaction = Transaction(Address("a", "example.org"), params, due)
    where = Where("1", "submission", "mail.test", "c", "EHLO", "192.0.2.1", "", "", None)
    return transaction.delivery(where, 1, now, lifetime, CONTENT, DIGEST, True)


def test_a_held_message_does_not_end_before_it_is_let_go() -> None:
    hour = 3600 * SECOND
    asked = MailParams(by=DeliverBy(5 * 3600, "R"))
    assert made(asked, 4 * hour, 0, hour).expires == 5 * hour
    assert made(asked, 0, 0, hour).expires == hour
    assert made(asked, 0, 0, 9 * hour).expires == 5 * hour
    assert made(MailParams(), 4 * hour, 0, hour).expires == 5 * hour


POLICY = """
def on_deliver(copy):
    if copy.account.startswith("alice@"):
        return reject("Alice is on holiday", 552)
    return tag("for-" + copy.account.partition("@")[0])
"""


def test_lmtp_has_an_answer_for_each_recipient(tmp_path: Path) -> None:
    policy = tmp_path / "policy.py"
    policy.write_text("from posthouse.filter.hooks import *\n" + POLICY)
    path = tmp_path / "lmtp.sock"

    async def test(house: House) -> None:
        names = ("bob", "alice", "bob+x")
        rcpt = [f"RCPT TO:<{name}@posthouse.test>" for name in names]
        said = await asyncio.to_thread(
            lmtp_over, path, "LHLO c", "MAIL FROM:<x@example.com>", *rcpt, "BDAT 3 LAST\r\nx\r\nQUIT"
        )
        assert [line[:3] for line in said[-4:]] == ["250", "552", "250", "221"]
        assert said[-3] == "552 5.7.1 Alice is on holiday"
        (message,) = await house.inbox("bob")
        assert b"\r\nX-Posthouse-Tag: for-bob\r\n" in message, "what is marked last is not forgotten"
        assert await house.inbox("alice") == []
        said = await asyncio.to_thread(
            lmtp_over, path, "LHLO c", "MAIL FROM:<x@example.com>", rcpt[1], rcpt[1], "BDAT 3 LAST\r\nx\r\nQUIT"
        )
        assert [line[:3] for line in said[-3:]] == ["552", "552", "221"]
        # SMTP has one answer: the first refusal is everybody's.
        replies = await house.said("smtp", "EHLO c", "MAIL FROM:<x@example.com>", *rcpt, "DATA", MESSAGE)
        assert replies[-1].startswith("552 5.7.1 Alice is on holiday (id ")
        assert len(await house.inbox("bob")) == 1

    listen = [{"service": "lmtp", "path": str(path)}, listening("smtp")]
    run(tmp_path, test, listen=listen, filter={"policy": str(policy)})


def events(written: io.BytesIO, name: str) -> list[dict[str, Any]]:
    return [one for one in map(json.loads, written.getvalue().splitlines()) if one["event"] == name]


@pytest.mark.parametrize(
    ("proxies", "why"),
    [(["192.0.2.1"], "this address is not in `proxies`"), (["127.0.0.1"], "no PROXY header")],
)
def test_the_log_says_who_was_no_proxy_and_not_more_than_once_a_second(
    tmp_path: Path, proxies: list[str], why: str
) -> None:
    written = io.BytesIO()

    async def test(house: House) -> None:
        for last in (float("-inf"), float("inf"), float("inf"), float("-inf")):  # when the log had a line
            house.app._proxies_told = (last, house.app._proxies_told[1])
            reader, writer = await asyncio.open_connection("127.0.0.1", house.ports["smtp"])
            with contextlib.suppress(ConnectionError):
                writer.write(b"EHLO client.example\r\n")
                assert await reader.read() == b""
            writer.close()

    listen = [listening("smtp", proxy_protocol=True)]
    run(tmp_path, test, listen=listen, proxies=proxies, written=written)
    lines = events(written, "proxy.refused")
    assert [(one["ip"], one["why"], one["others"]) for one in lines] == [("127.0.0.1", why, n) for n in (0, 2)]


def test_the_log_says_that_a_mailbox_is_not_there(tmp_path: Path) -> None:
    policy = tmp_path / "policy.py"
    policy.write_text("from posthouse.filter.hooks import *\ndef on_deliver(copy): return into('Nowhere')\n")
    written = io.BytesIO()

    async def test(house: House) -> None:
        lines = ("EHLO c", "MAIL FROM:<x@example.com>", "RCPT TO:<bob@posthouse.test>", "DATA", MESSAGE)
        assert (await house.said("smtp", *lines))[-1].startswith("250 ")
        assert len(await house.inbox("bob")) == 1

    run(tmp_path, test, **CLEAR, filter={"policy": str(policy)}, written=written)
    (line,) = events(written, "filter.into")
    assert (line["account"], line["mailbox"], line["used"]) == ("bob@posthouse.test", "Nowhere", "INBOX")
    assert line["session"]


def test_a_large_header_does_not_keep_the_loop_busy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    finish, here = Intake.finish, []

    def finished(intake: Intake) -> Any:
        here.append(threading.current_thread() is threading.main_thread())
        return finish(intake)

    monkeypatch.setattr(Intake, "finish", finished)

    async def test(house: House) -> None:
        for size in (100, 17_000, 40_000):
            lines = ("EHLO c", "MAIL FROM:<x@example.com>", "RCPT TO:<bob@posthouse.test>", "DATA")
            replies = await house.said("smtp", *lines, f"To: {'@' * size}\r\n\r\nx\r\n.")
            assert replies[-1].startswith("250 ")
        assert here == [True, False, False]
        assert len(await house.inbox("bob")) == 3

    run(tmp_path, test, **CLEAR)


def test_who_is_named_twice_is_reported_once(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        rcpt = "RCPT TO:<bob@posthouse.test> NOTIFY=SUCCESS"
        replies = await submitted(house, "MAIL FROM:<alice@posthouse.test>", rcpt, rcpt, "DATA", MESSAGE)
        assert [reply[:3] for reply in replies] == ["250", "250", "250", "354", "250"]
        (report,) = await house.inbox("alice")
        assert report.count(b"\r\nAction: delivered\r\n") == 1
        assert len(await house.inbox("bob")) == 1

    run(tmp_path, test, **CLEAR)

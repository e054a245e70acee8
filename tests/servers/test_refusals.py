"""Mail that was refused has a trace, and nobody can fill the disk with it."""

import asyncio
import base64
import smtplib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from posthouse.base import ids
from posthouse.base.errors import StorageFull
from posthouse.base.ids import IdSource
from posthouse.base.log import get_logger
from posthouse.filter.visitor import MOST_NOTES, Visitor
from posthouse.servers.housekeeping import Housekeeping
from posthouse.servers.smtp import refusals
from posthouse.servers.smtp.refusals import HOUR, MINUTE, OF_ALL, OF_ONE, Refusals
from posthouse.servers.smtp.transaction import MOST_NAMED, MOST_REFUSED, Transaction, Where
from posthouse.smtp import replies
from posthouse.smtp.params import MailParams, RcptParams
from posthouse.smtp.replies import Reply
from posthouse.store import events
from posthouse.store.accounts import Resolution
from posthouse.store.database import Tx
from posthouse.store.events import Event
from posthouse.store.sqlite import SqliteDatabase
from posthouse.wire.address import Address
from tests.servers.test_smtp_more import CLEAR, LOGIN, submitted
from tests.support.clock import FakeClock, turns
from tests.support.house import PASSWORD, House, opened
from tests.support.loop import on_loop
from tests.support.store import opened as store

WHERE = Where("01M8FFNFAN98J", "smtp", "mail.here.test", "c.example", "EHLO", "192.0.2.7", "", "", None)


def serve(folder: Path, test: Callable[[House], Awaitable[None]], **changes: Any) -> None:
    async def main() -> None:
        async with asyncio.timeout(60), opened(folder, **CLEAR | changes) as house:
            await test(house)

    asyncio.run(main())


def _all(tx: Tx) -> list[Event]:
    return [event for (trace,) in tx.all("SELECT DISTINCT trace FROM event ORDER BY trace")
            for event in events.of_trace(tx, trace)]  # fmt: skip


async def kept(database: SqliteDatabase) -> list[Event]:
    return await database.read(_all)


async def written(house: House, count: int) -> list[Event]:
    """The events, once there are so many."""
    found: list[Event] = []
    while len(found) < count:
        await asyncio.to_thread(tell, house.app.settings.data)
        found = await kept(house.database)
    return found


def tell(data: Path) -> None:
    from posthouse.cli import opening

    assert opening.tell(data, "refusals")


def transaction(*refused: str, sender: str = "amy@friend.test") -> Transaction:
    made = Transaction(Address.parse(sender) or Address("", ""), MailParams(), 0, 1)
    for who in refused or ("bob@here.test",):
        made.reject(who, replies.NO_SUCH_USER)
    return made


def test_what_is_refused_after_mail_has_a_trace(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        mail, to = "MAIL FROM:<amy@friend.test> SIZE=100", "RCPT TO:<bob@posthouse.test>"
        nobody = "RCPT TO:<nobody@posthouse.test>"
        # Refused recipients, and RSET; then one that is taken; then one whose content is refused by the engine.
        await house.said("smtp", "EHLO c.example", mail, nobody, nobody, "RSET", "NOOP", mail, to, "RSET", "QUIT")
        (one,) = await written(house, 1)
        assert one.kind == "refused"
        assert one.trace == one.seq
        assert one.data["refused"] == [
            {"recipient": "nobody@posthouse.test", "reply": "550 5.1.1 No such mailbox here"}
        ] * 2  # fmt: skip
        assert (one.data["sender"], one.data["ip"], one.data["service"]) == ("amy@friend.test", "127.0.0.1", "smtp")
        assert one.data["mail"] == {"size": 100}
        assert ids.from_text(one.data["session"])
        replies_ = await house.said("smtp", "EHLO c.example", mail, to, nobody, "DATA", "Subject: x\r\n\r\nx\r\n.")
        assert replies_[-1].startswith("250 ")
        *_, two = await written(house, 2)
        assert two.kind == "accepted", "one event for both, as it is one transaction"
        assert [row["recipient"] for row in two.data["refused"]] == ["nobody@posthouse.test"]
        await house.said("smtp", "EHLO c.example", mail, to, "DATA", "Subject: x\r\n\r\na\nb\r\n.", "QUIT")
        *_, three = await written(house, 3)
        assert three.data["recipients"] == ["bob@posthouse.test"]
        assert three.data["refused"][0]["reply"].startswith("550 5.6.11 ")
        # One that the client drops is not refused.
        await house.said("smtp", "EHLO c.example", mail, to)
        await house.said("smtp", "EHLO c.example", mail, "QUIT")
        await submitted(house, "MAIL FROM:<bob@posthouse.test>")
        *_, four = await written(house, 4)
        assert four.data["login"] == "alice@posthouse.test"
        assert four.data["mechanism"] == "PLAIN"
        assert four.data["refused"] == [{"recipient": "", "reply": str(replies.SENDER_NOT_YOURS)}]

    serve(tmp_path, test)


def test_a_client_that_goes_without_a_word(tmp_path: Path) -> None:
    def visit(house: House) -> None:
        client = smtplib.SMTP("127.0.0.1", house.ports["smtp"], timeout=20)
        client.starttls(context=house.context)
        client.ehlo("c.example")
        client.mail("amy@friend.test")
        assert client.rcpt("nobody@posthouse.test")[0] == 550
        client.close()

    async def test(house: House) -> None:
        await asyncio.to_thread(visit, house)
        (one,) = await written(house, 1)
        assert one.data["refused"][0]["recipient"] == "nobody@posthouse.test"
        assert one.data["tls"].startswith("TLSv1.3 ")

    serve(tmp_path, test)


def test_a_limit_is_named(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        for _ in range(2):
            await submitted(house, "MAIL FROM:<alice@posthouse.test>", "RCPT TO:<bob@posthouse.test>")
        (one,) = [event for event in await written(house, 1) if event.kind == "refused"]  # there is a notice, too
        assert one.data["refused"][0]["reply"].startswith("450 4.7.28 At most 1 messages an hour")
        assert {"at": "mail", "by": "account alice@posthouse.test: more than 1 messages an hour"}.items() <= one.data[
            "filter"
        ][0].items()

    serve(tmp_path, test, filter={"account_limit": {"messages_per_hour": 1}})


def test_an_error_of_ours_is_a_refusal_too(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        async def broken(*_: Any) -> None:
            raise StorageFull("on purpose")

        house.database.submit = broken  # type: ignore[assignment, method-assign]
        lines = ("EHLO c", "MAIL FROM:<a@b.test>", "RCPT TO:<bob@posthouse.test>", "DATA", "Subject: x\r\n\r\nx\r\n.")
        assert (await house.said("smtp", *lines))[-1].startswith("452 4.3.1")
        del house.database.submit
        (one,) = await written(house, 1)
        assert one.kind == "refused"
        assert one.data["refused"] == [{"recipient": "", "reply": str(replies.STORAGE_FULL)}]

    serve(tmp_path, test)


def test_no_secret_is_in_the_trace(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        await submitted(house, "MAIL FROM:<alice@posthouse.test>", "RCPT TO:<bob@posthouse.test>", "DATA",
            "From: Me <alice@posthouse.test>\r\nSubject: our little secret\r\n\r\nbody of it\r\n.")  # fmt: skip
        await submitted(house, "MAIL FROM:<eve@posthouse.test>")
        text = str([event.data for event in await written(house, 2)])
        for secret in (PASSWORD, LOGIN.split()[-1], base64.b64encode(PASSWORD.encode()).decode()):
            assert secret not in text
        assert "little secret" not in text, "nor the subject"
        assert "body of it" not in text

    serve(tmp_path, test)


@on_loop
async def test_so_many_a_minute_and_an_hour() -> None:
    """Of one client and in all; the rest is counted, and the next that is kept says so."""
    async with store() as database:
        clock = FakeClock()
        log = Refusals(database, clock, IdSource(), get_logger())

        def keep(client: str) -> int:
            return log.keep(client, transaction(), WHERE, None, None)

        assert sum(keep("192.0.2.7") > 0 for _ in range(100)) == OF_ONE[MINUTE]
        assert sum(keep(f"2001:db8::{n:x}") > 0 for n in range(100)) == OF_ONE[MINUTE], "a /64 is one"
        for n in range(1000):
            keep(f"198.51.{n >> 8}.{n & 255}")
        await log.flush()
        rows = await kept(database)
        assert len(rows) == OF_ALL[MINUTE]
        assert rows[OF_ONE[MINUTE]].data["not_kept"] == {"client": 0, "all": 100 - OF_ONE[MINUTE]}
        clock.move(60)
        assert keep("192.0.2.7")
        await log.flush()
        assert (await kept(database))[-1].data["not_kept"]["client"] == 100 - OF_ONE[MINUTE]
        for _ in range(180):
            clock.move(60)
            for n in range(100):
                keep("192.0.2.7")
                keep(f"203.0.{n}.1")
        await log.flush()
        rows = await kept(database)
        assert len(rows) <= 4 * OF_ALL[HOUR]
        assert sum(event.seq > rows[60].seq for event in rows) > 2 * OF_ALL[HOUR], "an hour later there is room again"
        assert not log._rows


@on_loop
async def test_clients_without_number_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refusals, "CLIENTS", 50)
    async with store() as database:
        log = Refusals(database, FakeClock(), IdSource(), get_logger())
        for n in range(1000):
            log.keep(f"192.0.{n >> 8}.{n & 255}", transaction(), WHERE, None, None)
        assert len(log._clients) == 50
        assert len(log._rows) == OF_ALL[MINUTE]
        log.keep("/run/lmtp:sock", transaction(), WHERE, None, None)
        await log.close()
        assert len(await kept(database)) == OF_ALL[MINUTE]


@on_loop
async def test_they_are_written_in_batches_and_what_cannot_be_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    async with store() as database:
        clock = FakeClock()
        log = Refusals(database, clock, IdSource(), get_logger())
        log.keep("192.0.2.7", transaction(), WHERE, None, None)
        log.keep("192.0.2.8", transaction(), WHERE, None, None)
        await turns()
        assert await kept(database) == []
        await clock.advance(refusals.EVERY)
        while not await kept(database):
            pass
        assert len(await kept(database)) == 2

        async def full(*_: Any) -> None:
            raise StorageFull("on purpose")

        with monkeypatch.context() as broken:
            broken.setattr(database, "write", full)
            log.keep("192.0.2.9", transaction(), WHERE, None, None)
            await log.flush()
        await log.close()
        assert len(await kept(database)) == 2


@on_loop
async def test_they_go_with_other_traces() -> None:
    async with store() as database:
        clock = FakeClock()
        log = Refusals(database, clock, IdSource(), get_logger())
        log.keep("192.0.2.7", transaction(), WHERE, None, None)
        await log.close()
        tidy = Housekeeping(database, clock, get_logger(), 0.0, 30 * 86_400)
        await tidy.round()
        assert len(await kept(database)) == 1
        clock.move(31 * 86_400)
        await tidy.round()
        assert await kept(database) == []


def test_what_one_transaction_writes_down_is_bounded() -> None:
    one = transaction(*[f"{'x' * 60}{n}@here.test" for n in range(1000)])
    one.reject("", Reply(550, "5.7.1", "y" * 100_000))
    for n in range(1000):
        address = Address("z" * 60 + str(n), "here.test")
        many = Resolution(tuple(range(1000)), tuple(f"{'v' * 60}{m}@far.test" for m in range(1000)))
        one.add(address, RcptParams(("NEVER",), "rfc822;" + "w" * 400), many)
    data = one.refusal(WHERE._replace(hello="h" * 5000), 1_000_000, None, None)
    assert len(data["refused"]) == MOST_REFUSED
    assert data["refused"][-1]["reply"].startswith("550 5.7.1 yyy"), "what was said of the message is there"
    assert data["refused_more"] == 1001 - MOST_REFUSED
    assert len(data["recipients"]) == MOST_REFUSED
    assert data["recipients_more"] == 1000 - MOST_REFUSED
    assert len(str(data)) < 100_000
    leads = one.became[0]
    assert (len(leads["accounts"]), len(leads["elsewhere"]), leads["more"]) == (
        MOST_NAMED, MOST_NAMED, 2000 - 2 * MOST_NAMED
    )  # fmt: skip


def test_notes_of_filters_are_bounded() -> None:
    visitor = Visitor("s", "smtp", "192.0.2.7")
    for n in range(1000):
        visitor.note("hello", f"rule {n}", "tag x")
        visitor.note("hello", "rule 0", "tag x")
    assert len(visitor.notes) == MOST_NOTES
    visitor.send("a@b.test", None)
    for n in range(1000):
        visitor.ask_about(f"{n}@here.test")
        visitor.note("recipient", "greylisting", "451 later")
    assert len(visitor.notes) == 2 * MOST_NOTES
    assert visitor.notes[-1].about == f"{MOST_NOTES - 1}@here.test"
    visitor.begin()
    assert len(visitor.notes) == MOST_NOTES


def test_the_id_fits_into_the_reply() -> None:
    reply = replies.with_id(Reply(550, "5.7.1", "one\n" + "x" * 1000), "1M8FFNFAN98JX")
    assert reply.encode().endswith(b"xxx (id 1M8FFNFAN98JX)\r\n")
    assert reply.encode().startswith(b"550-5.7.1 one\r\n")

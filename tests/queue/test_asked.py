"""What senders ask of the queue besides delivery: DSN, REQUIRETLS, DELIVERBY, MT-PRIORITY, holding, BINARYMIME."""

import email

import pytest

from posthouse.smtp.params import NO_MAIL_PARAMS, NO_RCPT_PARAMS, DeliverBy, MailParams, RcptParams
from posthouse.store import accounts, outbox
from posthouse.store.database import Tx
from posthouse.store.envelope import pack_mail, pack_rcpt, unpack_mail, unpack_rcpt
from posthouse.store.model import QueueChanged
from posthouse.store.outbox import HERE, NewMessage
from tests.queue.site import ALICE, DAYS, MESSAGE, PREFIX, SECOND, Site, To, site
from tests.support.loop import on_loop
from tests.support.remote import Remote
from tests.support.store import put_blob

BOB = "bob@there.test"


async def ask(
    here: Site,
    mail: MailParams = NO_MAIL_PARAMS,
    rcpt: RcptParams = NO_RCPT_PARAMS,
    *,
    content: bytes = MESSAGE,
    to: str = BOB,
    destination: str | None = None,
    due: int = 0,
    sender: str = ALICE,
) -> int:
    """Queue a message with parameters and wait until it was tried."""
    trace = here.ids.next(here.clock.now())
    now = here.clock.now()

    def work(tx: Tx) -> None:
        blob_id = put_blob(tx, content)
        size = len(PREFIX) + len(content)
        message = NewMessage(
            trace, sender, here.alice, blob_id, PREFIX, size, now, now + 5 * DAYS,
            mail.priority or 0, pack_mail(mail), due,
        )  # fmt: skip
        where = to.rpartition("@")[2] if destination is None else destination
        outbox.add(tx, message, [To(to, where, pack_rcpt(rcpt))])
        tx.publish(QueueChanged(trace))

    await here.database.write(work)
    await here.settled()
    return trace


def said(remote: Remote, verb: str) -> str:
    return next(line for line in remote.commands if line.startswith(verb))


@pytest.mark.parametrize(
    "params",
    [
        MailParams(),
        MailParams(ret="HDRS", envid="a b+c", smtputf8=True, requiretls=True, by=DeliverBy(-5, "N", True), priority=-9),
        MailParams(body="BINARYMIME"),
    ],
)
def test_parameters_survive_the_queue(params: MailParams) -> None:
    assert unpack_mail(pack_mail(params)) == params
    assert (pack_mail(params) == "") == (params == MailParams())


def test_what_is_done_with_is_not_kept() -> None:
    assert pack_mail(MailParams(size=5, body="8BITMIME", auth="a@b.example")) == ""
    rcpt = RcptParams(("SUCCESS", "DELAY"), "utf-8;grün@example.org")
    assert unpack_rcpt(pack_rcpt(rcpt)) == rcpt


@on_loop
async def test_dsn_is_passed_on_where_it_is_offered() -> None:
    async with site() as here:
        remote = await here.remote("there.test", extensions=("PIPELINING", "DSN", "MT-PRIORITY", "DELIVERBY"))
        mail = MailParams(ret="HDRS", envid="id 7", by=DeliverBy(600, "R"), priority=3)
        await ask(here, mail, RcptParams(("SUCCESS", "FAILURE"), "rfc822;robert@there.test"))
        assert said(remote, "MAIL").endswith(" RET=HDRS ENVID=id+207 BY=600;R MT-PRIORITY=3")
        assert said(remote, "RCPT").endswith(" NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;robert@there.test")
        assert await here.bounces() == []


@on_loop
async def test_success_is_reported_by_us_where_dsn_ends() -> None:
    async with site() as here:
        await here.remote("there.test", extensions=("PIPELINING",))
        await ask(here, MailParams(envid="x1"), RcptParams(("SUCCESS",), "rfc822;robert@there.test"))
        (report,) = await here.bounces()
        assert b"Subject: Passed on: hello" in report
        assert b"\r\nAction: relayed\r\nStatus: 2.0.0\r\n" in report
        assert b"\r\nOriginal-Envelope-Id: x1\r\n" in report
        assert b"\r\nOriginal-Recipient: rfc822;robert@there.test\r\n" in report
        await ask(here)
        assert len(await here.bounces()) == 1


@pytest.mark.parametrize(("notify", "bounces"), [((), 1), (("FAILURE",), 1), (("NEVER",), 0), (("SUCCESS",), 0)])
@on_loop
async def test_failure_is_reported_if_it_is_wanted(notify: tuple[str, ...], bounces: int) -> None:
    async with site() as here:
        await here.remote("there.test", {"RCPT": "550 5.1.1 nobody"})
        await ask(here, rcpt=RcptParams(notify))
        assert len(await here.bounces()) == bounces
        assert await here.waiting() == {}


@pytest.mark.parametrize(("ret", "whole"), [("", False), ("HDRS", False), ("FULL", True)])
@on_loop
async def test_the_message_goes_back_whole_if_asked_for(ret: str, whole: bool) -> None:
    async with site() as here:
        await here.remote("there.test", {"RCPT": "550 5.1.1 nobody"})
        await ask(here, MailParams(ret=ret))
        (report,) = await here.bounces()
        kinds = [part.get_content_type() for part in email.message_from_bytes(report).walk()]
        assert ("message/rfc822" in kinds) == whole
        assert (b".dot" in report) == whole


@on_loop
async def test_requiretls_goes_to_no_server_whose_name_is_uncertain() -> None:
    async with site() as here:
        remote = await here.remote(
            "there.test",
            extensions=(
                "PIPELINING",
                "REQUIRETLS",
            ),
        )
        await ask(here, MailParams(requiretls=True))
        assert not remote.taken
        assert remote.connections == 0
        (report,) = await here.bounces()
        assert b"Status: 5.7.30" in report


@on_loop
async def test_a_time_limit_goes_to_no_server_that_does_not_know_it() -> None:
    async with site() as here:
        remote = await here.remote("there.test", extensions=("PIPELINING",))
        await ask(here, MailParams(by=DeliverBy(600, "R")))
        assert not remote.taken
        (report,) = await here.bounces()
        assert b"Status: 5.4.7" in report
        await ask(here, MailParams(by=DeliverBy(600, "N")))
        assert len(remote.taken) == 1


@on_loop
async def test_a_delay_beyond_the_time_asked_for_is_told_once() -> None:
    async with site() as here:
        await here.remote("there.test", {"RCPT": "450 4.2.1 later"})
        await ask(here, MailParams(by=DeliverBy(100, "N")))
        assert await here.bounces() == []
        await here.pass_time(3600)
        (report,) = await here.bounces()
        assert b"Subject: Delayed, still trying: hello" in report
        assert b"\r\nAction: delayed\r\n" in report
        await here.pass_time(7200)
        assert len(await here.bounces()) == 1


@on_loop
async def test_binary_content_goes_in_chunks_or_is_converted() -> None:
    content = b"Subject: b\r\nContent-Transfer-Encoding: binary\r\n\r\n\x00\r\r\n.\r\nQUIT\n\xff"
    async with site() as here:
        remote = await here.remote("there.test", extensions=("PIPELINING", "CHUNKING", "BINARYMIME"))
        await ask(here, MailParams(body="BINARYMIME"), content=content)
        assert remote.taken[0].content == PREFIX + content
        assert " BODY=BINARYMIME" in said(remote, "MAIL")
    async with site() as here:
        remote = await here.remote(
            "there.test",
            extensions=(
                "PIPELINING",
                "CHUNKING",
            ),
        )
        await ask(here, MailParams(body="BINARYMIME"), content=content)
        (taken,) = remote.taken
        assert taken.content.isascii()
        assert b"\r\nContent-Transfer-Encoding: base64\r\n" in taken.content
        got = email.message_from_bytes(taken.content).get_payload(decode=True)
        assert got == content.partition(b"\r\n\r\n")[2]
        assert " BODY=" not in said(remote, "MAIL")


@on_loop
async def test_a_held_message_waits_for_its_time() -> None:
    async with site() as here:
        remote = await here.remote("there.test")
        due = here.clock.now() + 3600 * SECOND
        await ask(here, due=due)
        await ask(here, to=ALICE, destination=HERE, due=due)
        assert not remote.taken
        await here.pass_time(3590)
        assert not remote.taken
        assert await here.bounces() == []
        await here.pass_time(20)
        assert len(remote.taken) == 1
        (arrived,) = await here.bounces()
        assert arrived.endswith(PREFIX + MESSAGE)
        assert await here.waiting() == {}


@on_loop
async def test_a_held_message_to_somebody_who_is_gone_bounces() -> None:
    async with site() as here:
        await ask(here, to="gone@here.test", destination=HERE)
        (report,) = await here.bounces()
        assert b"Status: 5.1.1" in report


@on_loop
async def test_each_recipient_of_a_held_message_has_its_own_end() -> None:
    async with site() as here:
        trace, now = here.ids.next(here.clock.now()), here.clock.now()

        def work(tx: Tx) -> None:
            blob_id = put_blob(tx, MESSAGE)
            size = len(PREFIX) + len(MESSAGE)
            outbox.add(
                tx,
                NewMessage(trace, ALICE, here.alice, blob_id, PREFIX, size, now, now + 5 * DAYS),
                [To(ALICE, HERE), To("gone@here.test", HERE)],
            )
            tx.publish(QueueChanged(trace))

        await here.database.write(work)
        await here.settled()
        bounce, arrived = sorted(await here.bounces(), key=len, reverse=True)
        assert arrived.endswith(PREFIX + MESSAGE)
        assert b"Status: 5.1.1" in bounce
        assert b"gone@here.test" in bounce
        assert await here.waiting() == {}


@on_loop
async def test_a_held_message_that_goes_on_elsewhere_asks_for_what_it_asked_for() -> None:
    async with site() as here:

        def alias(tx: Tx) -> None:
            accounts.add_address(tx, "fwd@here.test", BOB)

        await here.database.write(alias)
        remote = await here.remote("there.test")
        await ask(here, MailParams(requiretls=True, envid="7"), to="fwd@here.test", destination=HERE)
        assert not remote.taken, "there is no TLS"
        (report,) = await here.bounces()
        assert b"Status: 5.7.30" in report
        assert b"Original-Envelope-Id: 7" in report


@on_loop
async def test_reports_of_messages_that_require_tls_show_a_stranger_nothing() -> None:
    async with site() as here:
        own = await here.remote("there.test", {"RCPT": "550 5.1.1 unknown"})
        far = await here.remote("far.test")
        now = here.clock.now()
        secret = b"Subject: a secret\r\n\r\nthe plan\r\n"
        for number, account_id in ((1, None), (2, here.alice)):

            def work(tx: Tx, number: int = number, account_id: int | None = account_id) -> None:
                blob_id = put_blob(tx, secret)
                options = pack_mail(MailParams(requiretls=True, ret="FULL"))
                sender = ALICE if account_id else "eve@far.test"
                outbox.add(
                    tx,
                    NewMessage(number, sender, account_id, blob_id, b"", len(secret), now, now + DAYS, 0, options),
                    [To(BOB, "there.test")],
                )
                tx.publish(QueueChanged(number))

            await here.database.write(work)
            await here.settled()
        assert not own.taken
        (told,) = far.taken
        assert b"secret" not in told.content
        assert b"the plan" not in told.content
        assert BOB.encode() in told.content
        (report,) = await here.bounces()
        assert b"Subject: a secret" in report
        assert b"the plan" not in report, "RET=FULL counts as HDRS"


@on_loop
@pytest.mark.parametrize("capture", [False, True])
@pytest.mark.parametrize("name", ["here", "captured", "HERE"])
async def test_domains_that_are_called_like_something_of_ours_are_domains(name: str, capture: bool) -> None:
    async with site(relay={"capture": capture}) as here:
        trace = await here.run(f"x@{name}")
        (attempt,) = await here.attempts(trace)
        assert await here.waiting() == {}
        assert len(here.captured) == capture
        if not capture:
            assert attempt.data["results"][f"x@{name}"]["status"] == "5.1.2"
            (report,) = await here.bounces()
            assert b"does not exist" in report


@on_loop
async def test_urgent_messages_overtake() -> None:
    async with site() as here:
        now = here.clock.now()

        def work(tx: Tx) -> list[int]:
            for number, priority in enumerate((0, -4, 0, 6)):
                blob_id = put_blob(tx, b"%d" % number)
                message = NewMessage(number + 1, ALICE, None, blob_id, b"", 1, now + number, now * 2, priority)
                outbox.add(tx, message, [To(BOB, "there.test")])
            return [claim.message.id for claim in outbox.claim(tx, "x", now + 60 * SECOND, now * 2, 10)]

        assert await here.database.write(work) == [4, 1, 3, 2]
        await here.database.write(outbox.record, "x", [outbox.Outcome(number, None) for number in range(1, 9)])

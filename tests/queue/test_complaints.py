"""Complaints: what a report does, what it must not do, and that none is lost."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from posthouse.base import ids
from posthouse.base.log import get_logger
from posthouse.delivery.directory import Directory
from posthouse.delivery.inject import Injector
from posthouse.mime import trace as traces
from posthouse.mime.threads import message_id_hash
from posthouse.queue import arrivals, complaints
from posthouse.queue.complaints import Complaints
from posthouse.store import accounts, events, feedback, hook_calls, mailboxes, messages, suppression
from posthouse.store.database import Tx
from tests.queue.site import ALICE, DAYS, Site, site
from tests.support.loop import on_loop

BOB, CAROL = "bob@there.test", "carol@there.test"
FBL = "fbl@here.test"


def report(
    trace: int = 0,
    *,
    recipients: tuple[str, ...] = (BOB,),
    kind: str = "abuse",
    by: str = "mail.here.test",
    message_id: str = "",
) -> bytes:
    """A feedback report about the message of a trace, or with a Message-ID."""
    original = traces.received(by=by, id=ids.to_text(trace), at=0) if trace else b""
    original += f"Message-ID: <{message_id}>\r\n".encode() if message_id else b""
    named = "".join(f"Original-Rcpt-To: <{one}>\r\n" for one in recipients)
    return (
        b"From: fbl@there.test\r\nContent-Type: multipart/report; report-type=feedback-report; boundary=b\r\n\r\n"
        b"--b\r\nContent-Type: message/feedback-report\r\n\r\n"
        + f"Feedback-Type: {kind}\r\nUser-Agent: There/1\r\n{named}\r\n--b\r\n".encode()
        + b"Content-Type: message/rfc822\r\n\r\n"
        + original
        + b"Subject: x\r\n\r\nx\r\n--b--\r\n"
    )


class Desk:
    """Somebody at fbl@, and mail that alice sent."""

    def __init__(self, here: Site) -> None:
        self.here = here
        self.directory = Directory(here.database, here.feed, "mail.here.test")
        self.injector = Injector(here.database, self.directory, here.clock, here.ids, "mail.here.test", 5.0)
        self.complaints = self.new()

    def new(self) -> Complaints:
        here = self.here
        return Complaints(
            here.settings, here.database, here.feed, self.directory.resolve, here.clock, here.ids, get_logger()
        )

    async def sent(self, *recipients: str, login: str = ALICE, message_id: str = "m1@here.test") -> int:
        """The trace of a message."""
        trace = self.here.ids.next(self.here.clock.now())
        data = {"login": login, "sender": ALICE, "recipients": list(recipients), "message_id": message_id}
        await self.here.database.write(
            events.add, trace, trace, "accepted", data, message_id_hash(message_id) if message_id else 0
        )
        return trace

    async def arrives(self, content: bytes, to: str = FBL, sender: str = "fbl@there.test") -> None:
        keep = await self.injector.keeper(sender, [to], content, {})
        assert keep is not None
        await self.here.database.write(keep)
        await self.complaints.still.wait()

    async def complained(self, trace: int) -> list[dict[str, object]]:
        told = await self.here.database.read(events.of_trace, trace)
        return [event.data for event in told if event.kind == "complained"]

    async def listed(self) -> list[tuple[str, str, str]]:
        found = await self.here.database.read(suppression.listing, self.here.clock.now())
        return [(account, entry.address, entry.reason) for account, entry in found]


@asynccontextmanager
async def desk(*, queue: Mapping[str, Any] = MappingProxyType({}), **options: Any) -> AsyncIterator[Desk]:
    queue = {"feedback": (FBL, "abuse@here.test"), **queue}
    async with site(queue=queue, **options) as here:
        await here.database.write(accounts.add_account, "desk@here.test", "hash", 1)
        await here.database.write(accounts.add_address, FBL, "desk@here.test")
        one = Desk(here)
        await one.complaints.start()
        await one.complaints.still.wait()
        try:
            yield one
        finally:
            await one.complaints.close()


@on_loop
async def test_a_report_goes_to_the_trace_the_webhooks_and_the_suppression_list(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x" * 16)
    hook = {"name": "app", "url": "https://a.test/", "secret_file": tmp_path / "secret"}
    other = {**hook, "name": "other", "accounts": ("other@here.test",)}
    async with desk(webhook=(hook, other, {**hook, "name": "bounces", "events": ("bounced",)})) as one:
        trace = await one.sent(BOB, CAROL)
        await one.arrives(report(trace))
        (event,) = await one.complained(trace)
        assert (event["recipient"], event["type"], event["reporter"]) == (BOB, "abuse", "there.test")
        (call,) = await one.here.database.read(hook_calls.history)
        assert (call.hook, call.event, call.trace, call.recipient) == ("app", "complained", trace, BOB)
        assert '"attempt":null' in call.body
        assert '"complaint":{"type":"abuse","reporter":"there.test","mailer":"There/1"' in call.body
        assert '"account":"alice@here.test"' in call.body
        assert await one.listed() == [(ALICE, BOB, "complained")]
        # The same again counts no second time, and another recipient's own does.
        await one.arrives(report(trace))
        await one.arrives(report(trace, recipients=(CAROL, BOB)))
        assert [event["recipient"] for event in await one.complained(trace)] == [BOB, CAROL]
        assert len(await one.here.database.read(hook_calls.history)) == 2


@on_loop
async def test_by_the_message_id_where_the_received_fields_are_gone() -> None:
    async with desk() as one:
        trace = await one.sent(BOB)
        await one.arrives(report(message_id="m1@here.test"))
        assert len(await one.complained(trace)) == 1


@on_loop
async def test_whose_complaint_it_is() -> None:
    async with desk() as one:
        alone = await one.sent(BOB, message_id="a@here.test")
        await one.arrives(report(alone, recipients=()))
        assert [event["recipient"] for event in await one.complained(alone)] == [BOB]
        several = await one.sent(BOB, CAROL, message_id="b@here.test")
        await one.arrives(report(several, recipients=()))
        await one.arrives(report(several, recipients=("somebody-else@there.test",)))
        assert [event["recipient"] for event in await one.complained(several)] == [""]
        assert await one.listed() == [(ALICE, BOB, "complained")], "nobody else is guessed"


@pytest.mark.parametrize("kind", ["not-spam", "auth-failure"])
def test_what_is_no_complaint(kind: str) -> None:
    @on_loop
    async def test() -> None:
        async with desk() as one:
            trace = await one.sent(BOB)
            await one.arrives(report(trace, kind=kind))
            assert await one.complained(trace) == []

    test()


@on_loop
async def test_what_a_report_cannot_do() -> None:
    async with desk() as one:
        trace = await one.sent(BOB)
        stranger = await one.sent(BOB, login="", message_id="s@here.test")
        gone = await one.sent(BOB, login="gone@here.test", message_id="g@here.test")
        # To another address of the same mailbox; ids of another server; mail of nobody here; nonsense.
        await one.arrives(report(trace), to="desk@here.test")
        await one.arrives(report(trace, by="mail.elsewhere.test"))
        await one.arrives(report(stranger))
        await one.arrives(report(gone))
        await one.arrives(report((1 << 62) + 5))
        await one.arrives(b"Subject: hello\r\n\r\nFeedback-Type: abuse\r\n")
        for one_trace in (trace, stranger, gone):
            assert await one.complained(one_trace) == []
        assert await one.listed() == []
        # And with a detail it is the address itself.
        await one.arrives(report(trace), to="fbl+there@here.test")
        assert len(await one.complained(trace)) == 1


@on_loop
async def test_no_entry_where_the_list_is_switched_off() -> None:
    async with desk(queue={"suppress": False}) as one:
        trace = await one.sent(BOB)
        await one.arrives(report(trace))
        assert len(await one.complained(trace)) == 1
        assert await one.listed() == []


@on_loop
async def test_what_came_while_nobody_looked_is_looked_at() -> None:
    """A crash between the delivery and the look, and mail from before the setting was made."""
    async with desk() as one:
        trace = await one.sent(BOB)
        await one.complaints.close()
        one.complaints.still.set()
        await one.arrives(report(trace))
        assert await one.complained(trace) == []
        one.complaints = one.new()
        await one.complaints.start()
        await one.complaints.still.wait()
        assert len(await one.complained(trace)) == 1


@on_loop
async def test_a_failure_is_made_up_for(monkeypatch: pytest.MonkeyPatch) -> None:
    async with desk() as one:
        trace, second = await one.sent(BOB), await one.sent(CAROL, message_id="m2@here.test")
        usual, failures = feedback.accepted, iter((True,))

        def accepted(*args: object) -> dict[str, object]:
            if next(failures, False):
                raise OSError("no")
            return usual(*args)  # type: ignore[arg-type]

        monkeypatch.setattr(feedback, "accepted", accepted)
        await one.arrives(report(trace))
        assert await one.complained(trace) == []
        await one.arrives(report(second, recipients=(CAROL,)))
        assert len(await one.complained(trace)) == len(await one.complained(second)) == 1


@on_loop
async def test_many_at_once_are_gone_through_instead_of_kept_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrivals, "MAX_PENDING", 2)
    monkeypatch.setattr(arrivals, "SLICE", 3)
    async with desk() as one:
        sent = [await one.sent(BOB, message_id=f"{n}@here.test") for n in range(10)]
        keeps = [await one.injector.keeper("x@there.test", [FBL], report(trace), {}) for trace in sent]
        await asyncio.gather(*(one.here.database.write(keep) for keep in keeps if keep is not None))
        await one.complaints.still.wait()
        assert [len(await one.complained(trace)) for trace in sent] == [1] * 10


@on_loop
async def test_an_address_that_gets_an_owner_later_and_old_mail() -> None:
    async with desk() as one:
        old = await one.sent(BOB, message_id="old@here.test")
        await one.here.database.write(accounts.add_address, "abuse@here.test", "desk@here.test")
        await one.here.database.write(accounts.remove_address, FBL)
        one.directory.forget()
        await one.complaints.still.wait()
        await one.arrives(report(old), to="abuse@here.test")
        assert len(await one.complained(old)) == 1
        # Messages that are older than any trace are passed over when the mailboxes are gone through.
        account = (await one.here.database.read(accounts.find_account, "desk@here.test")).id
        since = one.here.clock.now()
        assert len(await one.here.database.read(feedback.since, complaints.PURPOSE, account, since, 10)) == 0
        await one.here.database.write(lambda tx: tx.run("UPDATE looked_at SET modseq = 0"))
        assert len(await one.here.database.read(feedback.since, complaints.PURPOSE, account, since, 10)) == 1
        assert await one.here.database.read(feedback.since, complaints.PURPOSE, account, since + 31 * DAYS, 10) == []


@on_loop
async def test_a_copy_made_by_its_reader_counts_no_second_time() -> None:
    async with desk() as one:
        trace = await one.sent(BOB)
        await one.arrives(report(trace))
        account = (await one.here.database.read(accounts.find_account, "desk@here.test")).id

        def copy(tx: Tx) -> None:
            inbox = mailboxes.inbox_id(tx, account)
            messages.copy(tx, account, inbox, None, inbox)

        await one.here.database.write(copy)
        await one.complaints.still.wait()
        assert len(await one.complained(trace)) == 1

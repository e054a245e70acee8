"""Accounts that are full: mail from outside is put off, and nobody else does without for it."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from posthouse.app import App
from posthouse.auth import passwords
from posthouse.delivery import quotas
from posthouse.delivery.quotas import Quotas
from posthouse.store import accounts, check, outbox_admin, quota
from posthouse.store.database import Tx
from posthouse.store.model import UsageChanged
from tests.servers.test_smtp_more import CLEAR, MESSAGE, listening, lmtp_over, run, submitted
from tests.support.clock import FakeClock
from tests.support.house import PASSWORD, House, settings

BOB, ALICE = "RCPT TO:<bob@posthouse.test>", "RCPT TO:<alice@posthouse.test>"
FULL = "452 4.2.2 This mailbox is full; try again later\r\n"


async def sent(house: House, *lines: str) -> list[str]:
    return (await house.said("smtp", "EHLO c", *lines))[2:]


async def limit(house: House, name: str, storage: int, messages: int = 0) -> None:
    await house.database.write(quota.set_limits, f"{name}@posthouse.test", storage, messages)


def test_a_full_account_is_put_off_at_rcpt_and_takes_mail_again_when_there_is_room(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        begin = ("MAIL FROM:<x@example.com>", BOB, "DATA", MESSAGE)
        assert (await sent(house, *begin))[-1].startswith("250 ")
        await limit(house, "bob", 0, 1)
        assert await sent(house, "MAIL FROM:<x@example.com>", BOB) == [
            "250 2.1.0 Sender OK\r\n",
            FULL,
        ]
        assert (await sent(house, "MAIL FROM:<x@example.com>", ALICE))[-1].startswith("250 ")
        # Those who run the server can be reached, whoever reads that.
        await house.database.write(accounts.add_address, "abuse@posthouse.test", "bob@posthouse.test")
        await house.database.write(accounts.add_address, "postmaster@posthouse.test", "bob@posthouse.test")
        for name in ("abuse", "ABUSE+x", "postmaster"):
            replies = await sent(
                house, "MAIL FROM:<x@example.com>", f"RCPT TO:<{name}@posthouse.test>", "DATA", MESSAGE
            )
            assert replies[-1].startswith("250 "), name
        await limit(house, "bob", 0, 5)
        assert (await sent(house, *begin))[-1].startswith("250 ")
        assert (await sent(house, "MAIL FROM:<x@example.com>", BOB))[-1] == FULL
        await house.database.write(expunge_all, "bob@posthouse.test")
        assert (await sent(house, *begin))[-1].startswith("250 ")
        # Users who send hear it too.
        await limit(house, "bob", 0, 1)
        assert (await submitted(house, "MAIL FROM:<alice@posthouse.test>", BOB))[-1] == FULL

    run(tmp_path, test, **CLEAR)


def expunge_all(tx: Tx, name: str) -> None:
    from posthouse.store import mailboxes, messages

    account_id = accounts.find_account(tx, name).id
    inbox = mailboxes.inbox_id(tx, account_id)
    messages.remove(tx, account_id, inbox, [uid for (uid,) in tx.all("SELECT uid FROM entry WHERE expunged = 0")])


def test_size_counts_as_it_is_announced_and_as_it_is(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        await limit(house, "bob", 2000)
        assert (await sent(house, "MAIL FROM:<x@example.com> SIZE=2001", BOB))[-1] == FULL
        assert (await sent(house, "MAIL FROM:<x@example.com> SIZE=1500", BOB))[-1].startswith("250 ")
        large = "Subject: large\r\n\r\n" + ("x" * 70 + "\r\n") * 40 + "."
        (*_, refusal) = await sent(house, "MAIL FROM:<x@example.com>", BOB, "DATA", large)
        assert refusal.startswith(FULL.rstrip())
        assert await house.inbox("bob") == []
        # With another recipient SMTP's one answer is yes: bob's copy waits in the queue.
        assert (await sent(house, "MAIL FROM:<x@example.com>", BOB, ALICE, "DATA", large))[-1].startswith("250 ")
        assert len(await house.inbox("alice")) == 1
        assert await house.inbox("bob") == []
        ((_, (waiting,)),) = await house.database.read(outbox_admin.listing)
        assert waiting.address == "bob@posthouse.test"

    run(tmp_path, test, **CLEAR)


def test_the_default_of_the_settings_is_for_those_without_a_quota_of_their_own(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        assert (await sent(house, "MAIL FROM:<x@example.com> SIZE=1500", BOB))[-1] == FULL
        await limit(house, "bob", 5000)
        assert (await sent(house, "MAIL FROM:<x@example.com> SIZE=1500", BOB))[-1].startswith("250 ")
        await limit(house, "bob", 0)
        assert (await sent(house, "MAIL FROM:<x@example.com> SIZE=9999", BOB))[-1].startswith("250 ")
        await limit(house, "bob", quota.AS_SETTINGS)
        assert (await sent(house, "MAIL FROM:<x@example.com> SIZE=1500", BOB))[-1] == FULL

    run(tmp_path, test, **CLEAR, limits={"quota_storage": 1000})


def test_lmtp_answers_for_each_recipient(tmp_path: Path) -> None:
    path = tmp_path / "lmtp.sock"

    async def test(house: House) -> None:
        await limit(house, "bob", 10)
        said = await asyncio.to_thread(
            lmtp_over, path, "LHLO c", "MAIL FROM:<x@example.com>", BOB, ALICE, "BDAT 30 LAST\r\n" + "x" * 30 + "QUIT"
        )
        assert [line[:9] for line in said[-3:-1]] == ["452 4.2.2", "250 2.0.0"]
        assert len(await house.inbox("alice")) == 1
        assert await house.inbox("bob") == []
        said = await asyncio.to_thread(
            lmtp_over, path, "LHLO c", "MAIL FROM:<x@example.com>", BOB, "BDAT 30 LAST\r\n" + "x" * 30 + "QUIT"
        )
        assert said[-2][:9] == "452 4.2.2"

    run(tmp_path, test, listen=[{"service": "lmtp", "path": str(path)}, listening("smtp")])


def test_of_several_behind_an_alias_the_full_one_gets_it_from_the_queue(tmp_path: Path) -> None:
    clock = FakeClock()
    made = passwords.make(PASSWORD)

    def people(tx: Tx) -> None:
        accounts.add_domain(tx, "posthouse.test", 1_000_000)
        for name in ("alice", "bob"):
            accounts.add_account(tx, f"{name}@posthouse.test", made.hash, 1_000_000, "", made.scram)
            accounts.add_address(tx, "all@posthouse.test", f"{name}@posthouse.test")

    async def main() -> None:
        async with asyncio.timeout(60), App(settings(tmp_path, **CLEAR), clock=clock) as app:
            house = House(app)
            await house.database.write(people)
            await limit(house, "bob", 10)
            rcpt = "RCPT TO:<all@posthouse.test>"
            replies = await sent(house, "MAIL FROM:<x@example.com> SIZE=50", rcpt, "DATA", MESSAGE)
            assert replies[-1].startswith("250 ")
            assert len(await house.inbox("alice")) == 1
            await until(house, lambda one: one.attempts == 1 and one.last_status == "4.2.2")
            assert await house.inbox("bob") == []
            await limit(house, "bob", 0)
            await clock.advance(7200)
            while await house.database.read(outbox_admin.listing):
                pass
            (message,) = await house.inbox("bob")
            assert b"Subject: hello\r\n" in message
            assert len(await house.inbox("alice")) == 1
            # When everybody behind it is full, nobody need take it.
            await limit(house, "bob", 10)
            await limit(house, "alice", 10)
            assert (await sent(house, "MAIL FROM:<x@example.com> SIZE=50", rcpt))[-1] == FULL
            assert await house.database.read(check.findings) == []

    asyncio.run(main())


async def until(house: House, fits: Callable[[Any], bool]) -> None:
    while True:
        ((_, (one,)),) = await house.database.read(outbox_admin.listing)
        if fits(one):
            return


def test_what_is_remembered_is_bounded_and_follows_the_feed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quotas, "REMEMBERED", 1)

    async def test(house: House) -> None:
        await limit(house, "bob", 0, 1)
        ids = [a.id for a in await house.database.read(accounts.list_accounts)]
        memory = Quotas(house.database, house.app.feed, house.app.settings.limits)
        assert memory.unknown(ids)
        for account_id in ids:
            await memory.learn([account_id])
        assert len(memory._known) == 1
        assert not memory.full(ids, 0)
        house.app.feed.publish([UsageChanged(ids[1], 5, 1)])
        assert [one.name for one in memory.full(ids, 0)] == ["bob@posthouse.test"]
        # Where nobody has a limit, nobody is looked up.
        await limit(house, "bob", 0, 0)
        await memory.learn(ids)
        assert not memory.unknown(ids)
        assert not memory._known

    run(tmp_path, test, **CLEAR)

"""Held messages to people of ours, and what the operator's `on_deliver` says when they are let go."""

import asyncio
import io
from pathlib import Path

from posthouse.app import App
from posthouse.auth import passwords
from posthouse.base import log
from posthouse.delivery.inject import RELEASED
from posthouse.store import accounts, check, mailboxes, outbox_admin
from posthouse.store.database import Tx
from tests.servers.test_smtp_more import CLEAR, submitted
from tests.support.clock import FakeClock
from tests.support.house import PASSWORD, House, settings

POLICY = """
from posthouse.filter.hooks import *

def on_deliver(copy):
    subject = copy.get("Subject")
    if subject == "into":
        assert copy.login == copy.sender == "alice@posthouse.test"
        assert copy.recipients == ("bob@posthouse.test",) and not copy.ip
        return into("Later")
    if subject == "discard":
        return discard()
    if subject == "reject":
        return reject("Bob wants none of it")
    if subject == "fail":
        raise LookupError("not yet")
    return tag("held")
"""


def test_the_hook_is_asked_when_a_held_message_is_let_go(tmp_path: Path) -> None:
    (tmp_path / "policy.py").write_text(POLICY)
    clock, written = FakeClock(), io.BytesIO()
    log.configure("json", "info", written)
    made = passwords.make(PASSWORD)

    def people(tx: Tx) -> int:
        accounts.add_domain(tx, "posthouse.test", 1_000_000)
        accounts.add_account(tx, "alice@posthouse.test", made.hash, 1_000_000, "", made.scram)
        bob = accounts.add_account(tx, "bob@posthouse.test", made.hash, 1_000_000, "", made.scram)
        mailboxes.create(tx, bob, "Later")
        return bob

    def places(tx: Tx, account_id: int) -> dict[str, int]:
        return dict(
            tx.all(
                "SELECT mailbox.name, count(*) FROM entry JOIN mailbox ON mailbox.id = mailbox_id "
                "WHERE mailbox.account_id = ? AND expunged = 0 GROUP BY mailbox.name",
                account_id,
            )
        )

    async def main() -> None:
        chosen = settings(tmp_path, **CLEAR, filter={"policy": str(tmp_path / "policy.py")})
        async with asyncio.timeout(60), App(chosen, clock=clock) as app:
            house, bob = House(app), await app.database.write(people)
            for subject in ("into", "discard", "reject", "fail", "plain"):
                replies = await submitted(
                    house,
                    "MAIL FROM:<alice@posthouse.test> HOLDFOR=3600",
                    "RCPT TO:<bob@posthouse.test>",
                    "DATA",
                    f"From: alice@posthouse.test\r\nSubject: {subject}\r\n\r\nx\r\n.",
                )
                assert replies[-1].startswith("250 ")
            assert await house.database.read(places, bob) == {}
            await clock.advance(3601)
            while True:  # until one is left, and it was tried
                left = await house.database.read(outbox_admin.listing)
                if len(left) == 1 and all(one.next_attempt > clock.now() for one in left[0][1]):
                    break
            assert b'"queue.failed"' in written.getvalue()
            assert await house.database.read(places, bob) == {"Later": 1, "INBOX": 1}
            (message,) = await house.inbox("bob")
            assert b"X-Posthouse-Tag: held\r\n" in message
            bounces = [m for m in await house.inbox("alice") if b"multipart/report" in m]
            assert len(bounces) == 1
            assert b"Subject: reject\r\n" in bounces[0]
            assert b"\r\nStatus: 5.7.1\r\n" in bounces[0]
            assert await house.database.read(check.findings) == []

    asyncio.run(main())
    assert RELEASED == "released", "the queue writes it into the trace"

"""What accounts hold, and how much they may."""

import asyncio
from pathlib import Path

import apsw
import pytest

from posthouse.base.errors import NotFound, OverQuota, Permanent
from posthouse.store import check, mailboxes, messages, quota, schema
from posthouse.store.database import Tx
from posthouse.store.dialect import SQLITE
from posthouse.store.sqlite import SqliteTx
from tests.store.test_mailboxes import with_account
from tests.store.test_sqlite import account, deliver
from tests.support.store import opened


def test_limits_are_the_accounts_own_or_those_of_the_settings() -> None:
    def body(tx: Tx, alice: int, inbox: int) -> None:
        deliver(tx, alice, b"x" * 100)
        usage = quota.of_account(tx, alice, 50)
        assert usage is not None
        assert usage == (alice, "alice@example.org", 113, 1, 50, 0)
        assert usage.is_over()
        assert not quota.has_limits(tx)
        quota.set_limits(tx, "alice@example.org", 0, 2)
        assert quota.has_limits(tx)
        quota.check(tx, alice, 50)
        messages.copy(tx, alice, inbox, None, inbox)
        quota.check(tx, alice, 50)
        messages.copy(tx, alice, inbox, [1], inbox)
        with pytest.raises(OverQuota):
            quota.check(tx, alice, 50)
        quota.set_limits(tx, "alice@example.org", quota.AS_SETTINGS, 0)
        with pytest.raises(OverQuota):
            quota.check(tx, alice, 50)
        quota.check(tx, alice, 0)
        with pytest.raises(Permanent):
            quota.set_limits(tx, "alice@example.org", 1 << 62)
        with pytest.raises(NotFound):
            quota.set_limits(tx, "bob@example.org", 1)
        mailboxes.create(tx, alice, "Other")
        messages.move(tx, alice, inbox, None, mailboxes.create(tx, alice, "New").id)
        mailboxes.delete(tx, alice, "New")
        assert quota.of_all(tx, 0) == [(alice, "alice@example.org", 0, 0, 0, 0)]

    with_account(body)


def test_a_database_from_before_is_counted_once(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path) as database:
            alice = await account(database)
            await database.write(deliver, alice, b"x" * 100)
            path, files = database.path, database.files
        con = apsw.Connection(str(path))
        for column in ("size", "messages", "quota_storage", "quota_messages"):
            con.execute(f"ALTER TABLE account DROP COLUMN {column}")
        for table in ("annotation", "acl"):
            con.execute(f"DROP TABLE {table}")
        con.execute("DELETE FROM step WHERE number = 9")
        con.close()
        async with opened(tmp_path) as database:
            assert await database.read(quota.of_all, 0) == [(alice, "alice@example.org", 113, 1, 0, 0)]
            await database.write(lambda tx: tx.run("UPDATE account SET messages = 2"))
            assert await database.read(check.findings) == [
                f"account {alice}: its size and messages are 113, 2, its mailboxes hold 113, 1"
            ]
            await database.write(lambda tx: tx.run("UPDATE account SET messages = 1"))
        con = apsw.Connection(str(path))
        assert schema.upgrade(SqliteTx(con, files), SQLITE, 1) == 0
        con.close()

    asyncio.run(main())

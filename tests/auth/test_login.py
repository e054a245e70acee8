"""Logins: right and wrong passwords, what is remembered, when a client must wait. Time is a fake clock."""

import asyncio
import io

import pytest

from posthouse.auth import passwords
from posthouse.auth.login import REMEMBERED_FOR, Login, Logins, Refused
from posthouse.auth.throttle import FREE_TRIES
from posthouse.base import log
from posthouse.base.errors import Permanent
from posthouse.store import accounts, credentials
from posthouse.store.feed import ChangeFeed
from posthouse.store.sqlite import SqliteDatabase
from tests.support.clock import FakeClock
from tests.support.store import opened

NOW = 1_700_000_000_000_000
PASSWORD = "correct horse battery"


async def prepared(database: SqliteDatabase, clock: FakeClock, trusted: str = "") -> tuple[Logins, int, io.BytesIO]:
    written = io.BytesIO()
    log.configure("json", "debug", written)
    feed = ChangeFeed()
    database.on_commit(feed.publish)
    await database.write(accounts.add_domain, "example.org", NOW)
    secret = passwords.hash_password(PASSWORD)
    alice = await database.write(accounts.add_account, "alice@example.org", secret, NOW)
    return Logins(database, clock, feed, log.get_logger(), lambda ip: ip == trusted), alice, written


def test_right_wrong_and_unknown() -> None:
    async def main() -> None:
        async with opened() as database:
            logins, alice, written = await prepared(database, FakeClock())
            found = await database.read(credentials.find, "alice")
            assert found is not None
            wanted = Login(alice, "alice@example.org", found.credentials[0].id)
            assert await logins.verify("alice@example.org", PASSWORD, "192.0.2.1", "imap") == wanted
            assert await logins.verify("ALICE", PASSWORD, "192.0.2.1", "imap") == wanted
            for name, password in [("alice", "wrong"), ("nobody", PASSWORD), ("", ""), ("alice", "\0"), ("al\0", "x")]:
                assert await logins.verify(name, password, "192.0.2.1", "imap") is Refused.WRONG
            assert PASSWORD.encode() not in written.getvalue()
            assert b'"event":"login.refused"' in written.getvalue()
            await logins.close()

    asyncio.run(main())


def test_a_remembered_password_is_looked_up_again_after_a_while() -> None:
    """Even if nobody told us that it was changed."""

    async def main() -> None:
        async with opened() as database:
            clock = FakeClock()
            logins, alice, _ = await prepared(database, clock)
            assert isinstance(await logins.verify("alice", PASSWORD, "192.0.2.1", "imap"), Login)
            new = passwords.hash_password("another password")
            await database.write(lambda tx: tx.run("UPDATE credential SET secret = ? WHERE account_id = ?", new, alice))
            assert isinstance(await logins.verify("alice", PASSWORD, "192.0.2.1", "imap"), Login), "remembered"
            clock.move(REMEMBERED_FOR + 1)
            assert await logins.verify("alice", PASSWORD, "192.0.2.1", "imap") is Refused.WRONG
            await logins.close()

    asyncio.run(main())


def test_a_new_password_ends_what_was_remembered() -> None:
    async def main() -> None:
        async with opened() as database:
            logins, alice, _ = await prepared(database, FakeClock())
            assert await logins.verify("alice", PASSWORD, "192.0.2.1", "imap")
            new = passwords.hash_password("another password")
            await database.write(accounts.set_password, alice, new)
            assert await logins.verify("alice", PASSWORD, "192.0.2.1", "imap") is Refused.WRONG
            assert await logins.verify("alice", "another password", "192.0.2.1", "imap")
            await logins.close()

    asyncio.run(main())


def test_wrong_passwords_make_the_next_try_wait_and_the_wait_ends() -> None:
    async def main() -> None:
        async with opened() as database:
            clock = FakeClock()
            logins, _, _ = await prepared(database, clock, trusted="127.0.0.1")
            for _ in range(FREE_TRIES):
                assert await logins.verify("alice", "wrong", "192.0.2.1", "smtp") is Refused.WRONG
                assert await logins.verify("alice", "wrong", "127.0.0.1", "smtp") is Refused.WRONG
            assert await logins.verify("alice", PASSWORD, "192.0.2.1", "smtp") is Refused.LATER, "must wait"
            assert await logins.verify("alice", PASSWORD, "127.0.0.1", "smtp"), "trusted networks never wait"
            logins.forget()
            assert await logins.verify("alice", PASSWORD, "192.0.2.9", "smtp"), "others are not kept out"
            logins.forget()
            await clock.advance(61)
            assert await logins.verify("alice", PASSWORD, "192.0.2.1", "smtp"), "the wait ended"
            await logins.close()

    asyncio.run(main())


def test_an_old_hash_is_replaced_at_login() -> None:
    async def main() -> None:
        async with opened() as database:
            logins, alice, _ = await prepared(database, FakeClock())
            import argon2

            old = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(PASSWORD)
            await database.write(accounts.set_password, alice, old)
            assert await logins.verify("alice", PASSWORD, "192.0.2.1", "imap")
            found = await database.read(credentials.find, "alice")
            assert found is not None
            (own,) = found.credentials
            assert own.secret != old
            assert not passwords.needs_rehash(own.secret)
            assert own.scram.startswith("SCRAM-SHA-256$")
            await logins.close()

    asyncio.run(main())


@pytest.mark.parametrize("password", ["", "short", "x" * 1025, "with\0nul-byte"])
def test_passwords_that_are_refused(password: str) -> None:
    with pytest.raises(Permanent):
        passwords.hash_password(password)


def test_a_damaged_hash_is_no_password() -> None:
    assert not passwords.verify("not a hash", "x")
    assert not passwords.needs_rehash("not a hash")


def test_all_names_of_an_account_and_all_addresses_of_a_network_wait_together() -> None:
    async def main() -> None:
        async with opened() as database:
            logins, _, _ = await prepared(database, FakeClock())
            await database.write(accounts.add_address, "info@example.org", "alice@example.org")
            names = ("alice", "ALICE@example.org", "info@example.org", "alice@example.org", " alice")
            for number, name in enumerate(names[:FREE_TRIES]):
                assert await logins.verify(name, "wrong", f"2001:db8::{number}", "imap") is Refused.WRONG
            for name in names:
                assert await logins.verify(name, PASSWORD, "2001:db8::ff", "imap") is Refused.LATER
            assert isinstance(await logins.verify("alice", PASSWORD, "2001:db8:0:1::1", "imap"), Login)
            await logins.close()

    asyncio.run(main())


def test_connections_end_with_their_account_and_only_then() -> None:
    async def main() -> None:
        async with opened() as database:
            logins, _, _ = await prepared(database, FakeClock())
            login = await logins.verify("alice", PASSWORD, "192.0.2.1", "imap")
            assert isinstance(login, Login)
            ended = asyncio.Event()
            gone = asyncio.Event()
            logins.enter(login, ended.set)
            leave = logins.enter(login, gone.set)
            leave()
            leave()
            await database.write(accounts.add_account, "bob@example.org", "hash", NOW)
            await database.read(accounts.active)
            assert not ended.is_set()
            await database.write(accounts.remove_account, "alice@example.org")
            await asyncio.wait_for(ended.wait(), 30)
            assert not gone.is_set(), "it had closed by itself"
            await logins.close()

    asyncio.run(main())


def test_many_guesses_at_once_are_no_better_than_one_after_the_other() -> None:
    async def main() -> None:
        async with opened() as database:
            logins, _, _ = await prepared(database, FakeClock())
            guesses = [logins.verify("alice", f"guess {n}", "192.0.2.7", "imap") for n in range(40)]
            found = await asyncio.gather(*guesses)
            assert found.count(Refused.WRONG) == FREE_TRIES
            assert found.count(Refused.LATER) == 40 - FREE_TRIES
            right = await asyncio.gather(*(logins.verify("alice", PASSWORD, "192.0.2.8", "imap") for _ in range(10)))
            assert all(isinstance(login, Login) for login in right), "many connections of one program are welcome"
            assert logins._throttle._turns == {}
            await logins.close()

    asyncio.run(main())

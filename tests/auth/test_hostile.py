"""Logins under attack: proofs side by side, floods of failures, what is removed while somebody logs in."""

import asyncio
import re
from collections.abc import Awaitable

import pytest

from posthouse.auth import passwords
from posthouse.auth.exchange import Exchange, Surroundings
from posthouse.auth.login import REMEMBERED_FOR, Login, Logins, Refused, Visitor
from posthouse.auth.throttle import FAILURES, FREE_TRIES, LONGEST_WAIT, NETWORK_FREE, NETWORK_WINDOW, TOKENS, Throttle
from posthouse.auth.tokens import Verifier
from posthouse.base.log import get_logger
from posthouse.store import accounts, attempts, credentials
from posthouse.store.attempts import Attempt
from posthouse.wire import sasl
from tests.auth.test_login import NOW, PASSWORD, prepared
from tests.support.clock import FakeClock, turns
from tests.support.store import opened

HERE = Visitor("192.0.2.7", "smtp", "", "SCRAM-SHA-256")


@pytest.mark.parametrize(
    ("mechanism", "name"),
    [
        ("SCRAM-SHA-256", "alice@example.org"),
        ("SCRAM-SHA-256", "nobody@example.org"),
        ("CRAM-MD5", "alice@example.org"),  # a name without such a secret has nothing that could be guessed
    ],
)
def test_proofs_side_by_side_are_no_better_than_passwords(mechanism: str, name: str) -> None:
    async def main() -> None:
        async with opened() as database:
            logins, alice, _ = await prepared(database, FakeClock())
            await database.write(credentials.add, alice, "cram", "readable", NOW)
            surroundings = Surroundings({}, None, (mechanism,))

            async def begun() -> tuple[Exchange, bytes]:
                exchange = Exchange(logins, HERE._replace(mechanism=mechanism), surroundings)
                first = None if mechanism == "CRAM-MD5" else f"n,,n={name},r=abcdef".encode()
                challenge = await exchange.step(first)
                assert isinstance(challenge, sasl.Challenge)
                if mechanism == "CRAM-MD5":
                    return exchange, name.encode() + b" " + b"0" * 32
                nonce = re.match(rb"r=([^,]+)", challenge.data)
                assert nonce is not None
                return exchange, b"c=biws,r=" + nonce[1] + b",p=" + b"A" * 43 + b"="

            exchanges = [await begun() for _ in range(40)]  # all before the first is judged
            found = await asyncio.gather(*(exchange.step(proof) for exchange, proof in exchanges))
            assert found.count(Refused.WRONG) == FREE_TRIES
            assert found.count(Refused.LATER) == 40 - FREE_TRIES
            assert logins._throttle._turns == {}
            await logins.close()

    asyncio.run(main())


@pytest.mark.parametrize(("trusted", "looked_at"), [("", NETWORK_FREE), ("192.0.2.7", 120)])
def test_one_password_on_many_accounts_at_once_is_no_better(trusted: str, looked_at: int) -> None:
    async def main() -> None:
        async with opened() as database:
            logins, _, _ = await prepared(database, FakeClock(), trusted)
            guesses = [logins.verify(f"user{n}@example.org", "Summer2026", "192.0.2.7", "smtp") for n in range(120)]
            found = await asyncio.gather(*guesses)
            wrong = found.count(Refused.WRONG)
            assert wrong == looked_at
            assert found.count(Refused.LATER) == 120 - wrong
            assert (logins._throttle._turns, logins._throttle._crowds) == ({}, {})
            await logins.close()

    asyncio.run(main())


def test_who_gives_up_while_it_waits_leaves_its_turn_to_others() -> None:
    async def main() -> None:
        throttle, done = Throttle(), asyncio.Event()
        entered: list[int] = []

        async def attempt(number: int) -> None:
            async with throttle.turn((number, "192.0.2.7"), 0.0):
                entered.append(number)
                await done.wait()

        tasks = [asyncio.create_task(attempt(number)) for number in range(NETWORK_FREE + 5)]
        await turns(10)
        assert entered == list(range(NETWORK_FREE))
        for task in tasks[-5:-2]:
            task.cancel()
        tasks[0].cancel()
        await turns(10)
        assert entered[NETWORK_FREE:] == [NETWORK_FREE + 3], "one is gone, one may come"
        done.set()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert len(entered) == NETWORK_FREE + 2
        assert (throttle._turns, throttle._crowds) == ({}, {})

    asyncio.run(main())


class Issuer(Verifier):
    """Says of a token what is in it, when all that are asked about have had time to come."""

    def __init__(self) -> None:
        super().__init__(None, FakeClock(), get_logger())
        self.asked = self.now = self.most = 0

    async def examine(self, token: str) -> tuple[str, str]:
        self.asked += 1
        self.now += 1
        self.most = max(self.most, self.now)
        await turns(20)
        self.now -= 1
        name, _, why = token.partition("/")
        return name, why


def bearer(logins: Logins, token: str, ip: str = HERE.ip) -> Awaitable[object]:
    exchange = Exchange(logins, HERE._replace(mechanism="XOAUTH2", ip=ip), Surroundings({}, None, ("XOAUTH2",)))
    return exchange.step(f"user=\1auth=Bearer {token}\1\1".encode())


def test_tokens_side_by_side_are_no_better_and_one_that_is_over_is_its_owner_s() -> None:
    async def main() -> None:
        async with opened() as database:
            logins, _, _ = await prepared(database, FakeClock())
            logins.verifier = issuer = Issuer()
            found = await asyncio.gather(*(bearer(logins, "nobody-knows-it/unknown") for _ in range(60)))
            assert all(isinstance(one, sasl.Challenge) for one in found)
            assert issuer.most == TOKENS
            assert issuer.asked < FREE_TRIES + TOKENS
            issuer.asked = 0
            for _ in range(10):
                assert isinstance(await bearer(logins, "alice/over", "192.0.2.8"), sasl.Challenge)
            assert issuer.asked == 10
            assert isinstance(await bearer(logins, "alice", "192.0.2.8"), Login)
            await logins.close()

    asyncio.run(main())


def test_who_must_wait_is_not_pushed_out_by_others() -> None:
    throttle = Throttle()
    alice = throttle.place(1, "192.0.2.1")
    for _ in range(FREE_TRIES + 6):
        throttle.failed(alice, 0.0)
    for number in range(FAILURES + 1000):
        elsewhere = f"198.18.{number >> 8}.{number & 255}"
        throttle.failed(throttle.place(f"nobody{number}", elsewhere), 1.0)
        throttle.failed(throttle.place(number + 2, elsewhere), 1.0)
    assert throttle.must_wait(alice, 2.0)
    assert all(
        len(table._light) + len(table._heavy) <= 2 * FAILURES for table in (throttle._accounts, throttle._unknown)
    )
    for number in range(FAILURES + 10):  # even by others that must wait
        for _ in range(FREE_TRIES):
            throttle.failed(throttle.place(number + 2, "192.0.2.2"), 3.0)
    assert throttle.must_wait(alice, 4.0)
    assert len(throttle._accounts._heavy) <= FAILURES


@pytest.mark.parametrize(
    ("address", "neighbour", "other"),
    [("192.0.2.1", "192.0.2.1", "192.0.2.2"), ("2001:db8::1", "2001:db8::2", "2001:db8:0:1::1")],
)
def test_one_password_on_every_account_makes_the_network_wait(address: str, neighbour: str, other: str) -> None:
    throttle = Throttle()
    for number in range(NETWORK_FREE):
        assert not throttle.must_wait(throttle.place(number + 1, address), 1.0)
        throttle.failed(throttle.place(number + 1, address), 1.0)
    assert throttle.must_wait(throttle.place(999, neighbour), 1.5)
    assert throttle.must_wait(throttle.place("nobody", neighbour), 1.5)
    assert not throttle.must_wait(throttle.place(999, other), 1.5)
    throttle.succeeded(throttle.place(1, address))
    assert throttle.must_wait(throttle.place(1, address), 1.5), "an account of one's own is no way out"
    assert not throttle.must_wait(throttle.place(999, address), 2.1)
    throttle.failed(throttle.place(999, address), 2.1)
    assert throttle.must_wait(throttle.place(998, address), 4.0), "twice as long"
    end = 3.0 + NETWORK_WINDOW + LONGEST_WAIT
    throttle.failed(throttle.place(999, address), end)
    assert not throttle.must_wait(throttle.place(998, address), end + 0.1), "all is forgotten"


def test_failures_that_are_far_apart_do_not_add_up_for_a_network() -> None:
    throttle = Throttle()
    for number in range(NETWORK_FREE * 2):
        throttle.failed(throttle.place(number + 1, "192.0.2.1"), number * NETWORK_WINDOW / 10)
    assert not throttle.must_wait(throttle.place(999, "192.0.2.1"), NETWORK_FREE * 2 * NETWORK_WINDOW / 10)


def test_trusted_networks_are_not_counted() -> None:
    async def main() -> None:
        async with opened() as database:
            logins, _, _ = await prepared(database, FakeClock(), trusted=HERE.ip)
            for number in range(NETWORK_FREE + 1):
                logins.refuse(f"nobody{number}", HERE, "wrong")
            assert not logins._throttle.must_wait(logins._throttle.place("x", HERE.ip), 0.0)
            await logins.close()

    asyncio.run(main())


def test_a_remembered_password_is_forgotten_in_time() -> None:
    async def main() -> None:
        async with opened() as database:
            clock = FakeClock()
            logins, alice, written = await prepared(database, clock)
            for _ in range(2):
                assert isinstance(await logins.verify("alice", PASSWORD, HERE.ip, "imap"), Login)
            assert written.getvalue().count(b'"event":"login.accepted"') == 2, "those that are remembered are logged"
            generation, remembered = logins._generation, logins._remembered.copy()
            await database.write(accounts.set_password, alice, passwords.hash_password("another password"))
            logins._remembered, logins._generation = remembered, generation  # nobody told us
            clock.move(REMEMBERED_FOR + 1)
            assert await logins.verify("alice", PASSWORD, HERE.ip, "imap") is Refused.WRONG
            assert not logins._remembered
            await logins.close()

    asyncio.run(main())


@pytest.mark.parametrize("how", ["kept", "removed", "expired", "barred"])
def test_a_credential_is_judged_when_the_exchange_ends(how: str) -> None:
    async def main() -> None:
        async with opened() as database:
            clock = FakeClock()
            logins, alice, _ = await prepared(database, clock)
            salt = b"s" * passwords.SALT
            keys = passwords.scram_keys("app-password", salt)
            kind = "password" if how == "barred" else "app"
            if how == "barred":
                found = await database.read(credentials.find, "alice")
                assert found is not None
                await database.write(credentials.set_scram, found.credentials[0].id, keys)
            else:
                expires = clock.now() + 60_000_000
                await database.write(
                    lambda tx: credentials.add(
                        tx, alice, "app", "hash", NOW, label="phone", expires=expires, scram=keys
                    )
                )
            wanted = await logins.wanted("alice", "SCRAM-SHA-256", HERE)
            assert not isinstance(wanted, Refused)
            assert [one.kind for one in wanted.credentials] == [kind]
            if how == "removed":
                await database.write(credentials.remove, alice, "app", "phone")
            elif how == "expired":
                clock.move(61)
            elif how == "barred":
                await database.write(credentials.add, alice, "totp", "secret", NOW)
            else:
                await database.write(accounts.add_account, "bob@example.org", "hash", NOW)
            login = await logins.proved(wanted, 0, HERE)
            assert isinstance(login, Login) if how == "kept" else login is Refused.WRONG
            await logins.close()

    asyncio.run(main())


def test_connections_end_with_their_credential_and_only_then() -> None:
    async def main() -> None:
        async with opened() as database:
            logins, alice, _ = await prepared(database, FakeClock())
            password = passwords.new_app_password()
            app = passwords.fast_hash(passwords.plain_app_password(password))
            await database.write(lambda tx: credentials.add(tx, alice, "app", app, NOW, label="phone"))
            ended, other = asyncio.Event(), asyncio.Event()
            for shown, event in ((password, ended), (PASSWORD, other)):
                login = await logins.verify("alice", shown, HERE.ip, "imap")
                assert isinstance(login, Login)
                logins.enter(login, event.set)
            await database.write(credentials.remove, alice, "app", "phone")
            await asyncio.wait_for(ended.wait(), 30)
            assert not other.is_set()
            await logins.close()

    asyncio.run(main())


def test_failures_do_not_wipe_the_record() -> None:
    async def main() -> None:
        async with opened() as database:
            logins, alice, _ = await prepared(database, FakeClock())
            assert isinstance(await logins.verify("alice", PASSWORD, "192.0.2.8", "imap"), Login)
            for _ in range(FREE_TRIES + 20):
                await logins.verify("alice", "wrong", HERE.ip, "imap")
            await logins._recorder.flush()
            rows = await database.read(attempts.of_account, alice, 5000)
            assert [one.result for one in rows] == ["wrong password"] * FREE_TRIES + ["accepted"], (
                "what was not looked at is not"
            )
            many = [
                Attempt(rows[0].id + 1 + n, account, NOW, "imap", "PLAIN", "192.0.2.9", "wrong", "")
                for n, account in enumerate([alice] * (attempts.KEPT + 140) + [alice + 77])
            ]
            await database.write(attempts.add, many, [])
            rows = await database.read(attempts.of_account, alice, 5000)
            assert rows[-1].result == "accepted"
            assert len(rows) == attempts.KEPT + 1
            assert await database.read(attempts.of_account, alice + 77) == [], "that account is gone"
            await logins.close()

    asyncio.run(main())

"""Domains, accounts, addresses: names made canonical, and where mail for an address goes."""

import asyncio
from pathlib import Path

import pytest

from posthouse.base.errors import AlreadyExists, NotFound, Permanent, Temporary
from posthouse.store import accounts, credentials
from posthouse.store.accounts import Resolution
from posthouse.store.database import Tx
from tests.store.test_sqlite import NOW
from tests.support.store import opened


def lead(tx: Tx, alias: str, target: str) -> None:
    """An alias as it may have become, past what `add_address` refuses."""
    local_part, _, domain = alias.partition("@")
    tx.run(
        "INSERT INTO address (domain_id, local_part, target) SELECT id, ?, ? FROM domain WHERE name = ?",
        local_part, target, domain,
    )  # fmt: skip


def house(tx: Tx) -> tuple[int, int]:
    accounts.add_domain(tx, "Example.ORG.", NOW)
    accounts.add_domain(tx, "bücher.example", NOW)
    alice = accounts.add_account(tx, "Alice@example.org", "hash", NOW, "Alice")
    bob = accounts.add_account(tx, "bob@example.org", "hash", NOW)
    accounts.add_address(tx, "info@example.org", "alice@example.org")
    accounts.add_address(tx, "team@example.org", "info@example.org")
    accounts.add_address(tx, "team@example.org", "bob@example.org")
    accounts.add_address(tx, "team@example.org", "someone@elsewhere.test")
    lead(tx, "loop@example.org", "pool@example.org")
    lead(tx, "pool@example.org", "loop@example.org")
    accounts.add_address(tx, "@bücher.example", "bob@example.org")
    return alice, bob


def test_where_mail_goes() -> None:
    async def main() -> None:
        async with opened() as database:
            alice, bob = await database.write(house)
            book = "xn--bcher-kva.example"
            table = [
                ("alice", "example.org", Resolution((alice,))),
                ("ALICE", "example.org", Resolution((alice,))),
                ("alice+news", "example.org", Resolution((alice,))),
                ("team", "example.org", Resolution((bob, alice), ("someone@elsewhere.test",))),
                ("nobody", "example.org", Resolution()),
                ("loop", "example.org", Resolution()),
                ("anything", book, Resolution((bob,))),
                ("x", "elsewhere.test", Resolution((), (), False)),
                ("postmaster", "example.org", Resolution((alice,))),
                ("postmaster", book, Resolution((alice,))),
                ("postmaster+x", book, Resolution((alice,))),
            ]
            for local_part, domain, wanted in table:
                found = await database.read(accounts.resolve, local_part, domain)
                assert (sorted(found.accounts), found.remote, found.local) == (
                    sorted(wanted.accounts), wanted.remote, wanted.local,
                ), local_part  # fmt: skip
            named = await database.read(accounts.resolve, "postmaster", book, "bob@example.org")
            assert named.accounts == (bob,)

    asyncio.run(main())


def test_logins_are_found_by_name_address_and_bare_local_part() -> None:
    async def main() -> None:
        async with opened() as database:
            alice, bob = await database.write(house)
            for name, wanted in [
                ("alice@example.org", alice),
                (" ALICE@Example.org", alice),
                ("info@example.org", alice),
                ("alice", alice),
                ("bob", bob),
                ("ali", None),
                ("", None),
                ("nobody@example.org", None),
                ("alice@" + "x" * 300, None),
            ]:
                login = await database.read(credentials.find, name)
                assert (login.account_id if login else None) == wanted, name
            await database.write(accounts.add_account, "alice@xn--bcher-kva.example", "hash", NOW)
            assert await database.read(credentials.find, "alice") is None, "two have that local part"

    asyncio.run(main())


@pytest.mark.parametrize("name", ["", ".", "a..b", "-x.org", "x" * 64 + ".org", "sp ace.org", "a/b", "é" * 300])
def test_names_that_are_no_domain(name: str) -> None:
    with pytest.raises(Permanent):
        accounts.canonical_domain(name)


@pytest.mark.parametrize(
    "address",
    [
        "",
        "alice",
        "@x.org",
        "a@",
        "a\r\n@x.org",
        "<a@x.org>",
        "x" * 65 + "@x.org",
        "a b@x.org",
        "a@[1.2.3.4]",
        "a,b@x.org",
        '"a b"@x.org',
        "a..b@x.org",
    ],
)
def test_names_that_are_no_address(address: str) -> None:
    with pytest.raises(Permanent):
        accounts.split_address(address)


def test_what_stands_in_the_way_is_said() -> None:
    async def main() -> None:
        async with opened() as database:
            await database.write(house)
            refused = [
                (AlreadyExists, accounts.add_domain, ("example.org", NOW)),
                (AlreadyExists, accounts.add_account, ("alice@example.org", "h", NOW)),
                (AlreadyExists, accounts.add_account, ("info@example.org", "h", NOW)),
                (NotFound, accounts.add_account, ("x@elsewhere.test", "h", NOW)),
                (AlreadyExists, accounts.add_address, ("alice@example.org", "bob@example.org")),
                (AlreadyExists, accounts.add_address, ("info@example.org", "alice@example.org")),
                (Permanent, accounts.add_address, ("me@example.org", "me@example.org")),
                (Permanent, accounts.add_address, ("me@example.org", "nobody@example.org")),
                (Permanent, accounts.add_address, ("me@example.org", "loop@example.org")),
                (Permanent, accounts.add_account, ('"a b"@example.org', "h", NOW)),
                (NotFound, accounts.remove_address, ("nobody@example.org",)),
                (Permanent, accounts.remove_address, ("alice@example.org",)),
                (Permanent, accounts.remove_domain, ("example.org",)),
                (NotFound, accounts.remove_domain, ("elsewhere.test",)),
                (NotFound, accounts.remove_account, ("nobody@example.org",)),
            ]
            for error, function, args in refused:
                with pytest.raises(error):
                    await database.write(function, *args)  # type: ignore[arg-type]
            assert await database.write(accounts.remove_address, "team@example.org", "bob@example.org") == 1
            assert await database.write(accounts.remove_address, "team@example.org") == 2
            await database.write(accounts.remove_account, "alice@example.org")
            assert [a.name for a in await database.read(accounts.list_accounts)] == ["bob@example.org"]

    asyncio.run(main())


@pytest.mark.parametrize("shape", ["wide", "long"])
def test_an_alias_that_leads_to_too_much_is_put_off_and_loses_nothing(tmp_path: Path, shape: str) -> None:
    def fill(tx: Tx) -> None:
        accounts.add_domain(tx, "example.org", NOW)
        for n in range(accounts.MAX_EXPANSION + 1 if shape == "wide" else accounts.MAX_DEPTH + 1):
            source = "all@example.org" if shape == "wide" or n == 0 else f"a{n - 1}@example.org"
            lead(tx, source, f"p{n}@far.test" if shape == "wide" else f"a{n}@example.org")
        accounts.add_address(tx, f"a{accounts.MAX_DEPTH}@example.org", "end@far.test")

    async def main() -> None:
        async with opened(tmp_path) as database:
            await database.write(fill)
            with pytest.raises(Temporary, match="too many"):
                await database.read(accounts.resolve, "all", "example.org")
            with pytest.raises(Permanent, match="more than"):
                await database.write(accounts.add_address, "all@example.org", "one-more@far.test")
            found = await database.read(accounts.resolve, f"a{accounts.MAX_DEPTH}", "example.org")
            assert found.remote == ("end@far.test",)

    asyncio.run(main())


def test_an_address_elsewhere_keeps_its_case() -> None:
    async def main() -> None:
        async with opened() as database:
            await database.write(house)
            for target in ("Carol@Far.test", "carol@far.test", '"D. Day"@far.test'):
                await database.write(accounts.add_address, "far@example.org", target)
            found = await database.read(accounts.resolve, "FAR", "example.org")
            assert sorted(found.remote) == ['"D. Day"@far.test', "Carol@far.test", "carol@far.test"]
            assert await database.write(accounts.remove_address, "far@example.org", "Carol@FAR.test") == 1
            await database.write(accounts.add_address, "near@example.org", "ALICE@example.org")
            assert (await database.read(accounts.resolve, "near", "example.org")).accounts

    asyncio.run(main())

"""What others put into a mailbox counts for its owner (RFC 9208), however it comes: it fits whole, or nothing
changes."""

import asyncio
from pathlib import Path

import pytest

from posthouse.store import accounts, quota
from posthouse.store.database import Tx
from tests.support import house
from tests.support.house import House
from tests.support.imap_wire import Wire, literals, wire

SMALL = b"Subject: s\r\n\r\nx\r\n"
WORK = "Shared/alice@posthouse.test/Work"
OVER = b"T NO [OVERQUOTA] "


async def held(site: House, name: str) -> tuple[int, int]:
    """Octets and messages of an account."""

    def read(tx: Tx) -> tuple[int, int]:
        usage = quota.of_account(tx, accounts.find_account(tx, f"{name}@posthouse.test").id, 0)
        assert usage is not None
        return usage.size, usage.messages

    return await site.database.read(read)


async def shared(site: House, client: Wire, storage: int | None = None, messages: int | None = None) -> None:
    """Alice lets bob do everything in Work, and has a quota."""
    await client.ask("CREATE Work")
    assert (await client.last("SETACL Work bob@posthouse.test lrswipkxte")).startswith(b"T OK")
    await site.database.write(quota.set_limits, "alice@posthouse.test", storage, messages)


def test_by_octets_and_by_messages(tmp_path: Path) -> None:
    size = len(SMALL)

    async def main() -> None:
        async with house.opened(tmp_path) as site, wire(site) as alice, wire(site, "bob") as bob:
            for limits in ({"storage": 5 * size, "messages": 0}, {"storage": 0, "messages": 5}):
                await shared(site, alice, **limits)
                assert (await bob.last(f"APPEND {WORK}".encode() + literals([SMALL] * 3))).startswith(b"T OK")
                assert (await held(site, "alice"), await held(site, "bob")) == ((3 * size, 3), (0, 0))
                # One too many, and none is there; two fit.
                assert (await bob.last(f"APPEND {WORK}".encode() + literals([SMALL] * 3))).startswith(OVER)
                catenated = b" CATENATE (TEXT {%d+}\r\n%b)" % (size, SMALL)
                line = f"APPEND {WORK}".encode()
                assert (await bob.last(line + catenated * 3)).startswith(OVER)
                assert (await bob.last(line + literals([SMALL]) + catenated + literals([SMALL]))).startswith(OVER)
                assert await held(site, "alice") == (3 * size, 3)
                await bob.ask(b"APPEND INBOX" + literals([SMALL] * 4))
                await bob.ask("SELECT INBOX")
                # What bob has of his own, whatever the way.
                for command in ("COPY 1:3", "UID COPY 1:*", "MOVE 1:4", "UID MOVE 1:*"):
                    assert (await bob.ask(f"{command} {WORK}"))[-1:][0].startswith(OVER), command
                assert (await held(site, "alice"), await held(site, "bob")) == ((3 * size, 3), (4 * size, 4))
                assert (await bob.last("MOVE 1:2 " + WORK)).startswith(b"T OK")
                assert (await held(site, "alice"), await held(site, "bob")) == ((5 * size, 5), (2 * size, 2))
                assert (await bob.last(f"REPLACE 1 {WORK}".encode() + literals([SMALL]))).startswith(OVER)
                assert (await held(site, "alice"), await held(site, "bob")) == ((5 * size, 5), (2 * size, 2))
                assert (await bob.last(line + literals([SMALL]))).startswith(OVER)
                # Where bob deletes it, alice has room again.
                await bob.ask(f"SELECT {WORK}")
                await bob.ask("STORE 1:* +FLAGS.SILENT (\\Deleted)")
                await bob.ask("EXPUNGE")
                assert await held(site, "alice") == (0, 0)
                await bob.ask("SELECT INBOX")
                await bob.ask("STORE 1:* +FLAGS.SILENT (\\Deleted)")
                await bob.ask("EXPUNGE")

    asyncio.run(main())


def test_replace_in_a_mailbox_of_another(tmp_path: Path) -> None:
    """The old one makes room for the new one; one that is larger than that is refused, and the old one stays."""

    async def main() -> None:
        async with house.opened(tmp_path) as site, wire(site) as alice, wire(site, "bob") as bob:
            await shared(site, alice, storage=3 * len(SMALL))
            assert (await bob.last(f"APPEND {WORK}".encode() + literals([SMALL] * 3))).startswith(b"T OK")
            await bob.ask(f"SELECT {WORK}")
            large = SMALL + b"more\r\n"
            for command in ("REPLACE 1", "UID REPLACE 2", "REPLACE *"):
                assert (await bob.last(f"{command} {WORK}".encode() + literals([large]))).startswith(OVER), command
            url = b' CATENATE (URL "/;UID=1" TEXT {4+}\r\nmore)'
            assert (await bob.last(f"REPLACE 1 {WORK}".encode() + url)).startswith(OVER)
            assert await held(site, "alice") == (3 * len(SMALL), 3)
            assert await bob.works()
            assert (await bob.last(f"UID REPLACE 1 {WORK}".encode() + literals([SMALL[:-2]]))).startswith(b"T OK")
            assert await held(site, "alice") == (3 * len(SMALL) - 2, 3)
            # Into bob's own it goes without a look at alice's; hers gets smaller.
            assert (await bob.last(b"REPLACE 1 INBOX" + literals([large * 10]))).startswith(b"T OK")
            assert (await held(site, "alice"))[1] == 2
            assert await held(site, "bob") == (len(large) * 10, 1)

    asyncio.run(main())


@pytest.mark.parametrize("waiting", [False, True])
def test_appends_that_come_together(tmp_path: Path, waiting: bool) -> None:
    """Stored in one transaction or not: as many as fit, and each is told."""

    async def main() -> None:
        async with house.opened(tmp_path) as site, wire(site) as alice, wire(site, "bob") as bob:
            await shared(site, alice, messages=20)
            commands = [b"a%d APPEND %b%b\r\n" % (n, WORK.encode(), literals([SMALL])) for n in range(50)]
            answers: list[bytes] = []
            if waiting:
                for number, command in enumerate(commands):
                    bob.writer.write(command)
                    answers += await bob.until(b"a%d" % number)
            else:
                bob.writer.write(b"".join(commands))
                answers = await bob.until(b"a49")
            words = [answer.split(b" ")[1] for answer in answers]
            assert words == [b"OK"] * 20 + [b"NO"] * 30
            assert all(b"[OVERQUOTA]" in answer for answer in answers[20:])
            assert (await held(site, "alice"), await held(site, "bob")) == ((20 * len(SMALL), 20), (0, 0))
            assert await bob.works()

    asyncio.run(main())


def test_two_at_once_do_not_get_past_it(tmp_path: Path) -> None:
    async def main() -> None:
        async with house.opened(tmp_path) as site, wire(site) as alice:
            await shared(site, alice, messages=30)
            async with wire(site, "bob") as one, wire(site, "bob") as other:
                line = f"APPEND {WORK}".encode() + literals([SMALL] * 7)
                for _ in range(4):
                    await asyncio.gather(
                        one.last(line), other.last(line), alice.last(b"APPEND INBOX" + literals([SMALL]))
                    )
            assert 30 - 6 <= (await held(site, "alice"))[1] <= 30

    asyncio.run(main())


def test_the_quota_of_who_puts_it_there_does_not_matter(tmp_path: Path) -> None:
    async def main() -> None:
        async with house.opened(tmp_path) as site, wire(site) as alice, wire(site, "bob") as bob:
            await shared(site, alice, storage=0, messages=0)
            await site.database.write(quota.set_limits, "bob@posthouse.test", 0, 1)
            await bob.ask(b"APPEND INBOX" + literals([SMALL]))
            assert (await bob.last(b"APPEND INBOX" + literals([SMALL]))).startswith(OVER)
            assert (await bob.last(f"APPEND {WORK}".encode() + literals([SMALL] * 5))).startswith(b"T OK")
            await bob.ask(f"SELECT {WORK}")
            for command in ("COPY 1 INBOX", "MOVE 1 INBOX"):  # what he takes is his own
                assert (await bob.last(command)).startswith(OVER), command
            assert (await bob.last(f"COPY 1 {WORK}")).startswith(b"T OK")
            assert (await held(site, "alice"), await held(site, "bob")) == ((6 * len(SMALL), 6), (len(SMALL), 1))

    asyncio.run(main())

"""NOTIFY: its bounds, clients that do not listen, and that no sequence number is ever wrong."""

import asyncio
import re
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posthouse.servers.imap import notify
from tests.support.imap_site import Client, ImapSite
from tests.support.store import opened

MESSAGE = b"Subject: x\r\n\r\nbody\r\n"
OTHERS = "NOTIFY SET (personal (MessageNew MessageExpunge MailboxName SubscriptionChange MailboxMetadataChange))"
SELECTED = "NOTIFY SET (selected (MessageNew (UID FLAGS) MessageExpunge FlagChange))"


async def heard(site: ImapSite, client: Client) -> bytes:
    out = b""
    while True:
        await site.quiet()
        more = await client.send(b"")
        if not more:
            return out
        out += more


def test_who_does_not_read_costs_a_bounded_memory_and_is_told_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notify, "MAX_WAITING", 5)

    async def main() -> None:
        async with opened() as database:
            site = await ImapSite.make(database)
            other = await site.logged_in()
            client = site.client(room=10)
            await client.send(b"a LOGIN alice secret\r\nb " + OTHERS.encode() + b"\r\n")
            await other.command("CREATE full")
            await site.quiet()  # it does not read that
            for _ in range(20):
                await site.deliver(MESSAGE)  # all of this is one thing to be told
            assert b"* STATUS INBOX (UIDNEXT 21 MESSAGES 20)\r\n" in await heard(site, client)
            client.connection.pause_writing()
            for number in range(6):
                await other.command(f"CREATE x{number}")
            client.connection.resume_writing()
            assert await heard(site, client) == b"* OK [NOTIFICATIONOVERFLOW] More happened than can be told: " + (
                b"nothing more will be\r\n"
            )
            await other.command("CREATE y")
            assert await heard(site, client) == b""
            assert await client.command("NOTIFY NONE") == b"T OK NOTIFY completed\r\n"
            await client.command(OTHERS)
            await other.command("CREATE z")
            assert await heard(site, client) == b'* LIST (\\HasNoChildren) "/" z\r\n'

    asyncio.run(main())


def test_too_many_mailboxes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notify, "MAX_STATUS", 5)

    async def main() -> None:
        async with opened() as database:
            site = await ImapSite.make(database)
            client = await site.logged_in()
            for line in ("NOTIFY SET STATUS (personal (MessageNew MessageExpunge))",):
                assert b"T NO [NOTIFICATIONOVERFLOW]" in await client.try_command(line)
            assert await heard(site, client) == b""
            await site.deliver(MESSAGE)
            assert await heard(site, client) == b""
            names = " ".join(f"m{number}" for number in range(201))
            assert b"T BAD" in await client.try_command(f"NOTIFY SET (mailboxes ({names}) (MailboxName))")
            groups = " ".join(["(personal (MailboxName))"] * 21)
            assert b"T BAD" in await client.try_command(f"NOTIFY SET {groups}")

    asyncio.run(main())


def test_what_was_listened_to_is_let_go() -> None:
    async def main() -> None:
        async with opened() as database:
            site = await ImapSite.make(database, ("bob",))
            bob = await site.logged_in(name="bob")
            await bob.command("SETACL INBOX alice@example.org lr")
            before = dict(site.feed._listeners)
            client = await site.logged_in()
            for last in ("NOTIFY NONE", "UNAUTHENTICATE", "LOGOUT"):
                if last != "LOGOUT":
                    await client.command(OTHERS)
                    await client.command("NOTIFY SET (subtree Shared (MessageNew MessageExpunge))")
                    assert set(site.feed._listeners) == {0, *site.accounts.values()}
                await client.try_command(last)
                assert set(site.feed._listeners) == set(before)
                if last == "UNAUTHENTICATE":
                    await client.command("LOGIN alice secret")
                    await client.command(OTHERS)
            await site.quiet()
            assert not site.service.watches._accounts
            assert not site.service.watches._everybody

    asyncio.run(main())


def test_an_idle_client_costs_a_few_kib_more() -> None:
    count = 200

    async def main() -> None:
        async with opened() as database:
            site = await ImapSite.make(database)
            for number in range(100):
                client = await site.logged_in()
                if not number:
                    for name in range(100):
                        await client.command(f"CREATE m{name}")
            clients = [await site.logged_in(select="INBOX") for _ in range(count)]
            tracemalloc.start()
            for client in clients:
                await client.command(
                    "NOTIFY SET (selected (MessageNew (UID ENVELOPE) MessageExpunge FlagChange)) "
                    "(personal (MessageNew MessageExpunge FlagChange MailboxName SubscriptionChange)) "
                    "(mailboxes (a b c d e f) (MailboxMetadataChange))"
                )
            await site.quiet()
            used = tracemalloc.get_traced_memory()[0]
            tracemalloc.stop()
            assert used / count < 8 * 1024

    asyncio.run(main())


def test_a_message_too_large_to_be_pushed_is_told_without_its_sections() -> None:
    async def main() -> None:
        async with opened() as database:
            site = await ImapSite.make(database)
            client = await site.logged_in(select="INBOX")
            await client.command("NOTIFY SET (selected (MessageNew (UID BODY.PEEK[]) MessageExpunge))")
            await site.deliver(b"Subject: large\r\n\r\n" + b"x" * 300_000)
            assert await heard(site, client) == b"* 1 EXISTS\r\n* 1 RECENT\r\n* 1 FETCH (UID 1)\r\n"
            await site.deliver(MESSAGE)
            assert (await heard(site, client)).endswith(b"* 2 FETCH (UID 2 BODY[] {20}\r\n" + MESSAGE + b")\r\n")

    asyncio.run(main())


def test_nothing_comes_between_the_pieces_of_a_response() -> None:
    large = b"Subject: large\r\n\r\n" + b"x" * 1_000_000

    async def main() -> None:
        async with opened() as database:
            site = await ImapSite.make(database)
            other = await site.logged_in()
            await site.deliver(large)
            client = site.client(room=1000)
            await client.send(b"a LOGIN alice secret\r\nb SELECT INBOX\r\nc ENABLE IMAP4rev2\r\n")
            await client.command(
                "NOTIFY SET (selected (MessageNew (UID) MessageExpunge FlagChange)) "
                "(personal (MessageNew MessageExpunge MailboxName))"
            )
            client.connection.data_received(b"d UID FETCH 1 BODY.PEEK[]\r\n")
            await client.settle()
            out = client.transport.take()
            await other.command("CREATE new")
            await site.deliver(MESSAGE)
            await site.deliver(MESSAGE, "new")
            while b"d OK" not in out:
                await client.settle()
                out += client.transport.take()
            out += await heard(site, client)
            assert b"BODY[] {%d}\r\n" % len(large) + large + b")\r\n" in out
            rest = out.replace(large, b"")
            for line in (b"* 2 EXISTS\r\n", b"* 2 FETCH (UID 2)\r\n", b"* STATUS new (UIDNEXT 2 MESSAGES 1)\r\n"):
                assert rest.count(line) == 1, rest

    asyncio.run(main())


class Model:
    """What the client knows of its mailbox, by what it was told."""

    def __init__(self) -> None:
        self.uids: list[int] = []  # 0: not known yet

    def hear(self, data: bytes) -> None:
        for line in data.split(b"\r\n"):
            if found := re.fullmatch(rb"\* (\d+) EXISTS", line):
                assert int(found[1]) >= len(self.uids)
                self.uids += [0] * (int(found[1]) - len(self.uids))
            elif found := re.fullmatch(rb"\* (\d+) EXPUNGE", line):
                del self.uids[int(found[1]) - 1]
            elif found := re.match(rb"\* (\d+) FETCH \(UID (\d+)", line):
                number, uid = int(found[1]), int(found[2])
                assert self.uids[number - 1] in (0, uid), data
                self.uids[number - 1] = uid


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["deliver", "flag", "expunge", "noop", "uid fetch", "idle"]), st.integers(0, 20)),
        max_size=25,
    ),
    st.booleans(),
)
def test_sequence_numbers_are_right_whatever_happens(steps: list[tuple[str, int]], delayed: bool) -> None:
    async def main() -> None:
        async with opened() as database:
            site = await ImapSite.make(database)
            other = await site.logged_in(select="INBOX")
            client = await site.logged_in(select="INBOX")
            await client.command(SELECTED.replace("selected", "selected-delayed") if delayed else SELECTED)
            model, idling = Model(), False
            for what, at in steps:
                match what:
                    case "deliver":
                        await site.deliver(MESSAGE)
                    case "flag":
                        await other.try_command(f"UID STORE {at or 1} FLAGS ({'$x' if at % 2 else '$y'})")
                    case "expunge":
                        await other.try_command(f"UID STORE {at or 1}:{(at or 1) + 1} +FLAGS (\\Deleted)")
                        await other.command("EXPUNGE")
                    case "idle":
                        model.hear(await client.send(b"DONE\r\n" if idling else b"i IDLE\r\n"))
                        idling = not idling
                    case _ if not idling:
                        model.hear(await client.try_command("NOOP" if what == "noop" else "UID FETCH 1:* (FLAGS)"))
                if at % 3:  # else several things happen before it hears of them
                    model.hear(await heard(site, client))
            model.hear(await heard(site, client))
            if idling:
                model.hear(await client.send(b"DONE\r\n"))
            model.hear(await client.try_command("UID FETCH 1:* FLAGS"))
            model.hear(await client.try_command("NOOP"))
            there = await database.read(lambda tx: tx.all("SELECT uid FROM entry WHERE expunged = 0 ORDER BY uid"))
            assert model.uids == [uid for (uid,) in there]

    asyncio.run(main())

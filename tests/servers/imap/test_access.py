"""Rights in mailboxes of others: the table of what commands need, walked with every kind of rights."""

import asyncio
import re
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posthouse.base.errors import Permanent
from posthouse.imap.commands.table import VERBS
from posthouse.servers.imap import access
from posthouse.servers.imap.access import NEEDS
from posthouse.store import accounts, acl, check, mailboxes
from posthouse.store.database import Tx
from tests.support.imap_site import Client, ImapSite
from tests.support.store import opened

MESSAGE = b"Subject: x\r\n\r\nbody\r\n"


class Try(NamedTuple):
    """A command that needs a right: on BOX, or with it selected."""

    line: str
    selected: bool = False
    flags: str = ""  # of the message that is there


TRIES = {
    "SELECT": Try("SELECT BOX"),
    "STATUS": Try("STATUS BOX (MESSAGES)"),
    "SUBSCRIBE": Try("SUBSCRIBE BOX"),
    "CREATE": Try("CREATE BOX/new"),
    "DELETE": Try("DELETE BOX"),
    "RENAME": Try("RENAME BOX OPEN/new"),
    "RENAME TO": Try("RENAME OPEN/old BOX/new"),
    "APPEND": Try("APPEND BOX {4+}\r\nabcd"),
    "COPY TO": Try("COPY 1 BOX"),  # from INBOX, which is selected
    "GETACL": Try("GETACL BOX"),
    "SETACL": Try("SETACL BOX carol@example.org l"),
    "DELETEACL": Try("DELETEACL BOX carol@example.org"),
    "LISTRIGHTS": Try("LISTRIGHTS BOX anyone"),
    "MYRIGHTS": Try("MYRIGHTS BOX"),
    "GETQUOTAROOT": Try("GETQUOTAROOT BOX"),
    "GETMETADATA": Try("GETMETADATA BOX /shared/comment"),
    "SETMETADATA": Try('SETMETADATA BOX (/private/comment "x")'),
    "SETMETADATA SHARED": Try('SETMETADATA BOX (/shared/comment "x")'),
    "STORE": Try("STORE 1 +FLAGS (\\Flagged \\Deleted \\Seen)", selected=True),
    "EXPUNGE": Try("EXPUNGE", selected=True, flags="\\Deleted"),
    "MOVE": Try("MOVE 1 INBOX", selected=True),
    "REPLACE": Try("REPLACE 1 INBOX {4+}\r\nabcd", selected=True),
    "SEEN": Try("FETCH 1 BODY[]", selected=True),
    "WRITE": Try("SELECT BOX"),
}
# What answers OK without the right, and does less.
LESS = {"SEEN": rb"FLAGS \(", "WRITE": rb"\[READ-WRITE\]"}
# Which entries of the table the commands use; the others concern no mailbox, or the selected one that may be read.
USES = {
    "APPEND": ("APPEND",),
    "CLOSE": ("EXPUNGE",),
    "COPY": ("COPY TO",),
    "CREATE": ("CREATE",),
    "DELETE": ("DELETE",),
    "DELETEACL": ("DELETEACL",),
    "EXAMINE": ("SELECT",),
    "EXPUNGE": ("EXPUNGE",),
    "FETCH": ("SEEN",),
    "GETACL": ("GETACL",),
    "GETMETADATA": ("GETMETADATA",),
    "GETQUOTA": ("GETQUOTAROOT",),
    "GETQUOTAROOT": ("GETQUOTAROOT",),
    "LISTRIGHTS": ("LISTRIGHTS",),
    "MOVE": ("MOVE", "COPY TO"),
    "MYRIGHTS": ("MYRIGHTS",),
    "RENAME": ("RENAME", "RENAME TO"),
    "REPLACE": ("REPLACE", "APPEND"),
    "SELECT": ("SELECT", "WRITE"),
    "SETACL": ("SETACL",),
    "SETMETADATA": ("SETMETADATA", "SETMETADATA SHARED"),
    "STATUS": ("STATUS",),
    "STORE": ("STORE",),
    "SUBSCRIBE": ("SUBSCRIBE",),
}
NO_MAILBOX = ["CAPABILITY", "NOOP", "LOGOUT", "ID", "STARTTLS", "LOGIN", "AUTHENTICATE", "ENABLE", "COMPRESS"]
NO_MAILBOX += ["CANCELUPDATE", "UNAUTHENTICATE", "NAMESPACE", "IDLE", "CHECK", "UNSELECT"]
SEARCHING = ["SEARCH", "SORT", "THREAD"]  # the selected mailbox: it may be read
OWN_ONLY = ["GENURLAUTH", "URLFETCH", "RESETKEY"]
LISTING = ["LIST", "LSUB", "UNSUBSCRIBE", "ESEARCH", "NOTIFY"]  # show what may be seen, and need nothing


def test_every_command_is_in_the_table_or_needs_nothing() -> None:
    named = {name.decode().removeprefix("UID ") for name in VERBS}
    assert named - {*USES, *NO_MAILBOX, *SEARCHING, *OWN_ONLY, *LISTING} == set()
    assert {need for needs in USES.values() for need in needs} == set(NEEDS)
    assert set(TRIES) == set(NEEDS)


async def attempt(site: ImapSite, bob: Client, name: str, number: int, rights: str) -> bytes:
    """Bob tries a command in a mailbox of alice where he has these rights."""
    one = TRIES[name]
    box = f"box{number}"

    def prepare(tx: Tx) -> None:
        alice, bob_id = site.account_id, site.accounts["bob"]
        acl.grant(tx, mailboxes.create(tx, alice, box), bob_id, frozenset(rights))
        for other in (f"open{number}", f"open{number}/old"):
            acl.grant(tx, mailboxes.create(tx, alice, other), bob_id, acl.ALL)

    await site.database.write(prepare)
    await site.deliver(MESSAGE, box, one.flags)
    line = re.sub(r"\bBOX\b", f"Shared/alice@example.org/{box}", one.line)
    line = line.replace("OPEN", f"Shared/alice@example.org/open{number}")
    await bob.command("SELECT INBOX")
    if one.selected:
        await bob.try_command(f"SELECT Shared/alice@example.org/{box}")
    return await bob.try_command(line)


def expected(name: str, rights: str) -> bytes:
    """The answer that rights lead to."""
    met = NEEDS[name].is_met(frozenset(rights))
    if name in LESS or met:
        return b"T OK"
    return b"T NO [NOPERM]" if "l" in rights or name in ("CREATE", "RENAME TO") or TRIES[name].selected else b"T NO ["


async def walk(site: ImapSite, cases: list[tuple[str, str]]) -> None:
    bob = await site.logged_in(name="bob")
    await site.deliver(MESSAGE, name="bob")
    for number, (name, rights) in enumerate(cases):
        answer = await attempt(site, bob, name, number, rights)
        last = answer.rstrip(b"\r\n").rpartition(b"\r\n")[2]
        if TRIES[name].selected and "r" not in rights:
            continue  # it cannot be selected: SELECT says so
        if TRIES[name].selected and not NEEDS["WRITE"].is_met(frozenset(rights)):
            assert name == "SEEN" or last.startswith(b"T NO [READ-ONLY]"), (name, rights, answer)
            continue
        if name == "WRITE" and "r" not in rights:
            continue
        assert last.startswith(expected(name, rights)), (name, rights, answer)
        if name in LESS:
            assert bool(re.search(LESS[name], answer)) == NEEDS[name].is_met(frozenset(rights)), (name, rights, answer)
        if b"TRYCREATE" in last or b"NONEXISTENT" in last:
            assert "l" not in rights
    bob.close()


def test_without_the_right_each_command_says_so_and_with_it_each_works() -> None:
    cases = []
    for name, need in NEEDS.items():
        without = set(need.all_of or need.one_of)
        visible = {"l"} if need.all_of or "l" not in need.one_of else set()
        cases.append((name, "".join((acl.ALL - without) | visible - set(need.all_of))))
        for lacking in need.all_of:
            cases.append((name, "".join(acl.ALL - {lacking})))
        for enough in need.one_of or ("",):
            rest = "lr" if TRIES[name].selected or name == "WRITE" else ""
            cases.append((name, need.all_of + enough + rest))
        cases.append((name, acl.RIGHTS))

    async def main() -> None:
        async with opened() as database:
            site = await ImapSite.make(database, ("bob", "carol"))
            await walk(site, cases)

    asyncio.run(main())


@settings(max_examples=10, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(sorted(NEEDS)), st.sets(st.sampled_from(acl.RIGHTS))), max_size=12))
def test_any_rights_give_what_the_table_says(cases: list[tuple[str, set[str]]]) -> None:
    async def main() -> None:
        async with opened() as database:
            site = await ImapSite.make(database, ("bob", "carol"))
            await walk(site, [(name, "".join(sorted(rights))) for name, rights in cases])

    asyncio.run(main())


def test_flags_are_taken_along_as_far_as_the_rights_go() -> None:
    """RFC 4314 section 4: COPY and APPEND do not fail for a flag that may not be set."""
    kept = {"i": "", "it": "\\Deleted", "is": "\\Seen", "iw": "\\Flagged $x", "iswt": "\\Flagged \\Deleted \\Seen $x"}

    async def main() -> None:
        async with opened() as database:
            site = await ImapSite.make(database, ("bob",))
            alice, bob = await site.logged_in(), await site.logged_in(name="bob")
            await site.deliver(MESSAGE, "INBOX", "\\Flagged \\Deleted \\Seen $x", name="bob")
            await bob.command("SELECT INBOX")
            for number, (rights, flags) in enumerate(kept.items()):
                await alice.command(f"CREATE box{number}")
                await alice.command(f"SETACL box{number} bob@example.org {rights}")
                await bob.command(f"COPY 1 Shared/alice@example.org/box{number}")
                await bob.command(
                    f"APPEND Shared/alice@example.org/box{number} (\\Flagged \\Deleted \\Seen $x) {{4+}}\r\nabcd"
                )
                await alice.command(f"EXAMINE box{number}")
                answer = await alice.command("FETCH 1:2 FLAGS")
                for shown in re.findall(rb"FLAGS \(([^)]*)\)", answer):
                    assert shown.decode().removesuffix("\\Recent").strip() == flags

    asyncio.run(main())


def test_closing_without_e_keeps_what_is_marked() -> None:
    async def main() -> None:
        async with opened() as database:
            site = await ImapSite.make(database, ("bob",))
            alice, bob = await site.logged_in(), await site.logged_in(name="bob")
            await site.deliver(MESSAGE, "INBOX", "\\Deleted")
            await alice.command("SETACL INBOX bob@example.org lrt")
            await bob.command("SELECT Shared/alice@example.org/INBOX")
            await bob.command("CLOSE")
            assert b"MESSAGES 1" in await alice.command("STATUS INBOX (MESSAGES)")

    asyncio.run(main())


def test_what_others_may_do_ends_with_the_account_and_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acl, "MAX_ENTRIES", 2)

    async def main() -> None:
        async with opened() as database:
            site = await ImapSite.make(database, ("bob", "carol"))
            alice = await site.logged_in()
            await alice.command("SETACL INBOX bob@example.org lr")
            await alice.command("SETACL Sent anyone lr")
            assert b"T NO [CANNOT]" in await alice.try_command("SETACL Sent bob@example.org lr")
            assert b"T NO [CANNOT]" in await alice.try_command("CREATE Sent/new")
            await alice.command("SETACL Sent anyone lrs")

            def shares(tx: Tx, name: str) -> list[tuple[str, str]]:
                found = acl.shared_with(tx, site.accounts[name])
                return [(one.mailbox.name, acl.text(one.rights)) for one in found]

            assert await database.read(shares, "bob") == [("INBOX", "lr"), ("Sent", "lrs")]
            assert await database.read(shares, "carol") == [("Sent", "lrs")]
            assert await database.read(shares, "alice") == []
            await database.write(accounts.remove_account, "bob@example.org")
            assert b"ACL INBOX alice@example.org lrswipkxteacd\r\n" in await alice.command("GETACL INBOX")

            def wrong(tx: Tx) -> list[str]:
                tx.run("INSERT INTO acl VALUES (99, 0, 'lr'), (1, 99, 'lr')")
                found = check.findings(tx)
                tx.run("DELETE FROM acl")
                return found

            assert len(await database.write(wrong)) == 2

    asyncio.run(main())


def test_an_account_whose_name_cannot_be_a_level_shares_nothing() -> None:
    async def main() -> None:
        async with opened() as database:
            site = await ImapSite.make(database, ("bob",))

            def share(tx: Tx) -> None:
                owner = accounts.add_account(tx, "a/b@example.org", "no hash", 1)
                inbox = mailboxes.by_name(tx, owner, "INBOX")
                assert inbox is not None
                acl.grant(tx, inbox, site.account_id, acl.ALL)

            with pytest.raises(Permanent):
                await database.write(share)

    asyncio.run(main())


def test_names() -> None:
    assert access.owner_of("Shared/Bob@example.org/INBOX") == "bob@example.org"
    assert access.owner_of("Shared/bob@example.org") == "bob@example.org"
    assert access.owner_of("Shared/Project/x@y") is None
    assert access.owner_of("Shared") is None
    assert access.owner_of("INBOX/bob@example.org") is None


def test_revoked_by_another_process_and_gone_with_the_owner() -> None:
    async def main() -> None:
        async with opened() as database:
            site = await ImapSite.make(database, ("bob",))
            alice, bob, other = [await site.logged_in(name=name) for name in ("alice", "bob", "bob")]
            await alice.command("SETACL INBOX anyone lrs")
            for client in (bob, other):
                await client.command("SELECT Shared/alice@example.org/INBOX")
            site.service.watches.review()
            assert b"T OK" in await bob.try_command("NOOP")
            await other.send(b"x IDLE\r\n")

            def quietly(tx: Tx) -> None:
                tx.run("DELETE FROM acl")

            await database.write(quietly)
            site.service.watches.review()
            await site.quiet()
            assert (await other.send(b"")).startswith(b"* BYE [NOPERM]")
            assert other.transport.closed
            assert b"* BYE [NOPERM]" in await bob.send(b"")
            alice.close()

    asyncio.run(main())


FOREIGN = "Shared/alice@example.org/INBOX"


def test_what_follows_the_change_of_a_right_goes_by_the_new_one(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with opened() as database:
            site = await ImapSite.make(database, ("bob",))
            await site.deliver(b"Subject: secret\r\n\r\nsecret\r\n")
            alice = await site.logged_in(name="alice")
            await alice.command("SETACL INBOX bob@example.org lrswite")
            bobs = [await site.logged_in(FOREIGN, name="bob") for _ in range(4)]
            # Nobody looks in the background: the next command itself has to.
            monkeypatch.setattr(site.service, "in_background", lambda work: work.close())
            await alice.command("SETACL INBOX bob@example.org lr")
            answer = await bobs[0].try_command("STORE 1 +FLAGS (\\Flagged)")
            assert b"T NO " in answer
            assert b"[PERMANENTFLAGS ()]" in answer
            await alice.command("DELETEACL INBOX bob@example.org")
            for bob, line in zip(bobs, ("FETCH 1 BODY[]", "SEARCH TEXT secret", "NOOP", "EXPUNGE"), strict=True):
                answer = await bob.try_command(line)
                assert answer.startswith(b"* BYE [NOPERM]"), line
                assert answer.count(b"\r\n") == 1
                assert bob.transport.closed

    asyncio.run(main())


def test_what_is_queued_behind_the_change_of_a_right_goes_by_the_new_one() -> None:
    """A session that was not told yet: only the transaction knows."""

    async def main() -> None:
        async with opened() as database:
            site = await ImapSite.make(database, ("bob",))
            for _ in range(2):
                await site.deliver(b"Subject: x\r\n\r\nx\r\n", flags="\\Deleted")
            alice = await site.logged_in(name="alice")
            await alice.command("SETACL INBOX bob@example.org lrswite")
            bob = await site.logged_in(FOREIGN, name="bob")
            await database.write(lambda tx: tx.run("UPDATE acl SET rights = 'l'"))
            for line in (
                "STORE 1 +FLAGS (\\Flagged)",
                "EXPUNGE",
                "MOVE 1 INBOX",
                "COPY 1 INBOX",
                "REPLACE 1 INBOX {19+}\r\nSubject: new\r\n\r\nnew",
            ):
                assert b"T NO [NOPERM]" in await bob.try_command(line), line
            await database.write(lambda tx: tx.run("UPDATE acl SET rights = 'lr'"))
            answer = await bob.command("FETCH 1 BODY[]")
            assert b"Subject: x" in answer
            assert b"\\Seen" not in answer
            await bob.command("CLOSE")
            assert b"MESSAGES 2 UNSEEN 2" in await alice.command("STATUS INBOX (MESSAGES UNSEEN)")

    asyncio.run(main())


def test_an_answer_under_way_ends_when_the_mailbox_is_shared_no_more() -> None:
    async def main() -> None:
        async with opened() as database:
            site = await ImapSite.make(database, ("bob",))
            for _ in range(30):
                await site.deliver(b"Subject: x\r\n\r\n" + b"x" * 200_000 + b"\r\n")
            alice = await site.logged_in(name="alice")
            await alice.command("SETACL INBOX bob@example.org lr")
            bob = site.client(room=10_000)
            for line in ("LOGIN bob secret", f"EXAMINE {FOREIGN}"):
                await bob.command(line)
            bob.connection.data_received(b"f FETCH 1:* BODY[]\r\n")
            await bob.settle()
            assert bob.connection.is_blocked
            await alice.command("DELETEACL INBOX bob@example.org")
            answer = await bob.send(b"")
            assert 0 < answer.count(b"FETCH (") < 10
            assert b"f OK" not in answer
            assert bob.transport.closed

    asyncio.run(main())

"""Mailboxes and messages: names, UIDs, flags, copy, move, expunge, counters."""

import asyncio
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posthouse.base.errors import AlreadyExists, NotFound, Permanent
from posthouse.store import check, mailboxes, messages
from posthouse.store.database import Tx
from posthouse.store.model import DELETED, FLAGGED, SEEN
from posthouse.store.sqlite import SqliteDatabase
from tests.store.test_sqlite import account, deliver
from tests.support.store import opened


def with_account(body: Callable[[Tx, int, int], None]) -> None:
    """Run `body(tx, account, inbox)` in one transaction, then the consistency check."""

    async def main() -> None:
        async with opened() as database:
            alice = await account(database)
            await database.write(lambda tx: body(tx, alice, mailboxes.inbox_id(tx, alice)))

    asyncio.run(main())


def names(tx: Tx, account_id: int) -> list[str]:
    return [m.name for m in mailboxes.list_all(tx, account_id)]


def test_a_new_account_has_the_usual_mailboxes() -> None:
    def body(tx: Tx, alice: int, _inbox: int) -> None:
        assert names(tx, alice) == ["Archive", "Drafts", "INBOX", "Junk", "Sent", "Trash"]
        assert {m.special_use for m in mailboxes.list_all(tx, alice)} == {
            "", "\\Archive", "\\Drafts", "\\Junk", "\\Sent", "\\Trash",
        }  # fmt: skip
        assert mailboxes.subscriptions(tx, alice) == names(tx, alice)
        inbox = mailboxes.by_name(tx, alice, "inbox")
        assert inbox is not None
        assert (inbox.name, inbox.uidnext, inbox.messages) == ("INBOX", 1, 0)

    with_account(body)


def test_rename_takes_children_along_and_leaves_inbox() -> None:
    def body(tx: Tx, alice: int, inbox: int) -> None:
        for name in ("Work", "Work/2025", "Work/2025/June", "Workshop"):
            mailboxes.create(tx, alice, name)
        mailboxes.rename(tx, alice, "Work", "Old/Work")
        assert {"Old/Work", "Old/Work/2025", "Old/Work/2025/June", "Workshop"} <= set(names(tx, alice))
        with pytest.raises(AlreadyExists):
            mailboxes.rename(tx, alice, "Workshop", "Old/Work")
        with pytest.raises(NotFound):
            mailboxes.rename(tx, alice, "Nowhere", "X")
        with pytest.raises(Permanent):
            mailboxes.rename(tx, alice, "Workshop", "Workshop/inside")
        deliver(tx, alice, b"one")
        mailboxes.rename(tx, alice, "INBOX", "Moved")  # RFC 9051 section 6.3.6
        moved = mailboxes.by_name(tx, alice, "Moved")
        left = mailboxes.by_id(tx, inbox)
        assert moved is not None
        assert left is not None
        assert (moved.messages, left.messages, left.name) == (1, 0, "INBOX")

    with_account(body)


def test_uidvalidity_is_never_used_again() -> None:
    def body(tx: Tx, alice: int, _inbox: int) -> None:
        seen = {m.uidvalidity for m in mailboxes.list_all(tx, alice)}
        for _ in range(3):
            made = mailboxes.create(tx, alice, "Again")
            assert made.uidvalidity not in seen
            seen.add(made.uidvalidity)
            mailboxes.delete(tx, alice, "Again")
        with pytest.raises(Permanent):
            mailboxes.delete(tx, alice, "INBOX")

    with_account(body)


def test_flags_keywords_and_counters() -> None:
    def body(tx: Tx, alice: int, inbox: int) -> None:
        for n in range(5):
            deliver(tx, alice, b"%d" % n)
        rows = messages.store_flags(tx, alice, inbox, [1, 2, 9], "add", SEEN | FLAGGED, ["$Work", "Later"])
        assert [(r[0], r[2], r[3]) for r in rows] == [(1, 5, "$Work Later"), (2, 5, "$Work Later")]
        again = messages.store_flags(tx, alice, inbox, [1], "add", SEEN, ["$WORK"])
        assert again[0][1] == rows[0][1], "nothing changed, so the modseq stays"
        assert messages.store_flags(tx, alice, inbox, [1], "remove", FLAGGED, ["$work"])[0][2:] == (SEEN, "Later")
        assert messages.store_flags(tx, alice, inbox, [2], "set", DELETED)[0][2:] == (DELETED, "")
        mailbox = mailboxes.by_id(tx, inbox)
        assert mailbox is not None
        assert (mailbox.messages, mailbox.unseen, mailbox.deleted) == (5, 4, 1)
        assert messages.expunge(tx, alice, inbox, [1, 3]) == []
        assert messages.expunge(tx, alice, inbox) == [2]

    with_account(body)


def test_copy_and_move_share_the_content() -> None:
    def body(tx: Tx, alice: int, inbox: int) -> None:
        for n in range(4):
            deliver(tx, alice, b"%d" % n)
        target = mailboxes.create(tx, alice, "Target").id
        assert messages.copy(tx, alice, inbox, [2, 4, 77], target) == [(2, 1), (4, 2)]
        assert messages.move(tx, alice, inbox, [1, 2], target) == [(1, 3), (2, 4)]
        assert tx.all("SELECT uid FROM entry WHERE mailbox_id = ? AND expunged = 0", inbox) == [(3,), (4,)]
        assert tx.all("SELECT count(*) FROM blob") == [(4,)]
        assert messages.remove(tx, alice, target, [4, 5]) == [4]

    with_account(body)


def test_runs() -> None:
    assert messages.runs([7, 1, 2, 3]) == [(1, 3), (7, 7)]
    assert messages.runs([]) == []


@settings(max_examples=15, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["deliver", "flag", "unflag", "copy", "move", "expunge", "remove", "drop"]),
            st.lists(st.integers(1, 12), max_size=5),
            st.integers(0, 31),
        ),
        max_size=25,
    )
)
def test_whatever_happens_the_store_stays_consistent(steps: list[tuple[str, list[int], int]]) -> None:
    async def run(database: SqliteDatabase) -> None:
        alice = await account(database)
        inbox = await database.read(mailboxes.inbox_id, alice)

        def one(tx: Tx, what: str, uids: list[int], flags: int) -> None:
            other = mailboxes.by_name(tx, alice, "Other") or mailboxes.create(tx, alice, "Other")
            match what:
                case "deliver":
                    deliver(tx, alice, bytes([flags]))
                case "flag":
                    messages.store_flags(tx, alice, inbox, uids, "add", flags, ["$k"])
                case "unflag":
                    messages.store_flags(tx, alice, inbox, uids, "remove", flags)
                case "copy":
                    messages.copy(tx, alice, inbox, sorted(set(uids)), other.id if flags & 1 else inbox)
                case "move":
                    messages.move(tx, alice, inbox, sorted(set(uids)), other.id)
                case "expunge":
                    messages.expunge(tx, alice, inbox)
                case "remove":
                    messages.remove(tx, alice, inbox, sorted(set(uids)))
                case "drop":
                    mailboxes.delete(tx, alice, "Other")

        for step in steps:
            await database.write(one, *step)
        assert await database.read(check.findings) == []

    async def main() -> None:
        async with opened() as database:
            await run(database)

    asyncio.run(main())

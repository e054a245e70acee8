"""Answers that are kept: they are sent again as long as nothing has changed, and never after that."""

import asyncio
import re
from typing import Any

import pytest

from posthouse.imap.commands.fetch import FetchRequest, Section
from posthouse.imap.view import Manner
from posthouse.servers.imap import fetch, listings
from posthouse.servers.imap.listings import Kept, Listings, Wanted
from posthouse.store.select import Extent
from tests.support.imap_site import ImapSite
from tests.support.store import opened

MESSAGE = b"Subject: x\r\nFrom: a@b.test\r\n\r\nx\r\n"
LISTS = (
    "FLAGS UID RFC822.SIZE INTERNALDATE",
    "ENVELOPE BODYSTRUCTURE",
    "UID FLAGS BODY.PEEK[HEADER.FIELDS (FROM SUBJECT)]",
)
COUNT = 60


@pytest.fixture
def rendered(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many messages were rendered in each go."""
    calls: list[int] = []
    render = fetch.render

    def noted(tx: Any, mailbox_id: int, plan: Any, uids: Any, *args: Any) -> fetch.Rendered:
        calls.append(len(uids))
        return render(tx, mailbox_id, plan, uids, *args)

    monkeypatch.setattr(fetch, "render", noted)
    return calls


def lines(answer: bytes) -> list[bytes]:
    return re.findall(rb"^\* \d+ FETCH .*", answer, re.MULTILINE)


def number_and_uid(line: bytes) -> tuple[int, int]:
    found = re.match(rb"\* (\d+) FETCH .*\bUID (\d+)", line)
    assert found is not None
    return int(found[1]), int(found[2])


@pytest.mark.parametrize("items", LISTS)
def test_what_did_not_change_is_rendered_once(items: str, rendered: list[int]) -> None:
    async def main() -> None:
        async with opened() as database:
            site = await ImapSite.make(database)
            for _ in range(COUNT):
                await site.deliver(MESSAGE)
            await (await site.logged_in("INBOX")).command("NOOP")  # they are recent for this one only
            client, other = await site.logged_in("INBOX"), await site.logged_in("INBOX", rev2=True)
            first = await client.command(f"FETCH 1:* ({items})")
            assert len(lines(first)) == COUNT
            assert rendered == [COUNT]
            assert await client.command(f"FETCH 1:* ({items})") == first
            assert rendered == [COUNT]

            await other.command("STORE 7 +FLAGS (\\Flagged $new)")
            await client.command("NOOP")
            changed = await client.command(f"FETCH 1:* ({items})")
            assert rendered == [COUNT, COUNT]
            assert (changed != first) == ("FLAGS" in items)

            await other.command("STORE 3 +FLAGS.SILENT (\\Deleted)")
            await other.command("EXPUNGE")
            # The first one still counts it; the second does not.
            fewer = await other.command(f"FETCH 1:* (UID {items})")
            assert [number_and_uid(line) for line in lines(fewer)] == [
                (number, number + (number >= 3)) for number in range(1, COUNT)
            ]
            lagging = await client.try_command(f"FETCH 1:* (UID {items})")
            assert [number_and_uid(line) for line in lines(lagging)] == [
                (number, number) for number in range(1, COUNT + 1) if number != 3
            ]
            fewer = await other.command(f"FETCH 1:* ({items})")
            assert len(lines(fewer)) == COUNT - 1
            await client.command("NOOP")
            assert await client.command(f"FETCH 1:* ({items})") == fewer

            await site.deliver(MESSAGE)
            await client.command("NOOP")
            assert len(lines(await client.command(f"FETCH 1:* ({items})"))) == COUNT

    asyncio.run(main())


def test_keywords_of_a_kept_answer_are_told(rendered: list[int]) -> None:
    async def main() -> None:
        async with opened() as database:
            site = await ImapSite.make(database)
            for _ in range(COUNT):
                await site.deliver(MESSAGE)
            client = await site.logged_in("INBOX")
            await client.command("STORE 7 +FLAGS (rare)")
            await client.command("CLOSE")
            await client.command("SELECT INBOX")
            await client.command("FETCH 1:* (FLAGS)")
            rendered.clear()
            other = await site.logged_in("INBOX")
            assert b"rare" in await other.command("FETCH 1:* (FLAGS)")
            assert rendered == []

    asyncio.run(main())


def test_few_messages_contents_and_labels_are_not_kept() -> None:
    assert listings.LEAST > 1

    class Plan:
        sections: tuple[object, ...] = ()
        columns: tuple[str, ...] = ("uid", "flags", "keywords")

    plan: Any = Plan()
    assert listings.may_keep(plan, listings.LEAST)
    assert not listings.may_keep(plan, listings.LEAST - 1)
    for column in ("labels", "no_labels", "thread_id", "preview", "parts", "savedate"):
        plan.columns = ("uid", column)
        assert not listings.may_keep(plan, 1000)
    plan.columns, plan.sections = ("uid",), ("BODY[]",)
    assert not listings.may_keep(plan, 1000)


def wanted(number: int) -> Wanted:
    return Wanted(1, FetchRequest((b"UID",)), Manner(), 1, 1000, number)


def kept(size: int) -> Kept:
    return Kept(bytes(size), frozenset(), 1000, Extent(1000, 5))


def test_what_was_not_used_for_longest_goes() -> None:
    kept_answers = Listings(room=3 * (2000 + listings._OVERHEAD) + 100)
    for number in range(3):
        kept_answers.put(wanted(number), kept(2000))
    assert kept_answers.get(wanted(0)) is not None
    kept_answers.put(wanted(3), kept(2000))
    assert [kept_answers.get(wanted(number)) is not None for number in range(4)] == [True, False, True, True]
    kept_answers.put(wanted(3), kept(10))  # in place of the one before
    assert kept_answers._taken == 2 * (2000 + listings._OVERHEAD) + 10 + listings._OVERHEAD


def test_an_answer_that_is_too_long_is_not_kept() -> None:
    kept_answers = Listings()
    kept_answers.put(wanted(1), kept(100))
    kept_answers.put(wanted(1), kept(listings.LONGEST + 1))
    assert kept_answers.get(wanted(1)) is None  # nor the one before, which is out of date
    assert kept_answers._taken == 0


def test_requests_that_no_program_makes_are_not_kept() -> None:
    sections = tuple(Section(b"BODY[HEADER.FIELDS (FROM)]<0.%d>" % number, peek=True) for number in range(500))
    kept_answers = Listings()
    huge = wanted(1)._replace(request=FetchRequest((b"UID",), sections))
    kept_answers.put(huge, kept(100))
    assert kept_answers.get(huge) is None

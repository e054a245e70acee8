"""SORT and THREAD over a store, against slow and obvious versions; results that are kept up to date, against the
results that a new search has."""

import asyncio
import re
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from posthouse.mime.collation import casemap
from posthouse.mime.threads import base_subject
from posthouse.servers.imap import contexts
from posthouse.store import headings, sorting
from tests.support.imap_site import Client, ImapSite
from tests.support.store import opened


class Mail(NamedTuple):
    """What a test message says."""

    subject: str
    author: str
    shown: str
    minute: int
    body: int

    def source(self) -> bytes:
        date = format_datetime(datetime(2024, 1, 1, tzinfo=UTC) + timedelta(minutes=self.minute))
        name = f'"{self.shown}" ' if self.shown else ""
        header = f"Subject: {self.subject}\r\nFrom: {name}<{self.author}@example.org>\r\nDate: {date}\r\n\r\n"
        return header.encode() + b"x" * self.body + b"\r\n"


PLAIN = Mail("s", "a", "", 0, 0).source()
mails = st.lists(
    st.builds(
        Mail,
        st.sampled_from(["apple", "Re: Apple", "Äpfel", "zoo", "", "[x] Banana (fwd)"]),
        st.sampled_from(["a", "B", "c"]),
        st.sampled_from(["", "Zoe", "anna", "Émile"]),
        st.integers(0, 3),
        st.integers(0, 2),
    ),
    max_size=8,
)
criteria = st.lists(
    st.tuples(st.booleans(), st.sampled_from(["ARRIVAL", "DATE", "SIZE", "SUBJECT", "FROM", "DISPLAYFROM", "CC"])),
    min_size=1,
    max_size=3,
)


def key_of(mail: Mail, criterion: str) -> object:
    match criterion:
        case "DATE":
            return mail.minute
        case "SIZE":
            return len(mail.source())
        case "SUBJECT":
            return casemap(base_subject(mail.subject)[0])
        case "FROM":
            return casemap(mail.author)
        case "DISPLAYFROM":
            return casemap(mail.shown or f"{mail.author}@example.org")
    return 0  # all arrive at once, nobody has a Cc


def slow_sort(box: list[Mail], by: list[tuple[bool, str]]) -> list[int]:
    order = list(range(1, len(box) + 1))
    for reverse, criterion in reversed(by):  # a stable sort by each, from the last on
        order.sort(key=lambda number: key_of(box[number - 1], criterion), reverse=reverse)  # type: ignore[arg-type,return-value]
    return order


def numbers_in(answer: bytes, word: bytes) -> list[int]:
    found = re.search(rb"(?m)^\* " + word + rb"([0-9 ]*)\r$", answer)
    assert found is not None, answer
    return [int(number) for number in found[1].split()]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(mails, st.lists(criteria, min_size=3, max_size=3))
def test_sort(box: list[Mail], orders: list[list[tuple[bool, str]]]) -> None:
    async def main() -> None:
        async with ImapSite.filled(mail.source() for mail in box) as (_, client):
            for by in orders:
                words = " ".join(("REVERSE " if reverse else "") + criterion for reverse, criterion in by)
                answer = await client.command(f"SORT ({words}) UTF-8 ALL")
                assert numbers_in(answer, b"SORT") == slow_sort(box, by), (box, by)

    asyncio.run(main())


# Contexts


class Follower:
    """A client that believes what it is told of its contexts."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.results: dict[str, list[int]] = {}
        self.sorted: set[str] = set()

    async def say(self, line: str) -> None:
        self.hear(await self.client.command(line))

    def hear(self, answer: bytes) -> None:
        for line in answer.decode().split("\r\n"):
            found = re.match(r'\* ESEARCH \(TAG "(\w+)"\) UID (ADDTO|REMOVEFROM) \((.*)\)$', line)
            if found is None:
                assert "ADDTO" not in line, line
                continue
            tag, what, pairs = found.groups()
            words = pairs.split()
            for position, text in zip(map(int, words[::2]), words[1::2], strict=True):
                self.apply(tag, what, position, expand(text))

    def apply(self, tag: str, what: str, position: int, uids: list[int]) -> None:
        result = self.results[tag]
        if tag not in self.sorted:
            assert position == 0
            now = set(result) | set(uids) if what == "ADDTO" else set(result) - set(uids)
            assert len(now) == len(result) + len(uids) * (1 if what == "ADDTO" else -1), (tag, what, uids, result)
            self.results[tag] = sorted(now)
        elif what == "ADDTO":
            assert 1 <= position <= len(result) + 1
            result[position - 1 : position - 1] = uids
        else:
            assert result[position - 1 : position - 1 + len(uids)] == uids
            del result[position - 1 : position - 1 + len(uids)]


def expand(text: str) -> list[int]:
    found: list[int] = []
    for part in text.split(","):
        low, _, high = part.partition(":")
        found += range(int(low), int(high or low) + 1)
    return found


CONTEXTS = {
    "c1": ("UID SEARCH", "", "UNSEEN"),
    "c2": ("UID SEARCH", "", "OR FLAGGED SUBJECT apple"),
    "c3": ("UID SORT", "(SUBJECT REVERSE SIZE) UTF-8 ", "NOT FLAGGED"),
    "c4": ("UID SORT", "(REVERSE DATE DISPLAYFROM) UTF-8 ", "ALL"),
}
steps = st.lists(
    st.one_of(
        st.tuples(st.just("deliver"), mails.filter(bool).map(lambda box: box[0])),
        st.tuples(
            st.just("store"),
            st.tuples(
                st.booleans(),
                st.integers(1, 9),
                st.sampled_from(
                    ["+FLAGS.SILENT (\\Seen)", "-FLAGS (\\Seen)", "FLAGS (\\Flagged)", "+FLAGS (\\Deleted)"]
                ),
            ),
        ),
        st.tuples(st.just("expunge"), st.booleans()),
        st.tuples(st.just("noop"), st.none()),
        st.tuples(st.just("fetch"), st.none()),
        st.tuples(st.just("idle"), st.none()),
        st.tuples(st.just("copy"), st.integers(1, 9)),
    ),
    max_size=14,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(mails, steps)
def test_contexts_follow_the_mailbox(box: list[Mail], doings: list[tuple[str, object]]) -> None:
    async def main() -> None:
        async with ImapSite.filled(mail.source() for mail in box) as (site, client):
            other = await site.logged_in("INBOX")
            follower = Follower(client)
            for tag, (command, by, key) in CONTEXTS.items():
                answer = (await client.send(f"{tag} {command} RETURN (UPDATE ALL) {by}{key}\r\n".encode())).decode()
                assert f"{tag} OK" in answer
                assert "NOUPDATE" not in answer
                found = re.search(r" ALL (\S+)", answer)
                follower.results[tag] = expand(found[1]) if found else []
                if by:
                    follower.sorted.add(tag)
            idling = False
            for what, how in doings:
                if idling and what in ("noop", "fetch", "idle"):
                    follower.hear(await client.send(b"DONE\r\n"))
                    idling = False
                match what, how:
                    case "deliver", Mail() as mail:
                        await site.deliver(mail.source())
                    case "store", (mine, number, change):
                        line = f"UID STORE {number} {change}"
                        await (follower.say(line) if mine and not idling else other.command(line))
                    case "expunge", mine:
                        await (follower.say("EXPUNGE") if mine and not idling else other.command("EXPUNGE"))
                    case "noop", _:
                        await follower.say("NOOP")
                    case "fetch", _:
                        await follower.say("UID FETCH 1:* FLAGS")
                    case "copy", number:
                        await other.command(f"UID COPY {number} INBOX")
                    case "idle", _:
                        follower.hear(await client.send(b"x IDLE\r\n"))
                        idling = True
                follower.hear(await client.send(b""))
            if idling:
                follower.hear(await client.send(b"DONE\r\n"))
            await follower.say("NOOP")
            for tag, (command, by, key) in CONTEXTS.items():
                answer = (await client.command(f"{command} RETURN (ALL) {by}{key}")).decode()
                found = re.search(r" ALL (\S+)", answer)
                assert follower.results[tag] == (expand(found[1]) if found else []), (tag, doings)

    asyncio.run(main())


# Bounds, and databases from before


def test_emails_from_before_get_their_headings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(headings, "MANY", 3)
    monkeypatch.setattr(headings, "BUDGET", 100)

    async def main() -> None:
        async with opened() as database:
            site = await ImapSite.make(database)
            for number in range(10):
                source = Mail(f"s{9 - number}", "a", "", 3, 0).source()
                await site.deliver(b"Message-ID: <%d@x>\r\nReferences: <0@x>\r\n" % number + source)
            kept = await database.read(lambda tx: tx.all("SELECT * FROM heading ORDER BY email_id"))
            await database.write(lambda tx: tx.run("DELETE FROM heading WHERE email_id <> 5"))
            client = await site.logged_in("INBOX")
            assert numbers_in(await client.command("SORT (SUBJECT) UTF-8 ALL"), b"SORT") == list(range(10, 0, -1))
            assert await database.read(lambda tx: tx.all("SELECT * FROM heading ORDER BY email_id")) == kept
            await database.write(lambda tx: tx.run("DELETE FROM heading"))
            answer = await client.command("THREAD REFERENCES UTF-8 ALL")
            assert answer.startswith(b"* THREAD (1 (2)(3)(4)(5)(6)(7)(8)(9)(10))\r\n")
            assert await database.read(lambda tx: tx.all("SELECT * FROM heading ORDER BY email_id")) == kept

    asyncio.run(main())


def test_too_many_messages_are_not_sorted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sorting, "MAX_SORTED", 3)
    monkeypatch.setattr(sorting, "MAX_THREADED", 3)

    async def main() -> None:
        async with ImapSite.filled([PLAIN] * 4) as (_, client):
            for command in ("SORT (SUBJECT) UTF-8", "THREAD REFERENCES UTF-8", "THREAD REFS UTF-8"):
                assert b"T NO [LIMIT] " in await client.try_command(f"{command} ALL")
                assert b"T OK" in await client.try_command(f"{command} 1:3")
                assert b"T NO [LIMIT] " in await client.try_command(f"{command} SUBJECT s")

    asyncio.run(main())


def test_contexts_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contexts, "MAX_RESULT", 3)
    monkeypatch.setattr(contexts, "MAX_SORTED_RESULT", 2)
    monkeypatch.setattr(contexts, "MAX_CHANGED", 1)

    async def main() -> None:
        async with ImapSite.filled([PLAIN] * 3) as (site, client):
            assert b"NOUPDATE" not in await client.command("SEARCH RETURN (UPDATE) ALL")
            assert b"* NO [NOUPDATE " in await client.command("SORT RETURN (UPDATE) (SIZE) UTF-8 ALL")
            assert b"NOUPDATE" not in await client.command("SORT RETURN (UPDATE) (SIZE) UTF-8 SEEN")
            # More changes than are noted: all is looked at.
            answer = await client.command("STORE 1:2 +FLAGS.SILENT (\\Seen)")
            assert b" ADDTO (1 1:2)\r\n" in answer
            # A result that outgrows its bound is given up.
            answer = await client.command("STORE 3 +FLAGS.SILENT (\\Seen)")
            assert answer.count(b"* NO [NOUPDATE ") == 1
            await site.deliver(PLAIN)
            answer = await client.command("NOOP")
            assert answer.count(b"* NO [NOUPDATE ") == 1
            assert b"ESEARCH" not in await client.command("STORE 1:4 -FLAGS.SILENT (\\Seen)")

    asyncio.run(main())


def test_results_that_change_by_themselves_are_looked_at_from_time_to_time() -> None:
    async def main() -> None:
        async with ImapSite.filled([PLAIN]) as (site, client):
            await client.command("SEARCH RETURN (UPDATE) YOUNGER 100")
            site.clock.move(200)
            assert b" REMOVEFROM (0 1)\r\n" in await client.command("NOOP")
            assert b"ESEARCH" not in await client.command("NOOP")

    asyncio.run(main())

"""Threads of messages whose References are made to hurt: on a real socket every message is in the answer once, however
they point at each other; and twice the input costs twice the steps, counted as lines of code that run."""

import asyncio
import re
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from posthouse.imap import headings, threads
from posthouse.imap.headings import MAX_IDS
from posthouse.imap.threads import Member
from posthouse.mime import fields
from tests.support import house
from tests.support.imap_wire import Wire, literals, wire

ALGORITHMS = ("ORDEREDSUBJECT", "REFERENCES", "REFS")
Made = Callable[[int], tuple[int, list[int]]]


def ring(count: int) -> Made:
    """Each answers the next, the last one the first."""
    return lambda n: (n + 1, [(n + 1) % count + 1])


def rings_of_references(count: int) -> Made:
    """Each names all others in a circle, and itself."""
    return lambda n: (n + 1, [(n + k) % count + 1 for k in range(1, min(count, 50) + 1)])


def itself(count: int) -> Made:
    return lambda n: (n + 1, [n + 1] * 5)


def one_id(count: int) -> Made:
    """All have the same Message-ID, and answer it."""
    return lambda n: (1, [1])


def one_id_in_a_chain(count: int) -> Made:
    """All have the same Message-ID and refer to as many that are not there."""
    return lambda n: (1, list(range(n * 7 + 2, n * 7 + 9)))


def backwards(count: int) -> Made:
    """A chain, whose end comes first: whatever is looked up lies deep."""
    return lambda n: (count - n, [count - n - 1] if n < count - 1 else [])


def both_ways(count: int) -> Made:
    """Chains that contradict each other: the one says a before b, the other b before a."""
    return lambda n: (0, list(range(1, 100)) if n % 2 else list(range(99, 0, -1)))


def dummies(count: int) -> Made:
    """Chains of what is not there, one hung below the other."""
    return lambda n: (0, [10**6 + n * 20 + k for k in range(25)])


HOSTILE = (ring, rings_of_references, itself, one_id, one_id_in_a_chain, backwards, both_ways, dummies)


def message(own: int, refers: list[int], subject: str = "s") -> bytes:
    lines = [f"Subject: {subject}", "Date: Mon, 1 Jan 2024 00:00:00 +0000"]
    if own:
        lines.append(f"Message-ID: <{own}@x>")
    if refers:
        lines.append("References: " + "\r\n ".join(f"<{one}@x>" for one in refers))
    return "\r\n".join([*lines, "", "x", ""]).encode()


async def threaded(client: Wire, algorithm: str) -> list[int]:
    """The messages in the answer, sorted."""
    lines = await client.ask(f"THREAD {algorithm} UTF-8 ALL")
    assert lines[-1] == b"T OK THREAD completed"
    shown = lines[0].removeprefix(b"* THREAD")
    depth = 0
    for sign in re.findall(rb"[()]", shown):
        depth += 1 if sign == b"(" else -1
        assert depth >= 0
    assert depth == 0
    return sorted(map(int, re.findall(rb"\d+", shown)))


@pytest.mark.parametrize("hostile", HOSTILE)
def test_every_message_is_shown_once(tmp_path: Path, hostile: Callable[[int], Made]) -> None:
    count = 300

    async def main() -> None:
        async with house.opened(tmp_path) as site, wire(site) as client:
            made = hostile(count)
            await client.ask(b"APPEND INBOX" + literals([message(*made(n)) for n in range(count)]))
            await client.ask("SELECT INBOX")
            for algorithm in ALGORITHMS:
                assert await threaded(client, algorithm) == list(range(1, count + 1)), algorithm
            lines = await client.ask("SORT (SUBJECT REVERSE DATE) UTF-8 ALL")
            assert lines[0] == b"* SORT " + b" ".join(b"%d" % n for n in range(1, count + 1))

    asyncio.run(main())


@pytest.mark.parametrize(("count", "shown"), [(10_000, b"(1 2 3)"), (100_000, b"(1)(2 3)")])
def test_very_many_references_in_one_message(tmp_path: Path, count: int, shown: bytes) -> None:
    """The first and the last ones are kept: it is still below the message it answers, as long as the header is one that
    is read to its end (256 KiB)."""

    async def main() -> None:
        async with house.opened(tmp_path) as site, wire(site) as client:
            large = message(7, list(range(1000, 1000 + count)), "large")
            for one in (message(999 + count, [], "last"), large, message(8, [7], "answer")):
                assert (await client.last(b"APPEND INBOX" + literals([one]))).startswith(b"T OK")
            await client.ask("SELECT INBOX")
            kept = await site.database.read(lambda tx: tx.all("SELECT length(ids) FROM heading ORDER BY email_id"))
            assert max(size for (size,) in kept) == 8 * (MAX_IDS + 1)
            for algorithm in ALGORITHMS:
                assert await threaded(client, algorithm) == [1, 2, 3]
            assert (await client.ask("THREAD REFS UTF-8 ALL"))[0] == b"* THREAD " + shown

    asyncio.run(main())


def test_many_copies_of_one_message(tmp_path: Path) -> None:
    """3,000 messages of one Message-ID, each an answer to itself and to all the others."""
    count = 3000

    async def main() -> None:
        async with house.opened(tmp_path) as site, wire(site) as client:
            for _ in range(count // 1000):
                await client.ask(b"APPEND INBOX" + literals([message(1, [1, 2, 1, 3, 1])] * 1000))
            await client.ask("SELECT INBOX")
            for algorithm in ALGORITHMS:
                assert await threaded(client, algorithm) == list(range(1, count + 1)), algorithm

    asyncio.run(main())


def steps(work: Callable[[], object]) -> int:
    """How many lines of the modules that make threads run."""
    files = {threads.__file__, headings.__file__, fields.__file__}
    count = 0

    def line(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal count
        count += event == "line"
        return line

    before = sys.gettrace()
    sys.settrace(lambda frame, event, arg: line if frame.f_code.co_filename in files else None)
    try:
        work()
    finally:
        sys.settrace(before)
    return count


def members(count: int, made: Made) -> list[Member]:
    out = []
    for n in range(count):
        own, refers = made(n)
        out.append(Member(struct.pack(f">{len(refers) + 1}Q", own, *refers), b"s%d" % (n % 3), n % 2 == 0))
    return out


@pytest.mark.parametrize("hostile", HOSTILE)
def test_twice_the_messages_take_twice_the_steps(hostile: Callable[[int], Made]) -> None:
    def run(count: int) -> int:
        some = members(count, hostile(count))
        order = list(range(count))

        def work() -> None:
            for forest in (threads.references(some, order), threads.refs(some, order, order)):
                threads.format_forest(forest, [b"1"] * count)

        return steps(work)

    small, large = run(400), run(800)
    assert small > 1000
    assert large < 2.2 * small


def test_twice_the_references_take_no_more_than_twice_the_steps() -> None:
    def run(count: int) -> int:
        value = b" ".join(b"<%d@x>" % n for n in range(count))
        return steps(lambda: headings.references({b"references": value}))

    assert run(2000) == run(1000) <= run(MAX_IDS) + 1
    assert run(MAX_IDS) <= 2.2 * run(MAX_IDS // 2)

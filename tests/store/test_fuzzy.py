"""FUZZY: what is alike, and that the index and the reading of messages say the same of it."""

import asyncio
import random

import pytest

from posthouse.imap import keys
from posthouse.imap.keys import Key
from posthouse.store import search
from posthouse.store.database import Tx
from posthouse.store.index import fuzzy, rows
from posthouse.store.sqlite import SqliteDatabase
from tests.support.imap_site import ImapSite
from tests.support.indexed import Indexed, found, inbox_id
from tests.support.store import opened


@pytest.mark.parametrize(
    ("word", "other", "score"),
    [
        ("hello", "hello", fuzzy.SAME),
        ("helo", "hello", fuzzy.TYPO),
        ("hello", "helo", fuzzy.TYPO),
        ("helol", "hello", fuzzy.TYPO),
        ("hexlo", "hello", fuzzy.TYPO),
        ("hxllx", "hello", 0),
        ("xello", "hello", 0),
        ("cat", "cut", 0),
        ("run", "running", fuzzy.STEM),
        ("running", "runs", fuzzy.STEM),
        ("invoices", "invoice", fuzzy.STEM),
        ("rechnung", "rechnungen", fuzzy.STEM),
        ("книга", "книги", fuzzy.STEM),
        ("maison", "maisons", fuzzy.STEM),
        ("work", "word", fuzzy.TYPO),
        ("2024", "2025", fuzzy.TYPO),
        ("house", "mouse", 0),
    ],
)
def test_likeness(word: str, other: str, score: int) -> None:
    assert fuzzy.likeness(word, other) == score


def test_fuzzy_is_spread_over_a_tree() -> None:
    text, subject = keys.Text(keys.Scope.TEXT, "two words"), keys.Header("subject", "x1")
    other, flag = keys.Header("x-other", "word"), keys.Flag(1, True)
    tree = keys.Fuzzy(keys.And((text, keys.Or(subject, flag), keys.Not(keys.Fuzzy(other)))))
    assert fuzzy.spread(tree) == keys.And((keys.Fuzzy(text), keys.Or(keys.Fuzzy(subject), flag), keys.Not(other)))
    for asked in ("", "!?", "山田", "a " * 50 + "b", "x" * 60, " ".join(map(str, range(100, 150)))):
        key = keys.Text(keys.Scope.TEXT, asked)
        assert fuzzy.spread(keys.Fuzzy(key)) == key


TEXT = """hello helo help hell shell running run runs runner invoice invoices invoicing work word words homework
Rechnung Rechnungen Straße strasse café 山田 книга книги x1 a 2024 2025 zeppelin zepelin zeppelins"""
WORDS = TEXT.split()


async def answers(database: SqliteDatabase, key: Key, index: bool) -> tuple[list[int], list[int]]:
    def run(tx: Tx) -> tuple[list[int], list[int]]:
        uids = found(tx, key, index)
        scores: list[int] = []
        while len(scores) < len(uids):
            scores += search.relevancy(tx, inbox_id(tx), search.prepare(key), uids[len(scores) :])
        return uids, scores

    return await database.read(run)


def test_index_and_scan_find_the_same_and_score_it_alike() -> None:
    dice = random.Random(11)

    async def main() -> None:
        async with opened() as database:
            site = await ImapSite.make(database)
            async with Indexed(database) as indexed:
                for number in range(120):
                    if number == 100:
                        await indexed.catch_up()
                    subject, body = (" ".join(dice.choices(WORDS, k=dice.randint(0, 4))) for _ in range(2))
                    await site.deliver(
                        f"Subject: {subject}\r\nFrom: Helo <run@runner.example>\r\n\r\n{body}\r\n".encode()
                    )
                hits = 0
                wanted = [*WORDS, "hello running", "Invoce 2024", "work strasse", "helo zeppelin", "ork"]
                for text in wanted:
                    for inner in (
                        keys.Header("subject", text),
                        keys.Header("from", text),
                        keys.Text(keys.Scope.BODY, text),
                        keys.Text(keys.Scope.TEXT, text),
                        keys.Not(keys.Text(keys.Scope.TEXT, text)),
                    ):
                        key = keys.Fuzzy(inner)
                        scanned = await answers(database, key, False)
                        assert await answers(database, key, True) == scanned, key
                        assert all(1 <= score <= 100 for score in scanned[1])
                        hits += len(set(scanned[1])) > 1
                assert hits > 20

    asyncio.run(main())


def test_the_best_comes_with_the_highest_score() -> None:
    async def main() -> None:
        async with opened() as database:
            site = await ImapSite.make(database)
            for subject in ("Zepelin", "The zeppelin", "Zeppelins", "Superzeppelin", "Nothing"):
                await site.deliver(f"Subject: {subject}\r\n\r\nx\r\n".encode())
            async with Indexed(database) as indexed:
                await indexed.catch_up()
                key = keys.Fuzzy(keys.Header("subject", "ZEPPELIN"))
                expected = [fuzzy.TYPO, fuzzy.SAME, fuzzy.STEM, fuzzy.INSIDE]
                assert await answers(database, key, True) == ([1, 2, 3, 4], expected)

    asyncio.run(main())


def test_words_of_a_long_text_are_those_of_its_pieces() -> None:
    """And one that has no blank ends, too."""
    said = [f"word{number}" for number in range(30_000)]
    assert rows.words(" ".join(said)) == set(said)
    assert rows.words("-".join(said)) >= set(said[:1000])
    assert rows.words("x" * 1_000_000) == set()

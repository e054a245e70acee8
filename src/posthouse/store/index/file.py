"""The file of the index: opened, made anew when it is not usable, read on any thread, written on one of its own.

It is encrypted with the key of the store and written with `synchronous=NORMAL`: after a crash it is consistent, though
maybe not quite as far as it was. It belongs to one store: where that is older than its index (a restored backup), or
the file is damaged, an empty one takes its place. `look` never fails: without an answer the caller reads messages.
"""

import asyncio
import functools
import threading
import unicodedata
from array import array
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypeVar

from posthouse.base.errors import Permanent, Temporary
from posthouse.base.log import get_logger
from posthouse.imap.keys import Fuzzy
from posthouse.store.credentials import server_secret
from posthouse.store.database import Database, Tx
from posthouse.store.dialect import SQLITE, Dialect
from posthouse.store.index import fuzzy_query, query, rows
from posthouse.store.index.query import Answers, Known, Leaf
from posthouse.store.index.rows import Mark, Said

T = TypeVar("T")

NAME = "search.db"
REMEMBERED = 1_000_000  # ids in answers that are kept, for the next slice of the same search
LARGE = 20_000  # ids of an account from which on two threads look through its mail
SCORED = 4  # searches with FUZZY whose scores are kept
MAX_IDS = 4_000_000  # in the answers to one search: 32 MB; what is beyond is read from the messages


class Look(NamedTuple):
    """What the index says to a search: it speaks of emails up to `position`, and of no other."""

    position: int
    known: Answers
    scores: dict[Leaf, dict[int, int]]  # of FUZZY


class Status(NamedTuple):
    """How far the index is."""

    position: int  # the last email in it
    last: int  # the last email there was
    messages: int  # in it
    octets: int  # of its file


class Index:
    """One search.db. Use `await Index.open(...)`; a database with an `index` searches with it."""

    def __init__(self, database: Database, version: str = "", dialect: Dialect = SQLITE) -> None:
        parts = (str(rows.VERSION), f"Unicode {unicodedata.unidata_version}", version)
        self.version = ", ".join(filter(None, parts))
        self._database = database
        self._dialect = dialect
        self._store = ""
        self._file = database.beside(NAME)
        self._writer = ThreadPoolExecutor(1, "index")
        self._helper = ThreadPoolExecutor(1, "index-half")
        self._helping = threading.Lock()
        self._lock = threading.Lock()
        self._answers: OrderedDict[tuple[int, str, str], tuple[int, array[int]]] = OrderedDict()
        self._kept = 0  # ids in them
        self._scored: dict[tuple[int, Fuzzy], tuple[int, dict[int, int]]] = {}
        self._damaged = False  # somebody found it so; whoever writes next makes it anew

    @classmethod
    async def open(cls, database: Database, version: str = "") -> "Index":
        """Open (or make) the index of a database. `version` says what else it depends on."""
        index = cls(database, version)
        index._store = (await database.write(server_secret, "search index")).hex()
        last = await database.read(index._last)
        try:
            await index._run(index._ensure, last)
            traces = await database.read(_trace, (await index.mark()).email_id)
            mark = await index.mark()
            if traces is not None and traces != mark.trace:
                get_logger().warning("index.renewed", why="it is not of this store")
                await index.reset()
        except BaseException:
            await index.close()
            raise
        return index

    def _ensure(self, last: int) -> None:
        def ensure(tx: Tx) -> None:
            if not rows.exists(tx):
                rows.make(tx, self.version, self._store)
            elif rows.origin(tx) != (self.version, self._store):
                raise Permanent("it is of another version, or of another store")
            elif rows.mark(tx).email_id > last:
                raise Permanent("it is of a later state of the store")

        try:
            self._file.write(ensure)
        except Permanent as error:
            get_logger().warning("index.renewed", why=str(error))
            self._anew()

    def _last(self, tx: Tx) -> int:
        """The last id that an email was given."""
        row = tx.one(self._dialect.last_email)
        return int(row[0]) if row is not None and row[0] is not None else 0

    # Reading, on any thread

    def look(self, account_id: int, keys: Iterable[Leaf]) -> Look | None:
        """What the index knows of these keys in the mail of an account. Blocks; None if it knows nothing."""
        try:
            return self._file.read(lambda tx: self._look(tx, account_id, keys))
        except Permanent as error:
            self._damaged = True
            get_logger().warning("index.unavailable", error=str(error))
        except Temporary as error:
            get_logger().warning("index.unavailable", error=str(error))
        return None

    def _look(self, tx: Tx, account_id: int, keys: Iterable[Leaf]) -> Look | None:
        position = rows.mark(tx).email_id
        if not position:
            return None
        known: Answers = {}
        total = 0
        scores: dict[Leaf, dict[int, int]] = {}
        ask = functools.partial(self._ids, tx, account_id, position)
        for key in dict.fromkeys(keys):
            if isinstance(key, Fuzzy):
                scores[key] = self._scores(tx, account_id, position, key)
                found = Known(array("q", sorted(scores[key])), True)
            elif (question := query.question(key)) is not None:
                found = Known(query.union([ask(*one) for one in question.asked]), question.exact)
            else:
                continue
            total += len(found.ids)
            if total > MAX_IDS:
                break
            known[key] = found
        return Look(position, known, scores)

    def _scores(self, tx: Tx, account_id: int, position: int, key: Fuzzy) -> dict[int, int]:
        """The emails that are like what a key looks for, and how much."""
        asked = account_id, key
        with self._lock:
            if (kept := self._scored.get(asked)) is not None and kept[0] == position:
                return kept[1]
        scores = fuzzy_query.scores(tx, functools.partial(self._ids, tx, account_id, position), key)
        with self._lock:
            self._scored[asked] = position, scores
            while len(self._scored) > SCORED:
                del self._scored[next(iter(self._scored))]
        return scores

    def _ids(self, tx: Tx, account_id: int, position: int, table: str, match: str) -> "array[int]":
        key = account_id, table, match
        with self._lock:
            kept = self._answers.get(key)
            if kept is not None and kept[0] == position:
                self._answers.move_to_end(key)
                return kept[1]
        ids = self._asked(tx, account_id, position, table, match)
        with self._lock:
            before = self._answers.pop(key, None)
            self._answers[key] = position, ids
            self._kept += len(ids) + 100 - (len(before[1]) + 100 if before else 0)
            while self._kept > REMEMBERED and len(self._answers) > 1:
                _, (_, gone) = self._answers.popitem(last=False)
                self._kept -= len(gone) + 100
        return ids

    def _asked(self, tx: Tx, account_id: int, position: int, table: str, match: str) -> "array[int]":
        """What the tables answer. Of much mail another thread looks through the second half meanwhile."""
        middle = rows.middle(tx, account_id, LARGE)
        if not middle or not self._helping.acquire(blocking=False):
            return rows.ids(tx, account_id, table, match)
        try:
            # Its snapshot may be a later one: what is above the position is not of this answer.
            half = self._helper.submit(
                self._file.read, lambda tx: rows.ids(tx, account_id, table, match, middle + 1, position)
            )
            try:
                ids = rows.ids(tx, account_id, table, match, 0, middle)
            finally:
                rest = half.result()
            return ids + rest
        finally:
            self._helping.release()

    # Writing

    async def mark(self) -> Mark:
        """How far it is."""
        return await self._run(self._write, rows.mark)

    async def add(self, said: Sequence[Said], since: int, to: Mark) -> bool:
        """Add messages, and say that it has all of them from `since` up to `to`; False if it is not at `since`."""

        def add(tx: Tx) -> bool:
            if rows.mark(tx).email_id != since:
                return False  # another process was here
            rows.put(tx, said)
            rows.move(tx, to)
            return True

        return await self._run(self._write, add)

    async def sweep(self, after: int, most: int) -> int:
        """Take out what is of emails that are gone, among `most` rows above `after`; the last of these rows, or 0."""
        there = await self._run(self._write, lambda tx: rows.held(tx, after, most))
        if not there:
            return 0
        emails = array("q", [rows.email_of(row) for row in there])
        left = await self._database.read(_living, emails)
        gone = [row for row in there if rows.email_of(row) not in left]
        if gone:
            await self._run(self._write, lambda tx: rows.remove(tx, gone))
        return int(there[-1])

    async def reset(self) -> None:
        """Forget everything: it is filled anew."""
        await self._run(self._anew)

    async def waiting(self, mark: Mark) -> int:
        """How many emails came after a mark, at most: ids of emails that are gone count too."""
        return await self._database.read(self._last) - mark.email_id

    async def status(self) -> Status:
        """How far it is, and how large."""
        last = await self._database.read(self._last)
        position, messages = await self._database.work(
            self._file.read, lambda tx: (rows.mark(tx).email_id, rows.count(tx))
        )
        return Status(position, last, messages, self._file.size())

    async def findings(self) -> list[str]:
        """What is wrong with it, as sentences; see `store/check.py`."""
        found = await self._run(self._write, lambda tx: [row[0] for row in tx.all(self._dialect.integrity)])
        found = [f"search index: {text}" for text in found if text != "ok"]
        mark, held = await self._run(self._write, lambda tx: (rows.mark(tx), set(rows.held(tx, 0, -1))))
        wanted = await self._database.read(_rows_up_to, mark.email_id)
        found += [f"search index: email {rows.email_of(row)} is not in it" for row in wanted if row not in held]
        return found

    def _write(self, work: Callable[[Tx], T]) -> T:
        if self._damaged:
            get_logger().warning("index.renewed", why="it is damaged")
            self._anew()
        try:
            return self._file.write(work)
        except Permanent:
            self._damaged = True
            raise

    def _anew(self) -> None:
        self._file.remove()
        self._file = self._database.beside(NAME)
        self._file.write(lambda tx: rows.make(tx, self.version, self._store))
        self._damaged = False

    async def _run(self, work: Callable[..., T], *args: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._writer, work, *args)

    async def close(self) -> None:
        """Finish what is being written, then close."""
        await asyncio.to_thread(self._writer.shutdown)
        await asyncio.to_thread(self._helper.shutdown)
        self._file.close()


def _trace(tx: Tx, email_id: int) -> int | None:
    row = tx.one("SELECT trace FROM email WHERE id = ?", email_id)
    return int(row[0]) if row is not None else None


def _living(tx: Tx, emails: "array[int]") -> set[int]:
    sql = "SELECT id FROM email WHERE id IN (SELECT value FROM carray(?))"
    return {email_id for (email_id,) in tx.all(sql, tx.numbers(emails))}


def _rows_up_to(tx: Tx, email_id: int) -> list[int]:
    found = tx.all("SELECT account_id, id FROM email WHERE id <= ?", email_id)
    return [rows.row_of(account, email) for account, email in found]

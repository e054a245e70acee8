"""The embedded database: SQLite (Multiple Ciphers) in WAL mode, one writer thread, several readers.

Group commit: the writer takes all waiting transactions, commits and syncs once (`synchronous=FULL`), and only
then resolves their futures. While one group syncs, the next one gathers; under load the writer also waits some ms for
as many as the last group had, so that a sync and the pages it writes are shared by more (`_gather`). If one fails,
the group is run again with each in a savepoint, so that only that one is undone and its neighbours go on; if the
commit itself fails, or a full disk made SQLite undo everything, all of the group have failed.

Reads run on `readers` threads with a connection each, on a snapshot (a deferred transaction).

No cursor is closed by name: `close` of apsw 3.54 keeps the cursor for ever, a fifth of a KiB a statement. One that
nobody holds ends by itself, at once.
"""

import asyncio
import contextlib
import logging
import os
import queue
import threading
import time
from array import array
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, NamedTuple, ParamSpec, TypeVar, cast

import apsw

from posthouse.base.errors import Permanent, PosthouseError, StorageFull, Temporary
from posthouse.imap.body import is_attached
from posthouse.store import schema
from posthouse.store.blobs.files import INLINE_MAX, BlobFiles, Keys
from posthouse.store.database import Row, TooMuch, Tx
from posthouse.store.dialect import SQLITE
from posthouse.store.glances import Glances
from posthouse.store.model import Change

if TYPE_CHECKING:
    from posthouse.store.index.file import Index

P = ParamSpec("P")
T = TypeVar("T")

MAX_GROUP = 256  # transactions in one commit: bounds the time a group holds the write lock
CROWD = 3  # transactions in the last group from which on the next one waits for as many
GATHER_STEP, GATHER_STEPS = 0.0005, 8  # seconds between looks, and how many: 4 ms at most
LOOK_STEPS, LOOKS = 2000, 20  # steps of SQLite's machine between two looks, and how many a glance may have
BUSY_TIMEOUT = 10_000  # ms to wait for another process (a command, a backup) that writes
CHECKPOINT_PAGES = 4000  # 16 MiB of WAL, then its pages move to the database file
CACHE_KIB = 8192
WAL_KEPT = 64 * 1024 * 1024  # octets of the WAL of a file beside the main one that stay when it is empty


class SqliteTx:
    """A transaction on one connection. See `store.database.Tx`."""

    __slots__ = ("_con", "brief", "changes", "files", "index")

    def __init__(
        self, con: apsw.Connection, files: BlobFiles, index: "Index | None" = None, brief: bool = False
    ) -> None:
        self._con = con
        self.files = files
        self.index = index
        self.brief = brief
        self.changes: list[Change] = []

    def all(self, sql: str, *args: object) -> list[Row]:
        return self._con.execute(sql, cast(Any, args)).fetchall()

    def one(self, sql: str, *args: object) -> Row | None:
        return cast(Row | None, self._con.execute(sql, cast(Any, args)).fetchone())

    def run(self, sql: str, *args: object) -> int:
        self._con.execute(sql, cast(Any, args))
        return self._con.changes()

    def insert(self, sql: str, *args: object) -> int:
        return cast(int, self._con.execute(sql, cast(Any, args)).fetchall()[0][0])

    def many(self, sql: str, rows: Iterable[tuple[object, ...]]) -> None:
        self._con.executemany(sql, cast(Any, rows))

    def numbers(self, values: "array[int]") -> object:
        return apsw.carray(values)

    def publish(self, change: Change) -> None:
        self.changes.append(change)


class _Job(NamedTuple):
    work: Callable[[Tx], Any]
    future: "asyncio.Future[Any]"


Outcome = tuple["asyncio.Future[Any]", Any, BaseException | None]


def translate(error: Exception) -> Exception:
    """What a driver says, in our words. Our own errors and errors of the function pass unchanged."""
    if isinstance(error, PosthouseError) or not isinstance(error, apsw.Error):
        return error
    if isinstance(error, apsw.FullError):
        return StorageFull(f"database: {error}", "Insufficient system storage")
    if isinstance(error, apsw.NotADBError):
        return Permanent("the database cannot be read: the encryption key is missing or wrong")
    if isinstance(error, apsw.CorruptError):
        return Permanent(f"the database is damaged: {error}")
    return Temporary(f"database: {type(error).__name__}: {error}", "Storage is not available")


def _connect(
    path: Path, keys: Keys, readonly: bool, synchronous: str = "FULL", mapped: int = 1 << 28
) -> apsw.Connection:
    flags = apsw.SQLITE_OPEN_READONLY if readonly else apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE
    con = apsw.Connection(str(path), flags=flags, statementcachesize=200)
    if keys.database is not None:
        con.execute(f"PRAGMA key = 'raw:{keys.database.hex()}'")
    con.set_busy_timeout(BUSY_TIMEOUT)
    con.create_scalar_function("is_attached", cast(Any, is_attached), 1, deterministic=True)
    for pragma in (
        f"synchronous = {synchronous}",
        "foreign_keys = OFF",  # check.py looks for what they would forbid; deletes name their order
        f"wal_autocheckpoint = {CHECKPOINT_PAGES}",
        f"cache_size = -{CACHE_KIB}",
        "temp_store = MEMORY",
        f"mmap_size = {0 if keys.database else mapped}",
    ):
        con.execute(f"PRAGMA {pragma}")
    return con


def _hide(path: Path) -> None:
    """Let nobody else read a database, which holds keys: before SQLite opens it, as what it puts beside gets the mode
    that the file has then. What fails here fails again there, and is told by it."""
    with contextlib.suppress(OSError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    for one in (path, path.with_name(path.name + "-wal"), path.with_name(path.name + "-shm")):
        with contextlib.suppress(OSError):
            one.chmod(0o600)


class SqliteFile:
    """See `store.database.Beside`. A crash may cost its last transactions, never its order."""

    def __init__(self, path: Path, keys: Keys, files: BlobFiles) -> None:
        self.path = path
        self._keys = keys
        self._files = files
        self._thread_local = threading.local()
        self._connections: list[apsw.Connection] = []
        self._con: apsw.Connection | None = None

    def read(self, work: Callable[[Tx], T]) -> T:
        try:
            con: apsw.Connection | None = getattr(self._thread_local, "con", None)
            if con is None:
                con = self._thread_local.con = _connect(self.path, self._keys, readonly=True, mapped=0)
                self._connections.append(con)
            return self._inside(con, "BEGIN", work)
        except Exception as error:
            raise translate(error) from error

    def write(self, work: Callable[[Tx], T]) -> T:
        try:
            if self._con is None:
                _hide(self.path)
                self._con = _connect(self.path, self._keys, False, "NORMAL", 0)
                self._con.execute("PRAGMA journal_mode = WAL")
                self._con.execute(f"PRAGMA journal_size_limit = {WAL_KEPT}")
            return self._inside(self._con, "BEGIN IMMEDIATE", work)
        except Exception as error:
            raise translate(error) from error

    def _inside(self, con: apsw.Connection, begin: str, work: Callable[[Tx], T]) -> T:
        con.execute(begin)
        try:
            result = work(SqliteTx(con, self._files))
            con.execute("COMMIT")
            return result
        except BaseException:
            if con.in_transaction:
                with contextlib.suppress(apsw.Error):
                    con.execute("ROLLBACK")
            raise

    def size(self) -> int:
        return sum(path.stat().st_size for path in self._paths() if path.exists())

    def remove(self) -> None:
        if self._con is not None:
            with contextlib.suppress(apsw.Error):
                self._con.close()
            self._con = None
        for path in self._paths():
            path.unlink(missing_ok=True)

    def _paths(self) -> list[Path]:
        return [self.path.with_name(self.path.name + end) for end in ("", "-wal", "-shm")]

    def close(self) -> None:
        for con in (*self._connections, self._con):
            if con is not None:
                with contextlib.suppress(apsw.Error):  # somebody still reads: it goes with its thread
                    con.close()
        self._connections.clear()
        self._con = None


class SqliteDatabase:
    """One database file with its blob files. Use `await SqliteDatabase.open(...)`."""

    def __init__(self, folder: Path, keys: Keys, inline_max: int = INLINE_MAX, readers: int = 3) -> None:
        self.path = folder / "posthouse.db"
        self._keys = keys
        self.files = BlobFiles(folder / "blobs", keys, inline_max)
        self.index: Index | None = None  # whoever has one puts it here
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._listeners: list[Callable[[list[Change]], None]] = []
        self._readers = ThreadPoolExecutor(readers, "reader")
        self._workers = ThreadPoolExecutor(4, "worker")
        self._thread_local = threading.local()
        self._connections: list[apsw.Connection] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._writer: threading.Thread | None = None
        self._con: apsw.Connection | None = None
        self._loop_con: apsw.Connection | None = None
        self._glances = Glances()
        self._looks = 0

    @classmethod
    async def open(
        cls, folder: Path, now: int, secret: bytes | None = None, inline_max: int = INLINE_MAX
    ) -> "SqliteDatabase":
        """Open (or make) the database in `folder`, bring its schema up to date, start its threads."""
        database = cls(folder, Keys(secret), inline_max)
        database._loop = asyncio.get_running_loop()
        await asyncio.to_thread(database._prepare, now)
        database._writer = threading.Thread(target=database._write_loop, name="writer", daemon=True)
        database._writer.start()
        return database

    def _prepare(self, now: int) -> None:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            _hide(self.path)
            con = self._con = self._connect()
            con.execute("PRAGMA journal_mode = WAL")
            with con:
                schema.upgrade(SqliteTx(con, self.files), SQLITE, now)
            self._loop_con = self._connect(readonly=True)
            self._loop_con.set_busy_timeout(0)
            self._loop_con.set_progress_handler(self._takes_long, LOOK_STEPS)
            self._connections.append(self._loop_con)
        except apsw.Error as error:
            raise translate(error) from error

    def _connect(self, readonly: bool = False) -> apsw.Connection:
        return _connect(self.path, self._keys, readonly)

    def beside(self, name: str) -> "SqliteFile":
        return SqliteFile(self.path.with_name(name), self._keys, self.files)

    # Reading

    async def read(self, fn: Callable[Concatenate[Tx, P], T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._readers, lambda: self._read(lambda tx: fn(tx, *args, **kwargs)))

    def _read(self, work: Callable[[Tx], T]) -> T:
        con: apsw.Connection | None = getattr(self._thread_local, "con", None)
        if con is None:
            con = self._thread_local.con = self._connect(readonly=True)
            self._connections.append(con)
        try:
            con.execute("BEGIN")
            try:
                return work(SqliteTx(con, self.files, self.index))
            finally:
                con.execute("COMMIT")
        except Exception as error:
            raise translate(error) from error

    async def glance(self, fn: Callable[Concatenate[Tx, P], T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        begun = time.monotonic()
        if self._glances.allowed(begun):
            try:
                return self._glance(lambda tx: fn(tx, *args, **kwargs))
            except (TooMuch, apsw.BusyError):
                pass
            finally:
                self._glances.took(begun, time.monotonic())
        return await self.read(fn, *args, **kwargs)

    def _glance(self, work: Callable[[Tx], T]) -> T:
        """`_read` on the event loop. It never waits for others."""
        con = cast(apsw.Connection, self._loop_con)
        self._looks = 0
        try:
            con.execute("BEGIN")
            try:
                return work(SqliteTx(con, self.files, self.index, brief=True))
            finally:
                if con.in_transaction:
                    con.execute("COMMIT")
        except apsw.InterruptError as error:
            raise TooMuch from error
        except (TooMuch, apsw.BusyError):
            raise
        except Exception as error:
            raise translate(error) from error

    def _takes_long(self) -> bool:
        """SQLite asks every `LOOK_STEPS` steps whether to break off what is done on the event loop."""
        self._looks += 1
        return self._looks > LOOKS

    async def work(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._workers, lambda: fn(*args, **kwargs))

    # Writing

    async def write(self, fn: Callable[Concatenate[Tx, P], T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        return cast(T, await self.submit(lambda tx: fn(tx, *args, **kwargs)))

    def submit(self, work: Callable[[Tx], T]) -> "asyncio.Future[T]":
        """`write` without a coroutine: the future resolves once the group commit is synced."""
        if self._loop is None or self._writer is None:
            raise Temporary("the database is closed")
        future: asyncio.Future[T] = self._loop.create_future()
        self._jobs.put(_Job(work, future))
        return future

    def on_commit(self, listener: Callable[[list[Change]], None]) -> None:
        self._listeners.append(listener)

    def _write_loop(self) -> None:
        assert self._loop is not None
        group: list[_Job] = []
        while True:
            job = self._jobs.get()
            if job is None:
                return
            self._gather(len(group))
            group = [job]
            closing = False
            while len(group) < MAX_GROUP:
                try:
                    job = self._jobs.get_nowait()
                except queue.Empty:
                    break
                if job is None:
                    closing = True
                    break
                group.append(job)
            outcomes, changes = self._commit(group)
            try:
                self._loop.call_soon_threadsafe(self._resolve, outcomes, changes)
            except RuntimeError:  # the loop is gone: nobody is waiting any more
                return
            if closing:
                return

    def _gather(self, last: int) -> None:
        """Wait for as many transactions as the last group had, 4 ms at most, and not at all where nobody shares.

        Twenty senders made groups of 9 without it and 19 with it: a third less CPU time a message, and more messages.
        """
        if last < CROWD:
            return
        for _ in range(GATHER_STEPS):
            if self._jobs.qsize() + 1 >= min(last, MAX_GROUP):
                return
            time.sleep(GATHER_STEP)

    def _commit(self, group: list[_Job]) -> tuple[list[Outcome], list[Change]]:
        """Run a group in one transaction. Never raises: each job has its outcome.

        First all of it without savepoints, as nearly always nothing fails and every statement hands the
        interpreter lock to and fro. If one fails, the whole is undone and run again, each in its savepoint.
        """
        con = cast(apsw.Connection, self._con)
        for careful in (False, True) if len(group) > 1 else (True,):
            outcomes: list[Outcome] = []
            changes: list[Change] = []
            try:
                con.execute("BEGIN IMMEDIATE")
                for job in group:
                    tx = SqliteTx(con, self.files)
                    result, error = self._run(con, job, tx) if careful else (job.work(tx), None)
                    outcomes.append((job.future, result, error))
                    if error is None:
                        changes += tx.changes
                con.execute("COMMIT")
                return outcomes, changes
            except Exception as error:
                # A job failed, the commit did, or a full disk made SQLite undo everything: nothing stands.
                if con.in_transaction:
                    with contextlib.suppress(apsw.Error):
                        con.execute("ROLLBACK")
                failure = translate(error)
        return [(job.future, None, failure) for job in group], []

    def _run(self, con: apsw.Connection, job: _Job, tx: SqliteTx) -> tuple[Any, BaseException | None]:
        """One job in its savepoint: if it fails, its changes are undone and its neighbours' stay."""
        con.execute("SAVEPOINT job")
        try:
            result = job.work(tx)
        except Exception as error:
            if (
                not con.in_transaction
            ):  # SQLite undid everything: no savepoint is left, and the group has failed of this
                raise
            con.execute("ROLLBACK TO job")
            con.execute("RELEASE job")
            return None, translate(error)
        con.execute("RELEASE job")
        return result, None

    def _resolve(self, outcomes: list[Outcome], changes: list[Change]) -> None:
        for future, result, error in outcomes:
            if future.done():  # cancelled: the one who asked is gone, the commit stands
                continue
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)
        if changes:
            for listener in self._listeners:
                try:
                    listener(changes)
                except Exception:
                    logging.getLogger("posthouse").exception("a commit listener failed")

    # Closing

    async def close(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            self._jobs.put(None)
            await asyncio.to_thread(writer.join)
        self._workers.shutdown(wait=True)
        self._readers.shutdown(wait=True)
        for con in self._connections:
            con.close()
        self._connections.clear()
        if self._con is not None:
            self._con.close()  # the last one: SQLite moves the WAL into the database file
            self._con = None

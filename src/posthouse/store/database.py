"""The seam between storage functions and a database: "run this function in a transaction".

A storage function is a plain function `f(tx, ...)`. `await db.read(f, ...)` runs it on a reader
thread on a stable snapshot, `await db.write(f, ...)` inside the next group commit; `write` returns
only after the commit is synced to disk. A function may run more than once (after a conflict or a
neighbour's failure), so it changes nothing but the database and `tx.publish`.

Fails with `StorageFull` when the disk is full, `Temporary` for other trouble of the database, and
with whatever the function raised (its changes are undone then).

`glance` is `read` for what looks up a few rows or one small message: it may be done on the event loop itself, where the
way to a thread and back would cost several times as much. A function that finds more to do than that raises `TooMuch`
(if `tx.brief`), and is run by `read` instead.
"""

import asyncio
from array import array
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Protocol, TypeVar

from posthouse.store.blobs.files import BlobFiles
from posthouse.store.model import Change

if TYPE_CHECKING:
    from posthouse.store.index.file import Index

P = ParamSpec("P")
T = TypeVar("T")
Row = tuple[Any, ...]


class TooMuch(Exception):
    """A function that `glance` runs on the event loop has more to do than should be done there."""


class Tx(Protocol):
    """One transaction. Parameters are positional and stand as `?` in the SQL."""

    files: BlobFiles
    index: "Index | None"  # of what messages say, if there is one
    brief: bool  # everybody waits until it is over: `glance`

    def all(self, sql: str, *args: object) -> list[Row]:
        """All rows of a query."""
        ...

    def one(self, sql: str, *args: object) -> Row | None:
        """The first row of a query, or None."""
        ...

    def run(self, sql: str, *args: object) -> int:
        """Execute a statement; return how many rows it changed."""
        ...

    def insert(self, sql: str, *args: object) -> int:
        """Execute an INSERT … RETURNING id; return the id."""
        ...

    def many(self, sql: str, rows: Iterable[tuple[object, ...]]) -> None:
        """Execute a statement once for each row of parameters."""
        ...

    def numbers(self, values: "array[int]") -> object:
        """Many numbers (at least one) as the one parameter of `… IN (SELECT value FROM carray(?))`."""
        ...

    def publish(self, change: Change) -> None:
        """Tell the change feed, once the transaction is committed."""
        ...


class Beside(Protocol):
    """A database file beside the main one, with the same key, for what can be made again. Its methods block."""

    path: Path

    def read(self, work: Callable[[Tx], T]) -> T:
        """Run `work` on a snapshot, on any thread."""
        ...

    def write(self, work: Callable[[Tx], T]) -> T:
        """Run `work` in a transaction, on one thread at a time."""
        ...

    def size(self) -> int:
        """Octets of the file."""
        ...

    def remove(self) -> None:
        """Remove the file, whoever has it open. Nothing can be done with this object afterwards."""
        ...

    def close(self) -> None:
        """Close it, when nobody uses it."""
        ...


class Database(Protocol):
    """What a storage engine offers. `store/sqlite.py` is one."""

    files: BlobFiles
    index: "Index | None"

    async def read(self, fn: Callable[Concatenate[Tx, P], T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `fn(tx, …)` on a snapshot of the database."""
        ...

    async def glance(self, fn: Callable[Concatenate[Tx, P], T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """`read` for what looks up a few rows, or one small message."""
        ...

    async def write(self, fn: Callable[Concatenate[Tx, P], T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `fn(tx, …)` in a transaction; return once it is committed and synced."""
        ...

    def submit(self, work: Callable[[Tx], T]) -> "asyncio.Future[T]":
        """`write` without a coroutine: the future resolves once the transaction is committed and synced."""
        ...

    async def work(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run blocking work that is no transaction (blob files) on a worker thread."""
        ...

    def beside(self, name: str) -> Beside:
        """A database file of this name beside the main one; it is opened when it is first used."""
        ...

    def on_commit(self, listener: Callable[[list[Change]], None]) -> None:
        """Call `listener` on the event loop with the changes of each group commit."""
        ...

    async def close(self) -> None:
        """Finish what is waiting, then close."""
        ...

"""A real store in a temporary folder; at the end the consistency check must find nothing."""

import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from posthouse.store import check
from posthouse.store.blobs import rows as blobs
from posthouse.store.blobs.writer import content_of
from posthouse.store.database import Tx
from posthouse.store.sqlite import SqliteDatabase
from tests.support.clock import START


@asynccontextmanager
async def opened(folder: Path | None = None) -> AsyncIterator[SqliteDatabase]:
    """Open a database, in `folder` if the test wants to open it again."""
    place = folder or Path(tempfile.mkdtemp(prefix="posthouse-test-"))
    database = await SqliteDatabase.open(place, START)
    try:
        yield database
        assert await database.read(check.findings) == []
    finally:
        await database.close()
        if folder is None:
            shutil.rmtree(place, ignore_errors=True)


def put_blob(tx: Tx, data: bytes) -> int:
    """Store a content with one reference; returns its id."""
    return blobs.put(tx, content_of(tx.files, data))

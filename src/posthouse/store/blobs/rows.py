"""The table `blob`: put, reference, release, read. Contents are shared: the same bytes are kept once."""

from collections.abc import Iterable

from posthouse.base.errors import NotFound
from posthouse.store.blobs.files import decompress
from posthouse.store.blobs.writer import FILE, PLAIN, Content
from posthouse.store.database import TooMuch, Tx
from posthouse.store.model import FileSpared

BlobRow = tuple[int, int, bytes | None, str | None]  # size, encoding, data, file


def put(tx: Tx, content: Content, refs: int = 1) -> int:
    """Store a content (or find it stored) and count `refs` references to it; return the blob's id.

    A second file of a content that is kept already is removed after the commit; it takes the place of the first if that
    one is missing.
    """
    row = tx.one(
        "INSERT INTO blob (hash, size, stored, refs, encoding, data, file) VALUES (?, ?, ?, ?, ?, ?, ?) "
        "ON CONFLICT (hash) DO UPDATE SET refs = blob.refs + excluded.refs RETURNING id, file",
        content.hash,
        content.size,
        content.stored,
        refs,
        content.encoding,
        content.data,
        content.file,
    )
    assert row is not None
    blob_id, file = int(row[0]), row[1]
    if content.file is not None and file != content.file:
        if file is not None and not tx.files.path(file).exists():
            tx.run(
                "UPDATE blob SET stored = ?, encoding = ?, file = ? WHERE id = ?",
                content.stored,
                content.encoding,
                content.file,
                blob_id,
            )
        else:
            tx.publish(FileSpared(content.file))
    return blob_id


def reference(tx: Tx, blob_id: int, refs: int = 1) -> None:
    """Count more references to a blob (negative: fewer). One without any is collected later."""
    if not tx.run("UPDATE blob SET refs = refs + ? WHERE id = ?", refs, blob_id):
        raise NotFound(f"blob {blob_id}")


def read(tx: Tx, blob_id: int, start: int = 0, end: int | None = None) -> bytes:
    """The bytes of a content from `start` to `end`."""
    row = tx.one("SELECT size, encoding, data, file FROM blob WHERE id = ?", blob_id)
    if row is None:
        raise NotFound(f"blob {blob_id}")
    return content_of_row(tx, row, start, end)


def content_of_row(tx: Tx, row: BlobRow, start: int = 0, end: int | None = None) -> bytes:
    """`read` of a row (size, encoding, data, file) that is at hand, as queries that join `blob` have it."""
    size, encoding, data, file = row
    if file is not None and encoding == FILE:
        if tx.brief:
            raise TooMuch
        return tx.files.read(file, size, start, end)
    assert data is not None
    content = data if encoding == PLAIN else decompress(data, size)
    return content if start == 0 and (end is None or end >= size) else content[start:end]


def small(tx: Tx, blob_ids: Iterable[int], most: int) -> dict[int, bytes]:
    """The contents, by id, of those blobs that have at most `most` octets and are not in a file."""
    found: dict[int, bytes] = {}
    for blob_id in blob_ids:
        row = tx.one("SELECT size, encoding, data, file FROM blob WHERE id = ? AND size <= ?", blob_id, most)
        if row is not None and row[3] is None:
            found[blob_id] = content_of_row(tx, row)
    return found

"""Collects what nobody needs: blobs without references, files without a row.

`collect` removes rows whose count is 0; their files are unlinked only after that is committed. `orphans`
lists files no row names, as a crash leaves them; it must not see files that a delivery is just writing,
so it takes only files older than `before`.
"""

import os

from posthouse.store.blobs.files import BlobFiles
from posthouse.store.database import Tx


def collect(tx: Tx, most: int = 500) -> tuple[int, list[str]]:
    """Remove up to `most` unreferenced blobs; return how many went, and the files to unlink after the commit."""
    rows = tx.all(
        "DELETE FROM blob WHERE id IN (SELECT id FROM blob WHERE refs = 0 ORDER BY id LIMIT ?) RETURNING file",
        most,
    )
    return len(rows), [name for (name,) in rows if name]


def orphans(tx: Tx, before: float) -> list[str]:
    """Files older than `before` (seconds since 1970) that no row names."""
    old = []
    for folder in os.scandir(tx.files.folder):
        if folder.is_dir():
            old += [f.name for f in os.scandir(folder) if f.stat().st_mtime < before]
    named = {name for (name,) in tx.all("SELECT file FROM blob WHERE file IS NOT NULL")}
    return [name for name in old if name not in named]


def unlink(files: BlobFiles, names: list[str]) -> None:
    """Remove files; one that is gone already is fine."""
    for name in names:
        files.path(name).unlink(missing_ok=True)

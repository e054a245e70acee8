"""Takes the content of one message in, piece by piece, and ends with a `Content` ready to commit.

Up to `inline_max` bytes it only gathers, and everything happens at the end in one go. Beyond that
it goes to a file, chunk by chunk; then `write` and `finish` block and belong on a worker thread
(`spills` says beforehand whether they will). So that many that come slowly do not fill the memory, only
some at a time (`BlobFiles.places`) gather more than `SMALL`; the others go to files sooner.
"""

import contextlib
from typing import NamedTuple

from posthouse.store.blobs.files import CHUNK, SMALL, BlobFiles, FileWriter, compress

PLAIN, ZSTD, FILE = 0, 1, 2  # blob.encoding


class Content(NamedTuple):
    """A content on its way into the table `blob`: its file, if it has one, is on disk already."""

    hash: bytes
    size: int
    stored: int
    encoding: int
    data: bytes | None
    file: str | None


class BlobWriter:
    """One content. Use it as: write…, then finish() or abandon()."""

    def __init__(self, files: BlobFiles, *, inline: bool = True) -> None:
        """Not `inline`: it goes to a file however small it is."""
        self._files = files
        self._inline = inline
        self._pieces: list[bytes] = []
        self._gathered = 0
        self.size = 0
        self._file: FileWriter | None = None
        self._hash = files.keys.hasher()
        self._has_place = False

    def spills(self, more: int) -> bool:
        """True if taking `more` bytes, or finishing after them, touches the disk."""
        size = self.size + more
        if self._file is not None or not self._inline or size > self._files.inline_max:
            return True
        return size > SMALL and not self._has_place and not self._files.places

    def write(self, data: bytes) -> None:
        """Add a piece of any length."""
        spills = self._file is None and self.spills(len(data))
        self._hash.update(data)
        self._pieces.append(data)
        self._gathered += len(data)
        self.size += len(data)
        if spills:
            self._leave_place()
            self._file = self._files.create()
        elif self.size > SMALL and self._file is None and not self._has_place:
            with contextlib.suppress(IndexError):  # another thread was faster: then it has none
                self._files.places.pop()
                self._has_place = True
        if self._file is not None and self._gathered >= CHUNK:
            gathered = b"".join(self._pieces)
            whole = len(gathered) - len(gathered) % CHUNK
            for at in range(0, whole, CHUNK):
                self._file.write(gathered[at : at + CHUNK])
            self._pieces = [gathered[whole:]]
            self._gathered = len(gathered) - whole

    def finish(self) -> Content:
        """The content, its file synced. After this the writer is done."""
        self._leave_place()
        gathered = b"".join(self._pieces)
        digest = self._hash.digest()
        if self._file is not None:
            if gathered:
                self._file.write(gathered)
            return Content(digest, self.size, self._file.finish(), FILE, None, self._file.name)
        packed = compress(gathered)
        if len(packed) < self.size:
            return Content(digest, self.size, len(packed), ZSTD, packed, None)
        return Content(digest, self.size, self.size, PLAIN, gathered, None)

    def abandon(self) -> None:
        """Forget the content and remove its file, if there is one."""
        self._pieces.clear()
        self._leave_place()
        if self._file is not None:
            self._file.abandon()

    def _leave_place(self) -> None:
        if self._has_place:
            self._has_place = False
            self._files.places.append(0)

    def __del__(self) -> None:
        self._leave_place()


def content_of(files: BlobFiles, data: bytes) -> Content:
    """The content of bytes at hand. Blocks when they are larger than `inline_max`."""
    writer = BlobWriter(files)
    writer.write(data)
    return writer.finish()

"""Takes the content of one message in, piece by piece, and ends with a `Content` ready to commit.

Up to `inline_max` bytes it only gathers, and everything happens at the end in one go. Beyond that
it goes to a file, chunk by chunk; then `write` and `finish` block and belong on a worker thread
(`spills` says beforehand whether they will).
"""

from typing import NamedTuple

from posthouse.store.blobs.files import CHUNK, BlobFiles, FileWriter, compress

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

    def __init__(self, files: BlobFiles) -> None:
        self._files = files
        self._pieces: list[bytes] = []
        self._gathered = 0
        self.size = 0
        self._file: FileWriter | None = None
        self._hash = files.keys.hasher()

    def spills(self, more: int) -> bool:
        """True if taking `more` bytes, or finishing after them, touches the disk."""
        return self._file is not None or self.size + more > self._files.inline_max

    def write(self, data: bytes) -> None:
        """Add a piece of any length."""
        self._hash.update(data)
        self._pieces.append(data)
        self._gathered += len(data)
        self.size += len(data)
        if self._file is None and self.size > self._files.inline_max:
            self._file = self._files.create()
        if self._file is not None and self._gathered >= CHUNK:
            gathered = b"".join(self._pieces)
            whole = len(gathered) - len(gathered) % CHUNK
            for at in range(0, whole, CHUNK):
                self._file.write(gathered[at : at + CHUNK])
            self._pieces = [gathered[whole:]]
            self._gathered = len(gathered) - whole

    def finish(self) -> Content:
        """The content, its file synced. After this the writer is done."""
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
        if self._file is not None:
            self._file.abandon()


def content_of(files: BlobFiles, data: bytes) -> Content:
    """The content of bytes at hand. Blocks when they are larger than `inline_max`."""
    writer = BlobWriter(files)
    writer.write(data)
    return writer.finish()

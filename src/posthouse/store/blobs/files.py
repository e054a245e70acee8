"""Blob files: a content in chunks, each compressed and, with a key, sealed by itself.

    file  = "PHB1" flags(1) nonce(7) chunk* index
    chunk = zstd frame or plain bytes, of CHUNK bytes of content each (the last may be shorter),
            with a key: AES-256-GCM over that, nonce = the file's 7 bytes, "last" (1), number (4)
    index = stored length of each chunk (u32; top bit: not compressed), number of chunks (u32)

Chunks make a read of a range cost only the chunks it touches, and memory is bounded by one chunk.
The number and the "last" byte in the nonce keep chunks from being exchanged or cut off unnoticed.

Fails with OSError (`storage_errors` turns a full disk into `StorageFull`) and with `Permanent` when a
file is damaged.
"""

import errno
import hashlib
import hmac
import os
import struct
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import zstandard
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from posthouse.base.errors import Permanent, StorageFull, Temporary

CHUNK = 256 * 1024
INLINE_MAX = 256 * 1024  # octets of a content that lies in its row
SMALL = 64 * 1024  # up to here any number may be in memory while they come in; above, MIDDLING
MIDDLING = 128
_MAGIC = b"PHB1"
_HEADER = 12
_PLAIN = 1 << 31
_local = threading.local()


@contextmanager
def storage_errors() -> Iterator[None]:
    """Turn what the file system says into our errors."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise StorageFull(f"no space left: {error}", "Insufficient system storage") from error
        raise Temporary(f"file system: {error}", "Storage is not available") from error


def compress(data: bytes, level: int = 3) -> bytes:
    """One zstd frame; compressors are kept, one a thread and level."""
    made: dict[int, zstandard.ZstdCompressor] | None = getattr(_local, "compressors", None)
    if made is None:
        made = _local.compressors = {}
    compressor = made.get(level)
    if compressor is None:
        compressor = made[level] = zstandard.ZstdCompressor(level=level, write_checksum=True)
    return compressor.compress(data)


def decompress(data: bytes, size: int) -> bytes:
    """Undo `compress`; never makes more than `size` bytes."""
    decompressor = getattr(_local, "decompressor", None)
    if decompressor is None:
        decompressor = _local.decompressor = zstandard.ZstdDecompressor()
    try:
        plain: bytes = decompressor.decompress(data, max_output_size=size)
    except zstandard.ZstdError as error:
        raise Permanent(f"a stored content is damaged: {error}") from error
    return plain


class Keys:
    """The keys of a store. Without a secret there is no encryption and the hash is plain SHA-256."""

    def __init__(self, secret: bytes | None = None) -> None:
        self.database: bytes | None = None
        self._hash: bytes | None = None
        self.cipher: AESGCM | None = None
        if secret is not None:
            self.database = hmac.digest(secret, b"posthouse database", "sha256")
            self._hash = hmac.digest(secret, b"posthouse hash", "sha256")
            self.cipher = AESGCM(hmac.digest(secret, b"posthouse blob", "sha256"))

    def hasher(self) -> "hashlib._Hash | hmac.HMAC":
        """A new hash of contents. Keyed with a secret, so that it gives nothing away."""
        return hashlib.sha256() if self._hash is None else hmac.new(self._hash, digestmod="sha256")


class BlobFiles:
    """The folder of blob files."""

    def __init__(self, folder: Path, keys: Keys, inline_max: int = INLINE_MAX) -> None:
        self.folder = folder
        self.keys = keys
        self.inline_max = inline_max
        # Places for contents above `SMALL` that come in and stay in memory until they are whole: any thread takes one.
        self.places = deque(range(MIDDLING))
        for one in (folder.parent, folder):  # `parents` alone would let others look into the data folder
            one.mkdir(mode=0o700, parents=True, exist_ok=True)

    def path(self, name: str) -> Path:
        """Where the file `name` lies: spread over folders by its last two characters."""
        return self.folder / name[-2:] / name

    def create(self) -> "FileWriter":
        """A new file for a content of unknown length."""
        return FileWriter(self)

    def read(self, name: str, size: int, start: int = 0, end: int | None = None) -> bytes:
        """The bytes of the content from `start` to `end`; only the chunks in that range are read."""
        end = size if end is None else min(end, size)
        if start >= end:
            return b""
        with storage_errors(), open(self.path(name), "rb", buffering=0) as file:
            nonce, lengths = self._index(file.fileno(), name)
            first, last = start // CHUNK, (end - 1) // CHUNK
            if last >= len(lengths):
                raise Permanent(f"blob file {name} is damaged: it is too short")
            at = _HEADER + sum(length & ~_PLAIN for length in lengths[:first])
            pieces = []
            for number in range(first, last + 1):
                stored = lengths[number] & ~_PLAIN
                data = os.pread(file.fileno(), stored, at)
                at += stored
                if self.keys.cipher:
                    try:
                        data = self.keys.cipher.decrypt(_nonce(nonce, number, number == len(lengths) - 1), data, None)
                    except InvalidTag:
                        raise Permanent(f"blob file {name} is damaged or the key is wrong") from None
                if not lengths[number] & _PLAIN:
                    data = decompress(data, CHUNK)
                pieces.append(data)
        content = b"".join(pieces)
        return content[start - first * CHUNK : end - first * CHUNK]

    def _index(self, fd: int, name: str) -> tuple[bytes, tuple[int, ...]]:
        header = os.pread(fd, _HEADER, 0)
        length = os.fstat(fd).st_size
        if header[:4] != _MAGIC or length < _HEADER + 4:
            raise Permanent(f"blob file {name} is damaged: it does not begin as one")
        (count,) = struct.unpack(">I", os.pread(fd, 4, length - 4))
        index = os.pread(fd, 4 * count, length - 4 - 4 * count) if 4 * count <= length else b""
        if len(index) != 4 * count:
            raise Permanent(f"blob file {name} is damaged: its index is cut off")
        return header[5:], struct.unpack(f">{count}I", index)


class FileWriter:
    """Writes one blob file. Every method blocks: call it on a worker thread."""

    def __init__(self, files: BlobFiles) -> None:
        self._cipher = files.keys.cipher
        self.name = os.urandom(16).hex()
        self._path = files.path(self.name)
        self._file = os.urandom(7)
        self._lengths: list[int] = []
        self._held = b""  # the chunk before the last: only the end tells that it is the last
        with storage_errors():
            self._path.parent.mkdir(mode=0o700, exist_ok=True)
            self._fd = os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
            self._all(_MAGIC + b"\x01" + self._file)

    def write(self, chunk: bytes) -> None:
        """Add one chunk: CHUNK bytes, or fewer if it is the last."""
        if self._held:
            self._put(self._held, last=False)
        self._held = chunk

    def finish(self) -> int:
        """Write the index and sync file and folder; return the length of the file."""
        with storage_errors():
            self._put(self._held, last=True)
            self._all(struct.pack(f">{len(self._lengths) + 1}I", *self._lengths, len(self._lengths)))
            os.fsync(self._fd)
            length = os.fstat(self._fd).st_size
            os.close(self._fd)
            self._fd = -1
            folder = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        return length

    def abandon(self) -> None:
        """Remove what was written."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        self._path.unlink(missing_ok=True)

    def _put(self, chunk: bytes, last: bool) -> None:
        data = compress(chunk, 1)
        plain = len(data) > len(chunk) - len(chunk) // 16
        if plain:
            data = chunk
        if self._cipher:
            data = self._cipher.encrypt(_nonce(self._file, len(self._lengths), last), data, None)
        with storage_errors():
            self._all(data)
        self._lengths.append(len(data) | (_PLAIN if plain else 0))

    def _all(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._fd, view) :]


def _nonce(file: bytes, number: int, last: bool) -> bytes:
    return file + (b"\x01" if last else b"\x00") + struct.pack(">I", number)

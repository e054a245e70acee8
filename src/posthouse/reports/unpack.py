"""Unpack a report: gzip, zip, or plain, told apart by the first octets, within limits of size and ratio.

What strangers send may be a bomb: decompression stops at the limit, and only one small archive with few names is
looked into. Pure; what cannot be unpacked raises `Unreadable`.
"""

import io
import zipfile
import zlib
from collections.abc import Iterator

from posthouse.base.errors import Permanent

MAX_PACKED = 10 * 1024 * 1024  # octets
MAX_PLAIN = 32 * 1024 * 1024
MAX_RATIO = 200  # of plain to packed octets; XML of one sort over and over comes to some 60
FREE_RATIO = 1024 * 1024  # octets up to which the ratio does not matter
MAX_NAMES = 20  # in an archive
_PIECE = 256 * 1024

_GZIP, _ZIP = b"\x1f\x8b", b"PK\x03\x04"
_ENTRY = b"PK\x01\x02"
_WANTED = (".xml", ".json", ".gz")


class Unreadable(Permanent):
    """It is no report, or not one that is read here; the text says why."""


def is_packed(data: bytes) -> bool:
    """Whether it begins as a gzip or zip file does."""
    return data.startswith((_GZIP, _ZIP))


def unpack(data: bytes) -> bytes:
    """The report in a file. Raises `Unreadable`."""
    for _ in range(3):  # a zip with a .gz in it exists; nobody needs more
        if data.startswith(_GZIP):
            data = _bounded(_gunzipped(data), len(data))
        elif data.startswith(_ZIP):
            data = _bounded(_unzipped(data), len(data))
        else:
            if len(data) > MAX_PLAIN:
                raise Unreadable(f"the report has more than {MAX_PLAIN >> 20} MiB")
            return data
    raise Unreadable("the report is packed again and again")


def _bounded(pieces: Iterator[bytes], packed: int) -> bytes:
    if packed > MAX_PACKED:
        raise Unreadable(f"the packed report has more than {MAX_PACKED >> 20} MiB")
    kept: list[bytes] = []
    size = 0
    try:
        for piece in pieces:
            size += len(piece)
            if size > MAX_PLAIN:
                raise Unreadable(f"the report unpacks to more than {MAX_PLAIN >> 20} MiB")
            if size > FREE_RATIO and size > packed * MAX_RATIO:
                raise Unreadable(f"the report unpacks to more than {MAX_RATIO} times its size")
            kept.append(piece)
    except (zlib.error, EOFError) as error:
        raise Unreadable(f"the packed report is damaged: {error}") from None
    return b"".join(kept)


def _gunzipped(data: bytes) -> Iterator[bytes]:
    rest = data
    while rest.startswith(_GZIP):  # files may be several, one behind the other
        unpacker = zlib.decompressobj(wbits=31)
        while not unpacker.eof:
            piece = unpacker.decompress(rest, _PIECE)
            rest = unpacker.unconsumed_tail
            yield piece
            if not piece and not rest and not unpacker.eof:
                raise EOFError("it ends too early")
        rest = unpacker.unused_data.lstrip(b"\0")


def _unzipped(data: bytes) -> Iterator[bytes]:
    if data.count(_ENTRY) > MAX_NAMES:
        raise Unreadable(f"the archive holds more than {MAX_NAMES} files")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            files = [one for one in archive.infolist() if not one.is_dir() and not one.filename.startswith("__MACOSX")]
            named = [one for one in files if one.filename.lower().endswith(_WANTED)] or files
            if not named:
                raise Unreadable("the archive is empty")
            if named[0].flag_bits & 1:
                raise Unreadable("the archive is encrypted")
            # Other methods let a file say how much memory its reading takes; no reporter uses them.
            if named[0].compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise Unreadable("the archive is damaged: it is packed by an unusual method")
            with archive.open(named[0]) as file:
                while piece := file.read(_PIECE):
                    yield piece
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError, KeyError, OSError) as error:
        raise Unreadable(f"the archive is damaged: {error}") from None

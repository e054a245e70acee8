"""The process that reads documents for `documents.py`: `python -m …document_reader SECONDS MEMORY`.

    request = kind(8, padded with NULs) length(u32) content
    answer  = length(u32) text in UTF-8

Its limits are the kernel's: a document that needs more of the processor or of memory ends the process, or has no text.
It writes no file. What a library raises means: no text.
"""

import io
import os
import resource
import struct
import sys
import zipfile
from collections.abc import Iterator
from typing import IO

MAX_TEXT = 1024 * 1024  # characters
MAX_XML = 64 * 1024 * 1024  # octets of unpacked XML
MAX_PAGES = 2000


def main() -> None:
    seconds, memory = int(sys.argv[1]), int(sys.argv[2])
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    while len(head := source.read(12)) == 12:
        kind, size = struct.unpack(">8sI", head)
        data = source.read(size)
        spent = resource.getrusage(resource.RUSAGE_SELF)
        resource.setrlimit(resource.RLIMIT_CPU, (int(spent.ru_utime + spent.ru_stime) + seconds + 1, hard))
        try:
            text = _READERS[kind.rstrip(b"\0").decode()](data)
        except Exception:
            text = ""
        answer = text[:MAX_TEXT].encode("utf-8", "replace")
        sink.write(struct.pack(">I", len(answer)) + answer)
        sink.flush()
    os._exit(0)


def _pdf(data: bytes) -> str:
    import pypdf

    reader = pypdf.PdfReader(io.BytesIO(data))
    if reader.is_encrypted and not reader.decrypt(""):
        return ""
    return _joined(page.extract_text() for page in reader.pages[:MAX_PAGES])


def _docx(data: bytes) -> str:
    return _joined(_xml_text(data, ("word/document.xml", "word/footnotes.xml", "word/comments.xml")))


def _odt(data: bytes) -> str:
    return _joined(_xml_text(data, ("content.xml",)))


def _xml_text(data: bytes, names: tuple[str, ...]) -> Iterator[str]:
    """The texts of some members of a ZIP file, paragraph by paragraph."""
    from defusedxml.ElementTree import iterparse

    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for name in names:
            if name not in archive.namelist():
                continue
            with archive.open(name) as member:
                pieces: list[str] = []
                for _, element in iterparse(_Bounded(member), events=("end",)):
                    tag = element.tag.rpartition("}")[2]
                    if tag in ("t", "delText", "instrText"):  # Word: a run of text
                        pieces.append(element.text or "")
                    elif tag in ("p", "h"):
                        # Word: the paragraph of these runs; OpenDocument: a paragraph with its texts inside
                        yield "".join(pieces) or "".join(element.itertext())
                        pieces.clear()
                        element.clear()
                    elif tag in ("tab", "br", "s", "line-break"):
                        pieces.append(" ") if pieces else None
                        element.text = " "


class _Bounded:
    """A member of an archive that does not grow beyond `MAX_XML`."""

    def __init__(self, member: IO[bytes]) -> None:
        self._member = member
        self._left = MAX_XML

    def read(self, size: int = -1) -> bytes:
        data = self._member.read(min(size if size > 0 else 65536, 65536))
        self._left -= len(data)
        if self._left < 0:
            raise ValueError("it unpacks to too much")
        return data


def _plain(data: bytes) -> str:
    if b"\0" in data[:4096] and not data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return ""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16", "replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("cp1252", "replace")


def _joined(pieces: Iterator[str]) -> str:
    out: list[str] = []
    left = MAX_TEXT
    for piece in pieces:
        out.append(piece)
        left -= len(piece) + 1
        if left <= 0:
            break
    return "\n".join(out)


_READERS = {"pdf": _pdf, "docx": _docx, "odt": _odt, "plain": _plain}

if __name__ == "__main__":
    main()

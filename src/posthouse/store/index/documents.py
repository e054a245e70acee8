"""Texts of attached documents: PDF, DOCX, ODT, and plain text that does not say that it is text.

Needs the extra `posthouse[attachments]` (pypdf, defusedxml); without it there are no such texts. A document is read in
a process of its own (`document_reader.py`) that may use `MEMORY` octets and `SECONDS` of a processor, and writes no
file: one that would take more is one without a text, and the process is made anew. Nothing raises.
"""

import contextlib
import importlib.util
import os
import select
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable

from posthouse.base.log import get_logger
from posthouse.mime.scan import Part
from posthouse.mime.text import filename

MAX_FILE = 16 * 1024 * 1024  # octets of a document, decoded
MAX_TEXT = 1024 * 1024  # characters of its text
MEMORY = 512 * 1024 * 1024
SECONDS = 5  # of the processor
WAIT = 15.0  # seconds in all
MANY = 200  # documents one process reads

_TYPES = {
    (b"application", b"pdf"): "pdf",
    (b"application", b"x-pdf"): "pdf",
    (b"application", b"vnd.openxmlformats-officedocument.wordprocessingml.document"): "docx",
    (b"application", b"vnd.oasis.opendocument.text"): "odt",
}
_ENDINGS = {
    **dict.fromkeys(("pdf", "docx", "odt")),
    **dict.fromkeys(("txt", "text", "csv", "log", "md"), "plain"),
}


def available() -> bool:
    """Are the libraries of the extra installed?"""
    return all(importlib.util.find_spec(name) is not None for name in ("pypdf", "defusedxml"))


def version() -> str:
    """What an index depends on: it is made anew when documents come to be read, or are not any more."""
    return "documents 1" if available() else ""


class Documents:
    """Makes texts of attachments: call it with a part and a function that gives its content."""

    def __init__(self, seconds: int = SECONDS, memory: int = MEMORY, wait: float = WAIT) -> None:
        self._limits = (seconds, memory)
        self._wait = wait
        self._process: subprocess.Popen[bytes] | None = None
        self._read = 0
        self._lock = threading.Lock()

    def __call__(self, part: Part, content: Callable[[], bytes]) -> str:
        kind = kind_of(part)
        if kind is None or part.size > MAX_FILE * 3 // 2:
            return ""
        data = content()
        if not data or len(data) > MAX_FILE or not _may_be(kind, data):
            return ""
        with self._lock:
            try:
                return self._ask(kind, data)
            except (OSError, EOFError, ValueError) as error:
                get_logger().info("index.incomplete", document=kind, octets=len(data), error=str(error))
                self._end()
                return ""

    def _ask(self, kind: str, data: bytes) -> str:
        process = self._running()
        assert process.stdin is not None
        assert process.stdout is not None
        until = time.monotonic() + self._wait
        request = memoryview(struct.pack(">8sI", kind.encode(), len(data)) + data)
        while request:
            _wait_for(process.stdin.fileno(), select.POLLOUT, until)
            request = request[os.write(process.stdin.fileno(), request[:65536]) :]
        (size,) = struct.unpack(">I", self._take(process, 4, until))
        if size > 4 * MAX_TEXT:
            raise ValueError("its text is too long")
        self._read += 1
        return self._take(process, size, until).decode("utf-8", "replace")

    def _take(self, process: "subprocess.Popen[bytes]", size: int, until: float) -> bytes:
        assert process.stdout is not None
        data = b""
        while len(data) < size:
            _wait_for(process.stdout.fileno(), select.POLLIN, until)
            piece = os.read(process.stdout.fileno(), size - len(data))
            if not piece:
                raise EOFError("it took too much, or its reader failed")
            data += piece
        return data

    def _running(self) -> "subprocess.Popen[bytes]":
        if self._process is not None and (self._read >= MANY or self._process.poll() is not None):
            self._end()
        if self._process is None:
            program = [sys.executable, "-I", "-m", "posthouse.store.index.document_reader"]
            self._process = subprocess.Popen(
                [*program, *map(str, self._limits)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                bufsize=0,
                env={},
            )
            assert self._process.stdin is not None
            os.set_blocking(self._process.stdin.fileno(), False)
            self._read = 0
        return self._process

    def rest(self) -> None:
        """There is nothing to read for a while."""
        with self._lock:
            self._end()

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with contextlib.suppress(OSError):
                        pipe.close()
            process.wait()


def _wait_for(descriptor: int, event: int, until: float) -> None:
    poll = select.poll()  # select() ends at descriptor 1023
    poll.register(descriptor, event)
    if not poll.poll(max(0.0, until - time.monotonic()) * 1000):
        raise TimeoutError("it took too long")


def _may_be(kind: str, data: bytes) -> bool:
    """Does it begin as a document of its kind? What does not costs the libraries more than what does."""
    if kind == "pdf":
        return b"%PDF-" in data[:1024]  # ISO 32000-1 annex H.3.4.1
    return kind == "plain" or data.startswith(b"PK")


def kind_of(part: Part) -> str | None:
    """What kind of document a part is, if it is one that has a text."""
    known = _TYPES.get((part.type, part.subtype))
    if known is not None or (part.type, part.subtype) != (b"application", b"octet-stream"):
        return known
    ending = (filename(part) or "").rpartition(".")[2].lower()
    return (_ENDINGS[ending] or ending) if ending in _ENDINGS else None

"""One message coming in, whoever brings it: its content on the way to a blob, its digest on the way to a row.

The message is scanned as it arrives, once; ENVELOPE, BODYSTRUCTURE, preview and part offsets are stored,
so that listing a mailbox never parses a message. A small message costs no disk until the commit; a large
one goes to a blob file in chunks (`spills` tells when to call from a worker thread) in bounded memory.
"""

import threading
from typing import Protocol

from posthouse.imap import headings
from posthouse.imap.structure import body_structure, envelope_fields, render_envelope
from posthouse.mime import fields, sections, text
from posthouse.mime.listed import listed
from posthouse.mime.scan import Scan, Scanner, scan
from posthouse.mime.threads import message_id_hash
from posthouse.store.blobs.files import BlobFiles
from posthouse.store.blobs.writer import BlobWriter, Content
from posthouse.store.model import Digest
from posthouse.wire.dots import DotEncoder

MAX_REFERENCES = 20  # of these the nearest decide the thread
MANY_PARTS = 500  # lines that may end a part
HEADER = 8 * 1024  # octets of header that are read at once


def digest(scanned: Scan) -> Digest:
    """What is stored of a message beside its bytes."""
    head = scanned.root.header_bytes
    found = envelope_fields(head)
    message_id = ""
    own = 0
    references: tuple[int, ...] = ()
    if b"message-id" in found:
        ids = fields.message_ids(found[b"message-id"], 1)
        message_id = ids[0] if ids else ""
        own = message_id_hash(message_id) if message_id else 0
    answered: list[int] = []
    if b"references" in found or b"in-reply-to" in found:
        answered = headings.references(found)
        nearest = [message_id_hash(one) for one in fields.message_ids(found.get(b"in-reply-to", b""), MAX_REFERENCES)]
        references = tuple(dict.fromkeys([*nearest, *reversed(answered)]))[:MAX_REFERENCES]
    return Digest(
        render_envelope(found),
        body_structure(scanned),
        sections.pack(scanned),
        text.preview(scanned),
        message_id,
        own,
        references,
        author=found.get(b"from", b"").removesuffix(b"\r"),
        heading=headings.heading(found, own, answered),
        listed=listed(head),
    )


class Through(Protocol):
    """What a content passes before it is stored; it may hold back, and leave out."""

    @property
    def held(self) -> int:
        """Octets at the most that come out beside the next piece."""
        ...

    def feed(self, data: bytes, /) -> bytes: ...

    def finish(self) -> bytes: ...


class Intake:
    """Use it as: write…, then finish() or abandon().

    `abandon` may come from another thread than the one that writes or finishes, at any time: the client has gone. Then
    whoever is at work tidies up when it is done, and what was finished is the caller's and stays.

    `any_line_ends`: lines may end with a bare CR or LF, so what is missing for CRLF is counted. `through`: what is
    written passes this first. Not `inline`: the content goes to a file however small it is.
    """

    def __init__(
        self,
        files: BlobFiles,
        *,
        any_line_ends: bool = False,
        through: Through | None = None,
        inline: bool = True,
    ) -> None:
        self._through = through
        self._lines = DotEncoder(dots=False) if any_line_ends else None
        self._line_octets = 0  # of the message if every line ends with CRLF
        self._last = b""  # octet
        self._at_work = threading.Lock()
        self._dropped = False
        self._finished = False
        self._blob = BlobWriter(files, inline=inline)
        self._pieces: list[bytes] = []
        self._scanner: Scanner | None = None

    @property
    def size(self) -> int:
        """Bytes taken so far."""
        return self._blob.size

    def spills(self, more: int) -> bool:
        """True if taking `more` bytes, or finishing, will touch the disk: use a worker thread then."""
        return self._blob.spills(more + (self._through.held if self._through is not None else 0))

    @property
    def is_long_work(self) -> bool:
        """True if finishing will touch the disk, or may take many ms: use a worker thread then.

        256 KiB with an attachment take 0.5 ms, in ten thousand parts 10 to 40. An octet of a header may take 3 µs (of
        a message inside, too): all angle brackets, 64 KiB would hold everybody up for 200 ms.
        """
        if self.spills(0):
            return True
        if self.size <= HEADER:
            return False
        data = b"".join(self._pieces)
        self._pieces = [data]
        if data.find(b"\n\r\n", 0, HEADER) < 0 and data.find(b"\n\n", 0, HEADER) < 0:
            return True
        lower = data.lower()
        return b"message/" in lower or b"/digest" in lower or data.count(b"\n--") > MANY_PARTS

    def write(self, data: bytes) -> None:
        """Add a piece of the message."""
        with self._at_work:
            if not self._dropped:
                self._write(data)
        self._tidy()

    def _write(self, data: bytes) -> None:
        if self._through is not None:
            data = self._through.feed(data)
        self._keep(data)

    def _keep(self, data: bytes) -> None:
        if self._scanner is not None:
            self._scanner.feed(data)
        elif self._blob.spills(len(data)):
            self._scanner = Scanner()
            self._pieces.append(data)
            for piece in self._pieces:
                self._scanner.feed(piece)
            self._pieces.clear()
        else:
            self._pieces.append(data)
        self._blob.write(data)
        self._last = data[-1:] or self._last
        if self._lines is not None:
            self._line_octets += len(self._lines.encode(data))

    def finish(self) -> tuple[Content, Digest, Scan]:
        """The content, its file synced, and what was learned of it. Raises ConnectionResetError if it was abandoned."""
        with self._at_work:
            if self._dropped:
                raise ConnectionResetError("the client is gone")
            result = self._finish()
            self._finished = True
        return result

    def _finish(self) -> tuple[Content, Digest, Scan]:
        if self._through is not None:
            self._keep(self._through.finish())
        scanned = self._scanner.finish() if self._scanner is not None else scan(b"".join(self._pieces))
        self._pieces.clear()
        learned, size = digest(scanned), self._blob.size
        if self._lines is not None:
            learned = learned._replace(line_ends=self._line_octets + len(self._lines.finish()) - size)
        elif self._last not in (b"", b"\n"):
            learned = learned._replace(line_ends=2)
        return self._blob.finish(), learned, scanned

    def abandon(self) -> None:
        """Forget it; a file that was begun is removed, now or when whoever is at work is done."""
        self._dropped = True
        self._tidy()

    def _tidy(self) -> None:
        if self._dropped and not self._finished and self._at_work.acquire(blocking=False):
            try:
                self._pieces.clear()
                self._blob.abandon()
            finally:
                self._at_work.release()

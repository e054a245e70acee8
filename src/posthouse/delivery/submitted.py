"""The content of a message that is submitted: put right while it comes in, and made ready to be signed.

RFC 6409 section 8 leaves to the server that takes a message first what no later one may do: Date and Message-ID are
added where they are missing, Bcc is removed. Nothing else is touched, and a header with lines that are no field is left
for others to judge. The body is hashed as it passes, so a signature costs no second look at the content.

Added fields are a part of the content and not of what goes before it: ENVELOPE, threads and searches are made of it.
"""

import re
from typing import NamedTuple

from posthouse.mime.removal import Removal
from posthouse.mime.scan import Scan
from posthouse.mime.trace import date_time
from posthouse.senderauth.dkim import MAX_HEADER
from posthouse.senderauth.dkim_canon import BodyHash
from posthouse.senderauth.signing import BODY, NOTHING, Signed, Signing, author_domain
from posthouse.store.blobs.files import BlobFiles
from posthouse.store.blobs.writer import Content
from posthouse.store.intake import Intake
from posthouse.store.model import Digest

# RFC 5322 section 3.6.3: the sending program may leave it to the server to remove it.
REMOVED = (b"bcc", b"resent-bcc")
_ONE = (b"from", b"date", b"message-id")  # what is looked at
MOST_START = 1000  # octets in which it must be clear whether there is a header at all
MOST_FROM = 3  # fields that are kept

_may_be_header = re.compile(rb"(?:\xef\xbb\xbf)?[!-9;-~\x80-\xff]++[ \t]*+:|\r?\n|[ \t]|>?From ").match
_undecided = re.compile(rb"(?:\xef\xbb\xbf)?[!-9;-~\x80-\xff]*+[ \t]*+\Z|\r\Z").match


class Stamp(NamedTuple):
    """What a message is given that has none of its own."""

    message_id: str  # without brackets
    at: int  # microseconds

    def fields(self, missing: frozenset[bytes] | set[bytes]) -> bytes:
        date = b"" if b"date" not in missing else f"Date: {date_time(self.at)}\r\n".encode()
        return date + (b"" if b"message-id" not in missing else f"Message-ID: <{self.message_id}>\r\n".encode())


class Submitted(Intake):
    """An intake that puts right what it takes. Without `signing` nothing is hashed, and nobody signs."""

    def __init__(
        self, files: BlobFiles, stamp: Stamp, signing: Signing | None = None, *, any_line_ends: bool = False
    ) -> None:
        super().__init__(files, any_line_ends=any_line_ends)
        self.header = b""  # as it is kept, once all is here
        self.domain = ""  # who signs
        self.added: tuple[str, ...] = ()
        self._stamp = stamp
        self._signing = signing
        self._start: bytes | None = b""  # what came, until it is clear that it begins with a header; then None
        self._removal = Removal(self._is_unwanted, missing=self._missing)
        self._seen: set[bytes] = set()
        self._from: list[bytes] = []
        self._went = 0  # octets
        self._body: BodyHash | None = None
        self._body_began = False

    @property
    def removed(self) -> int:
        """How many fields were removed."""
        return self._removal.removed

    def _write(self, data: bytes) -> None:
        if self._start is None:
            self._pass(self._removal.feed(data))
            return
        self._start += data
        if not _undecided(self._start) or len(self._start) > MOST_START:
            self._begin()

    def _begin(self) -> None:
        """It is clear now how the message begins."""
        start, self._start = self._start or b"", None
        if not _may_be_header(start) and start:
            # No header at all, a body alone: it gets one, and the line that parts them.
            start = self._missing() + b"\r\n" + start
        self._pass(self._removal.feed(start))

    def _finish(self) -> tuple[Content, Digest, Scan]:
        if self._start is not None:
            self._begin()
        self._pass(self._removal.finish())
        content, digest, scanned = super()._finish()
        self.header = scanned.root.header_bytes
        if self._removal.body != len(self.header) or len(self.header) > MAX_HEADER:
            self._body = None  # programs differ in where the header ends: nobody answers for such a message
        return content, digest, scanned

    def _is_unwanted(self, name: bytes, value: bytes) -> bool:
        name = name.lower()
        if name in _ONE:
            self._seen.add(name)
            if name == b"from" and len(self._from) < MOST_FROM:
                self._from.append(value)
        return name in REMOVED

    def _missing(self) -> bytes:
        """The fields to be added. The header ends here."""
        missing = {b"date", b"message-id"} - self._seen
        self._seen |= missing
        self.added = (*self.added, *sorted(name.decode("ascii") for name in missing))
        return self._stamp.fields(missing)

    def _pass(self, data: bytes) -> None:
        if not data:
            return
        if self._body_began:
            if self._body is not None:
                self._body.feed(data)
        elif (start := self._removal.body) is not None:
            self._body_began = True
            self.domain = author_domain(self._from)
            if self._signing is not None and self._signing.may_sign(self.domain):
                self._body = BodyHash(BODY)
                self._body.feed(data[start - self._went :])
        self._went += len(data)
        super()._write(data)

    async def sign(self, prefix: bytes) -> Signed:
        """Sign it, once it is finished; `prefix` are the fields that go on top."""
        if self._signing is None or not self.domain:
            return NOTHING
        if self._body is None:
            why = (await self._signing.hand(self.domain)).why
            return Signed(facts={"unsigned": why}) if why else NOTHING
        return await self._signing.sign(self.domain, prefix + self.header, self._body)

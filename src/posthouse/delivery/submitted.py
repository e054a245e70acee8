"""The content of a message that is submitted: put right while it comes in, and made ready to be signed.

RFC 6409 section 8 leaves to the server that takes a message first what no later one may do: Date and Message-ID are
added where they are missing or hold nothing, Bcc is removed. Nothing else is touched, and a header with lines that are
no field is left for others to judge. The body is hashed as it passes, so a signature costs no second look at the
content.

Added fields are a part of the content and not of what goes before it: ENVELOPE, threads and searches are made of it.
"""

import re
from collections.abc import Callable
from typing import NamedTuple

from posthouse.mime.removal import Removal
from posthouse.mime.trace import date_time
from posthouse.senderauth.dkim_canon import BodyHash
from posthouse.senderauth.signing import BODY, NOTHING, Signed, Signing, author_domain

# RFC 5322 section 3.6.3: the sending program may leave it to the server to remove it.
REMOVED = (b"bcc", b"resent-bcc")
_ONE = (b"from", b"date", b"message-id")  # what is looked at
_EMPTY = {b"date": (b"",), b"message-id": (b"", b"<>")}  # what is as good as none
MOST_START = 1000  # octets in which it must be clear whether there is a header at all
MOST_FROM = 3  # fields that are kept
MOST_ADDED = 400  # octets, with a host name as long as may be

_may_be_header = re.compile(rb"(?:\xef\xbb\xbf)?[!-9;-~\x80-\xff]++[ \t]*+:|\r?\n|[ \t]|>?From ").match
_undecided = re.compile(rb"(?:\xef\xbb\xbf)?[!-9;-~\x80-\xff]*+[ \t]*+\Z|\r\Z").match


class Stamp(NamedTuple):
    """What a message is given that has none of its own."""

    message_id: str  # without brackets
    at: int  # microseconds

    def fields(self, missing: frozenset[bytes] | set[bytes]) -> bytes:
        date = b"" if b"date" not in missing else f"Date: {date_time(self.at)}\r\n".encode()
        return date + (b"" if b"message-id" not in missing else f"Message-ID: <{self.message_id}>\r\n".encode())


class Hashed:
    """The hash of a body that passes a removal, in the form `BODY`; `body` is None where none is wanted."""

    def __init__(self, removal: Removal) -> None:
        self.body: BodyHash | None = None
        self._removal = removal
        self._went = 0  # octets
        self._began = False

    def feed(self, data: bytes, is_wanted: Callable[[], bool]) -> bytes:
        """The next piece of the message, and what goes on. `is_wanted` is asked once the header has ended."""
        return self._passed(self._removal.feed(data), is_wanted)

    def finish(self, is_wanted: Callable[[], bool]) -> bytes:
        """No piece follows."""
        return self._passed(self._removal.finish(), is_wanted)

    def _passed(self, data: bytes, is_wanted: Callable[[], bool]) -> bytes:
        if self._began:
            if self.body is not None:
                self.body.feed(data)
        elif (start := self._removal.body) is not None:
            self._began = True
            if is_wanted():
                self.body = BodyHash(BODY)
                self.body.feed(data[start - self._went :])
        self._went += len(data)
        return data


class Forwardable:
    """What a stranger's message passes that aliases of ours lead elsewhere: it is hashed, to be sealed (ARC)."""

    def __init__(self) -> None:
        self.held = 0  # octets that may still come out at once
        self._hashed = Hashed(Removal(lambda _name, _value: False))

    @property
    def body(self) -> BodyHash | None:
        """The hash of its body, once it is there."""
        return self._hashed.body

    def feed(self, data: bytes) -> bytes:
        """The next piece, and what is to be stored now."""
        passed = self._hashed.feed(data, lambda: True)
        self.held = 0 if passed is data else max(0, self.held + len(data) - len(passed))
        return passed

    def finish(self) -> bytes:
        """What is left to be stored."""
        return self._hashed.finish(lambda: True)


class Submitted:
    """What such a content passes before it is stored (`store.intake.Through`). Without `signing` nothing is hashed, and
    nobody signs."""

    def __init__(self, stamp: Stamp, signing: Signing | None = None) -> None:
        self.held = 0  # octets that may still come out at once
        self.domain = ""  # who signs
        self.added: tuple[str, ...] = ()
        # What is left begins with a line that is no field: it would be a body for us, and a header for some programs.
        self.odd = False
        self._first: bytes | None = b""  # what is left, until that is clear; then None
        self._stamp = stamp
        self._signing = signing
        self._start: bytes | None = b""  # what came, until it is clear that it begins with a header; then None
        self._removal = Removal(self._is_unwanted, missing=self._missing)
        self._seen: set[bytes] = set()
        self._from: list[bytes] = []
        self._empty = 0  # fields that went because they hold nothing: ours take their place
        self._hashed = Hashed(self._removal)

    @property
    def removed(self) -> int:
        """How many fields were removed, and not replaced."""
        return self._removal.removed - self._empty

    def feed(self, data: bytes) -> bytes:
        """The next piece, and what is to be stored now."""
        if self._start is None:
            passed = self._hashed.feed(data, self._is_signed)
        else:
            self._start += data
            undecided = _undecided(self._start) and len(self._start) <= MOST_START
            passed = b"" if undecided else self._begin()
        self._look(passed)
        self.held = 0 if passed is data else max(0, self.held + len(data) - len(passed)) + MOST_ADDED
        return passed

    def finish(self) -> bytes:
        """What is left to be stored."""
        passed = self._begin() if self._start is not None else b""
        passed += self._hashed.finish(self._is_signed)
        self._look(passed, final=True)
        return passed

    def _look(self, passed: bytes, *, final: bool = False) -> None:
        if self._first is not None:
            self._first += passed[:MOST_START]
            if final or len(self._first) > MOST_START or not _undecided(self._first):
                self.odd = bool(self._first) and not _may_be_header(self._first)
                self._first = None

    def _begin(self) -> bytes:
        """It is clear now how the message begins."""
        start, self._start = self._start or b"", None
        if start and not _may_be_header(start):
            # No header at all, a body alone: it gets one, and the line that parts them.
            start = self._missing() + b"\r\n" + start
        return self._hashed.feed(start, self._is_signed)

    def _is_unwanted(self, name: bytes, value: bytes) -> bool:
        name = name.lower()
        if name in _ONE:
            if value.strip(b" \t\r\n") in _EMPTY.get(name, ()):
                self._empty += 1
                return True
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

    def _is_signed(self) -> bool:
        """Whether the body is to be hashed. The header ends here."""
        self.domain = author_domain(self._from)
        return self._signing is not None and self._signing.may_sign(self.domain)

    async def sign(self, header: bytes, prefix: bytes) -> Signed:
        """Sign it, once it is stored; `header` is what was stored, `prefix` are the fields that go on top of that."""
        if self._signing is None or not self.domain:
            return NOTHING
        if self._hashed.body is None:
            why = (await self._signing.hand(self.domain)).why
            return Signed(facts={"unsigned": why}) if why else NOTHING
        if self._removal.body != len(header):
            # Programs differ in where such a header ends: nobody answers for it.
            return Signed(facts={"unsigned": "the header has a line that is no field"})
        return await self._signing.sign(self.domain, prefix + header, self._hashed.body)

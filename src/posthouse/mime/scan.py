"""Where every part of a message starts and ends, as byte offsets, in one pass over the bytes.

Nothing is copied but the headers, nothing is decoded, nothing is refused: what makes no sense is body.
The scanner takes the message in chunks of any size and holds no more than one header, one line and the
headers of the parts it has seen; all of these are limited, and beyond a limit the rest is body.
The result never depends on how the message was cut into chunks.

A header ends at its empty line, at a line that cannot be a header field (that line is body: nothing a
person wrote may vanish), or at the delimiter of an open multipart. A part ends before the line end that
precedes the delimiter (RFC 2046 section 5.1.1). Line ends are CRLF or LF, mixed as they come; CR alone ends lines
in a message that begins without any LF. Base64-encoded message/rfc822 (forbidden by RFC 2046 section 5.2.1) is
left opaque.
"""

import re
from dataclasses import dataclass, field
from typing import NamedTuple

from posthouse.mime import bodies
from posthouse.mime.fields import Parameters, content_type, parameter, token
from posthouse.mime.header import lines

# RFC 5322 section 2.2: a field name is printable ASCII without colon; obsolete syntax has blanks before
# the colon. 8-bit bytes are no name either, but real messages have them, and in a body a line is
# far less likely to look so than to be a field of a careless program.
_FIELD = rb"[!-9;-~\x80-\xff]++[ \t]*+:"
_starts_field = re.compile(_FIELD).match
_starts_message = re.compile(rb">?From [^\n]*+(?:\n|\Z)|" + _FIELD).match  # with an mbox separator on top
# An mbox separator in the middle: programs that write mailboxes add fields above it. Its time tells it from text.
_SEPARATOR = rb">?From [^ \n]++ ++[A-Z][a-z][a-z] [A-Z][a-z][a-z] [ 0-9][0-9] [0-9][0-9]:[0-9][0-9]"
_find_header_end = re.compile(rb"\n(?!" + _FIELD + rb"|[ \t]|" + _SEPARATOR + rb")").search
_empty_line = re.compile(rb"\r{0,2}+\n").match
_content_fields = re.compile(rb"(?i)\ncontent-([a-z0-9-]++)[ \t]*+:((?:[^\n]*+\n[ \t])*+[^\n]*+)").findall

# What a line may measure to be taken for a delimiter. RFC 2046 allows 70 characters and trailing blanks.
_LINE = 2048
_BOUNDARY = 1000

_COUNTED = frozenset((b"text", b"message", b"multipart"))
_DEFAULT = (b"text", b"plain")
_DEFAULT_IN_DIGEST = (b"message", b"rfc822")  # RFC 2046 section 5.1.5


@dataclass(frozen=True, slots=True)
class Limits:
    """Beyond each of these, what follows is body."""

    header: int = 256 * 1024  # one header block
    headers: int = 8 * 1024 * 1024  # all of them together: this is what a scan keeps in memory
    parts: int = 10_000
    depth: int = 100
    head_text: int = 4096  # how much of the first text part is kept for a preview
    head_html: int = 32 * 1024  # the same if it is HTML, which often begins with a style sheet


@dataclass(slots=True, eq=False)
class Part:
    """One MIME part, or the message itself, by offsets into the raw message."""

    header: int  # where its header starts
    body: int  # where its body starts
    end: int  # where its body ends
    header_bytes: bytes = b""  # from `header` to `body`, with LF for line ends that are CR alone
    lines: int = 0  # line feeds in its body, if IMAP shows them: in text and messages
    type: bytes = b"text"  # lower case; what the part says of itself, else the default
    subtype: bytes = b"plain"
    encoding: bytes = b""  # lower case Content-Transfer-Encoding, b"" if not given
    content: dict[bytes, bytes] = field(default_factory=dict)  # b"type", b"id"...: raw Content-* values, if given
    parts: list["Part"] = field(default_factory=list)  # of a multipart
    message: "Part | None" = None  # of a message/rfc822 that could be entered

    @property
    def params(self) -> Parameters:
        """Content-Type parameters, names in lower case."""
        value = self.content.get(b"type")
        return () if value is None else content_type(value)[2]

    @property
    def size(self) -> int:
        """Octets in the body."""
        return self.end - self.body

    def param(self, name: bytes) -> bytes:
        """The value of a Content-Type parameter, b"" if there is none. `name` in lower case."""
        return parameter(self.params, name)


class HeadText(NamedTuple):
    """The raw beginning of the first text part: what a preview is made of."""

    subtype: bytes
    charset: bytes
    encoding: bytes
    data: bytes


class Scan(NamedTuple):
    """What a message consists of."""

    root: Part
    size: int
    head_text: HeadText | None = None


class Scanner:
    """Finds the parts of one message that comes in chunks: `feed` each, then `finish`."""

    def __init__(self, limits: Limits = Limits()) -> None:
        self._limits = limits
        self._pending: list[bytes] = []  # chunks not looked at yet
        self._pending_size = 0
        self._rest = b""  # looked at, undecided
        self._base = 0  # offset of rest[0] in the message
        self._at = 0  # offset in rest where to go on
        self._cr_alone: bool | None = None  # CR ends lines; None: no line end was seen yet
        self._in_header = True
        self._in_message = False  # the header is that of a message inside the open part
        self._stack: list[Part] = []  # the open part and what it lies in, root first
        self._own: list[bytes] = []  # their delimiters; b"" for those that have none
        self._delimiters: dict[bytes, int] = {}  # line -> index in the stack; its complement closes
        self._default = _DEFAULT
        self._parts = 0
        self._kept = 0
        self._lines = 0  # line feeds before `counted`
        self._counted = 0
        self._uncounted = False  # nobody asks for the lines of what is being read
        self._messages = 0  # open parts that hold a message
        self._head: Part | None = None  # the text part whose beginning is being kept
        self._head_type = b""
        self._head_size = 0
        self._head_data = bytearray()
        self._heads: dict[bytes, HeadText] = {}  # by subtype

    def feed(self, chunk: bytes | bytearray | memoryview) -> None:
        """Take the next bytes of the message."""
        self._pending.append(bytes(chunk))
        self._pending_size += len(chunk)
        # An undecided header is looked at again only when it has doubled: linear for any chunk size.
        if self._pending_size >= len(self._rest):
            self._advance(self._join(), final=False)

    def finish(self) -> Scan:
        """The message is complete: return what was found."""
        data = self._join()
        self._advance(data, final=True)
        size = self._base + len(self._rest)
        self._close(0, size, self._rest)
        return Scan(self._root, size, self._heads.get(b"plain") or self._heads.get(b"html"))

    def _join(self) -> bytes:
        pending = self._pending
        if self._cr_alone:
            pending[:] = [piece.replace(b"\r", b"\n") for piece in pending]
        if self._rest:
            data = b"".join([self._rest, *pending])
        else:
            data = pending[0] if len(pending) == 1 else b"".join(pending)
        pending.clear()
        self._pending_size = 0
        return data

    def _advance(self, data: bytes, final: bool) -> None:
        """Go as far as `data` allows, and keep what is undecided, with one byte before it."""
        at = self._at
        if self._cr_alone is None:
            limit = self._limits.header
            if data.find(b"\n", 0, limit) >= 0:
                self._cr_alone = False
            elif not final and len(data) < limit:
                self._rest = data
                return
            else:
                self._cr_alone = data.find(b"\r", 0, limit) >= 0
                if self._cr_alone:
                    data = data.replace(b"\r", b"\n")
        while True:
            if self._in_header:
                body = self._read_header(data, at, final)
                if body < 0:
                    break
                at = body
            else:
                at = self._read_body(data, at, final)
                if not self._in_header:
                    break
        keep = max(at - 1, 0)
        self._count(data, self._base + keep)
        if self._head is not None:
            self._take_head(data, self._base + keep)
        self._rest = data[keep:]
        self._base += keep
        self._at = at - keep

    def _read_header(self, data: bytes, at: int, final: bool) -> int:
        """Open the part whose header starts at `at`; return where to look for delimiters, -1 for: wait."""
        stop = at + self._limits.header
        size = len(data)
        full = final or size >= stop + 4  # 4: an empty line can be judged
        if not full and data.find(b"\n", at) < 0:
            return -1
        if self._delimiters and data.startswith(b"--", at) and self._repeats(data, at):
            self._in_header = False
            return at - 1
        starts = _starts_field if self._stack and not self._in_message else _starts_message
        if starts(data, at, stop) is None:
            end = at
        elif (found := _find_header_end(data, at, stop)) is not None:
            end = found.start() + 1
        elif full:
            end = min(size, stop)
            if stop < size:
                end = data.rfind(b"\n", at, stop) + 1 or stop
        else:
            return -1
        if not full and data.find(b"\n", end) < 0:
            return -1
        body = end
        if self._delimiters and (at_delimiter := self._delimiter_within(data, at, end)) >= 0:
            body = at_delimiter
        elif (empty := _empty_line(data, end)) is not None:
            body = empty.end()
        return self._open(data, at, body)

    def _repeats(self, data: bytes, at: int) -> bool:
        """True if the line at `at`, right behind a delimiter, is that delimiter again: no part between them."""
        if self._in_message:
            return False
        eol = data.find(b"\n", at, at - 1 + _LINE)
        if eol < 0 and len(data) >= at - 1 + _LINE:
            return False
        line = data[at : eol if eol >= 0 else len(data)].rstrip()
        return self._delimiters.get(line) == len(self._stack) - 1

    def _delimiter_within(self, data: bytes, at: int, end: int) -> int:
        """Where the first delimiter line in a header starts, -1 if there is none."""
        start = at - 1
        while (start := data.find(b"\n--", start, end)) >= 0:
            eol = data.find(b"\n", start + 1, end)
            line = data[start + 1 : end if eol < 0 else eol]
            if len(line) < _LINE - 1 and line.rstrip() in self._delimiters:
                return start + 1
            start += 3
        return -1

    def _open(self, data: bytes, at: int, body: int) -> int:
        """Add the part with this header; return where to look for delimiters."""
        base = self._base
        block = data[at:body]
        part = Part(base + at, base + body, 0, block)
        params: Parameters = ()
        content = part.content
        if len(block) > 2:
            for name, value in _content_fields(lines(block)):
                content.setdefault(name.lower(), value)
            if b"transfer-encoding" in content:
                part.encoding = token(content[b"transfer-encoding"])
        if b"type" in content:
            part.type, part.subtype, params = content_type(content[b"type"])
        elif self._default is not _DEFAULT:
            part.type, part.subtype = self._default
        self._default = _DEFAULT
        stack = self._stack
        if not stack:
            self._root = part
        elif self._in_message:
            stack[-1].message = part
        else:
            stack[-1].parts.append(part)
        stack.append(part)
        self._parts += 1
        self._kept += len(block)
        self._count(data, base + body)
        part.lines = -self._lines
        own = b""
        self._in_header = self._in_message = False
        self._uncounted = not self._messages and part.type not in _COUNTED
        if part.type == b"text":
            if part.subtype == b"plain" or part.subtype == b"html":
                self._start_head(part, part.subtype)
        elif len(stack) > self._limits.depth:
            pass
        elif part.type == b"multipart":
            boundary = parameter(params, b"boundary").rstrip()
            if 0 < len(boundary) <= _BOUNDARY:
                # Where two lines are alike, the outermost wins: else its later parts would get lost.
                line = b"--" + boundary
                if line not in self._delimiters:
                    own = line
                    self._delimiters[line] = len(stack) - 1
                    self._delimiters.setdefault(line + b"--", ~(len(stack) - 1))
            if not own:  # all there will be of it is text
                self._start_head(part, b"plain")
        elif (
            part.type == b"message"
            and (part.subtype == b"rfc822" or part.subtype == b"global")
            and not bodies.is_encoded(part.encoding)
        ):
            self._in_header = self._in_message = True
            self._messages += 1
        self._own.append(own)
        if self._parts >= self._limits.parts or self._kept >= self._limits.headers:
            self._delimiters.clear()
            self._own = [b""] * len(stack)
            self._in_header = self._in_message = False
        # The line end before a delimiter may be that of the empty line.
        return body if self._in_header else max(body - 1, 0)

    def _read_body(self, data: bytes, at: int, final: bool) -> int:
        """Look for the next delimiter; return where to go on."""
        size = len(data)
        delimiters = self._delimiters
        if not delimiters:
            return size
        while (start := data.find(b"\n--", at)) >= 0:
            eol = data.find(b"\n", start + 1, start + _LINE)
            if eol < 0:
                if size >= start + _LINE:
                    at = start + 3
                    continue
                if not final:
                    return start
                eol = size
            index = delimiters.get(data[start + 1 : eol].rstrip())
            if index is None:
                at = eol
                continue
            end = start - 1 if start and data[start - 1] == 13 else start
            closes = index < 0
            if closes:
                index = ~index
            self._close(index + 1, self._base + end, data)
            if closes:
                self._forget(index)
                at = eol
                if not delimiters:
                    return size
            else:
                self._in_header = True
                if self._stack[index].subtype == b"digest":
                    self._default = _DEFAULT_IN_DIGEST
                return min(eol + 1, size)
        return size if final else max(at, size - 2)

    def _close(self, index: int, end: int, data: bytes) -> None:
        """End all parts from `index` of the stack on."""
        self._count(data, end)
        self._uncounted = False
        stack = self._stack
        while len(stack) > index:
            part = stack.pop()
            # A delimiter right after a header shares its line end with it: what lies around ends there too.
            if end < part.body:
                end = part.body
            part.end = end
            part.lines = part.lines + self._lines if part.type in _COUNTED and not part.parts else 0
            if part.message is not None:
                self._messages -= 1
            if part is self._head:
                self._take_head(data, end)
                self._end_head(part)
            self._forget(len(stack))
            self._own.pop()

    def _forget(self, index: int) -> None:
        """The delimiters of this multipart mean nothing any more."""
        if line := self._own[index]:
            self._own[index] = b""
            del self._delimiters[line]
            if self._delimiters[line + b"--"] == ~index:
                del self._delimiters[line + b"--"]

    def _count(self, data: bytes, to: int) -> None:
        base = self._base
        if to > self._counted:
            if not self._uncounted:
                self._lines += data.count(b"\n", self._counted - base, to - base)
            self._counted = to

    def _start_head(self, part: Part, subtype: bytes) -> None:
        heads = self._heads
        if b"plain" in heads or subtype in heads:
            return
        if (value := part.content.get(b"disposition")) is None or token(value) != b"attachment":
            self._head = part
            self._head_type = subtype
            self._head_size = self._limits.head_text if subtype == b"plain" else self._limits.head_html
            self._head_data.clear()

    def _end_head(self, part: Part) -> None:
        # Text of blanks alone says nothing: let another part speak.
        if self._head_data and not self._head_data.isspace():
            data = bytes(self._head_data)
            self._heads[self._head_type] = HeadText(self._head_type, part.param(b"charset"), part.encoding, data)
        self._head = None

    def _take_head(self, data: bytes, to: int) -> None:
        assert self._head is not None
        start = self._head.body + len(self._head_data)
        stop = min(to, self._head.body + self._head_size)
        if stop > start:
            self._head_data += data[start - self._base : stop - self._base]


def scan(raw: bytes, limits: Limits = Limits()) -> Scan:
    """Find every part of a whole message."""
    scanner = Scanner(limits)
    scanner._pending.append(raw)
    return scanner.finish()

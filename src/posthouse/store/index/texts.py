"""What a message says, folded for comparison: the texts of its header fields, of the whole header, of its body.

One reading for the index and for the scan, so that both find the same. The body is all text parts (HTML reduced to its
words), the headers of parts and of messages inside, and the names of attached files. Texts that must not run into each
other are parted by line feeds, which no folded text holds.

Of a message `MAX_HEADER` octets of header are read and `MAX_TEXTS` octets (or characters, if these are more) of texts,
in pieces, so that memory and the time without a turn for others are bounded. Nothing raises but the reading of bytes.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

from posthouse.mime import bodies, header, words
from posthouse.mime.addresses import addresses
from posthouse.mime.folding import fold
from posthouse.mime.scan import Part, scan
from posthouse.mime.text import filename, html_to_text

MAX_HEADER = 1024 * 1024
MAX_TEXTS = 8 * 1024 * 1024
CHUNK = 256 * 1024  # octets read and decoded at once

ADDRESSES = frozenset((b"from", b"to", b"cc", b"bcc", b"sender", b"reply-to"))
FIELDS = (b"subject", b"from", b"to", b"cc", b"bcc")
# Charsets whose line feeds are not one octet: they cannot be cut at those.
_WIDE = (b"utf-16", b"utf-32", b"utf16", b"utf32", b"ucs-2", b"ucs-4", b"unicode", b"iso-10646")

Extract = Callable[[Part, Callable[[], bytes]], str]


class Source(Protocol):
    """The bytes of a message."""

    size: int

    def read(self, start: int, end: int) -> bytes:
        """The bytes from `start` to `end`."""
        ...


class Fields(NamedTuple):
    """The texts of the fields that have search keys of their own."""

    subject: str
    from_: str
    to: str
    cc: str
    bcc: str


def fields(raw: bytes) -> Fields:
    """The fields of a header."""
    found: dict[bytes, list[bytes]] = {name: [] for name in FIELDS}
    for one in header.split(raw):
        values = found.get(one.name.lower())
        if values is not None:
            values.append(one.value)
    return Fields(*[_field(name, values) for name, values in found.items()])


def field(raw: bytes, name: bytes) -> str | None:
    """The text of all fields of a name (in lower case); None if there is none."""
    values = header.find_all(raw, name)
    return _field(name, values) if values else None


def _field(name: bytes, values: list[bytes]) -> str:
    if not values:
        return ""
    found = [fold(words.decode(value)) for value in values]
    if name in ADDRESSES:
        text = "\n".join(found)
        for value in values:
            for one in addresses(value):
                if one.domain:
                    # as it reads without comments, quotes and blanks
                    bare = fold(f"{one.local.decode('utf-8', 'replace')}@{one.domain.decode('utf-8', 'replace')}")
                    if bare not in text:
                        found.append(bare)
    return "\n".join(found)


def header_text(raw: bytes) -> str:
    """A whole header: a line feed, then name, colon and value of each field."""
    return "".join(
        [f"\n{fold(one.name.decode('latin-1'))}: {fold(words.decode(one.value))}" for one in header.split(raw)]
    )


def body_texts(source: Source, root: Part, offset: int, extract: Extract | None = None) -> Iterator[str]:
    """The texts of the body, piece by piece. `root` has the offsets of the parts (`mime/sections.py`), to which
    `offset` is added; `extract` makes a text of a file that is no text."""
    left = MAX_TEXTS
    window = _Window(source)
    waiting = [root]
    while waiting and left > 0:
        part = waiting.pop()
        end = min(part.body, part.header + MAX_HEADER)
        raw = window.read(part.header + offset, end + offset)
        said = scan(raw).root if part is not root or not part.parts else part
        if part is not root:
            text = header_text(raw)
            if (name := filename(said)) is not None:
                text += "\n" + fold(name)  # it may stand there encoded
            left -= max(len(raw), len(text))
            yield text
        waiting += reversed(part.parts)
        if part.message is not None:
            waiting.append(part.message)
        elif not part.parts:
            said.body, said.end = part.body + offset, part.end + offset
            if said.type in (b"text", b"multipart", b"message"):
                text, cost = _leaf(window, said, left)
                left -= cost
                yield text
            elif extract is not None:
                text = fold(extract(said, lambda said=said: window.whole(said)))  # type: ignore[misc]
                if text:
                    left -= len(text)
                    yield text


def _leaf(window: "_Window", part: Part, left: int) -> tuple[str, int]:
    """A text part, and what it costs of the budget."""
    html = part.subtype == b"html"
    charset = part.param(b"charset")
    pieces: list[str] = []
    spent = 0
    for data in window.decoded(part, min(part.end, part.body + left), charset.lower().startswith(_WIDE)):
        text = words.decode_charset(data, charset)
        text = fold(html_to_text(text) if html else text)
        pieces.append(text)
        spent += max(len(data), len(text))
        if spent >= left:
            break
    return " ".join(pieces), spent


class _Window:
    """Reads a message in pieces; the last one is kept, as small parts lie beside each other."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._at = 0
        self._data = b""

    def read(self, start: int, end: int) -> bytes:
        """The bytes from `start` to `end`."""
        if start >= end:
            return b""
        if start < self._at or end > self._at + len(self._data):
            if end - start > CHUNK:
                return self._source.read(start, end)
            self._at = start
            self._data = self._source.read(start, min(max(end, start + CHUNK), self._source.size))
        return self._data[start - self._at : end - self._at]

    def decoded(self, part: Part, end: int, whole: bool) -> Iterator[bytes]:
        """A body without its transfer encoding, cut behind line ends where there are some; `whole`: not cut."""
        machine = bodies.decoder(part.encoding)
        held = b""
        for at in range(part.body, end, CHUNK):
            data = held + machine.feed(self.read(at, min(at + CHUNK, end)))
            cut = 0 if whole else data.rfind(b"\n") + 1
            if not cut and not whole and len(data) > CHUNK:
                cut = len(data) - 3
                while cut < len(data) and data[cut] & 0xC0 == 0x80:  # a character of UTF-8 stays whole
                    cut += 1
            held = data[cut:]
            if cut:
                yield data[:cut]
        held += machine.finish()
        if held:
            yield held

    def whole(self, part: Part) -> bytes:
        """A body without its transfer encoding."""
        machine = bodies.decoder(part.encoding)
        pieces = [machine.feed(self.read(at, min(at + CHUNK, part.end))) for at in range(part.body, part.end, CHUNK)]
        return b"".join([*pieces, machine.finish()])

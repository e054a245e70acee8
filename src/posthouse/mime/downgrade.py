"""Convert a message for a server that takes less than it holds: no 8-bit octets (RFC 6152), no binary (RFC 3030).

Parts that need it are written anew as quoted-printable or base64; all else stays as it is, octet for octet. What
must not be changed is not: a multipart/signed whose signature would break (RFC 1847 section 2.1), header fields with
8-bit octets (RFC 6532 knows no other form of them), types that allow no encoding. Then, and where the structure is too
large to be certain of, there is an `Obstacle` instead of a message. A DKIM signature over a body that was converted
does not hold any more (RFC 6376 section 5.3).

The message is in memory, and its result beside it; callers bound its size. Time is linear in it.
"""

import binascii
import re
from collections.abc import Iterator
from typing import NamedTuple

from posthouse.mime import bodies, header
from posthouse.mime.scan import Part, scan

# Far below the limits of the scanner, beyond which it takes parts for body.
MAX_PARTS = 2000
MAX_DEPTH = 50
MAX_HEADER = 128 * 1024
MAX_HEADERS = 4 * 1024 * 1024
LONGEST_LINE = 998  # RFC 5322 section 2.1.1

_ENCODING = b"content-transfer-encoding"
_IDENTITY = frozenset((b"", b"7bit", b"8bit", b"binary"))
_ENCODED = frozenset((b"quoted-printable", b"base64"))
_long_line = re.compile(rb"^[^\n]{%d}" % (LONGEST_LINE + 2), re.MULTILINE).search  # the CR counts
_pieces = re.compile(rb".{1,76}", re.DOTALL).findall


class Obstacle(NamedTuple):
    """Why a message cannot be converted."""

    text: str


class _Stuck(Exception):
    """Ends the conversion from wherever it is; the text is that of the obstacle."""


def convert(message: bytes, *, eight_bit: bool = False, utf8_header: bool = True) -> bytes | Obstacle:
    """The message without binary parts and, unless `eight_bit` octets may stay, without those.

    `utf8_header`: UTF-8 in header fields may stay where 8-bit octets may.
    """
    if message.isascii() and _is_lines(message) and b"binary" not in message.lower():
        return message
    root = scan(message).root
    try:
        _check(root)
        return b"".join(_Converter(message, eight_bit, utf8_header).part(root, whole=True))
    except _Stuck as stuck:
        return Obstacle(str(stuck))


def _check(root: Part) -> None:
    """Stop at what the scanner may have seen only a part of."""
    parts = headers = 0
    waiting = [(root, 1)]
    while waiting:
        part, depth = waiting.pop()
        parts += 1
        headers += len(part.header_bytes)
        if parts > MAX_PARTS or depth > MAX_DEPTH or headers > MAX_HEADERS or len(part.header_bytes) > MAX_HEADER:
            raise _Stuck("it has too many parts, or too large a header")
        waiting += [(inner, depth + 1) for inner in part.parts]
        if part.message is not None:
            waiting.append((part.message, depth + 1))


class _Converter:
    def __init__(self, raw: bytes, eight_bit: bool, utf8_header: bool) -> None:
        self._raw = raw
        self._eight_bit = eight_bit
        self._utf8_header = eight_bit and utf8_header

    def part(self, part: Part, *, whole: bool = False) -> Iterator[bytes]:
        """A part with its header. `whole`: it is a message."""
        raw = self._raw
        if not self._utf8_header and not part.header_bytes.isascii():
            raise _Stuck("a header field has 8-bit octets")
        if part.type == b"multipart":
            if part.subtype == b"signed" and self._is_touched(part):
                raise _Stuck("it is signed, and the signature would break")
            if not part.parts:
                if self._is_touched(part):
                    raise _Stuck("a multipart has no parts that could be converted")
                yield raw[part.header : part.end]
            elif part.subtype == b"signed":
                yield raw[part.header : part.end]
            else:
                yield self._composite_header(part, whole)
                yield from self._parts(part)
        elif part.message is not None and not (part.subtype == b"global" and self._is_too_much(part)):
            yield self._composite_header(part, whole)
            yield from self.part(part.message, whole=True)
        else:
            yield from self._leaf(part, whole)

    def _is_touched(self, part: Part) -> bool:
        """Whether anything in it would have to change."""
        if part.parts:
            return (not self._eight_bit and not self._raw[part.body : part.end].isascii()) or any(
                self._is_touched(inner) for inner in part.parts
            )
        if part.message is not None:
            return self._is_touched(part.message)
        return self._wanted(part) != part.encoding if part.encoding in _IDENTITY else self._is_too_much(part)

    def _is_too_much(self, part: Part) -> bool:
        return not self._eight_bit and not self._raw[part.body : part.end].isascii()

    def _parts(self, part: Part) -> Iterator[bytes]:
        """The parts of a multipart and what is between them."""
        raw, at = self._raw, part.body
        delimiter = b"--" + part.param(b"boundary").rstrip()
        for number, inner in enumerate(part.parts):
            between = raw[at : inner.header]
            if not between.isascii() and not self._eight_bit:
                # What stands before the first part is shown by nobody, and has no way to be encoded.
                start = between.rfind(delimiter) if number == 0 else -1
                if start < 0:
                    raise _Stuck("there are 8-bit octets between parts")
                between = b"\r\n" * (start > 0) + between[start:]
                if not between.isascii():
                    raise _Stuck("there are 8-bit octets between parts")
            yield between
            yield from self.part(inner)
            at = inner.end
        rest = raw[at : part.end]
        if not rest.isascii() and not self._eight_bit:
            start = rest.find(delimiter + b"--")  # and nobody shows what stands behind the last one
            if start < 0:
                raise _Stuck("there are 8-bit octets behind the last part")
            rest = rest[:start] + delimiter + b"--\r\n"
            if not rest.isascii():
                raise _Stuck("there are 8-bit octets behind the last part")
        yield rest

    def _composite_header(self, part: Part, whole: bool) -> bytes:
        """RFC 2045 section 6.4: what has parts has no encoding but 7bit, 8bit or binary."""
        if part.encoding not in _IDENTITY:
            raise _Stuck("a multipart or message has an encoding that it must not have")
        if part.encoding in (b"", b"7bit") or (part.encoding == b"8bit" and self._eight_bit):
            return part.header_bytes
        return _rewritten(part.header_bytes, b"8bit" if self._eight_bit else b"7bit", whole=whole)

    def _wanted(self, part: Part) -> bytes:
        """The encoding that a part which has none should have: its own, if it can stay."""
        body = self._raw[part.body : part.end]
        is_text = _is_lines(body) and not _long_line(body)
        ascii_alone = body.isascii()
        if part.encoding == b"binary" or b"\0" in body:
            if is_text and (ascii_alone or self._eight_bit):
                return b"7bit" if ascii_alone else b"8bit"
        elif ascii_alone or self._eight_bit:
            return part.encoding
        return b"quoted-printable" if part.type == b"text" and is_text else b"base64"

    def _leaf(self, part: Part, whole: bool) -> Iterator[bytes]:
        raw = self._raw
        body = raw[part.body : part.end]
        if part.encoding in _ENCODED:
            if not self._is_too_much(part):
                yield raw[part.header : part.end]
                return
            # 8-bit octets have no place in there: what a reader would have made of it is encoded anew.
            decoder = bodies.decoder(part.encoding)
            body = decoder.feed(body) + decoder.finish()
            wanted = b"base64"
        elif part.encoding not in _IDENTITY:
            if self._is_too_much(part):
                raise _Stuck("a part has 8-bit octets and an encoding that nobody knows")
            yield raw[part.header : part.end]
            return
        else:
            wanted = self._wanted(part)
            if wanted == part.encoding:
                yield raw[part.header : part.end]
                return
        if wanted in _ENCODED and part.type == b"message" and not part.subtype.startswith(b"global"):
            # RFC 2046 section 5.2: these must not be encoded. Those of RFC 6532 and RFC 6533 may.
            raise _Stuck(f"a part of type message/{part.subtype.decode('ascii', 'replace')} must not be encoded")
        unnamed = part.type == b"text" and b"type" not in part.content and not body.isascii()
        if wanted == b"quoted-printable":
            encoded = _quoted_printable(body)
            if b"=\r\n--" in encoded:  # a line that was broken here might look like a delimiter
                wanted, encoded = b"base64", _base64(body)
        else:
            encoded = _base64(body) if wanted == b"base64" else body
        yield _rewritten(part.header_bytes, wanted, whole=whole, unnamed=unnamed)
        yield encoded
        if whole and wanted == b"base64":
            yield b"\r\n"


def _rewritten(block: bytes, encoding: bytes, *, whole: bool, unnamed: bool = False) -> bytes:
    """A header that says how the body is encoded. `unnamed`: nobody said which characters its octets are."""
    fields = header.select(block, [_ENCODING], invert=True).rstrip(b"\r\n")
    lines = [fields] if fields else []
    if whole and header.find(block, b"mime-version") is None:
        lines.append(b"MIME-Version: 1.0")
    if unnamed:
        lines.append(b"Content-Type: text/plain; charset=unknown-8bit")  # RFC 1428 section 3
    lines.append(b"Content-Transfer-Encoding: " + encoding)
    return b"\r\n".join(lines) + b"\r\n\r\n"


def _is_lines(text: bytes) -> bool:
    """Whether it has neither NUL nor CR or LF alone. Counting is many times faster than looking for them."""
    return b"\0" not in text and text.count(b"\n") == text.count(b"\r\n") == text.count(b"\r")


def _quoted_printable(body: bytes) -> bytes:
    # It breaks lines by LF alone where the text has no CRLF of its own.
    return binascii.b2a_qp(body, istext=True).replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


def _base64(body: bytes) -> bytes:
    return b"\r\n".join(_pieces(binascii.b2a_base64(body, newline=False)))

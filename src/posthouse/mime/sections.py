"""Sections of a message by IMAP part number (RFC 9051 section 6.4.5.1), and the offsets in packed form.

The packed form is stored with each message, so that BODY[2.1] reads just its bytes. It holds offsets,
kinds and transfer encodings, nothing else; of a message with one part it takes about six bytes.
Offsets are those of the message as scanned: who puts lines on top of it adds their length.
"""

from typing import NamedTuple

from posthouse.mime.scan import Part, Scan

_ENCODINGS = (b"", b"7bit", b"8bit", b"binary", b"base64", b"quoted-printable", b"unknown")
_ENCODING_CODES = {name: code for code, name in enumerate(_ENCODINGS)}
_OTHER = len(_ENCODINGS) - 1
# The last is a message that could not be entered (it is encoded): BODYSTRUCTURE shows an empty text in it.
_LEAF, _MULTIPART, _MESSAGE, _OPAQUE = range(4)


class Section(NamedTuple):
    """A range of the message. `part` says more of it: its encoding, for BINARY."""

    start: int
    end: int
    part: Part


def find_section(scan: Scan, path: tuple[int, ...] = (), what: bytes = b"") -> Section | None:
    """The bytes that a section names, or None if there is no such section.

    `what` is b"" (the part's body; for an empty path the whole message), b"HEADER", b"TEXT" or b"MIME".
    """
    root = scan.root
    if not path:
        if what == b"HEADER":
            return Section(root.header, root.body, root)
        if what == b"TEXT":
            return Section(root.body, root.end, root)
        return Section(root.header, root.end, root) if not what else None
    part = find_part(scan, path)
    if part is None:
        return None
    if not what:
        return Section(part.body, part.end, part)
    if what == b"MIME":
        return Section(part.header, part.body, part)
    message = part.message or _unseen(part)
    if message is None:
        return None
    if what == b"HEADER":
        return Section(message.header, message.body, message)
    return Section(message.body, message.end, message) if what == b"TEXT" else None


def find_part(scan: Scan, path: tuple[int, ...]) -> Part | None:
    """The part with this number. A message that is no multipart has one part, number 1: its body."""
    part = scan.root
    is_message = True  # `part` stands for a message, not yet for a part of one
    for number in path:
        if not is_message and (message := part.message or _unseen(part)) is not None:
            part, is_message = message, True
        if part.parts:
            if not 1 <= number <= len(part.parts):
                return None
            part = part.parts[number - 1]
        elif number != 1 or not is_message:
            return None
        is_message = False
    return part


def _unseen(part: Part) -> Part | None:
    """What stands for the message in a part that could not be entered: an empty one."""
    return Part(part.end, part.end, part.end) if is_opaque(part) else None


def is_opaque(part: Part) -> bool:
    """True if this is a message that the scanner could not enter."""
    return part.message is None and part.type == b"message" and part.subtype in (b"rfc822", b"global")


def pack(scan: Scan) -> bytes:
    """The offsets of all parts, compactly."""
    out = bytearray()
    _pack(scan.root, out, 0)
    return bytes(out)


def unpack(data: bytes) -> Scan:
    """What `pack` kept: a scan without headers, content types and line counts."""
    root, _ = _unpack(data, 0, 0)
    return Scan(root, root.end)


# A part is its kind and encoding in one byte, then three numbers, each relative to the one before:
# header (to where its sibling ended or what it lies in began), body, end; then the number of parts of a
# multipart and the parts, or the message of a message part.


def _pack(part: Part, out: bytearray, origin: int) -> None:
    if part.parts:
        kind = _MULTIPART
    elif part.message is not None:
        kind = _MESSAGE
    else:
        kind = _OPAQUE if is_opaque(part) else _LEAF
    out.append(kind | _ENCODING_CODES.get(part.encoding, _OTHER) << 2)
    _pack_number(out, part.header - origin)
    _pack_number(out, part.body - part.header)
    _pack_number(out, part.end - part.body)
    if kind == _MULTIPART:
        _pack_number(out, len(part.parts))
        origin = part.body
        for child in part.parts:
            _pack(child, out, origin)
            origin = child.end
    elif part.message is not None:
        _pack(part.message, out, part.body)


def _unpack(data: bytes, at: int, origin: int) -> tuple[Part, int]:
    code = data[at]
    header, at = _unpack_number(data, at + 1)
    body, at = _unpack_number(data, at)
    size, at = _unpack_number(data, at)
    header += origin
    body += header
    part = Part(header, body, body + size, encoding=_ENCODINGS[code >> 2])
    kind = code & 3
    if kind == _MULTIPART:
        part.type, part.subtype = b"multipart", b"mixed"
        count, at = _unpack_number(data, at)
        origin = body
        for _ in range(count):
            child, at = _unpack(data, at, origin)
            part.parts.append(child)
            origin = child.end
    elif kind == _MESSAGE:
        part.type, part.subtype = b"message", b"rfc822"
        part.message, at = _unpack(data, at, body)
    elif kind == _OPAQUE:
        part.type, part.subtype = b"message", b"rfc822"
    return part, at


def _pack_number(out: bytearray, number: int) -> None:
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)


def _unpack_number(data: bytes, at: int) -> tuple[int, int]:
    number = data[at]
    at += 1
    if number < 128:
        return number, at
    number &= 127
    shift = 7
    while True:
        byte = data[at]
        at += 1
        number |= (byte & 127) << shift
        if byte < 128:
            return number, at
        shift += 7

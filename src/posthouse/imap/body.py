"""BODY out of BODYSTRUCTURE: the same without extension data (RFC 9051 section 7.5.2); the structure of one part; and
whether a part is attached.

Only BODYSTRUCTURE is stored, and clients ask for it. The input is our own (imap/structure.py), so it is
well formed; the recursion is limited by the depth the scanner allows.
"""

import re
from typing import Any

_token = re.compile(rb'"(?:[^"\\]|\\.)*"|\{(\d+)\}\r\n|[()]|[^ ()]+').match


def body(structure: bytes) -> bytes:
    """The BODY that belongs to a BODYSTRUCTURE."""
    return _body(structure, 0)[0]


def part(structure: bytes, path: tuple[int, ...]) -> bytes | None:
    """The BODYSTRUCTURE of the part with this number (mime/sections.py, find_part); None: there is no such part."""
    is_message = True
    for number in path:
        fields = _fields(structure)
        if not is_message and fields[0].lower() == b'"message"' and fields[1].lower() in (b'"rfc822"', b'"global"'):
            structure, is_message = fields[8], True
            fields = _fields(structure)
        if fields[0].startswith(b"("):
            parts = [field for at, field in enumerate(fields) if all(one[:1] == b"(" for one in fields[: at + 1])]
            if not 1 <= number <= len(parts):
                return None
            structure = parts[number - 1]
        elif number != 1 or not is_message:
            return None
        is_message = False
    return structure


def decoded(structure: bytes, encoding: bytes, size: int) -> bytes:
    """The BODYSTRUCTURE of a part whose transfer encoding is undone (RFC 5524 section 3.2), so that it has `size`
    octets in an identity `encoding`. What has such an encoding already, and a multipart, stays as it is.

    A text has 0 lines then, which says that they were not counted: Dovecot and ImapTest have it like that.
    """
    fields = _fields(structure)
    if fields[0].startswith(b"(") or fields[5].strip(b'"').lower() in _IDENTITY:
        return structure
    fields[5:7] = b'"%b"' % encoding, b"%d" % size
    if fields[0].lower() == b'"text"':
        fields[7] = b"0"
    return b"(%b)" % b" ".join(fields)


_IDENTITY = (b"7bit", b"8bit", b"binary")


def is_attached(structure: bytes) -> bool:
    """Does a part say that it is an attachment, or has it a name and says nothing of how it is to be shown?"""
    lists: list[list[bytes | list[Any]]] = [[]]
    at = 0
    while at < len(structure):
        token, at = _next(structure, at)
        if token == b"(":
            lists.append([])
        elif token != b")":
            lists[-1].append(token)
        else:
            closed = lists.pop()
            if _is_attachment(closed):
                return True
            lists[-1].append(closed)
    return False


def _is_attachment(fields: "list[bytes | list[Any]]") -> bool:
    """Is it the structure of a part, and this one attached? Nothing else has so many fields, and a list third."""
    if len(fields) not in _LEAF or not isinstance(fields[0], bytes):
        return False
    params, disposition = fields[2], fields[-3]
    if isinstance(disposition, list):
        return disposition[:1] == [b'"attachment"']  # rendered in lower case
    names = params[::2] if isinstance(params, list) else ()
    return any(isinstance(name, bytes) and (name == b'"name"' or name.startswith(b'"name*')) for name in names)


_LEAF = (11, 12, 14)  # fields of a part; of a text; of a message


def _fields(text: bytes) -> list[bytes]:
    """What stands side by side in parentheses."""
    found, at = [], 1
    while text[at : at + 1] != b")":
        value, at = _value(text, at)
        found.append(value)
        at += text[at : at + 1] == b" "
    return found


def _body(text: bytes, at: int) -> tuple[bytes, int]:
    """The short form of the body that starts at `at`, and where it ends."""
    if text[at + 1 : at + 2] == b"(":
        parts = []
        at += 1
        while text[at : at + 1] == b"(":
            part, at = _body(text, at)
            parts.append(part)
        subtype, end = _value(text, at + 1)
        return b"(%b %b)" % (b"".join(parts), subtype), _close(text, end)
    fields = []
    at += 1
    for _ in range(7):  # type, subtype, parameters, id, description, encoding, octets
        value, at = _value(text, at)
        fields.append(value)
        at += text[at : at + 1] == b" "
    kind = (fields[0].lower(), fields[1].lower())
    if kind[0] == b'"text"':
        lines, at = _value(text, at)
        fields.append(lines)
    elif kind in ((b'"message"', b'"rfc822"'), (b'"message"', b'"global"')):
        envelope, at = _value(text, at)
        inner, at = _body(text, at + 1)
        lines, at = _value(text, at + 1)
        fields += (envelope, inner, lines)
    return b"(%b)" % b" ".join(fields), _close(text, at)


def _value(text: bytes, at: int) -> tuple[bytes, int]:
    """One string, number, NIL or list."""
    start, depth = at, 0
    while True:
        token, at = _next(text, at)
        depth += (token == b"(") - (token == b")")
        if not depth:
            return text[start:at], at


def _next(text: bytes, at: int) -> tuple[bytes, int]:
    """The token behind a blank, if there is one, and where it ends; of a literal what stands before its octets."""
    found = _token(text, at + (text[at : at + 1] == b" "))
    if found is None:
        raise ValueError("not a BODYSTRUCTURE")
    return found[0], found.end() + int(found[1] or 0)


def _close(text: bytes, at: int) -> int:
    """Behind the parenthesis that ends what we are in."""
    while text[at : at + 1] != b")":
        at += text[at : at + 1] == b" "
        if text[at : at + 1] != b")":
            _, at = _value(text, at)
    return at + 1

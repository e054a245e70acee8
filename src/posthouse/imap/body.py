"""BODY out of BODYSTRUCTURE: the same without extension data (RFC 9051 section 7.5.2); and the structure of one part.

Only BODYSTRUCTURE is stored, and clients ask for it. The input is our own (imap/structure.py), so it is
well formed; the recursion is limited by the depth the scanner allows.
"""

import re

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
        at += text[at : at + 1] == b" "
        found = _token(text, at)
        if found is None:
            raise ValueError("not a BODYSTRUCTURE")
        at = found.end()
        if found[1]:
            at += int(found[1])
        depth += (found[0] == b"(") - (found[0] == b")")
        if not depth:
            return text[start:at], at


def _close(text: bytes, at: int) -> int:
    """Behind the parenthesis that ends what we are in."""
    while text[at : at + 1] != b")":
        at += text[at : at + 1] == b" "
        if text[at : at + 1] != b")":
            _, at = _value(text, at)
    return at + 1

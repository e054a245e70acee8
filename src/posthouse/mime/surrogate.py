"""Messages with UTF-8 in their header fields (RFC 6532), as they go to programs that do not know it: RFC 6858.

Only header fields change, those of parts and of messages inside too: text becomes encoded words, parameters those of
RFC 2231, an address that has no ASCII form one that leads nowhere, with what it was as its name; ids that have none go.
A field that is no UTF-8 is nobody's international mail and stays as it is, and so does everything in ASCII. Signatures
over what changes do not hold any more.

`ranges` finds the headers, `Surrogate` replaces them while the message passes in pieces. Nothing raises; memory is one
header and what it becomes, time is linear.
"""

import re
from collections.abc import Iterator

from posthouse.mime import addresses, compose, fields, header, words
from posthouse.mime.scan import Part

NOWHERE = "invalid@internationalized-address.invalid"  # what is sent there must come back

_PEOPLE = (b"from", b"sender", b"reply-to", b"to", b"cc", b"bcc")
_ADDRESSES = frozenset((*_PEOPLE, *(b"resent-" + one for one in _PEOPLE), b"return-path"))
_IDS = frozenset((b"message-id", b"in-reply-to", b"references", b"resent-message-id", b"content-id"))
_global = re.compile(rb"(?i)message/global(?=[ \t\r\n;]|\Z)")


def ranges(root: Part, above: int = 0) -> list[tuple[int, int]]:
    """Where the headers of a message and of all its parts are; `above` it are so many octets of its header already."""
    found = [(0, above + root.body)]
    waiting = [root]
    while waiting:
        part = waiting.pop()
        inside = part.parts if part.message is None else [part.message]
        found += [(above + one.header, above + one.body) for one in inside if one.body > one.header]
        waiting += inside
    return sorted(found)


class Surrogate:
    """Replaces the headers of one message that comes in pieces: `feed` each, then `finish`."""

    __slots__ = ("_at", "_held", "_ranges")

    def __init__(self, headers: list[tuple[int, int]]) -> None:
        self._ranges = headers[::-1]  # the next one last
        self._held = b""
        self._at = 0  # where what is held begins in the message

    def feed(self, piece: bytes) -> bytes:
        """What goes out for this piece."""
        data = self._held + piece
        out: list[bytes] = []
        done = 0
        while self._ranges:
            start, end = (edge - self._at for edge in self._ranges[-1])
            if end > len(data):
                hold = max(min(start, len(data)), done)
                break
            out += (data[done:start], converted(data[start:end]))
            done = end
            self._ranges.pop()
        else:
            hold = len(data)
        out.append(data[done:hold])
        self._held = data[hold:]
        self._at += hold
        return b"".join(out)

    def finish(self) -> bytes:
        """What is left: a header that the message ends in."""
        held, self._held = self._held, b""
        return converted(held) if self._ranges else held


def converted(head: bytes) -> bytes:
    """A header in ASCII, as far as it is UTF-8."""
    if head.isascii() and _global.search(head) is None:
        return head
    out: list[bytes] = []
    done = 0
    for field in header.split(head):
        whole = head[field.start : field.end]
        if not whole.isascii() and _is_utf8(whole):
            out += (head[done : field.start], _field(field))
            done = field.end
        elif field.name.lower() == b"content-type" and _global.search(whole):
            out += (head[done : field.start], _global.sub(b"message/rfc822", whole, count=1))
            done = field.end
    out.append(head[done:])
    return b"".join(out)


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _field(field: header.Field) -> bytes:
    """A field in ASCII; nothing, if it has no such form."""
    if not field.name.isascii():
        return b""
    name = field.name.decode("ascii")
    low = field.name.lower()
    if low in _ADDRESSES:
        return compose.header_field(name, ", ".join(_people(field.value)))
    if low in _IDS:
        return b""
    if low in (b"content-type", b"content-disposition"):
        return compose.header_field(name, _with_parameters(low, field.value))
    return compose.header_field(name, words.encode(words.decode(field.value)))


def _people(value: bytes) -> Iterator[str]:
    for item in addresses.address_list(value):
        if isinstance(item, addresses.Group):
            members = ", ".join([_person(one) for one in item.members])
            yield f"{words.encode(words.decode(item.name)) or 'group'}: {members};"
        else:
            yield _person(item)


def _person(address: addresses.Address) -> str:
    name = words.decode(address.name)
    local, domain = words.decode(address.local), words.decode(address.domain)
    whole = f"{local}@{domain}" if domain else local
    if whole.isascii() and whole:
        return compose.mailbox(whole, name)
    return compose.mailbox(NOWHERE, f"{name} {whole}".strip())


def _with_parameters(name: bytes, value: bytes) -> str:
    if name == b"content-type":
        kind, subtype, params = fields.content_type(value)
        first = words.decode(kind + b"/" + subtype)
        if first.lower() == "message/global":
            first = "message/rfc822"
    else:
        disposition, params = fields.disposition(value)
        first = words.decode(disposition)
    if not first.isascii():
        first = "application/octet-stream" if name == b"content-type" else "attachment"
    out = [first]
    for key, raw in params:
        if key.isascii():
            if key.endswith(b"*"):  # encoded already
                out.append(f"; {key.decode('ascii')}={raw.decode('ascii', 'replace')}")
            else:
                out.append(compose.parameter(key.decode("ascii"), raw.decode("utf-8", "replace")))
    return "".join(out)

"""A message as a tree of nodes with their decoded contents: what `posthouse mime tree` shows.

The tree is the scanner's, with two things more. A message/rfc822 that is encoded (against RFC 2046 section 5.2.1) is
decoded and scanned, five deep: each time costs a pass over it. A multipart whose delimiters never came is text/plain,
as IMAP shows it. Depth and number of parts are bounded as the scanner bounds them, over all that is in the message.

JSON comes in pieces, so that no more than one body is decoded at a time. It is ASCII; nothing raises, whatever the
bytes. A message that could not be entered is a leaf.
"""

import binascii
import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from posthouse.mime import bodies, header, text, words
from posthouse.mime.scan import Limits, Part, scan
from posthouse.mime.sections import is_opaque

ENCODED = 5  # encoded messages in one another that are looked into
_PIECE = 3 << 14  # octets or characters of a body that are written at a time; a multiple of three, for base64


@dataclass(slots=True)
class Node:
    """A part of the message `source`, which is the whole message or an encoded one inside it."""

    part: Part
    source: bytes
    number: str = ""  # as IMAP counts; "" for what has no number: a message, and what IMAP cannot reach
    parts: list["Node"] = field(default_factory=list)  # of a multipart
    message: "Node | None" = None

    @property
    def type(self) -> str:
        """Type and subtype in lower case."""
        part = self.part
        if part.type == b"multipart" and not part.parts:
            return "text/plain"
        return words.decode_charset(part.type + b"/" + part.subtype, b"").lower()

    @property
    def raw(self) -> bytes:
        """The body as it came."""
        return self.source[self.part.body : self.part.end]

    def decoded(self) -> bytes:
        """The body without its transfer encoding."""
        return bodies.decode(self.raw, self.part.encoding)

    def subject(self) -> str | None:
        """The subject of a message."""
        value = header.find(self.part.header_bytes, b"subject")
        return None if value is None else words.decode(value)


class _Reader:
    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.left = limits.parts

    def message(self, raw: bytes, depth: int, encoded: int, number: str | None) -> Node:
        """The node of a message that is scanned by itself."""
        limits = replace(self.limits, parts=self.left, depth=max(self.limits.depth - depth, 0))
        root = scan(raw, limits).root
        self.left -= _count(root)
        return self.node(root, raw, depth, encoded, number, whole=True)

    def node(
        self, part: Part, source: bytes, depth: int, encoded: int, number: str | None, whole: bool = False
    ) -> Node:
        """The node of a part with this number; of a `whole` message with the number of the part that it lies in.
        Parts of encoded messages have none (None): IMAP cannot fetch them."""
        made = Node(part, source)
        if number is not None and not (whole and part.parts):
            made.number = number = _joined(number, 1) if whole else number
        if part.parts:
            made.parts = [
                self.node(child, source, depth + 1, encoded, None if number is None else _joined(number, n))
                for n, child in enumerate(part.parts, 1)
            ]
        elif part.message is not None:
            made.message = self.node(part.message, source, depth + 1, encoded, number, whole=True)
        elif (
            is_opaque(part)
            and bodies.is_encoded(part.encoding)
            and encoded < ENCODED
            and depth < self.limits.depth
            and self.left > 0
        ):
            made.message = self.message(made.decoded(), depth + 1, encoded + 1, None)
        return made


def _joined(number: str, n: int) -> str:
    return f"{number}.{n}" if number else str(n)


def _count(root: Part) -> int:
    count, waiting = 0, [root]
    while waiting:
        part = waiting.pop()
        count += 1
        waiting += part.parts
        if part.message is not None:
            waiting.append(part.message)
    return count


_LIMITS = Limits()


def read(raw: bytes, limits: Limits = _LIMITS) -> Node:
    """The tree of a message."""
    return _Reader(limits).message(raw, 0, 0, "")


def to_json(node: Node) -> Iterator[str]:
    """The tree as JSON, in pieces:

    {"type": "text/plain", "filename": null, "body": base64 of the decoded body, "text": only of text/*},
    {"type": "multipart/...", "parts": [node, ...]}, {"type": "message/rfc822", "message": node}
    """
    yield '{"type": ' + json.dumps(node.type)
    if node.parts:
        yield ', "parts": ['
        for number, child in enumerate(node.parts):
            if number:
                yield ", "
            yield from to_json(child)
        yield "]}"
    elif node.message is not None:
        yield ', "message": '
        yield from to_json(node.message)
        yield "}"
    else:
        yield from _leaf(node)


def _leaf(node: Node) -> Iterator[str]:
    yield ', "filename": ' + json.dumps(text.filename(node.part)) + ', "body": "'
    body = node.decoded()
    for at in range(0, len(body), _PIECE):
        yield binascii.b2a_base64(body[at : at + _PIECE], newline=False).decode("ascii")
    yield '"'
    if node.type.startswith("text/"):
        yield ', "text": "'
        characters = words.decode_charset(body, node.part.param(b"charset"))
        del body
        for at in range(0, len(characters), _PIECE):
            yield json.dumps(characters[at : at + _PIECE])[1:-1]
        yield '"'
    yield "}"


def to_lines(node: Node, indent: str = "") -> Iterator[str]:
    """The tree for people, a line for each part."""
    part = node.part
    facts: list[str] = []
    if node.parts:
        facts.append(f"{len(node.parts)} part{'s' * (len(node.parts) != 1)}")
    elif node.message is None:
        if node.type.startswith("text/"):
            facts.append(words.decode(part.param(b"charset")) or "no charset")
        if part.encoding:
            facts.append(words.decode(part.encoding))
        size = part.end - part.body
        facts.append(f"{size:,} octet{'s' * (size != 1)}")
        if part.type == b"multipart":
            facts.append("a multipart without parts")
        elif is_opaque(part):
            facts.append("a message that could not be entered")
    elif is_opaque(part):
        facts.append(f"{words.decode(part.encoding)}: IMAP does not look into it")
    if (name := text.filename(part)) is not None:
        facts.append(f'"{name}"')
    yield f"{indent}{node.number + ' ' if node.number else ''}{node.type}  {', '.join(facts)}".rstrip()
    for child in node.parts:
        yield from to_lines(child, indent + "  ")
    if node.message is not None:
        subject = node.message.subject()
        yield f"{indent}  Subject: {subject}" if subject is not None else f"{indent}  (no subject)"
        yield from to_lines(node.message, indent + "  ")

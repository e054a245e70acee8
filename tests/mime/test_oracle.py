"""The corpus against CPython's `email`, where that is right; where it is not is named, with why."""

import email
import email.policy
from email.message import EmailMessage, Message
from pathlib import Path
from typing import NamedTuple

import pytest

from posthouse.imap.structure import envelope
from posthouse.mime import text, tree, words
from posthouse.mime.scan import scan
from tests.imap.grammar import read_envelope

MESSAGES = Path(__file__).parent.parent / "messages"
PATHS = sorted(MESSAGES.glob("*/*.eml"))
SOUND = [path for path in PATHS if path.parent.name != "broken"]

# What we make otherwise of a message than CPython does, and why.
OTHERWISE = {
    "5322-a.6.3": "blanks before the colon of a field end its header",
    "blank-before-colon": "the same",
    "cr-cr-lf": "CR CR LF is two line ends to it",
    "cr-only-in-the-body": "a CR alone ends lines to it, wherever it comes",
    "nul-and-controls": "controls end lines to it",
    "eight-bit-everything": "letters in the name of a field end its header",
    "eight-bit-header": "the same",
    "byte-order-mark": "it takes the mark for text",
    "separator-in-the-middle": "an mbox separator with > before it ends its header",
    "from-in-the-text": "it takes any line that begins with From for an mbox separator",
    "first-line-folded": "it drops a first line that begins with blanks; nothing that a person wrote may vanish",
    "headers-without-end": "it drops a field without a name; the same",
    "rfc822-base64": "it does not undo the encoding of a message",
    "rfc822-encoded": "the same",
    "boundary-empty": "an empty boundary is one to it, and every line of two dashes ends a part",
    "boundary-too-long": "it knows no bound",
    "boundary-prefixes": "it takes the inner of two alike delimiters; the outer one loses its parts then",
    "depth": "it parts a line end from the last of so many that were never closed",
    "content-type-broken": "without the semicolon before its boundary a multipart is none to it",
    "type-without-subtype": "its types may lack a half",
    "external-and-partial": "the same",
    "param-quotes": "its subtypes may have blanks and more in them",
    "transfer-encodings": "it does not undo one in quotes or with comments",
    "quoted-printable": "it keeps blanks at the end of a line, which RFC 2045 section 6.7 wants deleted",
}


class Leaf(NamedTuple):
    """A part without parts. Bodies of messages that are no messages (reports) are not compared."""

    type: str
    body: bytes
    name: str | None


def theirs(part: Message) -> list[Leaf]:
    kind = part.get_content_type()
    if part.is_multipart() and (kind.startswith("multipart/") or kind in ("message/rfc822", "message/global")):
        return [leaf for child in part.get_payload() for leaf in theirs(child)]  # type: ignore[arg-type]
    body = b"" if kind.startswith("message/") else part.get_payload(decode=True)
    assert isinstance(body, bytes)
    name = part.get_filename()
    if name is not None:
        name = words.decode(name.encode("utf-8", "surrogateescape"))
    return [Leaf("text/plain" if kind.startswith("multipart/") else kind, body, name)]


def ours(node: tree.Node) -> list[Leaf]:
    inside = [node.message] if node.message is not None else node.parts
    if inside:
        return [leaf for child in inside for leaf in ours(child)]
    body = b"" if node.type.startswith("message/") else node.decoded()
    return [Leaf(node.type, body, text.filename(node.part))]


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_types_and_bodies(path: Path) -> None:
    raw = path.read_bytes()
    mine, other = ours(tree.read(raw)), theirs(email.message_from_bytes(raw))
    if path.stem not in OTHERWISE:
        assert [leaf[:2] for leaf in mine] == [leaf[:2] for leaf in other]


@pytest.mark.parametrize("path", SOUND, ids=lambda path: path.stem)
def test_file_names(path: Path) -> None:
    raw = path.read_bytes()
    if raw.isascii() and path.stem not in OTHERWISE:
        assert [leaf.name for leaf in ours(tree.read(raw))] == [
            leaf.name for leaf in theirs(email.message_from_bytes(raw))
        ]


@pytest.mark.parametrize("path", SOUND, ids=lambda path: path.stem)
def test_header_fields(path: Path) -> None:
    raw = path.read_bytes()
    parsed = email.message_from_bytes(raw, policy=email.policy.default)
    assert isinstance(parsed, EmailMessage)
    found = read_envelope(envelope(scan(raw).root.header_bytes))
    if not raw.isascii() or path.stem in OTHERWISE:
        return
    if parsed["subject"] is not None:
        assert words.decode(found[1] or b"").split() == str(parsed["subject"]).split()
    for name, index in (("from", 2), ("to", 5), ("cc", 6)):
        if parsed[name] is None or parsed[name].defects:
            continue
        people = [one for one in found[index] or [] if one[3] is not None]
        assert [f"{local.decode()}@{domain.decode()}" for _, _, local, domain in people] == [
            one.addr_spec for one in parsed[name].addresses
        ]

"""FETCH and UID FETCH (RFC 9051 section 6.4.5, RFC 3501 section 6.4.5, RFC 3516): text to a request.

A request keeps the client's order and says what each item needs; `imap.fetch` compiles it.
"""

import dataclasses
import re
from dataclasses import dataclass
from typing import Any

from posthouse.imap.numbers import SequenceSet
from posthouse.imap.tokens import BadSyntax, Cursor

MAX_ITEMS = 100
MAX_FIELDS = 500
MAX_PATH = 100  # numbers in a section: deeper parts do not exist (mime.scan.Limits.depth)

# Items that are one word. BODY without a section is the structure without its extension data.
SIMPLE = frozenset(
    (
        b"UID",
        b"FLAGS",
        b"INTERNALDATE",
        b"RFC822.SIZE",
        b"ENVELOPE",
        b"BODY",
        b"BODYSTRUCTURE",
        b"MODSEQ",  # RFC 7162
        b"SAVEDATE",  # RFC 8514
        b"EMAILID",  # RFC 8474
        b"THREADID",
        b"PREVIEW",  # RFC 8970
    )
)
GMAIL = frozenset((b"X-GM-LABELS", b"X-GM-MSGID", b"X-GM-THRID"))  # if they are offered
MACROS = {
    b"ALL": (b"FLAGS", b"INTERNALDATE", b"RFC822.SIZE", b"ENVELOPE"),
    b"FAST": (b"FLAGS", b"INTERNALDATE", b"RFC822.SIZE"),
    b"FULL": (b"FLAGS", b"INTERNALDATE", b"RFC822.SIZE", b"ENVELOPE", b"BODY"),
}


@dataclass(frozen=True, slots=True)
class Section:
    """BODY[…], BINARY[…], BINARY.SIZE[…] and the RFC822… items of RFC 3501, which are sections too."""

    label: bytes  # how the response names it, partial included: BODY[1.TEXT]<0>
    path: tuple[int, ...] = ()
    part: bytes = b""  # "", HEADER, HEADER.FIELDS, HEADER.FIELDS.NOT, TEXT, MIME
    fields: tuple[bytes, ...] = ()  # lower case
    partial: tuple[int, int] | None = None  # first octet, number of octets
    binary: bool = False  # transfer-decoded
    size_only: bool = False  # BINARY.SIZE
    peek: bool = False


@dataclass(frozen=True, slots=True)
class FetchRequest:
    """What to send of each message."""

    items: tuple[bytes, ...]  # of SIMPLE and GMAIL
    sections: tuple[Section, ...] = ()

    @property
    def sets_seen(self) -> bool:
        """True if fetching it means that the message was seen."""
        return any(not section.peek for section in self.sections)


@dataclass(frozen=True, slots=True)
class Fetch:
    """FETCH"""

    wanted: SequenceSet
    uid: bool
    request: FetchRequest
    changed_since: int = 0  # only messages that changed later (RFC 7162 section 3.1.4)
    vanished: bool = False  # and the UIDs of those that went (section 3.2.6)
    partial: tuple[int, int] | None = None  # first and last place in what is found, from the end if below 0 (RFC 9394)

    @property
    def condstore(self) -> bool:
        """Does it say that the client knows mod-sequences?"""
        return self.changed_since > 0 or b"MODSEQ" in self.request.items

    @property
    def qresync(self) -> bool:
        """Does it need QRESYNC?"""
        return self.vanished


def fetch(cursor: Cursor) -> Fetch:
    return _fetch(cursor, False)


def uid_fetch(cursor: Cursor) -> Fetch:
    return _fetch(cursor, True)


def _fetch(cursor: Cursor, uid: bool) -> Fetch:
    """fetch = "FETCH" SP sequence-set SP ("ALL" / "FULL" / "FAST" / fetch-att / "(" fetch-att *(SP fetch-att) ")")
    [SP "(" fetch-modifier *(SP fetch-modifier) ")"]"""
    cursor.space()
    wanted = cursor.sequence_set()
    cursor.space()
    if cursor.peek() == b"(":
        found = cursor.items(lambda: _fetch_att(cursor), MAX_ITEMS)
    else:
        macro = _macro(cursor.text, cursor.at)
        if macro is not None:
            cursor.at = macro.end()
            found = list(MACROS[macro[0].upper()])
        else:
            found = [_fetch_att(cursor)]
    modifiers: dict[bytes, Any] = {}
    if cursor.skip_space():
        modifiers = dict(cursor.items(lambda: _modifier(cursor), 3))
    cursor.end()
    if uid:
        found.insert(0, b"UID")  # RFC 9051 section 6.4.9: always told
    if b"CHANGEDSINCE" in modifiers:
        found.append(b"MODSEQ")
    if b"VANISHED" in modifiers and not (uid and b"CHANGEDSINCE" in modifiers):
        raise BadSyntax("VANISHED belongs to UID FETCH and CHANGEDSINCE")
    return Fetch(
        wanted,
        uid,
        _request(found),
        modifiers.get(b"CHANGEDSINCE", 0),
        b"VANISHED" in modifiers,
        modifiers.get(b"PARTIAL"),
    )


def _request(found: list[bytes | Section]) -> FetchRequest:
    items = dict.fromkeys(item for item in found if isinstance(item, bytes))
    sections = dict.fromkeys(item for item in found if isinstance(item, Section))
    return FetchRequest(tuple(items), tuple(sections))


def fetch_atts(cursor: Cursor) -> FetchRequest:
    """ "(" fetch-att *(SP fetch-att) ")", which is told of messages without setting \\Seen (RFC 5465)"""
    return _request(cursor.items(lambda: _fetch_att(cursor), MAX_ITEMS))


def _modifier(cursor: Cursor) -> tuple[bytes, Any]:
    """fetch-modifier =/ "CHANGEDSINCE" SP mod-sequence-value / "VANISHED" / "PARTIAL" SP partial-range"""
    name = cursor.word()
    if name == b"VANISHED":
        return name, True
    cursor.space()
    if name == b"CHANGEDSINCE":
        return name, cursor.number()
    if name == b"PARTIAL":
        return name, partial_range(cursor)
    raise BadSyntax("a modifier of FETCH that we do not know")


_range = re.compile(rb"(-?)([1-9][0-9]{0,9}):(-?)([1-9][0-9]{0,9})").match


def partial_range(cursor: Cursor) -> tuple[int, int]:
    """partial-range = nz-number ":" nz-number / "-" nz-number ":" "-" nz-number, both with one sign (RFC 9394)"""
    found = cursor.take(_range, "a range")
    if found[1] != found[3]:
        raise BadSyntax("a range from both ends")
    one, other = sorted((int(found[2]), int(found[4])))
    return (-one, -other) if found[1] else (one, other)


_macro = re.compile(rb"(?i)(?:ALL|FAST|FULL)(?= |\Z)").match
_name = re.compile(rb"(?i:X-GM-[A-Z]+)|[A-Za-z0-9.]+").match
# section = "[" [section-spec] "]"; section-spec = section-msgtext / (section-part ["." section-text])
_section = re.compile(rb"(?i)\[((?:[0-9]{1,9}\.)*[0-9]{1,9})?\.?(HEADER(?:\.FIELDS(?:\.NOT)?)?|TEXT|MIME)?").match
_partial = re.compile(rb"<([0-9]{1,19})\.([0-9]{1,19})>").match
_RFC822 = {b"RFC822": (b"", False), b"RFC822.HEADER": (b"HEADER", True), b"RFC822.TEXT": (b"TEXT", False)}


def _fetch_att(cursor: Cursor) -> bytes | Section:
    """fetch-att"""
    name = cursor.take(_name, "an item of FETCH")[0].upper()
    if name in _RFC822:
        part, peek = _RFC822[name]
        return Section(name, part=part, peek=peek)
    if cursor.peek() != b"[":
        if name not in SIMPLE and not (cursor.gmail and name in GMAIL):
            raise BadSyntax("an item of FETCH that we do not know")
        if name == b"PREVIEW":
            cursor.skip(b" (LAZY)")  # ours is made when the message comes in: there is nothing to wait for
        return name
    peek = name.endswith(b".PEEK")
    base = name.removesuffix(b".PEEK")
    if base == b"BODY":
        return _body_section(cursor, peek)
    if base == b"BINARY" or name == b"BINARY.SIZE":
        return _binary_section(cursor, name)
    raise BadSyntax("an item of FETCH that we do not know")


def _path(text: bytes | None) -> tuple[int, ...]:
    path = tuple(int(number) for number in (text or b"").split(b".") if number)
    if len(path) > MAX_PATH or 0 in path:
        raise BadSyntax("a section that cannot exist")
    return path


def _body_section(cursor: Cursor, peek: bool) -> Section:
    found = cursor.take(_section, "a section")
    text, part = found[1], (found[2] or b"").upper()
    if text and part and b"%b.%b" % (text, found[2]) != found[0][1:]:
        raise BadSyntax("a section that is not well formed")
    if (not text and part and found[0][1:2] == b".") or (not part and found[0].endswith(b".")):
        raise BadSyntax("a section that is not well formed")
    if part == b"MIME" and not text:
        raise BadSyntax("MIME belongs to a part")
    path = _path(text)
    fields: tuple[bytes, ...] = ()
    shown = b"BODY[%b%b%b" % (text or b"", b"." if text and part else b"", part)
    if part.startswith(b"HEADER.FIELDS"):
        cursor.space()
        names = cursor.items(cursor.astring, MAX_FIELDS)
        fields = tuple(dict.fromkeys(name.lower() for name in names))
        shown += b" (%b)" % b" ".join(_field_name(name) for name in names)
    cursor.expect(b"]")
    partial = _take_partial(cursor)
    label = shown + b"]" + (b"" if partial is None else b"<%d>" % partial[0])
    return Section(label, path, part, fields, partial, peek=peek)


def section_of(text: bytes, partial: tuple[int, int] | None) -> Section:
    """The section that a text names which would stand in BODY[…]; raises `BadSyntax`."""
    cursor = Cursor(b"[%b]" % text, [])
    section = _body_section(cursor, True)
    cursor.end()
    return dataclasses.replace(section, partial=partial)


# header-fld-name = astring; what is no atom goes back as it must: quoted.
_plain = re.compile(rb"[^(){ %*\"\\\]\x00-\x1f\x7f-\xff]+").fullmatch


def _field_name(name: bytes) -> bytes:
    if _plain(name):
        return name
    if b"\r" in name or b"\n" in name or len(name) > 1000:
        raise BadSyntax("a field name that cannot exist")
    return b'"%b"' % name.replace(b"\\", b"\\\\").replace(b'"', b'\\"')


def _binary_section(cursor: Cursor, name: bytes) -> Section:
    """ "BINARY" [".PEEK"] section-binary [partial] / "BINARY.SIZE" section-binary"""
    found = cursor.take(_section, "a section")
    if found[2] or found[0].endswith(b"."):
        raise BadSyntax("BINARY takes the number of a part")
    path = _path(found[1])
    cursor.expect(b"]")
    size_only = name == b"BINARY.SIZE"
    partial = None if size_only else _take_partial(cursor)
    shown = b"%b[%b]" % (b"BINARY.SIZE" if size_only else b"BINARY", found[1] or b"")
    label = shown + (b"" if partial is None else b"<%d>" % partial[0])
    peek = size_only or name.endswith(b".PEEK")
    return Section(label, path, partial=partial, binary=True, size_only=size_only, peek=peek)


def _take_partial(cursor: Cursor) -> tuple[int, int] | None:
    """partial = "<" number64 "." nz-number64 ">" """
    if cursor.peek() != b"<":
        return None
    found = cursor.take(_partial, "a partial")
    first, count = int(found[1]), int(found[2])
    if count == 0 or first >= 1 << 63 or count >= 1 << 63:
        raise BadSyntax("a partial that is out of range")
    return first, count

"""Address lists of header fields: From, To, Cc (RFC 5322 section 3.4 with its obsolete syntax, and worse).

Reads bytes as they came and gives bytes: `words.decode` makes a display name readable. Whatever is
written, something sensible comes out and nothing raises. Writing addresses is in `compose`.
Addresses of the SMTP envelope are another matter: `wire.address`.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple


class Address(NamedTuple):
    """One address: its display name is raw (not decoded), its local part without quotes."""

    name: bytes
    local: bytes
    domain: bytes
    route: bytes = b""  # obs-route, "@one,@other": through which hosts (RFC 5322 section 4.4)


class Group(NamedTuple):
    """A named list, often empty: "undisclosed-recipients:;"."""

    name: bytes
    members: list[Address]


# One address in the form that nearly all have, and the comma after it or the end:
#   Name <local@domain> / "Name" <local@domain> / <local@domain> / local@domain
_ATOMS = rb"[!#-'*+\-./0-9=?A-Z^_`a-z{|}~]++"
_DOMAIN = rb"[A-Za-z0-9._-]++"
_common = re.compile(
    rb'[ \t\r\n]*+(?:(?:"([^"\\\x00-\x1f\x7f-\xff]*+)"|([^"(),:;<>@\[\]\\\x00-\x1f\x7f-\xff]*+))[ \t]*+'
    rb"<(" + _ATOMS + rb")@(" + _DOMAIN + rb")>|(" + _ATOMS + rb")@(" + _DOMAIN + rb"))[ \t\r\n]*+(?:,|\Z)"
).match

_tokens = re.compile(
    rb"([ \t\r\n]++)"
    rb'|"((?:[^"\\]++|\\.)*+)("?)'
    rb"|(\[[^\[\]<>\"(),;]*+\]?)"
    rb'|([^ \t\r\n"()<>@,;:\[]++)'
    rb"|([<>@,;:])"
    rb"|([()])",
    re.S,
)
_quoted_pair = re.compile(rb"\\(.)", re.S)
_line_end = re.compile(rb"\r*+\n")
_comment_marks = re.compile(rb"\\.|[()]", re.S)


def address_list(value: bytes, limit: int = 10_000) -> list[Address | Group]:
    """What an address field holds, in order, groups as groups; of many only the first `limit`."""
    found: list[Address | Group] = []
    at, size = 0, len(value)
    while at < size and len(found) < limit:
        match = _common(value, at)
        if match is None:
            found.extend(_Parser(limit - len(found)).read(value[at:]))
            break
        quoted, name, local, domain, only_local, only_domain = match.groups()
        if local is None:
            found.append(Address(b"", only_local, only_domain))
        else:
            name = quoted or (name or b"").rstrip()
            if b"  " in name and not quoted:
                name = b" ".join(name.split())
            found.append(Address(name, local, domain))
        at = match.end()
    return found


def addresses(value: bytes) -> list[Address]:
    """The addresses of a field, those inside groups too."""
    found: list[Address] = []
    for item in address_list(value):
        if isinstance(item, Group):
            found.extend(item.members)
        else:
            found.append(item)
    return found


class _Piece(NamedTuple):
    text: bytes
    spaced: bool  # blanks or a comment come before it
    mark: bool = False  # an "@" outside quotes


class _Parser:
    """The slow way, token by token, for what the pattern of the common form does not match."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.found: list[Address | Group] = []
        self.group: list[Address] | None = None
        self._start()

    def _start(self) -> None:
        self.phrase: list[_Piece] = []  # outside <>
        self.marked = False  # there is an "@" in the phrase
        self.angle: list[_Piece] | None = None  # inside <>
        self.route = b""
        self.closed = False
        self.after: list[_Piece] = []  # behind <>
        self.comment = b""

    def read(self, value: bytes) -> list[Address | Group]:
        spaced = False
        for kind, text in _split(_line_end.sub(b"", value).rstrip()):
            if kind == "blank":
                spaced = True
                continue
            if kind == "comment":
                self.comment = text
                spaced = True
                continue
            if kind == "special":
                self._special(text, spaced)
            else:
                self._add(_Piece(text, spaced))
            spaced = False
            if self.limit <= 0:
                return self.found
        self._flush()
        return self.found

    def _add(self, piece: _Piece) -> None:
        if self.closed:
            self.after.append(piece)
        elif self.angle is not None:
            self.angle.append(piece)
        else:
            self.phrase.append(piece)
            self.marked |= piece.mark

    def _special(self, mark: bytes, spaced: bool) -> None:
        inside = self.angle is not None and not self.closed
        if mark == b"@":
            if self.marked and not inside:
                self._part()
            self._add(_Piece(mark, spaced, mark=True))
        elif mark == b"<":
            if self.angle is not None:  # the comma between two addresses is missing
                after = self.after
                self._flush()
                self.phrase = after
            self.angle = []
        elif mark == b">":
            self.closed = self.angle is not None
        elif mark == b":":
            if inside:
                self.route = _route(self.angle or [])
                self.angle = []
            elif self.group is None and self.angle is None and not self.marked:
                group = Group(_joined(self.phrase), [])
                self._start()
                self.found.append(group)
                self.limit -= 1
                self.group = group.members
        elif inside and self.angle and self.angle[0].mark and mark == b",":
            pass  # between the domains of a source route
        else:
            self._flush()
            if mark == b";":  # ends a group, or stands for a comma
                self.group = None

    def _part(self) -> None:
        """The phrase has an address, and another "@" comes: the comma between two addresses is missing."""
        pieces = self.phrase
        first = len(pieces)
        while (
            first > 0
            and not pieces[first - 1].mark
            and (first == len(pieces) or _connected(*pieces[first - 1 : first + 1]))
        ):
            first -= 1
        if first > 0 and first < len(pieces) and not pieces[first - 1].mark:
            self.phrase = pieces[:first]
            self._flush()
            self.phrase = pieces[first:]

    def _flush(self) -> None:
        """End of one address: add what was collected."""
        name = b""
        if self.angle is not None:
            local, domain, rest = _local_and_domain(self.angle)
            local = local or rest
            name = _joined(self.phrase) or _joined(self.after)
        else:
            local, domain, rest = _local_and_domain(self.phrase)
            if local or domain:
                name = rest
            elif len(self.phrase) == 1:
                local = rest
            else:
                name = rest
        name = name or (self.comment if local or domain else b"")
        if name or local or domain:
            self.limit -= 1
            (self.found if self.group is None else self.group).append(
                Address(name, local, domain, self.route if domain else b"")
            )
        self._start()


def _split(value: bytes) -> Iterator[tuple[str, bytes]]:
    at, size = 0, len(value)
    while at < size:
        match = _tokens.match(value, at)
        if match is None:  # no byte is left out of the pattern, but a loop must end
            break
        blank, quoted, end_quote, literal, atom, special, bracket = match.groups()
        if quoted is not None and not end_quote:
            # Without its other half a quote says nothing, and no quote behind it has one either.
            value, at = value[at:].replace(b'"', b""), 0
            size = len(value)
            continue
        at = match.end()
        if blank is not None:
            yield "blank", blank
        elif quoted is not None:
            yield "word", _quoted_pair.sub(rb"\1", quoted)
        elif literal is not None or atom is not None:
            yield "word", literal or atom
        elif special is not None:
            yield "special", special
        elif bracket == b"(":
            start, depth = at, 1
            for mark in _comment_marks.finditer(value, at):
                if mark[0] == b"(":
                    depth += 1
                elif mark[0] == b")":
                    depth -= 1
                    if not depth:
                        at = mark.end()
                        break
            else:
                at = size + 1
            yield "comment", _quoted_pair.sub(rb"\1", value[start : at - 1].strip())
        # else: a ")" that closes nothing


def _joined(pieces: list[_Piece]) -> bytes:
    return b"".join([b" " + piece.text if piece.spaced else piece.text for piece in pieces]).strip()


def _route(pieces: list[_Piece]) -> bytes:
    """What stands before the colon inside <>: a list of "@" and domains."""
    if not pieces or not pieces[0].mark:
        return b""
    return b"".join([piece.text for piece in pieces]).replace(b"@", b",@")[1:]


def _local_and_domain(pieces: list[_Piece]) -> tuple[bytes, bytes, bytes]:
    """Local part, domain, and the words around them. Without an "@", all is words."""
    at = next((i for i, piece in enumerate(pieces) if piece.mark), -1)
    if at < 0:
        return b"", b"", _joined(pieces)
    # Obsolete syntax has blanks around dots and "@"; other blanks end the address.
    first = at
    while first > 0 and (first == at or _connected(pieces[first - 1], pieces[first])):
        first -= 1
    last = at
    while last + 1 < len(pieces) and (last == at or _connected(pieces[last], pieces[last + 1])):
        last += 1
    local = b"".join([piece.text for piece in pieces[first:at]])
    domain = b"".join([piece.text for piece in pieces[at + 1 : last + 1]])
    return local, domain, _joined(pieces[:first] + pieces[last + 1 :])


def _connected(left: _Piece, right: _Piece) -> bool:
    return not right.spaced or left.text.endswith(b".") or right.text.startswith(b".")

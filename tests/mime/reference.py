"""The scanner once more, slow and obvious: line by line, recursively, without limits. The oracle of `scan`.

It shares the rules for one header line with the scanner and nothing else.
"""

import re
from typing import NamedTuple

from posthouse.mime.fields import content_type, parameter, token
from posthouse.mime.scan import Part

_field = re.compile(rb"[!-9;-~\x80-\xff]+[ \t]*:").match
_separator = re.compile(rb">?From ").match
_dated_separator = re.compile(rb">?From \S+ +[A-Z][a-z]{2} [A-Z][a-z]{2} [ \d]\d \d\d:\d\d").match


class Tree(NamedTuple):
    """What both see of a part."""

    kind: bytes
    header: int
    body: int
    end: int
    lines: int
    inside: tuple["Tree", ...]
    message: "Tree | None"


def tree_of(part: Part) -> Tree:
    return Tree(
        part.type + b"/" + part.subtype,
        part.header,
        part.body,
        part.end,
        part.lines,
        tuple(tree_of(child) for child in part.parts),
        None if part.message is None else tree_of(part.message),
    )


def reference(raw: bytes) -> Tree:
    if b"\n" not in raw[: 256 * 1024]:
        raw = raw.replace(b"\r", b"\n")
    return _Reader(raw).entity(0, (), b"text/plain", top=True)[0]


class _Reader:
    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self.lines = [line + b"\n" for line in raw.split(b"\n")]
        self.lines[-1] = self.lines[-1][:-1]
        if not self.lines[-1]:
            self.lines.pop()
        self.offsets = [0]
        for line in self.lines:
            self.offsets.append(self.offsets[-1] + len(line))

    def which(self, number: int, delimiters: tuple[bytes, ...]) -> tuple[int, bool] | None:
        """Which delimiter a line is, the outermost first, and whether it closes."""
        line = self.lines[number].rstrip() if len(self.lines[number]) < 2048 else b""
        for index, delimiter in enumerate(delimiters):
            if line == delimiter and delimiter:
                return index, False
            if line == delimiter + b"--" and delimiter:
                return index, True
        return None

    def cut(self, number: int) -> int:
        """Where the line before this line ends, without its line end."""
        end = self.offsets[number]
        if number < len(self.lines):
            end -= 2 if self.lines[number - 1].endswith(b"\r\n") else 1
        return end

    def entity(self, number: int, outer: tuple[bytes, ...], default: bytes, top: bool = False) -> tuple[Tree, int]:
        """The entity whose header starts in this line, and the line of the outer delimiter that ends it."""
        start = number
        header: list[bytes] = []
        while number < len(self.lines):
            line = self.lines[number]
            if self.which(number, outer):
                break
            first = number == start
            if line.rstrip(b"\r\n") == b"" and line.endswith(b"\n") and line.count(b"\r") <= 2:
                number += 1
                break
            if _field(line) or (first and top and _separator(line)) or (not first and _dated_separator(line)):
                header.append(line)
            elif not first and line[:1] in b" \t":
                header[-1] += line
            else:
                break
            number += 1
        body = number
        values: dict[bytes, bytes] = {}
        for one in header:
            if _field(one):
                name, _, value = one.removeprefix(b"\xef\xbb\xbf").partition(b":")
                values.setdefault(name.strip().lower(), value)
        kind, subtype, params = content_type(values.get(b"content-type", default))
        encoding = token(values.get(b"content-transfer-encoding", b""))
        parts: list[Tree] = []
        message = None
        boundary = parameter(params, b"boundary").rstrip()
        if (
            kind == b"multipart"
            and 0 < len(boundary) <= 1000
            and b"--" + boundary
            not in {delimiter + closing for delimiter in outer for closing in (b"", b"--") if delimiter}
        ):
            number = self.multipart(number, (*outer, b"--" + boundary), parts, subtype == b"digest")
        elif (
            kind == b"message"
            and subtype in (b"rfc822", b"global")
            and encoding not in (b"base64", b"quoted-printable", b"x-uuencode", b"uuencode", b"x-uue", b"uue")
        ):
            message, number = self.entity(number, outer, b"text/plain", top=True)
        else:
            while number < len(self.lines) and not self.which(number, outer):
                number += 1
        at = self.offsets[body]
        ends = [at, self.cut(number), *[part.end for part in parts], *([message.end] if message else [])]
        end = max(ends)
        shown = kind in (b"text", b"message") or (kind == b"multipart" and not parts)
        lines = self.raw.count(b"\n", at, end) if shown else 0
        return Tree(kind + b"/" + subtype, self.offsets[start], at, end, lines, tuple(parts), message), number

    def multipart(self, number: int, delimiters: tuple[bytes, ...], parts: list[Tree], digest: bool) -> int:
        own = len(delimiters) - 1
        while number < len(self.lines):
            found = self.which(number, delimiters)
            if found is None:
                number += 1
                continue
            index, closes = found
            if index != own:
                return number
            if closes:
                number += 1
                while number < len(self.lines) and not self.which(number, delimiters[:own]):
                    number += 1
                return number
            number += 1
            if number < len(self.lines) and self.which(number, delimiters) == (own, False):
                continue
            part, number = self.entity(number, delimiters, b"message/rfc822" if digest else b"text/plain")
            parts.append(part)
        return number

"""A strict reader of ENVELOPE, BODY and BODYSTRUCTURE, written from RFC 9051 section 9. For tests only.

Gives nested lists of bytes, int and None. Raises AssertionError for anything that the grammar does not have.
"""

import re
from typing import Any

_number = re.compile(rb"0|[1-9][0-9]*").match
_quoted = re.compile(rb'"((?:[\x01-\x09\x0b\x0c\x0e-\x21\x23-\x5b\x5d-\x7f]|\\["\\])*)"').match
_literal = re.compile(rb"\{([0-9]+)\}\r\n").match


class Reader:
    """One pass over the text, a method for each rule."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def end(self) -> None:
        assert self.at == len(self.data), self.data[self.at :]

    def take(self, text: bytes) -> None:
        assert self.data.startswith(text, self.at), (text, self.data[self.at : self.at + 40])
        self.at += len(text)

    def sees(self, text: bytes) -> bool:
        return self.data.startswith(text, self.at)

    def space(self) -> None:
        self.take(b" ")

    def number(self) -> int:
        match = _number(self.data, self.at)
        assert match, self.data[self.at : self.at + 40]
        self.at = match.end()
        assert int(match[0]) < 1 << 63
        return int(match[0])

    def string(self) -> bytes:
        if match := _quoted(self.data, self.at):
            self.at = match.end()
            return re.sub(rb"\\(.)", rb"\1", match[1])
        match = _literal(self.data, self.at)
        assert match, self.data[self.at : self.at + 40]
        start = match.end()
        self.at = start + int(match[1])
        value = self.data[start : self.at]
        assert len(value) == int(match[1])
        assert b"\0" not in value  # CHAR8
        return value

    def nstring(self) -> bytes | None:
        if self.sees(b"NIL"):
            self.at += 3
            return None
        return self.string()

    # envelope = "(" env-date SP env-subject SP env-from SP env-sender SP env-reply-to SP env-to SP env-cc SP
    #            env-bcc SP env-in-reply-to SP env-message-id ")"
    def envelope(self) -> list[Any]:
        self.take(b"(")
        out: list[Any] = [self.nstring()]
        self.space()
        out.append(self.nstring())
        for _ in range(6):
            self.space()
            out.append(self.address_list())
        for _ in range(2):
            self.space()
            out.append(self.nstring())
        self.take(b")")
        return out

    # env-from = "(" 1*address ")" / nil
    def address_list(self) -> list[list[bytes | None]] | None:
        if self.sees(b"NIL"):
            self.at += 3
            return None
        self.take(b"(")
        out = [self.address()]
        while not self.sees(b")"):
            out.append(self.address())
        self.take(b")")
        opened = False
        for name, route, local, host in out:
            assert route is None or (route.startswith(b"@") and host is not None)
            if host is None:  # group start and end come in pairs
                assert name is None
                assert opened == (local is None)
                opened = not opened
        assert not opened
        return out

    def address(self) -> list[bytes | None]:
        self.take(b"(")
        out = [self.nstring()]
        for _ in range(3):
            self.space()
            out.append(self.nstring())
        self.take(b")")
        return out

    # body = "(" (body-type-1part / body-type-mpart) ")"
    def body(self, extended: bool) -> list[Any]:
        self.take(b"(")
        out = self.multipart(extended) if self.sees(b"(") else self.single(extended)
        self.take(b")")
        return out

    # body-type-mpart = 1*body SP media-subtype [SP body-ext-mpart]
    def multipart(self, extended: bool) -> list[Any]:
        parts = []
        while self.sees(b"("):
            parts.append(self.body(extended))
        self.space()
        out: list[Any] = [parts, self.string()]
        if extended:
            self.space()
            out.append(self.params())
            self.extension(out)
        return out

    # body-type-1part = (body-type-basic / body-type-msg / body-type-text) [SP body-ext-1part]
    def single(self, extended: bool) -> list[Any]:
        out: list[Any] = [self.string()]
        self.space()
        out.append(self.string())
        self.space()
        out.append(self.params())
        for rule in (self.nstring, self.nstring, self.string, self.number):
            self.space()
            out.append(rule())
        if out[0].lower() == b"text":
            self.space()
            out.append(self.number())
        elif out[0].lower() == b"message" and out[1].lower() in (b"rfc822", b"global"):
            self.space()
            out.append(self.envelope())
            self.space()
            out.append(self.body(extended))
            self.space()
            out.append(self.number())
        if extended:
            self.space()
            out.append(self.nstring())
            self.extension(out)
        return out

    # body-fld-param = "(" string SP string *(SP string SP string) ")" / nil
    def params(self) -> list[bytes] | None:
        if self.sees(b"NIL"):
            self.at += 3
            return None
        self.take(b"(")
        out = [self.string()]
        while not self.sees(b")"):
            self.space()
            out.append(self.string())
        self.take(b")")
        assert len(out) % 2 == 0
        return out

    # SP body-fld-dsp SP body-fld-lang SP body-fld-loc
    def extension(self, out: list[Any]) -> None:
        self.space()
        if self.sees(b"NIL"):
            self.at += 3
            out.append(None)
        else:
            self.take(b"(")
            kind = self.string()
            self.space()
            out.append([kind, self.params()])
            self.take(b")")
        self.space()
        if self.sees(b"("):
            self.take(b"(")
            tags = [self.string()]
            while not self.sees(b")"):
                self.space()
                tags.append(self.string())
            self.take(b")")
            out.append(tags)
        else:
            out.append(self.nstring())
        self.space()
        out.append(self.nstring())


def read_envelope(data: bytes) -> list[Any]:
    reader = Reader(data)
    out = reader.envelope()
    reader.end()
    return out


def read_body(data: bytes, extended: bool) -> list[Any]:
    reader = Reader(data)
    out = reader.body(extended)
    reader.end()
    return out

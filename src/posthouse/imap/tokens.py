"""Read the tokens of one whole command: atoms, strings, numbers, lists, dates (RFC 9051 section 9).

A `Cursor` walks over the text once. Each method is named like the rule of the grammar that it reads, and
raises `BadSyntax`, whose text is for the client, if the rule does not match: the engine answers BAD.
Looser than the RFC in three ways, all harmless: several spaces count as one, 8-bit bytes may stand in
quoted strings of IMAP4rev1 clients too, and dates need no leading zero.
"""

import re
from collections.abc import Callable, Iterable
from typing import TypeVar

from posthouse.imap import dates, names, numbers
from posthouse.imap.flags import Flags, flags_of

T = TypeVar("T")

# RFC 9051 section 9:
#   atom-specials = "(" / ")" / "{" / SP / CTL / list-wildcards / quoted-specials / resp-specials
#   ASTRING-CHAR  = ATOM-CHAR / resp-specials
#   list-char     = ATOM-CHAR / list-wildcards / resp-specials
#   tag           = 1*<any ASTRING-CHAR except "+">
_ATOM = rb"[^(){ %*\"\\\]\x00-\x1f\x7f-\xff]+"
tag = re.compile(rb"[^(){ %*\"\\+\x00-\x1f\x7f-\xff]+").match
_atom = re.compile(_ATOM).match
_astring = re.compile(rb"[^(){ %*\"\\\x00-\x1f\x7f-\xff]+").match
_list_chars = re.compile(rb"[^(){ \"\\\x00-\x1f\x7f-\xff]+").match
#   quoted = DQUOTE *QUOTED-CHAR DQUOTE
_quoted = re.compile(rb'"([^"\\\r\n\x00]*(?:\\["\\][^"\\\r\n\x00]*)*)"').match
_literal = re.compile(rb"~?\{[0-9]+[+-]?\}\r\n").match
_flag = re.compile(rb"\\?" + _ATOM).match
_spaces = re.compile(rb" +").match
_number = re.compile(rb"[0-9]{1,19}").match
_word = re.compile(rb"[A-Za-z0-9.\-=]+").match
_date = re.compile(rb'("?)([0-9]{1,2})-([A-Za-z]{3})-([0-9]{4})\1').match
_unescape = re.compile(rb"\\(.)").sub


class BadSyntax(Exception):
    """The command does not follow the grammar; the text says where."""


class Cursor:
    """A place in the text of a command."""

    __slots__ = ("_literals", "at", "gmail", "literals", "text", "utf8")

    def __init__(self, text: bytes, literals: Iterable[bytes], utf8: bool = False, gmail: bool = False) -> None:
        self.text = text
        self.at = 0
        self.literals = literals
        self._literals = iter(literals)
        self.utf8 = utf8  # mailbox names are UTF-8 (RFC 9051), not modified UTF-7 (RFC 3501)
        self.gmail = gmail  # X-GM-EXT-1 is offered: items and keys that begin with X-GM- are known

    def take(self, match: Callable[[bytes, int], "re.Match[bytes] | None"], what: str) -> "re.Match[bytes]":
        """What the pattern matches here."""
        found = match(self.text, self.at)
        if found is None:
            raise BadSyntax(f"expected {what} at position {self.at + 1}")
        self.at = found.end()
        return found

    def peek(self) -> bytes:
        """The next byte, or b"" at the end."""
        return self.text[self.at : self.at + 1]

    def skip(self, token: bytes) -> bool:
        """Step over `token` if it stands here."""
        if self.text.startswith(token, self.at):
            self.at += len(token)
            return True
        return False

    def expect(self, token: bytes) -> None:
        """Step over `token`, which must stand here."""
        if not self.skip(token):
            raise BadSyntax(f"expected {token.decode()!r} at position {self.at + 1}")

    def space(self) -> None:
        """SP."""
        self.take(_spaces, "a space")

    def skip_space(self) -> bool:
        """SP, if there is one and something after it."""
        found = _spaces(self.text, self.at)
        if found is None or found.end() == len(self.text):
            return False
        self.at = found.end()
        return True

    def end(self) -> None:
        """The end of the command."""
        if self.text[self.at :].strip(b" "):
            raise BadSyntax(f"unexpected text at position {self.at + 1}")

    @property
    def at_end(self) -> bool:
        """True if nothing but spaces follows."""
        return not self.text[self.at :].strip(b" ")

    # Words and strings

    def atom(self) -> bytes:
        """atom"""
        return self.take(_atom, "a word")[0]

    def word(self) -> bytes:
        """A keyword of the protocol (a command, an item, an option), in upper case."""
        return self.take(_word, "a word")[0].upper()

    def astring(self) -> bytes:
        """astring = 1*ASTRING-CHAR / string"""
        return self._string(_astring, "a string")

    def string(self) -> bytes:
        """string = quoted / literal"""
        return self._string(None, "a string")

    def list_mailbox(self) -> str:
        """list-mailbox = 1*list-char / string"""
        return names.decode(self._string(_list_chars, "a pattern"), self.utf8)

    def nstring(self) -> bytes | None:
        """nstring = string / nil"""
        if self.peek() not in (b'"', b"{", b"~"):
            if self.word() != b"NIL":
                raise BadSyntax("expected a string or NIL")
            return None
        return self.string()

    def nstring8(self) -> bytes | None:
        """nstring / literal8 (RFC 5464 section 5: value); only a literal8 may have NUL in it."""
        if self.peek() == b"~":
            return self._string(None, "a value", binary=True)
        return self.nstring()

    def _string(
        self, bare: Callable[[bytes, int], "re.Match[bytes] | None"] | None, what: str, binary: bool = False
    ) -> bytes:
        first = self.peek()
        if first == b'"':
            inner = self.take(_quoted, "a quoted string")[1]
            return _unescape(rb"\1", inner) if b"\\" in inner else inner
        if first == b"{" or (first == b"~" and self.text.startswith(b"~{", self.at)):
            self.take(_literal, "a literal")
            value = next(self._literals, None)
            if value is None:  # what looks like a literal stood in a text that has none, as the section of a URL
                raise BadSyntax("a literal that is not there")
            if b"\0" in value and not binary:
                raise BadSyntax("NUL in a literal")
            return value
        if bare is None:
            raise BadSyntax(f"expected {what} at position {self.at + 1}")
        return self.take(bare, what)[0]

    def mailbox(self) -> str:
        """mailbox = "INBOX" / astring"""
        return names.decode(self.astring(), self.utf8)

    # Numbers and dates

    def number(self) -> int:
        """number64: what fits 63 bits"""
        value = int(self.take(_number, "a number")[0])
        if value >= 1 << 63:
            raise BadSyntax("a number that is too large")
        return value

    def sequence_set(self) -> numbers.SequenceSet:
        """sequence-set"""
        found = self.take(numbers.match_set, "a set of numbers")
        parsed = numbers.parse_set(found[0])
        if parsed is None:
            raise BadSyntax("a set with a number out of range")
        return parsed

    def date(self) -> int:
        """date: the day, counted from 1970-01-01"""
        found = self.take(_date, "a date")
        day = dates.day_number(int(found[4]), found[3], int(found[2]))
        if day is None:
            raise BadSyntax("a date that does not exist")
        return day

    def date_time(self) -> int:
        """date-time: microseconds since 1970 UTC"""
        value = dates.parse_date_time(self.string())
        if value is None:
            raise BadSyntax("a date and time that do not exist")
        return value

    # Lists

    def items(self, read: Callable[[], T], most: int, empty: bool = False) -> list[T]:
        """ "(" item *(SP item) ")", of at most `most` items."""
        self.expect(b"(")
        found: list[T] = []
        while True:
            blank = _spaces(self.text, self.at)
            if blank is not None:
                self.at = blank.end()
            elif found and self.peek() != b")":
                raise BadSyntax(f"expected a space at position {self.at + 1}")
            if self.skip(b")"):
                break
            if len(found) >= most:
                raise BadSyntax(f"more than {most} items in a list")
            found.append(read())
        if not found and not empty:
            raise BadSyntax("an empty list")
        return found

    def flag(self) -> bytes:
        """flag"""
        return self.take(_flag, "a flag")[0]

    def flag_list(self) -> Flags:
        """flag-list, with or without parentheses"""
        if self.peek() == b"(":
            found = self.items(self.flag, 1000, empty=True)
        else:
            found = [self.flag()]
            while self.skip_space():
                found.append(self.flag())
        flags = flags_of(found)
        if isinstance(flags, str):
            raise BadSyntax(flags)
        return flags

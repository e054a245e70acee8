"""APPEND and REPLACE (RFC 9051 section 6.3.12, RFC 3502, RFC 4469, RFC 6855, RFC 8508): messages are not kept in the
command but handed on as they come in.

`Upload` reads the command piece by piece: each time a literal of a message is announced, and once more at the end,
`advance` says what the text since the last time means, as steps. The engine gives them to the session in an `Append`
(then the literal follows as `AppendData`) or in the `AppendEnd` of the whole command. So a message costs no memory
here.
"""

import re
from dataclasses import dataclass
from operator import length_hint
from typing import NamedTuple

from posthouse.imap import replies
from posthouse.imap.flags import Flags
from posthouse.imap.replies import Status
from posthouse.imap.tokens import BadSyntax, Cursor
from posthouse.imap.tokens import tag as match_tag

MAX_MESSAGES = 1000  # of one command: as many as RFC 9738 wants a server to take that announces a limit
MAX_PARTS = 500  # of one CATENATE
LAST = -1  # "*": the last message is replaced


class Start(NamedTuple):
    """A message begins."""

    flags: Flags = Flags()
    received: int | None = None


class Url(NamedTuple):
    """It goes on with what another message holds (RFC 4469)."""

    url: bytes


class Finish(NamedTuple):
    """It is complete."""


Step = Start | Url | Finish


class Target(NamedTuple):
    """Where the messages go."""

    name: str
    replaces: int = 0  # the sequence number, or UID, of the message that is replaced (RFC 8508), or LAST; 0: none is
    uid: bool = False


class TooMany(BadSyntax):
    """More messages than one command may bring."""


def refusal(error: BadSyntax, target: Target, announced: bool) -> Status:
    """What the client is told. `announced`: that there is a limit (RFC 9738 section 3.1)."""
    if isinstance(error, TooMany):
        code = replies.message_limit(MAX_MESSAGES) if announced else b"LIMIT"
        return replies.no(f"One command brings {MAX_MESSAGES} messages at most", code)
    return replies.bad(f"{'REPLACE' if target.replaces else 'APPEND'}: {error}")


@dataclass(frozen=True, slots=True)
class Append:
    """A literal of a message begins. Answer with `proceed`, or refuse with `no`."""

    target: Target
    steps: tuple[Step, ...]  # what comes before it
    size: int
    binary: bool = False  # announced as literal8 (RFC 3516): may hold NUL
    waits: bool = False  # the client sends it when it is asked to


@dataclass(frozen=True, slots=True)
class AppendData:
    """Some of its content. Answer with `proceed`."""

    data: bytes
    last: bool


@dataclass(frozen=True, slots=True)
class AppendEnd:
    """The command is complete: store the messages, answer with `ok` or `no`."""

    target: Target
    steps: tuple[Step, ...] = (Finish(),)


@dataclass(frozen=True, slots=True)
class AppendAborted:
    """What came after a message was no end of the command: forget all of it. Already answered."""


# Where in the command the reader stands.
_BEGIN, _BETWEEN, _PLAIN, _UTF8, _CATENATE, _TEXT = range(6)


class Upload:
    """Reads one command; `at` is where its arguments begin."""

    __slots__ = ("_at", "_messages", "_parts", "_replace", "_state", "_uid", "_used", "size", "target")

    def __init__(self, at: int, *, replace: bool = False, uid: bool = False) -> None:
        self._at = at
        self._replace = replace
        self._uid = uid
        self._used = 0  # literals
        self._state = _BEGIN
        self._messages = 0
        self._parts = 0  # of the CATENATE at hand
        self.size = 0  # octets of the literals of the message at hand
        self.target = Target("")

    def advance(self, text: bytes, literals: list[bytes], utf8: bool, ended: bool = False) -> tuple[Step, ...] | None:
        """What the text since the last time means, up to the literal that was just announced, or to the end.

        None: that literal is (or may be) something else than a piece of a message, to be kept in `literals`; nothing
        was read then. Raises `BadSyntax`.

        append = "APPEND" SP mailbox 1*append-message
        replace = "REPLACE" SP seq-number SP mailbox append-message
        append-message = [SP flag-list] [SP date-time] SP append-data
        append-data = literal / literal8 / "UTF8" SP "(" literal8 ")" / "CATENATE" SP "(" cat-part *(SP cat-part) ")"
        cat-part = "TEXT" SP literal / "URL" SP astring
        """
        unread = iter(literals[self._used :])
        cursor = Cursor(text, unread, utf8)
        cursor.at = self._at
        state, target, messages, parts = self._state, self.target, self._messages, self._parts
        steps: list[Step] = []
        if state == _BEGIN:
            found = self._head(cursor)
            if found is None:
                return None
            target, state = found, _BETWEEN
        elif state == _TEXT:
            state = _CATENATE
        elif state in (_PLAIN, _UTF8):
            if state == _UTF8:
                cursor.expect(b")")
            steps.append(Finish())
            state = _BETWEEN
        while True:
            if state == _BETWEEN:
                if ended and messages and cursor.at_end:
                    break
                if messages >= (1 if self._replace else MAX_MESSAGES):
                    raise BadSyntax("something follows the message") if self._replace else TooMany
                start, state = _message(cursor)
                steps.append(start)
                messages, parts = messages + 1, 0
            if state in (_PLAIN, _UTF8):
                if not _at_literal(cursor):
                    raise BadSyntax(f"expected a literal at position {cursor.at + 1}")
                break
            # CATENATE
            if parts and cursor.skip(b")"):
                steps.append(Finish())
                state = _BETWEEN
                continue
            if parts:
                cursor.space()
            parts += 1
            if parts > MAX_PARTS:
                raise BadSyntax(f"more than {MAX_PARTS} parts")
            word = cursor.word()
            cursor.space()
            if word == b"TEXT":
                if not _at_literal(cursor):
                    raise BadSyntax(f"expected a literal at position {cursor.at + 1}")
                state = _TEXT
                break
            if word != b"URL":
                raise BadSyntax("expected TEXT or URL")
            if _at_literal(cursor):
                return None
            steps.append(Url(cursor.astring()))
        if any(isinstance(step, Start) for step in steps):
            self.size = 0
        self._at, self._used = len(text), len(literals) - length_hint(unread)
        self._state, self.target, self._messages, self._parts = state, target, messages, parts
        return tuple(steps)

    def _head(self, cursor: Cursor) -> Target | None:
        number = 0
        if self._replace:
            cursor.space()
            number = LAST if cursor.skip(b"*") else cursor.number()
            if number != LAST and not 0 < number <= 0xFFFFFFFF:
                raise BadSyntax("a number that no message can have")
        cursor.space()
        if _at_literal(cursor):
            return None  # the literal announced is the mailbox name
        return Target(cursor.mailbox(), number, self._uid)


class Begun(NamedTuple):
    """A command that brings messages, by how it begins."""

    tag: bytes
    verb: bytes  # in capitals
    upload: Upload


_begun = re.compile(rb"(?i)([!-~]+) (APPEND|REPLACE|UID REPLACE) ").match


def begun(text: bytes) -> Begun | None:
    """Does this text begin such a command? What it says is for `Upload` to read."""
    found = _begun(text)
    if found is None or match_tag(text) is None:
        return None
    verb = found[2].upper()
    return Begun(found[1], verb, Upload(found.end() - 1, replace=verb != b"APPEND", uid=verb.startswith(b"UID")))


def _message(cursor: Cursor) -> tuple[Start, int]:
    """What stands before the data of a message, and what kind of data follows."""
    cursor.space()
    flags, received = Flags(), None
    if cursor.peek() == b"(":
        flags = cursor.flag_list()
        cursor.space()
    if cursor.peek() == b'"':
        received = cursor.date_time()
        cursor.space()
    if cursor.peek() in (b"{", b"~"):
        return Start(flags, received), _PLAIN
    word = cursor.word()
    if word not in (b"CATENATE", b"UTF8"):
        raise BadSyntax("the message has to be a literal")
    cursor.space()
    cursor.expect(b"(")
    if word == b"UTF8" and cursor.peek() != b"~":
        raise BadSyntax("UTF8 takes a literal8")
    return Start(flags, received), _CATENATE if word == b"CATENATE" else _UTF8


def _at_literal(cursor: Cursor) -> bool:
    """True if the next token is the literal at the very end of the text, the one just announced."""
    rest = cursor.text[cursor.at :]
    return rest[:1] in (b"{", b"~") and rest.find(b"\r\n") == len(rest) - 2


def append(cursor: Cursor) -> AppendEnd:
    """An APPEND without literals of messages: all of it is somewhere else."""
    return _without_text(cursor, Upload(cursor.at))


def replace(cursor: Cursor) -> AppendEnd:
    return _without_text(cursor, Upload(cursor.at, replace=True))


def uid_replace(cursor: Cursor) -> AppendEnd:
    return _without_text(cursor, Upload(cursor.at, replace=True, uid=True))


def _without_text(cursor: Cursor, upload: Upload) -> AppendEnd:
    steps = upload.advance(cursor.text, list(cursor.literals), cursor.utf8, ended=True)
    if steps is None:
        raise BadSyntax("the message has to be a literal")
    return AppendEnd(upload.target, steps)

"""What SEARCH looks for, as a tree of values (RFC 9051 section 6.4.4).

The parser makes it, the session replaces what only it knows (sequence numbers, \\Recent, "$") by UIDs,
and store/search.py finds the messages. Text is compared without case.
"""

from dataclasses import dataclass
from enum import Enum

from posthouse.imap.numbers import SequenceSet

MAX_AGE = (1 << 40) - 1  # seconds: beyond the age of anything
MAX_SIZE = (1 << 62) - 1  # octets: beyond the size of anything


class Field(Enum):
    """Which date, or which text, is meant."""

    RECEIVED = "received"  # INTERNALDATE
    SENT = "sent"  # the Date: field
    SAVED = "saved"  # SAVEDATE (RFC 8514)


class Scope(Enum):
    """Where a text is looked for."""

    BODY = "body"
    TEXT = "text"  # header and body


@dataclass(frozen=True, slots=True)
class All:
    """ALL"""


@dataclass(frozen=True, slots=True)
class Flag:
    """SEEN, UNSEEN and so on: whether a system flag is set."""

    bit: int
    on: bool


@dataclass(frozen=True, slots=True)
class Keyword:
    """KEYWORD, UNKEYWORD"""

    word: str
    on: bool


@dataclass(frozen=True, slots=True)
class Recent:
    """RECENT. The session knows which these are."""


@dataclass(frozen=True, slots=True)
class Numbers:
    """A set of sequence numbers, or of UIDs, as the client wrote it."""

    wanted: SequenceSet
    uid: bool


@dataclass(frozen=True, slots=True)
class Uids:
    """UIDs as merged half-open ranges: what the session makes of `Numbers` and `Recent`."""

    ranges: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Size:
    """LARGER, SMALLER: RFC822.SIZE above, or below, a number."""

    larger: bool
    size: int


@dataclass(frozen=True, slots=True)
class Modseq:
    """MODSEQ: changed at this mod-sequence or later (RFC 7162 section 3.1.5)."""

    first: int


@dataclass(frozen=True, slots=True)
class Age:
    """OLDER, YOUNGER: received that many seconds ago or longer, or not so long ago (RFC 5032). The session knows
    what time it is."""

    older: bool
    seconds: int


@dataclass(frozen=True, slots=True)
class Received:
    """Received from `first` (microseconds) up to, not with, `end`: what the session makes of `Age`."""

    first: int | None
    end: int | None


@dataclass(frozen=True, slots=True)
class Object:
    """EMAILID, THREADID (RFC 8474 section 5.4): the number in an object identifier; 0: one that nothing has."""

    kind: str  # "email" or "thread"
    number: int


@dataclass(frozen=True, slots=True)
class Day:
    """BEFORE, ON, SINCE and their SENT… twins: days (from 1970) from `first` up to, not with, `end`."""

    field: Field
    first: int | None
    end: int | None


@dataclass(frozen=True, slots=True)
class Header:
    """HEADER, FROM, SUBJECT …: a field of the message header that holds a text; b"" asks if it is there."""

    name: str  # lower case
    text: str


@dataclass(frozen=True, slots=True)
class Text:
    """BODY, TEXT"""

    scope: Scope
    text: str


@dataclass(frozen=True, slots=True)
class And:
    """All of them."""

    keys: "tuple[Key, ...]"


@dataclass(frozen=True, slots=True)
class Or:
    """One of two."""

    one: "Key"
    other: "Key"


@dataclass(frozen=True, slots=True)
class Not:
    """The opposite."""

    key: "Key"


@dataclass(frozen=True, slots=True)
class Fuzzy:
    """FUZZY (RFC 6203): what is like it, as the store sees fit."""

    key: "Key"


@dataclass(frozen=True, slots=True)
class Label:
    """X-GM-LABELS: a copy of it is in the mailbox of this name, or with this special use. `loose`: lower case, with "-"
    for blanks and "/", as people write labels in searches."""

    name: str
    use: str = ""
    loose: bool = False


@dataclass(frozen=True, slots=True)
class Attachment:
    """has:attachment of X-GM-RAW: a part says that it is one (RFC 2183)."""


Key = (
    All
    | Flag
    | Keyword
    | Recent
    | Numbers
    | Uids
    | Size
    | Modseq
    | Age
    | Received
    | Object
    | Day
    | Header
    | Text
    | And
    | Or
    | Not
    | Fuzzy
    | Label
    | Attachment
)

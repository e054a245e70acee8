"""LIST with its extensions (RFC 5258, RFC 5819, RFC 6154, all in RFC 9051 section 6.3.9), and LSUB."""

from dataclasses import dataclass
from typing import Any

from posthouse.imap.commands.mailboxes import status_items
from posthouse.imap.commands.metadata import entries
from posthouse.imap.tokens import BadSyntax, Cursor

MAX_PATTERNS = 100


@dataclass(frozen=True, slots=True)
class ListMailboxes:
    """LIST"""

    reference: str
    patterns: tuple[str, ...]
    select: frozenset[bytes] = frozenset()  # SUBSCRIBED, RECURSIVEMATCH, SPECIAL-USE
    give: frozenset[bytes] = frozenset()  # SUBSCRIBED, CHILDREN, SPECIAL-USE, STATUS
    status: tuple[bytes, ...] = ()
    extended: bool = False  # any of the syntax of RFC 5258 was used
    metadata: tuple[str, ...] = ()  # the entries that METADATA names (RFC 9590)


@dataclass(frozen=True, slots=True)
class Lsub:
    """LSUB (RFC 3501 section 6.3.9)"""

    reference: str
    pattern: str


_SELECT = frozenset((b"SUBSCRIBED", b"REMOTE", b"RECURSIVEMATCH", b"SPECIAL-USE"))
_GIVE = frozenset((b"SUBSCRIBED", b"CHILDREN", b"SPECIAL-USE", b"STATUS", b"METADATA", b"MYRIGHTS"))


def list_mailboxes(cursor: Cursor) -> ListMailboxes:
    """list = "LIST" [SP list-select-opts] SP mailbox SP mbox-or-pat [SP list-return-opts]"""
    cursor.space()
    select: frozenset[bytes] = frozenset()
    extended = cursor.peek() == b"("
    if extended:
        select = frozenset(cursor.items(cursor.word, 10, empty=True))
        if not select <= _SELECT:
            raise BadSyntax("a selection option that we do not know")
        # RFC 9051 section 6.3.9.1: RECURSIVEMATCH needs another one that is no modifier like itself.
        if b"RECURSIVEMATCH" in select and b"SUBSCRIBED" not in select:
            raise BadSyntax("RECURSIVEMATCH needs SUBSCRIBED")
        cursor.space()
    reference = cursor.mailbox()
    cursor.space()
    if cursor.peek() == b"(":
        extended = True
        patterns = cursor.items(cursor.list_mailbox, MAX_PATTERNS)
    else:
        patterns = [cursor.list_mailbox()]
    give: dict[bytes, tuple[Any, ...]] = {}
    if cursor.skip_space():
        extended = True
        if cursor.word() != b"RETURN":
            raise BadSyntax("expected RETURN")
        cursor.space()
        give = dict(cursor.items(lambda: _return_option(cursor), 10, empty=True))
    cursor.end()
    status, metadata = give.get(b"STATUS", ()), give.get(b"METADATA", ())
    return ListMailboxes(reference, tuple(patterns), select, frozenset(give), status, extended, metadata)


def _return_option(cursor: Cursor) -> tuple[bytes, tuple[Any, ...]]:
    name = cursor.word()
    if name not in _GIVE:
        raise BadSyntax("a return option that we do not know")
    if name not in (b"STATUS", b"METADATA"):
        return name, ()
    cursor.space()
    return name, status_items(cursor) if name == b"STATUS" else entries(cursor)


def lsub(cursor: Cursor) -> Lsub:
    """lsub = "LSUB" SP mailbox SP list-mailbox"""
    cursor.space()
    reference = cursor.mailbox()
    cursor.space()
    pattern = cursor.list_mailbox()
    cursor.end()
    return Lsub(reference, pattern)

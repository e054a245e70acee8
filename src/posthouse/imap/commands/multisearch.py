"""ESEARCH (RFC 7377): a search through several mailboxes; CANCELUPDATE (RFC 5267 section 4.3.5)."""

from dataclasses import dataclass, field

from posthouse.imap.commands.fetch import FetchRequest
from posthouse.imap.commands.search import BadCharset, charset_of, program, return_options, word_follows
from posthouse.imap.keys import Key
from posthouse.imap.tokens import BadSyntax, Cursor

MAX_NAMES = 200  # of mailboxes in one command
MAX_SOURCES = 20
MAX_TAGS = 100

_PLAIN = {b"SELECTED", b"INBOXES", b"PERSONAL", b"SUBSCRIBED"}
_NAMED = {b"SUBTREE", b"SUBTREE-ONE", b"MAILBOXES"}


@dataclass(frozen=True, slots=True)
class Esearch:
    """ESEARCH"""

    sources: tuple[tuple[str, tuple[str, ...]], ...]  # in capitals, with names of mailboxes where they have some
    key: Key
    give: frozenset[bytes]
    partial: tuple[int, int] | None = None
    condstore: bool = False
    by_number: bool = field(default=False, compare=False)
    update: FetchRequest | None = None

    @property
    def needs_selected(self) -> bool:
        """Can it only be asked for with a mailbox selected?"""
        return b"UPDATE" in self.give or any(kind == "SELECTED" for kind, _ in self.sources)


@dataclass(frozen=True, slots=True)
class CancelUpdate:
    """CANCELUPDATE"""

    tags: tuple[bytes, ...]


def esearch(cursor: Cursor) -> Esearch | BadCharset:
    """esearch = "ESEARCH" [SP "IN" SP "(" source-mbox [SP "(" scope-options ")"] ")"] [SP search-return-opts]
    SP search-program"""
    cursor.space()
    sources: list[tuple[str, tuple[str, ...]]] = [("SELECTED", ())]
    if word_follows(cursor, b"IN"):
        cursor.word()
        cursor.space()
        budget = [MAX_NAMES]
        sources = cursor.items(lambda: _source(cursor, budget), MAX_SOURCES)
        cursor.space()
    give, partial, update = return_options(cursor)
    if give is not None and b"SAVE" in give and any(kind != "SELECTED" for kind, _ in sources):
        raise BadSyntax("SAVE is for the selected mailbox alone")
    charset: str | None = "utf-8"
    if word_follows(cursor, b"CHARSET"):
        cursor.word()
        cursor.space()
        charset = charset_of(cursor)
        cursor.space()
    if charset is None:
        return BadCharset()
    found = program(cursor, charset, b"RELEVANCY" in (give or ()))
    give = give or frozenset((b"ALL",))
    return Esearch(tuple(sources), found.key, give, partial, found.modseq, found.by_number, update)


def _source(cursor: Cursor, budget: list[int]) -> tuple[str, tuple[str, ...]]:
    """filter-mailboxes (RFC 5465 section 8) without "selected-delayed", and "subtree-one" """
    kind = cursor.word()
    if kind in _PLAIN:
        return kind.decode(), ()
    if kind not in _NAMED:
        raise BadSyntax("a source of messages that we do not know")
    cursor.space()
    names = cursor.items(cursor.mailbox, budget[0]) if cursor.peek() == b"(" else [cursor.mailbox()]
    budget[0] -= len(names)
    if budget[0] < 0:
        raise BadSyntax(f"more than {MAX_NAMES} mailboxes")
    return kind.decode(), tuple(names)


def cancel_update(cursor: Cursor) -> CancelUpdate:
    """cancelupdate = "CANCELUPDATE" 1*(SP quoted)"""
    cursor.space()
    tags = [cursor.string()]
    while cursor.skip_space():
        tags.append(cursor.string())
        if len(tags) > MAX_TAGS:
            raise BadSyntax(f"more than {MAX_TAGS} tags")
    cursor.end()
    return CancelUpdate(tuple(tags))

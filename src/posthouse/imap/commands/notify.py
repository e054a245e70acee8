"""NOTIFY (RFC 5465): which events a client wants to hear of, about which mailboxes."""

from dataclasses import dataclass

from posthouse.imap.commands.fetch import FetchRequest, fetch_atts
from posthouse.imap.tokens import BadSyntax, Cursor

MAX_GROUPS = 20
MAX_NAMES = 200  # of mailboxes in one command

# As they are written in responses, by what a client may write.
EVENTS = {
    name.upper(): name
    for name in (
        "MessageNew",
        "MessageExpunge",
        "FlagChange",
        "MailboxName",
        "SubscriptionChange",
        "MailboxMetadataChange",
        "ServerMetadataChange",
    )
}
_OF_MESSAGES = frozenset(("MessageNew", "MessageExpunge", "FlagChange"))
SELECTED = ("SELECTED", "SELECTED-DELAYED")
_PLAIN = (*SELECTED, "INBOXES", "PERSONAL", "SUBSCRIBED")
_NAMED = ("SUBTREE", "MAILBOXES")


@dataclass(frozen=True, slots=True)
class Group:
    """Mailboxes, and the events that are wanted of them."""

    kind: str  # a word of filter-mailboxes, in capitals
    names: tuple[str, ...] = ()
    events: frozenset[str] = frozenset()
    request: FetchRequest | None = None  # what is to be told of new messages in the selected mailbox

    @property
    def is_selected(self) -> bool:
        """Is it about the selected mailbox?"""
        return self.kind in SELECTED

    @property
    def wants_messages(self) -> bool:
        """Does it want events of messages?"""
        return not self.events.isdisjoint(_OF_MESSAGES)


@dataclass(frozen=True, slots=True)
class Notify:
    """NOTIFY; no groups: NONE"""

    groups: tuple[Group, ...] = ()
    status: bool = False  # the state of the mailboxes is to be told at once


@dataclass(frozen=True, slots=True)
class BadEvent:
    """NOTIFY with an event that we do not know: answered NO [BADEVENT]"""


def notify(cursor: Cursor) -> Notify | BadEvent:
    """notify = "NOTIFY" SP ("SET" [SP "STATUS"] SP event-group *(SP event-group) / "NONE")"""
    cursor.space()
    word = cursor.word()
    if word == b"NONE":
        cursor.end()
        return Notify()
    if word != b"SET":
        raise BadSyntax("expected SET or NONE")
    cursor.space()
    status = cursor.peek() != b"("
    if status:
        if cursor.word() != b"STATUS":
            raise BadSyntax("expected STATUS or a group of events")
        cursor.space()
    reader = _Reader(cursor)
    groups = [reader.group()]
    while cursor.skip_space():
        if len(groups) >= MAX_GROUPS:
            raise BadSyntax(f"more than {MAX_GROUPS} groups of events")
        groups.append(reader.group())
    cursor.end()
    if sum(group.is_selected for group in groups) > 1:
        raise BadSyntax("the selected mailbox stands in one group only")
    return BadEvent() if reader.unknown else Notify(tuple(groups), status)


class _Reader:
    def __init__(self, cursor: Cursor) -> None:
        self.unknown = False
        self._cursor = cursor
        self._names = MAX_NAMES
        self._request: FetchRequest | None = None

    def group(self) -> Group:
        """event-group = "(" filter-mailboxes SP events ")" """
        cursor = self._cursor
        cursor.expect(b"(")
        kind = cursor.word().decode()
        names: list[str] = []
        if kind in _NAMED:
            cursor.space()
            names = cursor.items(cursor.mailbox, self._names) if cursor.peek() == b"(" else [cursor.mailbox()]
            self._names -= len(names)
            if self._names < 0:
                raise BadSyntax(f"more than {MAX_NAMES} mailboxes")
        elif kind not in _PLAIN:
            raise BadSyntax("mailboxes that we do not know how to watch")
        cursor.space()
        events = self._events(kind in SELECTED)
        cursor.expect(b")")
        return Group(kind, tuple(names), events, self._request)

    def _events(self, selected: bool) -> frozenset[str]:
        """events = ( "(" event *(SP event) ")" ) / "NONE" """
        cursor = self._cursor
        self._request = None
        if cursor.peek() != b"(":
            if cursor.word() != b"NONE":
                raise BadSyntax("expected events or NONE")
            return frozenset()
        events = frozenset(cursor.items(lambda: self._event(selected), 20)) - {""}
        new, gone = "MessageNew" in events, "MessageExpunge" in events
        if new != gone or ("FlagChange" in events and not new):
            raise BadSyntax("MessageNew and MessageExpunge come together, and FlagChange with them")
        return events

    def _event(self, selected: bool) -> str:
        cursor = self._cursor
        name = EVENTS.get(cursor.atom().upper().decode("ascii", "replace"))
        if name is None:
            self.unknown = True
            return ""
        if selected and name not in _OF_MESSAGES:
            raise BadSyntax("of the selected mailbox there are events of messages only")
        if name == "MessageNew" and cursor.text[cursor.at : cursor.at + 2] == b" (":
            if not selected:
                raise BadSyntax("what is told of new messages is for the selected mailbox only")
            cursor.space()
            self._request = fetch_atts(cursor)
        return name

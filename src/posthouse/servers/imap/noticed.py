"""What NOTIFY says of other mailboxes (RFC 5465 section 5): a batch of changes becomes responses, in one reading
transaction. Which mailbox a client watches is decided here by names, as they are now: nothing is kept of it.

Nobody is told of a mailbox that he may not see, and of the state of one that he may not read.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from posthouse.imap import replies
from posthouse.imap.commands.notify import Group
from posthouse.imap.names import SEPARATOR
from posthouse.servers.imap import access
from posthouse.servers.imap.list import attributes_of
from posthouse.store import acl, mailboxes
from posthouse.store.acl import ALL
from posthouse.store.database import Tx
from posthouse.store.model import Mailbox

MESSAGES, FLAGS = 1, 2  # what happened to messages


class Renamed(NamedTuple):
    """A mailbox is there, is gone, or has another name: names as the owner has them."""

    owner_id: int
    mailbox_id: int
    name: str
    old: str = ""
    access: bool = False  # it is about who may see it


class Annotated(NamedTuple):
    """Entries of a mailbox, or (0) of the server, were set."""

    mailbox_id: int
    entries: tuple[str, ...]


class Batch:
    """Changes that wait to be told, each mailbox once."""

    __slots__ = ("annotated", "messages", "names", "subscriptions")

    def __init__(self) -> None:
        self.messages: dict[int, int] = {}  # mailbox id: MESSAGES, FLAGS
        self.names: dict[Renamed, None] = {}
        self.subscriptions: dict[str, None] = {}
        self.annotated: dict[Annotated, None] = {}

    def __len__(self) -> int:
        return len(self.messages) + len(self.names) + len(self.subscriptions) + len(self.annotated)


class Reader(NamedTuple):
    """Who is told, and how."""

    account_id: int
    groups: tuple[Group, ...]  # those that are not about the selected mailbox
    condstore: bool
    utf8: bool


def wanted(groups: Iterable[Group], name: str, own: bool, subscribed: frozenset[str]) -> frozenset[str]:
    """The events that a client wants to hear of about a mailbox of this name."""
    events: set[str] = set()
    for group in groups:
        match group.kind:
            case "PERSONAL" | "INBOXES":  # filters may put mail anywhere (RFC 5465 section 6.3)
                applies = own
            case "SUBSCRIBED":
                applies = name in subscribed
            case "MAILBOXES":
                applies = name in group.names
            case _:
                applies = any(not top or name == top or name.startswith(top + SEPARATOR) for top in group.names)
        if applies:
            events |= group.events
    return frozenset(events)


class _View:
    """The mailboxes as one account sees them."""

    def __init__(self, tx: Tx, reader: Reader) -> None:
        self.tx = tx
        self.reader = reader
        self.subscribed = frozenset(mailboxes.subscriptions(tx, reader.account_id))
        self._owners: dict[int, str] = {}
        self._shared: list[str] | None = None

    def shown(self, owner_id: int, name: str) -> str:
        """A name as this account sees it; "" of nobody's."""
        if owner_id == self.reader.account_id:
            return name
        if owner_id not in self._owners:
            self._owners[owner_id] = acl.name_of(self.tx, owner_id)
        return access.shown(self._owners[owner_id], name) if self._owners[owner_id] else ""

    def rights(self, mailbox: Mailbox) -> frozenset[str]:
        return acl.rights(self.tx, self.reader.account_id, mailbox)

    def events(self, owner_id: int, shown: str) -> frozenset[str]:
        return wanted(self.reader.groups, shown, owner_id == self.reader.account_id, self.subscribed)

    def has_children(self, owner_id: int, name: str) -> bool:
        if owner_id == self.reader.account_id:
            return mailboxes.has_children(self.tx, owner_id, name)
        if self._shared is None:
            found = acl.shared_with(self.tx, self.reader.account_id)
            self._shared = [access.shown(one.owner, one.mailbox.name) for one in found if "l" in one.rights]
        prefix = self.shown(owner_id, name) + SEPARATOR
        return any(one.startswith(prefix) for one in self._shared)

    def list_line(self, owner_id: int, name: str, old: str = "", subscribed: bool = False) -> bytes:
        """The LIST response for a name, whether there is such a mailbox for this account or not."""
        utf8 = self.reader.utf8
        mailbox = mailboxes.by_name(self.tx, owner_id, name)
        attributes = []
        if mailbox is None or "l" not in self.rights(mailbox):
            mailbox = None
            attributes.append(b"\\NonExistent")
        has_children = self.has_children(owner_id, name)
        if has_children or mailbox is not None:
            attributes.append(b"\\HasChildren" if has_children else b"\\HasNoChildren")
        shown = self.shown(owner_id, name)
        if subscribed and shown in self.subscribed:
            attributes.append(b"\\Subscribed")
        if mailbox is not None and owner_id == self.reader.account_id:
            attributes += attributes_of(mailbox)
        extended = b'("OLDNAME" (%b))' % replies.mailbox(self.shown(owner_id, old), utf8) if old else b""
        return replies.list_item(b"LIST", attributes, shown, utf8, extended)


def lines(tx: Tx, reader: Reader, batch: Batch) -> list[bytes]:
    """The responses, whole lines; each once."""
    view = _View(tx, reader)
    found: dict[bytes, None] = {}
    for made in (_names(view, batch), _subscriptions(view, batch), _annotations(view, batch), _messages(view, batch)):
        found.update((b"* %b\r\n" % line, None) for line in made)
    return list(found)


def _messages(view: _View, batch: Batch) -> Iterator[bytes]:
    for mailbox_id, happened in batch.messages.items():
        mailbox = mailboxes.by_id(view.tx, mailbox_id)
        if mailbox is None or not view.rights(mailbox).issuperset("lr"):
            continue
        shown = view.shown(mailbox.account_id, mailbox.name)
        events = view.events(mailbox.account_id, shown)
        new = bool(happened & MESSAGES) and "MessageNew" in events
        flags = bool(happened & FLAGS) and "FlagChange" in events
        if new or flags:
            yield _status(view, mailbox, shown, new, flags)


def _status(view: _View, mailbox: Mailbox, shown: str, new: bool, flags: bool, at_once: bool = False) -> bytes:
    """STATUS, as sections 3.1 (`at_once`), 5.1 and 5.2 want it."""
    items: list[tuple[bytes, int | bytes]] = []
    if new:
        items += [(b"UIDNEXT", mailbox.uidnext), (b"MESSAGES", mailbox.messages)]
    if flags or at_once:
        items.append((b"UIDVALIDITY", mailbox.uidvalidity))
    if flags:
        items.append((b"UNSEEN", mailbox.unseen))
    if view.reader.condstore or (flags and at_once):
        items.append((b"HIGHESTMODSEQ", mailbox.highestmodseq))
    return replies.status_item(shown, view.reader.utf8, items)


def _names(view: _View, batch: Batch) -> Iterator[bytes]:
    for one in batch.names:
        foreign = one.owner_id != view.reader.account_id
        shown = view.shown(one.owner_id, one.name)
        if not shown:
            continue
        if foreign and not one.access:
            # Who sees it come and go is told of that: here only another name matters.
            mailbox = mailboxes.by_id(view.tx, one.mailbox_id)
            if not one.old or mailbox is None or "l" not in view.rights(mailbox):
                continue
        before = view.shown(one.owner_id, one.old) if one.old else shown
        if "MailboxName" in view.events(one.owner_id, shown) | view.events(one.owner_id, before):
            yield view.list_line(one.owner_id, one.name, one.old)
        above = one.name.rpartition(SEPARATOR)[0]
        if above and not one.old and "MailboxName" in view.events(one.owner_id, view.shown(one.owner_id, above)):
            yield view.list_line(one.owner_id, above)  # section 5.4: it is affected too


def _subscriptions(view: _View, batch: Batch) -> Iterator[bytes]:
    for name in batch.subscriptions:
        where = access.place(view.tx, view.reader.account_id, name)
        # Who watches what is subscribed hears of it too when that ends.
        subscribed = view.subscribed | {name}
        own = access.owner_of(name) is None
        if where is not None and "SubscriptionChange" in wanted(view.reader.groups, name, own, subscribed):
            yield view.list_line(where.owner_id, where.name, subscribed=True)


def _annotations(view: _View, batch: Batch) -> Iterator[bytes]:
    for one in batch.annotated:
        if not one.mailbox_id:
            if any("ServerMetadataChange" in group.events for group in view.reader.groups):
                yield _changed_entries(b'""', one.entries)
            continue
        mailbox = mailboxes.by_id(view.tx, one.mailbox_id)
        if mailbox is None or not access.NEEDS["GETMETADATA"].is_met(view.rights(mailbox)):
            continue
        shown = view.shown(mailbox.account_id, mailbox.name)
        if "MailboxMetadataChange" in view.events(mailbox.account_id, shown):
            yield _changed_entries(replies.mailbox(shown, view.reader.utf8), one.entries)


def _changed_entries(name: bytes, entries: Iterable[str]) -> bytes:
    """METADATA without values (RFC 5464 section 4.4.2)."""
    return b"METADATA %b %b" % (name, b" ".join(replies.astring(entry.encode()) for entry in entries))


class Start(NamedTuple):
    """What NOTIFY SET finds."""

    owners: frozenset[int]  # whose mailboxes may matter
    lines: list[bytes]
    mailboxes: int  # how many there are to be told of


def begin(tx: Tx, reader: Reader, status: bool, selected: int, most: int) -> Start:
    """Whose changes to listen to; and, with `status`, the state of the mailboxes that are watched, at most of `most`
    (section 3.1). The selected one is not among them."""
    view = _View(tx, reader)
    owners = {reader.account_id}
    everything = [(mailbox, mailbox.name, ALL) for mailbox in mailboxes.list_all(tx, reader.account_id)]
    for one in acl.shared_with(tx, reader.account_id):
        owners.add(one.mailbox.account_id)
        if "l" in one.rights:
            everything.append((one.mailbox, access.shown(one.owner, one.mailbox.name), one.rights))
    found, count = [], 0
    for mailbox, shown, rights in everything:
        events = view.events(mailbox.account_id, shown)
        if not events:
            continue
        if "r" not in rights:
            item = replies.list_item(b"LIST", [b"\\NoAccess"], shown, reader.utf8)
            found.append(b"* %b\r\n" % item)
        elif status and "MessageNew" in events and mailbox.id != selected:
            count += 1
            if count <= most:
                item = _status(view, mailbox, shown, True, "FlagChange" in events, at_once=True)
                found.append(b"* %b\r\n" % item)
    return Start(frozenset(owners), found, count)

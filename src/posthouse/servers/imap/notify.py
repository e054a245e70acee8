"""NOTIFY: a session that hears of changes at any time (RFC 5465), also between commands.

Of the selected mailbox `session.tell` says what happened, as far as it is wanted; new messages with the items that the
client asked for follow here. Changes of other mailboxes gather in a batch while a command is under way or the client
does not read, and become responses in `noticed.py`. What waits is bounded: beyond that nothing is told any more, and
the client knows (NOTIFICATIONOVERFLOW). An idle client costs its groups of events, and no task.
"""

import asyncio
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING

from posthouse.base.errors import Temporary
from posthouse.imap import fetch as compiled
from posthouse.imap import numbers, replies
from posthouse.imap.commands.fetch import FetchRequest
from posthouse.imap.commands.notify import EVENTS, BadEvent, Group, Notify
from posthouse.imap.names import SEPARATOR
from posthouse.servers.imap import access, noticed
from posthouse.servers.imap.fetch import render
from posthouse.servers.imap.noticed import FLAGS, MESSAGES, Annotated, Batch, Reader, Renamed
from posthouse.store.model import (
    AccessChanged,
    AnnotationsChanged,
    Change,
    EntriesAdded,
    EntriesExpunged,
    FlagsChanged,
    MailboxesChanged,
    SubscriptionChanged,
)

if TYPE_CHECKING:
    from posthouse.servers.imap.session import ImapSession

MAX_WAITING = 1000  # changes, and new messages, that were not told yet
MAX_STATUS = 2000  # mailboxes whose state is told at once
MAX_OWNERS = 200  # of mailboxes that are watched
AT_ONCE = 50  # new messages told in one go
TRIES = 10  # to read them while no sequence number changes; then the client may fetch them itself

_BAD_EVENT = replies.no("An event that we do not know", b"BADEVENT (%b)" % " ".join(EVENTS.values()).encode())
_TOO_MUCH = replies.no("That is too much to be watched: name fewer mailboxes", b"NOTIFICATIONOVERFLOW")
_OVERFLOW = b"OK [NOTIFICATIONOVERFLOW] More happened than can be told: nothing more will be"


class Notifier:
    """What one session is told."""

    __slots__ = ("_batch", "_ends", "_lock", "_new", "_overflown", "_session", "groups", "selected")

    def __init__(self, session: "ImapSession", groups: tuple[Group, ...] = ()) -> None:
        self._session = session
        self.selected = next((group for group in groups if group.is_selected), None)
        self.groups = tuple(group for group in groups if not group.is_selected and group.events)
        self._batch = Batch()
        self._new: list[int] = []  # UIDs of the selected mailbox that are to be told with items
        self._ends: list[Callable[[], None]] = []
        self._lock = asyncio.Lock()
        self._overflown = False  # and the client does not know yet

    # The selected mailbox

    @property
    def messages(self) -> bool:
        """Are new and expunged messages of the selected mailbox wanted?"""
        return self.selected is not None and self.selected.wants_messages

    @property
    def flags(self) -> bool:
        """Are changes of flags there?"""
        return self.selected is not None and "FlagChange" in self.selected.events

    @property
    def at_once(self) -> bool:
        """Is the selected mailbox told of between commands?"""
        return self.selected is not None and bool(self.selected.events)

    @property
    def expunges_at_once(self) -> bool:
        """May sequence numbers change at any time?"""
        return self.selected is not None and self.selected.kind == "SELECTED"

    def told_of(self, uids: Sequence[int]) -> None:
        """The client was told how many messages there are: these are new."""
        if self.selected is not None and self.selected.request is not None:
            self._new += uids
            if len(self._new) > MAX_WAITING:
                self._overflow()

    def forget_selected(self) -> None:
        """Another mailbox, or none, is selected."""
        self._new.clear()

    # Others

    def listen(self, owners: frozenset[int]) -> None:
        """Hear of the changes of these accounts, and no others."""
        self.end()
        watches = self._session.service.watches
        for owner_id in sorted(owners | {0}):
            self._ends.append(watches.listen(owner_id, self._changed))

    def end(self) -> None:
        """Hear of nothing."""
        ends, self._ends = self._ends, []
        for end in ends:
            end()

    def _changed(self, changes: list[Change]) -> None:
        session, batch = self._session, self._batch
        selected = session.watch.mailbox_id if session.watch is not None else 0
        reader_id = session.login_id
        for change in changes:
            match change:
                case EntriesAdded() | EntriesExpunged():
                    if change.mailbox_id != selected:
                        batch.messages[change.mailbox_id] = batch.messages.get(change.mailbox_id, 0) | MESSAGES
                case FlagsChanged():
                    if change.mailbox_id != selected:
                        batch.messages[change.mailbox_id] = batch.messages.get(change.mailbox_id, 0) | FLAGS
                case MailboxesChanged():
                    if change.name:
                        batch.names[Renamed(change.account_id, change.mailbox_id, change.name, change.old)] = None
                case AccessChanged():
                    if change.owner_id != reader_id:
                        seen = Renamed(change.owner_id, change.mailbox_id, change.name, access=True)
                        batch.names[seen] = None
                        session.service.in_background(self._attach())
                case SubscriptionChanged():
                    if change.account_id == reader_id:
                        batch.subscriptions[change.name] = None
                case AnnotationsChanged():
                    own = change.mailbox_id or change.account_id == reader_id
                    if own and change.reader_id in (0, reader_id):
                        batch.annotated[Annotated(change.mailbox_id, change.entries)] = None
        if len(batch) > MAX_WAITING:
            self._overflow()
        else:
            self.tell_soon()

    def did(self, name: str) -> None:
        """The command under way made, removed, renamed or subscribed this itself: the client need not be told
        (section 5). `name` is as the client sees it."""
        name = access.canonical(name)
        inner = name.split(SEPARATOR, 2)[-1] if access.owner_of(name) is not None else name
        self._batch.subscriptions.pop(name, None)
        for one in [one for one in self._batch.names if inner == one.name or inner.startswith(one.name + SEPARATOR)]:
            del self._batch.names[one]

    def set_entries(self, entries: Collection[str]) -> None:
        """The command under way set these annotations."""
        for one in [one for one in self._batch.annotated if set(one.entries) <= set(entries)]:
            del self._batch.annotated[one]

    async def _attach(self) -> None:
        """Somebody shares a mailbox, or does so no more."""
        try:
            start = await self._session.service.database.read(noticed.begin, self._reader(), False, 0, 0)
        except Temporary:
            return
        if self._session.notifier is self and self._ends:
            self.listen(start.owners)

    def _reader(self) -> Reader:
        session = self._session
        return Reader(session.login_id, self.groups, session.engine.condstore, session.engine.utf8)

    def _overflow(self) -> None:
        """Nothing is told from now on, as if NOTIFY NONE had been said (section 5.8)."""
        self.end()
        self.selected, self.groups, self._batch = None, (), Batch()
        self._new.clear()
        self._overflown = True
        self.tell_soon()

    # Telling

    def tell_soon(self) -> None:
        """Say what waits, if the client listens; else it waits until it does."""
        session = self._session
        idle = not session.engine.answering and not session.connection.is_blocked
        if idle and self._overflown and not session.torn:
            self._overflown = False
            session.engine.untagged(_OVERFLOW)
            session.connection.wake()
        if idle and (self._new or len(self._batch)) and not self._lock.locked():
            session.service.in_background(self._tell())

    async def _tell(self) -> None:
        async with self._lock:
            while self._session.notifier is self and not self._session.connection.is_closing:
                if self._session.torn or self._session.connection.is_blocked:
                    return
                if self._new:
                    uids, self._new = self._new[:AT_ONCE], self._new[AT_ONCE:]
                    if not await self._tell_new(uids):
                        return
                elif len(self._batch):
                    batch, self._batch = self._batch, Batch()
                    if not await self._tell_batch(batch):
                        return
                else:
                    return

    async def _tell_new(self, uids: list[int]) -> bool:
        group = self.selected
        if group is None or group.request is None:
            return True
        try:
            said = await new_messages(self._session, group.request, uids)
        except Temporary:
            return True
        if said is None:
            self._new[:0] = uids
            return False
        if said:
            self._session.engine.raw(said)
            self._session.connection.wake()
        return True

    async def _tell_batch(self, batch: Batch) -> bool:
        session = self._session
        try:
            lines = await session.service.database.read(noticed.lines, self._reader(), batch)
        except Temporary:
            return True
        if session.notifier is self and lines:
            if session.torn:
                self._again(batch)
                return False
            session.engine.raw(b"".join(lines))
            session.connection.wake()
        return True

    def _again(self, batch: Batch) -> None:
        """There was no place for it: it waits with what came meanwhile."""
        for mailbox_id, happened in self._batch.messages.items():
            batch.messages[mailbox_id] = batch.messages.get(mailbox_id, 0) | happened
        batch.names.update(self._batch.names)
        batch.subscriptions.update(self._batch.subscriptions)
        batch.annotated.update(self._batch.annotated)
        self._batch = batch


async def new_messages(session: "ImapSession", request: FetchRequest, uids: Sequence[int]) -> bytes | None:
    """FETCH responses for messages of the selected mailbox that the client was told of. Sequence numbers must not
    change while they are read, so it is done again if they did; None: there is no place for them now.

    A message with a value of more than 256 KiB is told without its sections: the client may fetch them.
    """
    manner = session.engine.manner
    plan = compiled.compile_fetch(request, manner)
    plain = compiled.compile_fetch(FetchRequest(request.items or (b"UID", b"FLAGS")), manner)
    read = session.service.database.read
    for _ in range(TRIES):
        view, watch = session.view, session.watch
        if view is None or watch is None:
            break
        if session.torn:
            return None
        shared, out = view.shared, []
        recent = [] if session.engine.rev2 else list(view.recent)
        for low, high in view.find_uids(numbers.runs(uids)):
            step = 1 if plan.sections or plan.listed >= 0 else high - low
            for number in range(low, high, step):
                one = view.slice(number, number + step)
                found = await read(render, watch.mailbox_id, plan, one, number + 1, recent, frozenset())
                if found.section or not all(isinstance(piece, bytes) for piece in found.pieces):
                    found = await read(render, watch.mailbox_id, plain, one, number + 1, recent, frozenset())
                watch.learn(found.keywords)
                out += [piece for piece in found.pieces if isinstance(piece, bytes)]
        if session.view is view and view.shared is shared and not session.torn:
            return b"".join(out)
    return b""


async def notify(session: "ImapSession", event: Notify) -> None:
    groups = tuple(
        Group(group.kind, tuple(map(access.canonical, group.names)), group.events, group.request)
        for group in event.groups
    )
    notifier = Notifier(session, groups)
    try:
        told = await _begin(session, notifier, event)
    except BaseException:
        notifier.end()
        raise
    if not told or session.is_gone:
        notifier.end()
    if session.is_gone:
        return
    if session.notifier is not None:
        session.notifier.end()
    if not told:
        if session.notifier is not None:
            session.notifier = Notifier(session)
        session.done_with(_TOO_MUCH)
        return
    session.tell()  # as a NOOP would (section 3.1), and for the last time as it was
    session.notifier = notifier
    session.done("NOTIFY completed")


async def _begin(session: "ImapSession", notifier: Notifier, event: Notify) -> bool:
    """Listen, and tell how things stand; False: that is too much."""
    if notifier.groups:
        selected = session.watch.mailbox_id if session.watch is not None else 0
        notifier.listen(frozenset((session.account_id,)))  # so that nothing is missed between reading and listening
        start = await session.service.database.read(
            noticed.begin, notifier._reader(), event.status, selected, MAX_STATUS
        )
        if start.mailboxes > MAX_STATUS or len(start.owners) > MAX_OWNERS:
            return False
        if not session.is_gone:
            notifier.listen(start.owners)
        for at in range(0, len(start.lines), 500):
            await session.send(b"".join(start.lines[at : at + 500]))
    return True


def bad_event(session: "ImapSession", _: BadEvent) -> None:
    session.done_with(_BAD_EVENT)

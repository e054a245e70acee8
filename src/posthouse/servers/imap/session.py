"""One IMAP connection: events of the engine in, answers out. The commands are in the files beside this one.

`tell` is the one place where changes by others become responses; it is called when a command ends, and at once
during IDLE. Expunges wait while FETCH, STORE and SEARCH by number are under way (RFC 9051 section 7.5.1): `done`
takes that as an argument. The feed fills the view at any time; numbers and UIDs only move in `tell`.

Whatever goes wrong unexpectedly is answered NO [SERVERBUG] with the session's id and logged in one line; the
connection goes on, unless a response was cut short: then it closes, as nothing after it could be understood.
"""

import asyncio
from array import array
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

from posthouse.auth.exchange import Exchange
from posthouse.auth.login import Login
from posthouse.base import ids
from posthouse.base.errors import AlreadyExists, NotFound, OverQuota, Permanent, StorageFull, Temporary
from posthouse.imap import replies
from posthouse.imap.flags import flag_text
from posthouse.imap.numbers import Ranges, SequenceSet
from posthouse.imap.replies import Status
from posthouse.imap.server import ImapServer
from posthouse.imap.view import View
from posthouse.net.connection import Connection
from posthouse.servers.imap import access
from posthouse.servers.imap.append import Gathering, PutOff, forget
from posthouse.servers.imap.contexts import Contexts, refresh, tell_gone
from posthouse.servers.imap.notify import Notifier
from posthouse.servers.imap.shared import Shared
from posthouse.servers.imap.watches import Watch
from posthouse.store import mailboxes as stored_mailboxes
from posthouse.store.acl import ALL, NONE
from posthouse.store.model import AclChanged, Change, EntriesAdded, EntriesExpunged, FlagsChanged

T = TypeVar("T")

_NOTHING = array("I")
TOGETHER = 64 * 1024  # octets of the last piece of an answer that go out with the end of the command
_NOTHING_HELD: list[tuple[Status, bool]] = []  # never added to
# For each event of the engine the function that answers it.
Handlers = Mapping[type, Callable[["ImapSession", Any], Awaitable[None] | None]]


class ImapSession:
    """One connection."""

    __slots__ = (
        "_handlers",
        "_held",
        "_holding",
        "_log_off",
        "_modseq_told",
        "_new_keywords",
        "_new_rights",
        "_review_due",
        "_reviewed",
        "connection",
        "contexts",
        "engine",
        "exchange",
        "gathering",
        "id",
        "is_gone",
        "login",
        "notifier",
        "put_off",
        "read_only",
        "revoked",
        "rights",
        "saved",
        "service",
        "storing",
        "torn",
        "view",
        "watch",
    )

    def __init__(self, service: Shared, connection: Connection, handlers: Handlers) -> None:
        self.service = service
        self.connection = connection
        self._handlers = handlers
        self.engine = ImapServer(service.options, service.secure)
        self.id = ids.to_text(service.ids.next(service.clock.now()))
        self.login: Login | None = None
        self.exchange: Exchange | None = None
        self.view: View | None = None
        self.watch: Watch | None = None
        self.read_only = False
        self.rights = ALL  # in the selected mailbox
        self.revoked = False  # it may not be read any more
        self._review_due = self._reviewed = 0  # how often they changed, and up to which change they are known
        self.saved = _NOTHING  # UIDs that "$" stands for
        self.gathering: Gathering | None = None  # the messages of an APPEND under way
        self.put_off: list[PutOff] = []  # those of commands that are complete and not stored yet
        self.storing: asyncio.Task[None] | None = None  # some of them are just being stored
        self.notifier: Notifier | None = None  # what NOTIFY asked for; None: it was never said
        self.contexts: Contexts | None = None  # results that are kept up to date
        self._holding = False  # the end of the command waits for them
        self._held = _NOTHING_HELD  # and this is it: status, and whether expunges may be told
        self._log_off: Callable[[], None] | None = None
        self._new_keywords = False
        self._new_rights = False
        self._modseq_told = False  # the client of a mailbox that is open was told where it stands
        self.is_gone = False  # nobody would let go of what is taken from now on
        self.torn = False  # a response was begun and is not at its end

    # The connection's side

    def start(self) -> None:
        patience = self.service.settings.limits.login_timeout
        self.connection.set_timeout(patience)
        self.engine.certified = self.connection.certificate is not None
        self.connection.set_limit(3 * patience)  # whatever is said in between
        self.engine.greet(self.service.settings.hostname)

    def handle(self, event: Any) -> Awaitable[None] | None:
        if self._reviewed != self._review_due:
            return self._handle_reviewed(event)
        return self._handle(event)

    async def _handle_reviewed(self, event: Any) -> None:
        """No command is served on rights that are known to have changed."""
        await self.review()
        self.part()
        if not self.engine.closed:
            waiting = self._handle(event)
            if waiting is not None:
                await waiting

    def _handle(self, event: Any) -> Awaitable[None] | None:
        if self.contexts is not None:
            return self._handle_updating(event)
        return self._handlers[type(event)](self, event)

    async def _handle_updating(self, event: Any) -> None:
        """Before the command ends, its changes to results that are kept up to date are told."""
        self._holding, self._held = True, []
        try:
            waiting = self._handlers[type(event)](self, event)
            if waiting is not None:
                await waiting
        finally:
            self._holding = False
        for _, expunges in self._held:
            self.tell(expunges)
        await refresh(self)
        for status, _ in self._held:
            self._end(status)

    def failed(self, error: Exception) -> None:
        if self.is_gone:
            self.forget_append()
            self.service.log.debug("imap.gone", session=self.id, error=repr(error))
            return
        status = self.status_of(error)
        self.forget_append()
        if self.torn:
            self.connection.abort()
        elif self.engine.answering:
            self.done_with(status, expunges=False)

    def status_of(self, error: Exception) -> Status:
        """What the client is told of an error; one that means nothing to it is logged."""
        status = _status(error)
        if status is None:
            status = replies.failure(self.id)
            self.service.log.error(
                "imap.failed", session=self.id, ip=self.connection.peer[0], login=self.name, error=repr(error)
            )
        return status

    def resumed(self) -> None:
        """The client reads again: in IDLE it hears what came meanwhile (RFC 2177)."""
        if self.tells_at_once:
            self.tell(self.engine.idling or self.expunges_at_once)
        if self.notifier is not None:
            self.notifier.tell_soon()

    def timed_out(self) -> None:
        self.engine.bye(replies.TOO_LATE)

    def shutdown(self) -> None:
        self.engine.bye(replies.GOING_DOWN)

    def closed(self) -> None:
        self.service.log.debug("imap.closed", session=self.id, ip=self.connection.peer[0], login=self.name)
        self.forget_append()
        for one in self.put_off:
            forget(self, one.gathering)
        self.leave()
        self.logged_out()
        self.is_gone = True

    # For the commands

    def logged_in(self, login: Login) -> None:
        """The connection is an account's from now on."""
        self.login = login
        if self.connection.is_closing:
            return  # it went while we looked: nobody would log it out
        self._log_off = self.service.logins.enter(login, self.connection.drain_and_close)

    def logged_out(self) -> None:
        """The connection is nobody's from now on."""
        if self.notifier is not None:
            self.notifier.end()
            self.notifier = None
        if self._log_off is not None:
            self._log_off()
        self.login = self._log_off = None

    @property
    def name(self) -> str:
        """The account's name, "" before login."""
        return self.login.name if self.login is not None else ""

    @property
    def login_id(self) -> int:
        """The account, 0 before login."""
        return self.login.account_id if self.login is not None else 0

    @property
    def account_id(self) -> int:
        """The account; only after login."""
        assert self.login is not None
        return self.login.account_id

    @property
    def selected(self) -> tuple[View, Watch]:
        """The selected mailbox; only in commands of that state."""
        assert self.view is not None
        assert self.watch is not None
        return self.view, self.watch

    @property
    def owns_selected(self) -> bool:
        """Is the selected mailbox the account's own?"""
        return self.watch is not None and self.watch.account_id == self.login_id

    def done(self, text: str, code: bytes = b"", expunges: bool = True) -> None:
        """The command is done: tell what happened meanwhile, then OK."""
        self.done_with(replies.ok(text, code), expunges)

    def done_with(self, status: Status, expunges: bool = True) -> None:
        """The command is over: tell what happened meanwhile, then say so."""
        if self._holding:
            self._held.append((status, expunges))
            return
        self.tell(expunges)
        self._end(status)

    def with_modseq(self, status: Status) -> Status:
        """The end of a command; it keeps a QRESYNC client from taking its cache for newer than it is."""
        modseq = self.view.modseq_to_say() if self.engine.qresync and self.view is not None else 0
        if not modseq:
            return status
        code = replies.highest_modseq(modseq)
        if not status.code:
            return status._replace(code=code)
        self.engine.untagged(b"OK [%b] So far the state of the mailbox is known" % code)
        return status

    def _end(self, status: Status) -> None:
        status = self.with_modseq(status)
        if status.condition == b"OK":
            self.engine.ok(status.text, status.code)
        else:
            self.engine.no(status)
        self.part()
        self.catch_up()

    def did(self, name: str) -> None:
        """The command made, removed, renamed or subscribed a mailbox: NOTIFY tells others of that."""
        if self.notifier is not None:
            self.notifier.did(name)

    def catch_up(self) -> None:
        """After a command: what NOTIFY says at any time, and could not be said while it was under way."""
        if self.notifier is None:
            return
        if self.tells_at_once and self.expunges_at_once:
            self.tell()
        self.notifier.tell_soon()

    @property
    def tells_at_once(self) -> bool:
        """Is the client told of the selected mailbox as soon as something happens there?"""
        if self.engine.idling:
            return True
        return self.notifier is not None and self.notifier.at_once and not self.engine.answering

    @property
    def expunges_at_once(self) -> bool:
        """Does that include what moves sequence numbers?"""
        return self.notifier is not None and self.notifier.expunges_at_once

    def may(self, command: str) -> bool:
        """Do the rights in the selected mailbox suffice for a command of `access.NEEDS`?"""
        return access.NEEDS[command].is_met(self.rights)

    def part(self) -> None:
        """Say goodbye if the selected mailbox is not there for this client any more."""
        if self.watch is not None and (self.watch.deleted or self.revoked):
            self.engine.bye(replies.DELETED if self.watch.deleted else replies.REVOKED)

    def find(self, wanted: SequenceSet, uid: bool) -> Ranges | None:
        """Index ranges in the view; None, and already answered, if the set names what is not there."""
        view, _ = self.selected
        found = view.find(wanted, uid, self.saved)
        if found is None:
            self.done_with(replies.NO_SUCH_MESSAGE, expunges=False)
        return found

    async def send(self, data: bytes, unfinished: bool = False, last: bool = False) -> None:
        """Send a piece of a large answer, and wait until the client has taken most of what was sent.

        `unfinished`: it ends within a response, so nothing but the rest of it may follow. `last`: the end of the
        command follows at once, so a small piece goes out together with it. Ends the command, and the connection, if
        the selected mailbox may not be read any more."""
        if self._reviewed != self._review_due:
            await self.review()
        if self.revoked:
            if self.torn:
                self.connection.abort()
            self.part()
            self.connection.flush()
            raise ConnectionResetError("the mailbox is shared no more")
        self.torn = unfinished
        self.engine.raw(data)
        if not last or len(data) > TOGETHER:
            await self.connection.drain()

    async def write(self, command: str, fn: Callable[..., T], *args: Any) -> T:
        """A transaction in the selected mailbox, for a command of `access.NEEDS`: whether the account may do this is
        looked at in it, so that what was queued behind the change of a right does not go by the old one."""
        database, (_, watch) = self.service.database, self.selected
        if self.owns_selected:
            return await database.write(fn, *args)
        return await database.write(access.checked, self.account_id, watch.mailbox_id, command, fn, *args)

    def forget_append(self) -> None:
        """Drop the messages that were coming in."""
        gathering, self.gathering = self.gathering, None
        if gathering is not None:
            forget(self, gathering)

    # The selected mailbox

    def enter(self, watch: Watch, read_only: bool) -> View:
        """Select a mailbox."""
        self.watch = watch
        self.read_only = read_only
        view = self.view = watch.view(read_only, rev1=not self.engine.rev2)
        self._modseq_told = False
        self.engine.selected()
        return view

    def leave(self) -> None:
        """Select nothing."""
        watch, self.watch, self.view = self.watch, None, None
        self.rights, self.revoked = ALL, False
        self._reviewed = self._review_due
        self.saved = _NOTHING
        self.contexts = None
        if self.notifier is not None:
            self.notifier.forget_selected()
        if watch is None:
            return
        self.engine.unselected()
        recent_from = self.service.watches.leave(watch, self)
        if recent_from:
            self.service.in_background(self._save_recent(watch.mailbox_id, recent_from))

    async def _save_recent(self, mailbox_id: int, uid: int) -> None:
        try:
            await self.service.database.write(stored_mailboxes.set_recent, mailbox_id, uid)
        except Temporary:
            pass  # then some messages are \Recent once more

    def changed(self, changes: Sequence[Change], new_keywords: bool) -> None:
        """The feed has changes of the selected mailbox."""
        view = self.view
        if view is None:
            return
        self._new_keywords = self._new_keywords or new_keywords
        if self.contexts is not None:
            self.contexts.note(changes)
        for change in changes:
            if isinstance(change, EntriesAdded):
                view.added(change.uids)
            elif isinstance(change, EntriesExpunged):
                view.expunged(change.uids, change.modseq)
            elif isinstance(change, FlagsChanged):
                view.flags_changed(change.rows)
            else:
                if isinstance(change, AclChanged) and self.watch is not None and self.watch.account_id != self.login_id:
                    self._review_due += 1
                    self.service.in_background(self.review())
                continue
            view.heard(change.modseq)
        if self.watch is not None and self.watch.deleted:
            self._part_soon()
        elif self.tells_at_once and not self.connection.is_blocked:
            self.tell(self.engine.idling or self.expunges_at_once)
            if self.notifier is not None:
                self.notifier.tell_soon()
            self.connection.wake()
            if self.contexts is not None:
                self.service.in_background(self._refresh_idle())

    async def _refresh_idle(self) -> None:
        """In IDLE, results that are kept up to date are so at once."""
        await refresh(self)
        self.connection.wake()

    def _part_soon(self) -> None:
        if not self.engine.answering:
            self.part()
            self.connection.wake()

    async def review(self) -> None:
        """The list of the selected mailbox changed: what may be done there now?"""
        watch = self.watch
        if watch is None or watch.account_id == self.login_id:
            return
        due = self._review_due
        try:
            rights = await self.service.database.read(access.of_mailbox, self.login_id, watch.mailbox_id)
        except Temporary:
            rights = NONE  # what is not known is not granted
        if self.watch is not watch or due < self._reviewed:
            return
        self._reviewed = due
        if rights != self.rights:
            self.rights, self._new_rights = rights, True
            self.revoked = not self.may("SELECT")
            if self.revoked:
                self._part_soon()

    def tell(self, expunges: bool = True) -> None:
        """Bring the client up to date."""
        view, watch = self.view, self.watch
        if view is None or watch is None:
            return
        self.tell_keywords()
        if self._new_rights:
            self.tell_permanent()
        if self.engine.condstore and not self._modseq_told:
            # It was enabled with the mailbox open (RFC 7162 section 3.1).
            self.tell_modseq()
        if not view.pending:
            return
        notifier = self.notifier
        messages, flags = (notifier.messages, notifier.flags) if notifier is not None else (True, True)
        expunges = expunges and messages
        if expunges and self.contexts is not None:
            tell_gone(self)
        manner = self.engine.manner
        if notifier is not None and messages:
            notifier.told_of(view.new)
        lines = view.tell(expunges, manner, watch.recent_from if manner.recent else 0, added=messages, flags=flags)
        if manner.recent and not self.read_only and view.count:
            watch.recent_from = max(watch.recent_from, view.uids[view.count - 1] + 1)
        if lines:
            self.engine.raw(b"".join(lines))
        shared = watch.shared
        if view.shared is not shared and view.count == watch.count and view.uids == shared.uids:
            view.shared = shared  # views that took different ways to the same place share one list again

    def tell_permanent(self) -> None:
        """Which flags the client may change for good."""
        self._new_rights = False
        allowed, flags = access.allowed(self.rights), b""
        if not self.read_only and self.watch is not None:
            flags = flag_text(allowed.flags, " ".join(self.watch.keywords) if allowed.keywords else "")
            flags += rb" \*" if allowed.keywords else b""
        self.engine.untagged(b"OK [PERMANENTFLAGS (%b)] Flags that are kept" % flags)

    def tell_modseq(self) -> None:
        """Say up to which change the client knows the mailbox."""
        view, _ = self.selected
        self._modseq_told = self.engine.condstore
        self.engine.untagged(b"OK [%b] The state of the mailbox" % replies.highest_modseq(view.modseq))

    def tell_keywords(self) -> None:
        """A keyword that is new in the mailbox is named before a message has it (RFC 9051 section 7.3.5)."""
        if self._new_keywords and self.watch is not None:
            self._new_keywords = False
            self.engine.untagged(b"FLAGS (%b)" % replies.flags(self.watch.keywords))


def _status(error: Exception) -> Status | None:
    """What the client is told of an error that has a meaning for it."""
    match error:
        case StorageFull():
            return replies.STORAGE_FULL
        case OverQuota():
            return replies.OVER_QUOTA
        case Temporary():
            return replies.UNAVAILABLE
        case access.Denied():
            return replies.NO_PERMISSION
        case NotFound():
            return replies.NO_SUCH_MAILBOX
        case AlreadyExists():
            return replies.MAILBOX_EXISTS
        case Permanent() if error.for_peer:
            return replies.no(error.for_peer, b"CANNOT")
    return None

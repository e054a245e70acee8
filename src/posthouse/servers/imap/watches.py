"""Mailboxes that somebody has selected: one `Watch` each, fed by the change feed, shared by its sessions.

A watch knows the UIDs as they are now, so a second SELECT reads none, and hands each batch of changes to the
sessions, whose views keep them until they may be told. The last session that leaves takes the watch away.

Between reading a mailbox and watching it nothing is lost: changes are recorded from before the read on, and what
the read has seen already is told twice, which a watch and a view do not mind.
"""

from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from posthouse.imap.view import UidList, View
from posthouse.store.feed import ChangeFeed, Listener
from posthouse.store.model import (
    AccessChanged,
    AclChanged,
    Change,
    EntriesAdded,
    EntriesExpunged,
    FlagsChanged,
    Mailbox,
    MailboxesChanged,
)
from posthouse.store.select import MAX_KEYWORDS, Opening

RECENT_KEPT = 10_000  # mailboxes


class Watcher(Protocol):
    """A session with this mailbox selected."""

    def changed(self, changes: Sequence[Change], new_keywords: bool) -> None:
        """These changes happened. Must not raise."""
        ...


class Watch:
    """One mailbox as it is now."""

    __slots__ = (
        "_keywords",
        "account_id",
        "count",
        "deleted",
        "mailbox_id",
        "modseq",
        "recent_from",
        "recent_saved",
        "sessions",
        "shared",
    )

    def __init__(self, opening: Opening) -> None:
        mailbox = opening.mailbox
        self.mailbox_id = mailbox.id
        self.account_id = mailbox.account_id
        self.shared = UidList(opening.uids if opening.uids is not None else array("I"))
        self.count = len(self.shared.uids)
        self.modseq = mailbox.highestmodseq
        self.recent_from = self.recent_saved = mailbox.recent_uid
        self.deleted = False
        self.sessions: dict[Watcher, None] = {}
        self._keywords = {word.lower(): word for word in opening.keywords}

    @property
    def uidnext(self) -> int:
        """Above all UIDs that are here."""
        return self.shared.uids[self.count - 1] + 1 if self.count else 1

    @property
    def keywords(self) -> list[str]:
        """The keywords that are, or lately were, in use; sorted."""
        return sorted(self._keywords.values())

    def view(self, read_only: bool, rev1: bool) -> View:
        """The view of a session that begins now; if it may, it takes what is \\Recent with it."""
        recent = [(self.recent_from, self.uidnext)] if rev1 and self.recent_from < self.uidnext else []
        if recent and not read_only:
            self.recent_from = self.uidnext
        return View(self.shared, self.count, self.modseq, recent)

    def apply(self, changes: Sequence[Change]) -> None:
        """Take changes of this mailbox in, and hand them to the sessions."""
        before = len(self._keywords)
        for change in changes:
            if isinstance(change, EntriesAdded):
                last = self.uidnext - 1
                new = [uid for uid in change.uids if uid > last]
                self.shared = self.shared.extend(self.count, new)
                self.count += len(new)
            elif isinstance(change, EntriesExpunged):
                gone = tuple(uid for uid in change.uids if self._has(uid))
                if gone:
                    self.shared = self.shared.without(self.count, gone)
                    self.count -= len(gone)
            elif isinstance(change, FlagsChanged):
                self._learn({row[3] for row in change.rows})
            elif isinstance(change, MailboxesChanged):
                self.deleted = self.deleted or change.deleted
                continue
            else:
                continue
            self.modseq = max(self.modseq, change.modseq)
        new_keywords = len(self._keywords) > before
        for session in list(self.sessions):
            session.changed(changes, new_keywords)

    def _learn(self, texts: Iterable[str]) -> None:
        for text in texts:
            if text and len(self._keywords) < MAX_KEYWORDS:
                for word in text.split():
                    self._keywords.setdefault(word.lower(), word)

    def learn(self, texts: Iterable[str]) -> None:
        """Keywords were seen that came in with messages: the feed does not tell of them."""
        before = len(self._keywords)
        self._learn(texts)
        if len(self._keywords) > before:
            for session in list(self.sessions):
                session.changed((), True)

    def _has(self, uid: int) -> bool:
        at = bisect_left(self.shared.uids, uid, 0, self.count)
        return at < self.count and self.shared.uids[at] == uid


class Watches:
    """All of them, by mailbox id. `in` may be asked from any thread."""

    def __init__(self, feed: ChangeFeed) -> None:
        self._feed = feed
        self._watches: dict[int, Watch] = {}
        self._accounts: dict[int, _Account] = {}
        # What is \\Recent for the next session, where the store may not know it yet: mailbox id, UID.
        self._recent: dict[int, int] = {}
        self._everybody: dict[Listener, None] = {}
        feed.subscribe(0, self._for_everybody)

    def _for_everybody(self, changes: list[Change]) -> None:
        mine: list[Change] = [change for change in changes if isinstance(change, AccessChanged)]
        for listener in list(self._everybody) if mine else ():
            listener(mine)

    def listen(self, account_id: int, listener: Listener) -> Callable[[], None]:
        """Hand all changes of an account to `listener`; of account 0 those that concern everybody. The returned
        function ends that."""
        account = self._account(account_id) if account_id else None
        listeners = self._everybody if account is None else account.listeners
        listeners[listener] = None

        def end() -> None:
            listeners.pop(listener, None)
            self._let_go(account_id)

        return end

    def __contains__(self, mailbox_id: object) -> bool:
        return mailbox_id in self._watches

    def get(self, mailbox_id: int) -> Watch | None:
        """The watch of a mailbox that somebody has selected."""
        return self._watches.get(mailbox_id)

    def review(self) -> None:
        """Another process may have changed who may use what: sessions in mailboxes of others look again."""
        for watch in list(self._watches.values()):
            watch.apply([AclChanged(watch.account_id, watch.mailbox_id, 0)])

    @contextmanager
    def recording(self, account_id: int) -> Iterator[list[Change]]:
        """Within this, the changes of an account gather in the list."""
        account = self._account(account_id)
        recorded: list[Change] = []
        account.recorders.append(recorded)
        try:
            yield recorded
        finally:
            account.recorders[:] = [other for other in account.recorders if other is not recorded]
            self._let_go(account_id)

    def enter(self, opening: Opening, recorded: Sequence[Change], session: Watcher) -> Watch:
        """Begin to watch what was read; `recorded` is what happened since the read began."""
        mailbox_id = opening.mailbox.id
        watch = self._watches.get(mailbox_id)
        if watch is None:
            watch = self._watches[mailbox_id] = Watch(opening)
            watch.recent_from = max(watch.recent_from, self._recent.get(mailbox_id, 0))
            self._account(opening.mailbox.account_id).watches[mailbox_id] = watch
            watch.apply([change for change in recorded if getattr(change, "mailbox_id", 0) == mailbox_id])
        watch.sessions[session] = None
        return watch

    def leave(self, watch: Watch, session: Watcher) -> int:
        """Stop watching. If that was the last session: the UID from which on messages are \\Recent for the next
        one, to be stored; 0: nothing is to be stored."""
        watch.sessions.pop(session, None)
        if watch.sessions or self._watches.get(watch.mailbox_id) is not watch:
            return 0
        del self._watches[watch.mailbox_id]
        self._accounts[watch.account_id].watches.pop(watch.mailbox_id, None)
        self._let_go(watch.account_id)
        if watch.deleted or watch.recent_from <= watch.recent_saved:
            return 0
        # Whoever has read the store's value already must not go by it. Each stays until many others came.
        self._recent.pop(watch.mailbox_id, None)
        self._recent[watch.mailbox_id] = watch.recent_from
        if len(self._recent) > RECENT_KEPT:
            del self._recent[next(iter(self._recent))]
        return watch.recent_from

    def recent_from(self, mailbox: Mailbox) -> int:
        """The UID from which on messages are \\Recent for the next session."""
        watch = self._watches.get(mailbox.id)
        if watch is not None:
            return watch.recent_from
        return max(mailbox.recent_uid, self._recent.get(mailbox.id, 0))

    def _account(self, account_id: int) -> "_Account":
        account = self._accounts.get(account_id)
        if account is None:
            account = self._accounts[account_id] = _Account()
            account.unsubscribe = self._feed.subscribe(account_id, account.changed)
        return account

    def _let_go(self, account_id: int) -> None:
        account = self._accounts.get(account_id)
        if account is not None and not account.recorders and not account.watches and not account.listeners:
            account.unsubscribe()
            del self._accounts[account_id]


class _Account:
    """The one subscription for all watches of an account."""

    __slots__ = ("listeners", "recorders", "unsubscribe", "watches")

    def __init__(self) -> None:
        self.watches: dict[int, Watch] = {}
        self.recorders: list[list[Change]] = []
        self.listeners: dict[Listener, None] = {}
        self.unsubscribe: Callable[[], None] = lambda: None

    def changed(self, changes: list[Change]) -> None:
        for recorder in self.recorders:
            recorder += changes
        if self.watches:
            self._apply(changes)
        for listener in list(self.listeners):
            listener(changes)

    def _apply(self, changes: list[Change]) -> None:
        by_mailbox: dict[int, list[Change]] = {}
        for change in changes:
            mailbox_id = getattr(change, "mailbox_id", 0)
            if mailbox_id in self.watches:
                by_mailbox.setdefault(mailbox_id, []).append(change)
        for mailbox_id, mine in by_mailbox.items():
            watch = self.watches.get(mailbox_id)
            if watch is not None:
                watch.apply(mine)

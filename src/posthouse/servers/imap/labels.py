"""STORE X-GM-LABELS: labels of messages are copies in mailboxes, and flags (imap/labels.py).

A label that is added puts a copy into its mailbox, which is made if there is none; one that is removed takes the copy
away. The label of the selected mailbox itself is not among those that are told, as Gmail does it, so a STORE without a
sign leaves it; "-" may name it, and then the message leaves. What would have no label left goes to the archive instead:
nothing is lost by labels. \\Trash and \\Spam exclude all others.

Labels are the account's own: mailboxes of others have none.
"""

from typing import TYPE_CHECKING, NamedTuple

from posthouse.imap import names, numbers, replies
from posthouse.imap.commands.store import StoreLabels
from posthouse.imap.flags import FLAGGED
from posthouse.imap.labels import ARCHIVE, IMPORTANT, Label, label_list
from posthouse.servers.imap import access, limits
from posthouse.servers.imap.mailboxes import make
from posthouse.store import labels, mailboxes, messages, quota, select
from posthouse.store.database import Row, Tx
from posthouse.store.model import Mailbox

if TYPE_CHECKING:
    from posthouse.servers.imap.session import ImapSession

SLICE = 100  # messages in one transaction
_OTHERS = replies.no("Messages of others have no labels", b"CANNOT")
_COLUMNS = ("uid", "modseq", "labels", "flags", "keywords")


class _Changed(NamedTuple):
    """What one slice became."""

    rows: list[Row]  # `_COLUMNS` of those that are still there
    modified: list[int]  # UIDs left alone, as they changed before
    missing: int


class _Refused(Exception):
    """The whole slice is undone."""

    def __init__(self, status: replies.Status) -> None:
        super().__init__(status.text)
        self.status = status


def problem(label: Label) -> replies.Status | None:
    """Why there cannot be such a label."""
    if not label.name or label.use:
        return None
    if access.owner_of(label.name) is not None:
        return _OTHERS
    why = names.problem(label.name)
    return None if why is None else replies.no(why, b"CANNOT")


async def store(session: "ImapSession", event: StoreLabels) -> None:
    view, watch = session.selected
    if session.read_only:
        session.done_with(replies.READ_ONLY, expunges=event.uid)
        return
    status = next((why for label in event.labels if (why := problem(label)) is not None), None)
    if status is not None or not session.owns_selected:
        session.done_with(status or _OTHERS, expunges=event.uid)
        return
    found = session.find(event.wanted, event.uid)
    if found is None:
        return
    found, lowest = limits.cut(session, found)
    service, manner = session.service, session.engine.manner
    now, default = service.clock.now(), service.settings.limits.quota_storage
    missing, modified = 0, list[int]()
    for low, high in limits.downwards(found, SLICE):
        uids = list(view.slice(low, high))
        try:
            changed = await service.database.write(
                _change, session.account_id, watch.mailbox_id, uids, event, now, default
            )
        except _Refused as refused:
            session.done_with(refused.status, expunges=event.uid)
            return
        missing += changed.missing
        modified += changed.modified
        lines = []
        for uid, modseq, text, flags, keywords in () if event.silent else changed.rows:
            number = view.index(uid) + 1
            if not number:
                continue
            items = [b"UID %d" % uid] if (event.uid or manner.vanished) and not manner.uid_only else []
            items.append(b"X-GM-LABELS " + label_list(text, flags, keywords))
            if manner.modseq:
                items.append(b"MODSEQ (%d)" % modseq)
            lines.append(b"%b%b)\r\n" % (manner.fetch(number, uid), b" ".join(items)))
        await session.send(b"".join(lines))
    code = b""
    if modified:
        named = sorted(modified if event.uid else [view.index(uid) + 1 for uid in modified])
        code = replies.modified(numbers.format_set(named))
    if missing and not event.uid and not code:
        if lowest:
            limits.tell(session, lowest)
        session.done_with(replies.EXPUNGED, expunges=False)
    else:
        session.done("STORE completed", limits.code(session, lowest, code), expunges=event.uid)


def _change(
    tx: Tx, account_id: int, mailbox_id: int, uids: list[int], event: StoreLabels, now: int, default: int
) -> _Changed:
    there = select.rows(tx, mailbox_id, uids[0], uids[-1], ("uid", "modseq"))
    wanted = set(uids)
    modseqs = {uid: modseq for uid, modseq in there if uid in wanted}
    since = event.unchanged_since
    modified = [uid for uid, modseq in modseqs.items() if since is not None and modseq > since]
    left = sorted(modseqs.keys() - set(modified))
    if left:
        _Work(tx, account_id, mailbox_id, left, now, default).do(event)
    rows = select.rows(tx, mailbox_id, uids[0], uids[-1], _COLUMNS)
    changed = set(left)
    return _Changed([row for row in rows if row[0] in changed], modified, len(uids) - len(modseqs))


class _Work:
    """Labels of some messages of one mailbox, changed in one transaction."""

    def __init__(self, tx: Tx, account_id: int, mailbox_id: int, uids: list[int], now: int, default: int) -> None:
        self.tx = tx
        self.account_id = account_id
        self.mailbox_id = mailbox_id
        self.now = now
        self.default = default
        self.emails = labels.emails(tx, mailbox_id, uids)  # by UID

    def do(self, event: StoreLabels) -> None:
        named = [label for label in event.labels if label.name]
        self._flags(event)
        if event.mode == "remove":
            self._remove({mailbox.id for label in named if (mailbox := self._mailbox(label)) is not None})
            return
        targets = [(label, self._made(label)) for label in named]
        only = {mailbox.id for label, mailbox in targets if label.empties}
        if only:  # thrown away, or junk: the first that was named
            targets = [pair for pair in targets if pair[0].empties][:1]
        added = False
        for _, mailbox in targets:
            added = self._add(mailbox) or added
        keep = {mailbox.id for _, mailbox in targets}
        if only:
            self._remove(self._where() - keep, twins=True)
        elif event.mode == "set":
            self._remove(self._where() - keep - {self.mailbox_id})
        if added:
            quota.check(self.tx, self.account_id, self.default)

    def _flags(self, event: StoreLabels) -> None:
        bits = sum({label.bit for label in event.labels})
        keywords = [label.keyword for label in event.labels if label.keyword]
        if event.mode != "set":
            self._store(event.mode, bits, keywords)
            return
        self._store("add", bits, keywords)
        self._store("remove", FLAGGED & ~bits, [] if keywords else [IMPORTANT])

    def _store(self, mode: str, bits: int, keywords: list[str]) -> None:
        if bits or keywords:
            uids = sorted(self.emails)
            messages.store_flags(self.tx, self.account_id, self.mailbox_id, uids, mode, bits, keywords)

    def _mailbox(self, label: Label) -> Mailbox | None:
        there = mailboxes.list_all(self.tx, self.account_id)
        return labels.with_use(there, mailboxes.canonical(label.name), label.use)

    def _made(self, label: Label) -> Mailbox:
        found = self._mailbox(label)
        if found is not None:
            return found
        status = make(self.tx, self.account_id, label.name, label.use)
        if status.condition != b"OK":
            raise _Refused(status)
        found = self._mailbox(label)
        assert found is not None
        return found

    def _where(self) -> set[int]:
        """The mailboxes that hold any of the messages."""
        return {mailbox_id for _, mailbox_id, _ in labels.places(self.tx, list(self.emails.values()))}

    def _add(self, mailbox: Mailbox) -> bool:
        """Copies for those that have none there. Was any missing?"""
        if mailbox.id == self.mailbox_id:
            return False
        places = labels.places(self.tx, list(self.emails.values()))
        have = {email_id for email_id, mailbox_id, _ in places if mailbox_id == mailbox.id}
        first: dict[int, int] = {}  # a message may be twice in the selected mailbox: one copy is enough
        for uid, email_id in self.emails.items():
            if email_id not in have:
                first.setdefault(email_id, uid)
        uids = sorted(first.values())
        if uids:
            messages.copy(self.tx, self.account_id, self.mailbox_id, uids, mailbox.id, self.now)
        return bool(uids)

    def _remove(self, mailbox_ids: set[int], twins: bool = False) -> None:
        """Take the copies away that are in these mailboxes; what would be nowhere then is archived. A message may be
        twice in the selected mailbox: the one that was not named stays, but for `twins`."""
        places = labels.places(self.tx, list(self.emails.values()))
        doomed = [
            (email_id, mailbox_id, uid)
            for email_id, mailbox_id, uid in places
            if mailbox_id in mailbox_ids and (twins or mailbox_id != self.mailbox_id or uid in self.emails)
        ]
        stays = {place[0] for place in set(places).difference(doomed)}
        homeless = {email_id: uid for uid, email_id in self.emails.items() if email_id not in stays}
        if homeless:
            archive = self._made(ARCHIVE)
            archived = {email_id for email_id, mailbox_id, _ in places if mailbox_id == archive.id}
            # What is in the archive alone stays there, whatever is said.
            doomed = [one for one in doomed if one[1] != archive.id or one[0] not in homeless]
            uids = sorted(uid for email_id, uid in homeless.items() if email_id not in archived)
            if uids:
                messages.copy(self.tx, self.account_id, self.mailbox_id, uids, archive.id, self.now)
        for mailbox_id in {place[1] for place in doomed}:
            uids = sorted(place[2] for place in doomed if place[1] == mailbox_id)
            messages.remove(self.tx, self.account_id, mailbox_id, uids)

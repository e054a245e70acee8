"""What one client believes a mailbox to hold: its sequence numbers, and the changes it was not told yet.

A client's sequence numbers only move when we say so: EXPUNGE takes one away, EXISTS adds at the end
(RFC 9051 section 7.5). So changes by others wait in the view until a safe point, where `tell` turns them into
responses. Between two of those, numbers and UIDs stand still, whatever happens in the mailbox.

The UIDs of a mailbox are one array, shared by all its views (`UidList`): a view is "the first `count` of
it", so new messages cost each view two integers, and the views that have seen the same go away share the
shorter array. Everything here may be told twice: UIDs that are known, or gone, already change nothing.
"""

from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from posthouse.imap import numbers
from posthouse.imap.flags import flag_text
from posthouse.imap.numbers import Ranges, SequenceSet

# Flag changes a view keeps for a client that does not listen. Beyond this it keeps only that it lost some.
MAX_CHANGED = 2000
MANY = 20  # where more than one message in so many is meant, all are gone through: that takes a twentieth for each


class Manner(NamedTuple):
    """How a client wants to be told: what it has enabled."""

    recent: bool = True  # \\Recent and RECENT, which IMAP4rev2 has no more
    modseq: bool = False  # CONDSTORE: flags come with their modseq (RFC 7162 section 3.1)
    vanished: bool = False  # QRESYNC: UIDs that went instead of EXPUNGE (RFC 7162 section 3.2.10)
    uid_only: bool = False  # UIDONLY: no sequence numbers at all (RFC 9586)

    def fetch(self, number: int, uid: int) -> bytes:
        """The beginning of a response about one message, up to its "("."""
        return b"* %d UIDFETCH (" % uid if self.uid_only else b"* %d FETCH (" % number

    def vanish(self, gone: Sequence[int], number: Callable[[int], int]) -> list[bytes]:
        """Whole lines about messages (UIDs, ascending) that went; `number` says their indexes before the first went."""
        if self.vanished or self.uid_only:
            return [b"* VANISHED %b\r\n" % numbers.format_ranges(numbers.runs(gone))]
        # From the last one on, so that no number moves before it was said.
        return [b"* %d EXPUNGE\r\n" % (number(uid) + 1) for uid in reversed(gone)]


USUAL = Manner()


class UidList:
    """Ascending UIDs that several views share. It only grows; what a view takes away makes a new one."""

    __slots__ = ("_after", "uids")

    def __init__(self, uids: "array[int]") -> None:
        self.uids = uids
        self._after: tuple[tuple[int, ...], UidList] | None = None  # the last UIDs taken away, the list without

    def extend(self, count: int, new: Sequence[int]) -> "UidList":
        """A list whose first `count` UIDs are ours, followed by `new`: this one, if it can be."""
        uids = self.uids
        known = len(uids) - count
        if known == 0:
            uids.extend(new)
            return self
        if known >= len(new):
            if uids[count : count + len(new)] == array("I", new):
                return self
        elif uids[count:] == array("I", new[:known]):
            uids.extend(new[known:])
            return self
        return UidList(uids[:count] + array("I", new))

    def without(self, count: int, gone: tuple[int, ...]) -> "UidList":
        """A list that begins with our first `count` UIDs without `gone` (ascending, all among them)."""
        left = count - len(gone)
        if self._after is not None and self._after[0] == gone:
            shared = self._after[1]
            if len(shared.uids) >= left and _same_after(self.uids, count, gone, shared.uids, left):
                return shared
        kept = self.uids[:count]
        for low, high in reversed(_runs_of_indexes(kept, gone)):
            del kept[low:high]
        made = UidList(kept)
        self._after = (gone, made)
        return made


def _same_after(uids: "array[int]", count: int, gone: tuple[int, ...], other: "array[int]", left: int) -> bool:
    """Is `other[:left]` equal to `uids[:count]` without `gone`? Compared run by run, so mostly in C."""
    at = start = 0
    for low, high in [*_runs_of_indexes(uids, gone, count), (count, count)]:
        length = low - start
        if other[at : at + length] != uids[start:low]:
            return False
        at += length
        start = high
    return at == left


def _runs_of_indexes(uids: "array[int]", gone: Iterable[int], count: int | None = None) -> Ranges:
    end = len(uids) if count is None else count
    return numbers.runs(bisect_left(uids, uid, 0, end) for uid in gone)


class View:
    """One client's view of its selected mailbox."""

    __slots__ = (
        "_added",
        "_changed",
        "_gone",
        "_gone_from",
        "_own",
        "_shown",
        "_twice",
        "count",
        "lost_flags",
        "modseq",
        "recent",
        "shared",
    )

    def __init__(self, shared: UidList, count: int, modseq: int, recent: Ranges) -> None:
        self.shared = shared
        self.count = count  # messages the client knows of: EXISTS
        self.modseq = modseq  # of the last change we heard of
        self.recent = recent  # UIDs that are \Recent in this session, half-open ranges
        self.lost_flags = 0  # flags changed from this modseq on, and which is not known; 0: none
        self._added: list[int] = []
        self._gone: set[int] = set()
        self._gone_from = 0  # no message of these went before this modseq
        self._shown = 0  # the highest modseq that a response of the command under way had
        self._changed: dict[int, tuple[int, int, str]] = {}  # uid: modseq, flags, keywords
        self._twice: set[int] = set()  # those of them that changed again before it was told
        self._own: set[int] = set()  # modseqs of our own changes that the feed will bring yet

    # What the client's numbers mean

    @property
    def uids(self) -> "array[int]":
        """The UIDs; only the first `count` belong to this view."""
        return self.shared.uids

    def slice(self, low: int, high: int) -> "array[int]":
        """The UIDs at the indexes from `low` up to, not with, `high`."""
        return self.shared.uids[low : min(high, self.count)]

    def index(self, uid: int) -> int:
        """Where the UID stands, from 0; -1 if the client does not know it."""
        at = bisect_left(self.shared.uids, uid, 0, self.count)
        return at if at < self.count and self.shared.uids[at] == uid else -1

    def find(self, wanted: SequenceSet, uid: bool, saved: Iterable[int]) -> Ranges | None:
        """Index ranges of the messages that a set means; None if it names a number that is not there.

        `saved` is what "$" stands for, as ascending UIDs.
        """
        if wanted.saved:
            return self.find_uids(numbers.runs(saved))
        if uid:
            return numbers.by_uid(wanted, self.shared.uids, self.count)
        return numbers.by_number(wanted, self.count)

    def find_uids(self, ranges: Iterable[tuple[int, int]]) -> Ranges:
        """Index ranges of what lies in half-open ranges of UIDs."""
        uids, count = self.shared.uids, self.count
        return numbers.merge(
            (bisect_left(uids, low, 0, count), bisect_left(uids, high, 0, count)) for low, high in ranges
        )

    def known(self, uids: Sequence[int]) -> "array[int]":
        """Those of ascending UIDs that the client knows."""
        if len(uids) * MANY < self.count:
            return array("I", [uid for uid in uids if self.index(uid) >= 0])
        return array("I", sorted(set(uids).intersection(self.slice(0, self.count))))

    def numbers_of(self, uids: Sequence[int]) -> "array[int]":
        """The sequence numbers of ascending UIDs that the client knows."""
        if len(uids) * MANY < self.count:
            return array("I", [self.index(uid) + 1 for uid in uids])
        wanted = set(uids)
        return array("I", [number for number, uid in enumerate(self.slice(0, self.count), 1) if uid in wanted])

    def uid_ranges(self, indexes: Ranges) -> Ranges:
        """UIDs as half-open ranges that hold the messages at these indexes, and none of the view beside them."""
        uids = self.shared.uids
        return [(uids[low], uids[high - 1] + 1) for low, high in indexes]

    def recent_count(self) -> int:
        """How many messages the client was told are \\Recent."""
        return numbers.total(self.find_uids(self.recent))

    def is_recent(self, uid: int) -> bool:
        """Is the message \\Recent in this session?"""
        return bool(self.recent) and numbers.contains(self.recent, uid)

    # What happens in the mailbox

    @property
    def last_uid(self) -> int:
        """The highest UID that the client knows of or is about to be told."""
        if self._added:
            return self._added[-1]
        return self.shared.uids[self.count - 1] if self.count else 0

    def added(self, uids: Iterable[int]) -> None:
        """Messages came in."""
        last = self.last_uid
        for uid in uids:
            if uid > last:
                self._added.append(uid)
                last = uid

    def expunged(self, uids: Iterable[int], modseq: int = 0) -> None:
        """Messages went away; `modseq`: when, 0 if it was after all that the feed has brought."""
        for uid in uids:
            if self.index(uid) >= 0:
                if not self._gone:
                    self._gone_from = modseq or self.modseq + 1
                self._gone.add(uid)
                self._changed.pop(uid, None)
                self._twice.discard(uid)
            elif self._added:
                at = bisect_left(self._added, uid)
                if at < len(self._added) and self._added[at] == uid:
                    del self._added[at]

    def flags_changed(self, rows: Iterable[tuple[int, int, int, str]]) -> None:
        """Flags changed: rows of UID, modseq, flags, keywords."""
        for uid, modseq, flags, keywords in rows:
            if modseq in self._own or self.index(uid) < 0 or uid in self._gone:
                continue
            known = self._changed.get(uid)
            if known is not None and known[0] > modseq:
                continue
            if known is None and len(self._changed) >= MAX_CHANGED:
                self.lost_flags = min(self.lost_flags or modseq, modseq)
                continue
            if known is not None and known[0] < modseq:
                self._twice.add(uid)
            self._changed[uid] = (modseq, flags, keywords)

    def heard(self, modseq: int) -> None:
        """The feed has brought all changes up to this modseq."""
        if modseq > self.modseq:
            self.modseq = modseq
            if self._own:
                self._own = {own for own in self._own if own > modseq}

    def told(self, rows: Iterable[tuple[int, int, int, str]], silent_after: int | None = None) -> None:
        """The client knows these flags already, as it asked for the change: do not tell it again.

        `silent_after`: it was not told them. So it knows only what it asked for, those with a modseq above this; what
        others changed at these messages before is still to be told (RFC 9051 section 6.4.6).
        """
        for uid, modseq, flags, keywords in rows:
            if modseq > self.modseq:
                self._own.add(modseq)
            known = self._changed.get(uid)
            if known is None or known[0] > modseq:
                continue
            if silent_after is not None and (modseq <= silent_after or known[0] < modseq or uid in self._twice):
                self._changed[uid] = (modseq, flags, keywords)
                continue
            del self._changed[uid]
            self._twice.discard(uid)

    @property
    def pending(self) -> bool:
        """Is there anything to tell?"""
        return bool(self._added or self._gone or self._changed)

    @property
    def holds_expunged(self) -> bool:
        """Are there messages in the view that went away, which the client was not told yet?"""
        return bool(self._gone)

    def modseq_to_say(self) -> int:
        """What a QRESYNC client must be told as HIGHESTMODSEQ at the end of a command, 0: nothing.

        It would take the highest modseq that it saw for the state of its cache; but what went before that and was not
        told yet, or not even heard of, it would then never hear of again (RFC 7162 sections 3.2 and 6).
        """
        shown, self._shown = self._shown, 0
        if self._gone:
            return min(self._gone_from - 1, self.modseq)
        return self.modseq if shown > self.modseq else 0

    def shows_modseqs(self) -> None:
        """Responses that are not made here have modseqs, as high as can be."""
        self._shown = 1 << 63

    @property
    def gone(self) -> list[int]:
        """The UIDs, ascending, of messages in the view that went away, which the client was not told yet."""
        return sorted(self._gone)

    # What the client is told

    @property
    def new(self) -> list[int]:
        """UIDs of messages that the client was not told of yet."""
        return self._added

    def tell(
        self, expunges: bool, manner: Manner, recent_from: int = 0, *, added: bool = True, flags: bool = True
    ) -> list[bytes]:
        """The responses that bring the client up to date, whole lines. Without `expunges` numbers stand still; without
        `added` and `flags` these wait.

        New messages with a UID from `recent_from` on are \\Recent in this session; 0: none.
        """
        out: list[bytes] = []
        if expunges and self._gone:
            gone = tuple(sorted(self._gone))
            out += manner.vanish(gone, self.index)
            self.shared = self.shared.without(self.count, gone)
            self.count -= len(gone)
            self._gone = set()
        if self._added and added:
            if recent_from:
                self._now_recent(max(self._added[0], recent_from), self._added[-1] + 1)
            self.shared = self.shared.extend(self.count, self._added)
            self.count += len(self._added)
            self._added = []
            out.append(b"* %d EXISTS\r\n" % self.count)
            if manner.recent:
                out.append(b"* %d RECENT\r\n" % self.recent_count())
        if self._changed and flags:
            out += self.flag_lines([(uid, *self._changed[uid]) for uid in sorted(self._changed)], manner)
            self._changed, self._twice = {}, set()
        return out

    def flag_lines(
        self,
        rows: Iterable[tuple[int, int, int, str]],
        manner: Manner,
        with_uid: bool = True,
        silent: bool = False,
    ) -> list[bytes]:
        """FETCH responses with the flags of rows (uid, modseq, flags, keywords), as far as they are in the view.

        `silent`: their modseqs alone.
        """
        out = []
        with_uid = (with_uid or manner.vanished) and not manner.uid_only
        for uid, modseq, flags, keywords in rows:
            number = self.index(uid) + 1
            if not number:
                continue
            items = [b"UID %d" % uid] if with_uid else []
            if not silent:
                items.append(b"FLAGS (%b)" % flag_text(flags, keywords, manner.recent and self.is_recent(uid)))
            if manner.modseq:
                items.append(b"MODSEQ (%d)" % modseq)
                self._shown = max(self._shown, modseq)
            out.append(b"%b%b)\r\n" % (manner.fetch(number, uid), b" ".join(items)))
        return out

    def _now_recent(self, low: int, high: int) -> None:
        if low >= high:
            return
        if self.recent and self.recent[-1][1] >= low:
            self.recent = [*self.recent[:-1], (self.recent[-1][0], max(high, self.recent[-1][1]))]
        else:
            self.recent = [*self.recent, (low, high)]

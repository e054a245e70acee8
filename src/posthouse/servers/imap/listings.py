"""Answers to FETCH that list a mailbox, kept in memory for the next time somebody asks the same.

Programs that keep nothing list the same messages at every start. What is kept is a slice of an answer as it went out.
It is sent again if the same messages stand at the same numbers and none has changed since (`store.select.Extent`).
Contents are not kept, nor anything that depends on the session or on other mailboxes. What was not used for longest
goes first. Nothing fails.
"""

from collections import OrderedDict
from typing import NamedTuple

from posthouse.imap.commands.fetch import FetchRequest
from posthouse.imap.fetch import Plan, is_usual
from posthouse.imap.view import Manner
from posthouse.store.select import Extent

ROOM = 24 * 1024 * 1024  # octets in all
LEAST = 50  # messages in a slice that is worth it
LONGEST = 2 * 1024 * 1024  # octets of one answer that is kept
_OVERHEAD = 4000  # octets that an answer takes beside its text with what was asked for, about

# What changes only together with the modseq of the entry, or never.
_KEPT = frozenset(
    ("uid", "email_id", "flags", "keywords", "modseq", "size", "received", "envelope", "bodystructure", "listed")
)


class Wanted(NamedTuple):
    """What was asked for: of which messages, and as whom they count."""

    mailbox_id: int
    request: FetchRequest
    manner: Manner
    first: int  # UIDs
    last: int
    number: int  # of the first


class Kept(NamedTuple):
    """A slice of an answer."""

    data: bytes
    keywords: frozenset[str]
    done: int  # how many messages of the slice it has, from the first on
    extent: Extent


class Listings:
    """The answers that are kept."""

    def __init__(self, room: int = ROOM) -> None:
        self._room = room
        self._taken = 0
        self._kept: OrderedDict[Wanted, Kept] = OrderedDict()

    def get(self, wanted: Wanted) -> Kept | None:
        """What was answered before, if it is still there."""
        kept = self._kept.get(wanted)
        if kept is not None:
            self._kept.move_to_end(wanted)
        return kept

    def put(self, wanted: Wanted, kept: Kept) -> None:
        """Keep an answer."""
        before = self._kept.pop(wanted, None)
        if before is not None:
            self._taken -= _room_of(before)
        if len(kept.data) > LONGEST or not is_usual(wanted.request):
            return
        self._kept[wanted] = kept
        self._taken += _room_of(kept)
        while self._taken > self._room:
            _, gone = self._kept.popitem(last=False)
            self._taken -= _room_of(gone)


def _room_of(kept: Kept) -> int:
    return len(kept.data) + sum(map(len, kept.keywords)) + _OVERHEAD


def may_keep(plan: Plan, count: int) -> bool:
    """Is an answer about so many messages one to be kept?"""
    return count >= LEAST and not plan.sections and _KEPT.issuperset(plan.columns)

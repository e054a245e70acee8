"""What SEARCH, SORT, THREAD and ESEARCH share: resolve keys, let the store find and sort, put results into words.

Sorts, and searches that read messages, take turns, slice by slice (`Shared.searching`): there is always a reader left
for everything else.
"""

import contextlib
from array import array
from bisect import bisect_left
from collections.abc import Mapping, Sequence

from posthouse.imap import keys, numbers
from posthouse.imap.keys import Key
from posthouse.imap.view import View
from posthouse.servers.imap.progress import Progress
from posthouse.servers.imap.shared import Shared
from posthouse.store import headings, select, sorting
from posthouse.store import search as stored
from posthouse.store.sorting import Criteria, Wanted

SMALL = 10_000  # UIDs that are sorted, or looked up, in one go


def resolve(key: Key, view: View, saved: "array[int]", now: int, own: bool) -> Key:
    """The tree with sequence numbers, "$" and \\Recent as UIDs, and with points in time instead of ages. `own`: the
    mailbox is the reader's. What other mailboxes hold of somebody else is told to nobody: no label is found there."""
    match key:
        case keys.Numbers(wanted, uid):
            if wanted.saved or uid:
                found = view.find(wanted, True, saved)
            else:
                found = numbers.by_number(wanted, view.count, strict=False)
            return keys.Uids(tuple(view.uid_ranges(found or [])))
        case keys.Recent():
            return keys.Uids(tuple(view.recent))
        case keys.And(parts):
            return keys.And(tuple(resolve(part, view, saved, now, own) for part in parts))
        case keys.Or(one, other):
            return keys.Or(resolve(one, view, saved, now, own), resolve(other, view, saved, now, own))
        case keys.Not(inner):
            return keys.Not(resolve(inner, view, saved, now, own))
        case keys.Fuzzy(inner):
            return keys.Fuzzy(resolve(inner, view, saved, now, own))
        case keys.Label() if not own:
            return keys.Uids(())
        case keys.Age(older, seconds):
            at = now - seconds * 1_000_000
            return keys.Received(None, at + 1) if older else keys.Received(at, None)
    return key


def bounds(key: Key, view: View) -> tuple[int, int]:
    """The first and the last UID of the view that can match; nothing can if the second is the lower one."""
    if not view.count:
        return 1, 0
    first, last = view.uids[0], view.uids[view.count - 1]
    for part in key.keys if isinstance(key, keys.And) else (key,):
        if isinstance(part, keys.Uids):
            if not part.ranges:
                return 1, 0
            first, last = max(first, part.ranges[0][0]), min(last, part.ranges[-1][1] - 1)
    return first, last


async def find(
    service: Shared, mailbox_id: int, view: View, key: Key, progress: Progress | None = None
) -> tuple["array[int]", int]:
    """The UIDs of the view that match, ascending; and the modseq of the last change that the search saw."""
    first, last = bounds(key, view)
    if first > last:
        return array("I"), 0
    if isinstance(key, keys.All):
        return view.slice(0, view.count), 0
    if isinstance(key, keys.Uids):
        return array("I", [uid for low, high in view.find_uids(key.ranges) for uid in view.slice(low, high)]), 0
    query = stored.prepare(key)
    found = array("I")
    following, modseq = first, 0
    turn = service.searching if query.needs_content else contextlib.nullcontext()
    while following and following <= last:
        async with turn:
            part_found, following, modseq = await service.database.read(stored.find, mailbox_id, query, following, last)
        found.extend(part_found)
        if progress is not None and following:
            progress.tell(bisect_left(view.uids, following, 0, view.count))
    return found, modseq


async def wanted_of(
    service: Shared, mailbox_id: int, view: View, key: Key, progress: Progress | None = None
) -> tuple[Wanted, int]:
    """What is to be sorted for a (resolved) key; and the modseq of the last change that a search saw."""
    first, last = bounds(key, view)
    query = stored.prepare(key)
    if query.rest is None:
        return Wanted(mailbox_id, first, last, query), 0
    uids, modseq = await find(service, mailbox_id, view, key, progress)
    return Wanted(mailbox_id, first, last, None, uids), modseq


async def ordered(
    service: Shared, wanted: Wanted, criteria: Criteria, scores: Mapping[int, int] | None = None
) -> list[int]:
    """UIDs in the order of the criteria; `scores` by UID, if they are among these."""
    while True:
        async with service.searching:
            found = await service.database.read(sorting.order, wanted, criteria, scores or {})
        if not found.missing:
            return found.uids
        await make_headings(service, found.missing)


async def make_headings(service: Shared, email_ids: list[int]) -> None:
    """Emails from before there were headings get theirs."""
    while email_ids:
        async with service.searching:
            made, email_ids = await service.database.read(headings.made, email_ids)
        await service.database.write(headings.save, made)


async def relevancy(service: Shared, mailbox_id: int, key: Key, uids: Sequence[int]) -> list[int]:
    """The scores of what was found (UIDs, ascending), in their order (RFC 6203 section 4)."""
    query = stored.prepare(key)
    scores: list[int] = []
    while len(scores) < len(uids):
        piece = uids[len(scores) : len(scores) + stored.SCORED]
        async with service.searching:
            scores += await service.database.read(stored.relevancy, mailbox_id, query, piece)
    return scores


def told(uids: Sequence[int], give: frozenset[bytes], partial: tuple[int, int] | None) -> Sequence[int]:
    """Those of a result whose mod-sequences count for the one that is told of it (RFC 7162 section 3.1.5, RFC 4731
    section 3.2)."""
    if partial is not None:
        return cut(uids, *partial)
    if give and give <= {b"MIN", b"MAX"} and uids:
        return ([uids[0]] if b"MIN" in give else []) + ([uids[-1]] if b"MAX" in give else [])
    return uids


async def highest_modseq(service: Shared, mailbox_id: int, uids: Sequence[int]) -> int:
    """The highest mod-sequence of messages (UIDs, ascending)."""
    return await service.database.read(select.highest_modseq, mailbox_id, numbers.runs(uids))


def ascending(uids: Sequence[int], view: "array[int]") -> "array[int]":
    """UIDs of a view in its order. Without sorting, which would hold everybody up if there are many."""
    if len(uids) <= SMALL:
        return array("I", sorted(uids))
    held: set[int] = set()
    for at in range(0, len(uids), SMALL):
        held.update(uids[at : at + SMALL])
    return array("I", [uid for uid in view if uid in held])


def cut(values: Sequence[int], first: int, last: int) -> Sequence[int]:
    """Those at the places from `first` to `last`, counted from 1, or from the end if they are below 0."""
    count = len(values)
    return values[first - 1 : last] if first > 0 else values[max(count + last, 0) : max(count + first + 1, 0)]


def items(
    values: Sequence[int],
    give: frozenset[bytes],
    partial: tuple[int, int] | None,
    modseq: int,
    scores: Sequence[int] = (),
) -> list[tuple[bytes, bytes]]:
    """What an ESEARCH response says of a result in its order (RFC 4731 section 3.1, RFC 5267 sections 3.1 and 4.4).

    No range names a value that is not among the result, so that a client may count them. `scores` (of RELEVANCY): one
    for each message that ALL, or PARTIAL, names.
    """
    found: list[tuple[bytes, bytes]] = []
    if values and b"MIN" in give:
        found.append((b"MIN", b"%d" % values[0]))
    if values and b"MAX" in give:
        found.append((b"MAX", b"%d" % values[-1]))
    if values and b"ALL" in give:
        found.append((b"ALL", numbers.format_set(values)))
    if partial is not None:
        found.append((b"PARTIAL", b"(%d:%d %b)" % (*partial, numbers.format_set(cut(values, *partial)) or b"NIL")))
    if b"COUNT" in give:
        found.append((b"COUNT", b"%d" % len(values)))
    if b"RELEVANCY" in give:
        shown = scores if partial is None else cut(scores, *partial)
        found.append((b"RELEVANCY", b"(%b)" % b" ".join([b"%d" % score for score in shown])))
    if modseq:
        found.append((b"MODSEQ", b"%d" % modseq))
    return found


def saved(uids: "array[int]", give: frozenset[bytes], partial: tuple[int, int] | None) -> "array[int]":
    """What SAVE keeps, in any order: with only MIN, MAX and PARTIAL just these (RFC 5182 section 2.4, RFC 9394 section
    3.2)."""
    if not uids or give & {b"ALL", b"COUNT"} or (partial is None and not give & {b"MIN", b"MAX"}):
        return uids
    kept = array("I", cut(uids, *partial) if partial is not None else ())
    if b"MIN" in give and uids[0] not in kept:
        kept.append(uids[0])
    if b"MAX" in give and uids[-1] not in kept:
        kept.append(uids[-1])
    return kept


class Places:
    """The sequence number of each UID of a view. For threads: it keeps nothing that moves."""

    __slots__ = ("_first", "_last", "_places")

    def __init__(self, uids: "array[int]") -> None:
        self._places: dict[int, int] | None = None
        self._first, self._last = (uids[0], uids[-1]) if uids else (1, 0)
        if self._last - self._first + 1 != len(uids):
            self._places = {uid: number for number, uid in enumerate(uids, 1)}

    def of(self, uid: int) -> int:
        """0: it is not there."""
        if self._places is not None:
            return self._places.get(uid, 0)
        return uid - self._first + 1 if self._first <= uid <= self._last else 0

"""SEARCH: resolve what only the session knows, let the store find, answer in the form that was asked for.

Searches that read messages take turns, slice by slice (`ImapService.searching`): there is always a reader left for
everything else.
"""

import contextlib
from array import array
from typing import TYPE_CHECKING

from posthouse.imap import keys, numbers, replies
from posthouse.imap.commands.search import Search
from posthouse.imap.keys import Key
from posthouse.imap.view import View
from posthouse.store import search as stored
from posthouse.store import select

if TYPE_CHECKING:
    from posthouse.servers.imap.session import ImapSession


async def search(session: "ImapSession", event: Search) -> None:
    view, _ = session.selected
    give = event.give
    if give is not None and b"SAVE" in give:
        session.saved = array("I")  # RFC 5182 section 2.1: what goes wrong leaves nothing saved
    uids, modseq = await _find(session, resolve(event.key, view, session.saved, session.service.clock.now()))
    highest = await _highest(session, event, uids) if event.condstore else 0
    rev2 = session.engine.rev2
    if give is None:
        _answer(session, event, uids, frozenset((b"ALL",)) if rev2 else None, highest)
    else:
        _answer(session, event, uids, give or frozenset((b"ALL",)), highest)
    if give is not None and b"SAVE" in give:
        session.saved = _saved(uids, give)
    # RFC 5530 section 3: the client's list may hold messages that no search can find. The store may have told us
    # of a change that the feed has not.
    outdated = view.holds_expunged or modseq > view.modseq
    session.done("SEARCH completed", b"EXPUNGEISSUED" if outdated else b"", expunges=event.uid)


def resolve(key: Key, view: View, saved: "array[int]", now: int) -> Key:
    """The tree with sequence numbers, "$" and \\Recent as UIDs, and with points in time instead of ages."""
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
            return keys.And(tuple(resolve(part, view, saved, now) for part in parts))
        case keys.Or(one, other):
            return keys.Or(resolve(one, view, saved, now), resolve(other, view, saved, now))
        case keys.Not(inner):
            return keys.Not(resolve(inner, view, saved, now))
        case keys.Age(older, seconds):
            at = now - seconds * 1_000_000
            return keys.Received(None, at + 1) if older else keys.Received(at, None)
    return key


async def _find(session: "ImapSession", key: Key) -> tuple["array[int]", int]:
    """The UIDs of the view that match, ascending; and the modseq of the last change that the search saw."""
    view, watch = session.selected
    if not view.count:
        return array("I"), 0
    first, last = view.uids[0], view.uids[view.count - 1]
    if isinstance(key, keys.All):
        return view.slice(0, view.count), 0
    if isinstance(key, keys.Uids):
        return array("I", [uid for low, high in view.find_uids(key.ranges) for uid in view.slice(low, high)]), 0
    for part in key.keys if isinstance(key, keys.And) else ():
        if isinstance(part, keys.Uids):
            if not part.ranges:
                return array("I"), 0
            first, last = max(first, part.ranges[0][0]), min(last, part.ranges[-1][1] - 1)
    query = stored.prepare(key)
    found = array("I")
    following, modseq = first, 0
    turn = session.service.searching if query.needs_content else contextlib.nullcontext()
    while following and following <= last:
        async with turn:
            part_found, following, modseq = await session.service.database.read(
                stored.find, watch.mailbox_id, query, following, last
            )
        found.extend(part_found)
    return found, modseq


async def _highest(session: "ImapSession", event: Search, uids: "array[int]") -> int:
    """The highest mod-sequence of what is told (RFC 7162 section 3.1.5, RFC 4731 section 3.2)."""
    view, watch = session.selected
    indexes = view.find_uids(numbers.runs(uids))
    give = event.give or frozenset()
    if event.partial is not None:
        indexes = numbers.cut(indexes, *event.partial)
    elif give and give <= {b"MIN", b"MAX"} and indexes:
        ends = ([indexes[0][0]] if b"MIN" in give else []) + ([indexes[-1][1] - 1] if b"MAX" in give else [])
        indexes = numbers.merge((at, at + 1) for at in ends)
    ranges = view.uid_ranges(indexes)
    return await session.service.database.read(select.highest_modseq, watch.mailbox_id, ranges)


def _answer(
    session: "ImapSession", event: Search, uids: "array[int]", give: frozenset[bytes] | None, highest: int
) -> None:
    """The SEARCH response, or ESEARCH (RFC 4731) if `give` says what goes into it."""
    view, _ = session.selected
    # What is not in the view (it came while we searched) does not exist for the client yet.
    indexes = view.find_uids(numbers.runs(uids))
    count = numbers.total(indexes)
    shown = view.uid_ranges(indexes) if event.uid else [(low + 1, high + 1) for low, high in indexes]
    if give is None:
        if event.uid:
            values = b"".join(b" %d" % uid for low, high in indexes for uid in view.slice(low, high))
        else:
            values = b"".join(b" %d" % number for low, high in shown for number in range(low, high))
        session.engine.untagged(b"SEARCH" + values + (b" (MODSEQ %d)" % highest if highest else b""))
        return
    items: list[tuple[bytes, bytes]] = []
    if shown and b"MIN" in give:
        items.append((b"MIN", b"%d" % shown[0][0]))
    if shown and b"MAX" in give:
        items.append((b"MAX", b"%d" % (shown[-1][1] - 1)))
    if shown and b"ALL" in give:
        items.append((b"ALL", numbers.format_ranges(_tight(view, indexes) if event.uid else shown)))
    if event.partial is not None:
        items.append((b"PARTIAL", _partial(view, indexes, event.partial, event.uid)))
    if b"COUNT" in give:
        items.append((b"COUNT", b"%d" % count))
    if highest:
        items.append((b"MODSEQ", b"%d" % highest))
    # RFC 5182 section 2.1: with nothing but SAVE there is nothing to say.
    if items or give != {b"SAVE"}:
        session.engine.untagged(replies.esearch(session.engine.tag, event.uid, items))


def _partial(view: View, indexes: numbers.Ranges, wanted: tuple[int, int], uid: bool) -> bytes:
    """A piece of the result (RFC 9394 section 3.1); NIL: there is nothing in that place."""
    piece = numbers.cut(indexes, *wanted)
    shown = _tight(view, piece) if uid else [(low + 1, high + 1) for low, high in piece]
    return b"(%d:%d %b)" % (*wanted, numbers.format_ranges(shown) or b"NIL")


def _tight(view: View, indexes: numbers.Ranges) -> numbers.Ranges:
    """UIDs as ranges that name no UID which is not there, so that a client may count them."""
    return numbers.runs(uid for low, high in indexes for uid in view.slice(low, high))


def _saved(uids: "array[int]", give: frozenset[bytes]) -> "array[int]":
    """What SAVE keeps (RFC 5182 section 2.4): with only MIN and MAX just these."""
    if not uids or not give & {b"MIN", b"MAX"} or give & {b"ALL", b"COUNT"}:
        return uids
    kept = array("I")
    if b"MIN" in give:
        kept.append(uids[0])
    if b"MAX" in give and (b"MIN" not in give or len(uids) > 1):
        kept.append(uids[-1])
    return kept

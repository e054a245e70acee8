"""Results that are kept up to date: UPDATE of SEARCH, SORT and ESEARCH (RFC 5267 section 4.3).

A session with such contexts notes which messages changed. When a command ends, and in IDLE at once, `refresh` asks
the store which of these match now, and says what came into a result (ADDTO) or left it (REMOVEFROM). What is expunged
leaves a result before the client hears of its end (`tell_gone`), what is new is added after the client knows of it. A
session has `MAX_CONTEXTS`, each with so many messages at most; beyond that nothing is told, and the client knows
(NOUPDATE).
"""

import asyncio
from array import array
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import TYPE_CHECKING

from posthouse.base.errors import Temporary
from posthouse.imap import keys, numbers, replies
from posthouse.imap.commands.fetch import FetchRequest
from posthouse.imap.keys import Key
from posthouse.imap.numbers import HIGHEST
from posthouse.imap.view import View
from posthouse.servers.imap.finding import find, ordered, resolve
from posthouse.servers.imap.notify import new_messages
from posthouse.store import sorting
from posthouse.store.model import Change, FlagsChanged
from posthouse.store.sorting import Criteria, Wanted

if TYPE_CHECKING:
    from posthouse.servers.imap.session import ImapSession

MAX_CONTEXTS = 4  # of a session
MAX_RESULT = 50_000  # messages in one: four octets each
MAX_SORTED_RESULT = 20_000
MAX_CHANGED = 10_000  # messages noted; beyond that all are looked at again
AGES_EVERY = 60.0  # seconds between looks at results that change by themselves (OLDER, YOUNGER)

_NOTHING = array("I")


class Context:
    """One result that is kept up to date."""

    __slots__ = ("ages", "criteria", "key", "looked", "results", "seen", "source", "tag", "uid", "update")

    def __init__(
        self, tag: bytes, key: Key, uid: bool, results: "array[int]", criteria: Criteria | None, source: bytes
    ) -> None:
        self.tag = tag
        self.key = key
        self.uid = uid
        self.results = results  # UIDs, as the client has them: ascending, or in the order of the criteria
        self.criteria = criteria
        self.source = source
        self.ages = _has_ages(key)
        self.seen = 0  # messages up to this UID were looked at
        self.update: FetchRequest | None = None  # what is told of new messages (RFC 5465 section 7)
        self.looked = 0.0  # when all of them were


class Contexts:
    """Those of a session, while it has the mailbox selected."""

    __slots__ = ("all", "by_tag", "changed", "lock", "waiting")

    def __init__(self) -> None:
        self.by_tag: dict[bytes, Context] = {}
        self.changed: set[int] = set()
        self.all = False  # more changed than is noted
        self.waiting: list[bytes] = []  # responses for which there was no place
        self.lock = asyncio.Lock()

    def note(self, changes: Iterable[Change]) -> None:
        """These changes happened in the mailbox. New messages are known by their UIDs."""
        for change in changes:
            if isinstance(change, FlagsChanged) and not self.all:
                self.changed.update(row[0] for row in change.rows)
                if len(self.changed) > MAX_CHANGED:
                    self.all = True
                    self.changed.clear()


def may_begin(session: "ImapSession", give: frozenset[bytes] | None) -> bool:
    """False, and already answered, if the tag of the command belongs to a context. From now on changes are noted, so
    that none is missed while the search is under way."""
    if give is None or b"UPDATE" not in give:
        return True
    if session.contexts is None:
        session.contexts = Contexts()
    if session.engine.tag in session.contexts.by_tag:
        session.done_with(replies.bad("This tag belongs to a search whose changes are told"), expunges=False)
        return False
    return True


def begin(
    session: "ImapSession",
    key: Key,
    uid: bool,
    results: "array[int]",
    criteria: Criteria | None = None,
    source: bytes = b"",
    update: FetchRequest | None = None,
) -> None:
    """Keep the result of the command under way up to date, or say that this is not done. `key`: already `frozen`."""
    view, _ = session.selected
    contexts = session.contexts
    assert contexts is not None
    tag = session.engine.tag
    most = MAX_RESULT if criteria is None else MAX_SORTED_RESULT
    # Scores change with every message that comes in; what is sorted by them is not kept up.
    scored = criteria is not None and any(name == "RELEVANCY" for name, _ in criteria)
    if len(contexts.by_tag) >= MAX_CONTEXTS or len(results) > most or scored:
        session.engine.untagged(replies.no_update(tag))
        if not contexts.by_tag:
            session.contexts = None
        return
    context = contexts.by_tag[tag] = Context(tag, key, uid, array("I", results), criteria, source)
    context.update = update
    context.seen = view.uids[view.count - 1] if view.count else 0
    context.looked = session.service.clock.monotonic()


def cancel(session: "ImapSession", tags: Iterable[bytes]) -> None:
    """CANCELUPDATE: tell no more of these. Tags of nothing are passed over."""
    if session.contexts is not None:
        for tag in tags:
            session.contexts.by_tag.pop(tag, None)
        if not session.contexts.by_tag:
            session.contexts = None


def frozen(key: Key, view: View, saved: "array[int]") -> Key:
    """The key as it is to be understood later: sequence numbers and "$" mean the messages they mean now (RFC 5267
    section 4.3), sets of UIDs take new messages in."""
    match key:
        case keys.Numbers(wanted, uid):
            found = resolve(key, view, saved, 0, True)
            assert isinstance(found, keys.Uids)
            if wanted.saved or not uid:
                return found
            return keys.Uids(tuple(numbers.merge([*found.ranges, *numbers.of_uids(wanted, HIGHEST)])))
        case keys.And(parts):
            return keys.And(tuple(frozen(part, view, saved) for part in parts))
        case keys.Or(one, other):
            return keys.Or(frozen(one, view, saved), frozen(other, view, saved))
        case keys.Not(inner):
            return keys.Not(frozen(inner, view, saved))
        case keys.Fuzzy(inner):
            return keys.Fuzzy(frozen(inner, view, saved))
    return key


def _has_ages(key: Key) -> bool:
    match key:
        case keys.Age():
            return True
        case keys.And(parts):
            return any(map(_has_ages, parts))
        case keys.Or(one, other):
            return _has_ages(one) or _has_ages(other)
        case keys.Not(inner) | keys.Fuzzy(inner):
            return _has_ages(inner)
    return False


def tell_gone(session: "ImapSession") -> None:
    """The client is about to hear that messages are expunged: first they leave the results."""
    contexts, view = session.contexts, session.view
    if contexts is None or view is None:
        return
    _tell_waiting(session, contexts)
    gone = view.gone
    for context in contexts.by_tag.values() if gone else ():
        left = _present(context, gone)
        if left:
            _say(session, contexts, context, _taken(context, left, view))


async def refresh(session: "ImapSession") -> None:
    """Say what changed in the results since the last time."""
    contexts = session.contexts
    if contexts is None:
        return
    async with contexts.lock:
        if session.contexts is not contexts or session.view is None:
            return
        _tell_waiting(session, contexts)
        view = session.view
        changed, everything = contexts.changed, contexts.all
        contexts.changed, contexts.all = set(), False
        try:
            for context in list(contexts.by_tag.values()):
                if session.contexts is contexts and context.tag in contexts.by_tag:
                    await _refresh(session, contexts, context, view, changed, everything)
        except Temporary:
            contexts.all = True  # it is not lost, only late


async def _refresh(
    session: "ImapSession",
    contexts: Contexts,
    context: Context,
    view: View,
    changed: set[int],
    everything: bool,
) -> None:
    service, watch = session.service, session.watch
    assert watch is not None
    now = service.clock.monotonic()
    last = view.uids[view.count - 1] if view.count else 0
    if everything or (context.ages and now - context.looked >= AGES_EVERY):
        context.looked = now
        ranges = [(1, last + 1)]
    else:
        ranges = numbers.merge([*numbers.runs(sorted(changed)), (context.seen + 1, last + 1)])
    if session.engine.uid_only and not context.uid:
        del contexts.by_tag[context.tag]  # it would have to speak of sequence numbers
        session.engine.untagged(replies.no_update(context.tag))
        return
    if not numbers.total(ranges):
        return
    key = resolve(context.key, view, _NOTHING, service.clock.now(), session.owns_selected)
    parts = key.keys if isinstance(key, keys.And) else (key,)
    found, _ = await find(service, watch.mailbox_id, view, keys.And((keys.Uids(tuple(ranges)), *parts)))
    if session.contexts is not contexts or session.view is not view or context.tag not in contexts.by_tag:
        return  # another mailbox was selected meanwhile, or nobody wants to hear of this any more
    matching = {uid for uid in found if view.index(uid) >= 0}
    held = set(context.results) if len(matching) > 100 or everything else None
    new = sorted(uid for uid in matching if not (uid in held if held is not None else _holds(context, uid)))
    left = [uid for uid in _within(context, ranges) if uid not in matching]
    before, context.seen = context.seen, max(context.seen, last)
    if len(context.results) + len(new) - len(left) > (MAX_RESULT if context.criteria is None else MAX_SORTED_RESULT):
        del contexts.by_tag[context.tag]
        session.engine.untagged(replies.no_update(context.tag))
        return
    if left:
        _say(session, contexts, context, _taken(context, left, view))
    if new and context.criteria is not None:
        in_order = await ordered(service, Wanted(watch.mailbox_id, new[0], new[-1], None, new), context.criteria)
        made = await service.database.read(
            sorting.insert, watch.mailbox_id, context.criteria, context.results, in_order
        )
        if session.contexts is not contexts or session.view is not view:
            return
        # What went meanwhile was taken out of the result by `tell_gone`, and out of the view.
        kept = set(context.results)
        new = [uid for uid in in_order if view.index(uid) >= 0]
        kept.update(new)
        context.results = array("I", [uid for uid in made if uid in kept])
    elif new:
        _insert(context, new)
    if new and context.update is not None:
        said = await new_messages(session, context.update, [uid for uid in new if uid > before])
        if session.contexts is not contexts or session.view is not view:
            return
        if said:
            session.engine.raw(said)
        new = _present(context, sorted(new))
    if new:
        _say(session, contexts, context, (b"ADDTO", _pairs(context, set(new), _label(context, view))))


def _say(session: "ImapSession", contexts: Contexts, context: Context, said: tuple[bytes, bytes]) -> None:
    line = replies.esearch(context.tag, context.uid, [said], context.source)
    if session.torn:
        contexts.waiting.append(line)
    else:
        session.engine.untagged(line)


def _tell_waiting(session: "ImapSession", contexts: Contexts) -> None:
    if contexts.waiting and not session.torn:
        for line in contexts.waiting:
            session.engine.untagged(line)
        contexts.waiting.clear()


def _label(context: Context, view: View) -> Callable[[int], int]:
    return (lambda uid: uid) if context.uid else (lambda uid: view.index(uid) + 1)


def _holds(context: Context, uid: int) -> bool:
    if context.criteria is not None:
        return uid in context.results
    at = bisect_left(context.results, uid)
    return at < len(context.results) and context.results[at] == uid


def _present(context: Context, uids: Sequence[int]) -> list[int]:
    """Those of the UIDs that are in the result, ascending."""
    held = set(context.results) if len(uids) > 100 else None
    return [uid for uid in uids if (uid in held if held is not None else _holds(context, uid))]


def _within(context: Context, ranges: numbers.Ranges) -> list[int]:
    """Those of the result that lie in ranges of UIDs, ascending."""
    results = context.results
    if context.criteria is not None:
        return sorted(uid for uid in results if numbers.contains(ranges, uid))
    found: list[int] = []
    for low, high in ranges:
        found += results[bisect_left(results, low) : bisect_left(results, high)]
    return found


def _insert(context: Context, new: Sequence[int]) -> None:
    results = context.results
    if len(new) > 100:
        context.results = array("I", sorted({*results, *new}))
        return
    for uid in new:
        results.insert(bisect_left(results, uid), uid)


def _taken(context: Context, left: Collection[int], view: View) -> tuple[bytes, bytes]:
    """Take UIDs out of the result, and say so."""
    doomed = set(left)
    said = _pairs(context, doomed, _label(context, view), backwards=True)
    context.results = array("I", [uid for uid in context.results if uid not in doomed])
    return b"REMOVEFROM", said


def _pairs(context: Context, meant: set[int], label: Callable[[int], int], backwards: bool = False) -> bytes:
    """Positions and sets (RFC 5267 sections 4.3.3, 4.3.4). What is added is said from the front, so that each position
    is the one that it has in the end; what is taken away from the end, so that no position moves before it is said."""
    if context.criteria is None:
        return b"(0 %b)" % numbers.format_set(sorted(map(label, meant)))
    at = [place for place, uid in enumerate(context.results) if uid in meant]
    pairs = [
        b"%d %b" % (low + 1, numbers.format_set([label(uid) for uid in context.results[low:high]]))
        for low, high in numbers.runs(at)
    ]
    return b"(%b)" % b" ".join(reversed(pairs) if backwards else pairs)

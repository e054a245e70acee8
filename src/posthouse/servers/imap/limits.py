"""MESSAGELIMIT (RFC 9738): how many messages one command works on, if `limits.imap_messages` says so.

FETCH, STORE, SEARCH, MOVE and UID EXPUNGE work on those with the highest UIDs, from the highest down, and say in
their tagged OK where they stopped. COPY, SORT and THREAD, which make no sense in part, are refused. EXPUNGE, CLOSE
and STATUS know no limit.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from posthouse.imap import keys, numbers, replies
from posthouse.imap.keys import Key
from posthouse.imap.numbers import Ranges

if TYPE_CHECKING:
    from posthouse.servers.imap.session import ImapSession


def cut(session: "ImapSession", found: Ranges) -> tuple[Ranges, int]:
    """Those of the messages (indexes in the view) that a command works on; and the lowest UID among them if that is
    not all of them, else 0."""
    most = session.service.options.max_messages
    if not most or numbers.total(found) <= most:
        return found, 0
    view, _ = session.selected
    kept = numbers.cut(found, -1, -most)
    return kept, view.uids[kept[0][0]]


def downwards(found: Ranges, step: int) -> Iterator[tuple[int, int]]:
    """Index ranges of at most `step` messages, from the last one down."""
    for low, high in reversed(found):
        while low < high:
            begin = max(low, high - step)
            yield begin, high
            high = begin


def too_many(session: "ImapSession", lowest: int = 0) -> None:
    """Refuse a command that is not done in part."""
    most = session.service.options.max_messages
    code = replies.message_limit(most, lowest)
    session.done_with(replies.no("That is more than one command may work on", code), expunges=False)


def of_search(session: "ImapSession", key: Key) -> tuple[Key, int]:
    """The (resolved) key for the messages that are searched, and the lowest UID if these are not all that it names.

    It is the messages looked at that count, not those that match (RFC 9738 section 3.1).
    """
    kept, lowest = cut(session, _looked_at(session, key)) if session.service.options.max_messages else ([], 0)
    if not lowest:
        return key, 0
    view, _ = session.selected
    parts = key.keys if isinstance(key, keys.And) else (key,)
    return keys.And((keys.Uids(tuple(view.uid_ranges(kept))), *parts)), lowest


def refused(session: "ImapSession", key: Key) -> bool:
    """True, and answered, if a SORT or THREAD would have to look at too many messages (RFC 9738 section 3.3)."""
    most = session.service.options.max_messages
    if not most or numbers.total(_looked_at(session, key)) <= most:
        return False
    too_many(session)
    return True


def _looked_at(session: "ImapSession", key: Key) -> Ranges:
    """The messages, by index, that the sets of UIDs at the top of a key leave."""
    view, _ = session.selected
    found: Ranges = [(0, view.count)] if view.count else []
    for part in key.keys if isinstance(key, keys.And) else (key,):
        if isinstance(part, keys.Uids):
            found = numbers.common(found, view.find_uids(part.ranges))
    return found


def code(session: "ImapSession", lowest: int, other: bytes = b"") -> bytes:
    """The code of the tagged OK; if it has another one already, ours goes before it (RFC 9738 section 3.1)."""
    if lowest and other:
        tell(session, lowest)
    return replies.message_limit(session.service.options.max_messages, lowest) if lowest and not other else other


def tell(session: "ImapSession", lowest: int) -> None:
    """Say where the command stopped, where the tagged response has no room for it."""
    ours = replies.message_limit(session.service.options.max_messages, lowest)
    session.engine.untagged(replies.no("Not all messages were worked on", ours).encode())

"""SORT and THREAD: the store sorts, a reader thread makes threads and words of it, the session answers.

Both take turns with searches (`Shared.searching`): a large mailbox keeps one reader busy and nobody waiting.
"""

from array import array
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from posthouse.imap import replies, threads
from posthouse.imap.commands.sort import Sort, Thread
from posthouse.imap.threads import Member
from posthouse.servers.imap import contexts, limits
from posthouse.servers.imap.finding import (
    Places,
    ascending,
    find,
    highest_modseq,
    items,
    make_headings,
    ordered,
    relevancy,
    resolve,
    saved,
    told,
    wanted_of,
)
from posthouse.servers.imap.progress import Progress
from posthouse.store import sorting
from posthouse.store.database import Tx
from posthouse.store.sorting import Wanted

if TYPE_CHECKING:
    from posthouse.servers.imap.session import ImapSession

INLINE = 2000  # results that are put into words without a worker thread


async def sort(session: "ImapSession", event: Sort) -> None:
    view, watch = session.selected
    give = event.give
    service = session.service
    if not contexts.may_begin(session, give):
        return
    before, session.saved = session.saved, array("I") if give is not None and b"SAVE" in give else session.saved
    key = resolve(event.key, view, before, service.clock.now(), session.owns_selected)
    kept_up = contexts.frozen(event.key, view, before)
    if limits.refused(session, key):
        return
    wanted, modseq = await wanted_of(service, watch.mailbox_id, view, key, Progress(session, view.count))
    scores: dict[int, int] = {}
    if any(name == "RELEVANCY" for name, _ in event.criteria) or (give is not None and b"RELEVANCY" in give):
        found = wanted.uids if wanted.query is None else (await find(service, watch.mailbox_id, view, key))[0]
        scores = dict(zip(found, await relevancy(service, watch.mailbox_id, key, found), strict=True))
    uids = array("I", await ordered(service, wanted, event.criteria, scores))
    if len(uids) > sorting.MAX_SORTED:
        session.done_with(replies.TOO_MANY_TO_SORT, expunges=event.uid)
        return
    shown_options = give if give is None else give or frozenset((b"ALL",))
    highest = 0
    in_view = view.slice(0, view.count)
    if event.condstore:
        options = shown_options or frozenset()
        said_of = await service.database.work(ascending, told(uids, options, event.partial), in_view)
        highest = await highest_modseq(service, watch.mailbox_id, said_of)
    arguments = (uids, in_view, event.uid, shown_options, event.partial, highest, scores)
    said = _said(*arguments) if len(uids) <= INLINE else await service.database.work(_said, *arguments)
    if isinstance(said, bytes):
        await session.send(said)
    elif said or shown_options != frozenset((b"SAVE",)):
        session.engine.untagged(replies.esearch(session.engine.tag, event.uid, said))
    if give is not None and b"SAVE" in give:
        session.saved = await service.database.work(ascending, saved(uids, give, event.partial), in_view)
    if give is not None and b"UPDATE" in give:
        contexts.begin(session, kept_up, event.uid, uids, event.criteria, update=event.update)
    outdated = view.holds_expunged or modseq > view.modseq
    session.done("SORT completed", b"EXPUNGEISSUED" if outdated else b"", expunges=event.uid)


def _said(
    uids: "array[int]",
    view: "array[int]",
    uid: bool,
    give: frozenset[bytes] | None,
    partial: tuple[int, int] | None,
    highest: int,
    scores: Mapping[int, int],
) -> bytes | list[tuple[bytes, bytes]]:
    """The SORT response, or what an ESEARCH response says (RFC 5267 section 3)."""
    known: Sequence[int] = uids
    values: Sequence[int] = uids
    if not uid:
        places = Places(view)
        known = array("I", [one for one in uids if places.of(one)])
        values = array("I", [places.of(one) for one in known])
    if give is not None:
        return items(values, give, partial, highest, [scores.get(one, 1) for one in known])
    words = [b" %d" % value for value in values]
    modseq = b" (MODSEQ %d)" % highest if highest and words else b""
    return b"* SORT%b%b\r\n" % (b"".join(words), modseq)


async def thread(session: "ImapSession", event: Thread) -> None:
    view, watch = session.selected
    service = session.service
    key = resolve(event.key, view, session.saved, service.clock.now(), session.owns_selected)
    if limits.refused(session, key):
        return
    wanted, modseq = await wanted_of(service, watch.mailbox_id, view, key, Progress(session, view.count))
    while True:
        async with service.searching:
            made = await service.database.read(_threads, wanted, event.algorithm, view.slice(0, view.count), event.uid)
        if isinstance(made, bytes):
            break
        if not made:
            session.done_with(replies.TOO_MANY_TO_SORT, expunges=event.uid)
            return
        await make_headings(service, made)
    await session.send(made)
    outdated = view.holds_expunged or modseq > view.modseq
    session.done("THREAD completed", b"EXPUNGEISSUED" if outdated else b"", expunges=event.uid)


def _threads(tx: Tx, wanted: Wanted, algorithm: str, view: "array[int]", uid: bool) -> bytes | list[int]:
    """The THREAD response; or the ids of emails without a heading, none if there are too many messages."""
    rows, missing = sorting.threaded(tx, wanted)
    if missing or len(rows) > sorting.MAX_THREADED:
        return missing
    places = Places(view)
    numbered = [number for row in rows if (number := places.of(row[0]))]
    if len(numbered) < len(rows):
        rows = [row for row in rows if places.of(row[0])]
    if algorithm == "ORDEREDSUBJECT":
        forest = threads.ordered_subject([row[2] for row in rows])
    else:
        members = [Member(*row[1:]) for row in rows]
        in_mailbox = _by_place(numbered, len(view))
        if algorithm == "REFERENCES":
            forest = threads.references(members, in_mailbox)
        else:
            arrived = sorting.order(tx, wanted, (("ARRIVAL", False),)).uids
            at = {row[0]: number for number, row in enumerate(rows)}
            forest = threads.refs(members, in_mailbox, [at[one] for one in arrived if one in at])
    labels = [b"%d" % (row[0] if uid else number) for row, number in zip(rows, numbered, strict=True)]
    shown = threads.format_forest(forest, labels)
    return b"* THREAD %b\r\n" % shown if shown else b"* THREAD\r\n"


def _by_place(numbered: Sequence[int], count: int) -> list[int]:
    """The messages in the order of their sequence numbers, without sorting: that would hold everybody up."""
    at = [-1] * (count + 1)
    for place, number in enumerate(numbered):
        at[number] = place
    return [place for place in at if place >= 0]

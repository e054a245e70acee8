"""SEARCH: let the store find, answer in the form that was asked for."""

from array import array
from typing import TYPE_CHECKING

from posthouse.imap import replies
from posthouse.imap.commands.search import Search
from posthouse.servers.imap import contexts, limits
from posthouse.servers.imap.finding import ascending, find, highest_modseq, items, relevancy, resolve, saved, told
from posthouse.servers.imap.progress import Progress

if TYPE_CHECKING:
    from posthouse.servers.imap.session import ImapSession


async def search(session: "ImapSession", event: Search) -> None:
    view, watch = session.selected
    give = event.give
    service = session.service
    if not contexts.may_begin(session, give):
        return
    before = session.saved
    if give is not None and b"SAVE" in give:
        session.saved = array("I")  # RFC 5182 section 2.1: what goes wrong leaves nothing saved
    key, lowest = limits.of_search(
        session, resolve(event.key, view, before, service.clock.now(), session.owns_selected)
    )
    kept_up = contexts.frozen(event.key, view, before)
    found, modseq = await find(service, watch.mailbox_id, view, key, Progress(session, view.count))
    # What is not in the view (it came while we searched) does not exist for the client yet.
    uids = view.known(found)
    shown = give if give is not None else frozenset((b"ALL",)) if session.engine.rev2 else None
    shown = shown if shown is None else shown or frozenset((b"ALL",))
    highest = 0
    if event.condstore:
        said_of = told(uids, shown or frozenset(), event.partial)
        highest = await highest_modseq(service, watch.mailbox_id, said_of)
    scores: list[int] = []
    if give is not None and b"RELEVANCY" in give:
        scores = await relevancy(service, watch.mailbox_id, key, uids)
    values = uids if event.uid else view.numbers_of(uids)
    if shown is None:
        words = b"".join([b" %d" % value for value in values])
        session.engine.untagged(b"SEARCH" + words + (b" (MODSEQ %d)" % highest if highest else b""))
    else:
        said = items(values, shown, event.partial, highest, scores)
        # RFC 5182 section 2.1: with nothing but SAVE there is nothing to say.
        if said or shown != {b"SAVE"}:
            session.engine.untagged(replies.esearch(session.engine.tag, event.uid, said))
    if give is not None and b"SAVE" in give:
        session.saved = ascending(saved(uids, give, event.partial), view.uids)
    if give is not None and b"UPDATE" in give:
        contexts.begin(session, kept_up, event.uid, uids, update=event.update)
    # RFC 5530 section 3: the client's list may hold messages that no search can find. The store may have told us
    # of a change that the feed has not.
    outdated = view.holds_expunged or modseq > view.modseq
    code = limits.code(session, lowest, b"EXPUNGEISSUED" if outdated else b"")
    session.done("SEARCH completed", code, expunges=event.uid)

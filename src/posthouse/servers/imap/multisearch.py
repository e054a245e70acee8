"""ESEARCH: one search through several mailboxes (RFC 7377), one after the other; and CANCELUPDATE.

Each mailbox is looked at as if it were selected, in turns with everybody's searches. At most `MAX_MAILBOXES` of them
are searched by one command.
"""

from array import array
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from posthouse.imap import replies
from posthouse.imap.commands.multisearch import CancelUpdate, Esearch
from posthouse.imap.names import SEPARATOR
from posthouse.imap.view import UidList, View
from posthouse.servers.imap import access, contexts
from posthouse.servers.imap.finding import ascending, find, highest_modseq, items, relevancy, resolve, saved, told
from posthouse.servers.imap.progress import Progress
from posthouse.store import acl, mailboxes, select
from posthouse.store.database import Tx
from posthouse.store.model import Mailbox

if TYPE_CHECKING:
    from posthouse.servers.imap.session import ImapSession

MAX_MAILBOXES = 2000

_NOTHING = array("I")


class _Tree(NamedTuple):
    own: list[Mailbox]
    others: list[Mailbox]  # those of others that may be read, by the names that they have here
    hidden: frozenset[int]  # ids of those that may be read but not seen: only who has one open knows of it
    subscribed: frozenset[str]


def _tree(tx: Tx, account_id: int) -> _Tree:
    readable = [one for one in acl.shared_with(tx, account_id) if access.NEEDS["SELECT"].is_met(one.rights)]
    others = [one.mailbox._replace(name=access.shown(one.owner, one.mailbox.name)) for one in readable]
    hidden = frozenset(one.mailbox.id for one in readable if "l" not in one.rights)
    subscribed = frozenset(mailboxes.subscriptions(tx, account_id))
    return _Tree(mailboxes.list_all(tx, account_id), others, hidden, subscribed)


def _uids(tx: Tx, mailbox_id: int) -> tuple[Mailbox, "array[int]"] | None:
    mailbox = mailboxes.by_id(tx, mailbox_id)
    return None if mailbox is None else (mailbox, select.uids(tx, mailbox))


def _meant(sources: Iterable[tuple[str, tuple[str, ...]]], tree: _Tree, selected: int) -> Iterator[Mailbox]:
    """The mailboxes of the sources; those that do not exist are passed over."""
    everything = [*tree.own, *tree.others]
    visible = [mailbox for mailbox in everything if mailbox.id not in tree.hidden]
    by_name = {mailbox.name: mailbox for mailbox in visible}
    for kind, names in sources:
        match kind:
            case "SELECTED":
                yield from (mailbox for mailbox in everything if mailbox.id == selected)
            case "PERSONAL" | "INBOXES":
                # Filters may put mail into any mailbox, so "inboxes" is all of them (RFC 5465 section 6.3).
                yield from tree.own
            case "SUBSCRIBED":
                yield from (mailbox for mailbox in visible if mailbox.name in tree.subscribed)
            case "MAILBOXES":
                yield from (by_name[name] for name in names if name in by_name)
            case _:
                for name in names:
                    yield from (m for m in visible if _below(m.name, name, kind == "SUBTREE-ONE"))


def _below(name: str, top: str, one_level: bool) -> bool:
    """Is it the mailbox at the top, or (one level) below it? Below "" is everything."""
    if name == top:
        return True
    prefix = top + SEPARATOR if top else ""
    return name.startswith(prefix) and not (one_level and SEPARATOR in name[len(prefix) :])


async def esearch(session: "ImapSession", event: Esearch) -> None:
    service, watch = session.service, session.watch
    give = event.give
    if not contexts.may_begin(session, give):
        return
    before = session.saved
    if b"SAVE" in give:
        session.saved = array("I")
    tree = await service.database.read(_tree, session.account_id)
    selected = watch.mailbox_id if watch is not None else 0
    meant = list({mailbox.id: mailbox for mailbox in _meant(event.sources, tree, selected)}.values())
    if len(meant) > MAX_MAILBOXES or _too_many_messages(session, meant):
        session.done_with(replies.TOO_MANY_MAILBOXES)
        return
    progress = Progress(session, len(meant))
    updated = b"UPDATE" not in give
    for done, mailbox in enumerate(meant):
        progress.tell(done)
        updated |= await _search_one(session, event, mailbox, before)
    if not updated:
        session.engine.untagged(replies.no_update(session.engine.tag))
    session.done("ESEARCH completed")


def _too_many_messages(session: "ImapSession", meant: Iterable[Mailbox]) -> bool:
    most = session.service.options.max_messages
    return most > 0 and sum(mailbox.messages for mailbox in meant) > most


async def _search_one(session: "ImapSession", event: Esearch, mailbox: Mailbox, before: "array[int]") -> bool:
    """Search one mailbox and tell what was found there. Is its result kept up to date, if that was asked for?"""
    service, give = session.service, event.give
    is_selected = session.watch is not None and session.watch.mailbox_id == mailbox.id
    if is_selected:
        view, _ = session.selected
    else:
        opened = await service.database.read(_uids, mailbox.id)
        if opened is None:
            return False
        mailbox, uids = opened[0]._replace(name=mailbox.name), opened[1]
        recent_from = service.watches.recent_from(mailbox)
        recent = [(recent_from, mailbox.uidnext)] if not session.engine.rev2 and recent_from < mailbox.uidnext else []
        view, before = View(UidList(uids), len(uids), mailbox.highestmodseq, recent), _NOTHING
    key = resolve(event.key, view, before, service.clock.now(), mailbox.account_id == session.login_id)
    kept_up = contexts.frozen(event.key, view, before)
    found, _ = await find(service, mailbox.id, view, key)
    uids = view.known(found)
    source = replies.search_source(mailbox.name, mailbox.uidvalidity, session.engine.utf8)
    if uids:
        highest = 0
        if event.condstore:
            highest = await highest_modseq(service, mailbox.id, told(uids, give, event.partial))
        scores: list[int] = []
        if b"RELEVANCY" in give:
            scores = await relevancy(service, mailbox.id, key, uids)
        said = items(uids, give, event.partial, highest, scores)
        if said or give != {b"SAVE"}:
            line = replies.esearch(session.engine.tag, True, said, source)
            await session.send(b"* %b\r\n" % line)
    if not is_selected:
        return False
    if b"SAVE" in give:
        session.saved = ascending(saved(uids, give, event.partial), view.uids)
    if b"UPDATE" in give:
        contexts.begin(session, kept_up, True, uids, source=source, update=event.update)
    return True


def cancel_update(session: "ImapSession", event: CancelUpdate) -> None:
    contexts.cancel(session, event.tags)
    session.done("CANCELUPDATE completed")

"""CREATE, DELETE, RENAME, SUBSCRIBE, STATUS, NAMESPACE: mailboxes by name."""

from collections.abc import Container
from typing import TYPE_CHECKING

from posthouse.base.errors import AlreadyExists, NotFound
from posthouse.imap import names, replies
from posthouse.imap.commands import mailboxes
from posthouse.servers.imap import access
from posthouse.servers.imap.watches import Watches
from posthouse.store import acl, select
from posthouse.store import mailboxes as stored
from posthouse.store.database import Tx
from posthouse.store.model import SPECIAL_USE, Mailbox

if TYPE_CHECKING:
    from posthouse.servers.imap.session import ImapSession

MAX_MAILBOXES = 10_000  # of an account
MAX_SUBSCRIPTIONS = 10_000

_USES = frozenset(SPECIAL_USE.values())
_TOO_MANY = replies.no(f"An account has {MAX_MAILBOXES} mailboxes at most", b"LIMIT")
_TOO_MANY_SUBSCRIPTIONS = replies.no(f"An account has {MAX_SUBSCRIPTIONS} subscriptions at most", b"LIMIT")
_BAD_USE = replies.no("That use cannot be given to a mailbox here", b"USEATTR")
_NOT_ACROSS = replies.no("A mailbox stays with its owner, and INBOX where it is: copy the messages", b"CANNOT")
_USE_TAKEN = replies.no("Another mailbox has that use", b"USEATTR")


def make(tx: Tx, account_id: int, name: str, use: str) -> replies.Status:
    """Make a mailbox and what is missing above it; the status to answer with."""
    where = access.placed(tx, account_id, name)
    access.above(tx, account_id, where, "CREATE")
    if where.is_foreign and use:
        return _BAD_USE
    account_id, name = where.owner_id, where.name
    there = {mailbox.name: mailbox for mailbox in stored.list_all(tx, account_id)}
    if len(there) + name.count(names.SEPARATOR) >= MAX_MAILBOXES:
        return _TOO_MANY
    if use and any(mailbox.special_use == use for mailbox in there.values()):
        return _USE_TAKEN
    if name in there:
        raise AlreadyExists(f"mailbox {name!r} exists already")
    _create_above(tx, account_id, name, there)
    made = stored.create(tx, account_id, name, use)
    _inherit(tx, made, there)
    return replies.ok("CREATE completed", b"MAILBOXID (%b)" % replies.mailbox_id(made.id))


def _create_above(tx: Tx, account_id: int, name: str, there: dict[str, Mailbox]) -> None:
    """RFC 9051 section 6.3.4: the levels above a new mailbox are made with it."""
    at = name.find(names.SEPARATOR)
    while at >= 0:
        if name[:at] not in there:
            made = there[name[:at]] = stored.create(tx, account_id, name[:at])
            _inherit(tx, made, there)
        at = name.find(names.SEPARATOR, at + 1)


def _inherit(tx: Tx, made: Mailbox, there: dict[str, Mailbox]) -> None:
    """Whoever may use the mailbox above may use a new one."""
    parent = there.get(made.name.rpartition(names.SEPARATOR)[0])
    if parent is not None:
        acl.inherit(tx, parent, made)


async def create(session: "ImapSession", event: mailboxes.Create) -> None:
    name = event.name.removesuffix(names.SEPARATOR)
    problem = _problem(name)
    if problem is not None:
        session.done_with(replies.no(problem, b"CANNOT"))
        return
    if len(event.special_use) > 1 or not _USES.issuperset(event.special_use):
        session.done_with(_BAD_USE)
        return
    use = event.special_use[0] if event.special_use else ""
    status = await session.service.database.write(make, session.account_id, name, use)
    session.did(name)
    session.done_with(status)


def _problem(name: str) -> str | None:
    """Why a mailbox cannot have this name."""
    owner = access.owner_of(name)
    return names.problem(name if owner is None else name.split(names.SEPARATOR, 2)[-1])


def _delete(tx: Tx, account_id: int, name: str) -> None:
    found = access.find(tx, account_id, name, "DELETE")
    if found is None:
        raise NotFound(f"no mailbox {name!r}")
    where = access.placed(tx, account_id, name)
    stored.delete(tx, where.owner_id, where.name)


async def delete(session: "ImapSession", event: mailboxes.Delete) -> None:
    await session.service.database.write(_delete, session.account_id, event.name)
    session.did(event.name)
    if session.watch is not None and session.watch.deleted:
        session.leave()
        if session.engine.rev2:
            session.engine.untagged(b"OK [CLOSED] The selected mailbox is the deleted one")
    session.done("DELETE completed")


def _rename(tx: Tx, account_id: int, old: str, new: str) -> replies.Status | None:
    if access.find(tx, account_id, old, "RENAME") is None:
        return replies.NO_SUCH_MAILBOX
    source, target = access.placed(tx, account_id, old), access.placed(tx, account_id, new)
    if source.owner_id != target.owner_id or (source.is_foreign and source.name == "INBOX"):
        return _NOT_ACROSS
    access.above(tx, account_id, target, "RENAME TO")
    there = {mailbox.name: mailbox for mailbox in stored.list_all(tx, source.owner_id)}
    if target.name not in there:
        _create_above(tx, source.owner_id, target.name, there)
    stored.rename(tx, source.owner_id, source.name, target.name)
    return None


async def rename(session: "ImapSession", event: mailboxes.Rename) -> None:
    new = event.new.removesuffix(names.SEPARATOR)
    problem = _problem(new)
    if problem is not None:
        session.done_with(replies.no(problem, b"CANNOT"))
        return
    status = await session.service.database.write(_rename, session.account_id, event.old, new)
    session.did(new)
    session.done_with(status or replies.ok("RENAME completed"))


def _subscribe(tx: Tx, account_id: int, name: str, on: bool) -> replies.Status | None:
    if on and access.find(tx, account_id, name, "SUBSCRIBE") is None:
        return replies.NO_SUCH_MAILBOX  # RFC 9051 section 6.3.7 leaves it to us; clients show their typing errors so
    if on and len(stored.subscriptions(tx, account_id)) >= MAX_SUBSCRIPTIONS:
        return _TOO_MANY_SUBSCRIPTIONS
    stored.subscribe(tx, account_id, name, on)
    return None


async def subscribe(session: "ImapSession", event: mailboxes.Subscribe) -> None:
    name = event.name.removesuffix(names.SEPARATOR)
    status = await session.service.database.write(_subscribe, session.account_id, name, event.on)
    session.did(name)
    session.done_with(status or replies.ok("SUBSCRIBE completed" if event.on else "UNSUBSCRIBE completed"))


Counted = dict[bytes, int]


def counted(tx: Tx, mailbox: Mailbox, items: Container[bytes], watches: Watches) -> Counted:
    """Those of the items of STATUS that stand in no row."""
    found = {}
    if b"RECENT" in items:
        found[b"RECENT"] = select.count_from(tx, mailbox, watches.recent_from(mailbox))
    if b"DELETED-STORAGE" in items:
        found[b"DELETED-STORAGE"] = select.deleted_size(tx, mailbox)
    return found


def _status(
    tx: Tx, account_id: int, name: str, items: Container[bytes], watches: Watches
) -> tuple[Mailbox, Counted] | None:
    found = access.find(tx, account_id, name, "STATUS")
    return None if found is None else (found.mailbox, counted(tx, found.mailbox, items, watches))


async def status(session: "ImapSession", event: mailboxes.Status) -> None:
    service = session.service
    found = await service.database.glance(_status, session.account_id, event.name, event.items, service.watches)
    if found is None:
        session.done_with(replies.NO_SUCH_MAILBOX)
        return
    session.engine.untagged(status_line(session, found[0], event.items, found[1]))
    session.done("STATUS completed")


def status_line(session: "ImapSession", mailbox: Mailbox, items: tuple[bytes, ...], counts: Counted) -> bytes:
    """The STATUS response."""
    values: dict[bytes, int | bytes] = {
        b"MESSAGES": mailbox.messages,
        b"UIDNEXT": mailbox.uidnext,
        b"UIDVALIDITY": mailbox.uidvalidity,
        b"UNSEEN": mailbox.unseen,
        b"DELETED": mailbox.deleted,
        b"SIZE": mailbox.size,
        b"HIGHESTMODSEQ": mailbox.highestmodseq,
        b"APPENDLIMIT": session.engine.options.max_message,
        b"MAILBOXID": b"(%b)" % replies.mailbox_id(mailbox.id),
        **counts,
    }
    return replies.status_item(mailbox.name, session.engine.utf8, [(item, values[item]) for item in items])


def namespace(session: "ImapSession", _: mailboxes.Namespace) -> None:
    session.engine.untagged(b'NAMESPACE (("" "/")) (("%b/" "/")) NIL' % access.PREFIX.encode())
    session.done("NAMESPACE completed")

"""SETACL, DELETEACL, GETACL, LISTRIGHTS, MYRIGHTS (RFC 4314): owners, and those whom they let, share mailboxes.

Identifiers are names of accounts, and "anyone" for all of them. An owner has every right, which cannot be taken away.
There are no groups and no negative rights.
"""

from typing import TYPE_CHECKING

from posthouse.imap import replies
from posthouse.imap.commands.acl import GetAcl, ListRights, MyRights, SetAcl, shown
from posthouse.servers.imap import access
from posthouse.store import acl as stored
from posthouse.store.acl import ALL, ANYONE
from posthouse.store.database import Tx

if TYPE_CHECKING:
    from posthouse.servers.imap.session import ImapSession

_UNKNOWN = replies.no('There is no such account; "anyone" is all of them', b"CANNOT")
_NEGATIVE = replies.no("Negative rights are not supported", b"CANNOT")
_OWNER = replies.no("The owner of a mailbox has all rights", b"CANNOT")


def _who(tx: Tx, identifier: str) -> int | None:
    if identifier == "anyone":
        return ANYONE
    return stored.account_named(tx, identifier.lower())


def _set(tx: Tx, account_id: int, event: SetAcl) -> replies.Status | None:
    found = access.find(tx, account_id, event.name, "DELETEACL" if event.delete else "SETACL")
    if found is None:
        return replies.NO_SUCH_MAILBOX
    mailbox, who = found.mailbox, _who(tx, event.identifier)
    if who is None:
        return _NEGATIVE if event.identifier.startswith("-") else _UNKNOWN
    if who == mailbox.account_id:
        takes = event.rights if event.mode == "-" else ALL - event.rights if event.mode == "=" else None
        return _OWNER if takes else None
    had = stored.granted(tx, mailbox.id, who)
    wanted = {"=": event.rights, "+": had | event.rights, "-": had - event.rights}[event.mode]
    if wanted != had:
        stored.grant(tx, mailbox, who, wanted)
    return None


async def set_acl(session: "ImapSession", event: SetAcl) -> None:
    problem = await session.service.database.write(_set, session.account_id, event)
    session.done_with(problem or replies.ok("DELETEACL completed" if event.delete else "SETACL completed"))


def _list(tx: Tx, account_id: int, name: str) -> list[tuple[str, frozenset[str]]] | None:
    found = access.find(tx, account_id, name, "GETACL")
    if found is None:
        return None
    owner = stored.name_of(tx, found.mailbox.account_id)
    return [(owner, ALL), *((one.name, frozenset(one.rights)) for one in stored.entries(tx, found.mailbox.id))]


async def get_acl(session: "ImapSession", event: GetAcl) -> None:
    entries = await session.service.database.read(_list, session.account_id, event.name)
    if entries is None:
        session.done_with(replies.NO_SUCH_MAILBOX)
        return
    utf8 = session.engine.utf8
    pairs = b"".join(b" %b %b" % (replies.astring(who.encode(), utf8), shown(rights)) for who, rights in entries)
    session.engine.untagged(b"ACL %b%b" % (replies.mailbox(event.name, utf8), pairs))
    session.done("GETACL completed")


def _may_have(tx: Tx, account_id: int, event: ListRights) -> bytes | replies.Status:
    """The rights that somebody has in any case, and those that may be granted one by one."""
    found = access.find(tx, account_id, event.name, "LISTRIGHTS")
    if found is None:
        return replies.NO_SUCH_MAILBOX
    who = _who(tx, event.identifier)
    if who is None:
        return _UNKNOWN
    if who == found.mailbox.account_id:
        return shown(ALL)
    return b'"" ' + b" ".join(bytes((letter,)) for letter in shown(ALL))


async def list_rights(session: "ImapSession", event: ListRights) -> None:
    found = await session.service.database.read(_may_have, session.account_id, event)
    if isinstance(found, replies.Status):
        session.done_with(found)
        return
    utf8 = session.engine.utf8
    name, who = replies.mailbox(event.name, utf8), replies.astring(event.identifier.encode(), utf8)
    session.engine.untagged(b"LISTRIGHTS %b %b %b" % (name, who, found))
    session.done("LISTRIGHTS completed")


def response(name: bytes, rights: frozenset[str]) -> bytes:
    """MYRIGHTS mailbox rights; `name` as it goes to the client."""
    return b"MYRIGHTS %b %b" % (name, shown(rights))


async def my_rights(session: "ImapSession", event: MyRights) -> None:
    found = await session.service.database.read(access.find, session.account_id, event.name, "MYRIGHTS")
    if found is None:
        session.done_with(replies.NO_SUCH_MAILBOX)
        return
    session.engine.untagged(response(replies.mailbox(event.name, session.engine.utf8), found.rights))
    session.done("MYRIGHTS completed")

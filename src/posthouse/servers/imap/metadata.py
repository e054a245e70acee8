"""GETMETADATA, SETMETADATA: annotations of mailboxes and of the server (RFC 5464).

Of the server clients set private annotations only. /shared/admin is computed: where to find those who run it.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from posthouse.imap import replies
from posthouse.imap.commands.metadata import GetMetadata, SetMetadata
from posthouse.servers.imap import access
from posthouse.servers.imap.shared import Shared
from posthouse.store import annotations
from posthouse.store.annotations import PRIVATE, SERVER
from posthouse.store.database import Tx

if TYPE_CHECKING:
    from posthouse.servers.imap.session import ImapSession

ADMIN = "/shared/admin"
_TOO_LARGE = replies.no("The value is larger than this server takes", b"METADATA MAXSIZE %d" % annotations.MAX_VALUE)
_TOO_MANY = replies.no("There are too many annotations already", b"METADATA TOOMANY")
_NOT_YOURS = replies.no("Shared annotations of the server are set by those who run it", b"NOPERM")


class Found(NamedTuple):
    """What GETMETADATA tells."""

    values: list[tuple[str, bytes | None]]  # by the names that the client used
    longest: int  # size of the largest value that was left out; 0: none was


def look(tx: Tx, mailbox_id: int, account_id: int, event: GetMetadata, admin: bytes = b"") -> Found:
    """The entries that were asked for, of one mailbox. Those named exactly are told even if they have no value."""
    known = {one.entry: one.size for one in annotations.known(tx, mailbox_id, account_id)}
    if admin:
        known[ADMIN] = len(admin)
    wanted: dict[str, str] = {}  # name in lower case: as it is told
    for name in event.entries:
        wanted.setdefault(name.lower(), name)
        if event.depth:
            below = name.lower() + "/"
            for one in sorted(known):
                if one.startswith(below) and one.count("/", len(below)) < event.depth:
                    wanted.setdefault(one, name + one[len(below) - 1 :])
    fitting = [name for name in wanted if event.max_size is None or known.get(name, 0) <= event.max_size]
    longest = max((known.get(name, 0) for name in wanted if name not in fitting), default=0)
    values: dict[str, bytes] = annotations.values(tx, mailbox_id, account_id, fitting)
    if admin and ADMIN in fitting:
        values[ADMIN] = admin
    named = [name for name in fitting if name in values or not event.depth]
    return Found([(wanted[name], values.get(name)) for name in named], longest)


def response(name: bytes, values: Iterable[tuple[str, bytes | None]]) -> bytes:
    """METADATA mailbox (entry value …), without "* " and CRLF; `name` as it goes to the client."""
    pairs = [b"%b %b" % (replies.astring(entry.encode()), _value(value)) for entry, value in values]
    return b"METADATA %b (%b)" % (name, b" ".join(pairs))


def _value(value: bytes | None) -> bytes:
    if value is None:
        return b"NIL"
    if b"\0" in value:
        return b"~{%d}\r\n%b" % (len(value), value)
    return replies.quoted(value)


def _get(tx: Tx, account_id: int, event: GetMetadata, admin: bytes) -> Found | None:
    if not event.name:
        return look(tx, SERVER, account_id, event, admin)
    found = access.find(tx, account_id, event.name, "GETMETADATA")
    return None if found is None else look(tx, found.mailbox.id, account_id, event)


def _admin(service: Shared) -> bytes:
    address = service.settings.postmaster or "postmaster@" + service.settings.hostname
    return b"mailto:" + address.encode()


async def get_metadata(session: "ImapSession", event: GetMetadata) -> None:
    service = session.service
    found = await service.database.read(_get, session.account_id, event, _admin(service))
    if found is None:
        session.done_with(replies.NO_SUCH_MAILBOX)
        return
    if found.values:
        name = replies.mailbox(event.name, session.engine.utf8) if event.name else b'""'
        await session.send(b"* %b\r\n" % response(name, found.values))
    code = b"METADATA LONGENTRIES %d" % found.longest if found.longest else b""
    session.done("GETMETADATA completed", code)


class _TooMany(Exception):
    """What was set is undone."""


def _set(tx: Tx, account_id: int, event: SetMetadata) -> replies.Status | None:
    changes = {entry.lower(): value for entry, value in event.values}
    if not event.name:
        if not all(entry.startswith(PRIVATE) for entry in changes):
            return _NOT_YOURS
        mailbox_id, owner_id = SERVER, account_id
    else:
        private = all(entry.startswith(PRIVATE) for entry in changes)
        found = access.find(tx, account_id, event.name, "SETMETADATA" if private else "SETMETADATA SHARED")
        if found is None:
            return replies.NO_SUCH_MAILBOX
        mailbox_id, owner_id = found.mailbox.id, found.mailbox.account_id
    if not annotations.store(tx, mailbox_id, owner_id, account_id, changes):
        raise _TooMany
    return None


async def set_metadata(session: "ImapSession", event: SetMetadata) -> None:
    if any(value is not None and len(value) > annotations.MAX_VALUE for _, value in event.values):
        session.done_with(_TOO_LARGE)
        return
    try:
        problem = await session.service.database.write(_set, session.account_id, event)
    except _TooMany:
        problem = _TOO_MANY
    if session.notifier is not None:
        session.notifier.set_entries([entry.lower() for entry, _ in event.values])
    session.done_with(problem or replies.ok("SETMETADATA completed"))

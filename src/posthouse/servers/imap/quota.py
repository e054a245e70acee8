"""GETQUOTA, GETQUOTAROOT: an account with limits is a quota root, and its name the root's (RFC 9208). One
without limits has no root: the grammar has no empty list of resources."""

from typing import TYPE_CHECKING

from posthouse.imap import replies
from posthouse.imap.commands.quota import GetQuota, GetQuotaRoot
from posthouse.servers.imap import access
from posthouse.store import acl
from posthouse.store import quota as stored
from posthouse.store.database import Tx
from posthouse.store.quota import Usage

if TYPE_CHECKING:
    from posthouse.servers.imap.session import ImapSession

_UNIT = 1024  # octets: the unit of STORAGE (section 5.1)


def _of_root(tx: Tx, account_id: int, root: str, default: int) -> Usage | None:
    """A quota root: oneself, or somebody who lets one read something (section 8: others are told nothing)."""
    owner_id = acl.account_named(tx, root)
    if owner_id is None:
        return None
    if owner_id != account_id:
        theirs = (one for one in acl.shared_with(tx, account_id) if one.mailbox.account_id == owner_id)
        if not any(access.NEEDS["GETQUOTAROOT"].is_met(one.rights) for one in theirs):
            return None
    return stored.of_account(tx, owner_id, default)


def _of_mailbox(tx: Tx, account_id: int, name: str, default: int) -> Usage | None:
    """The root of a mailbox; one's own need not exist: the answer says what would count for it."""
    if access.owner_of(name) is None:
        return stored.of_account(tx, account_id, default)
    found = access.find(tx, account_id, name, "GETQUOTAROOT")
    return None if found is None else stored.of_account(tx, found.mailbox.account_id, default)


def _response(usage: Usage, utf8: bool) -> bytes:
    """QUOTA root (resource usage limit …); what is not limited is not named (section 4.2.1)."""
    items = []
    if usage.storage_limit:
        # Both are rounded up: an account that is not over its limit must not look as if it were.
        items.append(b"STORAGE %d %d" % (-(-usage.size // _UNIT), -(-usage.storage_limit // _UNIT)))
    if usage.message_limit:
        items.append(b"MESSAGE %d %d" % (usage.messages, usage.message_limit))
    return b"QUOTA %b (%b)" % (replies.astring(usage.name.encode(), utf8), b" ".join(items))


async def get_quota(session: "ImapSession", event: GetQuota) -> None:
    service = session.service
    root, default = event.root.decode("utf-8", "replace").lower(), service.settings.limits.quota_storage
    usage = await service.database.read(_of_root, session.account_id, root, default)
    if usage is None or not usage.has_limits:
        session.done_with(replies.NO_SUCH_ROOT)
        return
    session.engine.untagged(_response(usage, session.engine.utf8))
    session.done("GETQUOTA completed")


async def get_quota_root(session: "ImapSession", event: GetQuotaRoot) -> None:
    service = session.service
    default = service.settings.limits.quota_storage
    usage = await service.database.read(_of_mailbox, session.account_id, event.name, default)
    if usage is None:
        session.done_with(replies.NO_SUCH_MAILBOX)
        return
    utf8 = session.engine.utf8
    name, root = replies.mailbox(event.name, utf8), replies.astring(usage.name.encode(), utf8)
    session.engine.untagged(b"QUOTAROOT " + (b"%b %b" % (name, root) if usage.has_limits else name))
    if usage.has_limits:
        session.engine.untagged(_response(usage, utf8))
    session.done("GETQUOTAROOT completed")

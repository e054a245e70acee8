"""GETQUOTA, GETQUOTAROOT: an account is a quota root, and its name the root's (RFC 9208)."""

from typing import TYPE_CHECKING

from posthouse.imap import replies
from posthouse.imap.commands.quota import GetQuota, GetQuotaRoot
from posthouse.store import quota as stored
from posthouse.store.quota import Usage

if TYPE_CHECKING:
    from posthouse.servers.imap.session import ImapSession

_UNIT = 1024  # octets: the unit of STORAGE (section 5.1)


async def _own(session: "ImapSession") -> Usage | None:
    default = session.service.settings.limits.quota_storage
    return await session.service.database.read(stored.of_account, session.account_id, default)


def _response(usage: Usage, utf8: bool) -> bytes:
    """QUOTA root (resource usage limit …); what is not limited is not named (section 4.2.1)."""
    items = []
    if usage.storage_limit:
        items.append(b"STORAGE %d %d" % (-(-usage.size // _UNIT), usage.storage_limit // _UNIT))
    if usage.message_limit:
        items.append(b"MESSAGE %d %d" % (usage.messages, usage.message_limit))
    return b"QUOTA %b (%b)" % (replies.astring(usage.name.encode(), utf8), b" ".join(items))


async def get_quota(session: "ImapSession", event: GetQuota) -> None:
    usage = await _own(session)
    if usage is None or event.root.decode("utf-8", "replace").lower() != usage.name:
        session.done_with(replies.NO_SUCH_ROOT)
        return
    session.engine.untagged(_response(usage, session.engine.utf8))
    session.done("GETQUOTA completed")


async def get_quota_root(session: "ImapSession", event: GetQuotaRoot) -> None:
    # The mailbox need not exist: the answer says what would count for it.
    usage = await _own(session)
    if usage is None:
        session.done_with(replies.NO_SUCH_MAILBOX)
        return
    utf8 = session.engine.utf8
    name, root = replies.mailbox(event.name, utf8), replies.astring(usage.name.encode(), utf8)
    session.engine.untagged(b"QUOTAROOT %b %b" % (name, root))
    session.engine.untagged(_response(usage, utf8))
    session.done("GETQUOTAROOT completed")

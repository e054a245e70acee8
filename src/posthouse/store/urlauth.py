"""The keys by which URLs of messages are authorized (RFC 4467): one a mailbox, made when it is first needed."""

from posthouse.store import mailboxes
from posthouse.store.credentials import server_secret
from posthouse.store.database import Tx


def key(tx: Tx, mailbox_id: int) -> bytes:
    """The key of a mailbox (in a writing transaction: it may be made now)."""
    return server_secret(tx, _name(mailbox_id))


def known_key(tx: Tx, mailbox_id: int) -> bytes | None:
    """The key of a mailbox, or None: nothing was ever authorized there."""
    row = tx.one("SELECT value FROM secret WHERE name = ?", _name(mailbox_id))
    return bytes(row[0]) if row is not None else None


def reset(tx: Tx, account_id: int, name: str | None) -> bool:
    """Forget the key of a mailbox, or those of all mailboxes of the account; False: there is no such mailbox."""
    chosen = mailboxes.list_all(tx, account_id) if name is None else [mailboxes.by_name(tx, account_id, name)]
    found = [mailbox for mailbox in chosen if mailbox is not None]
    tx.many("DELETE FROM secret WHERE name = ?", [(_name(mailbox.id),) for mailbox in found])
    return bool(found)


def _name(mailbox_id: int) -> str:
    return f"urlauth:{mailbox_id}"

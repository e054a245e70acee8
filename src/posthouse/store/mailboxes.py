"""Mailboxes of an account: the tree by names, special use, subscriptions, counters.

Names are Unicode, levels parted by "/"; INBOX is one name in any case. What names a client may use
is for the IMAP server to say; here only existence matters: `NotFound`, `AlreadyExists`.
"""

from posthouse.base.errors import AlreadyExists, NotFound, Permanent
from posthouse.store import annotations, messages
from posthouse.store.database import Tx
from posthouse.store.model import SPECIAL_USE, AccessChanged, Mailbox, MailboxesChanged, SubscriptionChanged

SEPARATOR = "/"
COLUMNS = (
    "id, account_id, name, uidvalidity, uidnext, highestmodseq, special_use, recent_uid, "
    "messages, unseen, deleted, size"
)


def canonical(name: str) -> str:
    """The name as it is stored: INBOX, and INBOX above children, is written large (RFC 9051 section 5.1)."""
    first, separator, rest = name.partition(SEPARATOR)
    return "INBOX" + separator + rest if first.upper() == "INBOX" else name


def list_all(tx: Tx, account_id: int) -> list[Mailbox]:
    """All mailboxes of an account, by name."""
    rows = tx.all(f"SELECT {COLUMNS} FROM mailbox WHERE account_id = ? ORDER BY name", account_id)  # noqa: S608
    return [Mailbox(*row) for row in rows]


def by_name(tx: Tx, account_id: int, name: str) -> Mailbox | None:
    """The mailbox of that name, or None."""
    row = tx.one(
        f"SELECT {COLUMNS} FROM mailbox WHERE account_id = ? AND name = ?",  # noqa: S608
        account_id,
        canonical(name),
    )
    return Mailbox(*row) if row else None


def by_id(tx: Tx, mailbox_id: int) -> Mailbox | None:
    """The mailbox with that id, or None."""
    row = tx.one(f"SELECT {COLUMNS} FROM mailbox WHERE id = ?", mailbox_id)  # noqa: S608
    return Mailbox(*row) if row else None


def inbox_id(tx: Tx, account_id: int) -> int:
    """The id of an account's INBOX, which always exists; raises `NotFound` if the account does not."""
    row = tx.one("SELECT id FROM mailbox WHERE account_id = ? AND name = 'INBOX'", account_id)
    if row is None:
        raise NotFound(f"account {account_id}")
    return int(row[0])


def create(tx: Tx, account_id: int, name: str, special_use: str = "") -> Mailbox:
    """Make a mailbox; raises `AlreadyExists`. Its UIDVALIDITY was never used in this account before."""
    name = canonical(name)
    if by_name(tx, account_id, name):
        raise AlreadyExists(f"mailbox {name!r} exists already")
    row = tx.one(
        "UPDATE account SET uidvalidity = uidvalidity + 1, modseq = modseq + 1 WHERE id = ? "
        "RETURNING uidvalidity, modseq",
        account_id,
    )
    if row is None:
        raise NotFound(f"account {account_id}")
    mailbox_id = tx.insert(
        "INSERT INTO mailbox (account_id, name, uidvalidity, highestmodseq, special_use) "
        "VALUES (?, ?, ?, ?, ?) RETURNING id",
        account_id,
        name,
        row[0],
        row[1],
        special_use,
    )
    tx.publish(MailboxesChanged(account_id, mailbox_id, name=name))
    return Mailbox(mailbox_id, account_id, name, row[0], 1, row[1], special_use, 1, 0, 0, 0, 0)


def with_use(tx: Tx, account_id: int, name: str) -> Mailbox:
    """The mailbox with a special use (RFC 6154), named as `SPECIAL_USE` names it; else the one of that name, which is
    made if there is none."""
    use = SPECIAL_USE[name]
    row = tx.one(
        f"SELECT {COLUMNS} FROM mailbox WHERE account_id = ? AND (special_use = ? OR name = ?) "  # noqa: S608
        "ORDER BY special_use = ? DESC LIMIT 1",
        account_id,
        use,
        name,
        use,
    )
    return Mailbox(*row) if row is not None else create(tx, account_id, name, use)


def rename(tx: Tx, account_id: int, old: str, new: str) -> None:
    """Rename a mailbox and its children. INBOX itself is emptied into the new name and stays (RFC 9051
    section 6.3.6)."""
    old, new = canonical(old), canonical(new)
    mailbox = by_name(tx, account_id, old)
    if mailbox is None:
        raise NotFound(f"no mailbox {old!r}")
    if by_name(tx, account_id, new):
        raise AlreadyExists(f"mailbox {new!r} exists already")
    if new.startswith(old + SEPARATOR) and old != "INBOX":
        raise Permanent(f"{new!r} lies inside {old!r}", "A mailbox cannot be moved into itself")
    if old == "INBOX":
        target = create(tx, account_id, new)
        messages.move(tx, account_id, mailbox.id, None, target.id)
        annotations.copy(tx, account_id, mailbox.id, target.id)  # RFC 5464 section 4.1: INBOX keeps them too
        return
    children = tx.all(
        "SELECT id, name FROM mailbox WHERE account_id = ? AND substr(name, 1, ?) = ?",
        account_id,
        len(old) + 1,
        old + SEPARATOR,
    )
    for child_id, name in [(mailbox.id, old), *children]:
        renamed = new + name[len(old) :]
        if by_name(tx, account_id, renamed):
            raise AlreadyExists(f"mailbox {renamed!r} exists already")
        tx.run("UPDATE mailbox SET name = ? WHERE id = ?", renamed, child_id)
        is_top = child_id == mailbox.id
        tx.publish(MailboxesChanged(account_id, child_id, name=new if is_top else "", old=old if is_top else ""))


def delete(tx: Tx, account_id: int, name: str) -> None:
    """Delete a mailbox with its messages; children stay. INBOX cannot be deleted."""
    mailbox = by_name(tx, account_id, name)
    if mailbox is None:
        raise NotFound(f"no mailbox {name!r}")
    if mailbox.name == "INBOX":
        raise Permanent("INBOX cannot be deleted", "INBOX cannot be deleted")
    remove(tx, mailbox.id)
    tx.publish(MailboxesChanged(account_id, mailbox.id, deleted=True, name=mailbox.name))


def has_children(tx: Tx, account_id: int, name: str) -> bool:
    """Is there a mailbox below that name?"""
    row = tx.one(
        "SELECT 1 FROM mailbox WHERE account_id = ? AND name > ? AND name < ? LIMIT 1",
        account_id,
        name + SEPARATOR,
        name + chr(ord(SEPARATOR) + 1),
    )
    return row is not None


def remove(tx: Tx, mailbox_id: int) -> None:
    """Remove a mailbox and all that hangs on it."""
    mailbox = by_id(tx, mailbox_id)
    for who, rights in tx.all("SELECT account_id, rights FROM acl WHERE mailbox_id = ?", mailbox_id):
        if mailbox is not None and "l" in rights:
            tx.publish(AccessChanged(who, mailbox.account_id, mailbox_id, mailbox.name))
    messages.remove_all(tx, mailbox_id)
    annotations.remove_all(tx, mailbox_id)
    tx.run("DELETE FROM acl WHERE mailbox_id = ?", mailbox_id)
    tx.run("DELETE FROM mailbox WHERE id = ?", mailbox_id)


def subscribe(tx: Tx, account_id: int, name: str, on: bool) -> None:
    """Add a name to the subscriptions, or take it off; the mailbox need not exist."""
    name = canonical(name)
    gone = tx.run("DELETE FROM subscription WHERE account_id = ? AND name = ?", account_id, name)
    if bool(gone) != on:
        tx.publish(SubscriptionChanged(account_id, name))
    if on:
        tx.run("INSERT INTO subscription (account_id, name) VALUES (?, ?)", account_id, name)


def subscriptions(tx: Tx, account_id: int) -> list[str]:
    """The subscribed names, sorted."""
    return [n for (n,) in tx.all("SELECT name FROM subscription WHERE account_id = ? ORDER BY name", account_id)]


def set_recent(tx: Tx, mailbox_id: int, uid: int) -> None:
    """From this UID on messages are \\Recent for the next session (RFC 3501 section 2.3.2). It never goes back."""
    tx.run("UPDATE mailbox SET recent_uid = ? WHERE id = ? AND recent_uid < ?", uid, mailbox_id, uid)

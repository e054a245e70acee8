"""Who may do what in whose mailboxes (RFC 4314): entries of a mailbox for accounts and for everybody.

`rights` is the one place that says what an account may do in a mailbox: its owner everything, others what their entry
and that for everybody grant together. Which right a command needs is for the IMAP server to say.
"""

from typing import NamedTuple

from posthouse.base.errors import Permanent
from posthouse.store.database import Tx
from posthouse.store.mailboxes import COLUMNS
from posthouse.store.model import AccessChanged, AclChanged, Mailbox

ANYONE = 0
RIGHTS = "lrswipkxtea"  # in the order in which they are stored and told
ALL = frozenset(RIGHTS)
NONE = frozenset[str]()
MAX_ENTRIES = 1000  # of all mailboxes of an owner
MAX_SHARED = 10_000  # mailboxes of others that an account is told of


class Entry(NamedTuple):
    """One entry of a mailbox's list."""

    account_id: int
    name: str  # of the account; "anyone"
    rights: str


class Shared(NamedTuple):
    """A mailbox of somebody else."""

    owner: str
    mailbox: Mailbox
    rights: frozenset[str]


def account_named(tx: Tx, name: str) -> int | None:
    """The account of that name (in lower case), or None."""
    row = tx.one("SELECT id FROM account WHERE name = ?", name)
    return int(row[0]) if row is not None else None


def name_of(tx: Tx, account_id: int) -> str:
    """The name of an account, "" if it is gone."""
    row = tx.one("SELECT name FROM account WHERE id = ?", account_id)
    return str(row[0]) if row is not None else ""


def rights(tx: Tx, account_id: int, mailbox: Mailbox) -> frozenset[str]:
    """What an account may do in a mailbox."""
    if mailbox.account_id == account_id:
        return ALL
    rows = tx.all(
        "SELECT rights FROM acl WHERE mailbox_id = ? AND account_id IN (?, ?)", mailbox.id, account_id, ANYONE
    )
    return NONE.union(*(row[0] for row in rows))


def entries(tx: Tx, mailbox_id: int) -> list[Entry]:
    """The list of a mailbox, by name; that for everybody comes last. The owner is not on it."""
    rows = tx.all(
        "SELECT acl.account_id, account.name, rights FROM acl LEFT JOIN account ON account.id = acl.account_id "
        "WHERE mailbox_id = ? ORDER BY account.name IS NULL, account.name",
        mailbox_id,
    )
    return [Entry(who, "anyone" if who == ANYONE else name, granted) for who, name, granted in rows]


def granted(tx: Tx, mailbox_id: int, account_id: int) -> frozenset[str]:
    """What the entry of an account (or of `ANYONE`) says."""
    row = tx.one("SELECT rights FROM acl WHERE mailbox_id = ? AND account_id = ?", mailbox_id, account_id)
    return frozenset(row[0]) if row is not None else NONE


def grant(tx: Tx, mailbox: Mailbox, account_id: int, wanted: frozenset[str]) -> None:
    """Let an account (or `ANYONE`) do this and nothing else in a mailbox."""
    if ("l" in granted(tx, mailbox.id, account_id)) != ("l" in wanted):
        tx.publish(AccessChanged(account_id, mailbox.account_id, mailbox.id, _own_name(tx, mailbox)))
    tx.run("DELETE FROM acl WHERE mailbox_id = ? AND account_id = ?", mailbox.id, account_id)
    if wanted:
        owner = name_of(tx, mailbox.account_id)
        if any(sign in owner for sign in "/%*"):  # no mailbox name can have it as a level
            raise Permanent(f"{owner}: the name has a / or a wildcard in it", "This account cannot share mailboxes")
        _room(tx, mailbox.account_id, 1)
        tx.run(
            "INSERT INTO acl (mailbox_id, account_id, rights) VALUES (?, ?, ?)", mailbox.id, account_id, text(wanted)
        )
    tx.publish(AclChanged(mailbox.account_id, mailbox.id, account_id))


def _own_name(tx: Tx, mailbox: Mailbox) -> str:
    """What its owner calls it, whoever looks at it."""
    row = tx.one("SELECT name FROM mailbox WHERE id = ?", mailbox.id)
    return str(row[0]) if row is not None else mailbox.name


def _room(tx: Tx, owner_id: int, more: int) -> None:
    row = tx.one(
        "SELECT count(*) FROM acl JOIN mailbox ON mailbox.id = acl.mailbox_id WHERE mailbox.account_id = ?", owner_id
    )
    if row is not None and row[0] + more > MAX_ENTRIES:
        why = f"An account may have {MAX_ENTRIES} entries in the lists of its mailboxes"
        raise Permanent(f"account {owner_id}: {why}", why)


def text(wanted: frozenset[str]) -> str:
    """Rights as they are stored."""
    return "".join(right for right in RIGHTS if right in wanted)


def inherit(tx: Tx, parent: Mailbox, child: Mailbox) -> None:
    """A new mailbox has the list of the one above it (RFC 4314 section 4)."""
    row = tx.one("SELECT count(*) FROM acl WHERE mailbox_id = ?", parent.id)
    if row is None or not row[0]:
        return
    _room(tx, parent.account_id, row[0])
    tx.run(
        "INSERT INTO acl (mailbox_id, account_id, rights) SELECT ?, account_id, rights FROM acl WHERE mailbox_id = ?",
        child.id,
        parent.id,
    )
    for who, given in tx.all("SELECT account_id, rights FROM acl WHERE mailbox_id = ?", child.id):
        tx.publish(AclChanged(child.account_id, child.id, who))
        if "l" in given:
            tx.publish(AccessChanged(who, child.account_id, child.id, child.name))


def shared_with(tx: Tx, account_id: int) -> list[Shared]:
    """The mailboxes of others in which an account may do something, by owner and name."""
    columns = ", ".join(f"m.{column.strip()}" for column in COLUMNS.split(","))
    rows = tx.all(
        f"SELECT account.name, acl.rights, {columns} FROM acl "  # noqa: S608
        "JOIN mailbox m ON m.id = acl.mailbox_id JOIN account ON account.id = m.account_id "
        "WHERE acl.account_id IN (?, ?) AND m.account_id <> ? ORDER BY account.name, m.name LIMIT ?",
        account_id,
        ANYONE,
        account_id,
        MAX_SHARED,
    )
    found: list[Shared] = []
    for owner, given, *columns_of_mailbox in rows:
        mailbox = Mailbox(*columns_of_mailbox)
        if found and found[-1].mailbox.id == mailbox.id:  # an entry of one's own, and one for everybody
            given = found.pop().rights.union(given)
        found.append(Shared(owner, mailbox, frozenset(given)))
    return found

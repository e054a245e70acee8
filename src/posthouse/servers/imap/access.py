"""Names of mailboxes as an account sees them, and what it may do there.

"Shared/bob@example.org/Work" is bob's mailbox Work; every other name is one's own. `find` is how commands come to a
mailbox: it looks one up and holds the rights that the account has there (`store/acl.py`) against those that the command
needs, which are in one table, `NEEDS` (RFC 4314 section 4). Whoever may not even see a mailbox is told that there is
none; whoever may not do what is asked is told so (`Denied`).

Flags are shared: there is one \\Seen for all who read a mailbox.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from posthouse.base.errors import NotFound, Permanent
from posthouse.imap.names import SEPARATOR
from posthouse.store import acl, mailboxes
from posthouse.store.acl import ALL, NONE
from posthouse.store.database import Tx
from posthouse.store.messages import Allowed
from posthouse.store.model import DELETED, SEEN, Mailbox

T = TypeVar("T")

PREFIX = "Shared"  # above the mailboxes of others
_OTHER = SEEN | DELETED


class Denied(Permanent):
    """The account may see the mailbox, but not do this."""

    def __init__(self) -> None:
        super().__init__("not permitted", "That is not permitted in this mailbox")


class Need(NamedTuple):
    """Rights that a command needs: all of the one, and of the other, if it names any, at least one."""

    all_of: str = ""
    one_of: str = ""

    def is_met(self, rights: frozenset[str]) -> bool:
        """Are these enough?"""
        return rights.issuperset(self.all_of) and (not self.one_of or not rights.isdisjoint(self.one_of))


NEEDS = {
    # Mailboxes by name
    "SELECT": Need("r"),  # and EXAMINE, and what URLs name
    "STATUS": Need("r"),
    "SUBSCRIBE": Need("l"),
    "CREATE": Need("k"),  # in the nearest one above
    "DELETE": Need("x"),
    "RENAME": Need("x"),
    "RENAME TO": Need("k"),  # in the nearest one above
    "APPEND": Need("i"),
    "COPY TO": Need("i"),  # and MOVE
    "GETACL": Need("a"),
    "SETACL": Need("a"),
    "DELETEACL": Need("a"),
    "LISTRIGHTS": Need("a"),
    "MYRIGHTS": Need(one_of="lrikxa"),
    "GETQUOTAROOT": Need("r"),  # RFC 9208 section 6
    "GETMETADATA": Need("l", "rswip"),  # RFC 5464 section 3.3
    "SETMETADATA": Need("l", "rswip"),
    "SETMETADATA SHARED": Need("lw"),  # who may only read has no say in what others see
    # The selected mailbox
    "STORE": Need(one_of="swt"),
    "SEEN": Need("s"),  # FETCH sets it, if it may
    "EXPUNGE": Need("e"),
    "MOVE": Need("te"),  # RFC 6851 section 3.3
    "REPLACE": Need("te"),  # RFC 8508 section 3
    "WRITE": Need(one_of="ieswt"),  # without it the mailbox is read-only (RFC 4314 section 5.2)
}


class Place(NamedTuple):
    """A name taken apart."""

    owner_id: int
    name: str  # as the owner calls it
    prefix: str = ""  # before it, as others see it

    @property
    def is_foreign(self) -> bool:
        """Is it somebody else's?"""
        return bool(self.prefix)


class Access(NamedTuple):
    """A mailbox, its name as the account sees it, and what it may do there."""

    mailbox: Mailbox
    rights: frozenset[str]


def shown(owner: str, name: str) -> str:
    """The name of somebody else's mailbox."""
    return f"{PREFIX}{SEPARATOR}{owner}{SEPARATOR}{name}"


def owner_of(name: str) -> str | None:
    """Whose mailbox a name means, if it is one of somebody else; else None."""
    first, _, rest = name.partition(SEPARATOR)
    owner = rest.partition(SEPARATOR)[0]
    return owner.lower() if first == PREFIX and "@" in owner else None


def canonical(name: str) -> str:
    """The name as it is compared."""
    owner = owner_of(name)
    if owner is None:
        return mailboxes.canonical(name)
    inner = name.split(SEPARATOR, 2)[2:]
    return SEPARATOR.join([PREFIX, owner, *map(mailboxes.canonical, inner)])


def place(tx: Tx, account_id: int, name: str) -> Place | None:
    """Whose tree a name lies in; None: there is no such account, or it is one's own under a name for others."""
    owner = owner_of(name)
    if owner is None:
        return Place(account_id, mailboxes.canonical(name))
    row = acl.account_named(tx, owner)
    if row is None or row == account_id:
        return None
    inner = name.split(SEPARATOR, 2)[2:]
    return Place(row, mailboxes.canonical(inner[0] if inner else ""), shown(owner, ""))


def look(tx: Tx, account_id: int, name: str) -> Access | None:
    """The mailbox of that name, if the account may do anything there."""
    where = place(tx, account_id, name)
    mailbox = mailboxes.by_name(tx, where.owner_id, where.name) if where is not None else None
    if where is None or mailbox is None:
        return None
    if not where.is_foreign:
        return Access(mailbox, ALL)
    rights = acl.rights(tx, account_id, mailbox)
    return Access(mailbox._replace(name=where.prefix + mailbox.name, special_use=""), rights) if rights else None


def find(tx: Tx, account_id: int, name: str, command: str) -> Access | None:
    """The mailbox of that name for a command of `NEEDS`; None if there is none. Raises `Denied`."""
    found = look(tx, account_id, name)
    if found is None or NEEDS[command].is_met(found.rights):
        return found
    if "l" in found.rights:
        raise Denied
    return None


def above(tx: Tx, account_id: int, where: Place, command: str) -> None:
    """May the account make a mailbox here? The nearest one above decides (RFC 4314 section 4). Raises `Denied`."""
    if not where.is_foreign:
        return
    name = where.name
    while SEPARATOR in name:
        name = name.rpartition(SEPARATOR)[0]
        mailbox = mailboxes.by_name(tx, where.owner_id, name)
        if mailbox is not None:
            if NEEDS[command].is_met(acl.rights(tx, account_id, mailbox)):
                return
            break
    raise Denied


def placed(tx: Tx, account_id: int, name: str) -> Place:
    """`place`, and `NotFound` if there is none."""
    where = place(tx, account_id, name)
    if where is None:
        raise NotFound(f"no mailbox {name!r}")
    return where


def allowed(rights: frozenset[str]) -> Allowed:
    """The flags that these rights let an account set (RFC 4314 section 4)."""
    flags = SEEN * ("s" in rights) | DELETED * ("t" in rights)
    return Allowed(flags | (Allowed().flags & ~_OTHER if "w" in rights else 0), "w" in rights)


def checked(tx: Tx, account_id: int, mailbox_id: int, command: str, fn: Callable[..., T], *args: Any) -> T:
    """Do something in a mailbox that somebody has open, if he may do this there now. Raises `Denied`."""
    if not NEEDS[command].is_met(of_mailbox(tx, account_id, mailbox_id)):
        raise Denied
    return fn(tx, *args)


def of_mailbox(tx: Tx, account_id: int, mailbox_id: int) -> frozenset[str]:
    """What the account may do now in a mailbox that it has open; nothing if it is gone."""
    mailbox = mailboxes.by_id(tx, mailbox_id)
    return NONE if mailbox is None else acl.rights(tx, account_id, mailbox)

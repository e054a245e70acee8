"""Domains, accounts, addresses, credentials: who lives here and which address leads where.

Names come in as text and are stored in canonical form: domains as lower-case A-labels, local parts in
lower case (RFC 5321 section 2.4 leaves the local part's case to the host that owns it, and no person
expects Bob@ and bob@ to differ). Raises `NotFound`, `AlreadyExists`, and `Permanent` for names that
can't be.
"""

import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

import idna

from posthouse.base.errors import AlreadyExists, NotFound, Permanent, Temporary
from posthouse.store import dkim_keys, mailboxes
from posthouse.store.database import Row, Tx
from posthouse.store.model import SPECIAL_USE, Account, AddressRow, DirectoryChanged
from posthouse.wire.address import Address

CATCH_ALL = ""
ANYBODY = "*"
MAX_EXPANSION = 1000  # accounts and addresses one alias may lead to
MAX_DEPTH = 10  # aliases behind aliases


class Resolution(NamedTuple):
    """Where mail for an address goes: accounts here, addresses elsewhere. Both empty: no such address."""

    accounts: tuple[int, ...] = ()
    remote: tuple[str, ...] = ()
    local: bool = True  # the domain is one of ours


def canonical_domain(text: str) -> str:
    """A domain name as lower-case A-labels (RFC 5890)."""
    name = text.strip().rstrip(".").lower()
    try:
        if not name.isascii():
            name = idna.encode(name, uts46=True).decode("ascii")
    except idna.IDNAError as error:
        raise Permanent(f"{text!r} is not a domain name: {error}") from error
    labels = name.split(".")
    if not name or len(name) > 253 or any(not 0 < len(label) <= 63 for label in labels):
        raise Permanent(f"{text!r} is not a domain name")
    if any(not label.replace("-", "").replace("_", "").isalnum() or label[0] == "-" for label in labels):
        raise Permanent(f"{text!r} is not a domain name: letters, digits and hyphens only")
    return name


def folded(local_part: str) -> str:
    """A local part of ours as it is compared: in lower case, letters with marks in one form (RFC 6532 section 3.1)."""
    return local_part.lower() if local_part.isascii() else unicodedata.normalize("NFC", local_part).lower()


def split_address(text: str) -> tuple[str, str]:
    """A local part in lower case and a canonical domain: an address of ours. Those that need quotes are refused."""
    address = _address(text)
    if str(address)[:1] == '"':
        raise Permanent(f"{text!r} needs quotes: letters, digits, single dots and some signs make a name here")
    return folded(address.local_part), canonical_domain(address.domain)


def _address(text: str) -> Address:
    """An address as it stands in an envelope."""
    local_part, at, domain = text.strip().rpartition("@")
    address = Address.parse(f"{local_part}@{canonical_domain(domain)}") if at and "[" not in domain else None
    if address is None or not address.domain:
        raise Permanent(f"{text!r} is not an address: it should look like name@example.org")
    return address


# Domains


def add_domain(tx: Tx, name: str, now: int) -> int:
    """Take a domain as ours."""
    name = canonical_domain(name)
    if tx.one("SELECT id FROM domain WHERE name = ?", name):
        raise AlreadyExists(f"domain {name} is here already: `posthouse domain dns {name}` shows its DNS records")
    domain_id = tx.insert("INSERT INTO domain (name, created) VALUES (?, ?) RETURNING id", name, now)
    tx.publish(DirectoryChanged())
    return domain_id


def is_ours(tx: Tx, name: str) -> bool:
    """Whether mail for a domain (in lower case) is for us."""
    return tx.one("SELECT 1 FROM domain WHERE name = ?", name) is not None


def first_domain(tx: Tx) -> str:
    """The domain that was added first; "" if there is none."""
    row = tx.one("SELECT name FROM domain ORDER BY created, id LIMIT 1")
    return str(row[0]) if row is not None else ""


def list_domains(tx: Tx) -> list[tuple[str, int, int]]:
    """(name, number of addresses, created) of each domain, by name."""
    return [
        (name, count, created)
        for name, count, created in tx.all(
            "SELECT name, (SELECT count(*) FROM address WHERE domain_id = domain.id), created FROM domain ORDER BY name"
        )
    ]


def remove_domain(tx: Tx, name: str) -> None:
    """Give a domain up, with its keys; refused while accounts have their name in it."""
    row = tx.one("SELECT id FROM domain WHERE name = ?", canonical_domain(name))
    if row is None:
        raise NotFound(f"domain {name} is not one of ours: `posthouse domain list` shows them")
    (domain_id,) = row
    ending = "@" + canonical_domain(name)
    row = tx.one("SELECT count(*), min(name) FROM account WHERE substr(name, -?) = ?", len(ending), ending)
    if row and row[0]:
        who = f"an account ({row[1]}): remove it" if row[0] == 1 else f"{row[0]} accounts ({row[1]} ...): remove them"
        raise Permanent(f"domain {name} still has {who} first")
    tx.run("DELETE FROM address WHERE domain_id = ?", domain_id)
    tx.run("DELETE FROM domain WHERE id = ?", domain_id)
    dkim_keys.remove_domain(tx, canonical_domain(name))
    tx.publish(DirectoryChanged())


def _domain_id(tx: Tx, name: str) -> int:
    row = tx.one("SELECT id FROM domain WHERE name = ?", name)
    if row is None:
        raise NotFound(f"domain {name} is not one of ours: add it with `posthouse domain add {name}`")
    return int(row[0])


# Accounts


def add_account(tx: Tx, address: str, secret: str, now: int, display_name: str = "", scram: str = "") -> int:
    """Make an account with its address, its password hash and the usual mailboxes; return its id."""
    local_part, domain = split_address(address)
    name = f"{local_part}@{domain}"
    domain_id = _domain_id(tx, domain)
    if tx.one("SELECT id FROM account WHERE name = ?", name):
        raise AlreadyExists(f"account {name} exists already")
    if tx.one("SELECT id FROM address WHERE domain_id = ? AND local_part = ?", domain_id, local_part):
        raise AlreadyExists(f"address {name} is in use as an alias already")
    account_id = tx.insert(
        "INSERT INTO account (name, display_name, created, uidvalidity) VALUES (?, ?, ?, ?) RETURNING id",
        name,
        display_name,
        now,
        now // 1_000_000,  # so that an account made anew does not repeat the values of the old one
    )
    tx.run(
        "INSERT INTO address (domain_id, local_part, account_id) VALUES (?, ?, ?)",
        domain_id,
        local_part,
        account_id,
    )
    set_password(tx, account_id, secret, now, scram)
    mailboxes.create(tx, account_id, "INBOX")
    mailboxes.subscribe(tx, account_id, "INBOX", True)
    for mailbox_name, use in SPECIAL_USE.items():
        mailboxes.create(tx, account_id, mailbox_name, use)
        mailboxes.subscribe(tx, account_id, mailbox_name, True)
    tx.publish(DirectoryChanged())
    return account_id


def list_accounts(tx: Tx) -> list[Account]:
    """All accounts, by name."""
    rows = tx.all("SELECT id, name, display_name, created, disabled FROM account ORDER BY name")
    return [Account(i, name, display, created, bool(disabled)) for i, name, display, created, disabled in rows]


def find_account(tx: Tx, name: str) -> Account:
    """The account of that name (an address); raises `NotFound`."""
    local_part, domain = split_address(name)
    row = tx.one(
        "SELECT id, name, display_name, created, disabled FROM account WHERE name = ?",
        f"{local_part}@{domain}",
    )
    if row is None:
        raise NotFound(f"there is no account {name}: `posthouse account list` shows them")
    return Account(row[0], row[1], row[2], row[3], bool(row[4]))


def active(tx: Tx) -> set[int]:
    """The ids of all accounts that may log in."""
    return {account_id for (account_id,) in tx.all("SELECT id FROM account WHERE disabled = 0")}


def names(tx: Tx, account_ids: Sequence[int]) -> list[str]:
    """The names of accounts, in order."""
    rows = [tx.one("SELECT name FROM account WHERE id = ?", account_id) for account_id in account_ids]
    return sorted(row[0] for row in rows if row is not None)


def remove_account(tx: Tx, name: str) -> None:
    """Remove an account with all its mail and addresses."""
    account_id = find_account(tx, name).id
    for mailbox in mailboxes.list_all(tx, account_id):
        mailboxes.remove(tx, mailbox.id)
    for table in ("subscription", "acl", "credential", "address", "send_as", "login_attempt", "suppression"):
        tx.run(f"DELETE FROM {table} WHERE account_id = ?", account_id)  # noqa: S608
    tx.run("DELETE FROM annotation WHERE owner_id = ? OR account_id = ?", account_id, account_id)
    tx.run("DELETE FROM account WHERE id = ?", account_id)
    tx.publish(DirectoryChanged())


def set_password(tx: Tx, account_id: int, secret: str, now: int = 0, scram: str = "") -> None:
    """Replace the password hash of an account; `scram` are the keys made of the same password. What was kept for
    CRAM-MD5 goes: it was the old password."""
    tx.run("DELETE FROM credential WHERE account_id = ? AND kind IN ('password', 'cram')", account_id)
    tx.run(
        "INSERT INTO credential (account_id, kind, secret, created, scram) VALUES (?, 'password', ?, ?, ?)",
        account_id,
        secret,
        now,
        scram,
    )
    tx.publish(DirectoryChanged())


# Addresses


def add_address(tx: Tx, address: str, target: str) -> None:
    """Lead `address` ("@example.org" is the catch-all) to an account's name or to any other address. The local part
    of an address elsewhere is kept as it is written: its case is its host's."""
    local_part, domain = _alias(address)
    domain_id = _domain_id(tx, domain)
    target = _target(tx, target)
    if target == f"{local_part}@{domain}":
        raise Permanent(f"{address} would lead to itself")
    row = tx.one("SELECT id FROM account WHERE name = ?", target)
    account_id, elsewhere = (row[0], None) if row else (None, target)
    if tx.one(
        "SELECT id FROM address WHERE domain_id = ? AND local_part = ? AND (account_id = ? OR target = ?)",
        domain_id,
        local_part,
        account_id,
        elsewhere,
    ):
        raise AlreadyExists(f"{address} leads to {target} already")
    if tx.one("SELECT id FROM account WHERE name = ?", f"{local_part}@{domain}"):
        raise AlreadyExists(f"{address} is an account: an alias cannot take its place")
    tx.run(
        "INSERT INTO address (domain_id, local_part, account_id, target) VALUES (?, ?, ?, ?)",
        domain_id,
        local_part,
        account_id,
        elsewhere,
    )
    try:
        found = resolve(tx, local_part, domain)
    except Temporary as error:
        raise Permanent(
            f"{address} would lead to more than {MAX_EXPANSION} addresses, or over more than {MAX_DEPTH} aliases"
        ) from error
    if not found.accounts and not found.remote:
        raise Permanent(
            f"{target} is nobody's address here, or leads back to {address}: add that account or alias first"
        )
    if elsewhere is not None and tx.one("SELECT id FROM domain WHERE name = ?", _domain_of(target)):
        alone = resolve(tx, *split_address(target))
        if not alone.accounts and not alone.remote:
            raise Permanent(f"{target} is nobody's address here: add that account or alias first")
    tx.publish(DirectoryChanged())


def _domain_of(address: str) -> str:
    return address.rpartition("@")[2]


def list_addresses(tx: Tx) -> list[AddressRow]:
    """All addresses, by domain and local part."""
    rows = tx.all(
        "SELECT address.id, domain.name, local_part, account.name, target FROM address "
        "JOIN domain ON domain.id = address.domain_id LEFT JOIN account ON account.id = address.account_id "
        "ORDER BY domain.name, local_part, address.id"
    )
    return [AddressRow(*row) for row in rows]


def remove_address(tx: Tx, address: str, target: str | None = None) -> int:
    """Remove an alias (only the one to `target`, if given); return how many rows went."""
    local_part, domain = _alias(address)
    if tx.one("SELECT id FROM account WHERE name = ?", f"{local_part}@{domain}"):
        raise Permanent(f"{address} is the name of an account: remove the account instead")
    domain_id = _domain_id(tx, domain)
    rows = tx.all(
        "SELECT address.id, account.name, target FROM address LEFT JOIN account ON account.id = address.account_id "
        "WHERE domain_id = ? AND local_part = ?",
        domain_id,
        local_part,
    )
    wanted = _target(tx, target) if target else None
    doomed = [(row[0],) for row in rows if wanted is None or wanted in row[1:]]
    if not doomed:
        raise NotFound(f"there is no alias {address}" + (f" to {target}" if target else ""))
    tx.many("DELETE FROM address WHERE id = ?", doomed)
    tx.publish(DirectoryChanged())
    return len(doomed)


def _target(tx: Tx, text: str) -> str:
    """What an alias leads to, in canonical form."""
    address = _address(text)
    if tx.one("SELECT id FROM domain WHERE name = ?", address.domain):
        return "@".join(split_address(text))
    return str(address)


def _alias(address: str) -> tuple[str, str]:
    return (CATCH_ALL, canonical_domain(address[1:])) if address.startswith("@") else split_address(address)


# Where mail goes


def resolve(tx: Tx, local_part: str, domain: str, postmaster: str = "") -> Resolution:
    """Where mail for an address goes: the address itself, without its "+detail" (RFC 5233), the domain's
    catch-all. `postmaster` (an address) gets the mail for postmaster@ that nothing else leads anywhere.

    Raises Temporary if it leads to more than MAX_EXPANSION addresses or over more than MAX_DEPTH of them."""
    accounts: dict[int, None] = {}
    remote: dict[str, None] = {}
    seen: set[Address] = set()
    todo = [(Address(local_part, domain), 0)]
    ours = tx.one("SELECT id FROM domain WHERE name = ?", domain) is not None
    while todo:
        address, depth = todo.pop()
        row = tx.one("SELECT id FROM domain WHERE name = ?", address.domain)
        if row is not None:
            address = Address(folded(address.local_part), address.domain)
        if address in seen:
            continue
        if depth > MAX_DEPTH or len(seen) > MAX_EXPANSION:
            # To go on with what was found would lose the rest after a 250: the sender keeps the message.
            raise Temporary(f"{local_part}@{domain} leads to too many addresses, or over too many", "Too many aliases")
        seen.add(address)
        if row is None:
            if depth:
                remote[str(address)] = None
            continue
        name = address.local_part
        rows = _leads(tx, row[0], name)
        if not rows and _plain(name) == "postmaster":
            if postmaster and (to := _address(postmaster)) != address:
                todo.append((to, depth + 1))
            else:
                rows = _first_account(tx)
        for account_id, target in rows:
            if account_id is not None:
                accounts[account_id] = None
            else:
                todo.append((_stored(target), depth + 1))
    return Resolution(tuple(accounts), tuple(remote), ours)


def _stored(target: str) -> Address:
    """A target as it stands in the table; one of an older form must not keep the others from their mail."""
    local_part, _, domain = target.rpartition("@")
    return Address.parse(target) or Address(local_part, domain)


def _plain(local_part: str) -> str:
    """Without its "+detail" (RFC 5233)."""
    return local_part.split("+", 1)[0] or local_part


def resolve_postmaster(tx: Tx, postmaster: str = "") -> Resolution:
    """Where `<postmaster>` without a domain goes (RFC 5321 section 4.5.1): never nowhere while there is an account."""
    if postmaster:
        found = resolve(tx, *split_address(postmaster))
        if found.accounts or found.remote:
            return found
    return Resolution(tuple(account_id for account_id, _ in _first_account(tx)))


def _first_account(tx: Tx) -> list[Row]:
    return tx.all("SELECT id, NULL FROM account WHERE disabled = 0 ORDER BY id LIMIT 1")


def _leads(tx: Tx, domain_id: int, name: str) -> list[Row]:
    """The rows for a local part: as it is, without its detail, the catch-all (not for postmaster)."""
    plain = _plain(name)
    for candidate in dict.fromkeys((name, plain, CATCH_ALL)):
        if candidate == CATCH_ALL and plain == "postmaster":
            continue
        rows = tx.all(
            "SELECT account_id, target FROM address WHERE domain_id = ? AND local_part = ? ORDER BY id",
            domain_id,
            candidate,
        )
        if rows:
            return rows
    return []


# In whose name an account may send


def addresses_of(tx: Tx, account_id: int) -> set[str]:
    """What an account may send as: its addresses ("@example.org" for a catch-all) and what was granted to it."""
    rows = tx.all(
        "SELECT local_part || '@' || domain.name FROM address JOIN domain ON domain.id = address.domain_id "
        "WHERE account_id = ? UNION SELECT address FROM send_as WHERE account_id = ?",
        account_id,
        account_id,
    )
    return {address for (address,) in rows}


def grant(tx: Tx, name: str, address: str, now: bool = True) -> None:
    """Let an account send as an address, as "@example.org" (every address of a domain) or as "*" (anybody); with
    `now` False take that back."""
    account_id = find_account(tx, name).id
    wanted = address if address == ANYBODY else "@".join(_alias(address))
    tx.run("DELETE FROM send_as WHERE account_id = ? AND address = ?", account_id, wanted)
    if now:
        tx.run("INSERT INTO send_as (account_id, address) VALUES (?, ?)", account_id, wanted)
    tx.publish(DirectoryChanged())


def grants(tx: Tx, name: str) -> list[str]:
    """What was granted to an account."""
    account_id = find_account(tx, name).id
    return [row[0] for row in tx.all("SELECT address FROM send_as WHERE account_id = ? ORDER BY address", account_id)]

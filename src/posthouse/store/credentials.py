"""Credentials: what an account can log in with, and what each is good for.

The password, app passwords and tokens are kept as hashes (and SCRAM keys), certificates as fingerprints; a TOTP secret
and a password for CRAM-MD5 must be readable, which is why both are there only for who asked for them. How they are
made and checked is for `auth`. Raises `NotFound` and `Permanent`.
"""

import secrets
from typing import NamedTuple

from posthouse.base.errors import NotFound, Permanent
from posthouse.store.accounts import canonical_domain, folded
from posthouse.store.database import Tx
from posthouse.store.model import DirectoryChanged

MOST = 50  # credentials of one account


class Credential(NamedTuple):
    """One credential. The order is that of `_COLUMNS`."""

    id: int
    kind: str
    secret: str
    label: str
    created: int
    scopes: str  # services, parted by blanks; "": all
    networks: str
    expires: int  # 0: never
    scram: str
    used: int
    used_ip: str

    def __repr__(self) -> str:
        return f"Credential({self.id}, {self.kind!r}, {self.label!r}, ...)"


class Candidate(NamedTuple):
    """An account, and what it can log in with."""

    account_id: int
    name: str
    disabled: bool
    credentials: tuple[Credential, ...]

    def of_kind(self, kind: str) -> tuple[Credential, ...]:
        """Its credentials of one kind."""
        return tuple(one for one in self.credentials if one.kind == kind)


_COLUMNS = "id, kind, secret, label, created, scopes, networks, expires, scram, used, used_ip"


def find(tx: Tx, name: str) -> Candidate | None:
    """Whoever may be meant by `name`: an account's name, any of its addresses, or its local part alone where only one
    account has it."""
    select = "SELECT account.id, account.name, account.disabled FROM account "
    local_part, at, domain = folded(name.strip()).rpartition("@")
    if at:
        try:
            domain = canonical_domain(domain)
        except Permanent:
            return None
        rows = tx.all(select + "WHERE account.name = ?", f"{local_part}@{domain}") or tx.all(
            select + "JOIN address ON address.account_id = account.id "
            "JOIN domain ON domain.id = address.domain_id WHERE address.local_part = ? AND domain.name = ?",
            local_part,
            domain,
        )
    else:
        rows = tx.all(select + "WHERE substr(account.name, 1, ?) = ? LIMIT 2", len(domain) + 1, domain + "@")
    if len(rows) != 1 or not domain:
        return None
    return _candidate(tx, *rows[0])


def of_account(tx: Tx, account_id: int) -> Candidate:
    """An account by its id."""
    row = tx.one("SELECT id, name, disabled FROM account WHERE id = ?", account_id)
    if row is None:
        raise NotFound("the account is gone")
    return _candidate(tx, *row)


def with_second_factor(tx: Tx) -> set[int]:
    """The ids of the accounts that have a second factor."""
    return {account_id for (account_id,) in tx.all("SELECT account_id FROM credential WHERE kind = 'totp'")}


def all_ids(tx: Tx) -> set[int]:
    """The ids of all credentials of all accounts."""
    return {credential_id for (credential_id,) in tx.all("SELECT id FROM credential")}


def _candidate(tx: Tx, account_id: int, name: str, disabled: int) -> Candidate:
    rows = tx.all(f"SELECT {_COLUMNS} FROM credential WHERE account_id = ? ORDER BY id", account_id)  # noqa: S608
    return Candidate(account_id, name, bool(disabled), tuple(Credential(*row) for row in rows))


def find_by_secret(tx: Tx, kind: str, secret: str) -> Candidate | None:
    """The account whose token or certificate this is, with that credential alone."""
    rows = tx.all(
        f"SELECT account_id, {_COLUMNS} FROM credential WHERE kind = ? AND secret = ? LIMIT 2",  # noqa: S608
        kind,
        secret,
    )
    if len(rows) != 1:
        return None
    account_id, *columns = rows[0]
    return of_account(tx, account_id)._replace(credentials=(Credential(*columns),))


def add(
    tx: Tx,
    account_id: int,
    kind: str,
    secret: str,
    now: int,
    *,
    label: str = "",
    scopes: str = "",
    networks: str = "",
    expires: int = 0,
    scram: str = "",
) -> int:
    """Give an account one more credential; returns its id. Labels of app passwords and tokens are unique, and so are
    certificates: who shows one says no name beside it."""
    known = _candidate(tx, account_id, "", 0).credentials
    if len(known) >= MOST:
        raise Permanent(f"an account may have {MOST} credentials: remove one that is not used any more")
    if label and any(one.kind == kind and one.label == label for one in known):
        raise Permanent(f"there is one with the name {label!r} already: remove it first or take another name")
    taken = tx.one(
        "SELECT account.name, credential.label FROM credential JOIN account ON account.id = credential.account_id "
        "WHERE kind = 'certificate' AND kind = ? AND secret = ?",
        kind,
        secret,
    )
    if taken is not None:
        raise Permanent(f"this certificate logs in as {taken[0]} already (name {taken[1]!r}): remove it there first")
    if kind in ("totp", "cram"):
        tx.run("DELETE FROM credential WHERE account_id = ? AND kind = ?", account_id, kind)
    tx.publish(DirectoryChanged())
    return tx.insert(
        "INSERT INTO credential (account_id, kind, secret, label, created, scopes, networks, expires, scram) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING id",
        account_id,
        kind,
        secret,
        label,
        now,
        scopes,
        networks,
        expires,
        scram,
    )


def remove(tx: Tx, account_id: int, kind: str, label: str = "") -> int:
    """Take credentials away; returns how many there were."""
    tx.publish(DirectoryChanged())
    return tx.run("DELETE FROM credential WHERE account_id = ? AND kind = ? AND label = ?", account_id, kind, label)


def set_scram(tx: Tx, credential_id: int, scram: str) -> None:
    """Keys made of a password that was just shown."""
    tx.run("UPDATE credential SET scram = ? WHERE id = ?", scram, credential_id)


def rehash(tx: Tx, credential_id: int, secret: str) -> None:
    """The same password, hashed with today's parameters."""
    tx.run("UPDATE credential SET secret = ? WHERE id = ?", secret, credential_id)


def server_secret(tx: Tx, name: str) -> bytes:
    """32 random octets of this server for one purpose, made when they are first asked for (in a writing
    transaction)."""
    row = tx.one("SELECT value FROM secret WHERE name = ?", name)
    if row is not None:
        return bytes(row[0])
    value = secrets.token_bytes(32)
    tx.run("INSERT INTO secret (name, value) VALUES (?, ?)", name, value)
    return value

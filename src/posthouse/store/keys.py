"""Random keys of this server that can be changed: the one in use, and the one before, which is believed still."""

from posthouse.store.credentials import server_secret
from posthouse.store.database import Tx


def usable(tx: Tx, name: str) -> tuple[bytes, ...]:
    """The key to use, and after it the one before if there was one (in a writing transaction: it may be made now)."""
    current = server_secret(tx, name)
    row = tx.one("SELECT value FROM secret WHERE name = ?", _before(name))
    return (current, bytes(row[0])) if row is not None else (current,)


def rotate(tx: Tx, name: str) -> None:
    """Make a new key. The one in use until now is believed until the next change."""
    current = server_secret(tx, name)
    tx.run("DELETE FROM secret WHERE name IN (?, ?)", name, _before(name))
    tx.run("INSERT INTO secret (name, value) VALUES (?, ?)", _before(name), current)
    server_secret(tx, name)


def _before(name: str) -> str:
    return f"{name}.before"

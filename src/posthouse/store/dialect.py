"""Everything in which the databases differ. The rest of `store` writes one SQL for all of them.

SQLite is here; PostgreSQL will be a second `Dialect` with its words.
"""

from typing import NamedTuple


class Dialect(NamedTuple):
    """The words that differ between databases."""

    types: dict[str, str]  # words in braces of the schema files
    integrity: str  # a query whose rows say what is wrong with the database file; "ok" if nothing is
    last_email: str  # a query for the last id that an email was given, whether it is still there or not


SQLITE = Dialect(
    # AUTOINCREMENT: an id is never given twice. Sessions hold ids while others delete and add.
    types={"ID": "INTEGER PRIMARY KEY AUTOINCREMENT", "BIG": "INTEGER", "BYTES": "BLOB", "CLUSTERED": "WITHOUT ROWID"},
    integrity="PRAGMA integrity_check",
    last_email="SELECT seq FROM sqlite_sequence WHERE name = 'email'",
)

"""Schema changes: numbered steps, one text for all databases, recorded in the table `step`.

A step is never edited after release; a change is a new file. A database newer than this program
is refused: running old code on it could lose what the new code keeps.
"""

import re
from importlib import resources

from posthouse.base.errors import Permanent
from posthouse.store.database import Tx
from posthouse.store.dialect import Dialect


def steps() -> list[tuple[int, str]]:
    """All steps of this program, in order: number and SQL text."""
    files = [f for f in resources.files(__name__).iterdir() if re.fullmatch(r"\d{3}\.sql", f.name)]
    return sorted((int(f.name[:3]), f.read_text("utf-8")) for f in files)


def upgrade(tx: Tx, dialect: Dialect, now: int) -> int:
    """Bring the database to the newest step inside `tx`; return how many steps were taken."""
    tx.run("CREATE TABLE IF NOT EXISTS step (number INTEGER PRIMARY KEY, taken INTEGER NOT NULL)")
    row = tx.one("SELECT max(number) FROM step")
    at = row[0] if row and row[0] else 0
    known = steps()
    done = {number for (number,) in tx.all("SELECT number FROM step")}
    if at > known[-1][0]:
        raise Permanent(
            f"the database is at schema step {at}, this program knows {known[-1][0]}: "
            "it was written by a newer Posthouse; run that one, or restore a backup"
        )
    # Steps may come to a program in another order than that of their numbers: none is passed over.
    taken = [(number, text) for number, text in known if number not in done]
    for number, text in taken:
        for statement in statements(text, dialect):
            tx.run(statement)
        tx.run("INSERT INTO step VALUES (?, ?)", number, now)
    return len(taken)


def statements(text: str, dialect: Dialect) -> list[str]:
    """The single statements of a step, in the words of `dialect`."""
    text = re.sub(r"--.*", "", text)
    text = re.sub(r"\{([A-Z]+)\}", lambda m: dialect.types[m[1]], text)
    return [s.strip() for s in text.split(";") if s.strip()]

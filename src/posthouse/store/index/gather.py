"""Read messages for the index, in the order of their ids, a bounded piece of the work at a time.

A message whose bytes cannot be read (its blob is damaged or missing) is indexed as far as it goes: it keeps no
other one from being found.
"""

import time
from collections.abc import Callable
from typing import NamedTuple

from posthouse.base.log import get_logger
from posthouse.mime import sections
from posthouse.mime.scan import Part
from posthouse.store.database import Row, Tx
from posthouse.store.index import texts
from posthouse.store.index.rows import Mark, Said
from posthouse.store.select import Message

SLICE = 0.02  # seconds after which no other message is begun
MOST = 64  # messages read at once
TEXT = 2 * 1024 * 1024  # characters after which no other message is begun
DOCUMENTS = 10.0  # seconds after which no other document of a message is read


class Gathered(NamedTuple):
    """What some messages say, and up to where there are no others."""

    said: list[Said]
    to: Mark
    more: bool  # messages that wait


def gather(tx: Tx, after: Mark, extract: texts.Extract | None = None, patience: float = SLICE) -> Gathered:
    """The next messages after a mark."""
    rows = tx.all(
        "SELECT m.id, m.account_id, m.trace, m.parts, m.prefix, b.size, b.encoding, b.data, b.file "
        "FROM email m JOIN blob b ON b.id = m.blob_id WHERE m.id > ? ORDER BY m.id LIMIT ?",
        after.email_id,
        MOST,
    )
    until = time.monotonic() + patience
    said: list[Said] = []
    size = 0
    for number, row in enumerate(rows):
        one = says(tx, row, extract)
        said.append(one)
        size += one.size
        if size > TEXT or time.monotonic() > until:
            return Gathered(said, Mark(row[0], row[2]), number + 1 < len(rows) or len(rows) == MOST)
    to = Mark(rows[-1][0], rows[-1][2]) if rows else after
    return Gathered(said, to, len(rows) == MOST)


def says(tx: Tx, row: Row, extract: texts.Extract | None) -> Said:
    """What one message says."""
    email_id, account_id, _, parts, prefix = row[:5]
    message = Message(tx, prefix, row[5:9])
    header, fields = "", texts.Fields("", "", "", "", "")
    body: list[str] = []
    try:
        root = sections.unpack(parts).root
        raw = message.read(0, min(len(prefix) + root.body, texts.MAX_HEADER))
        header, fields = texts.header_text(raw), texts.fields(raw)
        patient = _patient(extract) if extract is not None else None
        for text in texts.body_texts(message, root, len(prefix), patient):
            body.append(text)  # noqa: PERF402 - what came before a failure stays
    except Exception as error:
        get_logger().warning("index.incomplete", email=email_id, error=repr(error))
    return Said(account_id, email_id, *fields, header, "\n".join(body))


def _patient(extract: texts.Extract) -> texts.Extract:
    """`extract` as long as the documents of a message take no more than `DOCUMENTS` together: a thousand of the worst
    would hold a reader, and a turn of the searches, for hours."""
    until = time.monotonic() + DOCUMENTS

    def extracted(part: Part, content: Callable[[], bytes]) -> str:
        return extract(part, content) if time.monotonic() < until else ""

    return extracted

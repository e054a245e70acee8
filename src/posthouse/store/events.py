"""The trace: what happened to a message, event by event, in the transactions in which it happened.

All events of one message share a trace id, which is also the id the peer is told in the 250 and the
one in `queue list`. `data` is JSON; secrets never get here. A long value of `LONG` is packed (`packed.py`)
and has a row of its own, with minus `seq`: rows of more than 1,000 octets take a page of 4 KiB more, and who searches
the others need not read it. `told` puts it back.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from posthouse.store import packed
from posthouse.store.database import Row, Tx

LONG = "authentication"  # who sent it; nobody looks for what is in it
_INSERT = "INSERT INTO event (trace, seq, kind, message_id_hash, data) VALUES (?, ?, ?, ?, ?)"
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=str).encode


class Event(NamedTuple):
    """One thing that happened."""

    trace: int
    seq: int  # base/ids.py: its upper bits are the time in milliseconds
    kind: str
    data: dict[str, Any]


def add(tx: Tx, trace: int, seq: int, kind: str, data: dict[str, Any], message_id_hash: int = 0) -> None:
    """Record an event."""
    if LONG in data and isinstance(value := packed.pack(data[LONG]), str):
        data = {name: one for name, one in data.items() if name != LONG}
        tx.run(_INSERT, trace, -seq, LONG, 0, value)
    tx.run(_INSERT, trace, seq, kind, message_id_hash, _encode(data))


def add_all(tx: Tx, found: Iterable[Event], hashes: Mapping[int, int]) -> None:
    """Record events; `hashes` are those of Message-IDs, by trace."""
    for event in found:
        add(tx, event.trace, event.seq, event.kind, event.data, hashes.get(event.trace, 0))


def told(rows: Iterable[Row]) -> list[Event]:
    """The events of rows (trace, seq, kind, data) by ascending seq. A value that is damaged is missing."""
    apart: dict[int, Any] = {}
    found: list[Event] = []
    for trace, seq, kind, text in rows:
        if seq < 0:
            apart[-seq] = packed.unpack(text)
            continue
        data: dict[str, Any] = json.loads(text)
        if apart.get(seq) is not None:
            data[LONG] = apart[seq]
        found.append(Event(trace, seq, kind, data))
    return found


def of_trace(tx: Tx, trace: int) -> list[Event]:
    """All events of one message, oldest first."""
    rows = tx.all("SELECT trace, seq, kind, data FROM event WHERE trace = ? ORDER BY seq", trace)
    return told(rows)


def traces_of_message_id(tx: Tx, message_id_hash: int) -> list[int]:
    """The traces of messages with this Message-ID, oldest first."""
    rows = tx.all(
        "SELECT DISTINCT trace FROM event WHERE message_id_hash = ? AND message_id_hash <> 0 ORDER BY trace",
        message_id_hash,
    )
    return [trace for (trace,) in rows]


def prune(tx: Tx, before: int, most: int = 5000) -> int:
    """Forget events of traces begun before the id `before`; return how many went."""
    return tx.run(
        "DELETE FROM event WHERE (trace, seq) IN (SELECT trace, seq FROM event WHERE trace < ? "
        "AND trace NOT IN (SELECT id FROM queue) ORDER BY trace LIMIT ?)",
        before,
        most,
    )

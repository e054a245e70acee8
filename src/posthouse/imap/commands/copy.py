"""COPY, MOVE and their UID forms (RFC 9051 sections 6.4.7 and 6.4.8)."""

from dataclasses import dataclass

from posthouse.imap.numbers import SequenceSet
from posthouse.imap.tokens import Cursor


@dataclass(frozen=True, slots=True)
class Copy:
    """COPY; MOVE if `move`"""

    wanted: SequenceSet
    uid: bool
    name: str
    move: bool


def copy(cursor: Cursor) -> Copy:
    return _copy(cursor, False, False)


def uid_copy(cursor: Cursor) -> Copy:
    return _copy(cursor, True, False)


def move(cursor: Cursor) -> Copy:
    return _copy(cursor, False, True)


def uid_move(cursor: Cursor) -> Copy:
    return _copy(cursor, True, True)


def _copy(cursor: Cursor, uid: bool, is_move: bool) -> Copy:
    """copy = "COPY" SP sequence-set SP mailbox"""
    cursor.space()
    wanted = cursor.sequence_set()
    cursor.space()
    name = cursor.mailbox()
    cursor.end()
    return Copy(wanted, uid, name, is_move)

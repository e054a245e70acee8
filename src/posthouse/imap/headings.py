"""What SORT and THREAD go by of a message's header, made once when it comes in (RFC 5256, RFC 5957).

Texts are in the form in which they compare octet by octet (`mime.collation`), cut at `MAX_KEY` octets; message ids are
hashes of 8 octets. The store keeps a heading beside each message (store/headings.py).
"""

import struct
from functools import lru_cache
from typing import NamedTuple

from posthouse.imap.structure import first_address
from posthouse.mime import fields, words
from posthouse.mime.collation import casemap
from posthouse.mime.threads import base_subject, message_id_hash

MAX_KEY = 1000  # octets of a text: what is equal so far counts as equal
MAX_IDS = 200  # that a message refers to: of more the first one and the last ones
_CACHED = 200  # octets of an address field up to which its keys are remembered


class Heading(NamedTuple):
    """What a message is sorted and threaded by."""

    sent: int | None = None  # the Date field in microseconds since 1970 UTC; None: it says nothing
    subject: bytes = b""  # the base subject
    reply: bool = False  # the subject says that it is a reply or forward
    author: bytes = b""  # addr-mailbox of the first From address
    recipient: bytes = b""  # … To …
    copied: bytes = b""  # … Cc …
    author_shown: bytes = b""  # its display name, or address (RFC 5957)
    recipient_shown: bytes = b""
    ids: bytes = bytes(8)  # hashes: of the Message-ID (0: none), then what it refers to, oldest first


NO_HEADING = Heading()


def heading(found: dict[bytes, bytes], message_id: int, references: list[int]) -> Heading:
    """The heading of a message with these fields (`structure.envelope_fields`) and hashes of its message id (0: none)
    and of what it refers to (`references`)."""
    get = found.get
    subject, reply = base_subject(words.decode(value)) if (value := get(b"subject")) is not None else ("", False)
    author, author_shown = _first(get(b"from"))
    recipient, recipient_shown = _first(get(b"to"))
    copied, _ = _first(get(b"cc"))
    sent = fields.date_time(value) if (value := get(b"date")) is not None else None
    return Heading(
        sent,
        casemap(subject)[:MAX_KEY],
        reply,
        author,
        recipient,
        copied,
        author_shown,
        recipient_shown,
        struct.pack(f">{len(references) + 1}Q", message_id, *references),
    )


def references(found: dict[bytes, bytes]) -> list[int]:
    """Hashes of what a message refers to, oldest first: its References, else the first id of In-Reply-To (RFC 5256
    section 3, REFERENCES). What is not in angle brackets is no message id."""
    value = found.get(b"references", b"")
    ids = fields.message_ids(value, MAX_IDS, ends=True) if b"<" in value else []
    if not ids:
        value = found.get(b"in-reply-to", b"")
        ids = fields.message_ids(value, 1) if b"<" in value else []
    return [message_id_hash(one) for one in ids]


def unpack_ids(ids: bytes) -> tuple[int, ...]:
    """The hashes in `Heading.ids`."""
    return struct.unpack(f">{len(ids) // 8}Q", ids)


def _first(value: bytes | None) -> tuple[bytes, bytes]:
    """By what an address field is sorted: local part, and what is shown, of its first address."""
    if value is None:
        return b"", b""
    return _cached_keys(value) if len(value) <= _CACHED else _keys(value)


def _keys(value: bytes) -> tuple[bytes, bytes]:
    address = first_address(value)
    if address is None:
        return b"", b""
    local = words.decode(address.local)
    shown = words.decode(address.name) if address.name else ""
    if not shown:
        shown = f"{local}@{words.decode(address.domain)}" if address.domain else local
    return casemap(local)[:MAX_KEY], casemap(shown)[:MAX_KEY]


_cached_keys = lru_cache(1024)(_keys)

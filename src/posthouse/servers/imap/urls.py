"""What an IMAP URL names, read piece by piece: for CATENATE, URLFETCH and BURL.

`locate` finds the octets in one reading transaction; `pieces` hands them out. Whether the reader may read them is
decided before. What cannot be found raises `BadUrl`; what cannot be decoded, if that is asked for, `Undecodable`.
"""

import dataclasses
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, NamedTuple

from posthouse.imap import fetch as compiled
from posthouse.imap import names
from posthouse.imap.body import part
from posthouse.imap.commands.fetch import section_of
from posthouse.imap.fetch import SMALL, Source, Span
from posthouse.imap.tokens import BadSyntax
from posthouse.imap.urls import MessageUrl, owner, parse
from posthouse.mime import bodies, sections
from posthouse.servers.imap import access
from posthouse.store import mailboxes, messages
from posthouse.store import select as stored
from posthouse.store.database import Database, Tx
from posthouse.store.model import Mailbox

if TYPE_CHECKING:
    from posthouse.servers.imap.session import ImapSession


class BadUrl(Exception):
    """The URL names nothing that can be read here."""


class Undecodable(Exception):
    """A transfer encoding that we do not know."""


class Place(NamedTuple):
    """Octets of a message: at hand, or where they are."""

    size: int
    data: bytes | None = None
    email_id: int = 0
    start: int = 0
    encoding: bytes = b""  # a transfer encoding that is to be undone
    end: int = 0  # of the encoded octets
    skip: int = 0  # decoded octets that come before


def locate(tx: Tx, mailbox_id: int, url: MessageUrl, what: bytes = b"BODY") -> Place:
    """The octets that the URL names in a mailbox; with `what` as RFC 5524 has it: decoded (BINARY), or the structure
    (BODYPARTSTRUCTURE)."""
    try:
        section = section_of(url.section, url.partial)
    except BadSyntax:
        raise BadUrl from None
    columns = ("parts", "prefix", "email_id", "bodystructure")
    rows, _ = stored.contents(tx, mailbox_id, url.uid, url.uid, columns, SMALL, SMALL)
    if not rows:
        raise BadUrl
    parts, prefix, email_id, structure = rows[0][:4]
    if what == b"BODYPARTSTRUCTURE":
        found = part(structure, section.path) if not section.part else None
        if found is None and not section.part:
            raise BadUrl
        return Place(0, found)
    message = stored.Message(tx, prefix, rows[0][4:])
    source = Source(sections.unpack(parts), len(prefix), message.size, message.read)
    if what == b"BINARY" and not section.part:
        section = dataclasses.replace(section, binary=True)
        if not compiled.can_decode([section], source.scan):
            raise Undecodable
    value = compiled.section_value(section, source)
    if isinstance(value, Span) and value.encoding:
        size = compiled.decoded_size(source, value.start, value.end, value.encoding)
        skip, most = value.partial or (0, size)
        skip = min(skip, size)
        return Place(min(most, size - skip), None, email_id, value.start, value.encoding, value.end, skip)
    if isinstance(value, Span):
        return Place(value.end - value.start, None, email_id, value.start)
    if not isinstance(value, bytes):
        raise BadUrl
    return Place(len(value), value)


async def pieces(database: Database, place: Place) -> AsyncIterator[bytes]:
    """The octets, in pieces that are not large."""
    if place.data is not None:
        yield place.data
        return
    if place.encoding:
        async for piece in _decoded(database, place):
            yield piece
        return
    end = place.start + place.size
    for at in range(place.start, end, SMALL):
        piece = await database.read(messages.read_source, place.email_id, at, min(at + SMALL, end))
        if not piece:
            raise BadUrl  # it went while it was read
        yield piece


async def _decoded(database: Database, place: Place) -> AsyncIterator[bytes]:
    undo, skip, left = bodies.decoder(place.encoding), place.skip, place.size
    for at in range(place.start, place.end, SMALL):
        if not left:
            return
        raw = await database.read(messages.read_source, place.email_id, at, min(at + SMALL, place.end))
        piece = undo.feed(raw)
        if at + SMALL >= place.end:
            piece += undo.finish()
        piece, skip = piece[skip:], max(skip - len(piece), 0)
        piece = piece[:left]
        left -= len(piece)
        yield piece


async def own(session: "ImapSession", text: bytes) -> Place:
    """What a URL names in the mailboxes that the reader may read."""
    url = parse(text)
    if url is None or url.auth is not None:
        raise BadUrl
    if owner(url, session.service.settings.hostname) not in ("", session.name.lower()):
        raise BadUrl
    return await session.service.database.read(
        _own, session.account_id, session.watch.mailbox_id if session.watch is not None else 0, url
    )


def _own(tx: Tx, account_id: int, selected: int, url: MessageUrl) -> Place:
    mailbox = mailboxes.by_id(tx, selected)
    if url.mailbox:
        try:
            found = access.find(tx, account_id, names.decode(url.mailbox, utf8=True), "SELECT")
        except access.Denied:
            found = None
        mailbox = found.mailbox if found is not None else None
    if mailbox is None or (url.uidvalidity and url.uidvalidity != mailbox.uidvalidity):
        raise BadUrl
    return locate(tx, mailbox.id, url)


def mailbox_of(tx: Tx, account_id: int, url: MessageUrl) -> Mailbox | None:
    """The mailbox that the URL names in an account (RFC 5092 section 3: its name is percent-encoded UTF-8)."""
    return mailboxes.by_name(tx, account_id, names.decode(url.mailbox, utf8=True))

"""GENURLAUTH, URLFETCH and RESETKEY: messages that their owners let others read, by URL (RFC 4467, RFC 5524).

A token is a keyed hash over the URL up to its access; the key is the mailbox's own, so RESETKEY ends all that was
authorized there. `granted` is the one place that decides who may read; BURL asks it too.
"""

import hmac
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from posthouse.base.errors import NotFound
from posthouse.imap import replies
from posthouse.imap.body import decoded
from posthouse.imap.commands.urlauth import GenUrlAuth, ResetKey, UrlFetch
from posthouse.imap.urls import MessageUrl, owner, parse
from posthouse.servers.imap import urls
from posthouse.store import accounts
from posthouse.store import urlauth as stored
from posthouse.store.database import Database, Tx

if TYPE_CHECKING:
    from posthouse.servers.imap.session import ImapSession

MECHANISM = b"INTERNAL"
BINARY = b"binary"
_ALGORITHM = b"\x02"  # first octet of a token: how the rest was made
_NOTHING = urls.Place(0)  # what cannot be decoded
_ACCESS = ("anonymous", "authuser", "user+", "submit+")


def _token(key: bytes, rump: bytes) -> bytes:
    return _ALGORITHM + hmac.digest(key, rump, "sha256")


async def gen_url_auth(session: "ImapSession", event: GenUrlAuth) -> None:
    made = []
    for text, mechanism in event.urls:
        url = parse(text)
        if url is None or url.auth is None or mechanism != MECHANISM or not _may_authorize(session, url):
            session.done_with(replies.bad_url(text))
            return
        key = await session.service.database.write(_key_of_own, session.account_id, url)
        if key is None:
            session.done_with(replies.bad_url(text))
            return
        made.append(b"%b:internal:%b" % (text, _token(key, url.auth.rump).hex().encode()))
    session.engine.untagged(b"GENURLAUTH " + b" ".join(replies.quoted(url) for url in made))
    session.done("GENURLAUTH completed")


def _may_authorize(session: "ImapSession", url: MessageUrl) -> bool:
    """RFC 4467 section 7: absolute, for this server, by the owner of the mailbox, with an access that we know."""
    if not url.host or not url.mailbox or owner(url, session.service.settings.hostname) != session.name.lower():
        return False
    if url.auth is None or url.auth.token:
        return False
    kind, plus, name = url.auth.access.partition("+")
    return kind + plus in _ACCESS and bool(plus) == bool(name)


def _key_of_own(tx: Tx, account_id: int, url: MessageUrl) -> bytes | None:
    mailbox = urls.mailbox_of(tx, account_id, url)
    if mailbox is None or (url.uidvalidity and url.uidvalidity != mailbox.uidvalidity):
        return None
    return stored.key(tx, mailbox.id)


async def granted(
    database: Database, hostname: str, text: bytes, access: Sequence[str], now: int, what: bytes = b"BODY"
) -> urls.Place | None:
    """What (`urls.locate`) an authorized URL names, for somebody who has one of these kinds of access; None: it is not
    for them, is not authorized, has expired, or names nothing. Which of that it is nobody is told."""
    url = parse(text)
    if url is None or url.auth is None or not url.auth.token or not url.host or not url.mailbox:
        return None
    account = owner(url, hostname)
    if not account:
        return None
    if url.auth.access not in access or (url.auth.expires and now >= url.auth.expires):
        return None
    try:
        return await database.read(_granted, account, url, what)
    except (urls.BadUrl, NotFound):
        return None


def _granted(tx: Tx, name: str, url: MessageUrl, what: bytes) -> urls.Place:
    assert url.auth is not None
    account = accounts.find_account(tx, name)
    mailbox = urls.mailbox_of(tx, account.id, url)
    key = stored.known_key(tx, mailbox.id) if mailbox is not None and not account.disabled else None
    if mailbox is None or key is None or not hmac.compare_digest(_token(key, url.auth.rump), url.auth.token):
        raise urls.BadUrl
    if url.uidvalidity and url.uidvalidity != mailbox.uidvalidity:
        raise urls.BadUrl
    return urls.locate(tx, mailbox.id, url, what)


async def url_fetch(session: "ImapSession", event: UrlFetch) -> None:
    access = ("anonymous", "authuser", f"user+{session.name.lower()}")
    for text, wanted in event.urls:
        places = [await _place(session, text, access, what) for what in wanted or (b"BODY",)]
        begin = b"* URLFETCH " + replies.quoted(text)
        shown = [] if None in places else await _fitting(session, zip(wanted or (b"BODY",), places, strict=True))
        if not shown:
            await session.send(begin + b" NIL\r\n")
            continue
        for what, place, encoding in shown:
            await _send(session, begin + (b" (%b " % what if wanted else b" "), place, what, encoding == BINARY)
            begin = b")"
        await session.send(b")\r\n" if wanted else b"\r\n")
    session.done("URLFETCH completed")


async def _fitting(
    session: "ImapSession", places: Iterable[tuple[bytes, urls.Place | None]]
) -> list[tuple[bytes, urls.Place, bytes]]:
    """The same, with what encoding the octets have once theirs is undone; and the structure is of these then (RFC 5524
    section 3.2). It is left out where it is of no part, as that of a header."""
    found = {what: place for what, place in places if place is not None}
    encoding = b""
    binary = found.get(b"BINARY", _NOTHING)
    structure = found.get(b"BODYPARTSTRUCTURE")
    if binary is not _NOTHING:
        encoding = await _encoding(session, binary)
    if structure is not None and structure.data is None:
        del found[b"BODYPARTSTRUCTURE"]
    elif structure is not None and structure.data is not None and encoding:
        found[b"BODYPARTSTRUCTURE"] = urls.Place(0, decoded(structure.data, encoding, binary.size))
    return [(what, place, encoding) for what, place in found.items()]


async def _encoding(session: "ImapSession", place: urls.Place) -> bytes:
    """The identity encoding (RFC 2045 section 6.2) that fits octets; a NUL makes them binary (RFC 5524 section 3.1)."""
    encoding = b"7bit"
    async for piece in urls.pieces(session.service.database, place):
        if b"\0" in piece:
            return BINARY
        if not piece.isascii():
            encoding = b"8bit"
    return encoding


async def _place(session: "ImapSession", text: bytes, access: Sequence[str], what: bytes) -> urls.Place | None:
    service = session.service
    try:
        return await granted(service.database, service.settings.hostname, text, access, service.clock.now(), what)
    except urls.Undecodable:
        return _NOTHING


async def _send(session: "ImapSession", begin: bytes, place: urls.Place, what: bytes, binary: bool) -> None:
    """One thing of a URL. `binary`: decoded octets hold a NUL, so they are a literal8."""
    if place is _NOTHING or what == b"BODYPARTSTRUCTURE":
        await session.send(begin + (place.data or b"NIL"), unfinished=True)
        return
    binary = binary and what == b"BINARY"
    await session.send(begin + b"%b{%d}\r\n" % (b"~" if binary else b"", place.size), unfinished=True)
    async for piece in urls.pieces(session.service.database, place):
        await session.send(piece if binary else piece.replace(b"\0", b"\x80"), unfinished=True)


async def reset_key(session: "ImapSession", event: ResetKey) -> None:
    if await session.service.database.write(stored.reset, session.account_id, event.name):
        session.done("RESETKEY completed", b"URLMECH " + MECHANISM)
    else:
        session.done_with(replies.NO_SUCH_MAILBOX)

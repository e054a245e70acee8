"""BURL: content that lies in a mailbox of this server, so that a client need not fetch it to send it (RFC 4468).

The URL says itself who may use it (RFC 4467): the owner of the mailbox authorized it for the login that sends. Its
octets go the way of all content: the engine watches size and line ends, the intake takes them.
"""

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from posthouse.servers.imap import urlauth, urls
from posthouse.smtp import replies
from posthouse.smtp.events import Burl, Content, ContentAborted

if TYPE_CHECKING:
    from posthouse.servers.smtp.session import SmtpSession


async def on_burl(session: "SmtpSession", event: Burl) -> None:
    """Take what the URL names."""
    service, engine = session.service, session.engine
    name = session.login.name.lower() if session.login is not None else ""
    access = (f"submit+{name}", f"user+{name}", "authuser", "anonymous") if name else ()
    place = await urlauth.granted(service.database, service.settings.hostname, event.url, access, service.clock.now())
    if place is None:
        _refuse(session)
        return
    if not engine.fetched(place.size, event.last):
        return
    try:
        # Nothing at all is a chunk, too: with LAST it ends the message.
        pieces = urls.pieces(service.database, place) if place.size else _nothing()
        async for piece in pieces:
            content = engine.fetched_data(piece)
            if isinstance(content, ContentAborted):
                session.aborted(content)
                engine.fetched_end()
                return
            if isinstance(content, Content):
                intake = session.take(content)
                await service.database.work(intake.write, content.data)
                if content.last:
                    await session.finish(intake)
                    return
    except urls.BadUrl:  # it went while we read
        _refuse(session)
        return
    engine.fetched_end()


async def _nothing() -> AsyncIterator[bytes]:
    yield b""


def _refuse(session: "SmtpSession") -> None:
    session.rejected(replies.BURL_UNRESOLVED, str(session.transaction.sender) if session.transaction else "")
    session.end(replies.BURL_UNRESOLVED)

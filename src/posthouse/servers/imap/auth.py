"""STARTTLS, LOGIN, AUTHENTICATE and ID."""

from collections.abc import Awaitable
from typing import TYPE_CHECKING

from posthouse.auth.exchange import Exchange
from posthouse.auth.login import Login, Refused
from posthouse.imap import replies
from posthouse.imap.commands import any as common
from posthouse.imap.commands import auth
from posthouse.wire import sasl

if TYPE_CHECKING:
    from posthouse.servers.imap.session import ImapSession

SERVER_ID = b'ID ("name" "Posthouse")'


async def starttls(session: "ImapSession", _: auth.StartTls) -> None:
    session.engine.start_tls()
    if await session.connection.start_tls():
        session.engine.certified = session.connection.certificate is not None
        session.engine.tls_started()


async def login(session: "ImapSession", event: auth.Login) -> None:
    ip = session.connection.peer[0]
    found = await session.service.logins.verify(event.name, event.password, ip, "imap", session.id, "LOGIN command")
    _conclude(session, found)


def authenticate(session: "ImapSession", event: auth.Authenticate) -> Awaitable[None]:
    session.exchange = Exchange.begin(
        session.service.logins, session.connection, "imap", session.id, event.mechanism, session.engine.mechanisms
    )
    return _step(session, event.initial)


def response(session: "ImapSession", event: auth.AuthResponse) -> Awaitable[None]:
    return _step(session, event.data)


async def _step(session: "ImapSession", data: bytes | None) -> None:
    if session.exchange is None:
        session.engine.not_authenticated()
        return
    result = await session.exchange.step(data)
    if isinstance(result, sasl.Challenge):
        session.engine.challenge(result.data)
        return
    _conclude(session, result)


def _conclude(session: "ImapSession", result: Login | Refused) -> None:
    session.exchange = None
    if not isinstance(result, Login):
        later = (replies.LOGIN_LATER,) if result is Refused.LATER else ()
        session.engine.not_authenticated(*later)
        return
    session.logged_in(result)
    session.connection.established = True
    session.connection.set_limit(0)
    session.connection.set_timeout(session.service.settings.limits.imap_timeout)
    session.engine.authenticated()


def unauthenticate(session: "ImapSession", _: common.Unauthenticate) -> None:
    session.leave()
    session.logged_out()
    patience = session.service.settings.limits.login_timeout
    session.connection.established = False
    session.connection.set_timeout(patience)
    session.connection.set_limit(3 * patience)
    session.engine.unauthenticated()


def identify(session: "ImapSession", event: common.Id) -> None:
    session.service.log.debug("imap.client", session=session.id, client=dict(event.fields))
    session.engine.untagged(SERVER_ID)
    session.done("ID completed")

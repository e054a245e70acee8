"""STARTTLS, LOGIN, AUTHENTICATE and ID."""

from collections.abc import Awaitable
from typing import TYPE_CHECKING

from posthouse.auth.login import Refused
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
        session.engine.tls_started()


def login(session: "ImapSession", event: auth.Login) -> Awaitable[None]:
    return _verify(session, sasl.Credentials(event.name, "", event.password))


def authenticate(session: "ImapSession", event: auth.Authenticate) -> Awaitable[None] | None:
    session.mechanism = sasl.server(event.mechanism)
    if session.mechanism is None:
        session.engine.no(replies.NO_MECHANISM)
        return None
    return _step(session, session.mechanism.step(event.initial))


def response(session: "ImapSession", event: auth.AuthResponse) -> Awaitable[None] | None:
    if session.mechanism is None:
        session.engine.not_authenticated()
        return None
    return _step(session, session.mechanism.step(event.data))


def _step(session: "ImapSession", step: sasl.Step) -> Awaitable[None] | None:
    match step:
        case sasl.Challenge(data):
            session.engine.challenge(data)
            return None
        case sasl.Credentials():
            return _verify(session, step)
    session.mechanism = None
    session.engine.not_authenticated()
    return None


async def _verify(session: "ImapSession", credentials: sasl.Credentials) -> None:
    session.mechanism = None
    ip = session.connection.peer[0]
    found = await session.service.logins.verify(credentials.authcid, credentials.password, ip, "imap", session.id)
    if found is Refused.LATER:
        session.engine.not_authenticated(replies.LOGIN_LATER)
        return
    # Acting for somebody else is not offered.
    if found is Refused.WRONG or credentials.authzid.lower() not in ("", found.name, credentials.authcid.lower()):
        session.engine.not_authenticated()
        return
    session.logged_in(found)
    session.connection.set_limit(0)
    session.connection.set_timeout(session.service.settings.limits.imap_timeout)
    session.engine.authenticated()


def identify(session: "ImapSession", event: common.Id) -> None:
    session.service.log.debug("imap.client", session=session.id, client=dict(event.fields))
    session.engine.untagged(SERVER_ID)
    session.done("ID completed")

"""Who is there: AUTH, and what a trusted proxy says of its client by XCLIENT."""

from collections.abc import Awaitable
from ipaddress import ip_address

from posthouse.auth.exchange import Exchange
from posthouse.auth.login import Login, Refused, Visitor
from posthouse.servers.smtp.session import SmtpSession
from posthouse.smtp import replies
from posthouse.smtp.events import Auth, AuthResponse, Xclient
from posthouse.smtp.replies import Reply
from posthouse.wire import sasl

_REFUSALS = {
    Refused.WRONG: replies.AUTH_FAILED,
    Refused.LATER: replies.AUTH_TEMPORARY,
    Refused.MALFORMED: replies.AUTH_MALFORMED,
}
_VERBS = {"SMTP": "HELO", "ESMTP": "EHLO", "LMTP": "LHLO"}


def on_auth(session: SmtpSession, event: Auth) -> Awaitable[None]:
    session.exchange = Exchange.begin(
        session.service.logins,
        session.connection,
        "smtp",
        session.id,
        event.mechanism,
        session.engine.offer.mechanisms,
    )
    return _step(session, event.initial)


def on_auth_response(session: SmtpSession, event: AuthResponse) -> Awaitable[None]:
    return _step(session, event.data)


async def _step(session: SmtpSession, data: bytes | None) -> None:
    engine = session.engine
    if session.exchange is None:
        engine.reply(replies.AUTH_FAILED)
        return
    result = await session.exchange.step(data)
    if isinstance(result, sasl.Challenge):
        engine.challenge(result.data)
        return
    mechanism, session.exchange = session.exchange.mechanism, None
    if not isinstance(result, Login):
        engine.reply(_REFUSALS[result])
        return
    refusal = await _admit(session, result, mechanism)
    if refusal is not None:
        session.rejected(refusal, "")
        # RFC 4954 section 6: what AUTH may be answered
        refusal = refusal._replace(code=535 if refusal.code >= 500 else 454)
    engine.reply(refusal or replies.AUTH_SUCCEEDED)


async def _admit(session: SmtpSession, login: Login, mechanism: str) -> Reply | None:
    """Log somebody in, unless the filters refuse it or cannot be asked: then nobody is."""
    _enter(session, login, mechanism)
    refusal: Reply | None = replies.AUTH_TEMPORARY
    try:
        refusal = await session.ask("auth")
    finally:
        if refusal is not None:
            session.log_out()
            session.engine.authenticated("")
    return refusal


def _enter(session: SmtpSession, login: Login, mechanism: str) -> None:
    session.log_out()
    session.login, session.mechanism = login, mechanism
    if session.connection.is_closing:
        return  # it went while we looked: nobody would log it out
    session.log_off = session.service.logins.enter(login, session.connection.drain_and_close)
    session.engine.authenticated(login.name)
    session.connection.established = True
    if session.visitor is not None:
        session.visitor.login, session.visitor.account_id = login.name, login.account_id


UNKNOWN = "0.0.0.0"  # noqa: S104 - nobody's address


async def on_xclient(session: SmtpSession, event: Xclient) -> None:
    """Only configured proxies are offered it. What they say replaces what we see; the session begins anew."""
    said = event.attributes
    engine = session.engine
    address = said.get("ADDR")
    if "ADDR" in said and not address:
        address = UNKNOWN  # the proxy does not know, and its own rights are not the client's
    port = said.get("PORT") or ""
    peer = session.connection.peer
    if address:
        try:
            ip = ip_address(address[5:] if address.upper().startswith("IPV6:") else address)
        except ValueError:
            engine.reply(replies.XCLIENT_SYNTAX)
            return
        # One client has one address, however it is written: limits and rules know the plain one.
        ip = getattr(ip, "ipv4_mapped", None) or ip
        peer = str(ip).partition("%")[0], int(port) if port.isdecimal() and len(port) < 6 else 0
    session.connection.speaks_for(*peer)
    engine.certified = False  # the certificate was the proxy's
    session.forget_place()
    session.end_transaction()
    session.log_out()
    engine.authenticated("")
    session.hello = said.get("HELO") or ""
    if session.visitor is not None and address:
        session.visitor = session.service.new_visitor(session.id, session.connection)
    refusal = None
    if name := said.get("LOGIN"):
        login = await session.service.logins.by_name(name, Visitor(session.ip, "smtp", session.id, "XCLIENT"))
        refusal = await _admit(session, login, "XCLIENT") if isinstance(login, Login) else replies.XCLIENT_DENIED
    if address and refusal is None:
        refusal = await session.ask("connect")
    if refusal is not None:
        # Whom the proxy speaks for is not wanted; as somebody else it would go on with what this one may not have.
        session.log_out()
        engine.authenticated("")
        session.rejected(refusal, "")
        engine.reply(refusal)
        engine.shut_out()
        return
    session.verb = _VERBS.get((said.get("PROTO") or "ESMTP").upper(), "EHLO")
    engine.reply(replies.greeting(session.service.settings.hostname))

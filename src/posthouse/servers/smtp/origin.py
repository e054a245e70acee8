"""Where mail comes from, as Received fields and the trace tell it: the client, its TLS, its certificate, its login."""

from typing import TYPE_CHECKING

from posthouse.net.connection import Connection
from posthouse.net.tls import common_name
from posthouse.servers.smtp.transaction import Where

if TYPE_CHECKING:
    from posthouse.servers.smtp.session import SmtpSession


def where(session: "SmtpSession") -> Where:
    """What is known of the client now: it may go while a decision about its message waits."""
    tls = session.connection.tls
    return Where(
        session=session.id,
        service=session.service.kind,
        hostname=session.service.settings.hostname,
        hello=session.hello,
        verb=session.verb,
        ip=session.ip,
        tls=f"{tls.version} {tls.cipher}" if tls else "",
        peer_name=_client_name(session.connection) if session.engine.certified else "",
        login=session.login,
        name=session.visitor.name if session.visitor is not None else None,
        mechanism=session.mechanism,
    )


def _client_name(connection: Connection) -> str:
    name = common_name(connection.certificate or b"")
    return f'client "{name}" verified' if name else "client verified"

"""Makes the sessions of an SMTP or LMTP listener, and says which function answers which event of the engine."""

from posthouse.net.connection import Connection
from posthouse.servers.smtp import burl, entry, verify
from posthouse.servers.smtp.session import HANDLERS, Handlers, SmtpSession
from posthouse.servers.smtp.shared import Shared
from posthouse.smtp.events import Auth, AuthResponse, Burl, Vrfy, Xclient

_ALL: Handlers = HANDLERS | {
    Auth: entry.on_auth,
    AuthResponse: entry.on_auth_response,
    Xclient: entry.on_xclient,
    Vrfy: verify.on_vrfy,
    Burl: burl.on_burl,
}


class SmtpService(Shared):
    """Call it with a connection."""

    def __call__(self, connection: Connection) -> SmtpSession:
        return SmtpSession(self, connection, _ALL)

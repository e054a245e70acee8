"""Contexts for TLS clients that resume sessions, and the certificates that a server showed.

asyncio and uvloop have no parameter for a session to resume, but both make their TLS object by `context.wrap_bio`:
`KeepingContext` hands the session in there. It keeps a bounded number, one for each server name, for a bounded time,
in memory only. A session fits its own context alone, so one that began without verification cannot be resumed where
verification is asked for.

When a session is resumed the server sends no certificates, so those of the first handshake are kept with it. OpenSSL
does not verify them again: what depends on the day (a TLSA record, an end date) is the caller's to check, by
`chain_of`.
"""

import ssl
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from posthouse.base.errors import Permanent

KEPT = 3600.0  # seconds; servers seldom take tickets for longer, and certificates are seen again within the hour
MOST = 1000  # sessions in one context; one is a few KiB
_DER = 2  # _ssl.ENCODING_DER


class Kept(NamedTuple):
    """A session that may be resumed."""

    session: ssl.SSLSession
    chain: tuple[bytes, ...]  # what the server showed when it began
    until: float  # by the context's clock


class ResumableObject(ssl.SSLObject):
    """A TLS object that knows which session it offered."""

    offered: Kept | None = None


class KeepingContext(ssl.SSLContext):
    """A client context with a memory of sessions. Made by `keeping_context`."""

    sslobject_class = ResumableObject
    now: Callable[[], float] = staticmethod(time.monotonic)
    sessions: "OrderedDict[str, Kept]"

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        """As that of `ssl.SSLContext`, with the session that is kept for this name."""
        kept = self.kept(server_hostname) if isinstance(server_hostname, str) and session is None else None
        tls = super().wrap_bio(incoming, outgoing, server_side, server_hostname, kept.session if kept else session)
        if isinstance(tls, ResumableObject):
            tls.offered = kept
        return tls

    def kept(self, name: str) -> Kept | None:
        """The session for a server name, if it is not too old."""
        kept = self.sessions.get(name)
        if kept is not None and kept.until <= self.now():
            del self.sessions[name]
            return None
        return kept

    def keep(self, tls: ssl.SSLObject) -> None:
        """Remember the session of a connection, if its server allows that."""
        session, name = tls.session, tls.server_hostname
        if session is None or not session.has_ticket or not name:
            return
        end = self.now() + min(KEPT, float(session.timeout))
        offered = getattr(tls, "offered", None)
        if tls.session_reused and offered is not None:
            # A chain of resumed sessions lives no longer than its first: the certificates are to be seen again.
            end = min(end, offered.until)
        self.sessions[name] = Kept(session, chain_of(tls), end)
        self.sessions.move_to_end(name)
        while len(self.sessions) > MOST:
            self.sessions.popitem(last=False)

    def forget(self, name: str) -> None:
        """The next connection to this name does the whole handshake."""
        self.sessions.pop(name, None)


def keeping_context(
    *,
    verify: bool,
    ca: Path | None = None,
    common_name: bool = False,
    now: Callable[[], float] = time.monotonic,
) -> KeepingContext:
    """TLS 1.2 and 1.3. With `verify` the certificate must lead to a root (of the system, or of the file `ca` alone)
    and have the server's name as a DNS name, not only as its common name (RFC 8461 section 4.2), except with
    `common_name`. Raises `Permanent`."""
    context = KeepingContext(ssl.PROTOCOL_TLS_CLIENT)
    context.sessions = OrderedDict()
    context.now = now
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context
    context.hostname_checks_common_name = common_name
    if ca is None:
        context.load_default_certs()
        return context
    try:
        context.load_verify_locations(ca)
    except (OSError, ssl.SSLError) as error:
        why = error.strerror if type(error) is not ssl.SSLError and error.strerror else "it holds no PEM certificate"
        raise Permanent(f"the CA file {ca} cannot be used: {why}") from error
    return context


def chain_of(tls: ssl.SSLObject | None) -> tuple[bytes, ...]:
    """The certificates that the server sent, as DER, its own first; () if there are none."""
    if tls is None:
        return ()
    # Public from Python 3.13, where it gives bytes; before, it is a method of the object below and gives objects.
    below = tls if hasattr(tls, "get_unverified_chain") else getattr(tls, "_sslobj", None)
    sent = below.get_unverified_chain() if below is not None else None
    if sent:
        return tuple(one if isinstance(one, bytes) else one.public_bytes(_DER) for one in sent)
    own = tls.getpeercert(binary_form=True)
    if not own:
        return ()
    offered = getattr(tls, "offered", None)
    if tls.session_reused and offered is not None and offered.chain[:1] == (own,):
        return tuple(offered.chain)
    return (own,)

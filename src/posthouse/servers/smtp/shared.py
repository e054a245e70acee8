"""What the SMTP connections of one listener share, and what they offer. Who makes the sessions is `service.py`."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from posthouse.auth.login import Logins
from posthouse.base import ids
from posthouse.base.clock import Clock
from posthouse.base.log import Logger
from posthouse.base.networks import trusted
from posthouse.base.settings import Listen, Settings
from posthouse.delivery.directory import Directory
from posthouse.delivery.forwarding import Forwarding
from posthouse.delivery.inject import Kept
from posthouse.delivery.quotas import Quotas
from posthouse.filter.gate import Gate
from posthouse.filter.visitor import Visitor
from posthouse.net.connection import Connection
from posthouse.senderauth.signing import Signing
from posthouse.servers.smtp.authentication import Authentication
from posthouse.servers.smtp.refusals import Refusals
from posthouse.smtp.options import ServerOptions
from posthouse.smtp.replies import Reply
from posthouse.store.database import Database

Prepare = Callable[[str, list[str], bytes, dict[str, Any]], Awaitable[Kept | None]]


class Shared:
    """One listener's."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        directory: Directory,
        logins: Logins,
        clock: Clock,
        new_ids: ids.IdSource,
        log: Logger,
        has_room: Callable[[], bool],
        prepare: Prepare,
        listen: Listen,
        gate: Gate | None = None,
        forwarding: Forwarding | None = None,
        quotas: Quotas | None = None,
        *,
        refusals: Refusals,
        signing: Signing | None = None,
        authentication: Authentication,
    ) -> None:
        self.signing = signing
        self.authentication = authentication
        self.refusals = refusals
        self.quotas = quotas
        self.forwarding = forwarding
        self.gate = gate
        self.sees_content = gate is not None and gate.sees_content
        self.settings = settings
        self.database = database
        self.directory = directory
        self.logins = logins
        self.clock = clock
        self.ids = new_ids
        self.log = log
        self.has_room = has_room
        self.prepare = prepare
        self.kind = listen.service
        self.lmtp = listen.service == "lmtp"
        self.submission = listen.service in ("submission", "submissions")
        self.expiry = int(settings.queue.lifetime_days * 86_400_000_000)
        self.options = _options(settings, listen, logins.offered(cram_md5=listen.cram_md5))
        self._options_of_proxies = replace(self.options, extensions=self.options.extensions | {"XCLIENT"})
        self.command_timeout = settings.limits.command_timeout
        self.content_timeout = settings.limits.content_timeout
        self._networks = settings.relay.networks

    def options_for(self, ip: str) -> ServerOptions:
        """What is offered to an address: XCLIENT to configured proxies only."""
        proxies = self.settings.proxies
        return self._options_of_proxies if proxies and trusted(ip, proxies) else self.options

    def new_visitor(self, session: str, connection: Connection) -> Visitor | None:
        """What the filters know of a client; None where no filter is configured."""
        if self.gate is None:
            return None
        ip, tls = connection.peer[0], connection.tls
        return Visitor(
            session,
            self.kind,
            ip,
            exempt=trusted(ip, self.settings.limits.trusted) or self.may_relay(ip),
            secure=f"{tls.version} {tls.cipher}" if tls else "",
        )

    def may_relay(self, ip: str) -> bool:
        """True for the configured networks."""
        return bool(self._networks) and trusted(ip, self._networks)

    def refusal(self, why: str) -> bytes:
        """What a connection that is not wanted is told."""
        return Reply(421, "4.7.0", f"{self.settings.hostname} {why}").encode()


def _options(settings: Settings, listen: Listen, mechanisms: tuple[str, ...]) -> ServerOptions:
    submission = listen.service in ("submission", "submissions")
    wanted = {"SMTPUTF8", "DSN", "REQUIRETLS", "DELIVERBY", "MT-PRIORITY", "LIMITS", "EXPN"}
    if settings.smtp.chunking:
        wanted |= {"CHUNKING", "BINARYMIME"}
        if submission:
            wanted.add("BURL")  # RFC 4468 section 1: for submission
    if submission and settings.smtp.hold:
        wanted.add("FUTURERELEASE")  # RFC 4865 section 4: for submission only
    return ServerOptions(
        hostname=settings.hostname,
        lmtp=listen.service == "lmtp",
        submission=submission,
        max_size=settings.limits.message_size,
        max_recipients=settings.limits.recipients,
        max_errors=settings.limits.errors,
        extensions=frozenset(wanted),
        mechanisms=() if listen.service == "lmtp" else mechanisms,
        starttls=not listen.implicit_tls and listen.path is None,
        secure=listen.implicit_tls,
        require_tls=listen.require_tls,
        plaintext_auth=listen.allow_plaintext_auth,
        by_minimum=int(settings.smtp.deliver_by),
        hold_interval=int(settings.smtp.hold) if submission else 0,
    )

"""Which TLS context goes with which `Security`, and sessions that are resumed.

| level | verification in the handshake | SNI |
| --- | --- | --- |
| dane | none: the TLSA records decide afterwards (RFC 7672 section 3.1) | the TLSA base domain |
| sts-enforce | the roots, and the name of the MX host (RFC 8461 section 4.2) | the MX host |
| sts-testing | none: afterwards, so that mail is not kept back | the MX host |
| pkix | the roots, and the host's name, as common name too (RFC 8689 section 4.2.1) | the host |
| opportunistic | none (RFC 7435) | the MX host |

Each level has a context of its own, so sessions never go from one level to another.
"""

import time
from collections.abc import Callable
from pathlib import Path

from cryptography.x509.verification import Store

from posthouse.net.dial import ClientTls
from posthouse.net.tls_sessions import KeepingContext, keeping_context
from posthouse.queue.certificates import public_roots
from posthouse.queue.transport_security import Level, Security, verdict


class ClientContexts:
    """Makes contexts when they are first needed: reading the roots is slow. `ca` is trusted beside nothing else, if
    given; `monotonic` (seconds) is the clock by which sessions grow old."""

    def __init__(self, ca: Path | None = None, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._ca = ca
        self._monotonic = monotonic
        self._contexts: dict[Level, KeepingContext] = {}
        self._roots: list[Store | None] = []

    def of(self, security: Security, host: str, now: int) -> ClientTls:
        """How to speak TLS to a host; `now` in microseconds. Raises `Permanent` if `ca` cannot be used.

        A session whose certificates would not pass today is not offered: the server shows new ones then.
        """
        context = self._contexts.get(security.level)
        if context is None:
            verify = security.level in ("sts-enforce", "pkix")
            context = self._contexts[security.level] = keeping_context(
                verify=verify,
                ca=self._ca if verify else None,
                common_name=security.level == "pkix",
                now=self._monotonic,
            )
        name = security.base or host
        kept = context.kept(name)
        if kept is not None and security.level == "dane" and not verdict(security, kept.chain, host, now=now).ok:
            context.forget(name)
        return ClientTls(context, name)

    def forget(self, security: Security, host: str) -> None:
        """Offer no session to a host: what it showed was not accepted."""
        if security.level in self._contexts:
            self._contexts[security.level].forget(security.base or host)

    def roots(self) -> Store | None:
        """The public roots, for what is verified after the handshake."""
        if not self._roots:
            self._roots.append(public_roots(self._ca))
        return self._roots[0]

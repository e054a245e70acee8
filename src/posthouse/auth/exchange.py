"""One SASL exchange of a connection, driven to its end: the machine of `wire.sasl` on one side, `Logins` on the other.

The three protocols use it alike: `step` with each response; a Challenge is sent on, a Login or a Refused is the end.
Acting for somebody else (an authorization identity that is another account's) is not offered.
"""

import hashlib
import secrets
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import NamedTuple

from posthouse.auth import passwords
from posthouse.auth.login import Login, Logins, Refused, Visitor, Wanted
from posthouse.net.connection import Connection
from posthouse.wire import sasl


class Surroundings(NamedTuple):
    """What the connection brings along."""

    bindings: Mapping[str, bytes]  # channel bindings by type
    certificate: bytes | None  # the client's, DER, verified by the listener's CA
    offered: Collection[str]  # mechanisms that the client was told of


class Exchange:
    """One exchange."""

    def __init__(self, logins: Logins, visitor: Visitor, surroundings: Surroundings) -> None:
        self._logins = logins
        self._visitor = visitor
        self._surroundings = surroundings
        self._wanted: Wanted | None = None
        self._refused: Refused | None = None
        self._name = ""
        # CRAM-MD5 wants something that looks like a message id (RFC 2195 section 2).
        nonce = secrets.token_urlsafe(18)
        nonce = f"{nonce}@{logins.hostname}" if visitor.mechanism == "CRAM-MD5" else nonce
        self._machine = sasl.server(visitor.mechanism, nonce, surroundings.bindings, surroundings.offered)

    @classmethod
    def begin(
        cls,
        logins: Logins,
        connection: Connection,
        service: str,
        session: str,
        mechanism: str,
        offered: Collection[str],
    ) -> "Exchange":
        """An exchange of this connection."""
        visitor = Visitor(connection.peer[0], service, session, mechanism)
        return cls(logins, visitor, Surroundings(connection.bindings, connection.certificate, offered))

    @property
    def mechanism(self) -> str:
        """The name of the mechanism."""
        return self._visitor.mechanism

    async def step(self, data: bytes | None) -> sasl.Challenge | Login | Refused:
        """Take the initial response (None: there was none) or the answer to a challenge."""
        machine = self._machine
        if machine is None:
            return Refused.MALFORMED
        if self._wanted is not None:  # this is the proof
            return await self._judged(self._wanted, partial(machine.step, data))
        return await self._run(machine, machine.step(data))

    async def _judged(self, wanted: Wanted, judge: Callable[[], sasl.Step]) -> sasl.Challenge | Login | Refused:
        """Judge a proof when it is its turn, and what comes of it."""
        assert self._machine is not None
        async with self._logins.judging(wanted, self._name, self._visitor) as refused:
            return refused or await self._run(self._machine, judge())

    async def _run(self, machine: sasl.Mechanism, step: sasl.Step) -> sasl.Challenge | Login | Refused:
        while True:
            match step:
                case sasl.Challenge():
                    return step
                case sasl.Credentials(authcid, authzid, password):
                    v = self._acting(authcid, authzid)
                    return await self._logins.verify(
                        authcid, password, v.ip, v.service, v.session, v.mechanism, v.acting
                    )
                case sasl.WantSecret(authcid, _, kind):
                    wanted = await self._logins.wanted(authcid, kind, self._visitor)
                    if isinstance(wanted, Refused):
                        return wanted
                    self._wanted, self._name = wanted, authcid
                    if kind == "CRAM-MD5":  # the proof has come already
                        return await self._judged(wanted, partial(machine.secret, wanted.secrets))
                    step = machine.secret(wanted.secrets)
                case sasl.Proved(authcid, authzid, which):
                    assert self._wanted is not None
                    return await self._logins.proved(self._wanted, which, self._acting(authcid, authzid))
                case sasl.Bearer(authzid, token):
                    self._acting("", authzid)
                    login = await self._bearer(token)
                    if not isinstance(login, Login):
                        self._refused = login
                        return machine.refuse()
                    return login
                case sasl.Certificate(authzid):
                    self._acting("", authzid)
                    return await self._certificate()
                case sasl.Failure(reason, authcid, malformed):
                    if self._refused is not None:
                        return self._refused
                    if malformed:
                        return Refused.MALFORMED
                    if self._wanted is None:
                        return self._logins.refuse(authcid, self._visitor, reason)
                    return self._logins.disproved(self._wanted, authcid, self._visitor, reason)

    async def _bearer(self, token: str) -> Login | Refused:
        if token.startswith(passwords.TOKEN):
            return await self._logins.by_secret("token", passwords.fast_hash(token), self._visitor)
        return await self._logins.by_issuer(token, self._visitor)

    async def _certificate(self) -> Login | Refused:
        der = self._surroundings.certificate
        if der is None:
            return self._logins.refuse("", self._visitor, "there is no client certificate")
        return await self._logins.by_secret("certificate", hashlib.sha256(der).hexdigest(), self._visitor)

    def _acting(self, authcid: str, authzid: str) -> Visitor:
        """The visitor, with the name it wants to act for if that is not the one it logs in with."""
        if authzid.lower() != authcid.lower():
            self._visitor = self._visitor._replace(acting=authzid)
        return self._visitor

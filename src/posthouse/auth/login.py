"""Logins: is this the account it says it is? For all protocols and all SASL mechanisms.

Slow hashes run on threads of their own; right passwords are remembered for a few minutes, so that clients that log in
again and again cost nothing. Names that are nobody's take as long as wrong passwords. After wrong passwords an
account must wait from that network (`throttle.py`); trusted networks never wait. An account with a second factor takes
its own password on the web alone: mail programs need app passwords.

Answers are `Login` or `Refused`; what each connection is told is for its protocol. Every attempt is logged and
recorded (`recorder.py`), never with a password.
"""

import asyncio
import contextlib
import hmac
import secrets
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from enum import Enum
from functools import partial
from typing import NamedTuple, TypeVar

from posthouse.auth import passwords
from posthouse.auth.recorder import Recorder
from posthouse.auth.throttle import Place, Throttle
from posthouse.auth.tokens import Verifier
from posthouse.base import ids
from posthouse.base.clock import Clock
from posthouse.base.errors import NotFound
from posthouse.base.log import Logger
from posthouse.base.networks import parse_networks, trusted
from posthouse.store import accounts, credentials
from posthouse.store.attempts import Attempt
from posthouse.store.credentials import Candidate, Credential
from posthouse.store.database import Database, Tx
from posthouse.store.feed import ChangeFeed
from posthouse.store.model import Change, DirectoryChanged
from posthouse.wire.sasl import MECHANISMS, ScramKeys

T = TypeVar("T")
THREADS = 2
WAITING = 200  # logins that may wait for a thread; more are told to come back
REMEMBERED, REMEMBERED_FOR = 10_000, 300.0
# What the port of a connection is to the scope of an app password
SCOPES = {"smtp": "smtp", "submission": "smtp", "submissions": "smtp", "imap": "imap", "pop3": "pop3"}
KINDS = {"app": "app password", "token": "token", "certificate": "certificate"}
WRONG_PASSWORD = "wrong password"  # noqa: S105 - the word for log and record


class Login(NamedTuple):
    """Who is there."""

    account_id: int
    name: str
    credential_id: int = 0  # what it logged in with; 0: somebody else vouches for it


class Refused(Enum):
    """Why a login is not one."""

    WRONG = "wrong"  # name, password, token, proof
    LATER = "later"  # not looked at: too many tries, or too busy
    MALFORMED = "malformed"  # what came does not fit the mechanism


class Visitor(NamedTuple):
    """From where somebody logs in, and how."""

    ip: str
    service: str  # "smtp", "imap", "pop3"
    session: str = ""
    mechanism: str = "PLAIN"
    acting: str = ""  # for whom, if it says so (authorization identity)


class Wanted(NamedTuple):
    """What is needed to check a proof (SCRAM, CRAM-MD5): secrets, real or made up, and whose they are."""

    secrets: Sequence[object]
    credentials: Sequence[Credential]
    candidate: Candidate | None
    place: Place
    generation: int = 0
    without: bool = False  # there is no such secret: nothing can be guessed, and nothing is counted
    bounded: str = ""  # what is there and not for this visitor; a wrong proof may have been of that


class Logins:
    """Verifies logins for all protocols."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        feed: ChangeFeed,
        log: Logger,
        is_trusted: Callable[[str], bool],
        new_ids: ids.IdSource | None = None,
        *,
        mechanisms: tuple[str, ...] = MECHANISMS,
        verifier: Verifier | None = None,
        hostname: str = "localhost",
    ) -> None:
        self.mechanisms = mechanisms  # what may be offered at all
        self.verifier = verifier or Verifier(None, clock, log)
        self.hostname = hostname
        self._database = database
        self._clock = clock
        self._log = log
        self._is_trusted = is_trusted
        self._ids = new_ids or ids.IdSource()
        self._recorder = Recorder(database, clock, log)
        self._throttle = Throttle()
        self._threads = ThreadPoolExecutor(THREADS, "login")
        self._waiting = 0
        self._key = secrets.token_bytes(32)
        self._pepper = b""  # makes salts for names that are nobody's
        self._remembered: OrderedDict[bytes, tuple[float, Login]] = OrderedDict()
        self._open: dict[int, dict[object, tuple[int, Callable[[], None]]]] = {}  # account: credential, how to end
        self._looking: asyncio.Task[None] | None = None  # for accounts that are gone
        self._generation = 0
        self._dummy = ""
        feed.subscribe(0, self._on_change)

    def _on_change(self, changes: list[Change]) -> None:
        if any(isinstance(change, DirectoryChanged) for change in changes):
            self.forget()

    def forget(self) -> None:
        """Drop what is remembered of right passwords, and look whether all that are logged in may still be."""
        self._remembered.clear()
        self._generation += 1
        if self._open and self._looking is None:
            self._looking = asyncio.get_running_loop().create_task(self._end_gone())

    def enter(self, login: Login, end: Callable[[], None]) -> Callable[[], None]:
        """A connection is logged in: `end` it when its account or credential is gone. It closes: call the result."""
        mark = object()
        self._open.setdefault(login.account_id, {})[mark] = login.credential_id, end

        def leave() -> None:
            connections = self._open.get(login.account_id)
            if connections is not None:
                connections.pop(mark, None)
                if not connections:
                    self._open.pop(login.account_id, None)

        return leave

    async def _end_gone(self) -> None:
        seen = -1
        try:
            while seen != self._generation:
                seen = self._generation
                active, kept = await self._database.read(_living)
                for account_id, connections in list(self._open.items()):
                    for credential_id, end in list(connections.values()):
                        if account_id not in active or (credential_id and credential_id not in kept):
                            end()
        except Exception as error:
            self._log.error("server.failed", what="looking for accounts that are gone", error=repr(error))
        finally:
            self._looking = None

    def offered(self, *, cram_md5: bool) -> tuple[str, ...]:
        """What a port may offer: CRAM-MD5, for which most accounts have no secret, where it is asked for."""
        return tuple(name for name in self.mechanisms if cram_md5 or name != "CRAM-MD5")

    # Passwords

    async def verify(
        self,
        name: str,
        password: str,
        ip: str,
        service: str,
        session: str = "",
        mechanism: str = "PLAIN",
        acting: str = "",
    ) -> Login | Refused:
        """Who shows a password; `acting` is for whom, if that is said."""
        visitor = Visitor(ip, service, session, mechanism, acting)
        now = self._clock.monotonic()
        mark = hmac.digest(self._key, f"{name}\0{password}".encode("utf-8", "surrogatepass"), "sha256")
        if not acting and (known := self._recall(mark, visitor)) is not None:
            return known
        generation = self._generation
        if self._waiting >= WAITING:
            return self._refuse(visitor, name, None, Refused.LATER, "too busy")
        self._waiting += 1
        try:
            found = await self._database.read(credentials.find, name)
            place = self._place(found, name, ip)
            # One after the other for each account and network: or many guesses at once would all be looked at before
            # the first is counted.
            async with self._throttle.turn(place, now, counted=not self._is_trusted(ip)):
                now = self._clock.monotonic()  # it may have been a long wait
                if not acting and (known := self._recall(mark, visitor)) is not None:
                    return known
                if self._must_wait(place, ip, now):
                    return self._refuse(visitor, name, found, Refused.LATER, "too many tries")
                fitting, why = await self._check(found, password, visitor)
                if found is None or fitting is None:
                    self._failed(place, ip)
                    return self._refuse(visitor, name, found, Refused.WRONG, why)
                login = await self._let_in(visitor, found, fitting, place, generation)
                if isinstance(login, Login) and fitting.kind == "password" and generation == self._generation:
                    while len(self._remembered) >= REMEMBERED:
                        self._remembered.popitem(last=False)
                    self._remembered[mark] = (now + REMEMBERED_FOR, login)
                return login
        finally:
            self._waiting -= 1

    def _recall(self, mark: bytes, visitor: Visitor) -> Login | None:
        """Who showed this password a moment ago; what is too old is forgotten."""
        known = self._remembered.get(mark)
        if known is None:
            return None
        until, login = known
        if until <= self._clock.monotonic():
            del self._remembered[mark]
            return None
        self._accepted(visitor, login, "")
        return login

    async def _check(self, found: Candidate | None, password: str, visitor: Visitor) -> tuple[Credential | None, str]:
        """The credential that fits, or why none does."""
        plain = passwords.fast_hash(passwords.plain_app_password(password))
        unfit = ""
        for credential in found.of_kind("app") if found is not None else ():
            if hmac.compare_digest(credential.secret, plain):
                unfit = self._unfit(found, credential, visitor)
                if not unfit:
                    return credential, ""
        own = next(iter(found.of_kind("password")), None) if found is not None else None
        if own is None and not self._dummy:
            self._dummy = await self._on_thread(partial(passwords.hash_password, secrets.token_urlsafe(16)))
        secret = own.secret if own is not None else self._dummy
        fits = await self._on_thread(partial(passwords.verify, secret, password))
        if found is None or own is None or not fits:
            return None, unfit or WRONG_PASSWORD
        if unfit := self._unfit(found, own, visitor):
            return None, unfit
        await self._renew(found, own, password)
        return own, ""

    def _usable(self, found: Candidate | None, visitor: Visitor) -> list[Credential]:
        """The credentials that are good for this visitor."""
        if found is None:
            return []
        return [one for one in found.credentials if not self._unfit(found, one, visitor)]

    def _unfit(self, found: Candidate | None, one: Credential, visitor: Visitor) -> str:
        """Why a credential is not good for this visitor, for log and record; "" if it is."""
        if found is None or found.disabled:
            return "disabled"
        if one.kind in ("password", "cram") and found.of_kind("totp"):
            return "an app password is needed: the second factor is on"
        what = f"{KINDS.get(one.kind, one.kind)} {one.label!r}"
        scope = SCOPES.get(visitor.service, visitor.service)
        if one.expires and one.expires <= self._clock.now():
            return f"{what} has expired"
        if one.scopes and scope not in one.scopes.split():
            return f"{what} is not for {scope}"
        if one.networks and not trusted(visitor.ip, parse_networks(one.networks)):
            return f"{what} is not for this network"
        return ""

    async def _renew(self, found: Candidate, own: Credential, password: str) -> None:
        """The password is in our hands: hash it anew if parameters have changed, make keys that are missing."""
        if passwords.needs_rehash(own.secret):
            fresh = await self._on_thread(partial(passwords.hash_password, password, shortest=0))  # it was taken once
            await self._database.write(credentials.rehash, own.id, fresh)
        if not own.scram:
            salt = salt_of(found) or secrets.token_bytes(passwords.SALT)
            scram = await self._on_thread(partial(passwords.scram_keys, password, salt))
            if scram:
                await self._database.write(credentials.set_scram, own.id, scram)

    # Proofs: the password is not shown

    async def wanted(self, name: str, kind: str, visitor: Visitor) -> Wanted | Refused:
        """What a proof of that kind is checked against."""
        generation = self._generation
        found = await self._database.read(credentials.find, name)
        place = self._place(found, name, visitor.ip)
        if self._must_wait(place, visitor.ip, self._clock.monotonic()):
            return self._refuse(visitor, name, found, Refused.LATER, "too many tries")
        usable = self._usable(found, visitor)
        if kind == "CRAM-MD5":
            fitting = [one for one in usable if one.kind == "cram"]
            values: list[object] = [one.secret for one in fitting] or [secrets.token_urlsafe(32)]
            without = found is None or not found.of_kind("cram")
            return Wanted(values, fitting, found, place, generation, without)
        bounded = next(
            (why for one in found.of_kind("app") if (why := self._unfit(found, one, visitor))) if found else iter(()),
            "",
        )
        keyed = [(one, key) for one in usable if (key := _key_of(one, kind)) is not None]
        if keyed:  # one salt must be named before anybody knows which password the client has
            keyed = [(one, key) for one, key in keyed if key.salt == keyed[0][1].salt]
        else:
            return Wanted([await self._made_up(name, kind, found)], (), found, place, bounded=bounded)
        which = [one for one, _ in keyed]
        return Wanted([key for _, key in keyed], which, found, place, generation, bounded=bounded)

    async def _made_up(self, name: str, kind: str, found: Candidate | None) -> ScramKeys:
        """Keys that nothing fits, with a salt that is always the same for a name: nobody can tell who exists."""
        if not self._pepper:
            self._pepper = await self._database.write(credentials.server_secret, "scram")
        salt = (salt_of(found) if found is not None else b"") or hmac.digest(
            self._pepper, name.strip().lower().encode(), "sha256"
        )[: passwords.SALT]
        return ScramKeys(kind, passwords.ITERATIONS, salt, secrets.token_bytes(32), secrets.token_bytes(32))

    @contextlib.asynccontextmanager
    async def judging(self, wanted: Wanted, name: str, visitor: Visitor) -> AsyncIterator[Refused | None]:
        """A proof is about to be judged: one after the other, as passwords are, and not if it is too early."""
        counted = not self._is_trusted(visitor.ip)
        async with self._throttle.turn(wanted.place, self._clock.monotonic(), counted=counted):
            if self._must_wait(wanted.place, visitor.ip, self._clock.monotonic()):
                yield self._refuse(visitor, name, wanted.candidate, Refused.LATER, "too many tries")
            else:
                yield None

    async def proved(self, wanted: Wanted, which: int, visitor: Visitor) -> Login | Refused:
        """The proof was right, for that one of the secrets."""
        if wanted.candidate is None or which >= len(wanted.credentials):
            return Refused.WRONG
        fitting = wanted.credentials[which]
        return await self._let_in(visitor, wanted.candidate, fitting, wanted.place, wanted.generation)

    def disproved(self, wanted: Wanted, name: str, visitor: Visitor, why: str) -> Refused:
        """The proof was wrong. Programs choose CRAM-MD5 wherever it is offered: for a name that has no secret for it
        no password was guessed, and nobody shall have to wait for that. Names that are nobody's are treated alike."""
        if wanted.without:
            why = "this account has no CRAM-MD5 password"
        else:
            self._failed(wanted.place, visitor.ip)
            if why == WRONG_PASSWORD and wanted.bounded:
                why = f"{why}, or: {wanted.bounded}"
        return self._refuse(visitor, name, wanted.candidate, Refused.WRONG, why)

    # Tokens and certificates

    async def by_secret(self, kind: str, secret: str, visitor: Visitor) -> Login | Refused:
        """Whose token of ours, or certificate, this is: `secret` is its hash."""
        generation = self._generation
        found = await self._database.read(credentials.find_by_secret, kind, secret)
        usable = self._usable(found, visitor)
        if found is None or not usable:
            why = self._unfit(found, found.credentials[0], visitor) if found is not None else f"unknown {kind}"
            return self._refuse(visitor, found.name if found else "", found, Refused.WRONG, why)
        place = self._place(found, found.name, visitor.ip)
        return await self._let_in(visitor, found, usable[0], place, generation)

    async def by_name(self, name: str, visitor: Visitor) -> Login | Refused:
        """An account that somebody else vouches for: an OAuth issuer, a trusted proxy."""
        generation = self._generation
        found = await self._database.read(credentials.find, name)
        if found is None or found.disabled:
            return self._refuse(visitor, name, found, Refused.WRONG, "there is no such account here")
        return await self._let_in(visitor, found, None, self._place(found, name, visitor.ip), generation)

    async def refuse_token(self, name: str, visitor: Visitor, why: str) -> Refused:
        """A token of an issuer that was not good; `name` if the issuer did sign for that name once."""
        found = await self._database.read(credentials.find, name) if name else None
        # A phone whose token is over shall not make all others of its network wait.
        self._failed(self._place(found, "", visitor.ip), visitor.ip)
        return self._refuse(visitor, name, found, Refused.WRONG, why)

    async def write_down(self) -> None:
        """Write the attempts that wait to the record."""
        await self._recorder.flush()

    async def by_issuer(self, token: str, visitor: Visitor) -> Login | Refused:
        """Whose token of an issuer this is. Verifying costs a question to the issuer: few of a network go side by side,
        and a client that showed bad ones must wait."""
        if self._waiting >= WAITING:
            return self._refuse(visitor, "", None, Refused.LATER, "too busy")
        self._waiting += 1
        try:
            async with self._throttle.examining(visitor.ip):
                if self._must_wait(self._place(None, "", visitor.ip), visitor.ip, self._clock.monotonic()):
                    return self._refuse(visitor, "", None, Refused.LATER, "too many tries")
                name, why = await self.verifier.examine(token)
                if why:
                    return await self.refuse_token(name, visitor, why)
            return await self.by_name(name, visitor)
        finally:
            self._waiting -= 1

    def refuse(self, name: str, visitor: Visitor, why: str) -> Refused:
        """It was not good, and nobody knows whose it was."""
        self._failed(self._place(None, name, visitor.ip), visitor.ip)
        return self._refuse(visitor, name, None, Refused.WRONG, why)

    # What all have in common

    async def _let_in(
        self, visitor: Visitor, found: Candidate, credential: Credential | None, place: Place, generation: int
    ) -> Login | Refused:
        current: Candidate | None = found
        while generation != self._generation:  # something was changed since it was read
            generation = self._generation
            current = await self._database.read(_again, found.account_id)
        if (
            current is None
            or current.disabled
            or (credential is not None and not self._still(current, credential, visitor))
        ):
            return self._refuse(visitor, found.name, current, Refused.WRONG, "removed or disabled")
        if visitor.acting and visitor.acting.lower() != found.name:
            other = await self._database.read(credentials.find, visitor.acting)
            if other is None or other.account_id != found.account_id:  # not another name of the account
                self._failed(place, visitor.ip)
                return self._refuse(
                    visitor, found.name, found, Refused.WRONG, "acting for somebody else is not offered"
                )
        self._throttle.succeeded(place)
        login = Login(found.account_id, found.name, credential.id if credential is not None else 0)
        self._accepted(visitor, login, credential.label if credential is not None else "")
        return login

    def _still(self, found: Candidate, credential: Credential, visitor: Visitor) -> bool:
        """Is the credential still there, and good?"""
        return any((one.id, one.created) == (credential.id, credential.created) for one in self._usable(found, visitor))

    def _accepted(self, visitor: Visitor, login: Login, label: str) -> None:
        self._log.info(
            "login.accepted",
            session=visitor.session,
            service=visitor.service,
            name=login.name,
            ip=visitor.ip,
            mechanism=visitor.mechanism,
            **({"label": label} if label else {}),
        )
        self._record(visitor, login.account_id, "accepted", label, login.credential_id)

    def _refuse(self, visitor: Visitor, name: str, found: Candidate | None, refused: Refused, why: str) -> Refused:
        self._log.warning(
            "login.refused",
            session=visitor.session,
            service=visitor.service,
            name=name.strip().lower()[:255],
            ip=visitor.ip,
            mechanism=visitor.mechanism,
            why=why,
        )
        if found is not None and refused is not Refused.LATER:  # nothing was looked at; they would fill the record
            self._record(visitor, found.account_id, why)
        return refused

    def _record(self, visitor: Visitor, account_id: int, result: str, label: str = "", credential_id: int = 0) -> None:
        now = self._clock.now()
        attempt = Attempt(
            self._ids.next(now), account_id, now, visitor.service, visitor.mechanism, visitor.ip, result, label
        )
        self._recorder.note(attempt, credential_id)

    def _place(self, found: Candidate | None, name: str, ip: str) -> Place:
        return self._throttle.place(found.account_id if found is not None else name.strip().lower()[:255], ip)

    def _must_wait(self, place: Place, ip: str, now: float) -> bool:
        return self._throttle.must_wait(place, now) and not self._is_trusted(ip)

    def _failed(self, place: Place, ip: str) -> None:
        if not self._is_trusted(ip):
            self._throttle.failed(place, self._clock.monotonic())

    async def _on_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    async def close(self) -> None:
        """Write down what waits, let the threads go."""
        await self._recorder.close()
        self._threads.shutdown(wait=False, cancel_futures=True)


def _living(tx: Tx) -> tuple[set[int], set[int]]:
    """Accounts that may log in, and all credentials."""
    return accounts.active(tx), credentials.all_ids(tx)


def _again(tx: Tx, account_id: int) -> Candidate | None:
    try:
        return credentials.of_account(tx, account_id)
    except NotFound:
        return None


def salt_of(found: Candidate) -> bytes:
    """The one salt of an account's SCRAM keys; b"" if it has none yet."""
    for credential in found.credentials:
        key = _key_of(credential, "SCRAM-SHA-256")
        if key is not None:
            return key.salt
    return b""


def _key_of(credential: Credential, kind: str) -> ScramKeys | None:
    for text in credential.scram.split():
        key = ScramKeys.parse(text)
        if key is not None and key.kind == kind:
            return key
    return None

"""POP3: the decisions of one connection.

`Pop3Service` is what all connections of a listener share, `Pop3Session` one connection: it checks logins,
locks the mailbox, hands message contents to the engine in pieces, and removes what was deleted when the
client says QUIT: in one transaction, and never otherwise.

POP3 shows the INBOX as it was at login. One session has it at a time; a second is told [IN-USE], and one that comes
too soon after the last [LOGIN-DELAY], if there is such a setting. Messages read by RETR are marked as seen at QUIT, so
that other clients show them as read (Dovecot does the same); with `pop3.expire` old ones that were read go then.
Whatever goes wrong unexpectedly is answered [SYS/TEMP] with the session's id and logged in one line.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable
from typing import Any

from posthouse.auth.exchange import Exchange
from posthouse.auth.login import Login as Who
from posthouse.auth.login import Logins, Refused
from posthouse.base import ids
from posthouse.base.clock import Clock
from posthouse.base.errors import NotFound
from posthouse.base.log import Logger
from posthouse.base.settings import Settings
from posthouse.net.connection import Connection
from posthouse.pop3 import replies
from posthouse.pop3.events import Auth, AuthResponse, Login, Pause, Retrieve, StartTls, Update
from posthouse.pop3.maildrop import Maildrop
from posthouse.pop3.server import Options, Pop3Server
from posthouse.store import maildrop
from posthouse.store.database import Database
from posthouse.wire import sasl

_DAY = 86_400_000_000  # microseconds
PIECE = 256 * 1024  # a large message is read and sent in pieces of this size
# Clients fetch message after message: small ones are read ahead, one thread hop for many.
AHEAD_BYTES, AHEAD_MESSAGES = 256 * 1024, 50


class MailboxLocks:
    """Which accounts have a POP3 session; shared by all listeners."""

    def __init__(self) -> None:
        self._held: set[int] = set()

    def acquire(self, account_id: int) -> bool:
        """Take the lock; False if another session has it."""
        if account_id in self._held:
            return False
        self._held.add(account_id)
        return True

    def release(self, account_id: int) -> None:
        """Give it back."""
        self._held.discard(account_id)


class LoginDelay:
    """When each account's last session began, as long as that says anything; shared by all listeners."""

    def __init__(self, seconds: float, clock: Clock) -> None:
        self.seconds = math.ceil(seconds)
        self._clock = clock
        self._last: dict[int, float] = {}  # the longest ago first

    def too_soon(self, account_id: int) -> bool:
        """Whether an account has to wait."""
        if not self.seconds:
            return False
        over = self._clock.monotonic() - self.seconds
        while self._last and (oldest := next(iter(self._last.items())))[1] <= over:
            del self._last[oldest[0]]
        return account_id in self._last

    def began(self, account_id: int) -> None:
        """A session of the account begins."""
        if self.seconds:
            self._last.pop(account_id, None)
            self._last[account_id] = self._clock.monotonic()


class Pop3Service:
    """What the connections of one listener share."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        logins: Logins,
        clock: Clock,
        new_ids: ids.IdSource,
        log: Logger,
        locks: MailboxLocks,
        delay: LoginDelay,
        *,
        mechanisms: tuple[str, ...] | None = None,
        secure: bool,
        allow_plaintext_auth: bool = False,
        require_tls: bool = False,
    ) -> None:
        self.database = database
        self.logins = logins
        self.clock = clock
        self.ids = new_ids
        self.log = log
        self.locks = locks
        self.delay = delay
        self.expire = settings.pop3.expire
        self.hostname = settings.hostname
        self.login_timeout = settings.limits.login_timeout
        self.timeout = settings.limits.pop3_timeout
        self.options = Options(
            mechanisms=logins.offered(cram_md5=False) if mechanisms is None else mechanisms,
            require_tls=require_tls,
            starttls=not secure,
            secure=secure,
            plaintext_auth=allow_plaintext_auth,
            max_errors=settings.limits.errors,
            expire=self.expire,
            login_delay=delay.seconds,
        )

    def __call__(self, connection: Connection) -> "Pop3Session":
        return Pop3Session(self, connection)

    def refusal(self, why: str) -> bytes:
        """What a connection that is not wanted is told."""
        return replies.Reply(False, why, "SYS/TEMP").encode()


class Pop3Session:
    """One connection."""

    __slots__ = (
        "_account_id",
        "_ahead",
        "_connection",
        "_contents",
        "_exchange",
        "_gone",
        "_id",
        "_log_off",
        "_name",
        "_seen",
        "_service",
        "_updating",
        "engine",
    )

    def __init__(self, service: Pop3Service, connection: Connection) -> None:
        self._service = service
        self._connection = connection
        self.engine = Pop3Server(service.options)
        self._id = ids.to_text(service.ids.next(service.clock.now()))
        self._exchange: Exchange | None = None
        self._account_id: int | None = None  # whose lock we hold
        self._name = ""
        self._contents: maildrop.Contents | None = None
        self._ahead: dict[int, bytes] = {}  # email id -> source
        self._seen: set[int] = set()
        self._gone = False
        self._updating = False
        self._log_off: Callable[[], None] | None = None

    # The connection's side

    def start(self) -> None:
        self._connection.set_timeout(self._service.login_timeout)
        self._connection.set_limit(self._service.login_timeout)
        self.engine.certified = self._connection.certificate is not None
        self.engine.greet(replies.greeting(self._service.hostname))

    def handle(self, event: Any) -> Awaitable[None] | None:
        return _HANDLERS[type(event)](self, event)

    def failed(self, error: Exception) -> None:
        self._service.log.error("pop3.failed", session=self._id, ip=self._connection.peer[0], error=repr(error))
        self.engine.fail(replies.failure(self._id))

    def timed_out(self) -> None:
        # RFC 1939 section 3: close without removing anything and without a word.
        self.engine.goodbye(None)

    def shutdown(self) -> None:
        self.engine.goodbye(replies.SHUTTING_DOWN)

    def closed(self) -> None:
        self._gone = True
        if not self._updating:  # else the next session would see what is just being removed
            self._unlock()
        if self._log_off is not None:
            self._log_off()
        self._ahead.clear()
        self._service.log.debug(
            "pop3.closed", session=self._id, ip=self._connection.peer[0], name=self._name, read=len(self._seen)
        )

    # TLS, login

    def _on_starttls(self, _event: StartTls) -> Awaitable[None]:
        return self._start_tls()

    async def _start_tls(self) -> None:
        self.engine.reply(replies.BEGIN_TLS)
        if await self._connection.start_tls():
            self.engine.certified = self._connection.certificate is not None
            self.engine.tls_started()

    async def _on_login(self, event: Login) -> None:
        ip = self._connection.peer[0]
        login = await self._service.logins.verify(event.name, event.password, ip, "pop3", self._id, "USER command")
        await self._conclude(login)

    def _on_auth(self, event: Auth) -> Awaitable[None]:
        self._exchange = Exchange.begin(
            self._service.logins, self._connection, "pop3", self._id, event.mechanism, self.engine.mechanisms
        )
        return self._step(event.initial)

    def _on_auth_response(self, event: AuthResponse) -> Awaitable[None]:
        return self._step(event.data)

    async def _step(self, data: bytes | None) -> None:
        if self._exchange is None:
            self.engine.reply(replies.AUTH_FAILED)
            return
        result = await self._exchange.step(data)
        if isinstance(result, sasl.Challenge):
            self.engine.challenge(result.data)
            return
        await self._conclude(result)

    async def _conclude(self, login: Who | Refused) -> None:
        self._exchange = None
        if not isinstance(login, Who):
            self.engine.reply(_REFUSALS[login])
            return
        if self._gone:
            return  # nobody would release the lock
        if self._service.delay.too_soon(login.account_id):
            self.engine.reply(replies.too_soon(self._service.delay.seconds))
            return
        if not self._service.locks.acquire(login.account_id):
            self.engine.reply(replies.LOCKED)
            return
        self._account_id = login.account_id
        self._name = login.name
        try:
            found = await self._service.database.read(maildrop.contents, login.account_id)
        except BaseException:
            self._unlock()
            raise
        self._contents = found
        if self._connection.is_closing:
            return  # it went while we looked: nobody would log it out
        self._service.delay.began(login.account_id)
        self._log_off = self._service.logins.enter(login, self._connection.drain_and_close)
        self._connection.established = True
        self._connection.set_limit(0)
        self._connection.set_timeout(self._service.timeout)
        self.engine.authenticated(Maildrop(found.uidvalidity, found.uids, found.told))

    # Messages

    def _on_retrieve(self, event: Retrieve) -> Awaitable[None] | None:
        assert self._contents is not None
        source = self._ahead.pop(self._contents.emails[event.number - 1], None)
        if source is None:
            return self._retrieve(event)
        self._answer(event, source)
        return None

    def _answer(self, event: Retrieve, source: bytes) -> None:
        self.engine.content(source, self._is_clean(event.number))
        self._finish(event)

    def _is_clean(self, number: int) -> bool:
        """Whether all line ends of a message are CRLF, as its sizes say."""
        contents = self._contents
        assert contents is not None
        return contents.sizes[number - 1] == contents.told[number - 1]

    def _finish(self, event: Retrieve) -> None:
        self.engine.end_content()
        if event.lines is None:
            self._seen.add(event.number)

    async def _retrieve(self, event: Retrieve) -> None:
        contents = self._contents
        assert contents is not None
        if contents.sizes[event.number - 1] > PIECE:
            await self._retrieve_large(event, contents)
            return
        batch = self._batch(event, contents)
        self._ahead = await self._service.database.read(maildrop.sources, batch, self.engine.utf8)
        source = self._ahead.pop(contents.emails[event.number - 1], None)
        if source is None:
            self.engine.reply(replies.MESSAGE_GONE)
        else:
            self._answer(event, source)

    def _batch(self, event: Retrieve, contents: maildrop.Contents) -> list[int]:
        """The message wanted, and those that will be wanted next."""
        first = event.number - 1
        size, batch = contents.sizes[first], [contents.emails[first]]
        if event.lines is None:
            for index in range(first + 1, min(first + AHEAD_MESSAGES, len(contents.emails))):
                size += contents.sizes[index]
                if size > AHEAD_BYTES:
                    break
                batch.append(contents.emails[index])
        return batch

    async def _retrieve_large(self, event: Retrieve, contents: maildrop.Contents) -> None:
        email_id, size = contents.emails[event.number - 1], contents.sizes[event.number - 1]
        read, clean = self._service.database.read, self._is_clean(event.number)
        try:
            changed = None if self.engine.utf8 else await read(maildrop.surrogate, email_id)
            for at in range(0, size + 1, PIECE):
                done = self.engine.content(await read(maildrop.piece, email_id, at, at + PIECE, changed), clean)
                await self._connection.drain()
                if done:
                    break
        except NotFound:
            self.engine.fail(replies.MESSAGE_GONE)
            return
        self._finish(event)

    def _on_pause(self, _event: Pause) -> Awaitable[None]:
        return self._pause()

    async def _pause(self) -> None:
        await self._connection.drain()
        await asyncio.sleep(0)  # a peer that takes everything at once must not have all the time either
        self.engine.proceed()

    # The update state

    def _on_update(self, event: Update) -> Awaitable[None] | None:
        contents, expire = self._contents, self._service.expire
        assert contents is not None
        assert self._account_id is not None
        uids = contents.uids
        seen = [uids[number - 1] for number in sorted(self._seen.difference(event.deleted))]
        wanted = maildrop.Update([uids[number - 1] for number in event.deleted], seen)
        if expire is not None:
            before = self._service.clock.now() - expire * _DAY
            wanted = wanted._replace(shown=seen if expire == 0 else uids, before=before)
        if not wanted.deleted and not wanted.seen and not wanted.shown:
            self._unlock()
            self.engine.reply(replies.BYE)
            return None
        self._updating = True
        return self._update(self._account_id, contents.mailbox_id, wanted)

    def _unlock(self) -> None:
        """Before the last reply: a client that comes back at once must not find its own lock."""
        if self._account_id is not None:
            self._service.locks.release(self._account_id)
            self._account_id = None

    async def _update(self, account_id: int, mailbox_id: int, wanted: maildrop.Update) -> None:
        # QUIT has come: whether the client waits for the answer or not, what it wanted is done.
        reply = replies.BYE
        try:
            await self._service.database.write(maildrop.update, account_id, mailbox_id, wanted)
        except Exception as error:
            self._service.log.error("pop3.failed", session=self._id, ip=self._connection.peer[0], error=repr(error))
            if wanted.deleted:
                reply = replies.NOT_REMOVED
        self._unlock()
        self.engine.reply(reply)


_REFUSALS = {
    Refused.WRONG: replies.AUTH_FAILED,
    Refused.LATER: replies.LOGIN_LATER,
    Refused.MALFORMED: replies.AUTH_MALFORMED,
}

_HANDLERS: dict[type, Callable[[Pop3Session, Any], Awaitable[None] | None]] = {
    StartTls: Pop3Session._on_starttls,
    Login: Pop3Session._on_login,
    Auth: Pop3Session._on_auth,
    AuthResponse: Pop3Session._on_auth_response,
    Retrieve: Pop3Session._on_retrieve,
    Pause: Pop3Session._on_pause,
    Update: Pop3Session._on_update,
}

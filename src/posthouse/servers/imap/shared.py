"""What the connections of one IMAP listener share: the store, the logins, the watched mailboxes, the limits."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from posthouse.auth.login import Logins
from posthouse.base import ids
from posthouse.base.clock import Clock
from posthouse.base.log import Logger
from posthouse.base.settings import Settings
from posthouse.imap import replies
from posthouse.imap.options import Options
from posthouse.servers.imap.listings import Listings
from posthouse.servers.imap.watches import Watches
from posthouse.store.database import Database
from posthouse.store.feed import ChangeFeed

SEARCHES = 2  # slices of searches that read messages, at a time: fewer than the database has readers


class Shared:
    """`watches`, `listings` and `searching` are shared by the services of all listeners of one store, if given."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        feed: ChangeFeed,
        logins: Logins,
        clock: Clock,
        new_ids: ids.IdSource,
        log: Logger,
        *,
        mechanisms: tuple[str, ...] | None = None,
        secure: bool = False,
        allow_plaintext_auth: bool = False,
        require_tls: bool = False,
        watches: Watches | None = None,
        listings: Listings | None = None,
        searching: asyncio.Semaphore | None = None,
    ) -> None:
        self.settings = settings
        self.database = database
        self.logins = logins
        self.clock = clock
        self.ids = new_ids
        self.log = log
        self.secure = secure
        self.watches = watches or Watches(feed)
        self.listings = listings or Listings()
        self.searching = searching or asyncio.Semaphore(SEARCHES)
        self.options = Options(
            starttls=not secure,
            mechanisms=logins.offered(cram_md5=False) if mechanisms is None else mechanisms,
            plaintext_login=allow_plaintext_auth,
            require_tls=require_tls,
            unauthenticate=settings.auth.unauthenticate,
            max_message=settings.limits.message_size,
            max_messages=settings.limits.imap_messages,
            gmail=settings.imap.gmail,
            literal_plus=settings.imap.literal_plus,
            max_errors=settings.limits.errors,
        )
        self._background: set[asyncio.Task[None]] = set()

    def refusal(self, why: str) -> bytes:
        """What a connection that is not wanted is told."""
        return b"* %b\r\n" % replies.bye(f"{self.settings.hostname} {why}", b"UNAVAILABLE").encode()

    def in_background(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Do what nobody need wait for."""
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return task

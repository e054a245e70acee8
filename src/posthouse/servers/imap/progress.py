"""INPROGRESS (RFC 9585): how far a command is that takes long. Those that do not take long never say anything."""

import asyncio
from collections.abc import Awaitable
from typing import TYPE_CHECKING, TypeVar

from posthouse.imap import replies

if TYPE_CHECKING:
    from posthouse.servers.imap.session import ImapSession

EVERY = 10.0  # seconds between two of them

T = TypeVar("T")


class Progress:
    """Of one command: its loop calls `tell` as often as it likes."""

    __slots__ = ("_clock", "_goal", "_last", "_session")

    def __init__(self, session: "ImapSession", goal: int) -> None:
        self._session = session
        self._goal = goal
        self._clock = session.service.clock
        self._last = self._clock.monotonic()

    def tell(self, done: int) -> None:
        """So many are done. Nothing is said in the middle of a response, or to a client that does not read."""
        now = self._clock.monotonic()
        session = self._session
        if now - self._last < EVERY or not done < self._goal or session.torn or session.connection.is_blocked:
            return
        self._last = now
        session.engine.untagged(replies.in_progress(session.engine.tag, done, self._goal))
        session.connection.flush()


async def kept_up(session: "ImapSession", work: Awaitable[T]) -> T:
    """Wait for work that cannot say how far it is, and say from time to time that it goes on."""
    clock = session.service.clock

    async def say() -> None:
        while True:
            await clock.sleep(EVERY)
            if not session.torn and not session.connection.is_blocked:
                session.engine.untagged(replies.in_progress(session.engine.tag))
                session.connection.flush()

    saying = asyncio.get_running_loop().create_task(say())
    try:
        return await work
    finally:
        saying.cancel()

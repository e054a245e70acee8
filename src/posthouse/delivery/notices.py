"""Notices of the server to its admin: mail to postmaster, from nobody.

A notice that cannot be kept is logged and forgotten: it must never stop what it is about.
"""

from posthouse.base import ids
from posthouse.base.clock import Clock
from posthouse.base.log import Logger
from posthouse.delivery.inject import Injector
from posthouse.mime import compose
from posthouse.store.database import Database


class Notices:
    """Call it with a subject and a text."""

    def __init__(
        self, injector: Injector, database: Database, clock: Clock, new_ids: ids.IdSource, hostname: str, log: Logger
    ) -> None:
        self._injector = injector
        self._database = database
        self._clock = clock
        self._ids = new_ids
        self._hostname = hostname
        self._log = log

    async def __call__(self, subject: str, text: str) -> None:
        now = self._clock.now()
        unique = ids.to_text(self._ids.next(now)).lower()
        to = f"postmaster@{self._hostname}"
        message = compose.message(
            sender=compose.mailbox(to, "Posthouse"),
            to=[to],
            subject=subject,
            date=now,
            message_id=f"{unique}@{self._hostname}",
            text=text,
            fields=[("Auto-Submitted", "auto-generated")],
        )
        try:
            keep = await self._injector.keeper("", [to], message, {"notice": subject})
            if keep is not None:
                await self._database.write(keep)
        except Exception as error:
            self._log.error("server.failed", what="a notice to the admin", error=repr(error))

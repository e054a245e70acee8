"""Messages that this server writes itself (bounces, notices): resolved and committed like any other.

Unknown local recipients are left out; when nobody is left, nothing is kept and the answer is None.
"""

from collections.abc import AsyncIterator, Callable
from typing import Any

from posthouse.base import ids
from posthouse.base.clock import Clock
from posthouse.delivery import accept
from posthouse.delivery.directory import Directory
from posthouse.delivery.forwarding import Forwarding
from posthouse.mime import trace
from posthouse.store.database import Database, Tx
from posthouse.store.intake import Intake
from posthouse.wire.address import Address


class Injector:
    """Puts messages of our own into the same one transaction."""

    def __init__(
        self,
        database: Database,
        directory: Directory,
        clock: Clock,
        new_ids: ids.IdSource,
        hostname: str,
        lifetime_days: float,
        forwarding: Forwarding | None = None,
    ) -> None:
        self._forwarding = forwarding
        self._database = database
        self._directory = directory
        self._clock = clock
        self._ids = new_ids
        self._hostname = hostname
        self._lifetime = int(lifetime_days * 86_400_000_000)

    async def prepare(
        self, sender: str, recipients: list[str], message: bytes | AsyncIterator[bytes], event: dict[str, Any]
    ) -> accept.Delivery | None:
        """A delivery ready for `accept.commit`, or None if nobody can get it. Its file, if large, is on disk."""
        local: dict[int, None] = {}
        remote: dict[str, accept.Remote] = {}
        onward: dict[str, accept.Remote] = {}  # by aliases of ours
        for text in recipients:
            address = Address.parse(text)
            if address is None:
                continue
            if self._forwarding is not None and self._forwarding.concerns(address):
                # What we had forwarded did not arrive: its sender is the one to hear of it.
                origin = await self._forwarding.origin(address)
                if sender or not isinstance(origin, Address):
                    continue
                address = origin
            resolution = await self._directory.resolve(address)
            for account_id in resolution.accounts:
                local[account_id] = None
            elsewhere = resolution.remote if resolution.local else (str(address),)
            for target in elsewhere:
                where = onward if resolution.local else remote
                where.setdefault(target.lower(), accept.Remote(target, target.rpartition("@")[2].lower()))
        if not local and not remote and not onward:
            return None
        intake = Intake(self._database.files, any_line_ends=True)
        if isinstance(message, bytes):
            await self._database.work(intake.write, message)
        else:
            async for piece in message:
                await self._database.work(intake.write, piece)
        content, digest, _ = await self._database.work(intake.finish)
        now = self._clock.now()
        number = self._ids.next(now)
        rewritten = await self._rewritten(sender) if onward else sender
        forwarded: accept.Forwarded | None = None
        if rewritten == sender:
            remote = onward | remote
        else:
            rest = tuple(one for target, one in onward.items() if target not in remote)
            own = self._ids.next(now) if remote else number
            forwarded = accept.Forwarded(own, rewritten, rest) if rest else None
        return accept.Delivery(
            trace=number,
            sender=sender,
            account_id=None,
            local=tuple(local),
            remote=tuple(remote.values()),
            content=content,
            digest=digest,
            return_path=trace.return_path(sender),
            received=trace.received(
                hello="", ip="", by=self._hostname, protocol="", id=ids.to_text(number), recipient="", tls="", at=now
            ),
            at=now,
            expires=now + self._lifetime,
            forwarded=forwarded,
            event=event | {"sender": sender, "recipients": recipients, "message_id": digest.message_id},
        )

    async def _rewritten(self, sender: str) -> str:
        address = Address.parse(sender)
        if self._forwarding is None or address is None:
            return sender
        return str(await self._forwarding.sender(address))

    async def keeper(
        self, sender: str, recipients: list[str], message: bytes | AsyncIterator[bytes], event: dict[str, Any]
    ) -> Callable[[Tx], None] | None:
        """What keeps the message when it is run in a transaction, or None if nobody can get it."""
        delivery = await self.prepare(sender, recipients, message, event)
        if delivery is None:
            return None
        ready = delivery
        return lambda tx: accept.commit(tx, ready)

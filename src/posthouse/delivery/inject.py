"""Messages that this server writes itself (bounces, notices): resolved and committed like any other.

Unknown local recipients are left out; when nobody is left, nothing is kept and the answer is None.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

from posthouse.base import ids
from posthouse.base.clock import Clock
from posthouse.delivery import accept
from posthouse.delivery.directory import Directory
from posthouse.delivery.forwarding import Forwarding
from posthouse.mime import trace
from posthouse.senderauth.signing import NOTHING, Signing
from posthouse.store.blobs.writer import Content
from posthouse.store.database import Database, Tx
from posthouse.store.envelope import JUNK, marks_of
from posthouse.store.intake import Intake
from posthouse.store.outbox import Message
from posthouse.wire.address import Address

MAX_HOPS = 100  # Received fields that mean a loop (RFC 5321 section 6.3)
MOST_NAMED = 20  # accounts and addresses that the trace names where one recipient leads to many
NONE: Mapping[str, str] = MappingProxyType({})
RELEASED = "released"  # in the trace of a held message that is let go: the id it had


class Held(NamedTuple):
    """A held message whose time has come, and the accounts that are to get a copy."""

    message: Message
    header: bytes
    size: int
    message_id: str
    recipients: tuple[str, ...]
    accounts: tuple[int, ...]


class Copies(NamedTuple):
    """What the operator's hooks say of these copies. Others go to INBOX."""

    into: Mapping[int, str]  # account: another mailbox
    discarded: Mapping[int, str]  # account: its name
    refused: frozenset[int]
    tags: tuple[str, ...]


Sort = Callable[[Held], Awaitable[Copies]]  # raises Temporary if it is to be tried again later


@dataclass(frozen=True, slots=True)
class Kept:
    """Keeps the message when it is called in a transaction, under the id `trace`. `nobody` are those recipients who do
    not get it, `refused` those of them for whom a hook of the operator said so; the others lead nowhere."""

    run: Callable[[Tx], None]
    nobody: frozenset[str]
    trace: int = 0  # nothing is kept
    refused: frozenset[str] = frozenset()

    def __call__(self, tx: Tx, /) -> None:
        self.run(tx)


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
        signing: Signing | None = None,
    ) -> None:
        self._forwarding = forwarding
        self._signing = signing
        self._database = database
        self._directory = directory
        self._clock = clock
        self._ids = new_ids
        self._hostname = hostname
        self._lifetime = int(lifetime_days * 86_400_000_000)
        self.sort: Sort | None = None  # is asked about the copies of held messages

    async def prepare(
        self,
        sender: str,
        recipients: list[str],
        message: bytes | AsyncIterator[bytes],
        event: dict[str, Any],
        like: Message | None = None,
        options: Mapping[str, str] = NONE,
        mail_options: str = "",
    ) -> tuple[accept.Delivery | None, frozenset[str], frozenset[str]]:
        """A delivery ready for `accept.commit`, or None if nobody can get it; the recipients who do not get it; and of
        them those for whom a hook refused it.

        Its file, if large, is on disk. `like` is the queued message that goes on as this one, `options` are those of
        its recipients and `mail_options` what it asks of the queue (store/envelope.py).
        """
        nobody: set[str] = set()
        homes: dict[str, tuple[int, ...]] = {}
        local: dict[int, None] = {}
        remote: dict[str, accept.Remote] = {}
        onward: dict[str, accept.Remote] = {}  # by aliases of ours
        became: list[dict[str, Any]] = []  # what each recipient leads to, for the trace
        for text in recipients:
            address = Address.parse(text)
            became.append({})
            if address is None:
                nobody.add(text)
                continue
            if self._forwarding is not None and self._forwarding.concerns(address):
                # What we had forwarded did not arrive: its sender is the one to hear of it.
                origin = await self._forwarding.origin(address)
                if sender or not isinstance(origin, Address):
                    nobody.add(text)
                    continue
                address = origin
            resolution = await self._directory.resolve(address)
            homes[text] = tuple(resolution.accounts)
            local.update(dict.fromkeys(resolution.accounts))
            elsewhere = resolution.remote if resolution.local else (str(address),)
            if not resolution.accounts and not elsewhere:
                nobody.add(text)
            became[-1] = {"accounts": resolution.accounts[:MOST_NAMED]} if resolution.accounts else {}
            if elsewhere:
                became[-1] |= {"elsewhere": elsewhere[:MOST_NAMED]} if resolution.local else {"queued": address.domain}
            for target in elsewhere:
                where = onward if resolution.local else remote
                asked = options.get(text, "")
                where.setdefault(target.lower(), accept.Remote(target, target.rpartition("@")[2].lower(), asked))
        if not local and not remote and not onward:
            return None, frozenset(nobody), frozenset()
        intake = Intake(self._database.files, any_line_ends=True)
        if isinstance(message, bytes):
            await self._database.work(intake.write, message)
        else:
            async for piece in message:
                await self._database.work(intake.write, piece)
        content, digest, scanned = await self._database.work(intake.finish)
        header = scanned.root.header_bytes
        if trace.count_received(header) >= MAX_HOPS:
            self._discard(content)
            return None, frozenset(recipients), frozenset()
        copies: Copies | None = None
        refused: frozenset[str] = frozenset()
        if self.sort is not None and like is not None and RELEASED in event and local:
            try:
                held = Held(like, header, content.size, digest.message_id, tuple(recipients), tuple(local))
                copies = await self.sort(held)
            except BaseException:
                self._discard(content)
                raise
            for account_id in (*copies.refused, *copies.discarded):
                del local[account_id]
            refused = frozenset(text for text, ids_ in homes.items() if not copies.refused.isdisjoint(ids_))
            nobody |= refused
            if copies.discarded:
                event = event | {"discarded": list(copies.discarded.values())}
            if copies.into:
                event = event | {"into": {str(account): name for account, name in copies.into.items()}}
            if copies.refused:
                event = event | {"refused_accounts": dict.fromkeys(map(str, sorted(copies.refused)), "by a hook")}
            if not local and not remote and not onward:
                self._discard(content)
                if not copies.discarded:
                    return None, frozenset(nobody), refused
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
        # What somebody else wrote was signed when it came, or is not ours to sign.
        signed = NOTHING
        if self._signing is not None and like is None and isinstance(message, bytes):
            signed = await self._signing.sign_message(message)
        made = accept.Delivery(
            trace=number,
            sender=sender,
            account_id=like.account_id if like else None,
            local=tuple(local),
            remote=tuple(remote.values()),
            content=content,
            digest=digest,
            return_path=trace.return_path(sender),
            into=copies.into if copies is not None else {},
            junk=like is not None and RELEASED in event and JUNK in marks_of(like.options),
            received=signed.fields
            + b"".join(f"X-Posthouse-Tag: {tag}\r\n".encode() for tag in (copies.tags if copies else ()))
            + trace.received(
                hello="", ip="", by=self._hostname, protocol="", id=ids.to_text(number), recipient="", tls="", at=now
            ),
            at=now,
            expires=like.expires if like else now + self._lifetime,
            options=mail_options,
            priority=like.priority if like else 0,
            forwarded=forwarded,
            event=event
            | dict(signed.facts)
            | {
                "sender": sender,
                "recipients": recipients,
                "became": became,
                "local": len(local),
                "remote": len(remote) + (len(forwarded.remote) if forwarded is not None else 0),
                "size": content.size,
                "message_id": digest.message_id,
            },
        )
        return made, frozenset(nobody), refused

    def _discard(self, content: Content) -> None:
        if content.file is not None:
            self._database.files.path(content.file).unlink(missing_ok=True)

    async def _rewritten(self, sender: str) -> str:
        address = Address.parse(sender)
        if self._forwarding is None or address is None:
            return sender
        return str(await self._forwarding.sender(address))

    async def keeper(
        self,
        sender: str,
        recipients: list[str],
        message: bytes | AsyncIterator[bytes],
        event: dict[str, Any],
        like: Message | None = None,
        options: Mapping[str, str] = NONE,
        mail_options: str = "",
    ) -> Kept | None:
        """What keeps the message when it is run in a transaction, or None if nobody can get it. See `prepare`."""
        delivery, nobody, refused = await self.prepare(sender, recipients, message, event, like, options, mail_options)
        if delivery is None:
            return Kept(lambda _: None, nobody, refused=refused) if refused else None
        ready = delivery
        return Kept(lambda tx: accept.commit(tx, ready), nobody, ready.trace, refused)

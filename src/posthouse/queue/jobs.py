"""What the parts of the queue hand to each other: a job, and the way by which messages of our own are kept."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, NamedTuple, Protocol

from posthouse.store.database import Tx
from posthouse.store.outbox import Claim, Message

Keep = Callable[[Tx], None]


class Kept(Protocol):
    """Keeps a message here or in the queue, under the id `trace`; `nobody` are its recipients who do not get it,
    `refused` those of them for whom a hook of the operator said so."""

    @property
    def nobody(self) -> frozenset[str]: ...

    @property
    def refused(self) -> frozenset[str]: ...

    @property
    def trace(self) -> int: ...

    def __call__(self, tx: Tx, /) -> None: ...


class Prepare(Protocol):
    """`delivery.inject.Injector.keeper`."""

    def __call__(
        self,
        sender: str,
        recipients: list[str],
        message: bytes | AsyncIterator[bytes],
        event: dict[str, Any],
        like: Message | None = None,
        options: Mapping[str, str] = ...,
        mail_options: str = "",
    ) -> Awaitable[Kept | None]: ...


class Job(NamedTuple):
    """Recipients of one message that one next hop shall get in one transaction."""

    next_hop: str
    message: Message
    claims: list[Claim]
    until: int  # the claims' lease
    content: bytes | None = None  # without the prefix, if it is small
    lane: int = 0  # who takes turns with others (store/outbox.py)

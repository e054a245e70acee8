"""Accepting a message is one transaction: blob, mailbox entries, queue rows and trace, then 250.

`Envelope` says who brought the message and where it goes; `commit` is the storage function. Local delivery
is exactly-once because it is this very commit; there is no spool and no re-queueing.

Fails as the store does: nothing was kept then, and the peer is told a 4yz.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from posthouse.base import ids
from posthouse.base.errors import Permanent
from posthouse.store import events, mailboxes, messages, outbox
from posthouse.store.blobs import rows as blobs
from posthouse.store.blobs.writer import Content
from posthouse.store.database import Tx
from posthouse.store.model import Digest, QueueChanged


class Remote(NamedTuple):
    """A recipient that the queue brings the message to."""

    address: str
    destination: str  # the domain to route by; HERE for a held message to one of ours
    options: str = ""  # store/envelope.py


class Forwarded(NamedTuple):
    """A message that goes on to somewhere else in its sender's name: queued by itself, as its sender is another."""

    id: int  # of its own trace, or of the message's where nothing else of it is queued
    sender: str  # rewritten (delivery/srs.py)
    remote: tuple[Remote, ...]


class Delivery(NamedTuple):
    """A message with its decisions, ready to commit."""

    trace: int
    sender: str  # reverse-path, "" for bounces
    account_id: int | None  # who submitted it
    local: tuple[int, ...]  # accounts
    remote: tuple[Remote, ...]
    content: Content
    digest: Digest
    return_path: bytes  # header lines for local copies only
    received: bytes  # header lines for all copies
    at: int
    expires: int
    event: dict[str, Any]
    options: str = ""  # for the queue (store/envelope.py)
    priority: int = 0
    due: int = 0  # the queue holds it until then
    into: Mapping[int, str] = MappingProxyType({})  # account: the name of another mailbox than INBOX
    forwarded: Forwarded | None = None
    sealed: bytes = b""  # header lines on top of `received` for copies that leave
    junk: bool = False  # copies go into the mailbox with \Junk, but for those that `into` names


def _mailbox(tx: Tx, delivery: Delivery, account_id: int) -> int | None:
    """The mailbox of a copy; None: INBOX, also where there is none of the name wanted."""
    name = delivery.into.get(account_id)
    if name is None:
        return mailboxes.with_use(tx, account_id, "Junk").id if delivery.junk else None
    mailbox = mailboxes.by_name(tx, account_id, name)
    return mailbox.id if mailbox is not None else None


def commit(tx: Tx, delivery: Delivery) -> None:
    """Keep a message for all its recipients. Runs inside the group commit; 250 comes after it."""
    d = delivery
    queued = [Forwarded(d.trace, d.sender, d.remote)] if d.remote else []
    if d.forwarded is not None:
        queued.append(d.forwarded)
    if not d.local and not queued:
        if "discarded" not in d.event:
            raise Permanent("a message without recipients was to be kept")
        # A hook of the operator wants no copy at all: the trace is what remains.
        events.add(tx, d.trace, d.trace, "accepted", d.event, d.digest.message_id_hash)
        return
    event = d.event
    if d.forwarded is not None and d.forwarded.id != d.trace:
        event = event | {"led_to": [*event.get("led_to", ()), {"id": ids.to_text(d.forwarded.id), "why": "forwarded"}]}
    elif d.forwarded is not None:
        event = event | {"rewritten": d.forwarded.sender}
    blob_id = blobs.put(tx, d.content, len(d.local) + len(queued))
    if d.local:
        new = messages.NewEmail(d.content, d.return_path + d.received, d.digest, d.trace, d.at)
        for account_id in d.local:
            messages.add(tx, account_id, _mailbox(tx, d, account_id), blob_id, new)
    for one in queued:
        lane = outbox.add(
            tx,
            outbox.NewMessage(
                id=one.id,
                sender=one.sender,
                account_id=d.account_id,
                blob_id=blob_id,
                prefix=d.sealed + d.received,
                size=len(d.sealed) + len(d.received) + d.content.size,
                created=d.at,
                expires=d.expires,
                priority=d.priority,
                options=d.options,
                due=d.due,
            ),
            one.remote,
        )
        tx.publish(QueueChanged(one.id, lane))
        if one.id != d.trace:
            events.add(tx, one.id, one.id, "accepted", d.event | _onward(d, one))
    events.add(tx, d.trace, d.trace, "accepted", event, d.digest.message_id_hash)


def _onward(delivery: Delivery, forwarded: Forwarded) -> dict[str, Any]:
    """What is another in the trace of a message that goes on with a sender of ours."""
    return {
        "forwarded_from": ids.to_text(delivery.trace),
        "sender": forwarded.sender,
        "original_sender": delivery.sender,
        "recipients": [one.address for one in forwarded.remote],
        "became": [{"queued": one.destination} for one in forwarded.remote],
        "local": 0,
        "remote": len(forwarded.remote),
    }

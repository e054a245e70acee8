"""What operators do to the queue, for commands and the admin socket alike: go through all that a filter means, slice by
slice.

Each slice is looked for in a reading and changed in a short transaction, and then rests as long as it took: mail that
comes in meanwhile never waits for more than one of them. What was queued after the beginning is not meant. A failure
in the middle leaves the slices before it done; doing it again does the rest.
"""

import re
from collections.abc import AsyncIterator, Callable, Collection
from ipaddress import ip_address
from typing import NamedTuple

from posthouse.base import ids
from posthouse.base.clock import Clock
from posthouse.base.errors import NotFound, Permanent
from posthouse.base.queue_settings import is_within
from posthouse.base.settings_types import is_hostname
from posthouse.store import outbox_admin, pauses
from posthouse.store.blobs import rows as blobs
from posthouse.store.database import Database, Tx
from posthouse.store.events import Event
from posthouse.store.outbox_admin import Counts, Filter, Queued
from posthouse.store.pauses import EVERYTHING, Pause

MAX_HEADER = 64 * 1024  # octets of a message in which its header is looked for
PIECE = 256 * 1024
MAX_REASON = 200
LONGEST_PAUSE = 3650 * 86_400.0  # seconds

_route_name = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}").fullmatch


class Changed(NamedTuple):
    """What an action did, so far."""

    seen: int = 0  # recipients that were looked at
    recipients: int = 0  # of them were changed
    messages: int = 0


async def count(database: Database, clock: Clock, chosen: Filter) -> Counts:
    """How much a filter means; `NotFound` where it names what is not there."""

    def work(tx: Tx) -> Counts:
        outbox_admin.require(tx, chosen)
        return outbox_admin.count(tx, outbox_admin.where(chosen, now), now)

    now = clock.now()
    return await database.read(work)


async def act(
    database: Database,
    clock: Clock,
    do: str,
    chosen: Filter,
    *,
    route: str = "",
    told: Callable[[Changed], None] = lambda _: None,
) -> Changed:
    """Do one of `outbox_admin.ACTIONS` to everything that a filter means; `told` hears of each slice."""
    now, new_ids = clock.now(), ids.IdSource()
    condition = outbox_admin.where(chosen, now)
    await database.read(outbox_admin.require, chosen)
    upto = await database.read(outbox_admin.last_id)
    changed, after, last_message = Changed(), 0, 0
    while True:
        began = clock.monotonic()
        slice_ = await database.read(outbox_admin.matching, condition, after, upto)
        if not slice_:
            return changed
        at = clock.now()
        done = await database.write(outbox_admin.act, do, slice_, chosen, now, seq=new_ids.next(at), at=at, route=route)
        after = slice_[-1]
        # Recipients of one message follow each other.
        messages = set(done) - {last_message}
        last_message = done[-1] if done else last_message
        changed = Changed(changed.seen + len(slice_), changed.recipients + len(done), changed.messages + len(messages))
        told(changed)
        if len(slice_) < outbox_admin.SLICE:
            return changed
        await clock.sleep(clock.monotonic() - began)


def route(*, to: str = "", name: str = "", known: Collection[str] = ()) -> str:
    """The text of `recipient.route`: a host, one of the routes of the settings, which are called `known`, or "" for
    what the settings say anyway."""
    if to and name:
        raise Permanent("mail goes to a host or by a route, not both")
    if name:
        if not _route_name(name):
            raise Permanent(f"{name!r} is no name of a route: write that of a [[route]] in the configuration")
        if name.lower() not in {one.lower() for one in known}:
            there = f"there are: {', '.join(known)}" if known else "there is none at all (docs/routes.md)"
            raise NotFound(f"there is no route {name} in the settings; {there}")
        return f"route:{name}"
    return _host(to) if to else ""


def _host(text: str) -> str:
    found = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([^:\[\]]+))(?::([0-9]{1,5}))?", text)
    name = ((found[1] or found[2]) if found else "").lower()
    port = int(found[3]) if found and found[3] else 25
    try:
        name = f"[{name}]" if ip_address(name).version == 6 else name
        known = True
    except ValueError:
        known = is_hostname(name) is not None
    if not known or not 1 <= port <= 65535:
        raise Permanent(
            f"{text!r} is no host: write mx.example.org, mx.example.org:2525, 192.0.2.1 or [2001:db8::1]:25"
        )
    return f"host:{name}" + (f":{port}" if port != 25 else "")


# The message


class Shown(NamedTuple):
    """Everything about one queued message."""

    message: Queued
    recipients: list[outbox_admin.Recipient]
    header: bytes  # as it will be sent: what we added and what came
    history: list[Event]


def show(tx: Tx, queue_id: int) -> Shown:
    """Everything about a message of the queue."""
    found = outbox_admin.show(tx, queue_id)
    if found is None:
        outbox_admin.require(tx, Filter((queue_id,)))
        raise NotFound("not in the queue any more")
    message, recipients = found
    text = message.prefix + blobs.read(tx, message.blob_id, 0, min(MAX_HEADER, message.size - len(message.prefix)))
    end = re.search(rb"\r?\n\r?\n", text)
    return Shown(message, recipients, text[: end.start()] if end else text, outbox_admin.history(tx, queue_id))


async def pieces(database: Database, queue_id: int) -> AsyncIterator[bytes]:
    """The whole message as it will be sent, piece by piece."""
    message = (await database.read(show, queue_id)).message
    yield message.prefix
    size = message.size - len(message.prefix)
    for at in range(0, size, PIECE):
        try:
            yield await database.read(blobs.read, message.blob_id, at, min(at + PIECE, size))
        except NotFound:
            raise NotFound(f"{ids.to_text(queue_id)} left the queue while it was read") from None


# Pauses


def destination(text: str) -> str:
    """What is paused: a domain, "*.domain", or "*" for everything."""
    return EVERYTHING if text == EVERYTHING else outbox_admin.domain(text)


def pause(tx: Tx, text: str, now: int, seconds: float, reason: str) -> Pause:
    """Pause a destination, for so long or until somebody resumes (0)."""
    if not 0 <= seconds <= LONGEST_PAUSE:
        raise Permanent("a pause lasts ten years at the most; leave the time out to pause until `queue resume`")
    name, until = destination(text), now + int(seconds * 1_000_000) if seconds else 0
    pauses.pause(tx, name, now, until, reason[:MAX_REASON])
    return Pause(name, now, until, reason[:MAX_REASON])


def resume(tx: Tx, text: str) -> str:
    """End the pause of a destination; `NotFound` if there is none."""
    name = destination(text)
    if not pauses.resume(tx, name):
        raise NotFound(f"{name} is not paused; `posthouse queue pause --list` shows what is")
    return name


def current(tx: Tx, now: int) -> list[Pause]:
    """The pauses that hold now."""
    return [one for one in pauses.listing(tx) if not one.until or one.until > now]


def is_paused(name: str, paused: list[Pause]) -> bool:
    """Does one of the pauses hold for a destination?"""
    return any(one.destination == EVERYTHING or is_within(name, one.destination) for one in paused)

"""What the admin socket can do with the queue: the same as the commands `posthouse queue ...`, as a table of actions.

An action is a name, its arguments with their bounds, and a method. The arguments of a filter are the same everywhere;
an action that changes something wants a filter, ids, or "all": true. `servers/admin.py` is the transport,
`queue/operating.py` does the work.
"""

import asyncio
import contextlib
import datetime
import inspect
from collections.abc import Awaitable, Collection, Mapping, Sequence
from typing import Any, Protocol

from posthouse.base import ids
from posthouse.base.clock import Clock
from posthouse.base.errors import Permanent
from posthouse.base.units import parse_span
from posthouse.queue import operating
from posthouse.servers.admin import Action, Parameter, number, text, truth
from posthouse.store import outbox_admin
from posthouse.store.database import Database, Tx
from posthouse.store.outbox_admin import MOST_IDS, MOST_TEXT, STATES, Filter, Queued, Recipient
from posthouse.store.pauses import Pause

MOST_LISTED = 1000  # recipients in one answer
LONGEST_WAIT = 3600  # seconds that one request waits for a node to be drained
MAX_SPAN = 100 * 365 * 86_400.0


class Node(Protocol):
    """The queue of this process: `queue/manager.py`."""

    def wake(self) -> None: ...

    def drain(self) -> Awaitable[None]:
        """Claim nothing more; return when nothing is running."""
        ...

    def undrain(self) -> Awaitable[None] | None:
        """Claim again."""
        ...

    def state(self) -> Mapping[str, Any] | Awaitable[Mapping[str, Any]]:
        """What is going on, as JSON."""
        ...


class QueueAdmin:
    """The actions upon one store and one node."""

    def __init__(self, database: Database, clock: Clock, node: Node, routes: Collection[str] = ()) -> None:
        self._database = database
        self._clock = clock
        self._node = node
        self._routes = routes  # names of those of the settings
        self._draining: asyncio.Task[None] | None = None

    def actions(self) -> dict[str, Action]:
        """What may be asked for, by name."""
        changing = {
            f"queue.{do}": Action(self._acting(do), {**_FILTER, "all": Parameter(truth)})
            for do in ("retry", "hold", "release", "drop")
        }
        return {
            "queue.list": Action(self._list, {**_FILTER, "most": _MOST, "after": _AFTER}),
            "queue.counts": Action(self._counts, _FILTER),
            "queue.show": Action(self._show, {"id": Parameter(message_id, needed=True)}),
            **changing,
            "queue.reroute": Action(
                self._reroute,
                {
                    **_FILTER,
                    "all": Parameter(truth),
                    "to": Parameter(text(MOST_TEXT)),
                    "route": Parameter(text(64)),
                    "reset": Parameter(truth),
                },
            ),
            "queue.pause": Action(
                self._pause,
                {
                    "destination": Parameter(text(MOST_TEXT), needed=True),
                    "duration": Parameter(span),
                    "reason": Parameter(text(operating.MAX_REASON)),
                },
            ),
            "queue.resume": Action(self._resume, {"destination": Parameter(text(MOST_TEXT), needed=True)}),
            "queue.pauses": Action(self._pauses),
            "queue.drain": Action(self._drain, {"wait": Parameter(number(0, LONGEST_WAIT))}),
            "queue.undrain": Action(self._undrain),
            "queue.state": Action(self._state),
        }

    async def close(self) -> None:
        """The server stops: nobody waits for the drain any more."""
        await self._stop_waiting()

    # Looking

    async def _list(self, most: int = 100, after: int = 0, **chosen: Any) -> Mapping[str, Any]:
        wanted, now = filter_of(chosen), self._clock.now()

        def work(tx: Tx) -> tuple[list[tuple[Queued, list[Recipient]]], list[Pause]]:
            outbox_admin.require(tx, wanted)
            return outbox_admin.listing(tx, after, most, outbox_admin.where(wanted, now)), operating.current(tx, now)

        listed, paused = await self._database.read(work)
        found = [message_json(message, recipients, now, paused) for message, recipients in listed]
        last = listed[-1][1][-1].id if sum(len(recipients) for _, recipients in listed) == most else None
        return {"messages": found, "after": last}

    async def _counts(self, **chosen: Any) -> Mapping[str, Any]:
        return (await operating.count(self._database, self._clock, filter_of(chosen)))._asdict()

    async def _show(self, id: int) -> Mapping[str, Any]:  # noqa: A002 - the name of the argument
        now = self._clock.now()

        def work(tx: Tx) -> tuple[operating.Shown, list[Pause]]:
            return operating.show(tx, id), operating.current(tx, now)

        return shown_json(*await self._database.read(work), now)

    async def _pauses(self) -> Mapping[str, Any]:
        paused = await self._database.read(operating.current, self._clock.now())
        return {"pauses": [pause_json(one) for one in paused]}

    async def _state(self) -> Mapping[str, Any]:
        said = self._node.state()
        return dict(await said if inspect.isawaitable(said) else said)

    # Changing

    def _acting(self, do: str) -> Any:
        async def run(all: bool = False, **chosen: Any) -> Mapping[str, Any]:  # noqa: A002 - the name of the argument
            return await self._act(do, chosen, everything=all)

        return run

    async def _act(self, do: str, chosen: Mapping[str, Any], *, everything: bool, route: str = "") -> Mapping[str, Any]:
        wanted = filter_of(chosen)
        if wanted == Filter() and not everything:
            raise Permanent(f'queue.{do} needs "ids", a filter, or "all": true for the whole queue')
        done = await operating.act(self._database, self._clock, do, wanted, route=route)
        self._node.wake()
        return {"recipients": done.recipients, "messages": done.messages}

    async def _reroute(
        self,
        to: str = "",
        route: str = "",
        reset: bool = False,
        all: bool = False,  # noqa: A002 - the name of the argument
        **chosen: Any,
    ) -> Mapping[str, Any]:
        if bool(to) + bool(route) + reset != 1:
            raise Permanent('queue.reroute needs one of "to", "route" and "reset": true')
        way = operating.route(to=to, name=route, known=self._routes)
        return await self._act("reroute", chosen, everything=all, route=way)

    async def _pause(self, destination: str, duration: float = 0.0, reason: str = "") -> Mapping[str, Any]:
        paused = await self._database.write(operating.pause, destination, self._clock.now(), duration, reason)
        self._node.wake()
        return pause_json(paused)

    async def _resume(self, destination: str) -> Mapping[str, Any]:
        name = await self._database.write(operating.resume, destination)
        self._node.wake()
        return {"destination": name}

    # This node

    async def _drain(self, wait: int = 0) -> Mapping[str, Any]:
        """Begin to drain, or go on with it; `drained` says whether nothing runs any more."""
        if self._draining is None:
            self._draining = asyncio.ensure_future(self._node.drain())
        await asyncio.wait({self._draining}, timeout=wait)
        if self._draining.done():
            self._draining.result()  # what failed is told to who asked
        return {"draining": True, "drained": self._draining.done()}

    async def _undrain(self) -> Mapping[str, Any]:
        await self._stop_waiting()
        said = self._node.undrain()
        if said is not None:
            await said
        return {"draining": False}

    async def _stop_waiting(self) -> None:
        waiting, self._draining = self._draining, None
        if waiting is not None:
            waiting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.gather(waiting, return_exceptions=True)


# Arguments


def span(value: Any) -> float:
    """Seconds, or a text like "2 h"."""
    said = parse_span(value)  # raises ValueError with the right words
    if isinstance(said, bool) or not isinstance(said, int | float) or not 0 <= said <= MAX_SPAN:
        raise ValueError('write seconds, or a text like "2 h"')
    return float(said)


def message_id(value: Any) -> int:
    """The id of a message from its text."""
    found = ids.from_text(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError(f"{str(value)[:20]!r} is no id: write the 13 letters and digits that the list shows")
    return found


def _message_ids(value: Any) -> tuple[int, ...]:
    if not isinstance(value, list) or not 1 <= len(value) <= MOST_IDS:
        raise ValueError(f"write a list of 1 to {MOST_IDS} ids")
    return tuple(dict.fromkeys(message_id(one) for one in value))


_FILTER: Mapping[str, Parameter] = {
    "ids": Parameter(_message_ids),
    "older_than": Parameter(span),
    "younger_than": Parameter(span),
    "sender": Parameter(text(MOST_TEXT)),
    "recipient": Parameter(text(MOST_TEXT)),
    "domain": Parameter(text(MOST_TEXT)),
    "reply": Parameter(text(MOST_TEXT)),
    "state": Parameter(text(20, *STATES)),
    "account": Parameter(text(MOST_TEXT)),
}
_MOST = Parameter(number(1, MOST_LISTED))
_AFTER = Parameter(number(0, 2**63 - 1))
_FIELDS = {"older_than": "older", "younger_than": "younger"}


def filter_of(values: Mapping[str, Any]) -> Filter:
    """The filter that arguments of an action, or options of a command, mean."""
    return Filter(**{_FIELDS.get(name, name): value for name, value in values.items()})


# Answers


def iso(at: int) -> str | None:
    """A time (microseconds) for programs; None for no time."""
    if not at:
        return None
    return datetime.datetime.fromtimestamp(at / 1_000_000, datetime.UTC).isoformat(timespec="seconds")


def message_json(message: Queued, recipients: Sequence[Recipient], now: int, paused: list[Pause]) -> dict[str, Any]:
    """A message of the queue for programs."""
    return {
        "id": ids.to_text(message.id),
        "sender": message.sender,
        "account": message.account,
        "size": message.size,
        "created": iso(message.created),
        "expires": iso(message.expires),
        "priority": message.priority,
        "recipients": [
            {
                "address": one.address,
                "destination": one.destination,
                "state": state_of(one, now),
                "paused": operating.is_paused(one.destination, paused),
                "attempts": one.attempts,
                "next_attempt": iso(one.next_attempt) if one.state == "due" else None,
                "reply": {
                    "code": one.last_code,
                    "status": one.last_status,
                    "text": one.last_text,
                    "host": one.last_host,
                },
                "route": one.route,
            }
            for one in recipients
        ],
    }


def state_of(one: Recipient, now: int) -> str:
    """One of STATES."""
    return "waiting" if one.state == "due" and one.next_attempt > now else one.state


def shown_json(shown: operating.Shown, paused: list[Pause], now: int) -> dict[str, Any]:
    """Everything about a message for programs."""
    return {
        **message_json(shown.message, shown.recipients, now, paused),
        "options": shown.message.options,
        "header": shown.header.decode("utf-8", "replace"),
        "history": [
            {
                "at": iso((event.seq >> 20) * 1000),
                "kind": event.kind,
                **{name: value for name, value in event.data.items() if name not in ("transcript", "at", "kind")},
            }
            for event in shown.history
        ],
    }


def pause_json(one: Pause) -> dict[str, Any]:
    """A pause for programs."""
    return {"destination": one.destination, "since": iso(one.since), "until": iso(one.until), "reason": one.reason}

"""How much an account or a network may send in an hour and in a day.

Counted in memory, in buckets that slide (5 minutes for the hour, an hour for the day), and bounded: with too many
senders those that were quiet longest are forgotten. `changed` and `restore` are for who keeps the counts over a restart
(`counts.py`): of senders that have used a tenth of a limit, as the others gain little by it. The first excess of a
sender in each hour is told to the admin.
"""

import json
from collections import OrderedDict, deque
from collections.abc import Iterable
from typing import NamedTuple

from posthouse.base.filter_settings import Rate
from posthouse.smtp.replies import Reply

MOST = 50_000  # senders that are remembered
HOUR, DAY = 3600, 86_400
_BUCKETS = {HOUR: 300, DAY: 3600}
_WORTH = 10  # a sender is worth keeping from this part of a limit on


class Excess(NamedTuple):
    """A limit that is over."""

    reply: Reply
    text: str  # for log and admin
    first: bool  # of this sender in this hour


class _Window:
    """Counts within a sliding span."""

    __slots__ = ("_counts", "_width", "messages", "recipients", "span")

    def __init__(self, span: int) -> None:
        self.span = span
        self._width = _BUCKETS[span]
        self._counts: deque[list[int]] = deque()  # [bucket, messages, recipients]
        self.messages = self.recipients = 0

    def look(self, now: int) -> None:
        """Forget what is past."""
        oldest = (now - self.span) // self._width  # this bucket still has something within the span
        while self._counts and self._counts[0][0] < oldest:
            _, messages, recipients = self._counts.popleft()
            self.messages -= messages
            self.recipients -= recipients

    def opens_in(self, now: int) -> int:
        """Seconds until the oldest count is past."""
        return (self._counts[0][0] + 1) * self._width + self.span - now if self._counts else self.span

    def add(self, now: int, messages: int, recipients: int) -> None:
        bucket = now // self._width
        if not self._counts or self._counts[-1][0] != bucket:
            self._counts.append([bucket, 0, 0])
        self._counts[-1][1] += messages
        self._counts[-1][2] += recipients
        self.messages += messages
        self.recipients += recipients

    def load(self, counts: Iterable[Iterable[int]], now: int) -> None:
        """Go on from counts that were kept."""
        self._counts = deque([int(bucket), int(messages), int(recipients)] for bucket, messages, recipients in counts)
        self.messages = sum(one[1] for one in self._counts)
        self.recipients = sum(one[2] for one in self._counts)
        self.look(now)

    @property
    def counts(self) -> list[list[int]]:
        """For `load`."""
        return list(self._counts)


class _Sender:
    __slots__ = ("day", "hour", "told")

    def __init__(self) -> None:
        self.hour, self.day = _Window(HOUR), _Window(DAY)
        self.told = -HOUR


class Limiter:
    """One kind of sender with one rate."""

    def __init__(self, rate: Rate, what: str) -> None:
        self._rate = rate
        self._what = what  # "account", "network"
        self._senders: OrderedDict[str, _Sender] = OrderedDict()
        self._changed: dict[str, None] = {}  # since they were last kept, or forgotten since

    def changed(self, most: int) -> list[tuple[str, str]]:
        """Senders whose counts are to be kept, as text, or ("") need not be kept any more; each is told once."""
        rows: list[tuple[str, str]] = []
        while self._changed and len(rows) < most:
            key = next(iter(self._changed))
            del self._changed[key]
            sender = self._senders.get(key)
            if sender is None:
                rows.append((key, ""))
            elif self._is_worth(sender):
                rows.append((key, json.dumps([sender.hour.counts, sender.day.counts])))
        return rows

    def change(self, keys: Iterable[str]) -> None:
        """They could not be kept."""
        self._changed.update(dict.fromkeys(keys))

    def restore(self, rows: Iterable[tuple[str, str]], now: int) -> None:
        """Take up what was kept; what cannot be read is left out."""
        for key, text in rows:
            sender = _Sender()
            try:
                hour, day = json.loads(text)
                sender.hour.load(hour, now)
                sender.day.load(day, now)
            except (ValueError, TypeError):
                continue
            self._senders[key] = sender

    def _is_worth(self, sender: _Sender) -> bool:
        rate, hour, day = self._rate, sender.hour, sender.day
        return (
            0 < rate.messages_per_hour <= hour.messages * _WORTH
            or 0 < rate.recipients_per_hour <= hour.recipients * _WORTH
            or 0 < rate.messages_per_day <= day.messages * _WORTH
            or 0 < rate.recipients_per_day <= day.recipients * _WORTH
        )

    def admit(self, key: str, name: str, now: int, *, messages: int = 0, recipients: int = 0) -> Excess | None:
        """Count in a message or a recipient; what is over a limit is not counted. `now` is in seconds."""
        sender = self._senders.get(key)
        if sender is None:
            sender = self._senders[key] = _Sender()
            if len(self._senders) > MOST:
                gone, _ = self._senders.popitem(last=False)
                self._changed[gone] = None
        else:
            self._senders.move_to_end(key)
        sender.hour.look(now)
        sender.day.look(now)
        rate = self._rate
        for limit, have, more, words in (
            (rate.messages_per_hour, sender.hour.messages, messages, "messages an hour"),
            (rate.recipients_per_hour, sender.hour.recipients, recipients, "recipients an hour"),
            (rate.messages_per_day, sender.day.messages, messages, "messages a day"),
            (rate.recipients_per_day, sender.day.recipients, recipients, "recipients a day"),
        ):
            if limit and more and have + more > limit:
                first = now - sender.told >= HOUR
                if first:
                    sender.told = now
                # An hour passes while a server retries; after a day the people should hear of it.
                hourly = words.endswith("hour")
                code, status = (450, "4.7.28") if hourly or self._what == "network" else (550, "5.7.28")
                window = sender.hour if hourly else sender.day
                minutes = -(-min(window.opens_in(now), window.span) // 60)
                text = f"At most {limit} {words} are taken from your {self._what}; try again in {minutes} min"
                return Excess(Reply(code, status, text), f"{self._what} {name}: more than {limit} {words}", first)
        sender.hour.add(now, messages, recipients)
        sender.day.add(now, messages, recipients)
        self._changed[key] = None
        return None

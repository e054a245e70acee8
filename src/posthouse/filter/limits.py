"""How much an account or a network may send in an hour and in a day.

Counted in memory, in buckets that slide (5 minutes for the hour, an hour for the day), and bounded: with too many
senders those that were quiet longest are forgotten. A restart forgets all: a limit is against floods, not for billing.
The first excess of a sender in each hour is told to the admin.
"""

from collections import OrderedDict, deque
from typing import NamedTuple

from posthouse.base.filter_settings import Rate
from posthouse.smtp.replies import Reply

MOST = 50_000  # senders that are remembered
HOUR, DAY = 3600, 86_400
_BUCKETS = {HOUR: 300, DAY: 3600}


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
        self._senders: OrderedDict[object, _Sender] = OrderedDict()

    def admit(self, key: object, name: str, now: int, *, messages: int = 0, recipients: int = 0) -> Excess | None:
        """Count in a message or a recipient; what is over a limit is not counted. `now` is in seconds."""
        sender = self._senders.get(key)
        if sender is None:
            sender = self._senders[key] = _Sender()
            if len(self._senders) > MOST:
                self._senders.popitem(last=False)
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
        return None

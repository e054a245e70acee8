"""When a sender hears that a message is late: once a message, when it has waited for `queue.delay_warning`. Pure.

Those who are told are people of ours, and strangers whose mail is known to be theirs; never the null sender. NOTIFY
decides where it was given (RFC 3461 section 4.1): DELAY asks for the warning, without it there is none. That it was
sent already is in the row of the message (`store/delays.py`); composing it is `queue/bounce.py`.
"""

from collections.abc import Sequence

from posthouse.base.queue_settings import Queue
from posthouse.queue.bounce import Notice
from posthouse.queue.results import DEFERRED, Judged, Verdict
from posthouse.store.delays import Waiting
from posthouse.store.envelope import unpack_rcpt
from posthouse.store.outbox import Claim, Message

SECOND = 1_000_000
DAY = 86_400 * SECOND
USUAL = 4 * 3600.0  # seconds, for those who ask for DELAY where nobody else is told


def is_due(
    message: Message, judged: Sequence[Judged], now: int, queue: Queue, *, authentic: bool | None = None
) -> bool:
    """Whether an attempt that ended at `now` (microseconds) makes a warning due, if none was sent before.

    `authentic`: what is known of the sender of a message that nobody submitted who logged in; None for nothing.
    """
    if not message.sender or (message.account_id is None and not authentic):
        return False
    # A message that was held begins to be late when it was let go.
    began = max(message.created, message.expires - int(queue.lifetime_days * DAY))
    if now < began + int((queue.delay_warning or USUAL) * SECOND):
        return False
    return any(one.retry is not None and _wants(one.claim.options, queue) for one in judged)


def notice(message: Message, judged: Sequence[Judged], others: Sequence[Waiting], queue: Queue) -> Notice:
    """The warning: about those of this attempt, and about `others` of the message that were tried and wait."""
    late = [one for one in judged if one.retry is not None and _wants(one.claim.options, queue)]
    known = {one.claim.id for one in judged}
    for other in others:
        if other.id in known or not _wants(other.options, queue):
            continue
        claim = Claim(other.id, other.address, other.destination, other.attempts, other.options, message)
        verdict = Verdict(DEFERRED, other.code, other.status, other.text, other.host, False)
        late.append(Judged(claim, verdict, other.next_attempt))
    return Notice("delayed", tuple(late))


def _wants(options: str, queue: Queue) -> bool:
    notify = unpack_rcpt(options).notify
    return "DELAY" in notify if notify else queue.delay_warning > 0

"""Which failures put an address on the sender's suppression list. Pure; the list is `store/suppression.py`.

Only what another server said for good about the address itself does: that there is nobody, or nobody any more. A full
mailbox, a refused content or a blocked network address say nothing about the next message.
"""

from collections.abc import Sequence

from posthouse.queue.patterns import MAILBOX_DISABLED, USER_UNKNOWN
from posthouse.queue.results import FAILED, Judged
from posthouse.store.outbox import HERE, Message
from posthouse.store.suppression import Entry

DAY = 86_400_000_000
BAD_ADDRESS = (USER_UNKNOWN, MAILBOX_DISABLED)


def entries(message: Message, judged: Sequence[Judged], now: int, days: float) -> list[Entry]:
    """What an attempt adds to the list of the account that sent the message; `days` long."""
    if message.account_id is None:
        return []
    return [
        Entry(
            message.account_id,
            one.claim.address,
            one.meaning.meaning,
            " ".join(word for word in (str(one.verdict.code), one.verdict.status, one.verdict.text) if word),
            now,
            now + int(days * DAY),
        )
        for one in judged
        if one.verdict.state == FAILED
        and one.verdict.code >= 500
        and one.claim.destination != HERE
        and one.meaning is not None
        and one.meaning.meaning in BAD_ADDRESS
    ]

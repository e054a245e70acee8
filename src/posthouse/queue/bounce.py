"""The bounce: what the sender of a message hears when a recipient cannot be reached (RFC 3464).

It goes to the reverse-path from the null sender, so it can never cause another one; a message that itself came
from the null sender causes none.
"""

from collections.abc import Sequence

from posthouse.queue.results import Judged, Verdict
from posthouse.reports.dsn import FailedRecipient, Original, report
from posthouse.store.outbox import Message


def bounce(
    message: Message, header: bytes, failed: Sequence[Judged], hostname: str, now: int, unique: str
) -> bytes | None:
    """The bounce for recipients of one message, or None if nobody may be told. `header` is the message's,
    `unique` makes the Message-ID."""
    if not message.sender:
        return None
    return report(
        to=message.sender,
        hostname=hostname,
        now=now,
        message_id=f"{unique}@{hostname}",
        original=Original(header, message.created),
        recipients=[_recipient(one.claim.address, one.verdict, now) for one in failed],
    )


def _recipient(address: str, verdict: Verdict, now: int) -> FailedRecipient:
    # RFC 3464 section 2.3.4: the status of a failure begins with 5, whatever the last reply was.
    said = " ".join(word for word in (str(verdict.code), verdict.status, verdict.text) if word)
    return FailedRecipient(
        address=address,
        status=verdict.status if verdict.status.startswith("5.") else "5.0.0",
        diagnostic=said if verdict.remote else "",
        remote_host=verdict.host,
        why="" if verdict.remote else verdict.text,
        last_attempt=now,
    )

"""What the sender of a message hears about its recipients (RFC 3464): failures, and what was asked for (RFC 3461).

Reports go to the reverse-path from the null sender, so they can never cause another one; a message that itself came
from the null sender causes none, except to the postmaster who wants to hear of them (`double_bounce`). Nobody hears
anything of a message whose sender is not authentic: reports would go to people who never wrote it. Without NOTIFY a
sender hears of failures; with it, of what it names. When it is time to speak of a delay is for `queue/delays.py`.

The words are those of the reply's meaning where it is known (`queue/patterns.py`), else those of the status.
"""

from collections.abc import Sequence
from typing import NamedTuple

from posthouse.base import ids
from posthouse.queue.results import DELIVERED, FAILED, Judged, understood
from posthouse.reports.dsn import FailedRecipient, Original, explain, report
from posthouse.store.envelope import unpack_mail, unpack_rcpt
from posthouse.store.events import Event
from posthouse.store.outbox import HERE, Message

DOUBLE = "double_bounce_of"  # in the trace of a report to the postmaster: what it is about
EXPIRED = "5.4.7"
RULE = "This server is set up not to send mail this way, and has not asked another one."
MAX_RETURNED = 1024 * 1024  # octets of a message that go back whole; of a larger one the header does


class Notice(NamedTuple):
    """A report to write: what happened, to whom."""

    action: str  # "failed", "delayed", "delivered" or "relayed" (RFC 3464 section 2.3.3)
    judged: tuple[Judged, ...]


def notices(message: Message, judged: Sequence[Judged], late: bool = False, *, authentic: bool = True) -> list[Notice]:
    """The reports that an attempt makes due. `late`: the time by which the sender wanted delivery is over.
    `authentic`: it is not known that somebody else wrote the message in the sender's name (SPF, DKIM, DMARC)."""
    if not message.sender or not authentic:
        return []
    groups: dict[str, list[Judged]] = {}
    for one in judged:
        action = _action(one, late)
        if action:
            groups.setdefault(action, []).append(one)
    return [Notice(action, tuple(group)) for action, group in groups.items()]


def _action(one: Judged, late: bool) -> str:
    notify = unpack_rcpt(one.claim.options).notify
    state = one.verdict.state
    if state == FAILED:
        return "failed" if not notify or "FAILURE" in notify else ""
    if state == DELIVERED:
        # A server that offered DSN got NOTIFY and reports by itself.
        if "SUCCESS" not in notify or one.verdict.dsn:
            return ""
        return "delivered" if one.claim.destination == HERE else "relayed"
    # RFC 2852 section 4.1.4: mode N asks to hear of the delay, unless NOTIFY forbids it
    return "delayed" if late and (not notify or "DELAY" in notify) else ""


def double_bounce(message: Message, judged: Sequence[Judged], trace: Sequence[Event]) -> Notice | None:
    """What the postmaster hears of a message that nobody can be told about: one from the null sender that failed.

    `trace` are the message's events: a report to the postmaster that fails in turn causes no other one.
    """
    if message.sender or any(DOUBLE in event.data for event in trace):
        return None
    failed = tuple(one for one in judged if one.verdict.state == FAILED)
    return Notice("failed", failed) if failed else None


def returns_whole(message: Message, notice: Notice) -> bool:
    """Whether the message goes back, and not its header alone (RFC 3461 section 4.3)."""
    params = unpack_mail(message.options)
    asked = params.ret == "FULL" and not params.requiretls  # RFC 8689 section 5
    return asked and notice.action == "failed" and message.size <= MAX_RETURNED


def bounce(
    message: Message, original: bytes, notice: Notice, hostname: str, now: int, unique: str, *, postmaster: str = ""
) -> bytes:
    """The text of a report. `original` is the message's header, or the message; `unique` makes the Message-ID.
    `postmaster`: who gets it, as the message has no sender (`double_bounce`)."""
    params = unpack_mail(message.options)
    return report(
        to=message.sender or postmaster,
        hostname=hostname,
        now=now,
        message_id=f"{unique}@{hostname}",
        original=Original(
            original, message.created, params.envid, returns_whole(message, notice), ids.to_text(message.id)
        ),
        recipients=[_recipient(one, notice.action, message, now) for one in notice.judged],
        double=not message.sender,
    )


def _recipient(one: Judged, action: str, message: Message, now: int) -> FailedRecipient:
    # RFC 3464 section 2.3.4: the status of a failure begins with 5, whatever the last reply was.
    verdict = one.verdict
    said = " ".join(word for word in (str(verdict.code), verdict.status, verdict.text) if word)
    family = {"failed": "5", "delayed": "4"}.get(action, "2")
    return FailedRecipient(
        address=one.claim.address,
        status=verdict.status if verdict.status.startswith(f"{family}.") else f"{family}.0.0",
        diagnostic=said if verdict.remote else "",
        remote_host=verdict.host if verdict.remote else "",
        why="" if verdict.remote else verdict.text,
        action=action,
        last_attempt=now,
        retry_until=message.expires if action == "delayed" else 0,
        original=unpack_rcpt(one.claim.options).orcpt,
        **_words(one, expired=action == "failed" and verdict.status == EXPIRED),
    )


def _words(one: Judged, *, expired: bool) -> dict[str, str]:
    if one.verdict.rule and not expired:
        return {"what": RULE, "cure": "If the reason does not tell you enough, ask your postmaster."}
    meaning = one.meaning or understood(one.verdict)
    if meaning is None:
        return {}
    if expired:
        # The reply is why it was put off; what happened in the end is that the time was over.
        what, cure = explain(EXPIRED)
        return {"what": f"{what} {meaning.what}", "cure": cure, "operator": meaning.operator}
    return {"what": meaning.what, "cure": meaning.sender, "operator": meaning.operator}

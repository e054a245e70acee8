"""What webhooks are told: which event an outcome is, who wants to hear of it, and the body of the call. Pure.

Told are outcomes of the queue, that is of recipients elsewhere: those here got their copy by the transaction that
accepted the message, and the sender's 250 said so. Reports of this server itself (null sender) are not told.
Texts of other servers are cut, and what is no Unicode in them is replaced: any parser of JSON takes the bodies.
"""

import datetime
import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from posthouse.base import ids
from posthouse.base.queue_settings import is_within
from posthouse.base.webhook_settings import Event, Webhook
from posthouse.queue.results import DEFERRED, DELIVERED, FAILED, Judged, Report
from posthouse.queue.suppress import BAD_ADDRESS
from posthouse.store.hook_calls import Facts, NewCall
from posthouse.store.outbox import HERE, Message

LIFETIME = 2 * 86_400_000_000  # microseconds until a call that nobody answers is given up
MAX_REPLY = 1000  # characters of the other server's reply
_EVENTS: dict[str, Event] = {DELIVERED: "delivered", DEFERRED: "deferred", FAILED: "bounced"}
# Statuses that say that the address is wrong for good (RFC 3463 section 3.2; X.1.10 is RFC 7505).
_BAD_STATUS = frozenset({"5.1.1", "5.1.2", "5.1.3", "5.1.6", "5.1.10"})


def outcomes(
    hooks: Sequence[Webhook],
    message: Message,
    judged: Iterable[Judged],
    report: Report,
    facts: Facts,
    now: int,
    new_id: Callable[[], int],
) -> list[NewCall]:
    """The calls that an attempt makes due."""
    calls = []
    for one in judged if message.sender else ():
        event = _EVENTS[one.verdict.state]
        if one.claim.destination == HERE and event != "bounced":
            continue
        wanting = [hook for hook in hooks if wants(hook, event, message.sender, facts.account)]
        told = _told(one, event, report) if wanting else {}
        calls += [
            _call(new_id(), hook, event, message.id, message.sender, facts, one.claim.address, now, told)
            for hook in wanting
        ]
    return calls


def complaints(
    hooks: Sequence[Webhook],
    trace: int,
    sender: str,
    facts: Facts,
    recipient: str,
    complaint: dict[str, Any],
    now: int,
    new_id: Callable[[], int],
) -> list[NewCall]:
    """The calls that a report of a complaint makes due."""
    return [
        _call(new_id(), hook, "complained", trace, sender, facts, recipient, now, {"complaint": complaint})
        for hook in hooks
        if wants(hook, "complained", sender, facts.account)
    ]


def wants(hook: Webhook, event: Event, sender: str, account: str) -> bool:
    """Whether a webhook is to hear of an event of a message with this sender, submitted by this account ("": none)."""
    if event not in hook.events or (hook.accounts and account.lower() not in hook.accounts):
        return False
    domain = sender.rpartition("@")[2].lower()
    return not hook.domains or any(is_within(domain, pattern) for pattern in hook.domains)


def example(hook: Webhook, number: int, now: int) -> str:
    """A body like the others, about a message that never was."""
    event = hook.events[0]
    domain = hook.domains[0].removeprefix("*.") if hook.domains else "example.org"
    account = hook.accounts[0] if hook.accounts else f"you@{domain}"
    texts = {
        "delivered": (250, "2.0.0", "OK"),
        "deferred": (451, "4.7.1", "Come again later"),
        "bounced": (550, "5.1.1", "User unknown"),
    }
    told: dict[str, Any] = {"test": True}
    if event == "complained":
        told["complaint"] = {"type": "abuse", "reporter": "example.com"}
    else:
        code, status, text = texts[event]
        tls = "TLSv1.3 TLS_AES_256_GCM_SHA384"
        told["attempt"] = _attempt(1, "mx.example.com", code, status, text, tls)
        told["next_attempt"] = time(now + 60_000_000) if event == "deferred" else None
        told["meaning"] = "user-unknown" if event == "bounced" else ""
        told["bounce"] = {"class": "hard"} if event == "bounced" else None
    facts = Facts(account, f"example.{ids.to_text(number).lower()}@{domain}")
    return _call(number, hook, event, number, f"you@{domain}", facts, "somebody@example.com", now, told).body


def time(at: int) -> str:
    """A time as RFC 3339 writes it, in UTC, to the millisecond."""
    moment = datetime.datetime.fromtimestamp(at // 1_000_000, datetime.UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{at // 1000 % 1000:03d}Z"


def bounce_class(one: Judged) -> str:
    """hard: the address is bad, nothing will ever arrive there. soft: this message did not, another one may."""
    if one.meaning is not None:
        return "hard" if one.meaning.meaning in BAD_ADDRESS else "soft"
    return "hard" if one.verdict.status in _BAD_STATUS else "soft"


def _told(one: Judged, event: Event, report: Report) -> dict[str, Any]:
    verdict = one.verdict
    return {
        "attempt": _attempt(
            one.claim.attempts + 1, verdict.host, verdict.code, verdict.status, verdict.text, report.tls
        ),
        "next_attempt": time(one.retry) if one.retry is not None else None,
        "meaning": one.meaning.meaning if one.meaning is not None else "",
        "bounce": {"class": bounce_class(one)} if event == "bounced" else None,
    }


def _attempt(number: int, host: str, code: int, status: str, text: str, tls: str) -> dict[str, Any]:
    return {
        "number": number,
        "host": _clean(host),
        "code": code,
        "status": status,
        "text": _clean(text[:MAX_REPLY]),
        "tls": tls,
    }


def _call(
    number: int,
    hook: Webhook,
    event: Event,
    trace: int,
    sender: str,
    facts: Facts,
    recipient: str,
    now: int,
    told: dict[str, Any],
) -> NewCall:
    body = {
        "id": ids.to_text(number),
        "event": event,
        "time": time(now),
        "message": {
            "trace": ids.to_text(trace),
            "message_id": _clean(facts.message_id),
            "sender": _clean(sender),
            "account": facts.account,
        },
        "recipient": _clean(recipient),
        "attempt": None,
        "next_attempt": None,
        "meaning": "",
        "bounce": None,
        "complaint": None,
    } | told
    return NewCall(number, hook.name, event, trace, recipient, json.dumps(body, separators=(",", ":")))


def _clean(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")

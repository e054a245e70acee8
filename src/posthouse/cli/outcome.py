"""What became of a message and of each of its recipients, told from its trace. Pure.

It reads events of every age: what an older one does not say is left open. Lines of a story are `story.py`.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from posthouse.store.events import Event
from posthouse.store.traces import BEGINNINGS, MOST_WAITING, Case

DELIVERED, WAITING, HELD, TRYING = "delivered", "waiting", "held", "being tried"
FAILED, REFUSED, PUT_OFF, DISCARDED = "failed", "refused", "put off", "discarded"
PASSED_ON, GONE, NOBODY = "passed on", "not in the queue", "nobody"
_OF_ATTEMPT = {"delivered": DELIVERED, "deferred": WAITING, "failed": FAILED}
_OF_QUEUE = {"due": WAITING, "held": HELD, "claimed": TRYING}
# How an outcome is painted (see timeline.py).
STYLES = {
    DELIVERED: "good", PASSED_ON: "good", WAITING: "wait", HELD: "wait", TRYING: "wait", PUT_OFF: "wait",
    FAILED: "bad", REFUSED: "bad", GONE: "bad", DISCARDED: "wait", NOBODY: "bad",
}  # fmt: skip


class End(NamedTuple):
    """What became of one recipient so far."""

    recipient: str
    state: str
    text: str  # the last word about it: a reply, a mailbox


class Summary(NamedTuple):
    """One message in one line."""

    trace: int
    at: int  # microseconds
    sender: str
    recipients: tuple[str, ...]
    state: str
    last: str


def time_of(seq: int) -> int:
    """When an event was, in microseconds."""
    return (seq >> 20) * 1000


def beginning(case: Case) -> Event | None:
    """The event with which a message begins; None where it is gone."""
    return next((event for event in case.events if event.kind in BEGINNINGS), None)


def said(verdict: Mapping[str, Any]) -> str:
    """A reply as it came: code, status, text."""
    code = verdict.get("code") or ""
    return " ".join(str(word) for word in (code, verdict.get("status"), verdict.get("text")) if word)


def summary(case: Case) -> Summary:
    """A message in one line."""
    begin = beginning(case)
    data = begin.data if begin is not None else {}
    found = ends(case)
    states = Counter(end.state for end in found)
    if begin is not None and begin.kind == "refused":
        # What was said of the whole message counts for all.
        states = Counter(end.state for end in found if not end.recipient) or states
    recipients = data.get("recipients") or [end.recipient for end in found if end.recipient]
    if begin is not None and begin.kind == "refused":
        recipients = list(dict.fromkeys([*recipients, *(end.recipient for end in found if end.recipient)]))
    if len(states) <= 1:
        state = next(iter(states), "unknown")
    else:
        order = [*STYLES]
        known = sorted(states.items(), key=lambda one: order.index(one[0]) if one[0] in order else len(order))
        state = ", ".join(f"{count} {state}" for state, count in known)
    last = next((end.text for end in reversed(found) if end.text), "")
    return Summary(case.trace, time_of(case.trace), data.get("sender", ""), tuple(recipients), state, last)


def ends(case: Case) -> list[End]:
    """What became of each recipient; of those to whom an alias leads, if it leads elsewhere."""
    begin = beginning(case)
    found: dict[str, End] = {}
    if begin is not None:
        found = {end.recipient: end for end in _refused(begin.data)}
        if begin.kind == "accepted":
            found |= {end.recipient: end for end in _accepted(case, begin.data)}
    for event in case.events:
        data = event.data
        if event.kind == "attempt":
            for address, verdict in data.get("results", {}).items():
                state = data.get("ended", {}).get(address) or verdict.get("state", "")
                found[address] = End(address, _OF_ATTEMPT.get(state, state), said(verdict))
        elif event.kind == "operator" and data.get("action") == "drop":
            found |= {who: End(who, "dropped", "by an operator") for who in data.get("recipients", ())}
    for one in case.waiting:
        before = found.get(one.address)
        last = said({"code": one.code, "status": one.status, "text": one.text})
        text = last or (before.text if before is not None else "")
        found[one.address] = End(one.address, _OF_QUEUE.get(one.state, one.state), text)
    if len(case.waiting) < MOST_WAITING:
        there = {one.address for one in case.waiting}
        for address, end in found.items():
            if end.state == WAITING and address not in there:
                found[address] = end._replace(state=GONE)
    return list(found.values())


def _refused(data: Mapping[str, Any]) -> Iterable[End]:
    for one in data.get("refused", ()):
        reply = str(one.get("reply", ""))
        yield End(str(one.get("recipient", "")), PUT_OFF if reply.startswith("4") else REFUSED, reply)


def _accepted(case: Case, data: Mapping[str, Any]) -> Iterable[End]:
    recipients, became = data.get("recipients", ()), data.get("became")
    if became is None:
        yield from _accepted_before(case, data)
        return
    forwarded = any(one.get("why") == "forwarded" for one in data.get("led_to", ()))
    for recipient, leads in zip(recipients, became, strict=False):
        where = mailboxes(case, data, leads)
        if where:
            states = {state for _, state in where}
            state = next(state for state in (DELIVERED, DISCARDED, REFUSED) if state in states)
            yield End(recipient, state, ", ".join(text for text, _ in where))
        for address in leads.get("elsewhere", ()):
            yield End(address, PASSED_ON, f"as {recipient} leads there") if forwarded else End(address, WAITING, "")
        if "queued" in leads or "held" in leads:
            yield End(recipient, WAITING, "")
        elif not where and not leads.get("elsewhere"):
            yield End(recipient, NOBODY, "there is nobody of that name")


def _accepted_before(case: Case, data: Mapping[str, Any]) -> Iterable[End]:
    """Of an event that does not say what each recipient leads to."""
    elsewhere = {one.address for one in case.waiting}
    for event in case.events:
        elsewhere |= set(event.data.get("results", ()))
    for recipient in data.get("recipients", ()):
        if recipient in elsewhere:
            continue
        if data.get("local"):
            yield End(recipient, DELIVERED, "in a mailbox here")
        elif data.get("discarded"):
            yield End(recipient, DISCARDED, "by a hook")
        elif data.get("remote"):
            yield End(recipient, WAITING, "")


def mailboxes(case: Case, data: Mapping[str, Any], leads: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The mailboxes to which a recipient leads, in words, each with DELIVERED, DISCARDED or REFUSED."""
    usual = "Junk" if data.get("authentication", {}).get("done") == "quarantine" else "INBOX"
    discarded, into, refused = data.get("discarded", ()), data.get("into", {}), data.get("refused_accounts", {})
    found = []
    for account in leads.get("accounts", ()):
        name = case.accounts.get(account) or f"an account that is gone (number {account})"
        if name in discarded:
            found.append((f"no copy for {name}, by a hook", DISCARDED))
        elif str(account) in refused:
            found.append((f"not for {name}: {refused[str(account)]}", REFUSED))
        else:
            found.append((f"{into.get(str(account), usual)} of {name}", DELIVERED))
    return found

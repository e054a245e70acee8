"""`posthouse webhook`: programs that are told what became of mail, what they were told, and whether they listen."""

import enum
import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from posthouse.cli import opening, output

if TYPE_CHECKING:
    from posthouse.base.settings import Settings
    from posthouse.base.webhook_settings import Webhook
    from posthouse.store.database import Tx
    from posthouse.store.hook_calls import Call

app = typer.Typer(help="Programs that are told what became of mail.", no_args_is_help=True)
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Id = typer.Argument(help="The id of a call, as `history` shows it.")


class Event(enum.StrEnum):
    """What is told."""

    DELIVERED = "delivered"
    DEFERRED = "deferred"
    BOUNCED = "bounced"
    COMPLAINED = "complained"


class State(enum.StrEnum):
    """How far a call is."""

    DUE = "due"
    CLAIMED = "claimed"
    DONE = "done"
    FAILED = "failed"


@app.command("list")
def list_(context: typer.Context, as_json: Json = False) -> None:
    """List the webhooks of the settings, with how many calls wait, were made, failed in the last seven days."""
    from posthouse.store import hook_calls

    counted = opening.read(context.obj, hook_calls.counts)
    none = hook_calls.Counts(0, 0, 0)
    rows: list[tuple[Any, ...]] = []
    for one in opening.settings(context.obj).webhook:
        only = ", ".join((*one.accounts, *one.domains)) or "all mail"
        rows.append((one.name, one.url, ", ".join(one.events), only, *counted.pop(one.name, none)))
    # Those that were taken out of the settings and still have calls.
    rows += [(name, "(not in the settings)", "", "", *numbers) for name, numbers in sorted(counted.items())]
    columns = ("Name", "Url", "Events", "Only", "Waiting", "Done", "Failed")
    output.show(context.obj, as_json, columns, rows, "There are no webhooks; see docs/webhooks.md.")


@app.command()
def history(
    context: typer.Context,
    name: Annotated[str, typer.Option("--hook", help="Only calls of this webhook.")] = "",
    event: Annotated[Event | None, typer.Option("--event", help="Only calls about this.")] = None,
    state: Annotated[State | None, typer.Option("--state", help="Only calls that are so far.")] = None,
    most: Annotated[int, typer.Option("--most", min=1, max=10_000, help="How many at the most.")] = 50,
    as_json: Json = False,
) -> None:
    """List the calls that wait, and those that ended in the last seven days, newest first."""
    from posthouse.store import hook_calls

    calls = opening.read(context.obj, hook_calls.history, name, event or "", state or "", most)
    rows = [_row(call) for call in calls]
    columns = ("Id", "Since", "Webhook", "Event", "Message", "Recipient", "State", "Attempts", "Next", "Last answer")
    output.show(context.obj, as_json, columns, rows, "There are no calls.", folded=("Last answer",))


@app.command()
def show(context: typer.Context, id_: Annotated[str, Id], as_json: Json = False) -> None:
    """Show a call: what is told, and what was answered."""
    from posthouse.base import ids
    from posthouse.store import hook_calls

    call = opening.read(context.obj, hook_calls.find, _number(id_))
    body = json.loads(call.body)
    finished = call.state in (hook_calls.DONE, hook_calls.FAILED)
    facts: dict[str, Any] = {
        "id": ids.to_text(call.id),
        "webhook": call.hook,
        "event": call.event,
        "message": ids.to_text(call.trace),
        "recipient": call.recipient,
        "state": call.state,
        "attempts": call.attempts,
        "since": output.when(call.created),
        "ended" if finished else "next": output.when(call.next_attempt),
        "given_up": output.when(call.expires),
        "answer": {"code": call.last_code, "text": call.last_text} if call.attempts else None,
        "body": body,
    }
    if as_json:
        print(json.dumps(facts))
        return
    screen = output.console(context.obj)
    labels = {"given_up": "Given up after", "since": "Since"}
    times = {"since", "ended", "next", "given_up"}
    for key, value in facts.items():
        if key in ("answer", "body"):
            continue
        text = f"{value} UTC" if key in times else value
        screen.print(f"{labels.get(key, key.capitalize()):15}{text}", markup=False, soft_wrap=True)
    screen.print(f"{'Last answer':15}{_said(call) or 'none yet'}", markup=False, soft_wrap=True)
    screen.print(f"\n{json.dumps(body, indent=2)}", markup=False, soft_wrap=True)


@app.command()
def retry(context: typer.Context, id_: Annotated[str, Id], as_json: Json = False) -> None:
    """Make a call again now, one that failed, waits, or was made: the receiver sees the same id."""
    from posthouse.base import ids
    from posthouse.base.clock import SystemClock
    from posthouse.base.errors import Permanent
    from posthouse.queue.hook_events import LIFETIME
    from posthouse.store import hook_calls

    now, chosen = SystemClock().now(), opening.settings(context.obj)
    known = [one.name for one in chosen.webhook]

    def work(tx: "Tx") -> "Call":
        call = hook_calls.find(tx, _number(id_))
        if call.hook not in known:
            raise Permanent(f"the webhook {call.hook} is not in the settings any more: nobody would make the call")
        return hook_calls.retry(tx, call.id, now, now + LIFETIME)

    call = opening.write(context.obj, work)
    running = opening.tell(chosen.data, "webhooks")
    when = "now" if running else "when the server starts"
    text = f"{call.hook} is called again about {call.event} {call.recipient} {when}."
    output.done(context.obj, as_json, text, id=ids.to_text(call.id), webhook=call.hook, running=running)


@app.command("test")
def call_now(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The name of a webhook.")],
    as_json: Json = False,
) -> None:
    """Call a webhook now with an example ("test": true), and show what is sent and answered. Exit code 1: not 2yz."""
    import asyncio

    from posthouse.base import ids
    from posthouse.base.clock import SystemClock
    from posthouse.queue import hook_events, webhooks

    hook = webhooks.Hook(_named(opening.settings(context.obj), name))
    now = SystemClock().now()
    body = hook_events.example(hook.settings, ids.IdSource().next(now), now)
    headers = hook.headers(body.encode(), now)
    try:
        answered = asyncio.run(hook.post(body.encode(), headers))
    finally:
        hook.close()
    good = 200 <= answered.code <= 299
    if as_json:
        facts = {"url": hook.settings.url, "headers": headers, "body": json.loads(body), "answer": answered._asdict()}
        print(json.dumps({"ok": good, **facts}))
    else:
        screen = output.console(context.obj)
        lines = [f"POST {hook.settings.url}", *(f"{field}: {value}" for field, value in headers.items()), "", body]
        screen.print("\n".join(lines), markup=False, soft_wrap=True)
        said = f"HTTP {answered.code}" if answered.code else hook.settings.name
        screen.print(f"\n{said} {answered.text}".rstrip(), markup=False, soft_wrap=True)
    if not good:
        raise typer.Exit(1)


def _named(settings: "Settings", name: str) -> "Webhook":
    from posthouse.base.errors import NotFound

    for one in settings.webhook:
        if one.name.lower() == name.lower():
            return one
    known = ", ".join(one.name for one in settings.webhook) or "none; see docs/webhooks.md"
    raise NotFound(f"there is no webhook {name} in the settings; there are: {known}")


def _number(text: str) -> int:
    from posthouse.base import ids
    from posthouse.base.errors import Permanent

    number = ids.from_text(text)
    if number is None:
        raise Permanent(f"{text!r} is no id of a call; `posthouse webhook history` shows them")
    return number


def _said(call: "Call") -> str:
    text = " ".join(call.last_text.split())[:300]
    return f"{call.last_code} {text}".strip() if call.last_code else text


def _row(call: "Call") -> tuple[Any, ...]:
    from posthouse.base import ids

    next_ = output.when(call.next_attempt) if call.state == State.DUE else None
    told = (ids.to_text(call.id), output.when(call.created), call.hook, call.event, ids.to_text(call.trace))
    return (*told, call.recipient, call.state, call.attempts, next_, _said(call))

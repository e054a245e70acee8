"""How the queue looks to people: the list, one message, the numbers. Wide screens get a table, narrow ones a block of
lines a message. What strangers wrote (addresses, replies, header fields) is shown without its control characters."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from posthouse.cli import output
from posthouse.cli.queue_options import plural

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from posthouse.queue.operating import Shown
    from posthouse.store.events import Event
    from posthouse.store.outbox_admin import Counts, Queued, Recipient
    from posthouse.store.pauses import Pause

COLUMNS = ("Id", "Age", "Size", "Sender", "Recipient", "Tries", "Next", "Last reply")
MOST_VALUE = 200  # characters of one line of the history
_STYLES = {"held": "yellow", "paused": "magenta", "being tried": "cyan"}


def next_attempt(one: "Recipient", now: int, paused: "list[Pause]") -> str:
    """When a recipient is tried, or why not."""
    from posthouse.queue.operating import is_paused

    if one.state == "claimed":
        return "being tried"
    if one.state == "held":
        return "held"
    if is_paused(one.destination, paused):
        return "paused"
    if one.next_attempt <= now:
        return "now"
    return f"in {output.age(one.next_attempt - now)}"


def _styled(text: str) -> "Text":
    from rich.text import Text

    return Text(text, _STYLES.get(text, ""))


def listed(
    screen: "Console", messages: "Sequence[tuple[Queued, list[Recipient]]]", now: int, paused: "list[Pause]"
) -> None:
    """The list of messages."""
    from posthouse.base import ids, units

    rows = [
        (
            ids.to_text(message.id),
            output.age(now - message.created),
            units.human_size(message.size),
            message.sender or "<>",
            one.address,
            one.attempts,
            _styled(next_attempt(one, now, paused)),
            one.reply,
        )
        for message, recipients in messages
        for one in recipients
    ]
    made = output.table(COLUMNS, rows, folded=("Last reply",))
    if not screen.is_terminal or output.widths(screen, made)[0] <= screen.width:
        output.put(screen, made)
        return
    for message, recipients in messages:
        age, size = output.age(now - message.created), units.human_size(message.size)
        _line(screen, 0, (ids.to_text(message.id), "bold"), f"  {age}  {size}  from ", message.sender or "<>")
        for one in recipients:
            recipient(screen, one, now, paused)


def recipient(screen: "Console", one: "Recipient", now: int, paused: "list[Pause]", more: str = "") -> None:
    """One recipient as lines of a block."""
    tries = f" after {one.attempts} tr{'y' if one.attempts == 1 else 'ies'}" if one.attempts else ""
    waits = next_attempt(one, now, paused)
    _line(screen, 2, one.address, "  ", (waits, _STYLES.get(waits, "")), tries, more)
    if one.reply:
        _line(screen, 4, (one.reply, "dim"))


def _line(screen: "Console", indent: int, *parts: "str | tuple[str, str]") -> None:
    from rich.padding import Padding
    from rich.text import Text

    text = Text()
    for part in parts:
        said, style = part if isinstance(part, tuple) else (part, "")
        text.append(output.clean(said) if said.strip() else said, style)
    if screen.is_terminal:
        screen.print(Padding(text, (0, 0, 0, indent)))
    else:
        screen.print(Text(" " * indent) + text, soft_wrap=True)


def shown(screen: "Console", what: "Shown", now: int, paused: "list[Pause]") -> None:
    """Everything about one message."""
    from posthouse.base import ids, units

    message = what.message
    facts = [
        ("Id", ids.to_text(message.id)),
        ("Sender", message.sender or "<> (a report: nobody hears if it fails)"),
        ("Account", message.account),
        ("Came", f"{output.when(message.created)} UTC ({output.age(now - message.created)} ago)"),
        ("Tried until", f"{output.when(message.expires)} UTC ({_until(message.expires, now)})"),
        ("Size", units.human_size(message.size)),
        ("Priority", str(message.priority) if message.priority else ""),
        ("Asked for", message.options),
    ]
    for name, value in facts:
        if value:
            _line(screen, 0, (f"{name:<12}", "bold"), value)
    _line(screen, 0, "")
    _line(screen, 0, (plural(len(what.recipients), "recipient"), "bold"))
    for one in what.recipients:
        more = f"  to {one.destination}" if one.destination != one.address.rpartition("@")[2].lower() else ""
        more += f"  by {one.route.replace(':', ' ', 1)}" if one.route else ""
        more += f"  last at {one.last_host}" if one.last_host else ""
        recipient(screen, one, now, paused, more)
    _line(screen, 0, "")
    _line(screen, 0, ("Header", "bold"))
    for line in what.header.decode("utf-8", "replace").splitlines():
        _line(screen, 2, line.replace("\t", "    "))
    _line(screen, 0, "")
    _line(screen, 0, ("History (UTC)", "bold"))
    for event in what.history:
        for line in told(event):
            _line(screen, 2, output.when((event.seq >> 20) * 1000), "  ", line)
    if not what.history:
        _line(screen, 2, "Nothing is known any more of what happened.")
    else:
        _line(screen, 0, (f"The whole story: posthouse explain {ids.to_text(message.id)}", "dim"))


def _until(expires: int, now: int) -> str:
    return (
        f"{output.age(expires - now)} from now" if expires > now else "over: the next failure goes back to the sender"
    )


def told(event: "Event") -> list[str]:
    """An event in short: a line, or one for each result of an attempt."""
    data = event.data
    if event.kind == "attempt" and isinstance(data.get("results"), dict):
        where = " ".join(str(data[name]) for name in ("host", "address") if data.get(name)) or "no server"
        tls = data.get("tls")
        secured = f" {tls.get('version', '')}" if isinstance(tls, dict) and tls else ""
        return [
            f"attempt   {where}{secured}: {address} {result.get('state', '')} {result.get('code', '')} "
            f"{result.get('status', '')} {result.get('text', '')}"[:MOST_VALUE]
            for address, result in data["results"].items()
        ]
    told = {name: _short(value) for name, value in data.items() if name not in ("transcript", "session", "hash", "ms")}
    said = ", ".join(f"{name} {value}" for name, value in told.items() if value)
    return [f"{event.kind:<9} {said if len(said) < MOST_VALUE else said[:MOST_VALUE] + '…'}"]


def _short(value: Any) -> str:
    """A value in few words; "" for one that takes many."""
    if isinstance(value, list):
        return " ".join(map(str, value)) if not any(isinstance(one, dict) for one in value) else ""
    return str(value) if value and not isinstance(value, dict) else ""


def numbers(screen: "Console", found: "Counts", paused: "list[Pause]", server: "Mapping[str, Any] | None") -> None:
    """The queue in numbers, and why nothing of it moves. `server`: what a running one says of itself."""
    rows = [
        ("messages", found.messages, ""),
        ("recipients", found.recipients, ""),
        ("  due", found.due, "their time has come"),
        ("  waiting", found.waiting, "for a later attempt"),
        ("  claimed", found.claimed, "being tried by a server"),
        ("  held", found.held, "until `posthouse queue release`"),
    ]
    for name, number, meaning in rows:
        _line(screen, 0, f"{name:<12}", (f"{number:>9,}", "bold"), f"  {meaning}")
    notes = []
    if server is None:
        notes.append("No server runs: nothing is sent.")
    elif server.get("draining"):
        notes.append("The server is draining: it begins nothing new until `posthouse queue undrain`.")
    if paused:
        notes.append(about_pauses(paused))
    if notes:
        _line(screen, 0, "")
    for note in notes:
        _line(screen, 0, note)


def about_pauses(paused: "list[Pause]") -> str:
    """A sentence about what is paused."""
    names = ", ".join("everything" if one.destination == "*" else one.destination for one in paused[:3])
    more = f" and {len(paused) - 3} more" if len(paused) > 3 else ""
    return f"Paused: {names}{more} (posthouse queue pause --list)."

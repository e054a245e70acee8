"""What the commands of the queue have in common: which messages are meant, and whether that is really so.

`selecting` gives a command the ids and filters, the same for all, and hands them over as one `Selection`.
"""

import functools
import inspect
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from posthouse.base.errors import Permanent

if TYPE_CHECKING:
    from posthouse.store.outbox_admin import Counts, Filter

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


def _span(text: str) -> float:
    from posthouse.servers.queue_admin import span

    try:
        return span(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def _state(text: str) -> str:
    from posthouse.store.outbox_admin import STATES

    if text and text not in STATES:
        raise typer.BadParameter(f"write one of {', '.join(STATES)}")
    return text


class Selection(NamedTuple):
    """Which recipients a command is about."""

    filter: "Filter"
    everything: bool = False

    def required(self, do: str) -> "Filter":
        """The filter; `Permanent` if nothing says what is meant."""
        given = any(self.filter)
        if not given and not self.everything:
            raise Permanent(f"say what to {do}: ids, filters like --domain example.org, or --all for the whole queue")
        if given and self.everything:
            raise Permanent("--all is the whole queue: leave it out, or the ids and filters")
        return self.filter


def _option(kind: Any, name: str, text: str, default: Any, **more: Any) -> tuple[Any, Any]:
    return Annotated[kind, typer.Option(name, help=text, show_default=False, **more)], default


_PARAMETERS: dict[str, tuple[Any, Any]] = {
    "ids": (Annotated[list[str] | None, typer.Argument(metavar="ID", help="Messages.", show_default=False)], None),
    "older_than": _option(float, "--older-than", "In the queue for so long: 4h.", 0.0, parser=_span, metavar="TIME"),
    "younger_than": _option(float, "--younger-than", "Not yet for so long.", 0.0, parser=_span, metavar="TIME"),
    "sender": _option(str, "--sender", 'Address or domain of the sender; "<>" for bounces.', ""),
    "recipient": _option(str, "--recipient", "Address or domain of the recipient.", ""),
    "domain": _option(str, "--domain", 'Where the mail goes; "*.example.org" is all below it.', ""),
    "reply": _option(str, "--reply", "A part of the last reply.", ""),
    "state": _option(
        str, "--state", "due, waiting, claimed (being tried) or held.", "", parser=_state, metavar="STATE"
    ),
    "account": _option(str, "--account", "The account that sent it.", ""),
}
_ALL = {"everything": _option(bool, "--all", "The whole queue.", False)}


def selecting(*, all_: bool = False) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the ids and filters, and `--all` if it changes something. It gets them as `selection`."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        shared = {**_PARAMETERS, **(_ALL if all_ else {})}

        @functools.wraps(command)
        def run(**values: Any) -> None:
            chosen = {name: values.pop(name) for name in shared}
            command(selection=_selection(chosen), **values)

        own = [p for name, p in inspect.signature(command).parameters.items() if name != "selection"]
        given = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
            for name, (annotation, default) in shared.items()
        ]
        parameters = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in (own[0], *given, *own[1:])]
        vars(run)["__signature__"] = inspect.Signature(parameters)
        run.__annotations__ = {p.name: p.annotation for p in parameters}
        return run

    return decorate


def _selection(values: dict[str, Any]) -> Selection:
    from posthouse.servers.queue_admin import filter_of

    everything = values.pop("everything", False)
    ids = tuple(dict.fromkeys(parse_id(text) for text in values.pop("ids") or ()))
    return Selection(filter_of({"ids": ids, **values}), everything)


def parse_id(text: str) -> int:
    """The id of a message, in any case of letters."""
    from posthouse.base import ids

    found = ids.from_text(text)
    if found is None:
        raise Permanent(f"{text!r} is no id: ids are the 13 letters and digits that `posthouse queue list` shows")
    return found


def confirm(what: str, found: "Counts", yes: bool) -> None:
    """Ask whether that many are meant; `Permanent` where nobody can be asked."""
    if yes:
        return
    text = f"{what} {plural(found.recipients, 'recipient')} of {plural(found.messages, 'message')}"
    if not sys.stdin.isatty():
        raise Permanent(f"{text}: say --yes if you mean it")
    typer.confirm(f"{text}?", abort=True)


def plural(number: int, noun: str) -> str:
    """ "1 message", "2,000 messages"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"

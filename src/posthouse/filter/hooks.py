"""Python hooks of the operator: a file `policy.py`, named by `filter.policy`, that may define any of

    on_connect(Connect)   on_helo(Helo)       on_auth(Auth)         on_mail(Mail)
    on_rcpt(Rcpt)         on_headers(Headers) on_message(Message)   on_deliver(Deliver)

each as `def` or `async def`. A hook gets one frozen value and returns None (go on) or a verdict:

    from posthouse.filter.hooks import Rcpt, reject

    def on_rcpt(rcpt: Rcpt):
        if rcpt.recipient.startswith("sales@") and not rcpt.tls:
            return reject("Use TLS for sales")

`accept()` ends what filters would still look at for this connection; it does not let anybody relay. `reject(text,
code)`, `defer(text, code)` refuse for good or for now; `tag(word)` marks the message. `on_deliver` runs once for each
mailbox owner and may also answer `into(mailbox)` or `discard()`.

A `def` runs on a thread, an `async def` on the event loop, where it must not block; each has `filter.policy_timeout`.
A hook that raises, takes too long or returns something else defers the mail (451), is logged with its line, and the
admin is told once an hour: it never loses mail and never lets any in.
"""

import asyncio
import contextlib
import importlib.util
import inspect
import os
import sys
import threading
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from posthouse.base.clock import Clock
from posthouse.base.errors import Permanent
from posthouse.base.log import Logger
from posthouse.filter.visitor import GO, Ruling
from posthouse.smtp.replies import Reply

SLOTS = 16  # plain functions that run at one time
TELL_EVERY = 3600.0
FAILED = Reply(451, "4.3.0", "A policy of this server could not be applied; try again later")


@dataclass(frozen=True, slots=True)
class Connect:
    """A connection was made."""

    session: str
    service: str  # "smtp", "submission", "submissions", "lmtp"
    ip: str
    name: str  # forward-confirmed reverse DNS; "" if there is none, or none was asked for
    tls: str  # "TLSv1.3 ..." or ""


@dataclass(frozen=True, slots=True)
class Helo(Connect):
    """EHLO, HELO or LHLO was said."""

    hello: str


@dataclass(frozen=True, slots=True)
class Auth(Helo):
    """Somebody logged in."""

    login: str


@dataclass(frozen=True, slots=True)
class Mail(Auth):
    """A transaction begins; `login` is "" for strangers."""

    sender: str  # "" for the null sender
    size: int | None  # as declared


@dataclass(frozen=True, slots=True)
class Rcpt(Mail):
    """A recipient is named; `recipients` are those accepted before."""

    recipient: str
    recipients: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Headers(Mail):
    """The whole message is there; its header, field by field."""

    recipients: tuple[str, ...]
    spf: str  # what was found of the sender: "pass", "fail", "none", …; "" if it was not looked at
    dkim: str  # "pass" if one signature passes
    dmarc: str
    fields: tuple[tuple[str, str], ...]

    def get(self, name: str) -> str:
        """The first field of that name, "" if there is none."""
        return next((value for known, value in self.fields if known.lower() == name.lower()), "")


@dataclass(frozen=True, slots=True)
class Message(Headers):
    """The same, with the content: up to a MiB of it, `cut` if there is more."""

    content: bytes
    cut: bool


@dataclass(frozen=True, slots=True)
class Deliver(Headers):
    """A copy for one account."""

    account: str


class Verdict(NamedTuple):
    """What a hook answers; made by the functions below."""

    action: str
    text: str = ""
    code: int = 0


def accept() -> Verdict:
    """Filters need not look any further."""
    return Verdict("accept")


def reject(text: str, code: int = 550) -> Verdict:
    """Refuse for good, with a code from 500 to 599. In on_deliver that refuses the message for everybody."""
    if not 500 <= code < 600:
        raise ValueError(f"reject() with the code {code}: take one from 500 to 599")
    return Verdict("refuse", text, code)


def defer(text: str, code: int = 451) -> Verdict:
    """Refuse for now, with a code from 400 to 499 but 421, which would close the connection."""
    if not 400 <= code < 500 or code == 421:
        raise ValueError(f"defer() with the code {code}: take one from 400 to 499, but not 421")
    return Verdict("refuse", text, code)


def tag(word: str) -> Verdict:
    """Mark the message."""
    return Verdict("tag", word)


def into(mailbox: str) -> Verdict:
    """on_deliver: into this mailbox instead of INBOX; INBOX if there is no such mailbox."""
    return Verdict("into", mailbox)


def discard() -> Verdict:
    """on_deliver: no copy for this account. The sender is not told; the trace says so."""
    return Verdict("discard")


HOOKS: dict[str, str] = {  # stage: name of the function
    "connect": "on_connect",
    "hello": "on_helo",
    "auth": "on_auth",
    "mail": "on_mail",
    "recipient": "on_rcpt",
    "headers": "on_headers",
    "message": "on_message",
    "deliver": "on_deliver",
}
Hook = Callable[[Any], Any]
Outcome = tuple[Any, BaseException | None]


def load(path: Path) -> dict[str, Hook]:
    """The hooks of a file, by stage. Raises `Permanent` with file and line if it cannot be used."""
    spec = importlib.util.spec_from_file_location("posthouse_policy", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise Permanent(f"filter.policy: {path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look there for the module of a class
    written, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise Permanent(f"filter.policy cannot be used: {where(error, path)}") from error
    finally:
        sys.dont_write_bytecode = written
    unknown = [name for name in vars(module) if name.startswith("on_") and name not in HOOKS.values()]
    if unknown:
        raise Permanent(f"filter.policy: {path} defines {unknown[0]}; hooks are {', '.join(HOOKS.values())}")
    found = {stage: getattr(module, name) for stage, name in HOOKS.items() if callable(getattr(module, name, None))}
    if not found:
        raise Permanent(f"filter.policy: {path} defines no hook; hooks are {', '.join(HOOKS.values())}")
    for stage, hook in found.items():
        try:
            inspect.signature(hook).bind(None)
        except TypeError:
            line = getattr(getattr(hook, "__code__", None), "co_firstlineno", 0)
            place = f"{path}:{line}" if line else str(path)
            raise Permanent(f"filter.policy: {place}: {HOOKS[stage]} must take one argument, what is known") from None
        except ValueError:  # it does not say what it takes
            continue
    return found


def where(error: BaseException, path: Path) -> str:
    """An error in one line, with the place in the operator's file."""
    if isinstance(error, SyntaxError):
        return f"{error.filename}:{error.lineno}: {error.msg}"
    known = {str(path), os.path.abspath(path), str(path.resolve())}
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename in known]
    place = f"{path}:{lines[-1]}" if lines else str(path)
    return f"{place}: {type(error).__name__}: {error}"


class Hooks:
    """The hooks of one file, run with a limit of time."""

    def __init__(
        self, path: Path, timeout: float, clock: Clock, log: Logger, notice: Callable[[str, str], Awaitable[None]]
    ) -> None:
        self._path = path
        self._timeout = timeout
        self._clock = clock
        self._log = log
        self._notice = notice
        self._hooks = load(path)
        self._slots = asyncio.Semaphore(SLOTS)
        self._told: dict[str, float] = {}

    def at(self, stage: str) -> bool:
        """Whether the file has a hook there."""
        return stage in self._hooks

    async def run(self, stage: str, value: Any) -> Verdict | None:
        """The verdict of a hook; "failed" if it could not be had."""
        hook = self._hooks[stage]
        work = _on_loop(hook, value) if inspect.iscoroutinefunction(hook) else self._on_thread(hook, value)
        task = asyncio.get_running_loop().create_task(work)
        try:
            # Not asyncio.timeout: a hook that swallows its cancellation would keep us waiting with it.
            done, _ = await asyncio.wait({task}, timeout=self._timeout)
        finally:
            task.cancel()
        result, error = task.result() if done and not task.cancelled() else (None, TimeoutError())
        if error is None and result is not None:
            error = _wrong(stage, result)
        if error is not None:
            await self._report(stage, error)
            return Verdict("failed")
        verdict: Verdict | None = result
        return verdict

    async def _on_thread(self, hook: Hook, value: Any) -> Outcome:
        """Run a plain function on a thread of its own, which ends with the process: one that never returns can keep
        neither the server from stopping nor more than a slot from others."""
        await self._slots.acquire()
        loop = asyncio.get_running_loop()
        answered: asyncio.Future[Outcome] = loop.create_future()

        def finish(outcome: Outcome) -> None:
            self._slots.release()
            if not answered.done():
                answered.set_result(outcome)

        def run() -> None:
            try:
                outcome: Outcome = (hook(value), None)
            except BaseException as error:
                outcome = (None, error)
            with contextlib.suppress(RuntimeError):  # the server has stopped meanwhile
                loop.call_soon_threadsafe(finish, outcome)

        try:
            threading.Thread(target=run, name="policy", daemon=True).start()
        except RuntimeError as error:  # no more threads
            finish((None, error))
        return await answered

    async def _report(self, stage: str, error: BaseException) -> None:
        if isinstance(error, TimeoutError):
            text = f"{self._path}: {HOOKS[stage]} took longer than {self._timeout:g} s"
        else:
            text = where(error, self._path)
        self._log.error("filter.failed", hook=HOOKS[stage], error=text)
        now = self._clock.monotonic()
        if now - self._told.get(stage, float("-inf")) >= TELL_EVERY:
            self._told[stage] = now
            await self._notice(
                f"The policy hook {HOOKS[stage]} fails",
                f"{text}\n\nMail that it should judge is deferred (451) until it works again.",
            )


async def _on_loop(hook: Hook, value: Any) -> Outcome:
    try:
        return await hook(value), None
    except asyncio.CancelledError:
        raise
    except BaseException as error:  # SystemExit of a hook must not end the server
        return None, error


_ACTIONS = ("accept", "refuse", "tag", "into", "discard")


def _wrong(stage: str, result: Any) -> TypeError | None:
    """What is wrong with what a hook returned."""
    if not isinstance(result, Verdict):
        if inspect.iscoroutine(result):
            result.close()
        return TypeError(f"{HOOKS[stage]} returned {type(result).__name__}: return None or a verdict")
    if result.action not in _ACTIONS:
        return TypeError(
            f"{HOOKS[stage]} returned a verdict {result.action!r}: take accept(), reject(), defer() and others"
        )
    if result.action in ("into", "discard") and stage != "deliver":
        return TypeError(f"{HOOKS[stage]} returned {result.action}: that is for on_deliver")
    text: Any = result.text
    code: Any = result.code
    if type(text) is not str:
        return TypeError(f"{HOOKS[stage]} returned a text of type {type(text).__name__}: take str")
    if any("\ud800" <= char <= "\udfff" for char in text):  # nothing can write them, the log neither
        return TypeError(f"{HOOKS[stage]} returned a text with surrogates: {text[:50]!a}")
    if result.action == "refuse" and not (type(code) is int and 400 <= code < 600 and code != 421):
        return TypeError(f"{HOOKS[stage]} refused with the code {code!r}: take one from 400 to 599, but not 421")
    return None


def did(verdict: Verdict, found: Ruling) -> str:
    """What a verdict does, in words for the trace."""
    if found.reply is not None:
        return str(found.reply) + (" (the hook failed)" if verdict.action == "failed" else "")
    text = verdict.text[:200] if verdict.action in ("tag", "into") else ""
    return f"{verdict.action} {text}".strip()


def ruling(verdict: Verdict | None, tags: list[str], settle: Callable[[], None], stage: str) -> Ruling:
    """What a verdict means for the session."""
    if verdict is None:
        return GO
    why = HOOKS[stage]
    match verdict.action:
        case "refuse":
            status = "5.7.1" if verdict.code >= 500 else "4.7.1"
            return Ruling(Reply(verdict.code, status, verdict.text or "Refused by policy"), 0.0, why)
        case "failed":
            return Ruling(FAILED, 0.0, why)
        case "tag":
            word = "".join(c for c in verdict.text if c.isascii() and (c.isalnum() or c in "._-"))[:40]
            if word and word not in tags:
                tags.append(word)
        case "accept":
            settle()
    return GO

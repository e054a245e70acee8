"""The log: one structured line an event, for people or as JSON, on standard error.

`log.info("smtp.accepted", session=…, message=…)`: the first word is an event of `EVENTS`, the rest are fields.
There is no free text, so that programs can count and people can search. Secrets have no place in a field:
values of fields named like one are blacked out. A level that is off costs a function call; a line costs
some 10 µs.
"""

import json
import sys
import time
from collections.abc import Callable, MutableMapping
from typing import Any, BinaryIO, Protocol

import structlog

EVENTS = {  # event: what it means; a test holds the code against this list
    "server.started": "listening on all ports",
    "server.stopped": "everything is closed",
    "tls.renewed": "certificates were taken up anew, because their files changed",
    "server.failed": "something beside a connection failed; the server goes on",
    "index.renewed": "the search index is made anew, and why",
    "index.unavailable": "a search read messages, because the index could not be read",
    "index.incomplete": "a message, or a document in it, is in the search index only as far as it could be read",
    "smtp.accepted": "a message is committed and answered 250",
    "smtp.refused": "a message was refused after its content",
    "smtp.rejected": "a sender, a recipient or a whole message was refused; of a message the domains of its authors",
    "smtp.failed": "an event could not be answered; the peer was told 4yz",
    "smtp.closed": "a connection ended",
    "imap.failed": "a command could not be answered; the client was told NO",
    "imap.gone": "a client went while its command was under way",
    "imap.client": "what a client says of itself (ID)",
    "imap.closed": "a connection ended",
    "pop3.failed": "a command could not be answered; the client was told -ERR",
    "pop3.closed": "a connection ended",
    "login.accepted": "somebody proved who they are",
    "login.refused": "a name, password or proof was wrong, or the client must wait",
    "login.token": "a bearer token could not be verified",
    "filter.failed": "a policy hook of the operator failed; its mail was deferred",
    "filter.refused": "a policy hook refused a copy of a message for one account; the sender hears of it",
    "filter.into": "a policy hook named a mailbox that the account does not have; INBOX was used",
    "proxy.refused": "a port with PROXY headers got a client that is no proxy, or sent none",
    "queue.delivered": "another server took a message for a recipient",
    "queue.deferred": "another server, or the way to it, asks to try later",
    "queue.bounced": "a recipient cannot be reached; the sender was told",
    "queue.dropped": "a recipient cannot be reached, and nobody can be told",
    "queue.captured": "mail to elsewhere was kept here (relay.capture)",
    "queue.failed": "the queue itself failed at something and goes on",
    "webhook.called": "a webhook was told and said that it knows",
    "webhook.deferred": "a webhook gave no or another answer; it is called again",
    "webhook.given_up": "a webhook is not told of an event any more",
    "webhook.failed": "calls to webhooks failed on our side and go on",
    "dkim.announced": "a domain has a new key to sign with: its record is to be published in the DNS",
    "dkim.used": "mail of a domain is signed with this key now",
    "dkim.missing": "the DNS does not have the record of a key in use: it does not sign",
    "dkim.found": "the DNS has the record of a key again",
    "dkim.retiring": "a key does not sign any more; its record may be withdrawn after the day named",
    "dkim.forgotten": "a key that was replaced is gone, and so is its record",
    "dkim.failed": "keys could not be looked after, or a message not be signed; the server goes on",
    "feedback.complained": "a report of a complaint is about a message of an account of ours",
    "feedback.ignored": "a message to an address of queue.feedback is no report about a message of ours",
    "report.sent": "a report about authentication or TLS went to a domain that asks for it",
    "report.received": "a report about a domain of ours was taken in",
    "report.ignored": "a message to an address of reports.addresses holds no report that counts, and why",
    "report.failed": "reports that arrived could not be looked at; it is tried again",
    "feedback.failed": "reports of complaints could not be looked at; it is tried again",
}
_SECRET = ("password", "secret", "token", "credential")
_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=str, check_circular=False).encode


class Logger(Protocol):
    """What the rest of the program needs of a log."""

    def debug(self, event: str, **fields: Any) -> Any: ...

    def info(self, event: str, **fields: Any) -> Any: ...

    def warning(self, event: str, **fields: Any) -> Any: ...

    def error(self, event: str, **fields: Any) -> Any: ...


def configure(form: str = "human", level: str = "info", stream: BinaryIO | None = None, colour: bool = False) -> None:
    """Set the log up for this process. `stream` defaults to standard error."""
    render = _json if form == "json" else _human(colour)
    structlog.configure(
        processors=[_stamp, render],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=lambda *_: _Lines(stream or sys.stderr.buffer),
        cache_logger_on_first_use=False,
    )


def get_logger() -> Logger:
    """The log, as `configure` set it up. It is bound once: take it after `configure`."""
    logger: Logger = structlog.get_logger().bind()
    return logger


class _Lines:
    """Writes lines. The stream's own lock keeps those of different threads apart: each is one write."""

    def __init__(self, stream: BinaryIO) -> None:
        self._write = stream.write
        self._flush = stream.flush

    def info(self, line: bytes) -> None:
        # A log that cannot be written (its disk is full, its reader is gone) must never turn mail that is
        # committed into an error for the peer: that would deliver it twice.
        try:
            self._write(line + b"\n")
            self._flush()
        except (OSError, ValueError):
            pass

    debug = warning = error = info


_second = 0
_text = ""
_harmless: set[str] = set()


def _stamp(_logger: object, level: str, fields: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Put time and level first and black secrets out. The second is formatted once a second."""
    global _second, _text
    now = time.time()
    if int(now) != _second:
        _text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now))
        _second = int(now)
    event = fields.pop("event")
    for name in fields:
        if name not in _harmless:
            if any(word in name for word in _SECRET):
                fields[name] = "***"
            else:
                _harmless.add(name)  # names of fields are words of our source: there are only so many
    return {"time": f"{_text}.{int(now * 1000) % 1000:03d}Z", "level": level, "event": event, **fields}


def _json(_logger: object, _level: str, fields: MutableMapping[str, Any]) -> bytes:
    return _encode(fields).encode("utf-8", "surrogateescape")


def _human(colour: bool) -> Callable[[object, str, MutableMapping[str, Any]], bytes]:
    marks = {"warning": "\x1b[33m", "error": "\x1b[31m", "info": "\x1b[36m", "debug": "\x1b[2m"} if colour else {}
    end = "\x1b[0m" if colour else ""

    def render(_logger: object, level: str, fields: MutableMapping[str, Any]) -> bytes:
        when, level, event = fields.pop("time"), fields.pop("level"), fields.pop("event")
        mark = marks.get(level, "")
        told = " ".join(f"{name}={_value(value)}" for name, value in fields.items())
        line = f"{when[11:]} {mark}{level:7} {event:16}{end if mark else ''} {told}"
        return line.encode("utf-8", "surrogateescape")

    return render


def _value(value: object) -> str:
    text = value if isinstance(value, str) else _encode(value)
    # Text from the network must not forge lines or control the terminal.
    if not text or " " in text or not text.isprintable():
        return _encode(text).replace("\x7f", "\\u007f")
    return text

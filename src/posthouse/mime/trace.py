"""Trace fields: the Received and Return-Path lines that a server puts on top of a message.

They are written from values that are already checked; what came from a peer (its greeting) is cleaned
here once more, as a line end in it would forge header fields. Reading is counting, for loop detection.
"""

import re
from datetime import datetime, timedelta
from functools import lru_cache

from posthouse.mime.header import lines as lines_of

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_EPOCH = datetime(1970, 1, 1)
_LINE = 78  # RFC 5322 section 2.1.1
_not_in_comment = re.compile(r"[^ -~]|[()\\]")
_unsafe = re.compile(r"[^!-~]|[()<>;\\\"]")
_received = re.compile(rb"(?i)\nreceived[ \t]*+:").findall


def date_time(at: int) -> str:
    """A time of day (microseconds) as RFC 5322 section 3.3 has it, in UTC."""
    return _second(at // 1_000_000)


@lru_cache(8)  # many messages come within one second
def _second(at: int) -> str:
    day = _EPOCH + timedelta(seconds=at)
    return (
        f"{_DAYS[day.weekday()]}, {day.day} {_MONTHS[day.month - 1]} {day.year:04d} "
        f"{day.hour:02d}:{day.minute:02d}:{day.second:02d} +0000"
    )


def return_path(sender: str) -> bytes:
    """The Return-Path line; an empty sender is the null reverse-path."""
    return f"Return-Path: <{_one_line(sender)}>\r\n".encode()


def received(
    *,
    by: str,
    id: str,  # noqa: A002 (the word of RFC 5321)
    at: int,
    hello: str = "",
    ip: str = "",
    protocol: str = "",
    recipient: str = "",
    tls: str = "",
) -> bytes:
    """The Received line (RFC 5321 section 4.4). Without `ip` the message was made here.

    `recipient` is given only if there is one alone: others would be told of it.
    """
    words: list[str] = []
    if ip:
        literal = f"[IPv6:{ip}]" if ":" in ip else f"[{ip}]"
        words += ["from", _unsafe.sub("?", hello)[:255] or literal, f"({literal})"]
    words += ["by", by]
    if tls:
        words += ["(" + _not_in_comment.sub("?", tls) + ")"]
    if protocol:
        words += ["with", protocol]
    words += ["id", id]
    if recipient:
        words += ["for", f"<{_one_line(recipient)}>"]
    lines = ["Received: " + words[0]]
    for word in words[1:]:
        # Clauses stay on one line where they fit; a comment goes with what it explains.
        if len(lines[-1]) + 1 + len(word) > _LINE - 2 or (word in _CLAUSES and lines[-1][-1:] == ")"):
            lines.append("\t" + word)
        else:
            lines[-1] += " " + word
    lines[-1] += ";"
    return "\r\n".join([*lines, "\t" + date_time(at), ""]).encode()


_CLAUSES = frozenset(("by", "with", "id", "for"))


def count_received(header: bytes) -> int:
    """How many servers a message has passed (RFC 5321 section 6.3)."""
    return len(_received(lines_of(header)))


def _one_line(address: str) -> str:
    if address.isprintable():
        return address
    return "".join([char for char in address if char >= " " and char != "\x7f"])

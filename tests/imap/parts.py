"""What a client makes of a BODYSTRUCTURE: the number of every part, from RFC 9051 section 6.4.5.1. For tests only."""

from collections.abc import Iterator
from typing import Any

Named = tuple[tuple[int, ...], list[Any]]


def is_multipart(body: list[Any]) -> bool:
    return isinstance(body[0], list)


def has_message(body: list[Any]) -> bool:
    kind = (body[0], body[1])
    return not is_multipart(body) and kind[0].lower() == b"message" and kind[1].lower() in (b"rfc822", b"global")


def named(message: list[Any], path: tuple[int, ...] = ()) -> Iterator[Named]:
    """The parts of a message with this structure: (number, structure)."""
    children = message[0] if is_multipart(message) else [message]
    for number, body in enumerate(children, 1):
        yield from _part(body, (*path, number))


def _part(body: list[Any], path: tuple[int, ...]) -> Iterator[Named]:
    yield path, body
    if is_multipart(body):
        for number, child in enumerate(body[0], 1):
            yield from _part(child, (*path, number))
    elif has_message(body):
        yield from named(body[8], path)

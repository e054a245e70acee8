"""Play a transcript: what a client sends and what the server must answer, at any chunk size.

A transcript is a text file:

    # a comment (also at the end of a line, after two spaces and "# ")
    settings: {"submission": true}     a line of JSON for the test that plays it, at the top
    C: EHLO client.example             the client sends this and CRLF
    C| NOOP\\n\\x00                      the client sends exactly this: escapes, and no CRLF added
    C* 70000 x                         the client sends "x" 70000 times, no CRLF added
    S: 250-…                           the server answers this line; … stands for anything
    S| +OK\\x20                         the same, with escapes
    ! tls                              something else happens: the test's `actions["tls"]()` is called
    S: (closed)                        the server closes

Client lines that stand together are sent together. All the server says until the next client line
must be there, and nothing more.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

CHUNKS = (1, 2, 3, 7, 1 << 20)

TRANSCRIPTS = Path(__file__).parent.parent / "transcripts"


class Engine(Protocol):
    """The face that all server engines show."""

    @property
    def closed(self) -> bool: ...

    def receive(self, data: bytes) -> None: ...

    def next_event(self) -> Any: ...

    def take_output(self) -> bytes: ...


class Step(NamedTuple):
    """One turn: something is sent or done, and then all this must come back."""

    line: int
    send: bytes
    action: str
    expect: list[str]  # lines with …, without CRLF
    closed: bool


class Transcript(NamedTuple):
    name: str
    settings: dict[str, Any]
    steps: list[Step]


def transcripts(folder: str) -> list[Path]:
    """The transcripts of one protocol."""
    return sorted((TRANSCRIPTS / folder).glob("*.txt"))


_escape = re.compile(r"\\(?:x([0-9a-fA-F]{2})|(.))")
_SIMPLE = {"n": "\n", "r": "\r", "t": "\t", "0": "\0", "\\": "\\"}


def _unescape(text: str) -> str:
    return _escape.sub(lambda m: chr(int(m[1], 16)) if m[1] else _SIMPLE[m[2]], text)


def _bytes(text: str) -> bytes:
    """Text as UTF-8; what \\x80 to \\xff stood for as these octets."""
    return b"".join(bytes([ord(c)]) if ord(c) < 0x100 else c.encode() for c in text)


def parse(text: str, name: str = "transcript") -> Transcript:
    """Read a transcript."""
    settings: dict[str, Any] = {}
    steps: list[Step] = []
    expect: list[str] = []
    send, action, closed, first = b"", "", False, 0

    def turn() -> None:
        nonlocal send, action, expect, closed
        if send or action or expect or closed:
            steps.append(Step(first, send, action, expect, closed))
        send, action, expect, closed = b"", "", [], False

    for number, raw in enumerate(text.splitlines(), 1):
        line = re.sub(r"\s{2,}# .*$", "", raw)
        if not line.strip() or line.startswith("#"):
            continue
        if line.startswith("settings:"):
            settings = json.loads(line.removeprefix("settings:"))
            continue
        kind, rest = line[:2], line[3:]
        if kind in ("C:", "C|", "C*") or kind == "! ":
            if expect or closed or action or kind == "! ":
                turn()
            first = first if send else number
        if kind == "C:":
            send += rest.encode() + b"\r\n"
        elif kind == "C|":
            send += _bytes(_unescape(rest))
        elif kind == "C*":
            count, _, what = rest.partition(" ")
            send += _bytes(_unescape(what)) * int(count)
        elif kind == "! ":
            action, first = line[2:].strip(), number
        elif line == "S: (closed)":
            closed = True
        elif kind == "S:":
            expect.append(rest)
        elif kind == "S|":
            expect.append(_unescape(rest))
        else:
            raise ValueError(f"{name}:{number}: not a line of a transcript: {raw!r}")
    turn()
    return Transcript(name, settings, steps)


def load(path: Path) -> Transcript:
    """Read a transcript from a file."""
    return parse(path.read_text(encoding="utf-8"), path.name)


def cut(data: bytes, size: int) -> Iterator[bytes]:
    """`data` in pieces of `size` bytes."""
    for at in range(0, len(data), size):
        yield data[at : at + size]


def play(
    transcript: Transcript,
    engine: Engine,
    answer: Callable[[Any], None],
    chunk: int,
    actions: Mapping[str, Callable[[], None]] | None = None,
) -> None:
    """Play it against an engine. `answer` is the session: it answers an event through the engine."""

    def pump() -> None:
        while (event := engine.next_event()) is not None:
            answer(event)

    for step in transcript.steps:
        if step.action:
            assert actions is not None
            actions[step.action]()
        output = []
        # Long stretches byte by byte are slow and show nothing new.
        for piece in cut(step.send, chunk if len(step.send) < 20_000 else max(chunk, 997)):
            engine.receive(piece)
            pump()
            output.append(engine.take_output())
        pump()
        output.append(engine.take_output())
        got = b"".join(output).decode("utf-8", "surrogateescape")
        compare(got, step, f"{transcript.name}:{step.line} at chunk size {chunk}")
        assert engine.closed == step.closed, f"{transcript.name}:{step.line}: closed is {engine.closed}"


def compare(got: str, step: Step, where: str) -> None:
    """Fail, with both sides, unless the output is what the step expects."""
    lines = got.split("\r\n")
    rest = lines.pop()
    matches = len(lines) == len(step.expect) and all(map(_matches, step.expect, lines))
    if rest or not matches:
        wanted = "\n".join(f"  {line}" for line in step.expect)
        seen = "\n".join(f"  {line}" for line in [*lines, *([rest] if rest else [])])
        raise AssertionError(f"{where}\nwanted:\n{wanted}\ngot:\n{seen}")


def _matches(expected: str, line: str) -> bool:
    return re.fullmatch(".*".join(map(re.escape, expected.split("…"))), line, re.DOTALL) is not None

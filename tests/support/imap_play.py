"""Play a transcript with several IMAP clients and a world that acts on their mailboxes.

The lines are those of `play.py`, and:

    C2: NOOP                       client 2 sends a line (C: is client 1); C2| and C2* as there
    S2: * 3 EXISTS                 client 2 gets this, in this turn or one before: what it gets waits for its lines
    S: * OK [UIDNEXT $next]…       $name binds what stands there, and from then on must match it; in C lines it is
                                   what was bound; … matches anything
    M: Subject: x                  lines of a message …
    ! deliver INBOX \\Seen word     … that comes into a mailbox from outside, with flags; bob:INBOX is bob's
    ! quota 5000 10                from now on alice may hold so many octets and messages

Settings: "clients" (1), "state" ("new", "in", "selected": INBOX), "rev2" (true: enabled at once), "users" (who the
clients are; default: all are alice), "imap" (the settings of that name).
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from posthouse.store import quota
from tests.support.imap_site import Client, ImapSite


class Line(NamedTuple):
    """One line of a transcript."""

    number: int
    kind: str  # "C", "S", "M", "!"
    client: int
    raw: bool  # C| or C*: no CRLF added
    text: str


_ESCAPES = {"n": "\n", "r": "\r", "0": "\0", "\\": "\\"}
_escaped = re.compile(r"\\(.)").sub
_line = re.compile(r"([CS])(\d?)([:|*]) ?(.*)").fullmatch


def parse(path: Path) -> tuple[dict[str, Any], list[Line]]:
    """Settings and lines."""
    settings: dict[str, Any] = {}
    lines: list[Line] = []
    for number, raw in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        text = re.sub(r"\s{2,}# .*$", "", raw)
        if not text.strip() or text.startswith("#"):
            continue
        if text.startswith("settings:"):
            settings = json.loads(text.removeprefix("settings:"))
        elif text.startswith("M:"):
            lines.append(Line(number, "M", 0, False, text[3:]))
        elif text.startswith("! "):
            lines.append(Line(number, "!", 0, False, text[2:]))
        else:
            found = _line(text)
            assert found is not None, f"{path.name}:{number}: not a line of a transcript: {raw!r}"
            kind, client, mark, rest = found.groups()
            if mark == "*":
                count, _, what = rest.partition(" ")
                rest = what * int(count)
            elif mark == "|":
                rest = _escaped(lambda m: _ESCAPES[m[1]], rest)
            lines.append(Line(number, kind, int(client or 1), mark != ":", rest))
    return settings, lines


def _turns(lines: list[Line]) -> Iterator[list[Line]]:
    """Lines that belong together: what one client sends at once or one action, then all that is expected."""
    turn: list[Line] = []
    for line in lines:
        last = turn[-1] if turn else None
        begins = line.kind in "C!M" and last is not None and (
            last.kind == "S" or last.kind == "!" or (line.kind, line.client) != (last.kind, last.client)
        )  # fmt: skip
        if begins and not (last is not None and last.kind == "M" and line.kind == "!"):
            yield turn
            turn = []
        turn.append(line)
    if turn:
        yield turn


class Player:
    """Plays one transcript."""

    def __init__(self, site: ImapSite, name: str, chunk: int) -> None:
        self.site = site
        self.name = name
        self.chunk = chunk
        self.clients: dict[int, Client] = {}
        self.heard: dict[int, bytes] = {}
        self.bound: dict[str, str] = {}

    async def play(self, settings: dict[str, Any], lines: list[Line]) -> None:
        for number in range(1, settings.get("clients", 1) + 1):
            state = settings.get("state", "selected")
            client = self.clients[number] = self.site.client()
            self.heard[number] = await client.send(b"")
            if state != "new":
                users = settings.get("users", ())
                await client.command(f"LOGIN {users[number - 1] if users else 'alice'} secret")
                if settings.get("rev2"):
                    await client.command("ENABLE IMAP4rev2")
                if state == "selected":
                    await client.command("SELECT INBOX")
                self.heard[number] = b""
        for turn in _turns(lines):
            await self._turn(turn)
        for number, heard in self.heard.items():
            assert not heard, f"{self.name}: client {number} heard more: {heard!r}"
            self.clients[number].close()

    async def _turn(self, turn: list[Line]) -> None:
        sent = [line for line in turn if line.kind == "C"]
        if sent:
            data = b"".join(self._filled(line) for line in sent)
            # Long stretches byte by byte are slow and show nothing new.
            chunk = self.chunk if len(data) < 20_000 else max(self.chunk, 4999)
            self.heard[sent[0].client] += await self.clients[sent[0].client].send(data, chunk)
        message = [line.text for line in turn if line.kind == "M"]
        for line in turn:
            if line.kind == "!":
                await self._act(line.text.split(), "\r\n".join([*message, ""]).encode())
        await self.site.quiet()
        for number, client in self.clients.items():
            self.heard[number] += await client.send(b"")
        for number in self.clients:
            expected = [line for line in turn if line.kind == "S" and line.client == number]
            if expected or number in {line.client for line in sent}:
                self._compare(number, turn[0].number, expected)

    async def _act(self, words: list[str], content: bytes) -> None:
        if words[0] == "quota":
            await self.site.database.write(quota.set_limits, "alice@example.org", *(int(word) for word in words[1:]))
            return
        assert words[0] == "deliver"
        name, _, mailbox = words[1].rpartition(":")
        await self.site.deliver(content, mailbox, " ".join(words[2:]), name=name or "alice")

    def _filled(self, line: Line) -> bytes:
        text = re.sub(r"\$([a-z]\w*)", lambda m: self.bound.get(m[1], m[0]), line.text)
        return text.encode() if line.raw else text.encode() + b"\r\n"

    def _compare(self, number: int, at: int, expected: list[Line]) -> None:
        got = self.heard[number].decode("utf-8", "surrogateescape")
        self.heard[number] = b""
        lines = [line for line in expected if line.text != "(closed)"]
        closed = len(lines) < len(expected)
        seen = got.split("\r\n")
        rest = seen.pop()
        fits = len(seen) == len(lines) and all(map(self._matches, (line.text for line in lines), seen))
        if not fits or rest:
            wanted = "\n".join(f"  {line.text}" for line in lines)
            raise AssertionError(
                f"{self.name}:{at}, client {number}, chunk size {self.chunk}\nwanted:\n{wanted}\ngot:\n  "
                + "\n  ".join([*seen, *([rest] if rest else [])])
            )
        assert self.clients[number].transport.closed == closed, f"{self.name}:{at}: closed or not"

    def _matches(self, expected: str, line: str) -> bool:
        pattern = ""
        for piece in re.split(r"(…|\$[a-z]\w*)", expected):
            if piece == "…":
                pattern += ".*"
            elif re.fullmatch(r"\$[a-z]\w*", piece):
                known = self.bound.get(piece[1:])
                pattern += re.escape(known) if known is not None else f"(?P<{piece[1:]}>[^ )\\]]+)"
            else:
                pattern += re.escape(piece)
        found = re.fullmatch(pattern, line, re.DOTALL)
        if found is None:
            return False
        self.bound |= found.groupdict()
        return True

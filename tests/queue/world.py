"""A small internet that misbehaves, made of a seed: domains, their DNS, and servers whose moods change with time.

A server has a mood for a few hours, then another: it defers, refuses, cuts the line at some step, says nothing, breaks
the handshake, forgets what its EHLO offered. In the end most are well. What each really took is written down here, and
whether its answer got out, for the test to compare with what the queue believes.
"""

import asyncio
import random
import re
import ssl
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

from posthouse.base.clock import Clock
from tests.support.certificates import server_context
from tests.support.policies import policy
from tests.support.remote import DROP, SILENCE, Remote, Taken

HOUR = 3600 * 1_000_000
STEPS = ("connect", "EHLO", "MAIL", "RCPT", "DATA", "end")
MOODS = ("well", "well", "defer", "refuse", "drop", "lost", "silent", "cut", "full", "handshake", "refusing TLS", "odd")
_SUBJECT = re.compile(rb"^Subject: (\S+)", re.M)
_OFFERS = ("PIPELINING", "8BITMIME", "ENHANCEDSTATUSCODES", "SIZE 1000000", "SMTPUTF8", "CHUNKING", "DSN")


class Mood(NamedTuple):
    """How a server is until a time."""

    until: int
    kind: str
    step: str


class Fickle(Remote):
    """A server with moods."""

    def __init__(self, chance: random.Random, clock: Clock, tls: ssl.SSLContext | None, tally: "Tally") -> None:
        offers = tuple(offer for offer in _OFFERS if chance.random() < 0.6)
        super().__init__(extensions=offers, tls=tls)
        self._clock = clock
        self._tally = tally
        at, self._moods = clock.now(), list[Mood]()
        for _ in range(chance.randrange(7)):
            at += int(chance.choice((0.05, 0.5, 2, 8)) * HOUR)
            self._moods.append(Mood(at, chance.choice(MOODS), chance.choice(STEPS)))
        if chance.random() < 0.15:  # never well again
            self._moods.append(
                Mood(1 << 62, chance.choice(("defer", "drop", "refuse", "silent")), chance.choice(STEPS))
            )
        self._calls = 0

    @property
    def mood(self) -> Mood:
        """The one of now."""
        now = self._clock.now()
        return next((mood for mood in self._moods if now < mood.until), Mood(1 << 62, "well", ""))

    async def _say(self, writer: asyncio.StreamWriter, step: str, default: str) -> str:
        kind, wrong = self.mood.kind, self.mood.step
        act = ""
        if step == wrong and kind in ("defer", "refuse", "drop"):
            code = "421" if step in ("connect", "EHLO") else "451"
            refusal = "554" if step in ("connect", "EHLO") else "550"
            act = {"defer": f"{code} 4.3.0 later\x1b[2J", "refuse": f"{refusal} 5.7.1 never", "drop": DROP}[kind]
        elif kind == "silent" and step == "MAIL":
            act = SILENCE
        elif kind == "odd" and step == wrong and step != "end":
            act = ("999 what", "\x00\xff\x1b]0;x\x07", "250", "354 go on", "250-" * 600)[self._calls % 5]
            self._calls += 1
        elif kind == "full" and step == "RCPT":
            self._calls += 1
            act = "452 4.2.2 full" if self._calls % 2 else ""
        elif kind == "refusing TLS" and step == "STARTTLS":
            act = "454 4.7.0 not now"
        elif kind == "handshake" and step == "STARTTLS":
            act = DROP
        self.script[step] = act or default
        return await super()._say(writer, step, default)

    async def _content(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, taken: Taken) -> None:
        if self.mood.kind == "cut":
            await reader.read(1)
            raise ConnectionResetError
        content = (await reader.readuntil(b"\r\n.\r\n")).removesuffix(b".\r\n").replace(b"\r\n..", b"\r\n.")
        taken = taken._replace(content=content)
        if self.mood.kind == "lost":
            self._tally.note(taken, answered=False)
            raise ConnectionResetError
        if (await self._say(writer, "end", "250 2.0.0 taken")).startswith("2"):
            self._tally.note(taken, answered=True)


class Tally:
    """What servers took, by subject and recipient: with an answer, and with one that was lost."""

    def __init__(self) -> None:
        self.answered: Counter[tuple[str, str]] = Counter()
        self.lost: Counter[tuple[str, str]] = Counter()
        self.contents: list[bytes] = []

    def note(self, taken: Taken, *, answered: bool) -> None:
        """A server has a message."""
        match = _SUBJECT.search(taken.content)
        assert match is not None, taken.content[:300]
        assert taken.content.endswith(b"--end--\r\n"), "a message came without its end"
        for recipient in taken.recipients:
            (self.answered if answered else self.lost)[match[1].decode(), recipient] += 1


class World:
    """Domains and servers; `domains` are those that mail may be sent to. `add(name, remote)` starts a server and gives
    it an address, `zone` is the DNS."""

    def __init__(self, chance: random.Random, clock: Clock, zone: dict[str, object]) -> None:
        self.chance = chance
        self.clock = clock
        self.zone = zone
        self.tally = Tally()
        self.domains: list[str] = []
        self.down: dict[str, list[tuple[int, object]]] = {}  # what domains' records become, and when

    def servers(self, count: int) -> dict[str, Fickle]:
        """Servers by name: without TLS, with a good certificate, with bad ones."""
        made = {}
        for number in range(count):
            name = f"mx{number}.net.test"
            kind = self.chance.randrange(5)
            tls = (None, None, server_context(name), server_context("other.test"), server_context(name, expired=True))
            made[name] = Fickle(self.chance, self.clock, tls[kind], self.tally)
        return made

    def make_domains(self, count: int, hosts: list[str], publish: Callable[[str, bytes], None]) -> None:
        """Domains of all kinds, most with one to three of the hosts."""
        hosts = [*hosts, "nowhere.net.test", "gone.net.test"]
        self.zone["nowhere.net.test"] = {"A": ["127.0.0.250"]}  # nobody listens there
        for number in range(count):
            name = f"d{number}.test"
            self.domains.append(name)
            some = self.chance.sample(hosts, self.chance.choice((1, 1, 2, 3)))
            records: object = {"MX": [(10 * self.chance.randrange(1, 3), host) for host in some]}
            match self.chance.randrange(14):
                case 0:
                    records = {"MX": [(0, "")]}
                case 1:
                    continue  # it does not exist
                case 2:
                    records = {"CNAME": [self.domains[0]]} if number else records
                case 3:
                    publish(name, policy("enforce", tuple(some)))
                case 4:
                    records = {"MX": [(10, "mail.here.test"), (20, some[0])]}  # it names us
                case 5 | 6:
                    back = self.clock.now() + int(self.chance.choice((0.2, 5, 30)) * HOUR)
                    self.down[name] = [(back, records)]
                    records = None
            self.zone[name] = records

    def turn(self) -> None:
        """Time has passed: domains come back."""
        for name, changes in self.down.items():
            while changes and changes[0][0] <= self.clock.now():
                self.zone[name] = changes.pop(0)[1]

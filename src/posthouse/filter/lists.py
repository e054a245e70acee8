"""DNS lists: does somebody warn of this client, or vouch for it? (RFC 5782)

All lists are asked side by side; answers are kept by the resolver as long as they may be. A list that does not answer
says nothing, and so does one that answers outside of 127.0.0.0/8 or with 127.255.255.0/24, by which lists say that the
question itself was not welcome. One that was silent several times is left alone for a minute: mail must not wait for it
again and again.
"""

import asyncio
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, ip_address
from typing import NamedTuple

from posthouse.base.clock import Clock
from posthouse.base.errors import PosthouseError
from posthouse.base.filter_settings import DnsList
from posthouse.net.dns import NoSuchDomain, Resolver
from posthouse.wire.address import parse_domain

PATIENCE = 5.0  # seconds for one question
SILENCES, REST = 5, 60.0  # so many in a row without an answer, and a list is left alone for so many seconds


class Score(NamedTuple):
    """What the lists say together."""

    total: float
    why: str  # "zen.spamhaus.org (127.0.0.2)"
    said: tuple[tuple[str, str], ...] = ()  # list by list: its zone, and its answer in words


class Lists:
    """The lists of one configuration."""

    def __init__(self, lists: Sequence[DnsList], resolver: Resolver, clock: Clock) -> None:
        self._clock = clock
        self._silent: dict[str, tuple[int, float]] = {}  # zone: times in a row, and until when it rests
        self._of_ip = [(one, _counts(one)) for one in lists if one.of == "ip"]
        self._of_domain = [(one, _counts(one)) for one in lists if one.of == "domain"]
        self._resolver = resolver

    @property
    def are_set(self) -> bool:
        """Whether there are any."""
        return bool(self._of_ip or self._of_domain)

    async def score(self, ip: str, domains: Iterable[str]) -> Score:
        """Ask about an address and the domains that go with it."""
        questions = [(one, counts, f"{_reversed(ip)}.{one.zone}") for one, counts in self._of_ip if _reversed(ip)]
        names = {name for domain in domains if (name := parse_domain(domain, True)) and "." in name and name[0] != "["}
        questions += [(one, counts, f"{name}.{one.zone}") for name in sorted(names) for one, counts in self._of_domain]
        answers = await asyncio.gather(*(self._ask(one.zone, name) for one, _, name in questions))
        total, reasons, hit = 0.0, [], set()
        said: dict[str, str] = {}
        for (one, counts, _), found in zip(questions, answers, strict=True):
            counted = [answer for answer in found or () if _is_counted(answer, counts)]
            if counted and one.zone not in hit:  # a list counts once, however many names it knows
                hit.add(one.zone)
                total += one.weight
                reasons.append(f"{one.zone} ({counted[0]})")
                said[one.zone] = f"listed as {counted[0]}, weight {one.weight:g}"
            elif one.zone not in hit:
                said[one.zone] = "no answer" if found is None else said.get(one.zone, "not listed")
        return Score(total, ", ".join(reasons), tuple(said.items()))

    async def _ask(self, zone: str, name: str) -> tuple[str, ...] | None:
        """The addresses by which a list answers; none if a name is not listed, None if the list says nothing."""
        now = self._clock.monotonic()
        times, until = self._silent.get(zone, (0, 0.0))
        if until > now:
            return None
        try:
            async with asyncio.timeout(PATIENCE):
                found = tuple(str(value) for value in (await self._resolver.answer(name, "A")).values)
        except NoSuchDomain:  # not listed
            found = ()
        except (PosthouseError, TimeoutError):
            rests = times + 1 >= SILENCES
            self._silent[zone] = (0, now + REST) if rests else (times + 1, 0.0)
            return None
        self._silent.pop(zone, None)
        return found


Range = tuple[IPv4Address, IPv4Address]


def _counts(one: DnsList) -> tuple[Range, ...]:
    ranges = [answer.partition("-") for answer in one.answers]
    return tuple((IPv4Address(first), IPv4Address(last or first)) for first, _, last in ranges)


def _is_counted(answer: str, counts: tuple[Range, ...]) -> bool:
    try:
        address = IPv4Address(answer)
    except ValueError:
        return False
    if counts:
        return any(first <= address <= last for first, last in counts)
    return address.packed[0] == 127 and address.packed[:3] != b"\x7f\xff\xff"


def _reversed(ip: str) -> str:
    """The octets (IPv4) or nibbles (IPv6) of an address, last first (RFC 5782 sections 2.1 and 2.4)."""
    try:
        return ip_address(ip).reverse_pointer.rpartition(".")[0].rpartition(".")[0]
    except ValueError:
        return ""

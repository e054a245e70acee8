"""Where DMARC records are and where an organization ends: the DNS tree walk (RFC 9989 section 4.10).

A walk asks for the records of a domain and of those above it, at most eight names, side by side: the eight do not
depend on each other, and a record with `psd=` only ends the reading of the answers. `Walker` does the walks of one
message and asks for each name once. Where no record says `psd=`, the public suffix list stands in for it: a name
on the list counts as if it said `psd=y`, so that two strangers below a suffix are no organization because the suffix
has a record. It is in the package `publicsuffixlist`, and read when a walk needs it for the first time.

`Unavailable` of the DNS is kept as a value; nothing else raises.
"""

import asyncio
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from posthouse.net.dns import Answer, NoSuchDomain, Resolver, Unavailable, side_by_side
from posthouse.senderauth import dmarc_record
from posthouse.senderauth.dmarc_record import Record
from posthouse.senderauth.spf import MOST_CHARACTERS, MOST_VALUES, Lookup

if TYPE_CHECKING:
    from publicsuffixlist import PublicSuffixList

MAX_QUERIES = 8  # of one walk: RFC 9989 section 4.10


class Found(NamedTuple):
    """A record and where it is."""

    domain: str
    record: Record
    text: str  # as it stands in the DNS, cut
    raw: bytes


class Walk(NamedTuple):
    """What a walk found."""

    start: str
    found: tuple[Found, ...]  # longest name first
    organization: str
    failure: str = ""  # why the walk is not complete: what it found may not be all

    @property
    def policy(self) -> Found | None:
        """The record for a domain that has none itself: that of the organization, else of the public suffix above. RFC
        9989 section 4.10.1."""
        for one in self.found:
            if one.domain == self.organization:
                return one
        return self.found[-1] if self.found else None


@lru_cache(2048)
def names(domain: str) -> tuple[str, ...]:
    """The domains that a walk looks at: itself and those above, but of long names not the middle (section 4.10)."""
    labels = domain.split(".")
    rest = labels[1:] if len(labels) < MAX_QUERIES else labels[-(MAX_QUERIES - 1) :]
    return (domain, *[".".join(rest[at:]) for at in range(len(rest))])


@lru_cache(2048)
def registrable(domain: str) -> str:
    """The domain that somebody registered, by the public suffix list: one label below a suffix. A suffix comes back as
    it is. The list is read with the first call."""
    return _suffixes().privatesuffix(domain) or domain


@lru_cache(1)
def _suffixes() -> "PublicSuffixList":
    from publicsuffixlist import PublicSuffixList

    return PublicSuffixList()


class Walker:
    """The walks of one message. What was asked is in `lookups`."""

    def __init__(self, resolver: Resolver) -> None:
        self.resolver = resolver
        self._known: dict[str, Found | Unavailable | None] = {}
        self.missing: set[str] = set()  # names whose _dmarc does not exist: they may not exist either
        self.lookups: list[Lookup] = []

    async def at(self, domain: str) -> Found | None:
        """The record of a domain itself. Raises Unavailable."""
        await self.ask((domain,))
        found = self._known[domain]
        if isinstance(found, Unavailable):
            raise found
        return found

    async def walk(self, domain: str) -> Walk:
        """Walk up from a domain."""
        upwards = names(domain)
        await self.ask(upwards)
        found: list[Found] = []
        failure = ""
        for name in upwards:
            one = self._known[name]
            if isinstance(one, Unavailable):
                # A top-level domain whose servers do not answer takes nothing from those who have a record below it.
                if "." in name or not found:
                    failure = str(one)
                    break
            elif one is not None:
                found.append(one)
                if one.record.psd != "u":
                    break
        if not _is_told(domain, found) and not _suffixes.cache_info().currsize:
            await asyncio.to_thread(_suffixes)
        return Walk(domain, tuple(found), _organization(domain, found), failure)

    async def above(self, domain: str) -> Found | None:
        """The record of the nearest domain above that has one; those that do not answer are passed over."""
        upwards = names(domain)[1:]
        await self.ask(upwards)
        return next((one for name in upwards if isinstance(one := self._known[name], Found)), None)

    async def ask(self, domains: Iterable[str]) -> None:
        """Look up the records of some domains that are not known yet, side by side."""
        new = list(dict.fromkeys([domain for domain in domains if domain not in self._known]))
        if not new:
            return
        answers = await side_by_side(self.resolver, [(f"_dmarc.{domain}", "TXT") for domain in new])
        for domain, answer in zip(new, answers, strict=True):
            self._known[domain] = self._found(domain, answer)

    def _found(self, domain: str, answer: Answer | NoSuchDomain | Unavailable) -> Found | Unavailable | None:
        self.lookups.append(lookup_of(f"_dmarc.{domain}", "TXT", answer))
        if isinstance(answer, Unavailable):
            return answer
        if isinstance(answer, NoSuchDomain):
            self.missing.add(domain)
            return None
        records = dmarc_record.select(answer.values)
        if len(records) != 1:
            return None
        return Found(domain, dmarc_record.parse(records[0]), text_of(records[0]), records[0])


def lookup_of(name: str, kind: str, answer: Answer | NoSuchDomain | Unavailable) -> Lookup:
    """A question and its answer, as the trace keeps them."""
    if isinstance(answer, NoSuchDomain):
        return Lookup(name, kind, failure="no such domain")
    if isinstance(answer, Unavailable):
        return Lookup(name, kind, failure="no answer")
    values = answer.values[:MOST_VALUES]
    return Lookup(name, kind, tuple(text_of(value) if isinstance(value, bytes) else str(value) for value in values))


def text_of(value: bytes) -> str:
    """A record for people and for the trace: printable, and cut."""
    text = value[:MOST_CHARACTERS].decode("ascii", "backslashreplace")
    return text if text.isprintable() else "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)


def _is_told(start: str, found: Sequence[Found]) -> bool:
    """Whether the records alone say where the organization ends."""
    return bool(found) and (found[-1].record.psd != "u" or found[-1].domain == start)


def _organization(start: str, found: Sequence[Found]) -> str:
    """RFC 9989 section 4.10.2."""
    for one in found:
        if one.record.psd == "n":
            return one.domain
        if one.record.psd == "y" and one.domain != start:
            return _below(start, one.domain)
    top = found[-1].domain if found else ""
    if _is_told(start, found):
        return top
    own = registrable(start)
    # Both are the start or above it: the longer one is below the other. A top that is a public suffix is shorter.
    return own if len(own) > len(top) else top


def _below(start: str, above: str) -> str:
    """The name one label below `above` on the way to `start`."""
    return ".".join(start.split(".")[-(above.count(".") + 2) :])

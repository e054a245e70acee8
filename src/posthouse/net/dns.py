"""Questions to the DNS: who takes mail for a domain, where a host is, what a TXT record says.

One interface, `Resolver`, and two makers of it: `SystemResolver` asks the configured name servers
(dnspython, with a bounded cache that keeps what the records' time to live allows), `ZoneResolver`
answers from a table and knows no other name, for the demo and for tests.

Names go in and come out in lower case, as A-labels and without the last dot; the root is "".
It fails in two ways, and callers must keep them apart, because one may bounce mail and the other
never may: `NoSuchDomain` (NXDOMAIN: the DNS says the name does not exist) and `Unavailable` (no
answer in time, SERVFAIL, a broken answer). A name without records of the wanted type is an empty list.
"""

import asyncio
import ipaddress
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import dns.asyncresolver
import dns.exception
import dns.flags
import dns.name
import dns.rdatatype
import dns.resolver

from posthouse.base.clock import Clock
from posthouse.base.errors import Permanent, Temporary

# Longest time an answer is kept, whatever its time to live says: long enough to spare the network,
# short enough that a repaired record is seen on the same day. RFC 2308 section 5 advises one to three
# hours for negative answers; mail wants to notice a repaired domain sooner.
_MAX_AGE = 3600.0
_MAX_NEGATIVE_AGE = 300.0
_MAX_CNAMES = 8


class NoSuchDomain(Permanent):
    """The DNS says that the name does not exist (NXDOMAIN, RFC 2308 section 2.1)."""


class Unavailable(Temporary):
    """The DNS gave no usable answer; it may later."""


class Answer(NamedTuple):
    """The records of one name and type. Empty: the name exists and has none (NODATA)."""

    values: tuple[Any, ...]
    secure: bool = False  # a validating resolver vouches for it (AD bit, RFC 4035 section 3.2.3)


class Resolver(Protocol):
    """What the rest of the program may ask."""

    async def answer(self, name: str, kind: str) -> Answer:
        """The records of type `kind` (a key of `KINDS`); their form depends on the type."""
        ...

    async def mx(self, domain: str) -> list[tuple[int, str]]:
        """(preference, host) of each MX record, lowest preference first. Host "" is null MX (RFC 7505)."""
        ...

    async def addresses(self, host: str) -> list[str]:
        """The IPv6 and then the IPv4 addresses of a host."""
        ...

    async def txt(self, name: str) -> list[bytes]:
        """Each TXT record, its strings joined."""
        ...

    async def ptr(self, address: str) -> list[str]:
        """The names that an IP address says it has."""
        ...


def normal(name: str) -> str:
    """The spelling of a name that this file uses: lower case, no last dot."""
    return name.lower().removesuffix(".")


class _Questions(ABC):
    """The questions, in terms of `answer`."""

    @abstractmethod
    async def answer(self, name: str, kind: str) -> Answer: ...

    async def mx(self, domain: str) -> list[tuple[int, str]]:
        return sorted((await self.answer(domain, "MX")).values)

    async def addresses(self, host: str) -> list[str]:
        results: Sequence[Answer | BaseException] = await asyncio.gather(
            self.answer(host, "AAAA"), self.answer(host, "A"), return_exceptions=True
        )
        found: list[str] = []
        failure: BaseException | None = None
        for result in results:
            if isinstance(result, Answer):
                found += result.values
            elif not isinstance(result, NoSuchDomain | Unavailable):
                raise result
            elif failure is None or isinstance(result, Unavailable):
                failure = result
        # Name servers that fail on AAAA and answer A are common: half an answer is enough to go on
        # with, but "none" is only true if both said so.
        if not found and failure is not None:
            raise failure
        return found

    async def txt(self, name: str) -> list[bytes]:
        return list((await self.answer(name, "TXT")).values)

    async def ptr(self, address: str) -> list[str]:
        return list((await self.answer(reverse_name(address), "PTR")).values)


def reverse_name(address: str) -> str:
    """The name under in-addr.arpa or ip6.arpa that stands for an IP address."""
    return ipaddress.ip_address(address).reverse_pointer


def _host(name: Any) -> str:
    return normal(name.to_text(omit_final_dot=True)) if name != dns.name.root else ""


# How one record of each type becomes a value.
KINDS: dict[str, Callable[[Any], Any]] = {
    "A": lambda record: record.address,
    "AAAA": lambda record: record.address,
    "MX": lambda record: (record.preference, _host(record.exchange)),
    "TXT": lambda record: b"".join(record.strings),
    "PTR": lambda record: _host(record.target),
    "TLSA": lambda record: (record.usage, record.selector, record.mtype, record.cert),
}


class SystemResolver(_Questions):
    """Asks name servers: those given, or those of the system's resolv.conf.

    `timeout` is for one question with all its retries. At most `cache_size` answers are kept, and at
    most `concurrency` questions are on the way at a time; equal questions asked together are one.
    """

    def __init__(
        self,
        clock: Clock,
        nameservers: Sequence[str] = (),
        *,
        port: int = 53,
        timeout: float = 10.0,
        cache_size: int = 20_000,
        concurrency: int = 200,
    ) -> None:
        self._clock = clock
        self._nameservers = list(nameservers)
        self._port = port
        self._timeout = timeout
        self._cache_size = cache_size
        self._cache: OrderedDict[tuple[str, str], tuple[float, Answer | NoSuchDomain]] = OrderedDict()
        self._asked: dict[tuple[str, str], asyncio.Future[Answer]] = {}
        self._slots = asyncio.Semaphore(concurrency)
        self._resolver: dns.asyncresolver.Resolver | None = None

    async def answer(self, name: str, kind: str) -> Answer:
        question = (normal(name), kind)
        kept = self._cache.get(question)
        if kept is not None:
            expires, outcome = kept
            if expires > self._clock.monotonic():
                self._cache.move_to_end(question)
                if isinstance(outcome, Answer):
                    return outcome
                raise NoSuchDomain(str(outcome))
            del self._cache[question]
        asked = self._asked.get(question)
        if asked is None:
            # A task of its own, so that the first to ask may be cancelled without failing the others.
            asked = self._asked[question] = asyncio.ensure_future(self._ask(question))
            asked.add_done_callback(lambda done: self._asked_done(question, done))
        return await asyncio.shield(asked)

    async def _ask(self, question: tuple[str, str]) -> Answer:
        async with self._slots:
            try:
                reply = await self._configured().resolve(
                    dns.name.from_text(question[0]), question[1], raise_on_no_answer=False, search=False
                )
            except dns.resolver.NXDOMAIN as error:
                missing = NoSuchDomain(f"the domain {question[0]} does not exist")
                self._keep(question, missing, _negative_age(error))
                raise missing from None
            except (dns.resolver.YXDOMAIN, dns.name.LabelTooLong, dns.name.NameTooLong, dns.name.EmptyLabel):
                raise NoSuchDomain(f"{question[0]!r} cannot be the name of a domain") from None
            except (dns.exception.DNSException, OSError) as error:
                raise Unavailable(
                    f"no answer from the DNS for {question[0]} {question[1]}: {error or type(error).__name__}"
                ) from error
        records = reply.rrset or ()
        answer = Answer(
            tuple(KINDS[question[1]](record) for record in records),
            bool(reply.response.flags & dns.flags.AD),
        )
        # The smallest TTL on the way, aliases and (for "none") the zone's SOA included.
        ttl = float(reply.chaining_result.minimum_ttl)
        self._keep(question, answer, min(ttl, _MAX_AGE if records else _MAX_NEGATIVE_AGE))
        return answer

    def _asked_done(self, question: tuple[str, str], asked: asyncio.Future[Answer]) -> None:
        del self._asked[question]
        if not asked.cancelled():
            asked.exception()  # seen, even if everyone who asked has gone

    def _configured(self) -> dns.asyncresolver.Resolver:
        if self._resolver is None:
            # Without resolv.conf this raises NoResolverConfiguration, a DNSException: each question is
            # then Unavailable, and the server, which may need no DNS at all, still starts.
            resolver = dns.asyncresolver.Resolver(configure=not self._nameservers)
            if self._nameservers:
                resolver.nameservers = list(self._nameservers)
                resolver.port = self._port
            resolver.lifetime = self._timeout
            resolver.timeout = min(self._timeout, 3.0)
            # 1232 octets pass every path unfragmented. AD asks for the verdict of a validating resolver
            # without the signatures (RFC 6840 section 5.7).
            resolver.use_edns(0, 0, 1232)
            resolver.set_flags(dns.flags.RD | dns.flags.AD)
            self._resolver = resolver
        return self._resolver

    def _keep(self, question: tuple[str, str], outcome: Answer | NoSuchDomain, seconds: float) -> None:
        if seconds > 0:
            self._cache[question] = (self._clock.monotonic() + seconds, outcome)
            while len(self._cache) > self._cache_size:
                self._cache.popitem(last=False)


def _negative_age(error: Any) -> float:
    """How long "no such domain" holds: the smaller of the SOA's TTL and MINIMUM (RFC 2308 section 5)."""
    for rrset in error.response(error.qnames()[0]).authority:
        if rrset.rdtype == dns.rdatatype.SOA:
            return min(float(rrset.ttl), float(rrset[0].minimum), _MAX_NEGATIVE_AGE)
    return 0.0  # RFC 2308 section 5: without an SOA it is not to be cached


Zone = Mapping[str, Mapping[str, Sequence[Any]] | None]


class ZoneResolver(_Questions):
    """Answers from a table: name -> type -> values in the forms of `KINDS`. It knows no other domain,
    unless another resolver is `beyond` it.

    A name that maps to None is `Unavailable`, as if its name servers were down; the type CNAME holds
    one name, which is followed. The table may change while it is in use: tests let time repair a domain.
    """

    def __init__(self, zone: Zone, beyond: Resolver | None = None) -> None:
        self.zone = zone
        self._beyond = beyond

    async def answer(self, name: str, kind: str) -> Answer:
        name = normal(name)
        for _ in range(_MAX_CNAMES):
            if name not in self.zone:
                if self._beyond is not None:
                    return await self._beyond.answer(name, kind)
                if any(other.endswith("." + name) for other in self.zone):
                    return Answer(())  # an empty non-terminal: exists, holds nothing (RFC 8020 section 2)
                raise NoSuchDomain(f"the domain {name} does not exist")
            records = self.zone[name]
            if records is None:
                raise Unavailable(f"no answer from the DNS for {name} {kind}: SERVFAIL")
            if "CNAME" not in records:
                return Answer(tuple(records.get(kind, ())))
            name = normal(records["CNAME"][0])
        raise Unavailable(f"the aliases of {name} go round in a circle")


def zone_of_text(table: Mapping[str, Mapping[str, Sequence[str]]]) -> Zone:
    """A zone whose values are written as in a zone file: MX = ["10 mail.test"]. Raises ValueError."""
    return {
        normal(name): {kind: [_value(kind, v) for v in values] for kind, values in records.items()}
        for name, records in table.items()
    }


def _value(kind: str, text: str) -> Any:
    match kind:
        case "MX":
            preference, host = text.split()
            return int(preference), normal(host)
        case "TXT":
            return text.encode()
        case "A" | "AAAA":
            return str(ipaddress.ip_address(text))
        case _:
            return normal(text)

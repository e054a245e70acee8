"""Questions to the DNS: who takes mail for a domain, where a host is, what a TXT record says.

One interface, `Resolver`, and two makers of it: `SystemResolver` asks the configured name servers
(dnspython, with a bounded cache that keeps what the records' time to live allows), `ZoneResolver`
answers from a table and knows no other name, for the demo and for tests.

Names go in and come out in lower case, as A-labels and without the last dot; the root is "".
It fails in two ways, and callers must keep them apart, because one may bounce mail and the other
never may: `NoSuchDomain` (NXDOMAIN: the DNS says the name does not exist) and `Unavailable` (no
answer in time, SERVFAIL, a broken answer). A name without records of the wanted type is an empty list.

An answer is `secure` if a validating resolver vouches for it (the AD bit) and that resolver is trusted to say so:
by default only one on a loopback address is, as anybody on the way could set the bit (RFC 4035 section 4.9.3).
"""

import asyncio
import ipaddress
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, Protocol

import dns.asyncresolver
import dns.exception
import dns.flags
import dns.inet
import dns.message
import dns.name
import dns.nameserver
import dns.rdatatype
import dns.resolver

from posthouse.base.clock import Clock
from posthouse.base.errors import Permanent, Temporary
from posthouse.base.networks import name_server

# Longest time an answer is kept, whatever its time to live says: long enough to spare the network,
# short enough that a repaired record is seen on the same day. RFC 2308 section 5 advises one to three
# hours for negative answers; mail wants to notice a repaired domain sooner.
MAX_RECORDS = 300  # of an answer by TCP: there may be thousands, and each takes 30 microseconds to read
READ_HERE = 2 * 1024  # octets of an answer that is read in the event loop; longer ones are on a thread
_reading = ThreadPoolExecutor(1, thread_name_prefix="dns")  # one: each of several would take as much from the loop
_MAX_AGE = 3600.0
_MAX_NEGATIVE_AGE = 300.0
# A "no" without an SOA does not say how long it holds. RFC 2308 section 5 keeps it out of caches that others ask; but
# nobody asks this one, and without it a stranger could have us ask again with every message.
_NO_SOA_AGE = 60.0
_MAX_CACHE_OCTETS = 32 << 20  # of all answers kept: one TXT answer may have 64 KiB
_MAX_CNAMES = 8


class NoSuchDomain(Permanent):
    """The DNS says that the name does not exist (NXDOMAIN, RFC 2308 section 2.1)."""


class Unavailable(Temporary):
    """The DNS gave no usable answer; it may later."""


class Answer(NamedTuple):
    """The records of one name and type. Empty: the name exists and has none (NODATA)."""

    values: tuple[Any, ...]
    secure: bool = False  # a trusted resolver vouches for it and its aliases (AD bit, RFC 4035 section 3.2.3)
    name: str = ""  # whose records these are, once aliases are followed; "" if the resolver does not say


class Tlsa(NamedTuple):
    """A TLSA record (RFC 6698 section 2.1): which certificate or key a server is to show."""

    usage: int
    selector: int
    matching: int
    data: bytes

    def __str__(self) -> str:
        """Its numbers, as people call it: "3 1 1"."""
        return f"{self.usage} {self.selector} {self.matching}"


class Validation(NamedTuple):
    """Whether a resolver validates DNSSEC, found out by asking."""

    trusted: bool  # its word is believed: it is on a loopback address, or the settings say so
    vouches: bool  # it sets the AD bit on the answer of a signed name
    refuses: bool  # it gives no answer for a name whose signatures are broken
    text: str  # what was seen, in words
    deceived: bool = False  # it answers for that name as if nothing was wrong

    @property
    def works(self) -> bool:
        """Whether DANE can be done with it."""
        return self.trusted and self.vouches and self.refuses


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


class Questions(ABC):
    """The questions, in terms of `answer`: what a resolver of another kind builds on."""

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
    "CNAME": lambda record: _host(record.target),  # the alias itself; the other types follow it
    "TLSA": lambda record: Tlsa(record.usage, record.selector, record.mtype, record.cert),
}


class _Server(dns.nameserver.Do53Nameserver):
    """A name server whose large answers by TCP are read on a thread, and not at all with too many records. A full one
    of 64 KiB takes a tenth of a second, a stranger's message may ask for a hundred of them, and all else would wait."""

    async def async_query(
        self,
        request: dns.message.QueryMessage,
        timeout: float,  # noqa: ASYNC109 - the name that dnspython gives it
        source: str | None,
        source_port: int,
        max_size: bool,
        backend: Any,
        one_rr_per_rrset: bool = False,
        ignore_trailing: bool = False,
    ) -> dns.message.Message:
        if not max_size:
            return await super().async_query(
                request, timeout, source, source_port, max_size, backend, one_rr_per_rrset, ignore_trailing
            )
        try:
            async with asyncio.timeout(timeout):
                wire = await _by_tcp(self.address, self.port, request.to_wire())
        except TimeoutError:
            raise dns.exception.Timeout from None
        records = sum(int.from_bytes(wire[at : at + 2]) for at in (6, 8, 10))
        if records > MAX_RECORDS:
            raise OSError(f"the answer has more than {MAX_RECORDS} records")
        if len(wire) > READ_HERE:
            reply = await asyncio.get_running_loop().run_in_executor(_reading, dns.message.from_wire, wire)
        else:
            reply = dns.message.from_wire(wire)
        if not request.is_response(reply):
            raise OSError("the answer is to another question")
        return reply


async def _by_tcp(host: str, port: int, question: bytes) -> bytes:
    """The answer to a question (RFC 7766)."""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(len(question).to_bytes(2) + question)
        return await reader.readexactly(int.from_bytes(await reader.readexactly(2)))
    finally:
        writer.close()


class SystemResolver(Questions):
    """Asks name servers: those given, each with a port of its own or at `port`, or those of the system's resolv.conf.

    `timeout` is for one question with all its retries. At most `cache_size` answers are kept, in about `cache_octets`
    of memory, those that say "none" too, and at most `concurrency` questions are on the way at a time; equal questions
    asked together are one. `validating` says that the name servers validate DNSSEC and that nobody can change their
    answers on the way; None: if all of them are on loopback addresses. Without it no answer is secure.
    """

    def __init__(
        self,
        clock: Clock,
        nameservers: Sequence[str] = (),
        *,
        port: int = 53,
        timeout: float = 10.0,
        cache_size: int = 20_000,
        cache_octets: int = _MAX_CACHE_OCTETS,
        concurrency: int = 200,
        validating: bool | None = None,
    ) -> None:
        self._validating = validating
        self._clock = clock
        self._nameservers = list(nameservers)
        self._port = port
        self._timeout = timeout
        self._cache_size = cache_size
        self._cache_octets = cache_octets
        self._cache: OrderedDict[tuple[str, str], tuple[float, Answer | NoSuchDomain]] = OrderedDict()
        self._octets = 0  # of what is kept
        self._asked: dict[tuple[str, str], asyncio.Future[Answer]] = {}
        self._slots = asyncio.Semaphore(concurrency)
        self._resolver: dns.asyncresolver.Resolver | None = None

    def kept(self, name: str, kind: str) -> Answer | NoSuchDomain | None:
        """What the cache has for a question; None: it must be asked."""
        question = (normal(name), kind)
        kept = self._cache.get(question)
        if kept is None:
            return None
        expires, outcome = kept
        if expires <= self._clock.monotonic():
            self._forget(question)
            return None
        self._cache.move_to_end(question)
        return outcome

    def asks(self, name: str, kind: str) -> bool:
        """Whether a question is on its way: to wait for its answer asks nobody."""
        return (normal(name), kind) in self._asked

    async def answer(self, name: str, kind: str) -> Answer:
        kept = self.kept(name, kind)
        if isinstance(kept, Answer):
            return kept
        if kept is not None:
            raise NoSuchDomain(str(kept))
        question = (normal(name), kind)
        asked = self._asked.get(question)
        if asked is None:
            # A task of its own, so that the first to ask may be cancelled without failing the others.
            asked = self._asked[question] = asyncio.ensure_future(self._ask(question))
            asked.add_done_callback(lambda done: self._asked_done(question, done))
        return await asyncio.shield(asked)

    async def _ask(self, question: tuple[str, str]) -> Answer:
        async with self._slots:
            try:
                reply = await self._reply(question)
            except dns.resolver.NXDOMAIN as error:
                missing = NoSuchDomain(f"the domain {question[0]} does not exist")
                self._keep(question, missing, _negative_age(error))
                raise missing from None
            except (dns.resolver.YXDOMAIN, dns.name.LabelTooLong, dns.name.NameTooLong, dns.name.EmptyLabel):
                raise NoSuchDomain(f"{question[0]!r} cannot be the name of a domain") from None
            except (dns.exception.DNSException, OSError) as error:
                raise Unavailable(f"no answer from the DNS for {question[0]} {question[1]}: {_why(error)}") from error
        records = reply.rrset or ()
        answer = Answer(
            tuple(KINDS[question[1]](record) for record in records),
            self.trusted and bool(reply.response.flags & dns.flags.AD),
            _host(reply.canonical_name),
        )
        # The smallest TTL on the way, aliases and (for "none") the zone's SOA included.
        ttl = float(reply.chaining_result.minimum_ttl)
        if not records and not _soa_ages(reply.response):
            ttl = min(ttl, _NO_SOA_AGE)
        self._keep(question, answer, min(ttl, _MAX_AGE if records else _MAX_NEGATIVE_AGE))
        return answer

    async def _reply(self, question: tuple[str, str]) -> dns.resolver.Answer:
        return await self._configured().resolve(
            dns.name.from_text(question[0]), question[1], raise_on_no_answer=False, search=False
        )

    @property
    def trusted(self) -> bool:
        """Whether the AD bit of these name servers is believed."""
        if self._validating is not None:
            return self._validating
        try:
            servers = self._configured().nameservers
        except dns.exception.DNSException:
            return False
        return bool(servers) and all(_is_loopback(getattr(server, "address", "")) for server in servers)

    async def validation(self, signed: str = "iana.org", broken: str = "dnssec-failed.org") -> Validation:
        """Ask for a name that is signed and for one that is signed wrongly; never raises for what the DNS does.

        What a resolver says is not kept, and whether it is trusted is told apart from whether it validates.
        """
        vouches = refuses = deceived = False
        try:
            async with self._slots:
                vouches = bool((await self._reply((normal(signed), "A"))).response.flags & dns.flags.AD)
            seen = f"{signed} is {'' if vouches else 'not '}marked as validated"
        except (dns.exception.DNSException, OSError) as error:
            return Validation(self.trusted, False, False, f"no answer for {signed}: {error or type(error).__name__}")
        try:
            async with self._slots:
                await self._reply((normal(broken), "A"))
            deceived = True
            seen += f"; {broken}, whose signatures are broken, is answered as if they were not"
        except dns.resolver.NoNameservers:  # every server said SERVFAIL
            refuses = True
            seen += f"; {broken}, whose signatures are broken, is refused"
        except (dns.exception.DNSException, OSError) as error:
            seen += f"; no answer for {broken}: {error or type(error).__name__}"
        return Validation(self.trusted, vouches, refuses, seen, deceived)

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
                resolver.nameservers = [_Server(*name_server(one, self._port)) for one in self._nameservers]
            resolver.nameservers = [
                _Server(one, resolver.port) if isinstance(one, str) and dns.inet.is_address(one) else one
                for one in resolver.nameservers
            ]
            resolver.lifetime = self._timeout
            resolver.timeout = min(self._timeout, 3.0)
            # 1232 octets pass every path unfragmented. AD asks for the verdict of a validating resolver
            # without the signatures (RFC 6840 section 5.7).
            resolver.use_edns(0, 0, 1232)
            resolver.set_flags(dns.flags.RD | dns.flags.AD)
            self._resolver = resolver
        return self._resolver

    def _keep(self, question: tuple[str, str], outcome: Answer | NoSuchDomain, seconds: float) -> None:
        octets = _octets_of(question, outcome)
        if seconds <= 0 or octets > self._cache_octets:
            return
        if question in self._cache:
            self._forget(question)
        self._cache[question] = (self._clock.monotonic() + seconds, outcome)
        self._octets += octets
        while len(self._cache) > self._cache_size or self._octets > self._cache_octets:
            self._forget(next(iter(self._cache)))

    def _forget(self, question: tuple[str, str]) -> None:
        self._octets -= _octets_of(question, self._cache.pop(question)[1])


def _why(error: Exception) -> str:
    """Why no name server answered, each named once: dnspython tells of every repeat."""
    told = getattr(error, "kwargs", {}).get("errors")
    if not isinstance(error, dns.resolver.LifetimeTimeout | dns.resolver.NoNameservers) or not told:
        return str(error) or type(error).__name__
    seen: dict[str, str] = {}
    for server, _, _, why, *_ in told:
        where = str(server).removeprefix("Do53:").removesuffix("@53")
        silent = isinstance(why, dns.exception.Timeout)
        seen[where] = f"{where} is silent" if silent else f"{where} answers {why or type(why).__name__}"
    return "; ".join(seen.values())


def _octets_of(question: tuple[str, str], outcome: Answer | NoSuchDomain) -> int:
    """About how much memory an answer takes."""
    octets = 600 + 2 * len(question[0])
    if isinstance(outcome, Answer):
        for value in outcome.values:
            octets += 100 + (len(value) if isinstance(value, bytes | str) else 200)
    return octets


async def side_by_side(
    resolver: Resolver, questions: Sequence[tuple[str, str]]
) -> list[Answer | NoSuchDomain | Unavailable]:
    """The answers to questions (name, type) that are asked at the same time; failures are values. It costs no task
    where a cache has all of them: where the resolver has a method `kept` as `SystemResolver` has."""
    look: Callable[[str, str], Answer | NoSuchDomain | None] | None = getattr(resolver, "kept", None)
    kept = [look(*question) if look is not None else None for question in questions]
    open_ = [question for question, known in zip(questions, kept, strict=True) if known is None]
    if not open_:
        return [known for known in kept if known is not None]

    async def ask(question: tuple[str, str]) -> Answer | NoSuchDomain | Unavailable:
        try:
            return await resolver.answer(*question)
        except (NoSuchDomain, Unavailable) as error:
            return error

    answers = iter([await ask(open_[0])] if len(open_) == 1 else await asyncio.gather(*map(ask, open_)))
    return [next(answers) if known is None else known for known in kept]


def _is_loopback(server: str) -> bool:
    try:
        return ipaddress.ip_address(server.partition("%")[0]).is_loopback
    except ValueError:
        return False


def _negative_age(error: Any) -> float:
    """How long "no such domain" holds: the smaller of the SOA's TTL and MINIMUM (RFC 2308 section 5)."""
    return min(_soa_ages(error.response(error.qnames()[0])) or [_NO_SOA_AGE])


def _soa_ages(reply: Any) -> list[float]:
    """The times that the SOA of a negative answer allows; none if there is no SOA."""
    for rrset in reply.authority:
        if rrset.rdtype == dns.rdatatype.SOA:
            return [float(rrset.ttl), float(rrset[0].minimum), _MAX_NEGATIVE_AGE]
    return []


Zone = Mapping[str, Mapping[str, Sequence[Any]] | None]


class ZoneResolver(Questions):
    """Answers from a table: name -> type -> values in the forms of `KINDS`. It knows no other domain,
    unless another resolver is `beyond` it.

    A name that maps to None is `Unavailable`, as if its name servers were down; the type CNAME holds
    one name, which is followed; "*.test" stands for all names below test that are not there (RFC 4592). The table may
    change while it is in use: tests let time repair a domain.
    `secure` are the names whose answers are, True: all of the table.
    """

    def __init__(self, zone: Zone, beyond: Resolver | None = None, secure: bool | Collection[str] = False) -> None:
        self.zone = zone
        self.secure = secure
        self._beyond = beyond

    async def answer(self, name: str, kind: str) -> Answer:
        name, secure = normal(name), True
        for _ in range(_MAX_CNAMES):
            source = name if name in self.zone else self._wildcard(name)
            if not source and self._beyond is not None:
                answer = await self._beyond.answer(name, kind)
                return answer._replace(secure=answer.secure and secure, name=answer.name or name)
            secure = secure and (self.secure if isinstance(self.secure, bool) else name in self.secure)
            if not source:
                if self._is_above(name):
                    # An empty non-terminal: exists, holds nothing (RFC 8020 section 2).
                    return Answer((), secure, name)
                raise NoSuchDomain(f"the domain {name} does not exist")
            records = self.zone[source]
            if records is None:
                raise Unavailable(f"no answer from the DNS for {name} {kind}: SERVFAIL")
            if "CNAME" not in records or kind == "CNAME":
                return Answer(tuple(records.get(kind, ())), secure, name)
            name = normal(records["CNAME"][0])
        raise Unavailable(f"the aliases of {name} go round in a circle")

    def _wildcard(self, name: str) -> str:
        """The name whose records are used for one that is not there: that below the nearest name which exists (RFC
        4592 section 3.3.1); "" for none."""
        above = "" if self._is_above(name) else name
        while above := above.partition(".")[2]:
            if f"*.{above}" in self.zone:
                return f"*.{above}"
            if above in self.zone:
                break
        return ""

    def _is_above(self, name: str) -> bool:
        return any(other.endswith("." + name) for other in self.zone)


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
        case "TLSA":
            usage, selector, matching, data = text.split(maxsplit=3)
            return Tlsa(_octet(usage), _octet(selector), _octet(matching), bytes.fromhex(data))
        case "A" | "AAAA":
            return str(ipaddress.ip_address(text))
        case _:
            return normal(text)


def _octet(text: str) -> int:
    number = int(text)
    if not 0 <= number <= 255:
        raise ValueError(f"{text} is not a number from 0 to 255")
    return number

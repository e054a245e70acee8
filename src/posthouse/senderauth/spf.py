"""SPF (RFC 7208): may this address send mail for that domain?

`check_mail_from` and `check_helo` check the two identities (section 2), `check_host` is the function of section 4. What
records say is read by `spf_terms.py` and `spf_macros.py`, which are pure; this file asks the DNS, within the limits of
section 4.6.4 and within a time. What follows from a result is for the callers.

It raises nothing for what the peer or the DNS says: that is `permerror` (the domain has to repair its record) or
`temperror` (the DNS did not answer, or not in time). The result holds every answer of the DNS that it rests on.
"""

import asyncio
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any, Literal, NamedTuple

from posthouse.net.dns import NoSuchDomain, Resolver, Unavailable, reverse_name
from posthouse.senderauth import spf_macros, spf_terms
from posthouse.senderauth.spf_macros import Macros, queryable
from posthouse.senderauth.spf_terms import Flaw, Mechanism, Record
from posthouse.wire.address import to_ascii

MAX_TERMS = 10  # that ask the DNS
MAX_VOID = 2  # of them that find nothing
MAX_NAMES = 10  # of an MX or PTR answer whose addresses are asked for
PATIENCE = 20.0  # seconds for everything: section 4.6.4 wants no less
MOST_VALUES = 20  # of one answer that are remembered for the trace
MOST_CHARACTERS = 512  # of one such value, of a record and of a term

Word = Literal["none", "neutral", "pass", "fail", "softfail", "temperror", "permerror"]
Identity = Literal["mailfrom", "helo"]
_RESULTS: dict[str, Word] = {"+": "pass", "-": "fail", "~": "softfail", "?": "neutral"}


class Lookup(NamedTuple):
    """A question to the DNS and its answer, as the trace keeps them."""

    name: str
    kind: str
    values: tuple[str, ...] = ()  # the first of them, cut where they are long
    failure: str = ""  # why there are none: the name does not exist, or there was no answer


class Result(NamedTuple):
    """What SPF says."""

    result: Word
    identity: Identity
    domain: str  # that was checked, as A-labels
    explanation: str = ""  # the words of the domain about a fail: printable ASCII
    record: str = ""  # the one that decided; after a redirect, that of the other domain
    mechanism: str = ""  # the term of it that matched; "" if none did
    problem: str = ""  # what is wrong, with a temperror, permerror or none
    lookups: tuple[Lookup, ...] = ()


class _Found(NamedTuple):
    """What the record of a domain says."""

    result: Word
    domain: str
    mechanism: str
    exp: Macros | None


class _PermError(Exception):
    pass


class _TempError(Exception):
    pass


async def check_mail_from(
    resolver: Resolver,
    ip: IPv4Address | IPv6Address,
    helo: str,
    mail_from: str,
    *,
    receiver: str = "unknown",
    now: int = 0,
    patience: float = PATIENCE,
) -> Result:
    """Check the reverse-path; an empty one stands for postmaster at the HELO name (section 2.4). `receiver` and `now`
    (microseconds) are for explanations."""
    sender = mail_from.removeprefix("<").removesuffix(">")
    if not sender:
        return await check_helo(resolver, ip, helo, receiver=receiver, now=now, patience=patience)
    domain = sender.rpartition("@")[2]
    return await check_host(
        resolver, ip, domain, sender, helo, identity="mailfrom", receiver=receiver, now=now, patience=patience
    )


async def check_helo(
    resolver: Resolver,
    ip: IPv4Address | IPv6Address,
    helo: str,
    *,
    receiver: str = "unknown",
    now: int = 0,
    patience: float = PATIENCE,
) -> Result:
    """Check the name that the client gave in HELO or EHLO (section 2.3)."""
    return await check_host(
        resolver, ip, helo, f"postmaster@{helo}", helo, identity="helo", receiver=receiver, now=now, patience=patience
    )


async def check_host(
    resolver: Resolver,
    ip: IPv4Address | IPv6Address,
    domain: str,
    sender: str,
    helo: str,
    *,
    identity: Identity = "mailfrom",
    receiver: str = "unknown",
    now: int = 0,
    patience: float = PATIENCE,
) -> Result:
    """check_host() of section 4. Names may be U-labels."""
    name = queryable(_a_labels(domain))
    if not name or name.startswith("["):
        return Result("none", identity, domain, problem=f"{domain[:80]!r} is not the name of a domain")
    check = _Check(resolver, ip, sender, helo, receiver, now)
    found, explanation, problem = None, "", ""
    result: Word = "none"
    try:
        async with asyncio.timeout(patience):
            found = await check.domain(name)
            if found is None:
                problem = f"{name} has no SPF record"
            elif found.result == "fail" and found.exp is not None:
                explanation = await check.explanation(found.exp, found.domain)
    except _PermError as error:
        result, problem = "permerror", str(error)
    except _TempError as error:
        result, problem = "temperror", str(error)
    except TimeoutError:  # too late for the explanation only: the result stands
        result, problem = "temperror", f"the DNS took longer than {patience:g} s"
    if found is not None:
        result, problem = found.result, ""
    mechanism = found.mechanism[:MOST_CHARACTERS] if found is not None else ""
    record = check.record[:MOST_CHARACTERS]
    return Result(result, identity, name, explanation, record, mechanism, problem, tuple(check.lookups))


def _a_labels(domain: str) -> str:
    return domain if domain.isascii() else to_ascii(domain) or ""


class _Check:
    """One check: its values, and what it has used of its limits."""

    def __init__(
        self, resolver: Resolver, ip: IPv4Address | IPv6Address, sender: str, helo: str, receiver: str, now: int
    ) -> None:
        # An IPv4 client on an IPv6 socket is an IPv4 client (section 5).
        self._ip = (ip.ipv4_mapped or ip) if isinstance(ip, IPv6Address) else ip
        self._kind = "A" if isinstance(self._ip, IPv4Address) else "AAAA"
        self._ip_name = "ip4" if self._kind == "A" else "ip6"
        self._number = int(self._ip)
        self._resolver = resolver
        self._about = (sender, helo, receiver, now)
        self._terms = self._void = 0
        self._names: list[str] | None = None  # that the address validly has
        self._nameless = False  # there is no PTR record
        self.lookups: list[Lookup] = []
        self.record = ""

    async def domain(self, domain: str) -> _Found | None:
        """What the record of a domain says; None: it has none."""
        try:
            records = spf_terms.select(await self._ask(domain, "TXT"))
        except Unavailable as error:
            raise _TempError(str(error)) from None
        if not records:
            return None
        if len(records) > 1:
            raise _PermError(f"{domain} has {len(records)} SPF records")
        self.record = _text(records[0])
        record = spf_terms.parse(records[0])
        if isinstance(record, Flaw):
            raise _PermError(f"the record of {domain} is wrong: {record.text}")
        return await self._evaluate(record, domain)

    async def _evaluate(self, record: Record, domain: str) -> _Found:
        for mechanism in record.mechanisms:
            name = mechanism.name
            if name == "ip4" or name == "ip6":  # here, without a coroutine: some records are hundreds of these
                matches = self._within(mechanism) if name == self._ip_name else False
            else:
                matches = name == "all" or await self._matches(mechanism, domain)
            if matches:
                return _Found(_RESULTS[mechanism.qualifier], domain, mechanism.text, record.exp)
        if record.redirect is not None and record.redirects:
            self._count()
            # Section 6.1: no record is an error here, and exp comes from the other domain.
            return await self._other(await self._name(record.redirect, domain), "redirect")
        return _Found("neutral", domain, "", None)

    async def _other(self, name: str, term: str) -> _Found:
        found = await self.domain(name) if name else None
        if found is None:
            where = name or "a name that cannot be one"
            raise _PermError(f"{term} leads to {where}, which has no SPF record")
        return found

    async def _matches(self, mechanism: Mechanism, domain: str) -> bool:
        """Whether a mechanism that asks the DNS matches."""
        self._count()
        name = domain if mechanism.spec is None else await self._name(mechanism.spec, domain)
        match mechanism.name:
            case "include":
                own, found = self.record, await self._other(name, "include")
                self.record = own  # again: what goes wrong behind it is not the fault of the other domain
                return found.result == "pass"
            case "a":
                return bool(name) and self._among(await self._term(name, self._kind), mechanism)
            case "exists":
                return bool(name) and bool(await self._term(name, "A"))  # A for IPv6 clients, too (section 5.7)
            case "mx":
                return bool(name) and await self._mx(name, mechanism)
            case _:  # ptr
                return bool(name) and await self._ptr(name)

    async def _mx(self, name: str, mechanism: Mechanism) -> bool:
        records = await self._term(name, "MX")
        if len(records) > MAX_NAMES:
            raise _PermError(f"{name} has more than {MAX_NAMES} MX records")
        hosts = [host for _, host in records if host]  # not the null MX
        answers = await self._side_by_side(hosts)
        if any(not isinstance(answer, Unavailable) and self._among(answer, mechanism) for answer in answers):
            return True
        for answer in answers:
            if isinstance(answer, Unavailable):
                raise _TempError(str(answer))
        if any(not answer for answer in answers):
            self._found_nothing()  # once a term: section 4.6.4 counts terms
        return False

    async def _ptr(self, name: str) -> bool:
        target = name.lower()
        names = await self._validated()
        if self._nameless:
            self._found_nothing()
        return any(own == target or own.endswith(f".{target}") for own in names)

    async def _validated(self) -> list[str]:
        """The names of the address that have this address (section 5.5). Errors are no error here: the names are not
        in the hand of the domain that is checked."""
        if self._names is None:
            try:
                names = list(await self._ask(reverse_name(str(self._ip)), "PTR"))
            except Unavailable:
                self._names = []
                return []
            self._nameless = not names
            names = [name for name in names[:MAX_NAMES] if name]
            answers = await self._side_by_side(names)
            self._names = [
                name.lower()
                for name, answer in zip(names, answers, strict=True)
                if not isinstance(answer, Unavailable) and any(ip_address(one) == self._ip for one in answer)
            ]
        return self._names

    async def explanation(self, exp: Macros, domain: str) -> str:
        """The explanation of a fail; "" for whatever is wrong with it (section 6.2)."""
        name = await self._name(exp, domain)
        try:
            records = await self._ask(name, "TXT") if name else ()
        except Unavailable:
            return ""
        if len(records) != 1 or not records[0].isascii():
            return ""
        try:
            macros = spf_macros.macro_string(records[0].decode("ascii"), explaining=True)
        except spf_macros.BadMacro:
            return ""
        return spf_macros.explanation(macros, await self._expandable(macros, domain))

    async def _name(self, spec: Macros, domain: str) -> str:
        return spf_macros.domain_name(spec, await self._expandable(spec, domain))

    async def _expandable(self, macros: Macros, domain: str) -> dict[str, str]:
        values = _values(self._ip, *self._about) | {"d": domain}
        if spf_macros.uses(macros, "p"):
            values["p"] = _best(await self._validated(), domain.lower())
        return values

    def _shift(self, mechanism: Mechanism) -> int:
        """How many bits on the right do not count."""
        return 32 - mechanism.bits4 if self._kind == "A" else 128 - mechanism.bits6

    def _within(self, mechanism: Mechanism) -> bool:
        return self._number >> self._shift(mechanism) == mechanism.network

    def _among(self, addresses: Sequence[str], mechanism: Mechanism) -> bool:
        shift = self._shift(mechanism)
        own = self._number >> shift
        return any(int(ip_address(one)) >> shift == own for one in addresses)

    # The DNS, and its limits

    def _count(self) -> None:
        self._terms += 1
        if self._terms > MAX_TERMS:
            raise _PermError(f"the record needs more than {MAX_TERMS} terms that ask the DNS")

    def _found_nothing(self) -> None:
        self._void += 1
        if self._void > MAX_VOID:
            raise _PermError(f"more than {MAX_VOID} terms of the record ask for what is not in the DNS")

    async def _term(self, name: str, kind: str) -> Sequence[Any]:
        """What a term asks for."""
        try:
            values = await self._ask(name, kind)
        except Unavailable as error:
            raise _TempError(str(error)) from None
        if not values:
            self._found_nothing()
        return values

    async def _side_by_side(self, hosts: Sequence[str]) -> list[Sequence[str] | Unavailable]:
        async def one(host: str) -> Sequence[str] | Unavailable:
            try:
                return await self._ask(host, self._kind, escape=False)
            except Unavailable as error:
                return error

        return list(await asyncio.gather(*map(one, hosts)))

    async def _ask(self, name: str, kind: str, *, escape: bool = True) -> Sequence[Any]:
        """The records, none for a name that does not exist. Raises Unavailable."""
        # A local part may hold a backslash, which escapes in the written form of names (RFC 1035 section 5.1).
        question = name.replace("\\", "\\\\") if escape else name
        try:
            values = (await self._resolver.answer(question, kind)).values
        except NoSuchDomain:
            self.lookups.append(Lookup(name, kind, failure="no such domain"))
            return ()
        except Unavailable:
            self.lookups.append(Lookup(name, kind, failure="no answer"))
            raise
        self.lookups.append(Lookup(name, kind, tuple(_text(value) for value in values[:MOST_VALUES])))
        return values


def _text(value: Any) -> str:
    """A value of an answer for people."""
    match value:
        case bytes():
            return value[:MOST_CHARACTERS].decode("ascii", "backslashreplace")
        case (preference, host):
            return f"{preference} {host or '.'}"
        case _:
            return str(value)


def _best(names: Sequence[str], domain: str) -> str:
    """Of the names of the address: the domain itself, else one below it, else any (section 7.3)."""
    if domain in names:
        return domain
    return next((name for name in names if name.endswith(f".{domain}")), names[0] if names else "unknown")


def _values(ip: IPv4Address | IPv6Address, sender: str, helo: str, receiver: str, now: int) -> dict[str, str]:
    """The values of the macros (section 7.2) but `d` and `p`."""
    local, _, domain = sender.rpartition("@")
    local = local or "postmaster"  # section 4.3
    domain = _a_labels(domain) or domain
    return {
        "s": f"{local}@{domain}",
        "l": local,
        "o": domain,
        "i": str(ip) if isinstance(ip, IPv4Address) else ".".join(f"{int(ip):032X}"),
        "h": _a_labels(helo) or helo,
        "c": str(ip),
        "r": receiver or "unknown",
        "t": str(now // 1_000_000),
        "v": "in-addr" if isinstance(ip, IPv4Address) else "ip6",
    }

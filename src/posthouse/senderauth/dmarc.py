"""DMARC (RFC 9989): does what SPF and DKIM proved belong to the domain that people see in From, and if it does not,
what does that domain want?

`author_domains` reads From, `evaluate` finds the record (`organization.py`), compares domains, and says which policy
the domain asks for and which is left after testing (`t=y`) and sampling (`pct`, RFC 7489). What becomes of the message
is for the callers: overrides for mailing lists and forwarders, and what to do without an answer of the DNS.
`claims_nobody` tells the From of an old server's bounce, to which DMARC cannot be applied, from one with tricks in it.

It raises nothing for what a message or the DNS says: `permerror` is a message without an author, or a record that
cannot be used, `temperror` an answer of the DNS that is missing and might have changed the result. A temperror of SPF
or DKIM is one here, too, if that domain would have counted (section 5.3.6).
"""

import asyncio
import re
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

from posthouse.mime import header as headers
from posthouse.mime.addresses import Group, address_list
from posthouse.net.dns import Answer, Resolver, Unavailable, side_by_side
from posthouse.senderauth import dkim as dkims
from posthouse.senderauth import spf as spfs
from posthouse.senderauth.dmarc_record import Policy, Record
from posthouse.senderauth.organization import Found, Walk, Walker, lookup_of, names, registrable, text_of
from posthouse.senderauth.spf import Lookup
from posthouse.wire.address import parse_domain

MAX_AUTHORS = 5  # domains of From that are looked at (section 11.5 wants a limit)
MAX_FIELDS = 10  # From fields
MAX_FROM = 8_192  # octets of all of them: hostile ones take a millisecond for each thousand
MAX_ADDRESSES = 500  # of one
MAX_DOMAINS = 10  # that passed, besides the author's own, whose organization is looked up
MAX_SENTENCES = 40
PATIENCE = 20.0  # seconds for everything
MORE = "more than is looked at"  # stands among the domains for those that were not read

# What may stand in a From that names nobody: words without "@", without anything that a program decodes ("=?", "&#64;",
# "\\") or reads as a list, a group or a route, and without a dot inside a word, as names of domains have.
_nameless = re.compile(rb"(?:[A-Za-z0-9 \t_'/<>()\"+-]|\.(?![A-Za-z0-9-])|\r?\n[ \t])*+\Z").match
_breaks = re.compile(rb"[\r\n\x0b\x0c\x1c-\x1e]+").split  # where any program may see the end of a line
_UNSEEN = bytes([*range(33), *range(127, 256)])  # what some pass over in the name of a field, and before it
_SHOWN = (b"sender", b"resent-from", b"resent-sender")  # what programs show in the place of an author

Word = Literal["none", "pass", "fail", "temperror", "permerror"]
_MILDER: dict[Policy, Policy] = {"reject": "quarantine", "quarantine": "none", "none": "none"}
_STRENGTH = {"": 0, "none": 1, "quarantine": 2, "reject": 3}
# Of several authors, whose result is that of the message: a pass is one for all or for none.
_WORST: tuple[Word, ...] = ("fail", "temperror", "permerror", "none", "pass")


class Result(NamedTuple):
    """What DMARC says."""

    word: Word
    domain: str  # of From, as A-labels; of several, the one that decided
    policy: Literal["", "none", "quarantine", "reject"] = ""  # that the domain asks for; "" without a usable record
    disposition: Policy = "none"  # what is left of it for this message
    policy_domain: str = ""  # where the record is
    organization: str = (
        ""  # of the author, as far as it was needed: a domain with a record that proves itself is its own
    )
    record: str = ""  # its text, cut
    aligned_spf: bool = False
    aligned_dkim: bool = False
    because: tuple[str, ...] = ()  # sentences
    rua: tuple[str, ...] = ()  # where daily reports go
    ruf: tuple[str, ...] = ()
    lookups: tuple[Lookup, ...] = ()
    published: Record | None = None  # the record, read
    override: Literal["", "policy_test_mode", "sampled_out"] = ""  # why the disposition is milder than the policy
    authors: int = 1  # domains in From

    @property
    def is_malformed(self) -> bool:
        """Whether it is From that DMARC cannot be applied to, and not a record: with such a field anybody can try to
        look like somebody whose mail would be refused."""
        return self.word == "permerror" and not self.policy_domain


class _Identifier(NamedTuple):
    """A domain that SPF or DKIM knows something about."""

    what: str  # "SPF" or "DKIM"
    domain: str
    passed: bool  # else it is a temperror


def author_domains(header: bytes) -> tuple[str, ...]:
    """The domains of the addresses in the From fields of a header, each once, as A-labels where they are domains.

    Other texts behind an "@" come as they are, printable and cut, and `evaluate` finds that they are no domain. There
    are at most MAX_AUTHORS + 1. Addresses without any domain ("Ann") are passed over: nobody can mistake them for one.
    """
    domains: dict[str, None] = {}
    fields = headers.find_all(header, b"from")
    room = MAX_FROM
    for value in fields[:MAX_FIELDS]:
        listed = address_list(value[:room], MAX_ADDRESSES)
        members = [one for item in listed for one in (item.members if isinstance(item, Group) else (item,))]
        for address in members:
            if address.domain:
                domains[_domain(address.domain)] = None
        if len(value) > room or len(members) >= MAX_ADDRESSES:
            domains[MORE] = None
        room = max(0, room - len(value))
    if len(fields) > MAX_FIELDS:
        domains[MORE] = None
    return tuple(domains)[: MAX_AUTHORS + 1]


def claims_nobody(header: bytes) -> bool:
    """Whether a header without `author_domains` claims to be of nobody at all, as bounces of old servers do: "From:
    MAILER-DAEMON (Mail Delivery System)". It has one From and nothing that some program might take for another one, and
    neither that nor a field that is shown in its place holds more than plain words.

    Section 5.3.1 ends DMARC where there is no domain, and section 11.5 warns of those who bring that about: so this
    names what is harmless, and whatever it does not name is not.
    """
    names = [line.partition(b":")[0] for line in _breaks(header) if b":" in line]
    if sum([name.translate(None, _UNSEEN).lower() == b"from" for name in names]) != 1:
        return False
    fields = headers.find_all(header, b"from")
    shown = [value for name in _SHOWN for value in headers.find_all(header, name)]
    return len(fields) == 1 and all(_nameless(value) for value in (*fields, *shown))


def _domain(raw: bytes) -> str:
    text = raw[:1000].decode("utf-8", "replace").removesuffix(".")
    return parse_domain(text, utf8=True) or text_of(text.lower().encode()[:255])


async def evaluate(
    resolver: Resolver,
    authors: Sequence[str],
    spf: Sequence[spfs.Result],
    dkim: Sequence[dkims.Result],
    *,
    dice: float,
    patience: float = PATIENCE,
    nobody: bool = False,
) -> Result:
    """Evaluate a message. `authors` are its `author_domains`, `dice` is a random number from 0 to 1 for `pct`. With
    `nobody` it is a bounce whose header `claims_nobody`: there is no domain that might want it refused.

    Of SPF only MAIL FROM counts (section 3.2.4); results for HELO are used if there is none for MAIL FROM, which is
    what an empty reverse-path means (RFC 7208 section 2.4). Several authors are each evaluated: the message passes if
    all do, and the strictest policy of those that fail is applied (section 11.5).
    """
    if not authors and nobody:
        why = "it is a bounce, and its From names no domain that could be asked"
        return Result("none", "", because=(why,), authors=0)
    if not authors:
        return Result("permerror", "", because=("the message has no From with a domain",), authors=0)
    walker = Walker(resolver)
    identifiers = _identifiers(spf, dkim)
    some = authors[:MAX_AUTHORS]
    if len(some) == 1:  # no task for it
        results = [await _timely(walker, some[0], identifiers, dice, patience)]
    else:
        # Side by side, each with its time: the slow DNS of one author shall not hide that another one is forged.
        results = await asyncio.gather(*(_timely(walker, one, identifiers, dice, patience) for one in some))
    if len(authors) > MAX_AUTHORS:
        reason = f"From has more than {MAX_AUTHORS} domains"
        results.append(Result("permerror", authors[MAX_AUTHORS], because=(reason,)))
    worst = min(results, key=lambda one: (-_weight(one), _WORST.index(one.word)))
    because: Iterable[str] = worst.because
    if len(results) > 1:
        because = (f"{one.domain}: {sentence}" for one in results for sentence in one.because)
    return worst._replace(
        because=tuple(because)[:MAX_SENTENCES], lookups=tuple(dict.fromkeys(walker.lookups)), authors=len(authors)
    )


def _weight(one: Result) -> int:
    """How much must not be hidden by another author: what follows from it, or might if the DNS had answered."""
    if one.is_malformed:
        return _STRENGTH["reject"]
    return {"fail": _STRENGTH[one.disposition], "temperror": _STRENGTH[one.policy]}.get(one.word, 0)


def _identifiers(spf: Sequence[spfs.Result], dkim: Sequence[dkims.Result]) -> list[_Identifier]:
    """The domains that passed, and those of which it could not be found out; each once."""
    senders = [one for one in spf if one.identity == "mailfrom"] or list(spf)
    found = [
        _Identifier("SPF", one.domain.lower().removesuffix("."), one.result == "pass")
        for one in senders
        if one.result in ("pass", "temperror")
    ]
    found += [
        _Identifier("DKIM", one.domain.lower().removesuffix("."), one.word == "pass")
        for one in dkim
        if one.word in ("pass", "temperror") and one.domain
    ]
    return list(dict.fromkeys(found))


async def _timely(
    walker: Walker, author: str, identifiers: Sequence[_Identifier], dice: float, patience: float
) -> Result:
    try:
        async with asyncio.timeout(patience):
            return await _author(walker, author, identifiers, dice)
    except TimeoutError:
        return Result("temperror", author, because=(f"the DNS took longer than {patience:g} s",))


async def _author(walker: Walker, author: str, identifiers: Sequence[_Identifier], dice: float) -> Result:
    """The result for one domain of From."""
    domain = parse_domain(author, utf8=True)
    if domain is None:
        return Result("permerror", author, because=(f"{author[:80]!r} in From is not the name of a domain",))
    if domain.startswith("["):
        return Result("none", domain, because=(f"{domain} in From is an address, which has no record",))
    walk: Walk | None = None
    try:
        found = await walker.at(domain)
        if found is None:
            walk = await walker.walk(domain)
            if walk.failure:
                return await _unknown(walker, domain, walk.failure)
            found = walk.policy
    except Unavailable as error:
        return await _unknown(walker, domain, str(error))
    if found is None:
        organization = walk.organization if walk is not None else domain
        return Result("none", domain, organization=organization, because=(f"there is no DMARC record for {domain}",))
    return await _Evaluation(walker, domain, found, walk, identifiers).result(dice)


async def _unknown(walker: Walker, domain: str, why: str) -> Result:
    """The record could not be looked up. What the nearest domain above asks for, which does answer, is told with it:
    anybody may write as of a name whose servers are down, below a domain that has its mail refused."""
    above = await walker.above(domain)
    if above is None or not above.record.usable:
        return Result("temperror", domain, because=(why,))
    policy = above.record.policy(True)
    return Result(
        "temperror",
        domain,
        policy,
        policy_domain=above.domain,
        record=above.text,
        because=(why, f"{above.domain} asks for {policy} for names below it"),
        published=above.record,
    )


class _Evaluation:
    """One author whose record is found."""

    def __init__(
        self, walker: Walker, domain: str, found: Found, walk: Walk | None, identifiers: Sequence[_Identifier]
    ) -> None:
        self._walker = walker
        self._domain = domain
        self._found = found
        self._record = found.record
        self._walk = walk  # of the author, once it is needed
        self._identifiers = identifiers
        self._open = ""  # why something that counts is not known
        self.because: list[str] = []

    async def result(self, dice: float) -> Result:
        record, domain, where = self._record, self._domain, self._found.domain
        inherited = where != domain
        self.because.append(f"the record of {where} applies" + (f" to {domain}" if inherited else ""))
        self.because += [f"its record: {mistake}" for mistake in record.mistakes[:10]]
        said = Result(
            "permerror",
            domain,
            policy_domain=where,
            organization=self._walk.organization if self._walk is not None else domain,
            record=self._found.text,
            published=record,
        )
        if not record.usable:
            self.because.append("it has no valid policy and asks for no reports: it says nothing")
            return said._replace(because=tuple(self.because))
        aligned: set[str]
        policy: Policy
        if record.policy(inherited) == record.policy(inherited, exists=False):  # which is usual: no tasks for it
            aligned, policy = await self._aligned(), record.policy(inherited)
        else:
            aligned, policy = await asyncio.gather(self._aligned(), self._existing_or_not())
        passed = bool(aligned)
        word: Word = "pass" if passed else "temperror" if self._open else "fail"
        if self._open and not passed:
            self.because.append(self._open)
        disposition, override = self._disposition(policy, dice) if word == "fail" else ("none", "")
        return said._replace(
            word=word,
            policy=policy,
            disposition=disposition,
            organization=self._walk.organization if self._walk is not None else domain,
            aligned_spf="SPF" in aligned,
            aligned_dkim="DKIM" in aligned,
            because=tuple(self.because),
            rua=tuple(one.uri for one in record.rua),
            ruf=tuple(one.uri for one in record.ruf),
            override=override,
        )

    def _disposition(
        self, policy: Policy, dice: float
    ) -> tuple[Policy, Literal["", "policy_test_mode", "sampled_out"]]:
        """What is left of a policy (RFC 9989 section 4.7, t; RFC 7489 section 6.6.4)."""
        self.because.append(f"no domain that SPF or DKIM proves belongs to {self._domain}: it asks for {policy}")
        milder = _MILDER[policy]
        if milder == policy:
            return policy, ""
        if self._record.testing:
            self.because.append(f"the domain only tests: {milder} in place of {policy}")
            return milder, "policy_test_mode"
        if dice * 100 >= self._record.percent:
            self.because.append(
                f"pct={self._record.percent} and this is one of the others: {milder} in place of {policy}"
            )
            return milder, "sampled_out"
        return policy, ""

    async def _existing_or_not(self) -> Policy:
        """The policy for a name below the record's, which may not exist (np). RFC 9989 section 4.10.1."""
        policy, absent = self._record.policy(True), self._record.policy(True, exists=False)
        try:
            exists = await self._exists()
        except Unavailable as error:
            self._open = self._open or f"whether {self._domain} exists is not known: {error}"
            return min(policy, absent, key=_STRENGTH.__getitem__)
        if not exists:
            self.because.append(f"the name {self._domain} does not exist: np={absent} applies")
        return policy if exists else absent

    async def _exists(self) -> bool:
        """Whether the author's name is in the DNS at all: only NXDOMAIN says that it is not (RFC 9989 appendix A.4). A
        question for CNAME follows no alias, whose target may be gone."""
        if self._domain not in self._walker.missing:
            return True  # there is something below it
        kinds = ("CNAME", "A")
        answers = await side_by_side(self._walker.resolver, [(self._domain, kind) for kind in kinds])
        for kind, answer in zip(kinds, answers, strict=True):
            self._walker.lookups.append(lookup_of(self._domain, kind, answer))
        if any(isinstance(answer, Answer) for answer in answers):
            return True
        for answer in answers:
            if isinstance(answer, Unavailable):
                raise answer
        return False

    async def _aligned(self) -> set[str]:
        """Which of SPF and DKIM proved a domain that belongs to the author (RFC 9989 section 4.10.2)."""
        aligned: set[str] = set()
        relaxed: list[_Identifier] = []
        for one in self._identifiers:
            strict = self._record.strict_spf if one.what == "SPF" else self._record.strict_dkim
            if one.domain == self._domain:
                self._judge(aligned, one, "it is the domain of From")
            elif strict:
                self._refuse(one, "the record wants the very domain of From")
            elif one.domain.rpartition(".")[2] != self._domain.rpartition(".")[2]:
                self._refuse(one, "it is of another organization")
            elif parse_domain(one.domain) is not None:
                relaxed.append(one)
        if relaxed:
            await self._compare(aligned, relaxed)
        return aligned

    async def _compare(self, aligned: set[str], identifiers: Sequence[_Identifier]) -> None:
        """Relaxed alignment of domains that are not that of From."""
        if self._walk is None:
            self._walk = await self._walker.walk(self._domain)
        own = self._walk
        top = own.organization if not own.failure else registrable(self._domain)
        under = [one for one in identifiers if f".{one.domain}".endswith(f".{top}")]
        under.sort(key=lambda one: not one.passed)  # what is not known only counts if nothing passed
        domains = list(dict.fromkeys(one.domain for one in under))[:MAX_DOMAINS]
        if own.failure:
            walks = [own] * len(domains)
        else:
            await self._walker.ask(name for domain in domains for name in names(domain))  # all side by side
            walks = [await self._walker.walk(domain) for domain in domains]
        found = dict(zip(domains, walks, strict=True))
        for one in identifiers:
            walk = found.get(one.domain)
            if walk is None:
                many = f"more than {MAX_DOMAINS} such domains are not looked at"
                self._refuse(one, many if one in under else f"it is not of the organization {top}")
            elif walk.failure:
                self._open = (
                    self._open or f"whether {one.domain} is of the same organization is not known: {walk.failure}"
                )
            elif walk.organization != own.organization:
                self._refuse(one, f"it is of the organization {walk.organization}, and From of {own.organization}")
            else:
                self._judge(aligned, one, f"it is of the organization {own.organization}, as From is")

    def _judge(self, aligned: set[str], one: _Identifier, why: str) -> None:
        if one.passed:
            aligned.add(one.what)
            self.because.append(f"{one.what} proves {one.domain}, and {why}")
        else:
            self._open = self._open or f"{one.what} for {one.domain} could not be checked, and {why}"

    def _refuse(self, one: _Identifier, why: str) -> None:
        if one.passed:
            self.because.append(f"{one.what} proves {one.domain}, but {why}")

"""Everything that can be known about who sent a message, in one `Verdict`: SPF of both identities, DKIM, ARC, the name
of the client, then DMARC, and with it the indicator of the domain (BIMI).

`Check` takes a message in the pieces in which it comes; `Authenticator` asks the DNS, side by side, when it is there.
What follows from a verdict is `policy.py`, how it is written down `verdict_fields.py` and `verdict_trace.py`.

A DNS that is down costs mail a bounded time and nothing else: all questions about one message share `patience`, and
when message after message had no answer at all, the next ones wait for `HURRIED` only, until one is answered again. So
many messages ask at one time, and so many of one client; the others wait for their turn, as long as their patience
lasts. Nothing raises for what a peer or the DNS says.
"""

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address
from types import MappingProxyType
from typing import NamedTuple, TypeVar
from weakref import WeakValueDictionary

from posthouse.base.clock import Clock
from posthouse.base.networks import site
from posthouse.base.settings import Settings
from posthouse.mime import header as headers
from posthouse.net.dns import Answer, NoSuchDomain, Resolver, Unavailable
from posthouse.senderauth import arc, bimi, dkim, dmarc, iprev, spf
from posthouse.senderauth.arc import Chain
from posthouse.senderauth.bimi import Indicator
from posthouse.senderauth.dkim import Result as DkimResult
from posthouse.senderauth.dmarc import Result as DmarcResult
from posthouse.senderauth.iprev import Iprev
from posthouse.senderauth.questions import Asked
from posthouse.senderauth.spf import Result as SpfResult
from posthouse.wire.address import parse_domain

MOST = 200  # messages that ask the DNS at one time: its resolver has to serve others, too
SHARE = 40  # of one client: domains whose name servers are silent must not keep everybody else from asking
QUESTIONS = 150  # on their way at one time, of the 200 that a resolver has on its way: mail that goes out asks, too
QUESTIONS_SHARE = 40  # of one client
SILENT, HURRIED = 10, 2.0  # messages in a row without any answer, and the seconds that the next ones then wait
LEAST = 1.0  # seconds for what is asked when the rest is known, however long that took

T = TypeVar("T")
# By name and kind: the answer, or why there is none
Seen = Mapping[tuple[str, str], Answer | str]


class Client(NamedTuple):
    """Who brought a message, and what it said."""

    ip: str  # a text that is no address: it is not known
    hello: str
    sender: str  # the reverse-path; "" for the null one


class Verdict(NamedTuple):
    """What is known about who sent a message."""

    client: Client
    authors: tuple[str, ...] = ()  # the domains of From
    helo: SpfResult | None = None  # None here and below: it was not looked at
    mail_from: SpfResult | None = None
    dkim: tuple[DkimResult, ...] = ()
    arc: Chain | None = None
    iprev: Iprev | None = None
    dmarc: DmarcResult | None = None
    bimi: Indicator | None = None
    seen: Seen = MappingProxyType({})  # everything the DNS was asked
    had_turn: bool = True  # False: not all was asked, as too many messages or questions waited for the DNS

    @property
    def spf(self) -> tuple[SpfResult, ...]:
        """The results of SPF that there are."""
        return tuple([one for one in (self.mail_from, self.helo) if one is not None])

    @property
    def spf_word(self) -> str:
        """What SPF says of the sender; of the null one, of the greeting. "" if it was not looked at."""
        found = self.mail_from or self.helo
        return found.result if found is not None else ""

    @property
    def dkim_word(self) -> str:
        """The best of all signatures, "none" without any."""
        return next((one.word for one in self.dkim if one.word == "pass"), self.dkim[0].word if self.dkim else "none")

    @property
    def dmarc_word(self) -> str:
        """What DMARC says; "" if it was not looked at."""
        return self.dmarc.word if self.dmarc is not None else ""


class Check:
    """One message that comes in pieces: `feed` each, as it came, then let `Authenticator.verify` finish it."""

    def __init__(self) -> None:
        self._head: bytearray | None = bytearray()  # until the header is whole
        self.header = b""
        self.is_too_long = False  # the header: there may be fields that are not looked at
        self.authors: tuple[str, ...] = ()
        self.claims_nobody = False  # its From is that of an old server's bounce, and no trick
        self.dkim: dkim.Verifier | None = None
        self.arc: arc.Verifier | None = None

    def feed(self, data: bytes) -> None:
        """The next piece."""
        if self._head is None:
            assert self.dkim is not None
            assert self.arc is not None
            self.dkim.feed(data)
            self.arc.feed(data)
            return
        seen = max(0, len(self._head) - 3)  # an empty line may have begun there
        self._head += data
        found = headers.body_start(self._head, seen)
        if found >= 0:
            head = bytes(self._head)
            self._begin(head[:found])
            self.feed(head[found:])
        elif len(self._head) > dkim.MAX_HEADER:
            self._begin(bytes(self._head))  # too long for a signature: its body is of no interest

    def end(self) -> None:
        """No piece follows."""
        if self._head is not None:
            self._begin(bytes(self._head))

    def _begin(self, header: bytes) -> None:
        self._head = None
        self.header = header
        self.is_too_long = len(header) > dkim.MAX_HEADER
        self.authors = dmarc.author_domains(header)
        if self.is_too_long:
            self.authors = (*self.authors[: dmarc.MAX_AUTHORS], dmarc.MORE)
        self.claims_nobody = not self.authors and dmarc.claims_nobody(header)
        self.dkim, self.arc = dkim.Verifier(header), arc.Verifier(header)


class _Share:
    """What one client may take of the time of the DNS."""

    def __init__(self) -> None:
        self.turn = asyncio.Semaphore(SHARE)  # messages
        self.questions = asyncio.Semaphore(QUESTIONS_SHARE)


class Authenticator:
    """Verifies for one server. `chance` gives numbers from 0 to 1, for the sampling of DMARC."""

    def __init__(
        self, settings: Settings, resolver: Resolver, clock: Clock, chance: Callable[[], float] = random.random
    ) -> None:
        self.settings = settings.authentication
        self.authserv_id = self.settings.authserv_id or settings.hostname
        self._hostname = settings.hostname
        self._resolver = resolver
        self._clock = clock
        self._chance = chance
        self._turn = asyncio.Semaphore(MOST)
        self._questions = asyncio.Semaphore(QUESTIONS)
        self._shares: WeakValueDictionary[str, _Share] = WeakValueDictionary()  # by client, while it asks
        self._silent = 0  # messages in a row to whose questions nobody had an answer

    async def verify(self, check: Check, client: Client) -> Verdict:
        """The verdict on a message that is here whole."""
        check.end()
        now = asyncio.get_running_loop().time()
        deadline = now + (self.settings.patience if self._silent < SILENT else HURRIED)
        share = self._share(client.ip)
        try:
            async with asyncio.timeout_at(deadline):
                await share.turn.acquire()
                try:
                    await self._turn.acquire()
                except BaseException:
                    share.turn.release()
                    raise
        except TimeoutError:
            return (await self._ask(check, client, Asked(self._resolver, None), LEAST))._replace(had_turn=False)
        try:
            asked = Asked(self._resolver, deadline, (share.questions, self._questions))
            verdict = await self._ask(check, client, asked, deadline - now)
            verdict = verdict._replace(had_turn=asked.had_turn)
        finally:
            self._turn.release()
            share.turn.release()
        if asked.has_answers:
            self._silent = 0
        elif asyncio.get_running_loop().time() - now > HURRIED * 0.9:
            self._silent += 1
        return verdict

    def _share(self, ip: str) -> _Share:
        try:
            client = site(ip)
        except ValueError:
            client = ip
        share = self._shares.get(client)
        if share is None:
            share = self._shares[client] = _Share()
        return share

    async def _ask(self, check: Check, client: Client, asked: Asked, patience: float) -> Verdict:
        assert check.dkim is not None
        assert check.arc is not None
        authors = check.authors
        now = self._clock.now()
        seconds = now // 1_000_000
        address = _address(client.ip)
        dkim_, arc_ = check.dkim, check.arc
        # What the cache knows needs no tasks; they cost as much as SPF and DMARC together.
        mail_from = await asked.from_cache(lambda dns: self._mail_from(dns, address, client, now, patience))
        helo = await asked.from_cache(lambda dns: self._helo(dns, address, client, now, patience))
        name = await asked.from_cache(lambda dns: self._iprev(dns, address))
        signatures = await dkim_.finish(asked.txt, seconds) if asked.knows(dkim_.records) else None
        chain = await arc_.finish(asked.txt, seconds) if not arc_.exists else None
        if None in (helo, name, signatures, chain) or (mail_from is None and client.sender):
            mail_from, helo, name, signatures, chain, _ = await asyncio.gather(
                _either(mail_from, lambda: self._mail_from(asked, address, client, now, patience)),
                _either(helo, lambda: self._helo(asked, address, client, now, patience)),
                _either(name, lambda: self._iprev(asked, address)),
                _either(signatures, lambda: dkim_.finish(asked.txt, seconds)),
                _either(chain, lambda: arc_.finish(asked.txt, seconds)),
                _prefetch(asked, authors),
            )
        assert signatures is not None
        asked.extend(asyncio.get_running_loop().time() + LEAST)
        verdict = Verdict(client, authors, helo, mail_from, tuple(signatures), chain, name)
        judged = await dmarc.evaluate(
            asked,
            authors,
            verdict.spf,
            signatures,
            dice=self._chance(),
            patience=max(LEAST, patience),
            nobody=check.claims_nobody and not client.sender,
        )
        indicator = await bimi.find(asked, judged, check.header) if judged.word == "pass" else None
        return verdict._replace(dmarc=judged, bimi=indicator, seen=asked.seen)

    async def _mail_from(
        self, asked: Asked, address: IPv4Address | IPv6Address | None, client: Client, now: int, patience: float
    ) -> SpfResult | None:
        if address is None or not client.sender:
            return None
        return await spf.check_mail_from(
            asked, address, client.hello, client.sender, receiver=self._hostname, now=now, patience=patience
        )

    async def _helo(
        self, asked: Asked, address: IPv4Address | IPv6Address | None, client: Client, now: int, patience: float
    ) -> SpfResult | None:
        if address is None:
            return None
        return await spf.check_helo(asked, address, client.hello, receiver=self._hostname, now=now, patience=patience)

    async def _iprev(self, asked: Asked, address: IPv4Address | IPv6Address | None) -> Iprev | None:
        return await iprev.check(asked, address) if address is not None else None


async def _either(known: T | None, work: Callable[[], Awaitable[T | None]]) -> T | None:
    """What is known, else what comes of work."""
    return known if known is not None else await work()


async def _prefetch(asked: Asked, authors: Sequence[str]) -> None:
    """Ask for the policy while all else is asked for: the resolver keeps the answer for `dmarc.evaluate`."""
    if len(authors) == 1 and parse_domain(authors[0]) is not None:
        with contextlib.suppress(NoSuchDomain, Unavailable):
            await asked.txt(f"_dmarc.{authors[0]}")


def _address(ip: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(ip.partition("%")[0])
    except ValueError:
        return None
    return None if address.is_unspecified else address  # what a proxy says that does not know it

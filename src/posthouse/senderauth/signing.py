"""Who signs a message: the keys of the domain in its From field, and the DKIM-Signature fields they make.

A key signs if it is in use and the DNS has its record. Without a key a message goes unsigned, as a signature whose key
nobody finds proves nothing (RFC 6376 section 6.1 has verifiers treat it as none), while filters and DMARC reports count
it as one that failed: no signature is the better one. `signing.sign` says so otherwise.

The key must be of the very domain in From: others may own what is above or below it. Only in the name of this host,
which writes bounces and reports, the domain above it signs too (relaxed alignment, RFC 9989 section 3.2.10.1). Messages
of others that aliases pass on are sealed (ARC) by the domain of the alias, with the same keys.

Keys are kept ready for `REMEMBERED` domains and dropped when they change. Nothing here raises for what a message says:
it is not signed then, and `Hand.why` or the log tell the reason.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from posthouse.base.clock import Clock
from posthouse.base.errors import Permanent
from posthouse.base.log import Logger
from posthouse.base.signing_settings import Signing as Settings
from posthouse.mime import addresses
from posthouse.mime import header as headers
from posthouse.senderauth import arc_fields, dkim, own_keys
from posthouse.senderauth.arc import Sealer
from posthouse.senderauth.arc_fields import Status
from posthouse.senderauth.dkim import Signer
from posthouse.senderauth.dkim_canon import BodyHash, Canon
from posthouse.store import accounts, dkim_keys
from posthouse.store.database import Database, Tx
from posthouse.store.dkim_keys import DkimKey
from posthouse.store.feed import ChangeFeed
from posthouse.store.model import Change, DirectoryChanged, SigningKeysChanged
from posthouse.wire.address import parse_domain

REMEMBERED = 2000  # domains
MOST_FROM = 16 * 1024  # octets of a From field that is looked at
BODY: Canon = "relaxed"  # the canonical form of bodies in our signatures
_NAME = b"dkim-signature"
_SEALS = (b"arc-seal", b"arc-message-signature", b"arc-authentication-results")


class Hand(NamedTuple):
    """Those who sign for a domain; without any, why."""

    signers: tuple[Signer, ...] = ()
    why: str = ""  # "" if the domain is not ours


class Signed(NamedTuple):
    """What came of it."""

    fields: bytes = b""  # to be put before the header
    facts: Mapping[str, Any] = {}  # for the trace


NOTHING = Signed()


def author_domain(values: list[bytes]) -> str:
    """The domain that signs for a message with these From fields: that of its author, as A-labels. "": there is none,
    or it is not clear who that is."""
    if len(values) != 1 or len(values[0]) > MOST_FROM:
        return ""
    found = addresses.addresses(values[0])
    if not found:
        return ""
    domain = parse_domain(found[0].domain.decode("utf-8", "replace"), True) or ""
    return "" if domain.startswith("[") else domain


class Signing:
    """Signs messages of our own domains."""

    def __init__(
        self, database: Database, feed: ChangeFeed, clock: Clock, log: Logger, settings: Settings, hostname: str
    ) -> None:
        self._database = database
        self._clock = clock
        self._log = log
        self._settings = settings
        self._hostname = hostname
        self._known: dict[str, Hand] = {}
        self._generation = 0
        feed.subscribe(0, self._on_change)

    def _on_change(self, changes: list[Change]) -> None:
        if any(isinstance(change, SigningKeysChanged | DirectoryChanged) for change in changes):
            self.forget()

    def forget(self) -> None:
        """Drop what is remembered: it may have changed."""
        self._known = {}
        self._generation += 1

    def may_sign(self, domain: str) -> bool:
        """False only if it is certain that nobody signs for a domain. May be asked on any thread."""
        if not domain or self._settings.sign == "never":
            return False
        known = self._known.get(domain)
        return known is None or bool(known.signers)

    async def hand(self, domain: str) -> Hand:
        """Who signs for a domain."""
        if not domain or self._settings.sign == "never":
            return Hand()
        known = self._known.get(domain)
        if known is not None:
            return known
        generation = self._generation
        made = await self._database.read(self._looked_up, domain)
        if generation == self._generation:
            if len(self._known) >= REMEMBERED:
                self._known = {}
            self._known[domain] = made
        return made

    def _looked_up(self, tx: Tx, domain: str) -> Hand:
        names = [domain]
        if domain == self._hostname:
            labels = domain.split(".")
            names += [".".join(labels[number:]) for number in range(1, len(labels) - 1)]
        ours = [name for name in names if accounts.is_ours(tx, name)]
        if not ours:
            return Hand()
        keys = dkim_keys.of_domain(tx, ours[0])
        chosen = [key for algorithm in self._settings.algorithms if (key := self._choose(keys, algorithm)) is not None]
        signers = []
        for key in chosen:
            try:
                signers.append(Signer(key.domain, key.selector, own_keys.loaded(key.private), "relaxed", BODY))
            except ValueError as error:
                self._log.error("dkim.failed", domain=key.domain, selector=key.selector, error=repr(error))
        why = "" if signers else f"the DNS has no key of {ours[0]}" if keys else f"{ours[0]} has no keys yet"
        return Hand(tuple(signers), why)

    def _choose(self, keys: list[DkimKey], algorithm: str) -> DkimKey | None:
        """The key that signs: one in use, else one that was, as long as the DNS has it; the newest first."""
        usable = [key for key in keys if key.algorithm == algorithm and key.private]
        if self._settings.sign == "always":
            return next((key for key in usable if key.state != "retiring"), None)
        return next((key for key in usable if key.seen and key.state != "announced"), None)

    async def sign(self, domain: str, header: bytes, body: BodyHash) -> Signed:
        """The signatures of a message whose author is of `domain`; `body` was fed its body, in the form `BODY`.
        `header` is all of it, with what goes on top of it."""
        hand = await self.hand(domain)
        if not hand.signers:
            return Signed(facts={"unsigned": hand.why}) if hand.why else NOTHING
        now = self._clock.now() // 1_000_000
        try:
            # The RSA part does not hold the interpreter: another core can do it.
            fields = await self._database.work(dkim.signatures, header, hand.signers, {BODY: body}, now)
        except Permanent as error:
            return Signed(facts={"unsigned": str(error)})
        facts = [{"d": one.domain, "s": one.selector, "a": one.algorithm} for one in hand.signers]
        return Signed(fields, {"signed": facts})

    async def seal(
        self, domains: Iterable[str], header: bytes, body: BodyHash, cv: Status, results: Sequence[str]
    ) -> Signed:
        """The fields of ARC for a message that goes on by an alias of one of these domains, the first that signs.

        `header` is all of it as it leaves us, `body` was fed its body in the form `BODY`, `cv` is what its chain was
        worth when it came, `results` what we saw (`authres.pieces`).
        """
        for domain in domains:
            signers = (await self.hand(domain)).signers
            if not signers:
                continue
            # RSA, where there is both: others may not know Ed25519 yet, and a chain that cannot be read has failed.
            chosen = next((one for one in signers if one.algorithm == "rsa-sha256"), signers[0])
            sealer = Sealer(chosen.domain, chosen.selector, chosen.key)
            now = self._clock.now() // 1_000_000
            try:
                fields = await self._database.work(sealer.fields, header, body, cv, results, now)
            except Permanent as error:
                return Signed(facts={"unsealed": str(error)})
            if not fields:
                return Signed(facts={"unsealed": "its last seal says that the chain is broken"})
            return Signed(fields, {"sealed": {"d": chosen.domain, "s": chosen.selector, "cv": cv}})
        return NOTHING

    async def sign_message(self, message: bytes, prefix: bytes = b"") -> Signed:
        """The same for a message that is at hand whole; `prefix` are further fields on top of its header."""
        header, content = dkim.split(message)
        domain = author_domain(headers.find_all(header, b"From"))
        if not self.may_sign(domain):
            hand = await self.hand(domain)
            return Signed(facts={"unsigned": hand.why}) if hand.why else NOTHING
        body = BodyHash(BODY)
        await self._database.work(body.feed, content)
        return await self.sign(domain, prefix + header, body)

    async def signed_again(self, message: bytes, before: bytes) -> bytes:
        """A message that was changed on its way out, with new signatures and a new seal on top, where `before` has
        some: the fields that we had put before it. `without_signatures` took the old ones."""
        if headers.find(before, _NAME) is not None:
            message = (await self.sign_message(message)).fields + message
        sealed = arc_fields.newest(before)
        if sealed is None:
            return message
        said, results = sealed
        header, content = dkim.split(message)
        body = BodyHash(BODY)
        await self._database.work(body.feed, content)
        # What was seen when it came is still true; only what was signed is another.
        return (await self.seal([said.domain], header, body, said.cv, [results])).fields + message


def has_signatures(prefix: bytes) -> bool:
    """Whether the fields that we put before a message have signatures or seals. Those further below are not ours to
    change."""
    return bool(headers.find_many(prefix, (_NAME, *_SEALS)))


def without_signatures(prefix: bytes) -> bytes:
    """The fields that we put before a message without the signatures and seals."""
    return headers.select(prefix, [_NAME, *_SEALS], invert=True).removesuffix(b"\r\n")

"""BIMI (draft-brand-indicators-for-message-identification): which indicator does a domain want shown beside its mail?

`find` looks for the record of a message that passed DMARC with a policy that is meant; what comes out is a value with
the addresses of the indicator and of its evidence, for whoever shows mail. Nothing is fetched here, so nothing is
proved either: that an image is one and that a mark belongs to the domain is for whoever fetches it. Local-part
selectors (lps=) are not followed.

It raises nothing for what a message or the DNS says.
"""

import asyncio
import re
from typing import Literal, NamedTuple
from urllib.parse import urlsplit

from posthouse.mime import header as headers
from posthouse.mime.addresses import Group, address_list
from posthouse.net.dns import NoSuchDomain, Resolver, Unavailable, side_by_side
from posthouse.senderauth import dmarc
from posthouse.senderauth.dmarc_record import Record
from posthouse.senderauth.organization import Walk, Walker, lookup_of, text_of
from posthouse.senderauth.spf import Lookup
from posthouse.wire.address import parse_domain

MAX_RECORD = 4_096  # octets
MAX_TAGS = 32
MAX_URI = 2_000
MAX_RECORDS = 50
MAX_SELECTOR = 1_024  # octets of a BIMI-Selector field
PATIENCE = 10.0  # seconds for everything

# "found" is ours: "pass" of the draft's section 7.7 would say that the indicator was fetched and is valid.
Word = Literal["found", "declined", "none", "fail", "temperror", "skipped"]

_version = re.compile(rb"v[ \t]*=[ \t]*BIMI1[ \t]*(?:;|\Z)").match
_selector = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)*\Z").match
_uri = re.compile(r"https://[A-Za-z0-9._~:/?#\[\]@!$&'()*+;=%-]+\Z", re.IGNORECASE).match
_other_image = re.compile(r"\.(?:png|jpe?g|gif|webp|bmp|ico|tiff?|avif)\Z", re.IGNORECASE).search


class Indicator(NamedTuple):
    """What BIMI says about a message."""

    word: Word
    domain: str = ""  # whose record it is
    selector: str = ""
    location: str = ""  # l=: an SVG image
    evidence: str = ""  # a=: a certificate of the mark; "" if there is none
    preference: Literal["brand", "personal"] = "brand"  # avp=: what to show where the sender has a picture
    record: str = ""  # its text, cut
    because: str = ""  # a sentence
    lookups: tuple[Lookup, ...] = ()


class Assertion(NamedTuple):
    """A BIMI record that can be read."""

    location: str
    evidence: str
    preference: Literal["brand", "personal"]


async def find(resolver: Resolver, evaluated: dmarc.Result, header: bytes, *, patience: float = PATIENCE) -> Indicator:
    """The indicator for a message that DMARC was evaluated for (sections 7.1 and 7.2 of the draft)."""
    reason = _unfit(evaluated, header)
    if reason:
        return Indicator("skipped", because=reason)
    lookups: list[Lookup] = []
    try:
        async with asyncio.timeout(patience):
            walker = Walker(resolver)
            walk = await walker.walk(evaluated.domain)
            lookups = walker.lookups
            reason = _lax(evaluated, walk)
            found = Indicator("skipped", because=reason) if reason else await _look(resolver, walk, header, lookups)
    except TimeoutError:
        found = Indicator("temperror", because=f"the DNS took longer than {patience:g} s")
    return found._replace(lookups=tuple(lookups))


def _unfit(evaluated: dmarc.Result, header: bytes) -> str:
    """Why BIMI is not for this message."""
    if evaluated.word != "pass":
        return f"DMARC says {evaluated.word}"
    fields = headers.find_all(header, b"from")
    listed = address_list(fields[0][: dmarc.MAX_FROM], 2) if len(fields) == 1 else []
    if evaluated.authors != 1 or len(listed) != 1 or isinstance(listed[0], Group):
        return "there is not exactly one address in From"
    return ""


def _lax(evaluated: dmarc.Result, walk: Walk) -> str:
    """Why the policies of the author and its organization are not good enough."""
    if walk.failure:
        return f"the policy of the organization is not known: {walk.failure}"
    records: dict[str, Record] = {one.domain: one.record for one in walk.found if one.domain == walk.organization}
    if evaluated.published is not None:
        records[evaluated.policy_domain] = evaluated.published
    for domain, record in records.items():
        if not record.usable or record.policy(False) == "none" or record.policy(True) == "none":
            return f"the DMARC policy of {domain} is none"
        if record.testing or record.percent != 100:
            return f"the DMARC policy of {domain} is not meant for all messages"
    return ""


async def _look(resolver: Resolver, walk: Walk, header: bytes, lookups: list[Lookup]) -> Indicator:
    selector = selector_of(header)
    domains = list(dict.fromkeys((walk.start, walk.organization)))
    # Side by side: most senders have no record of their own, and that of the organization is wanted next.
    questions = [(f"{selector}._bimi.{domain}", "TXT") for domain in domains]
    answers = await side_by_side(resolver, questions)
    lookups += [lookup_of(*question, answer) for question, answer in zip(questions, answers, strict=True)]
    for domain, answer in zip(domains, answers, strict=True):
        if isinstance(answer, Unavailable):
            return Indicator("temperror", domain, selector, because=str(answer))
        if isinstance(answer, NoSuchDomain):
            continue
        records = [value for value in answer.values[:MAX_RECORDS] if _version(value)]
        if len(records) > 1:
            return Indicator("fail", domain, selector, because=f"{domain} has {len(records)} BIMI records")
        if records:
            return _read(domain, selector, records[0])
    return Indicator("none", selector=selector, because=f"there is no BIMI record for {walk.start}")


def _read(domain: str, selector: str, value: bytes) -> Indicator:
    said = parse(value)
    found = Indicator("fail", domain, selector, record=text_of(value))
    if isinstance(said, str):
        return found._replace(because=said)
    if not said.location and not said.evidence:
        return found._replace(word="declined", because=f"{domain} wants no indicator shown")
    return found._replace(word="found", location=said.location, evidence=said.evidence, preference=said.preference)


def selector_of(header: bytes) -> str:
    """The selector that a message names, else "default". A BIMI-Selector field that cannot be read counts as none
    (section 5.1), as do several, of which anybody may have added one."""
    fields = headers.find_all(header, b"bimi-selector")
    if len(fields) != 1 or len(fields[0]) > MAX_SELECTOR or not _version(fields[0].strip()):
        return "default"
    tags = _tags(fields[0].decode("ascii", "replace"))
    selector = tags.get("s", "").lower() if tags is not None else ""
    return selector if len(selector) <= 200 and _selector(selector) else "default"


def parse(value: bytes) -> Assertion | str:
    """Read a record that begins with v=BIMI1 (section 4.3), or say what is wrong: nothing is to be guessed."""
    if len(value) > MAX_RECORD:
        return f"the record is longer than {MAX_RECORD} octets"
    tags = _tags(value.decode("ascii", "replace"))
    if tags is None:
        return "the record is not a list of tags, each once"
    if "l" not in tags:
        return "the record has no l="
    for name in ("l", "a"):
        if tags.get(name) and not _is_address(tags[name]):
            return f"{name}= is not the address of a document with https"
    if _other_image(urlsplit(tags["l"]).path):
        return "l= is not an SVG image"
    return Assertion(tags["l"], tags.get("a", ""), "personal" if tags.get("avp") == "personal" else "brand")


def _tags(text: str) -> dict[str, str] | None:
    pieces = text.split(";", MAX_TAGS)
    if len(pieces) > MAX_TAGS:
        return None
    tags: dict[str, str] = {}
    for piece in pieces:
        name, equals, said = piece.partition("=")
        name = name.strip()
        if not name and not equals:
            continue  # the last one, behind its semicolon
        if not equals or not name.isalnum() or name in tags:
            return None
        tags[name] = said.strip()
    return tags


def _is_address(uri: str) -> bool:
    if len(uri) > MAX_URI or not _uri(uri):
        return False
    try:
        host = urlsplit(uri)
        name, _ = host.hostname or "", host.port
    except ValueError:
        return False
    return "@" not in host.netloc and "." in name and parse_domain(name) is not None and not name[-1].isdigit()

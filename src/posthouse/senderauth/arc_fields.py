"""What the fields of an ARC chain say (RFC 8617 section 4), and whether they are a chain at all. Pure.

`read` finds the sets of a header. What is wrong is a sentence in the `Reading`; nothing raises. There are at most 50
sets, and what is hostile in a field is bounded by `dkim_tags` and `authres`.
"""

import re
from typing import Literal, NamedTuple

from posthouse.mime import header as headers
from posthouse.senderauth import authres, dkim_tags
from posthouse.senderauth.authres import Results
from posthouse.senderauth.dkim_header import Header
from posthouse.senderauth.dkim_tags import Fault, Signature

AAR, AMS, AS = "ARC-Authentication-Results", "ARC-Message-Signature", "ARC-Seal"
MAX_SETS = 50  # RFC 8617 section 4.2.1

Status = Literal["none", "pass", "fail"]  # chain-status of section 3.9
_STATUS: dict[bytes, Status] = {b"none": "none", b"pass": "pass", b"fail": "fail"}
_NAMES = tuple(name.lower().encode() for name in (AAR, AMS, AS))
# position = 1*2DIGIT  (section 3.9)
_position = re.compile(rb"\d{1,2}").fullmatch
_instance = re.compile(r"i\s*=\s*(\d{1,2})", re.A).fullmatch


class Seal(NamedTuple):
    """An ARC-Seal that can be read. RFC 8617 section 4.1.3."""

    domain: str
    selector: str
    algorithm: str
    cv: Status
    signed: int | None  # t=
    signature: bytes

    @property
    def record(self) -> str:
        """The name of the key record."""
        return f"{self.selector}._domainkey.{self.domain}"


class Set(NamedTuple):
    """The three fields of one sealer: their numbers in the header, and what they say."""

    instance: int
    aar: int
    ams: int
    seal: int
    results: Results
    message: Signature | Fault
    said: Seal


class Reading(NamedTuple):
    """The chain of a header. Its sets are all there, and in order, if `wrong` is empty."""

    sets: tuple[Set, ...] = ()
    wrong: str = ""
    highest: int = 0  # instance; MAX_SETS if there are too many fields
    ended: bool = False  # the newest seal says that the chain has failed: nothing more may be added

    @property
    def exists(self) -> bool:
        """Whether there is any field of ARC."""
        return bool(self.sets or self.wrong)


def read(header: Header) -> Reading:
    """Find the sets, and check their structure. RFC 8617 section 5.2, steps 1 to 3."""
    numbers = [header.numbers(name) for name in _NAMES]
    if not any(numbers):
        return Reading()
    if any(len(some) > MAX_SETS for some in numbers):
        return Reading((), f"there are more than {MAX_SETS} sets", MAX_SETS)
    wrong = ""
    found: list[dict[int, int]] = [{}, {}, {}]  # instance -> number of the field, for each name
    tags: dict[int, dict[bytes, bytes]] = {}  # of the fields that have some, by number
    results: dict[int, Results] = {}
    for kind, name in enumerate((AAR, AMS, AS)):
        for number in numbers[kind]:
            value = header.fields[number].value
            instance: int | None
            if kind == 0:
                instance, results[number] = _results(value)
            else:
                tags[number] = _tags(value)
                instance = _number(tags[number].get(b"i", b""))
            if instance is None:
                wrong = wrong or f"{name} cannot be read, or its i= is no number from 1 to {MAX_SETS}"
            elif instance in found[kind]:
                wrong = wrong or f"there are two {name} fields with i={instance}"
            else:
                found[kind][instance] = number
    highest = max((instance for some in found for instance in some), default=0)
    newest = found[2].get(highest)
    ended = newest is not None and tags[newest].get(b"cv") == b"fail"
    if wrong or ended:
        return Reading(
            (), "the newest seal says that the chain has failed (cv=fail)" if ended else wrong, highest, ended
        )
    sets = []
    for instance in range(1, highest + 1):
        for some, name in zip(found, (AAR, AMS, AS), strict=True):
            if instance not in some:
                return Reading((), f"there is no {name} field with i={instance}", highest)
        aar, ams, seal = (some[instance] for some in found)
        said = _seal(tags[seal])
        due = "none" if instance == 1 else "pass"
        if isinstance(said, Fault):
            return Reading((), f"{AS} with i={instance}: {said.reason}", highest)
        if said.cv != due:
            return Reading((), f"{AS} with i={instance} says cv={said.cv}, and not cv={due}", highest)
        sets.append(Set(instance, aar, ams, seal, results[aar], _message(tags[ams]), said))
    return Reading(tuple(sets), "", highest)


def newest(header: bytes) -> tuple[Seal, str] | None:
    """What the uppermost set says, whatever is below it: its seal, and what was seen, on one line, our name first. For
    fields that we wrote ourselves."""
    found = headers.find_many(header, (_NAMES[0], _NAMES[2]))
    if len(found) < 2:
        return None
    said = _seal(_tags(found[_NAMES[2]]))
    _, semicolon, seen = headers.unfold(found[_NAMES[0]]).decode("utf-8", "replace").partition(";")
    return (said, seen.strip()) if semicolon and not isinstance(said, Fault) else None


def _results(value: bytes) -> tuple[int | None, Results]:
    """ARC-Authentication-Results: the instance, and what stands behind it. RFC 8617 section 4.1.1."""
    nothing = Results("", ())
    if len(value) > authres.MAX_FIELD:
        return None, nothing
    pieces = authres.split(value)
    found = _instance(authres.without_comments(pieces[0]).strip())
    if found is None or len(pieces) < 2:
        return None, nothing
    return _number(found[1].encode()), authres.read(pieces[1:]) or nothing


def _tags(value: bytes) -> dict[bytes, bytes]:
    tags = dkim_tags.tag_list(value) if len(value) <= dkim_tags.MAX_FIELD else {}
    return {} if isinstance(tags, Fault) else tags


def _number(value: bytes) -> int | None:
    number = int(value) if _position(value) else 0
    return number if 1 <= number <= MAX_SETS else None


def _message(tags: dict[bytes, bytes]) -> Signature | Fault:
    """ARC-Message-Signature: a DKIM-Signature whose v= does not count, and whose i= is the instance. RFC 8617 section
    4.1.2."""
    for name in dkim_tags.MESSAGE_TAGS:
        if name not in tags:
            return Fault("permerror", f"no {name.decode('ascii')}=")
    # RFC 8617 does not say what an absent c= means. To DKIM it means "simple", to the community's test suite "relaxed".
    said = dkim_tags.of_message({b"c": b"relaxed/relaxed"} | tags)
    if not isinstance(said, Fault) and _NAMES[2] in said.names:
        return Fault("permerror", "it signs seals, which are added later")
    return said


def _seal(tags: dict[bytes, bytes]) -> Seal | Fault:
    for name in (b"a", b"b", b"cv", b"d", b"s"):
        if name not in tags:
            return Fault("permerror", f"no {name.decode('ascii')}=")
    if b"h" in tags or b"bh" in tags:
        return Fault("permerror", "it has an h= or bh=")
    cv, own = _STATUS.get(tags[b"cv"]), dkim_tags.decoded(tags[b"b"])
    if cv is None:
        return Fault("permerror", "unknown cv=")
    if not own:
        return Fault("permerror", "b= is not base64")
    algorithm, signer, signed = dkim_tags.algorithm_of(tags), dkim_tags.signer_of(tags), dkim_tags.number_of(tags, b"t")
    if isinstance(algorithm, Fault):
        return algorithm
    if isinstance(signer, Fault):
        return signer
    if isinstance(signed, Fault):
        return signed
    return Seal(*signer, algorithm, cv, signed, own)

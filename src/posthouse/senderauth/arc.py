"""ARC (RFC 8617): verify the chain of a message that others have forwarded, and add a set to it.

`Verifier` has the shape of that for DKIM: it reads the header, takes the body in pieces, and asks for the keys at the
end by a function that is given to it. `Sealer` makes the three fields. What fields say is read by `arc_fields.py`, keys
and canonical forms are those of DKIM. A chain says who handled a message and what each of them saw; whether such a word
counts depends on who gave it, which is not decided here.

What a stranger wrote never raises. Every error is `fail` (section 5.2.1), an answer of the DNS that did not come, too;
the reason says so. `Sealer` raises `Permanent` for a message or key that it cannot use.
"""

import asyncio
import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from posthouse.base.errors import Permanent
from posthouse.senderauth import arc_fields, authres, dkim, dkim_canon, dkim_tags
from posthouse.senderauth.arc_fields import AAR, AMS, AS, MAX_SETS, Reading, Set, Status
from posthouse.senderauth.authres import Results
from posthouse.senderauth.dkim_canon import BodyHash, Canon
from posthouse.senderauth.dkim_crypto import Lookup, PrivateKey, ask_all, base64, is_signed, key_for, sign_digest
from posthouse.senderauth.dkim_header import MAX_HEADER, Header, too_large
from posthouse.senderauth.dkim_tags import Fault, Signature

_WIDTH = 76
_LONGEST = 900  # of a line; RFC 5322 section 2.1.1 allows 998

# Of all in lower case, which is much faster
_chain = re.compile(rb"\narc-(?:seal|message-signature|authentication-results)[ \t]*+:").search
# Section 4.1.2: DKIM-Signature is to be signed, Authentication-Results and the fields of ARC are not.
SIGNED = ("DKIM-Signature", *dkim.SIGNED)

Answers = dict[str, "list[bytes] | Fault"]


class Seen(NamedTuple):
    """What became of one set."""

    instance: int
    cv: str  # what its sealer said about the chain before
    sealer: str  # d= of the seal
    selector: str
    algorithm: str
    seal: Literal["", "pass", "fail"] = ""  # "" was not looked at: the chain had failed before
    signer: str = ""  # d= of the message signature
    message: Literal["", "pass", "fail"] = ""
    reason: str = ""  # why one of them fails
    bits: int = 0  # of the key of the seal
    record: str = ""  # its key record, cut
    results: Results = Results("", ())
    header_hash: str = ""  # that the message signature is of, as computed, base64
    seal_hash: str = ""  # that the seal is of


class Chain(NamedTuple):
    """What the chain of a message is worth."""

    word: Status
    reason: str = ""  # a sentence for the trace; "" with none and pass
    sealers: tuple[str, ...] = ()  # the domain of each seal, newest last; none if the chain cannot be read
    results: tuple[Results, ...] = ()  # what each of them saw
    sets: tuple[Seen, ...] = ()
    oldest_pass: int | None = None  # header.oldest-pass: 0 if all message signatures are right (section 5.2, step 5)
    weaknesses: tuple[str, ...] = ()  # what the newest message signature leaves open though it is right
    body_hash: str = ""  # for the newest message signature, as computed, base64


async def verify(message: bytes, lookup: Lookup, now: int) -> Chain:
    """The chain of a message. `now` is in seconds since 1970."""
    header, body = dkim.split(message)
    verifier = Verifier(header)
    verifier.feed(body)
    return await verifier.finish(lookup, now)


def read(header: bytes) -> tuple[Header, Reading]:
    """The fields of a header, and the chain in them."""
    if not _chain(b"\n" + header.lower()):
        return Header(b""), Reading()
    if why := too_large(header):
        return Header(b""), Reading((), why, MAX_SETS)
    fields = Header(header)
    return fields, arc_fields.read(fields)


class Verifier:
    """The chain of one message. `header` may have its empty line."""

    def __init__(self, header: bytes) -> None:
        self._header, self._chain = read(header)
        lengths: dict[Canon, set[int]] = {}
        for one in self._chain.sets:
            if isinstance(one.message, Signature):
                some = lengths.setdefault(one.message.body_canon, set())
                if one.message.length is not None:
                    some.add(one.message.length)
        self._bodies = {canon: BodyHash(canon, some) for canon, some in lengths.items()}
        self._seen = [_before(one) for one in self._chain.sets]

    @property
    def exists(self) -> bool:
        """Whether there is any field of a chain."""
        return self._chain.exists

    def feed(self, data: bytes) -> None:
        """The next piece of the body."""
        for body in self._bodies.values():
            body.feed(data)

    async def finish(self, lookup: Lookup, now: int) -> Chain:
        """The result. `lookup` gives the TXT records of a name, or raises `Permanent` (there is none) or `Temporary`.

        The keys of the newest set are asked for first, side by side, and those of the others only if that set is
        right: so a chain of 50 forged sets costs its sender a domain and us two questions.
        """
        sets = self._chain.sets
        if not sets:
            return Chain("fail", self._chain.wrong) if self._chain.exists else Chain("none")
        newest, older, hashes = sets[-1], sets[:-1], self._seal_hashes()
        wrong = self._body_fault(newest, now)
        if wrong:
            self._note(newest, message="fail", reason=wrong)
            return self._result("fail", wrong)
        answers = await _keys(lookup, [newest])
        wrong = self._check_message(newest, answers) or self._check_seal(newest, answers, hashes)
        if wrong:
            return self._result("fail", wrong)
        # Those that can be right: a message signature that does not fit the body needs no key.
        fitting = [one for one in older if not self._body_fault(one, now)]
        answers |= await _keys(lookup, older, fitting, but=answers)
        oldest_pass = 0
        for one in reversed(older):
            await asyncio.sleep(0)  # a key of 8192 bits takes a millisecond
            if one not in fitting or self._check_message(one, answers):
                oldest_pass = one.instance + 1
                break
        for one in reversed(older):
            await asyncio.sleep(0)
            wrong = self._check_seal(one, answers, hashes)
            if wrong:
                return self._result("fail", wrong)
        return self._result("pass", "", oldest_pass)

    def _note(self, one: Set, **seen: Any) -> None:
        self._seen[one.instance - 1] = self._seen[one.instance - 1]._replace(**seen)

    def _result(self, word: Status, reason: str, oldest_pass: int | None = None) -> Chain:
        newest = self._chain.sets[-1].message
        digest = self._bodies[newest.body_canon].of(newest.length) if isinstance(newest, Signature) else None
        return Chain(
            word,
            reason,
            tuple(one.sealer for one in self._seen),
            tuple(one.results for one in self._seen),
            tuple(self._seen),
            oldest_pass,
            self._weaknesses(newest) if word == "pass" and isinstance(newest, Signature) else (),
            base64(digest) if digest is not None else "",
        )

    def _body_fault(self, one: Set, now: int) -> str:
        """What is wrong with a message signature before its key is there; "" if nothing is."""
        said, what = one.message, f"i={one.instance}: {AMS}"
        if isinstance(said, Fault):
            return f"{what}: {said.reason}"
        body = self._bodies[said.body_canon]
        if said.expires is not None and now > said.expires:
            return f"{what} has expired (x=)"
        if said.signed is not None and said.signed > now + dkim.MAX_AHEAD:
            return f"{what} was signed in the future (t=)"
        if body.of(said.length) != said.body_hash:
            return f"{what}: the body was changed, its hash is not bh="
        if said.length is not None and said.length < body.size:
            return f"{what} signs only {said.length} of {body.size} octets of the body (l=)"
        return ""

    def _check_message(self, one: Set, answers: Answers) -> str:
        said, wrong = one.message, ""
        assert isinstance(said, Signature)
        key, _ = key_for(said.algorithm, answers[said.record])
        digest = self._header.hash(said, one.ams)
        if isinstance(key, Fault):
            wrong = f"i={one.instance}: {AMS}: {key.reason}"
        elif not is_signed(key.public, said.signature, digest):
            wrong = f"i={one.instance}: {AMS}: the header was changed, or the key is another"
        self._note(one, message="fail" if wrong else "pass", reason=wrong, header_hash=base64(digest))
        return wrong

    def _check_seal(self, one: Set, answers: Answers, hashes: Sequence[bytes]) -> str:
        said, wrong = one.said, ""
        key, text = key_for(said.algorithm, answers[said.record])
        if isinstance(key, Fault):
            wrong = f"i={one.instance}: {AS}: {key.reason}"
        elif not is_signed(key.public, said.signature, hashes[one.instance - 1]):
            wrong = f"i={one.instance}: {AS}: a field of the chain was changed, or the key is another"
        bits = 0 if isinstance(key, Fault) else key.bits
        seal_hash = base64(hashes[one.instance - 1])
        self._note(one, seal="fail" if wrong else "pass", bits=bits, record=text, seal_hash=seal_hash)
        if wrong:
            self._note(one, reason=wrong)
        return wrong

    def _seal_hashes(self) -> list[bytes]:
        """What each seal signs: all fields of the chain up to itself. Section 5.1.1."""
        so_far, hashes = hashlib.sha256(), []
        for one in self._chain.sets:
            so_far.update(self._header.canonical("relaxed", one.aar) + self._header.canonical("relaxed", one.ams))
            own = so_far.copy()
            own.update(self._header.canonical_without_own("relaxed", one.seal))
            hashes.append(own.digest())
            so_far.update(self._header.canonical("relaxed", one.seal))
        return hashes

    def _weaknesses(self, said: Signature) -> tuple[str, ...]:
        weak = []
        if self._header.count(b"from") > said.names.count(b"from"):
            weak.append("a From field is not signed")
        if self._header.has_strays():
            weak.append("the header has a line that is no field, which is not signed")
        return tuple(weak)


def _before(one: Set) -> Seen:
    """A set of which nothing was checked."""
    said, signer = one.said, one.message.domain if isinstance(one.message, Signature) else ""
    return Seen(one.instance, said.cv, said.domain, said.selector, said.algorithm, signer=signer, results=one.results)


async def _keys(
    lookup: Lookup, sealed: Sequence[Set], signed: Sequence[Set] | None = None, but: Iterable[str] = ()
) -> Answers:
    """The key records of seals and of message signatures (by default of the same sets), each asked for once."""
    names = [one.said.record for one in sealed]
    names += [
        one.message.record for one in (sealed if signed is None else signed) if isinstance(one.message, Signature)
    ]
    wanted = [name for name in dict.fromkeys(names) if name not in but]
    return dict(zip(wanted, await ask_all(lookup, wanted), strict=True))


# Sealing


@dataclass(frozen=True, slots=True)
class Sealer:
    """One set to be: whose, and by which key. It is relaxed/relaxed, as a forwarded message goes further."""

    domain: str
    selector: str
    key: PrivateKey
    names: Sequence[str] = ()  # h=, as it shall stand there; (): what DKIM signs, with the signatures that are there

    @property
    def algorithm(self) -> str:
        return "rsa-sha256" if isinstance(self.key, RSAPrivateKey) else "ed25519-sha256"

    def body(self) -> BodyHash:
        """What the body, as it leaves us, has to be fed to."""
        return BodyHash("relaxed")

    def fields(self, header: bytes, body: BodyHash, cv: Status, results: Sequence[str], now: int | None) -> bytes:
        """The three fields, to be put before the header: ARC-Seal, ARC-Message-Signature, ARC-Authentication-Results.

        `cv` is what a `Verifier` found when the message came, `results` what we saw: our authserv-id, then results
        (`authres.pieces`). The header is that which leaves us, with the chain as it came. `now` is in seconds since
        1970. b"" if the newest seal says already that the chain has failed (section 5.1, step 2). Raises `Permanent`.
        """
        domain, selector = (dkim_tags.host(name.encode()) for name in (self.domain, self.selector))
        if domain is None or selector is None:
            raise Permanent(f"{self.selector}._domainkey.{self.domain} is no name in the DNS")
        if len(header) > MAX_HEADER:
            raise Permanent(f"the header is larger than {MAX_HEADER} octets: it cannot be sealed")
        fields = Header(header)
        if fields.has_strays():
            raise Permanent("the header has a line that is no field: it cannot be sealed")
        chain = arc_fields.read(fields)
        if chain.ended:
            return b""
        if chain.highest >= MAX_SETS:
            raise Permanent(f"there are {MAX_SETS} ARC sets already: no more may be added")
        if cv == "pass" and not chain.sets:
            raise Permanent(f"the chain cannot be sealed as one that is right: {chain.wrong or 'there is none'}")
        if cv == "none" and chain.exists:
            raise Permanent("the message has a chain: it has to be verified before it is sealed")
        instance = chain.highest + 1
        aar = authres.fold(AAR, [f"i={instance}; {results[0]}", *results[1:]])
        about = [("d", domain), ("i", str(instance)), ("s", selector)]
        if now is not None:
            about.append(("t", str(now)))
        names = [name.strip().lower() for name in self.names or self._names(fields)]
        if any(name == "authentication-results" or name.startswith("arc-") for name in names):
            raise Permanent("a message signature of ARC must not sign Authentication-Results or the fields of ARC")
        tags = [*about, ("a", self.algorithm), ("bh", base64(body.finish())), ("c", "relaxed/relaxed")]
        tags.append(("h", ":".join(names)))
        hashed = hashlib.sha256(b"".join(fields.selected("relaxed", [name.encode() for name in names])))
        ams = self._signed(AMS, tags, hashed)
        hashed = hashlib.sha256()
        # Section 5.1.2: a chain that failed is sealed as if there was only this set.
        for one in chain.sets if cv == "pass" else ():
            for number in (one.aar, one.ams, one.seal):
                hashed.update(fields.canonical("relaxed", number))
        hashed.update(_relaxed(aar) + _relaxed(ams))
        return self._signed(AS, [*about, ("a", self.algorithm), ("cv", cv)], hashed) + ams + aar

    def _names(self, fields: Header) -> list[str]:
        names: list[str] = []
        for name in (*dkim.OVERSIGNED, *SIGNED):
            count = min(fields.count(name.lower().encode()), dkim.MAX_SAME)
            names += [name] * (count + (name in dkim.OVERSIGNED))
        return names

    def _signed(self, name: str, tags: list[tuple[str, str]], hashed: "hashlib._Hash") -> bytes:
        """A field with its signature: of what was hashed, and of itself with an empty b=."""
        hashed.update(_relaxed(_field(name, [*tags, ("b", "")])).removesuffix(b"\r\n"))
        return _field(name, [*tags, ("b", base64(sign_digest(self.key, hashed.digest())))])


def _relaxed(field: bytes) -> bytes:
    name, _, value = field.partition(b":")
    return dkim_canon.field("relaxed", name, value.removesuffix(b"\r\n"), field)


def _field(name: str, tags: list[tuple[str, str]]) -> bytes:
    """A list of tags, folded. They stand in the order of the alphabet, which has no meaning (RFC 6376 section 3.2), and
    without blanks in a value that fits into a line, so that it is the form of the community's test suite. h= and b=
    begin a line, so that all folds are the same whatever b= is."""
    lines = [f"{name}:"]
    tags = sorted(tags)
    for tag, value in tags:
        end = ";" if tag != tags[-1][0] else ""
        text = f"{tag}={value}{end}"
        if tag == "b":
            # The seal signs the message signature with its folds; the suite wants none in there.
            width = _LONGEST if name == AMS else _WIDTH - len(" b=")
            lines += [f" b={value[:width]}", *(f" {value[at : at + width]}" for at in range(width, len(value), width))]
            lines[-1] += end
        elif tag == "h" and len(text) >= _WIDTH:
            lines.append(" h=")
            for word in text.removeprefix("h=").split(":"):
                if len(lines[-1]) + len(word) >= _WIDTH:
                    lines.append(" ")
                lines[-1] += word + ":"
            lines[-1] = lines[-1][:-1]
        elif len(lines[-1]) + len(text) < _WIDTH:
            lines[-1] += " " + text
        else:
            lines.append(" " + text)
    return "\r\n".join([*lines, ""]).encode()

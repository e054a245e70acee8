"""DKIM: verify the signatures of a message, and sign one (RFC 6376, 8301, 8463).

`Verifier` reads the header, then takes the body in pieces, then asks for the keys by a function that is given to it.
What a stranger wrote never raises: each signature gets a result word of RFC 8601 with a sentence. How they are chosen:
"neutral" is a signature that cannot be read, or of a domain that only tests, "permerror" one that RFC 6376 section 6.1
calls permanently failed before anything was computed, "policy" one that is right and yet proves too little for us.
Nothing is decided about the message. `sign` raises `Permanent` for a key or header that it cannot sign.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from posthouse.base.errors import Permanent
from posthouse.senderauth import dkim_canon, dkim_tags
from posthouse.senderauth.dkim_canon import BodyHash, Canon
from posthouse.senderauth.dkim_crypto import (
    Lookup,
    PrivateKey,
    PublishedKey,
    ask,
    ask_all,
    base64,
    is_signed,
    key_for,
    private_key,
    record_of,
    sha256,
    sign_digest,
)
from posthouse.senderauth.dkim_header import MAX_HEADER, Header, too_large
from posthouse.senderauth.dkim_tags import Fault, Signature, Word

__all__ = [
    "MAX_HEADER",
    "Lookup",
    "PrivateKey",
    "Result",
    "Signer",
    "Verifier",
    "private_key",
    "record_of",
    "sign",
    "signatures",
    "split",
    "verify",
]

MAX_SIGNATURES = 20  # that are looked at; real messages have up to five
MAX_AHEAD = 86_400  # seconds that a signer's clock may be ahead: wrong by a time zone is common

# RFC 6376 section 5.4.1 and 8.15: nobody may add one more of these, so their names are signed once more than they are
# there. Not Sender and not List-*: mailing lists add them, and some change nothing else.
OVERSIGNED = (
    "From",
    "Reply-To",
    "Subject",
    "Date",
    "To",
    "Cc",
    "Message-ID",
    "In-Reply-To",
    "References",
    "MIME-Version",
    "Content-Type",
    "Content-Transfer-Encoding",
)
SIGNED = (
    "Sender",
    "Content-ID",
    "Content-Description",
    "Resent-Date",
    "Resent-From",
    "Resent-Sender",
    "Resent-To",
    "Resent-Cc",
    "Resent-Message-ID",
    "List-Id",
    "List-Help",
    "List-Unsubscribe",
    "List-Unsubscribe-Post",
    "List-Subscribe",
    "List-Post",
    "List-Owner",
    "List-Archive",
)
MAX_SAME = 10  # fields of one name that are signed; so h= stays below what `dkim_tags` reads

_ALONE = (b"subject", b"date", b"to", b"cc", b"message-id", b"reply-to")  # RFC 5322 section 3.6: one at the most
_has_signature = re.compile(rb"(?i)(?:\A|\n)dkim-signature[ \t]*+:").search
_body_start = re.compile(rb"(?:\A|\n)\r?\n").search
_WIDTH = 76


class Result(NamedTuple):
    """What became of one signature."""

    word: Word
    reason: str  # a sentence for the trace; "" with pass
    domain: str = ""  # d=; "" if the field cannot be read
    selector: str = ""
    identity: str = ""
    algorithm: str = ""
    canon: str = ""
    signed: tuple[str, ...] = ()  # h=
    weaknesses: tuple[str, ...] = ()  # what the signature leaves open though it is right
    bits: int = 0  # of the key
    testing: bool = False  # the key record says that the domain tests
    record: str = ""  # the key record, or the first of its characters
    body_hash: str = ""  # as computed, base64
    header_hash: str = ""  # as computed, base64
    tag: str = ""  # the beginning of b=, which tells signatures of one domain apart (RFC 6008)


@dataclass(slots=True)
class _Open:
    """A signature that can be read, until its key is there."""

    field: int  # which of the header
    signature: Signature
    word: Word = "pass"
    reason: str = ""
    weaknesses: tuple[str, ...] = ()
    bits: int = 0
    testing: bool = False
    text: str = ""
    body_hash: str = ""
    header_hash: str = ""

    def result(self) -> Result:
        said = self.signature
        return Result(
            self.word,
            self.reason,
            said.domain,
            said.selector,
            said.identity,
            said.algorithm,
            f"{said.header_canon}/{said.body_canon}",
            tuple(name.decode("utf-8", "replace") for name in said.names),
            self.weaknesses,
            self.bits,
            self.testing,
            self.text,
            self.body_hash,
            self.header_hash,
            base64(said.signature)[:8],
        )


def split(message: bytes) -> tuple[bytes, bytes]:
    """The header, with its empty line, and the body."""
    found = _body_start(message)
    at = len(message) if found is None else found.end()
    return message[:at], message[at:]


async def verify(message: bytes, lookup: Lookup, now: int) -> list[Result]:
    """All signatures of a message, in the order of their fields. `now` is in seconds since 1970."""
    header, body = split(message)
    verifier = Verifier(header)
    verifier.feed(body)
    return await verifier.finish(lookup, now)


class Verifier:
    """The signatures of one message. `header` may have its empty line."""

    def __init__(self, header: bytes) -> None:
        self._found: list[_Open | Result] = []
        has_some = _has_signature(header) is not None
        if has_some and (why := too_large(header)):
            self._found.append(Result("neutral", f"not looked at: {why}"))
            has_some = False
        self._header = Header(header if has_some else b"")
        for number in self._header.numbers(b"dkim-signature"):
            if len(self._found) == MAX_SIGNATURES:
                self._found.append(Result("neutral", f"not looked at: there are more than {MAX_SIGNATURES} signatures"))
                break  # one for all the rest: a result each would be thousands
            said = dkim_tags.signature(self._header.fields[number].value)
            self._found.append(Result(*said) if isinstance(said, Fault) else _Open(number, said))
        self._open = [one for one in self._found if isinstance(one, _Open)]
        lengths: dict[Canon, set[int]] = {}
        for one in self._open:
            some = lengths.setdefault(one.signature.body_canon, set())
            if one.signature.length is not None:
                some.add(one.signature.length)
        self._bodies = {canon: BodyHash(canon, some) for canon, some in lengths.items()}

    def feed(self, data: bytes) -> None:
        """The next piece of the body."""
        for body in self._bodies.values():
            body.feed(data)

    async def finish(self, lookup: Lookup, now: int) -> list[Result]:
        """The results. `lookup` gives the TXT records of a name, or raises `Permanent` (there is none) or `Temporary`.

        Keys are looked up side by side, each once.
        """
        for one in self._open:
            self._check_time(one, now)
        names = list(dict.fromkeys(one.signature.record for one in self._open if one.word == "pass"))
        answers = [await ask(lookup, names[0])] if len(names) == 1 else await ask_all(lookup, names)
        keys = dict(zip(names, answers, strict=True))
        for one in self._open:
            if one.word == "pass":
                self._check(one, keys[one.signature.record])
        return [one.result() if isinstance(one, _Open) else one for one in self._found]

    def _check_time(self, one: _Open, now: int) -> None:
        signed, expires = one.signature.signed, one.signature.expires
        if expires is not None and now > expires:
            one.word, one.reason = "permerror", f"expired {_span(now - expires)} ago (x=)"
        elif signed is not None and signed > now + MAX_AHEAD:
            one.word, one.reason = "policy", f"signed {_span(signed - now)} in the future (t=)"

    def _check(self, one: _Open, answer: list[bytes] | Fault) -> None:
        said = one.signature
        key, one.text = key_for(said.algorithm, answer)
        if isinstance(key, Fault):
            one.word, one.reason = key
            return
        one.bits, one.testing = key.bits, key.record.testing
        if key.record.strict and dkim_tags.identity_domain(said.identity) != said.domain:
            one.word, one.reason = "permerror", "the key is not for subdomains, and i= is one"
        else:
            self._compute(one, key)

    def _compute(self, one: _Open, key: PublishedKey) -> None:
        said, body = one.signature, self._bodies[one.signature.body_canon]
        digest = body.of(said.length)
        header_hash = self._header.hash(said, one.field)
        one.header_hash = base64(header_hash)
        if digest is not None:
            one.body_hash = base64(digest)
        if digest is None:
            one.word, one.reason = "fail", f"l= is {said.length}, the body has {body.size} octets"
        elif digest != said.body_hash:
            one.word, one.reason = "fail", "the body was changed: its hash is not bh="
        elif not is_signed(key.public, said.signature, header_hash):
            one.word, one.reason = "fail", "the header was changed, or the key is another: b= does not fit"
        else:
            self._judge(one, body.size)
        if one.word == "fail" and one.testing:
            # RFC 6376 section 3.6.1: mail of a domain that tests is treated as if it was not signed.
            one.word, one.reason = "neutral", f"{one.reason}; the domain only tests (t=y)"

    def _judge(self, one: _Open, size: int) -> None:
        """A signature that is right: what does it prove?"""
        said, weak = one.signature, []
        if said.length is not None:
            weak.append(f"l= lets anyone add to the body, of which {said.length} of {size} octets are signed")
        weak += [
            f"a {name.decode('ascii').capitalize()} field is not signed"
            for name in _ALONE
            if self._header.count(name) > said.names.count(name)
        ]
        if 0 < one.bits < 2048 and said.algorithm == "rsa-sha256":
            weak.append(f"a key of {one.bits} bits is short")
        one.weaknesses = tuple(weak)
        if said.length is not None and said.length < size:
            one.word, one.reason = "policy", f"only {said.length} of {size} octets of the body are signed (l=)"
        elif self._header.count(b"from") > said.names.count(b"from"):
            one.word, one.reason = "policy", "one From field is signed, and there is another"
        elif not self._header.count(b"from"):
            one.word, one.reason = "policy", "there is no From field"
        elif self._header.has_strays():
            # Such a line is signed by nobody: whoever forwards the message may write text there.
            one.word, one.reason = "policy", "the header has a line that is no field, which is not signed"
        elif "." not in said.domain:
            one.word, one.reason = "policy", "a top-level domain signs for nobody"


# Signing


@dataclass(frozen=True, slots=True)
class Signer:
    """One signature to be: whose, by which key, and how."""

    domain: str
    selector: str
    key: PrivateKey
    header_canon: Canon = "relaxed"
    body_canon: Canon = "relaxed"
    oversigned: Sequence[str] = OVERSIGNED
    signed: Sequence[str] = SIGNED
    identity: str = ""  # i=
    lifetime: int | None = None  # seconds until x=

    @property
    def algorithm(self) -> str:
        return "rsa-sha256" if isinstance(self.key, RSAPrivateKey) else "ed25519-sha256"

    def body(self) -> BodyHash:
        """What the body has to be fed to."""
        return BodyHash(self.body_canon)

    def field(self, header: bytes, body: BodyHash, now: int | None) -> bytes:
        """The DKIM-Signature field, with its line end, to be put before the header. `now` is in seconds since 1970.

        Raises `Permanent`.
        """
        return self._field(_signable(header), body, now)

    def _field(self, fields: Header, body: BodyHash, now: int | None) -> bytes:
        domain, selector = (dkim_tags.host(name.encode()) for name in (self.domain, self.selector))
        if domain is None or selector is None:
            raise Permanent(f"{self.selector}._domainkey.{self.domain} is no name in the DNS")
        names = self._names(fields)
        tags = ["v=1", f"a={self.algorithm}", f"c={self.header_canon}/{self.body_canon}", f"d={domain}"]
        tags.append(f"s={selector}")
        if self.identity:
            tags.append(f"i={self.identity}")
        if now is not None:
            tags.append(f"t={now}")
            if self.lifetime is not None:
                tags.append(f"x={now + self.lifetime}")
        words = [f" {tag};" for tag in tags]
        words += [f" h={names[0]}", *(f":{name}" for name in names[1:])]
        words += [";", f" bh={base64(body.finish())};"]
        lines = ["DKIM-Signature:"]
        for word in words:
            if len(lines[-1]) + len(word) <= _WIDTH:
                lines[-1] += word
            else:
                lines.append(" " + word.lstrip(" "))
        bare = ("\r\n".join(lines) + "\r\n b=").encode()
        name, _, value = bare.partition(b":")
        last = dkim_canon.field(self.header_canon, name, value, bare + b"\r\n").removesuffix(b"\r\n")
        lower = [one.lower().encode() for one in names]
        digest = sha256(*fields.selected(self.header_canon, lower), last)
        signature = base64(sign_digest(self.key, digest))
        first = _WIDTH - len(" b=")
        rest = [signature[at : at + _WIDTH - 1] for at in range(first, len(signature), _WIDTH - 1)]
        return bare + "\r\n ".join([signature[:first], *rest]).encode() + b"\r\n"

    def _names(self, fields: Header) -> list[str]:
        names: list[str] = []
        for name in dict.fromkeys([*self.oversigned, *self.signed]):
            count = min(fields.count(name.lower().encode()), MAX_SAME)
            names += [name] * (count + (name in self.oversigned))
        if "from" not in map(str.lower, names):
            raise Permanent("a signature has to sign the From field")
        return names


def _signable(header: bytes) -> Header:
    if len(header) > MAX_HEADER:
        raise Permanent(f"the header is larger than {MAX_HEADER} octets: it cannot be signed")
    fields = Header(header)
    if not fields.count(b"from"):
        raise Permanent("the message has no From field: it cannot be signed")
    if fields.has_strays():
        raise Permanent("the header has a line that is no field: it cannot be signed")
    return fields


def signatures(header: bytes, signers: Iterable[Signer], bodies: Mapping[Canon, BodyHash], now: int | None) -> bytes:
    """A DKIM-Signature field of each signer, the first one highest, to be put before the header. `bodies` were fed the
    body, `now` is in seconds since 1970. The header is read once for all. Raises `Permanent`."""
    fields = _signable(header)
    return b"".join([signer._field(fields, bodies[signer.body_canon], now) for signer in signers])


def sign(message: bytes, signers: Iterable[Signer], now: int | None) -> bytes:
    """The message with a signature of each signer on top, the first one highest. Raises `Permanent`."""
    header, body = split(message)
    signers = list(signers)
    bodies: dict[Canon, BodyHash] = {}
    for signer in signers:
        if signer.body_canon not in bodies:
            bodies[signer.body_canon] = signer.body()
            bodies[signer.body_canon].feed(body)
    return signatures(header, signers, bodies, now) + message


def _span(seconds: int) -> str:
    return f"{seconds // 86_400} days" if seconds >= 2 * 86_400 else f"{seconds} s"

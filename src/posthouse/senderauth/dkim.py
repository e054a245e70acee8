"""DKIM: verify the signatures of a message, and sign one (RFC 6376, 8301, 8463).

`Verifier` reads the header, then takes the body in pieces, then asks for the keys by a function that is given to it.
What a stranger wrote never raises: each signature gets a result word of RFC 8601 with a sentence. How they are chosen:
"neutral" is a signature that cannot be read, or of a domain that only tests, "permerror" one that RFC 6376 section 6.1
calls permanently failed before anything was computed, "policy" one that is right and yet proves too little for us.
Nothing is decided about the message. `sign` raises `Permanent` for a key or header that it cannot sign.
"""

import asyncio
import hashlib
import re
import textwrap
from base64 import b64encode
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA256

from posthouse.base.errors import Permanent, Temporary
from posthouse.mime import header as headers
from posthouse.senderauth import dkim_canon, dkim_tags
from posthouse.senderauth.dkim_canon import BodyHash, Canon
from posthouse.senderauth.dkim_tags import Fault, Record, Signature, Word

MAX_SIGNATURES = 20  # that are looked at; real messages have up to five
MAX_HEADER = 256 * 1024  # octets; what is longer is body for the MIME scanner, too
MAX_RECORDS = 10  # TXT records of one name
MIN_RSA, MAX_RSA = 1024, 8192  # RFC 8301 section 3.2 asks for 1024 to 4096
MAX_EXPONENT = 64  # bits: the work of a check grows with them
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

Lookup = Callable[[str], Awaitable[list[bytes]]]
PublicKey = RSAPublicKey | Ed25519PublicKey
PrivateKey = RSAPrivateKey | Ed25519PrivateKey


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


class _Key(NamedTuple):
    public: PublicKey
    record: Record
    bits: int


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
            _text(said.signature)[:8],
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
        if len(header) > MAX_HEADER:
            if _has_signature(header):
                self._found.append(Result("neutral", f"not looked at: the header is larger than {MAX_HEADER} octets"))
            header = b""
        self._header = _Header(header)
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
        answers = [await _ask(lookup, names[0])] if len(names) == 1 else await _ask_all(lookup, names)
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
        key: _Key | Fault
        if isinstance(answer, Fault):
            key = answer
        else:
            key, text = _choose(answer)
            one.text = text[:2000].decode("utf-8", "replace")
        if isinstance(key, Fault):
            one.word, one.reason = key
            return
        one.bits, one.testing = key.bits, key.record.testing
        if key.record.kind != said.algorithm.partition("-")[0]:
            one.word, one.reason = "permerror", f"the key is for {key.record.kind}"
        elif key.record.strict and dkim_tags.identity_domain(said.identity) != said.domain:
            one.word, one.reason = "permerror", "the key is not for subdomains, and i= is one"
        else:
            self._compute(one, key)

    def _compute(self, one: _Open, key: _Key) -> None:
        said, body = one.signature, self._bodies[one.signature.body_canon]
        digest = body.of(said.length)
        header_hash = self._header.hash(said, one.field)
        one.header_hash = _text(header_hash)
        if digest is not None:
            one.body_hash = _text(digest)
        if digest is None:
            one.word, one.reason = "fail", f"l= is {said.length}, the body has {body.size} octets"
        elif digest != said.body_hash:
            one.word, one.reason = "fail", "the body was changed: its hash is not bh="
        elif not _is_signed(key.public, said.signature, header_hash):
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


class _Header:
    """The fields of a message and their canonical forms, each made once."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self.fields = headers.split(raw)
        self._numbers: dict[bytes, list[int]] = {}
        for number, field in enumerate(self.fields):
            self._numbers.setdefault(field.name.lower(), []).append(number)
        self._made: dict[Canon, dict[int, bytes]] = {"simple": {}, "relaxed": {}}

    def has_strays(self) -> bool:
        """Whether there are lines that are no field. Many programs show them, and all below, as the body."""
        at = 0
        for field in self.fields:
            if field.start != at:
                return True
            at = field.end
        return self._raw[at:] not in (b"", b"\r\n", b"\n")

    def numbers(self, name: bytes) -> list[int]:
        """The fields of this name (in lower case), from top to bottom."""
        return self._numbers.get(name, [])

    def count(self, name: bytes) -> int:
        return len(self.numbers(name))

    def _canonical(self, canon: Canon, number: int) -> bytes:
        made = self._made[canon].get(number)
        if made is None:
            name, value, start, end = self.fields[number]
            made = self._made[canon][number] = dkim_canon.field(canon, name, value, self._raw[start:end])
        return made

    def selected(self, canon: Canon, names: Sequence[bytes], but: int = -1) -> list[bytes]:
        """The canonical fields that h= names, without that with the number `but`. RFC 6376 section 5.4.2."""
        left: dict[bytes, list[int]] = {}
        chosen: list[bytes] = []
        for name in names:
            if name not in left:
                left[name] = [number for number in self.numbers(name) if number != but]
            if left[name]:
                chosen.append(self._canonical(canon, left[name].pop()))
        return chosen

    def hash(self, said: Signature, own: int) -> bytes:
        """What the signature in field `own` signs. RFC 6376 section 3.7."""
        name, value, start, end = self.fields[own]
        bare = dkim_tags.without_own_value(value)
        raw = self._raw[start:end].partition(b":")[0] + b":" + bare
        last = dkim_canon.field(said.header_canon, name, bare, raw + b"\r\n").removesuffix(b"\r\n")
        return _sha256(*self.selected(said.header_canon, said.names, own), last)


async def _ask_all(lookup: Lookup, names: list[str]) -> list[list[bytes] | Fault]:
    return list(await asyncio.gather(*(_ask(lookup, name) for name in names)))


async def _ask(lookup: Lookup, name: str) -> list[bytes] | Fault:
    try:
        records = await lookup(name)
    except Permanent as error:
        return Fault("permerror", f"no key: {error}")
    except (Temporary, TimeoutError, OSError) as error:
        return Fault("temperror", f"the key could not be looked up: {error}")
    return records or Fault("permerror", f"no key: {name} has no TXT record")


def _choose(records: list[bytes]) -> tuple[_Key | Fault, bytes]:
    """The key among TXT records: others may stand beside it, by a wildcard."""
    if len(records) > MAX_RECORDS:
        return Fault("permerror", f"more than {MAX_RECORDS} TXT records"), b""
    read = [(_key(text) if len(text) <= dkim_tags.MAX_RECORD else _read_key(text), text) for text in records]
    usable = [(key, text) for key, text in read if isinstance(key, _Key)]
    if len(usable) > 1:
        return Fault("permerror", "more than one key record"), usable[0][1]
    return (usable or read)[0]


def _read_key(text: bytes) -> _Key | Fault:
    record = dkim_tags.record(text)
    if isinstance(record, Fault):
        return record
    try:
        if record.kind == "ed25519":  # RFC 8463 section 4: the bare key
            return _Key(Ed25519PublicKey.from_public_bytes(record.key), record, 256)
        # RFC 6376 section 3.6.1 says RSAPublicKey, erratum 3017 and the world SubjectPublicKeyInfo: both can be read.
        public = serialization.load_der_public_key(record.key)
    except (ValueError, TypeError, UnsupportedAlgorithm, OverflowError):
        return Fault("permerror", f"p= is no {record.kind} key")
    if not isinstance(public, RSAPublicKey):
        return Fault("permerror", "p= is no rsa key")
    if public.key_size < MIN_RSA:
        return Fault("permerror", f"a key of {public.key_size} bits proves nothing (RFC 8301)")
    if public.key_size > MAX_RSA:
        return Fault("policy", f"a key of {public.key_size} bits is larger than {MAX_RSA}")
    if public.public_numbers().e.bit_length() > MAX_EXPONENT:
        return Fault("policy", f"the exponent of the key has more than {MAX_EXPONENT} bits")
    return _Key(public, record, public.key_size)


_key = lru_cache(1024)(_read_key)  # making a key of its bytes costs more than the check by it


def _is_signed(public: PublicKey, signature: bytes, digest: bytes) -> bool:
    try:
        if isinstance(public, RSAPublicKey):
            public.verify(signature, digest, PKCS1v15(), Prehashed(SHA256()))
        else:
            public.verify(signature, digest)  # RFC 8463 section 3: the hash is what is signed
    except InvalidSignature:
        return False
    return True


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

    def _field(self, fields: "_Header", body: BodyHash, now: int | None) -> bytes:
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
        words += [";", f" bh={_text(body.finish())};"]
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
        digest = _sha256(*fields.selected(self.header_canon, lower), last)
        signature = _text(_sign(self.key, digest))
        first = _WIDTH - len(" b=")
        rest = textwrap.wrap(signature[first:], _WIDTH - 1)
        return bare + "\r\n ".join([signature[:first], *rest]).encode() + b"\r\n"

    def _names(self, fields: _Header) -> list[str]:
        names: list[str] = []
        for name in dict.fromkeys([*self.oversigned, *self.signed]):
            count = min(fields.count(name.lower().encode()), MAX_SAME)
            names += [name] * (count + (name in self.oversigned))
        if "from" not in map(str.lower, names):
            raise Permanent("a signature has to sign the From field")
        return names


def _signable(header: bytes) -> _Header:
    if len(header) > MAX_HEADER:
        raise Permanent(f"the header is larger than {MAX_HEADER} octets: it cannot be signed")
    fields = _Header(header)
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


def private_key(pem: bytes) -> PrivateKey:
    """The key of a PEM file (PKCS #1 or #8, without password). Raises `Permanent`. It takes a while: keep it."""
    try:
        key = serialization.load_pem_private_key(pem, None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise Permanent(f"no private key in PEM without a password: {error}") from error
    if isinstance(key, RSAPrivateKey):
        if not MIN_RSA <= key.key_size <= MAX_RSA:
            raise Permanent(f"an RSA key of {key.key_size} bits is not usable: {MIN_RSA} to {MAX_RSA}, better 2048")
        return key
    if isinstance(key, Ed25519PrivateKey):
        return key
    raise Permanent("the key is neither RSA nor Ed25519")


def record_of(key: PrivateKey) -> str:
    """The key record to publish for a private key. RFC 6376 section 3.6.1, RFC 8463 section 4."""
    public = key.public_key()
    if isinstance(public, Ed25519PublicKey):
        return f"v=DKIM1; k=ed25519; p={_text(public.public_bytes_raw())}"
    der = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return f"v=DKIM1; k=rsa; p={_text(der)}"


def _sign(key: PrivateKey, digest: bytes) -> bytes:
    if isinstance(key, RSAPrivateKey):
        return key.sign(digest, PKCS1v15(), Prehashed(SHA256()))
    return key.sign(digest)


def _sha256(*pieces: bytes) -> bytes:
    return hashlib.sha256(b"".join(pieces)).digest()


def _text(data: bytes) -> str:
    return b64encode(data).decode("ascii")


def _span(seconds: int) -> str:
    return f"{seconds // 86_400} days" if seconds >= 2 * 86_400 else f"{seconds} s"

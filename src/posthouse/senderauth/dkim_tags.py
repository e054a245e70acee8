"""What DKIM signatures and key records say: lists of tags and their values. Pure.

What cannot be read is a `Fault`, a value with the result it leads to and a sentence; nothing raises. Everything has a
limit, as anyone may write both a signature and a key record.
"""

import re
from base64 import b64decode
from typing import Literal, NamedTuple

from posthouse.senderauth.dkim_canon import Canon

Word = Literal["pass", "fail", "neutral", "temperror", "permerror", "policy"]  # RFC 8601 section 2.7.1

MAX_FIELD = 16_384  # octets of a signature: RSA with 8192 bits and a hundred names in h= need a quarter of that
MAX_RECORD = 8_192  # octets of a key record: RSA with 8192 bits needs 1,500
MAX_TAGS = 64
MAX_NAMES = 400  # in h=
MESSAGE_TAGS = (b"a", b"b", b"bh", b"d", b"h", b"s")  # that a signature of a message must have

# RFC 6376 section 3.2: tag-name = ALPHA *ALNUMPUNC; values have no blanks around them.
_name = re.compile(rb"[A-Za-z][A-Za-z0-9_]*\Z").match
_blanks = re.compile(rb"[ \t\r\n]+").sub
_base64 = re.compile(rb"[A-Za-z0-9+/]*={0,2}\Z").match
# RFC 6376 section 3.5: domain-name and selector; the underscore is in use.
_label = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_host = re.compile(rf"{_label}(?:\.{_label})*\Z").match
# The value of b= with the blanks around it, which is what a signature cannot sign. RFC 6376 section 3.7.
_own_value = re.compile(rb"((?:\A|;)[ \t\r\n]*+b[ \t\r\n]*+=)[^;]*+")

# What c= may say: the form of the header and that of the body. RFC 6376 section 3.5.
_CANONS: dict[bytes, tuple[Canon, Canon]] = {
    b"simple": ("simple", "simple"),
    b"relaxed": ("relaxed", "simple"),
    b"simple/simple": ("simple", "simple"),
    b"simple/relaxed": ("simple", "relaxed"),
    b"relaxed/simple": ("relaxed", "simple"),
    b"relaxed/relaxed": ("relaxed", "relaxed"),
}


class Fault(NamedTuple):
    """Why a signature says nothing."""

    word: Word
    reason: str


class Signature(NamedTuple):
    """A DKIM-Signature field that can be read. RFC 6376 section 3.5."""

    domain: str  # d=, as it is in the DNS
    selector: str
    identity: str  # i=
    algorithm: str  # a=
    header_canon: Canon
    body_canon: Canon
    names: tuple[bytes, ...]  # h=, in lower case
    length: int | None  # l=
    signed: int | None  # t=
    expires: int | None  # x=
    body_hash: bytes
    signature: bytes

    @property
    def record(self) -> str:
        """The name of the key record. RFC 6376 section 3.6.2.1."""
        return f"{self.selector}._domainkey.{self.domain}"


class Record(NamedTuple):
    """A key record. RFC 6376 section 3.6.1."""

    kind: str  # k=
    key: bytes  # p=, decoded
    testing: bool  # t=y
    strict: bool  # t=s


def tag_list(value: bytes) -> dict[bytes, bytes] | Fault:
    """Tags and their values, both without the blanks around them. RFC 6376 section 3.2."""
    pieces = value.split(b";", MAX_TAGS + 1)
    if len(pieces) > MAX_TAGS:
        return Fault("neutral", f"more than {MAX_TAGS} tags")
    if not pieces[-1].strip():
        pieces.pop()
    tags: dict[bytes, bytes] = {}
    for piece in pieces:
        name, equals, text = piece.partition(b"=")
        name = name.strip()
        if not equals or not _name(name):
            return Fault("neutral", "not a list of tags")
        if name in tags:
            return Fault("neutral", f"tag {name[:20].decode('ascii')}= twice")
        tags[name] = text.strip()
    return tags


def without_own_value(value: bytes) -> bytes:
    """The value of a signature field with an empty b=."""
    return _own_value.sub(rb"\1", value, count=1)


def decoded(value: bytes) -> bytes | None:
    """Base64 with blanks anywhere; None if it is none."""
    if b" " in value or b"\n" in value or b"\t" in value:
        value = _blanks(b"", value)
    if len(value) % 4 or not _base64(value):
        return None
    return b64decode(value)


def host(value: bytes) -> str | None:
    """A domain or selector as it is in the DNS, U-labels turned to A-labels (RFC 8616 section 3); None: it is none."""
    if len(value) > 253 * 4:
        return None
    try:
        text = value.decode("utf-8").lower()
        if not text.isascii():
            import idna  # its tables take some MB: only for those who get such mail

            text = idna.encode(text, uts46=True).decode("ascii").lower()
    except UnicodeError:  # idna's errors are some, too
        return None
    return text if len(text) <= 253 and _host(text) else None


def signature(value: bytes) -> Signature | Fault:
    """Read the value of a DKIM-Signature field. RFC 6376 section 6.1.1."""
    if len(value) > MAX_FIELD:
        return Fault("neutral", f"longer than {MAX_FIELD} octets")
    tags = tag_list(value)
    if isinstance(tags, Fault):
        return tags
    for name in (b"v", *MESSAGE_TAGS):
        if name not in tags:
            return Fault("permerror", f"no {name.decode('ascii')}=")
    if tags[b"v"] != b"1":
        return Fault("neutral", "unknown version v=")
    identity = b"@" + tags[b"d"] if b"i" not in tags else tags[b"i"]
    said = of_message(tags, identity)
    if isinstance(said, Fault):
        return said
    if b"from" not in said.names:
        return Fault("permerror", "the From field is not signed")
    if not _is_below(identity, said.domain):
        return Fault("permerror", "i= is not of the domain d=")
    return said


def of_message(tags: dict[bytes, bytes], identity: bytes = b"") -> Signature | Fault:
    """What the tags say that DKIM-Signature and ARC-Message-Signature share; `MESSAGE_TAGS` are there."""
    algorithm = algorithm_of(tags)
    if isinstance(algorithm, Fault):
        return algorithm
    canons = _CANONS.get(_blanks(b"", tags.get(b"c", b"simple")).lower())
    if canons is None:
        return Fault("neutral", "unknown canonical form c=")
    methods = [method.strip().lower() for method in tags.get(b"q", b"dns/txt").split(b":")]
    if b"dns/txt" not in methods:
        return Fault("neutral", "unknown way to the key q=")
    names = tuple(name.strip().lower() for name in tags[b"h"].split(b":", MAX_NAMES + 1))
    if len(names) > MAX_NAMES:
        return Fault("neutral", f"more than {MAX_NAMES} names in h=")
    signer = signer_of(tags)
    if isinstance(signer, Fault):
        return signer
    numbers: dict[bytes, int | None] = {}
    for tag in (b"l", b"t", b"x"):
        number = number_of(tags, tag)
        if isinstance(number, Fault):
            return number
        numbers[tag] = number
    signed, expires = numbers[b"t"], numbers[b"x"]
    if signed is not None and expires is not None and expires <= signed:
        return Fault("permerror", "x= is not later than t=")
    body_hash, own = decoded(tags[b"bh"]), decoded(tags[b"b"])
    if body_hash is None or not own:
        return Fault("neutral", "b= or bh= is not base64")
    if len(body_hash) != 32:
        return Fault("neutral", "bh= is no SHA-256")
    return Signature(
        *signer,
        identity.decode("utf-8", "replace"),
        algorithm,
        *canons,
        names,
        numbers[b"l"],
        signed,
        expires,
        body_hash,
        own,
    )


def algorithm_of(tags: dict[bytes, bytes]) -> str | Fault:
    """The algorithm a=, one of ours."""
    algorithm = tags[b"a"].lower()
    if algorithm == b"rsa-sha1":
        return Fault("permerror", "rsa-sha1 proves nothing any more (RFC 8301)")
    if algorithm not in (b"rsa-sha256", b"ed25519-sha256"):
        return Fault("neutral", "unknown algorithm a=")
    return algorithm.decode("ascii")


def signer_of(tags: dict[bytes, bytes]) -> tuple[str, str] | Fault:
    """Domain and selector, as they are in the DNS."""
    domain, selector = host(tags[b"d"]), host(tags[b"s"])
    if domain is None or selector is None or len(domain) + len(selector) > 240:
        return Fault("neutral", "d= or s= is no domain name")
    return domain, selector


def record(text: bytes) -> Record | Fault:
    """Read a key record. RFC 6376 section 6.1.2."""
    if len(text) > MAX_RECORD:
        return Fault("policy", f"the key record is longer than {MAX_RECORD} octets")
    tags = tag_list(text)
    if isinstance(tags, Fault):
        return Fault("permerror", f"the key record: {tags.reason}")
    if b"v" in tags and (tags[b"v"] != b"DKIM1" or next(iter(tags)) != b"v"):
        return Fault("permerror", "the key record is none of DKIM1")
    if b"p" not in tags:
        return Fault("permerror", "the key record has no p=")
    if not tags[b"p"]:
        return Fault("permerror", "the key is revoked")
    if b"h" in tags and b"sha256" not in _words(tags[b"h"]):
        return Fault("permerror", "the key is not for SHA-256")
    if b"s" in tags and not {b"*", b"email"} & _words(tags[b"s"]):
        return Fault("permerror", "the key is not for mail")
    kind = tags.get(b"k", b"rsa").lower()
    if kind not in (b"rsa", b"ed25519"):
        return Fault("permerror", "unknown kind of key k=")
    key = decoded(tags[b"p"])
    if key is None:
        return Fault("permerror", "the key is not base64")
    flags = _words(tags.get(b"t", b""))
    return Record(kind.decode("ascii"), key, b"y" in flags, b"s" in flags)


def identity_domain(identity: str) -> str | None:
    """The domain of i=, as it is in the DNS."""
    return host(identity.rpartition("@")[2].encode("utf-8", "replace"))


def _is_below(identity: bytes, domain: str) -> bool:
    _, at, right = identity.rpartition(b"@")
    name = host(right)
    return bool(at) and name is not None and (name == domain or name.endswith("." + domain))


def number_of(tags: dict[bytes, bytes], tag: bytes) -> int | Fault | None:
    """A number, None if the tag is not there. RFC 6376 section 3.5: 1*76DIGIT for l=, 1*12DIGIT and more for times."""
    value = tags.get(tag)
    if value is None:
        return None
    if not value.isdigit() or len(value) > 76:
        return Fault("neutral", f"{tag.decode('ascii')}= is no number")
    return int(value)


def _words(value: bytes) -> set[bytes]:
    return {word.strip().lower() for word in value.split(b":", MAX_TAGS)}

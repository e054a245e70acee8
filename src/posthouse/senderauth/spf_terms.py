"""SPF records (RFC 7208 sections 4.5, 4.6 and 12): which TXT records are one, and what its terms say.

Pure. Every term is checked before any is used (section 4.6), so a record is either a `Record` or a `Flaw`, which says
in words what is wrong; nothing is raised. Records are bounded in length and terms. Evaluating them is for `spf.py`.
"""

import re
import socket
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Literal, NamedTuple

from posthouse.senderauth.spf_macros import BadMacro, Macros, domain_spec, macro_string

MAX_RECORD = 65_535  # octets: what a DNS message has room for
_USUAL = 1_024  # octets: records up to this are kept once they are read
MAX_TERMS = 2_000  # flattened records have some hundreds; ten includes of this size are read in a fraction of a second

Qualifier = Literal["+", "-", "~", "?"]

# directive = [ qualifier ] mechanism;  modifier = name "=" macro-string
# name      = ALPHA *( ALPHA / DIGIT / "-" / "_" / "." )
_TERM = re.compile(r"([-+~?]?)([A-Za-z][A-Za-z0-9._-]*)(?:([:/=])(.*))?", re.DOTALL)
# dual-cidr-length = [ ip4-cidr-length ] [ "/" ip6-cidr-length ];  no leading zeros (sections 5.6 and 12)
_CIDR = re.compile(r"(?:/(0|[1-9][0-9]?))?(?://(0|[1-9][0-9]{0,2}))?")
_NETWORK = re.compile(r"([^/]*)(?:/(0|[1-9][0-9]{0,2}))?", re.DOTALL)
_CIDR_LENGTH = len("/32//128")


class Mechanism(NamedTuple):
    """A directive: what it matches, and its qualifier."""

    text: str
    qualifier: Qualifier
    name: str  # in lower case
    spec: Macros | None = None  # None: the domain that is checked
    network: int = 0  # of ip4 and ip6: the bits that count
    bits4: int = 32
    bits6: int = 128


class Record(NamedTuple):
    """A record without a flaw."""

    mechanisms: tuple[Mechanism, ...]
    redirect: Macros | None = None
    exp: Macros | None = None

    @property
    def redirects(self) -> bool:
        """Whether `redirect` counts: not beside `all` (section 6.1)."""
        return self.redirect is not None and all(one.name != "all" for one in self.mechanisms)


class Flaw(NamedTuple):
    """What is wrong with a record, in words."""

    text: str


class _Bad(Exception):
    pass


def select(records: Iterable[bytes]) -> list[bytes]:
    """Those of the TXT records of a domain that are SPF records (section 4.5)."""
    return [one for one in records if one[:6].lower() == b"v=spf1" and one[6:7] in (b"", b" ")]


def parse(content: bytes) -> Record | Flaw:
    """A record that `select` chose."""
    return _usual(content) if len(content) <= _USUAL else _parse(content)


@lru_cache(maxsize=500)
def _usual(content: bytes) -> Record | Flaw:
    # Most mail comes from few senders, whose records are the same for weeks.
    return _parse(content)


def _parse(content: bytes) -> Record | Flaw:
    if len(content) > MAX_RECORD:
        return Flaw(f"the record is longer than {MAX_RECORD} octets")
    try:
        text = content[6:].decode("ascii")
    except UnicodeDecodeError:
        return Flaw("the record holds characters that are not ASCII")
    terms = [term for term in text.split(" ") if term]
    if len(terms) > MAX_TERMS:
        return Flaw(f"the record has more than {MAX_TERMS} terms")
    mechanisms: list[Mechanism] = []
    modifiers: dict[str, Macros] = {}
    for term in terms:
        try:
            match = _TERM.fullmatch(term)
            if match is None:
                raise _Bad("it is neither a mechanism nor a modifier")
            qualifier, name, sign, rest = match.groups()
            name = name.lower()
            if sign == "=":
                _modifier(qualifier, name, rest, modifiers)
            else:
                mechanisms.append(_mechanism(term, qualifier or "+", name, sign or "", rest or ""))
        except (_Bad, BadMacro) as error:
            return Flaw(f"{term[:80]!r}: {error}")
    return Record(tuple(mechanisms), modifiers.get("redirect"), modifiers.get("exp"))


def _modifier(qualifier: str, name: str, value: str, found: dict[str, Macros]) -> None:
    if qualifier:
        raise _Bad("a modifier has no qualifier")
    if name not in ("redirect", "exp"):
        macro_string(value, explaining=True)  # unknown ones are ignored, but have to be well formed (section 6)
        return
    if name in found:
        raise _Bad(f"{name} stands there twice")
    found[name] = domain_spec(value)


def _mechanism(term: str, qualifier: str, name: str, sign: str, rest: str) -> Mechanism:
    read = _MECHANISMS.get(name)
    if read is None:
        raise _Bad("there is no such mechanism")
    return read(Mechanism(term, qualifier, name), sign, rest)  # type: ignore[arg-type]  # one of the four


def _all(one: Mechanism, sign: str, _: str) -> Mechanism:
    if sign:
        raise _Bad("all takes nothing")
    return one


def _domain(one: Mechanism, sign: str, rest: str) -> Mechanism:
    if sign != ":":
        raise _Bad("a domain is missing")
    return one._replace(spec=domain_spec(rest))


def _ptr(one: Mechanism, sign: str, rest: str) -> Mechanism:
    return _domain(one, sign, rest) if sign else one


def _host(one: Mechanism, sign: str, rest: str) -> Mechanism:
    """a and mx: [ ":" domain-spec ] [ dual-cidr-length ]. A domain-spec may hold a "/", so the lengths are what can be
    read from the end."""
    whole = f"/{rest}" if sign == "/" else rest
    cut, lengths = len(whole), None
    for start in range(max(0, len(whole) - _CIDR_LENGTH), len(whole)):
        if whole[start] == "/" and (lengths := _CIDR.fullmatch(whole, start)):
            cut = start
            break
    bits4, bits6 = lengths.groups() if lengths else (None, None)
    if sign == "/" and cut:
        raise _Bad("the length of the prefix cannot be read")
    one = one._replace(bits4=_bits(bits4, 32), bits6=_bits(bits6, 128))
    return one._replace(spec=domain_spec(whole[:cut])) if sign == ":" else one


def _bits(text: str | None, most: int) -> int:
    if text is None:
        return most
    if int(text) > most:
        raise _Bad(f"a prefix has at most {most} bits")
    return int(text)


def _ip4(one: Mechanism, sign: str, rest: str) -> Mechanism:
    network, bits = _network(sign, rest, socket.AF_INET, 32)
    return one._replace(network=network, bits4=bits)


def _ip6(one: Mechanism, sign: str, rest: str) -> Mechanism:
    network, bits = _network(sign, rest, socket.AF_INET6, 128)
    return one._replace(network=network, bits6=bits)


def _network(sign: str, rest: str, family: int, width: int) -> tuple[int, int]:
    match = _NETWORK.fullmatch(rest) if sign == ":" else None
    if match is None:
        raise _Bad("an address, or the length of its prefix, is missing or cannot be read")
    bits = _bits(match[2], width)
    try:
        # As strict as `ipaddress`, and ten times as fast: some records are hundreds of addresses.
        address = socket.inet_pton(family, match[1])
    except (OSError, ValueError):
        raise _Bad("that is no address of this kind") from None
    return int.from_bytes(address, "big") >> (width - bits), bits


_MECHANISMS: dict[str, Callable[[Mechanism, str, str], Mechanism]] = {
    "all": _all,
    "include": _domain,
    "a": _host,
    "mx": _host,
    "ptr": _ptr,
    "ip4": _ip4,
    "ip6": _ip6,
    "exists": _domain,
}

"""Mail addresses as they stand in an envelope (RFC 5321 section 4.1.2), never those of header fields.

An `Address` is what the sender meant: the local part without its quoting, the domain in lower case and
as A-labels. `str()` gives the one canonical spelling. Parsing answers None for what is not an address
and never raises. Whether an address exists is for `delivery`.
"""

import re
from functools import lru_cache
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import NamedTuple

# RFC 5321 section 4.5.3.1.1 to 4.5.3.1.3. The path limit of 256 counts the brackets; senders with a
# local part of 64 and a domain of 255 octets exist in test suites only, and cost nothing to accept.
MAX_LOCAL_PART = 64
# Rewritten senders of forwarded mail (SRS) hold a whole address, and are written this long by everybody who makes them.
MAX_SRS = 240
MAX_DOMAIN = 255
MAX_ADDRESS = 320

# atext of RFC 5322 section 3.2.3, RFC 6531 section 3.3 adds UTF8-non-ascii
_ATEXT = r"A-Za-z0-9!#$%&'*+/=?^_`{|}~\-"


class Address(NamedTuple):
    """A local part and a domain. The null reverse-path is ("", ""); <Postmaster> is ("postmaster", "")."""

    local_part: str
    domain: str

    @property
    def is_null(self) -> bool:
        """Whether this is the null reverse-path <>, which nothing may be returned to."""
        return not self.local_part and not self.domain

    @property
    def is_ascii(self) -> bool:
        """Whether it can be used without SMTPUTF8."""
        return self.local_part.isascii()

    def __str__(self) -> str:
        local = self.local_part
        if not _dot_string(local) and (local or self.domain):
            local = '"' + _must_escape(r"\\\g<0>", local) + '"'
        return f"{local}@{self.domain}" if self.domain else local

    @classmethod
    def parse(cls, text: str) -> "Address | None":
        """The address in `alice@example.org`, without brackets: from settings, tables, the command line."""
        return _parse(text, True) if len(text) <= MAX_ADDRESS else None


NULL = Address("", "")

# Dot-string = Atom *("."  Atom)
_dot_string = re.compile(rf"[{_ATEXT}\u0080-\U0010ffff]+(?:\.[{_ATEXT}\u0080-\U0010ffff]+)*").fullmatch
_must_escape = re.compile(r'["\\]').sub

#   Mailbox        = Local-part "@" ( Domain / address-literal )
#   Local-part     = Dot-string / Quoted-string
#   A-d-l          = At-domain *( "," At-domain )   before a ":", to be ignored
# Loosened: dots anywhere in an unquoted local part, because Japanese phone carriers gave out addresses
# like a..b.@docomo.ne.jp; the canonical form quotes them. Control characters stay out of quoted strings.
_mailbox = re.compile(
    rf"(?:@[^@:,<>\"\s]+(?:,@[^@:,<>\"\s]+)*:)?"
    rf"(?:([{_ATEXT}.\u0080-\U0010ffff]+)|\"((?:[^\"\\\x00-\x1f\x7f]|\\[ -~])*)\")"
    rf"@(\[[!-Z^-~]+\]|[A-Za-z0-9._\-\u0080-\U0010ffff]+)"
).fullmatch
_unescape = re.compile(r"\\(.)").sub
_rewritten = re.compile(r"SRS[01][-+=]", re.IGNORECASE).match

# sub-domain = Let-dig [Ldh-str]. Underscores are against the rule and in use.
_domain = re.compile(r"(?:(?!-)[a-z0-9_-]{1,63}(?<!-)\.)*(?!-)[a-z0-9_-]{1,63}(?<!-)").fullmatch
# General-address-literal = Standardized-tag ":" 1*dcontent
_general_literal = re.compile(r"\[[a-z0-9-]*[a-z0-9]:[!-Z^-~]+\]").fullmatch


def parse_path(path: bytes, utf8: bool = False) -> Address | None:
    """The address in `<alice@example.org>`, `<>` or `<Postmaster>`; None if it is not one.

    `utf8` is for transactions under SMTPUTF8 (RFC 6531); without it 8-bit octets are refused.
    """
    # Source routes are dropped (RFC 5321 section 4.1.1.3); with one a path may be longer than an address.
    if path[:1] != b"<" or path[-1:] != b">" or len(path) > 1024:
        return None
    return _parse_path(path, utf8)


# Senders and recipients come again and again; the cache makes the second time ten times cheaper.
@lru_cache(2048)
def _parse_path(path: bytes, utf8: bool) -> Address | None:
    try:
        text = path[1:-1].decode("utf-8" if utf8 else "ascii")
    except UnicodeDecodeError:
        return None
    if not text:
        return NULL
    if text.lower() == "postmaster":
        return Address("postmaster", "")
    return _parse(text, utf8)


def _parse(text: str, utf8: bool) -> Address | None:
    match = _mailbox(text)
    if match is None:
        return None
    plain, quoted, domain = match.groups()
    local = plain if plain is not None else _unescape(r"\1", quoted)
    length = len(local.encode("utf-8", "surrogatepass"))
    if length > MAX_LOCAL_PART and (length > MAX_SRS or not _rewritten(local)):
        return None
    if not local or not local.isprintable():
        return None
    name = parse_domain(domain, utf8)
    return Address(local, name) if name is not None else None


def parse_domain(text: str, utf8: bool = False) -> str | None:
    """A domain in lower case as A-labels, or an address literal in its canonical form; None if neither."""
    if not text.isascii():
        encoded = to_ascii(text) if utf8 else None
        if encoded is None:
            return None
        text = encoded
    text = text.lower()
    if text.startswith("["):
        return _literal(text)
    return text if len(text) <= MAX_DOMAIN and _domain(text) else None


def _literal(text: str) -> str | None:
    # RFC 5321 section 4.1.3
    try:
        if text.startswith("[ipv6:"):
            # A scope (%eth0) means nothing on another machine.
            return f"[IPv6:{IPv6Address(text[6:-1])}]" if "%" not in text else None
        if _general_literal(text):
            return text
        return f"[{IPv4Address(text[1:-1])}]"
    except AddressValueError:
        return None


def to_ascii(domain: str) -> str | None:
    """A domain with U-labels as A-labels; None if that cannot be done."""
    if len(domain) > MAX_DOMAIN:
        return None
    import idna  # its tables take some MB: only for those who get such mail

    try:
        return idna.encode(domain, uts46=True).decode("ascii")
    except (idna.IDNAError, UnicodeError):
        return None

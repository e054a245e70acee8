"""ENVELOPE, BODY and BODYSTRUCTURE of a message, as the bytes that go on the wire (RFC 9051 section 7.5.2).

They are made once, when a message comes in, and stored. Whatever the message, the output is valid
IMAP: ASCII without controls as quoted strings, everything else as literals, never a NUL, no empty
multipart. Nothing is decoded: clients do that. The message itself is read by `mime.scan`.
"""

import re
from functools import lru_cache

from posthouse.mime import header
from posthouse.mime.addresses import Address, Group, address_list
from posthouse.mime.fields import Parameters, disposition, without_comments
from posthouse.mime.scan import Part, Scan

_wanted_fields = re.compile(
    rb"(?i)\n(date|subject|from|sender|reply-to|to|cc|bcc|in-reply-to|message-id|references)"
    rb"[ \t]*+:((?:[^\n]*+\n[ \t])*+[^\n]*+)"
).findall
_is_clean = re.compile(rb"[\t !#-\[\]-~]{0,1024}+").fullmatch
_is_ascii = re.compile(rb"[\t -~]{0,1024}+").fullmatch
_specials = re.compile(rb'(["\\])')
_line_end = re.compile(rb"\r*+\n")

# The form of nearly all address fields with one address; the others go to `address_list`.
_one_address = re.compile(
    rb'[ \t]*+(?:(?:"([^"\\\x00-\x1f\x7f-\xff]*+)"|([^"(),:;<>@\[\]\\\x00-\x1f\x7f-\xff]*+))'
    rb"[ \t]*+<([!#-'*+\-./0-9=?A-Z^_`a-z{|}~]++)@([A-Za-z0-9._-]++)>)[ \t\r\n]*+"
).fullmatch

# RFC 9051 makes a group of an address without host, so a missing part needs a word of its own.
# These are the words of the most used server: clients know them.
_NO_LOCAL = b'"MISSING_MAILBOX"'
_NO_DOMAIN = b'"MISSING_DOMAIN"'

# An address takes at least sixteen times the octets that it took: without a bound, 8 MiB of headers would become 140.
MAX_ADDRESSES = 10_000  # in one ENVELOPE, and in all of those in one BODYSTRUCTURE

_EMPTY_ENVELOPE = b"(NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL)"
_EMPTY_TEXT = b'("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 0 0'
_NO_EXTENSION = b" NIL NIL NIL NIL)"


def string(value: bytes) -> bytes:
    """An IMAP string: quoted if it is short clean ASCII, else a literal."""
    if _is_clean(value) is not None:
        return b'"%b"' % value
    if _is_ascii(value) is not None:
        return b'"%b"' % _specials.sub(rb"\\\1", value)
    value = value.replace(b"\0", b"")
    return b"{%d}\r\n%b" % (len(value), value)


def unfolded(value: bytes) -> bytes:
    """A field value on one line, without blanks around it."""
    if b"\n" in value:
        value = _line_end.sub(b"", value)
    return value.strip()


def envelope_fields(header_bytes: bytes) -> dict[bytes, bytes]:
    """The fields that an ENVELOPE is made of, and References: raw values by names in lower case."""
    fields: dict[bytes, bytes] = {}
    repeated: dict[bytes, list[bytes]] = {}
    for name, value in _wanted_fields(header.lines(header_bytes)):
        name = name.lower()
        if name not in fields:
            fields[name] = value
        elif name in (b"to", b"cc", b"bcc"):  # against RFC 5322 section 3.6, but no recipient is lost
            repeated.setdefault(name, []).append(value)
    for name, values in repeated.items():
        fields[name] = b"\n,".join([fields[name], *values])
    return fields


def envelope(header_bytes: bytes) -> bytes:
    """The ENVELOPE of a message with this header."""
    return render_envelope(envelope_fields(header_bytes))


def render_envelope(fields: dict[bytes, bytes]) -> bytes:
    """The ENVELOPE with these fields."""
    return _render_envelope(fields, [MAX_ADDRESSES])


def _render_envelope(fields: dict[bytes, bytes], room: list[int]) -> bytes:
    """`room[0]` is how many addresses may come yet."""
    get = fields.get
    author = b"NIL" if (value := get(b"from")) is None else _addresses(value, room)
    sender = b"NIL" if (value := get(b"sender")) is None else _addresses(value, room)
    reply_to = b"NIL" if (value := get(b"reply-to")) is None else _addresses(value, room)
    return b"(%b %b %b %b %b %b %b %b %b %b)" % (
        b"NIL" if (value := get(b"date")) is None else string(unfolded(value)),
        b"NIL" if (value := get(b"subject")) is None else string(unfolded(value)),
        author,
        author if sender == b"NIL" else sender,
        author if reply_to == b"NIL" else reply_to,
        b"NIL" if (value := get(b"to")) is None else _addresses(value, room),
        b"NIL" if (value := get(b"cc")) is None else _addresses(value, room),
        b"NIL" if (value := get(b"bcc")) is None else _addresses(value, room),
        b"NIL" if (value := get(b"in-reply-to")) is None else string(unfolded(value)),
        b"NIL" if (value := get(b"message-id")) is None else string(unfolded(value)),
    )


def first_address(value: bytes) -> Address | None:
    """The first address structure that the ENVELOPE shows of an address field: of a group its name, as the local
    part of an address without domain; None if there is none."""
    if (match := _one_address(value)) is not None and b"  " not in value:
        quoted, name, local, domain = match.groups()
        return Address(quoted or (name or b"").rstrip(), local, domain)
    for item in address_list(value, 1):
        if isinstance(item, Group):
            return Address(b"", item.name, b"")
        return Address(item.name, item.local or _NO_LOCAL[1:-1], item.domain or _NO_DOMAIN[1:-1])
    return None


def _addresses(value: bytes, room: list[int]) -> bytes:
    if (match := _one_address(value)) is not None and b"  " not in value:
        quoted, name, local, domain = match.groups()
        name = quoted or (name and name.rstrip())
        if name:
            return b'(("%b" NIL "%b" "%b"))' % (name, local, domain)
        return b'((NIL NIL "%b" "%b"))' % (local, domain)
    out: list[bytes] = []
    found = address_list(value, room[0]) if room[0] > 0 else []
    for item in found:
        if isinstance(item, Group):
            out.append(b"(NIL NIL %b NIL)" % string(item.name))
            out.extend([_address(member) for member in item.members])
            out.append(b"(NIL NIL NIL NIL)")
        else:
            out.append(_address(item))
    room[0] -= len(out)
    return b"(%b)" % b"".join(out) if out else b"NIL"


def _address(address: Address) -> bytes:
    name, local, domain, route = address
    return b"(%b %b %b %b)" % (
        string(name) if name else b"NIL",
        string(route) if route else b"NIL",  # RFC 9051 section 7.5.2: at-domain-list
        string(local) if local else _NO_LOCAL,
        string(domain) if domain else _NO_DOMAIN,
    )


def body_structure(scan: Scan) -> bytes:
    """The BODYSTRUCTURE of a message: with extension data."""
    out: list[bytes] = []
    _write(scan.root, out, [MAX_ADDRESSES], extended=True)
    return b"".join(out)


def body(scan: Scan) -> bytes:
    """The BODY of a message: the structure without extension data."""
    out: list[bytes] = []
    _write(scan.root, out, [MAX_ADDRESSES], extended=False)
    return b"".join(out)


def _write(part: Part, out: list[bytes], room: list[int], extended: bool) -> None:
    """Add a part. The recursion is limited by the depth the scanner allows."""
    kind = part.type
    content = part.content
    if kind == b"multipart" and part.parts:
        out.append(b"(")
        for child in part.parts:
            _write(child, out, room, extended)
        out.append(b" " + string(part.subtype))
        if extended:
            out.append(b" " + _params(part.params))
            _write_extension(content, out, md5=False)
        out.append(b")")
        return
    if kind == b"multipart":
        # Its delimiters never came. RFC 9051 has no multipart without parts, and people want to read it.
        head = b'("text" "plain" ("charset" "us-ascii")'
        kind = b"text"
    elif len(content.get(b"type", b"")) <= 100:
        head = _cached_head(kind, part.subtype, part.params)
    else:
        head = _head(kind, part.subtype, part.params)
    out.append(
        b"%b %b %b %b %d"
        % (
            head,
            string(unfolded(content[b"id"])) if b"id" in content else b"NIL",
            string(unfolded(content[b"description"])) if b"description" in content else b"NIL",
            string(part.encoding) if part.encoding else b'"7bit"',
            part.end - part.body,
        )
    )
    if kind == b"text":
        out.append(b" %d" % part.lines)
    elif kind == b"message" and (part.subtype == b"rfc822" or part.subtype == b"global"):
        if part.message is None:  # it could not be entered
            out.append(b" " + _EMPTY_ENVELOPE + b" " + _EMPTY_TEXT + (_NO_EXTENSION if extended else b")"))
        else:
            out.append(b" " + _render_envelope(envelope_fields(part.message.header_bytes), room) + b" ")
            _write(part.message, out, room, extended)
        out.append(b" %d" % part.lines)
    if extended:
        _write_extension(content, out, md5=True)
    out.append(b")")


def _head(kind: bytes, subtype: bytes, params: Parameters) -> bytes:
    if kind == b"text" and not any(name == b"charset" for name, _ in params):
        params = (*params, (b"charset", b"us-ascii"))
    return b"(%b %b %b" % (string(kind), string(subtype), _params(params))


_cached_head = lru_cache(512)(_head)


def _params(params: Parameters) -> bytes:
    if not params:
        return b"NIL"
    return b"(%b)" % b" ".join([b"%b %b" % (string(name), string(value)) for name, value in params])


def _write_extension(content: dict[bytes, bytes], out: list[bytes], md5: bool) -> None:
    if not _EXTENDED.intersection(content):
        out.append(b" NIL NIL NIL NIL" if md5 else b" NIL NIL NIL")
        return
    get = content.get
    if md5:
        out.append(b" NIL" if (value := get(b"md5")) is None else b" " + string(unfolded(value)))
    kind, params = disposition(get(b"disposition", b""))
    if kind:
        out.append(b" (%b %b)" % (string(kind), _params(params)))
    else:
        out.append(b" NIL")
    out.append(b" " + _language(get(b"language", b"")))
    out.append(b" NIL" if (value := get(b"location")) is None else b" " + string(unfolded(value)))


_EXTENDED = frozenset((b"md5", b"disposition", b"language", b"location"))


def _language(value: bytes) -> bytes:
    tags = [tag for part in without_comments(value).split(b",") if (tag := unfolded(part))]
    if not tags:
        return b"NIL"
    return string(tags[0]) if len(tags) == 1 else b"(%b)" % b" ".join([string(tag) for tag in tags])

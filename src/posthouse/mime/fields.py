"""Values of structured header fields: content types, parameters, dates, message identifiers.

Every function takes the raw value of a field, folded as it came, and is tolerant: what cannot be read
is left out, nothing raises. Addresses are in `addresses`, encoded words in `words`.
"""

import re
from functools import lru_cache

Parameters = tuple[tuple[bytes, bytes], ...]

# RFC 2045 section 5.1, loosened: token characters, and 8-bit ones of careless programs.
_TOKEN = rb"[!#-'*+.0-9A-Z^_`a-z{|}~\x80-\xff-]++"
_first_token = re.compile(rb"[ \t\r\n]*+(" + _TOKEN + rb")").match
_type = re.compile(rb"[ \t\r\n]*+(" + _TOKEN + rb")[ \t\r\n]*+/[ \t\r\n]*+(" + _TOKEN + rb")[ \t\r\n]*+(;?)").match

# parameter := attribute "=" value   (RFC 2045 section 5.1)
# value     := token / quoted-string
# Loosened: blanks around "=", unquoted values up to the next ";" (file names with blanks), a closing
# quote that is missing.
_parameters = re.compile(rb'([^=;"\s]++)[ \t\r\n]*+=[ \t\r\n]*+(?:"((?:[^"\\]++|\\.)*+)"[^;]*+|([^;]*+))', re.S).findall
_quoted_pair = re.compile(rb"\\(.)", re.S)
_comment = re.compile(rb"\((?:[^()\\]++|\\.)*+\)", re.S)
_quoted_string = re.compile(rb'"(?:[^"\\]++|\\.)*+"', re.S)
_line_end = re.compile(rb"\r*+\n")


def token(value: bytes) -> bytes:
    """The first token of a value, in lower case: Content-Transfer-Encoding, Content-Disposition."""
    if value[:1] == b" " and value[1:].isalnum():
        return value[1:].lower()
    found = _first_token(without_comments(value))
    return found[1].lower() if found else b""


def content_type(value: bytes) -> tuple[bytes, bytes, Parameters]:
    """Type, subtype (lower case) and parameters of a Content-Type.

    What is no content type counts as text/plain without parameters (RFC 2045 section 5.2).
    """
    return _cached_content_type(value) if len(value) <= 100 else _content_type(value)


def _content_type(value: bytes) -> tuple[bytes, bytes, Parameters]:
    value = without_comments(value)
    found = _type(value)
    if found is None:
        return b"text", b"plain", ()
    kind, subtype, more = found.groups()
    return kind.lower(), subtype.lower(), parameters(value[found.end() :]) if more else ()


# Nearly all text parts share a handful of values; long ones (boundaries) are not worth keeping.
_cached_content_type = lru_cache(512)(_content_type)


def parameters(text: bytes) -> Parameters:
    """Parameters after the first ";": names in lower case, in order, the first of each name."""
    found: dict[bytes, bytes] = {}
    for name, quoted, plain in _parameters(text):
        value = quoted or plain.strip()
        if quoted:
            if b"\n" in quoted:
                value = _line_end.sub(b"", quoted)
            if b"\\" in value:
                value = _quoted_pair.sub(rb"\1", value)
        elif value[:1] == b'"':
            value = value.strip(b'"')
        found.setdefault(name.lower(), value)
    return tuple(found.items())


def without_comments(value: bytes) -> bytes:
    """The value without its RFC 5322 comments (but not inside quoted strings)."""
    if b"(" not in value:
        return value
    if b'"' in value:
        # Even pieces lie outside quoted strings.
        pieces, at = [], 0
        for found in _quoted_string.finditer(value):
            pieces.append(_strip_comments(value[at : found.start()]))
            pieces.append(found[0])
            at = found.end()
        pieces.append(_strip_comments(value[at:]))
        return b"".join(pieces)
    return _strip_comments(value)


def _strip_comments(text: bytes) -> bytes:
    for _ in range(5):  # nested comments, from the inside; deeper ones are nobody's
        text, count = _comment.subn(b" ", text)
        if not count:
            break
    return text

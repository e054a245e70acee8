"""Values of structured header fields: content types, parameters, dates, message identifiers.

Every function takes the raw value of a field, folded as it came, and is tolerant: what cannot be read
is left out, nothing raises. Addresses are in `addresses`, encoded words in `words`.
"""

import re
from datetime import date as date_of
from functools import lru_cache
from itertools import islice

from posthouse.mime import words

Parameters = tuple[tuple[bytes, bytes], ...]

# RFC 2045 section 5.1, loosened: token characters, and 8-bit ones of careless programs.
_TOKEN = rb"[!#-'*+.0-9A-Z^_`a-z{|}~\x80-\xff-]++"
_first_token = re.compile(rb"[ \t\r\n\"]*+(" + _TOKEN + rb")").match  # some write it in quotes
_type = re.compile(rb"[ \t\r\n]*+(" + _TOKEN + rb")[ \t\r\n]*+/[ \t\r\n]*+(" + _TOKEN + rb")").match

# The form of nearly all: one parameter, nothing odd.
_one_parameter = re.compile(
    rb"[ \t]*+([a-zA-Z0-9.+-]++)/([a-zA-Z0-9.+-]++);[ \t\r\n]*+([a-zA-Z-]++)="
    rb'(?:"([^"\\\r\n]*+)"|([!#-\'+.0-9A-Z^_`a-z{|}~-]++))[ \t\r\n]*+'
).fullmatch

# parameter := attribute "=" value   (RFC 2045 section 5.1)
# value     := token / quoted-string
# Loosened: blanks around "=", unquoted values up to the next ";" (file names with blanks), a closing
# quote that is missing.
# The look-behind keeps a long word that is no name from being tried at each of its letters.
_parameters = re.compile(
    rb'(?<![^=;"\s])([^=;"\s]++)[ \t\r\n]*+=[ \t\r\n]*+(?:"((?:[^"\\]++|\\.)*+)"|([^;]*+))', re.S
).finditer
_MAX_PARAMETERS = 100
_quoted_pair = re.compile(rb"\\(.)", re.S)
# Only where a word could start: boundary=a(b) is wrong, and meant.
_comment = re.compile(rb"(?<![^\s;,/)])\((?:[^()\\]++|\\.)*+\)", re.S)
_quoted_string = re.compile(rb'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)', re.S)
_line_end = re.compile(rb"\r*+\n")


def token(value: bytes) -> bytes:
    """The first token of a value, in lower case: Content-Transfer-Encoding, Content-Disposition."""
    if value[:1] == b" " and value[1:].isalnum():
        return value[1:].lower()
    found = _first_token(without_comments(value))
    return found[1].lower() if found else b""


def content_type(value: bytes) -> tuple[bytes, bytes, Parameters]:
    """Type, subtype (lower case) and parameters of a Content-Type.

    What is no content type counts as text/plain (RFC 2045 section 5.2), with its parameters: what it says of
    its charset is worth more than the default.
    """
    return _cached_content_type(value) if len(value) <= 100 else _content_type(value)


def _content_type(value: bytes) -> tuple[bytes, bytes, Parameters]:
    if (found := _one_parameter(value)) is not None:
        kind, subtype, name, quoted, plain = found.groups()
        return kind.lower(), subtype.lower(), ((name.lower(), plain if quoted is None else quoted),)
    return _any_content_type(value)


def _any_content_type(value: bytes) -> tuple[bytes, bytes, Parameters]:
    value = without_comments(value)
    found = _type(value)
    if found is None:
        return b"text", b"plain", parameters(value.partition(b";")[2])
    kind, subtype = found.groups()
    return kind.lower(), subtype.lower(), parameters(value[found.end() :])


# Nearly all text parts share a handful of values; long ones (boundaries) are not worth keeping.
_cached_content_type = lru_cache(512)(_content_type)


def parameters(text: bytes) -> Parameters:
    """The parameters in what follows a type: names in lower case, in order, the first of each name."""
    found: dict[bytes, bytes] = {}
    if b"=" not in text:
        return ()
    for match in islice(_parameters(text), _MAX_PARAMETERS):
        name, quoted, plain = match.groups()
        value = quoted or (plain or b"").strip()
        if quoted:
            if b"\n" in quoted:
                value = _line_end.sub(b"", quoted)
            if b"\\" in value:
                value = _quoted_pair.sub(rb"\1", value)
        elif value[:1] == b'"':
            value = value.strip(b'"')
        found.setdefault(name.lower(), value)
    return _join_sections(found) if b"*" in text else tuple(found.items())


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


# RFC 2231 section 3 and 4: name*0, name*1*, name*
_section = re.compile(rb"(.+?)\*(?:(\d{1,4})(\*)?)?\Z", re.S).match
_not_attribute_char = re.compile(rb"[^!#$&+\-.0-9A-Z^_`a-z{|}~]")
_percent = re.compile(rb"%([0-9A-Fa-f]{2})")


def _join_sections(found: dict[bytes, bytes]) -> Parameters:
    """Put values together that were cut into sections; a value with a charset is called `name*`.

    Sections may come in any order and may be missing. A value that came whole as well is the fallback for programs
    that know no sections: `name` stays beside `name*`, and gives way to sections without a charset.
    """
    whole: dict[bytes, bytes | None] = {}
    sections: dict[bytes, dict[int, tuple[bytes, bool]]] = {}
    for name, value in found.items():
        match = _section(name)
        if match is None or match[2] is None:
            if whole.get(name) is None:
                whole[name] = value
        else:
            whole.setdefault(match[1], None)  # it keeps the place of its first section
            sections.setdefault(match[1], {}).setdefault(int(match[2]), (value, match[3] is not None))
    out: list[tuple[bytes, bytes]] = []
    for name, value_or_none in whole.items():
        if name not in sections:
            out.append((name, value_or_none or b""))
            continue
        numbered = sections[name]
        pieces = [numbered[number] for number in sorted(numbered)]
        if not any(encoded for _, encoded in pieces):
            out.append((name, b"".join([value for value, _ in pieces])))
            continue
        if value_or_none is not None:
            out.append((name, value_or_none))
        if name + b"*" not in whole:
            if not pieces[0][1]:
                pieces.insert(0, (b"''", True))
            out.append((name + b"*", b"".join([v if encoded else _percented(v) for v, encoded in pieces])))
    return tuple(out)


def _percented(value: bytes) -> bytes:
    return _not_attribute_char.sub(lambda match: b"%%%02X" % match[0][0], value)


def parameter(params: Parameters, name: bytes) -> bytes:
    """The value of a parameter as bytes, RFC 2231 encoding undone; b"" if there is none. `name` in lower case."""
    return _parameter(params, name)[0]


def readable_parameter(params: Parameters, name: bytes) -> str | None:
    """The value of a parameter as text: by RFC 2231, else encoded words (against RFC 2047 section 5) are read too."""
    value, charset = _parameter(params, name)
    if charset is not None:
        return words.decode_charset(value, charset)
    return words.decode(value) if value else None


def _parameter(params: Parameters, name: bytes) -> tuple[bytes, bytes | None]:
    """Value and charset; the charset is None where the value was not encoded."""
    extended = name + b"*"
    plain = b""
    for key, value in params:
        if key == name:
            plain = value
        elif key == extended:
            charset, _, rest = value.partition(b"'")
            _, quote, text = rest.partition(b"'")
            if not quote:
                charset, text = b"", value
            return _percent.sub(lambda match: bytes((int(match[1], 16),)), text), charset
    return plain, None


def disposition(value: bytes) -> tuple[bytes, Parameters]:
    """Kind (lower case, b"" if there is none) and parameters of a Content-Disposition (RFC 2183)."""
    value = without_comments(value)
    kind, semicolon, more = value.partition(b";")
    return token(kind), parameters(more) if semicolon else ()


# msg-id = [CFWS] "<" id-left "@" id-right ">" [CFWS]   (RFC 5322 section 3.6.4); some have blanks inside.
_bracketed = re.compile(rb"<([^<>]*+)>").findall
_blanks = re.compile(rb"[ \t\r\n]+")


def message_ids(value: bytes, limit: int = 1000, ends: bool = False) -> list[str]:
    """The message ids of a Message-ID, In-Reply-To or References field, without angle brackets; `ends`: of more than
    `limit` the first and the last ones, else the first ones.

    Where nothing is in brackets, words with an "@" are taken.
    """
    found = _bracketed(value)
    if len(found) > limit:
        found = [found[0], *found[1 - limit :]] if ends and limit > 1 else found[:limit]
    if not found and b"@" in value:
        found = [word.strip(b"<>") for word in re.split(rb"[\s,;\"]+", value, maxsplit=limit) if b"@" in word]
    ids = (_blanks.sub(b"", one) for one in found)
    return [one.decode("utf-8", "replace") for one in ids if one]


# date-time = [ day-name "," ] day month year hour ":" minute [ ":" second ] zone   (RFC 5322 section 3.3)
# Loosened: no comma, full names, dashes or dots between, fractions, no zone.
_date = re.compile(
    rb"(?:[A-Za-z]{2,12}[.,]*[ \t]*)?(\d{1,2})(?:st|nd|rd|th)?[ \t\-./]*([A-Za-z]{3,12})[ \t\-.,/]*(\d{2,6})[ \t,]+"
    rb"(\d{1,2})[ \t]*[:.][ \t]*(\d{1,2})(?:[ \t]*[:.][ \t]*(\d{1,2}))?(?:[.,]\d{1,12})?[ \t]*"
    rb"([AaPp][Mm](?![A-Za-z]))?[ \t]*\"?(?:(?:GMT|UTC?|UT)?([+-]\d{1,2}:?\d{2})|([A-Za-z]{1,5}))?"
).match
# The form of nearly all dates
_usual_date = re.compile(
    rb" (?:[A-Z][a-z]{2}, )?(\d{1,2} [A-Z][a-z]{2} \d{4}) ([01]\d|2[0-3]):([0-5]\d):([0-5]\d) ([+-])([01]\d)([0-5]\d)"
    rb"(?: \([A-Z]{1,5}\))?\r?"
).fullmatch
# Mon Jun  2 10:00:00 [zone] 2025: C's asctime, and date(1)
_asctime = re.compile(
    rb"[A-Za-z]{3,12},?[ \t]+([A-Za-z]{3,12})[ \t]+(\d{1,2}),?[ \t]+(\d{1,2}):(\d{1,2})(?::(\d{1,2}))?"
    rb"[ \t]+(?:(?:GMT|UTC?)?([+-]\d{4})[ \t]+|([A-Za-z]{1,5})[ \t]+)?(\d{4})(?:[ \t]+([+-]\d{4}))?"
).match
_iso = re.compile(
    rb"(\d{4})-(\d{1,2})-(\d{1,2})"
    rb"(?:[T \t]+(\d{1,2}):(\d{2})(?::(\d{2}))?(?:[.,]\d{1,12})?[ \t]*(?:(Z)|([+-]\d{2}:?\d{2}))?)?"
).match
_MONTHS = {name: number for number, name in enumerate(b"jan feb mar apr may jun jul aug sep oct nov dec".split(), 1)}
# RFC 5322 section 4.3; other names say nothing sure and count as UTC, as -0000 does.
_ZONES = {
    b"EST": -300,
    b"EDT": -240,
    b"CST": -360,
    b"CDT": -300,
    b"MST": -420,
    b"MDT": -360,
    b"PST": -480,
    b"PDT": -420,
}
_ZONES |= {b"CET": 60, b"CEST": 120, b"MET": 60, b"MEST": 120, b"BST": 60, b"EET": 120, b"EEST": 180, b"JST": 540}
_any_comment = re.compile(rb"\([^()]*+\)")
_EPOCH = date_of(1970, 1, 1).toordinal()


def date_time(value: bytes) -> int | None:
    """The time that a Date field says, in microseconds since 1970 UTC; None if it cannot be read."""
    found = zoned_date_time(value)
    return found[0] if found is not None else None


def zoned_date_time(value: bytes) -> tuple[int, int] | None:
    """`date_time`, and how many minutes the clock that wrote it was ahead of UTC."""
    if (match := _usual_date(value)) is not None:
        date, hour, minute, second, sign, zone_hour, zone_minute = match.groups()
        midnight = _midnight(date)
        if midnight is None:
            return None
        offset = int(zone_hour) * 60 + int(zone_minute)
        if sign == b"-":
            offset = -offset
        return midnight + (int(hour) * 3600 + (int(minute) - offset) * 60 + int(second)) * 1_000_000, offset
    return _any_zoned_date_time(value)


@lru_cache(512)
def _midnight(date: bytes) -> int | None:
    """The first microsecond of "2 Jun 2025"."""
    day, month, year = date.split(b" ")
    try:
        return (date_of(int(year), _MONTHS.get(month.lower(), 0), int(day)).toordinal() - _EPOCH) * 86_400_000_000
    except ValueError:
        return None


def _any_zoned_date_time(value: bytes) -> tuple[int, int] | None:
    value = value[:200]
    for _ in range(3 if b"(" in value else 0):  # comments in comments
        value = _any_comment.sub(b" ", value)
    value = _blanks.sub(b" ", value).strip()
    zone = name = half = None
    if (match := _date(value)) is not None:
        day, month, year, hour, minute, second, half, zone, name = match.groups()
    elif (match := _asctime(value)) is not None:
        month, day, hour, minute, second, zone, name, year, late_zone = match.groups()
        zone = zone or late_zone
    elif (match := _iso(value)) is not None:
        year, month, day, hour, minute, second, name, zone = match.groups()
    else:
        return None
    number = int(month) if month.isdigit() else _MONTHS.get(month[:3].lower(), 0)
    years = int(year)
    if len(year) < 4:  # RFC 5322 section 4.3: two and three digits
        years += 2000 if years < 50 and len(year) == 2 else 1900
    hours = int(hour or 0)
    if half:
        hours = hours % 12 + (12 if half in b"PMpm" and half[:1] in b"Pp" else 0)
    minutes, seconds = int(minute or 0), min(int(second or 0), 59)  # a leap second is the one before it
    if hours > 24 or minutes > 59:
        return None
    try:
        days = date_of(years, number, int(day)).toordinal() - _EPOCH
    except ValueError:
        return None
    offset = 0
    if zone:
        digits = zone[1:].replace(b":", b"").rjust(4, b"0")
        offset = int(digits[:2]) * 60 + int(digits[2:])
        if offset > 24 * 60:  # no place on earth: the time of day is still worth having
            offset = 0
        elif zone[:1] == b"-":
            offset = -offset
    elif name:
        offset = _ZONES.get(name.upper(), 0)
    return ((days * 24 + hours) * 3600 + (minutes - offset) * 60 + seconds) * 1_000_000, offset

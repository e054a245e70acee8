"""Dates as IMAP writes them: INTERNALDATE and the days of SEARCH (RFC 9051 section 9, date-time, date).

The store keeps microseconds since 1970 UTC and no zone, so what we send is always +0000.
"""

import re
from datetime import date, datetime, timedelta, timezone
from functools import lru_cache

MONTHS = (b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec")
_MONTH = {name.lower(): number for number, name in enumerate(MONTHS, 1)}
_EPOCH = date(1970, 1, 1).toordinal()
_DAY = 86_400

# date-time = DQUOTE date-day-fixed "-" date-month "-" date-year SP time SP zone DQUOTE
_date_time = re.compile(
    rb" ?([0-9]{1,2})-([A-Za-z]{3})-([0-9]{4}) ([0-9]{2}):([0-9]{2}):([0-9]{2}) ([+-])([0-9]{2})([0-9]{2})"
).fullmatch


@lru_cache(4096)
def _day_text(day: int) -> bytes:
    try:
        when = date.fromordinal(_EPOCH + day)
    except (ValueError, OverflowError):
        return b" 1-Jan-1970"
    return b"%2d-%s-%04d" % (when.day, MONTHS[when.month - 1], when.year)


def date_time(moment: int) -> bytes:
    """A moment (microseconds since 1970 UTC) as a date-time with its quotes."""
    day, second = divmod(moment // 1_000_000, _DAY)
    return b'"%b %02d:%02d:%02d +0000"' % (_day_text(day), second // 3600, second // 60 % 60, second % 60)


def parse_date_time(text: bytes) -> int | None:
    """The moment that a date-time (without its quotes) names, or None if there is none."""
    found = _date_time(text)
    if found is None:
        return None
    day, month, year, hour, minute, second, sign, zone_hours, zone_minutes = found.groups()
    number = _MONTH.get(month.lower())
    offset = timedelta(hours=int(zone_hours), minutes=int(zone_minutes))
    if number is None or int(zone_minutes) > 59 or offset >= timedelta(hours=24):
        return None
    try:
        # A leap second is the second before it: no calendar here knows it.
        moment = datetime(
            int(year), number, int(day), int(hour), int(minute), min(int(second), 59),
            tzinfo=timezone(-offset if sign == b"-" else offset),
        )  # fmt: skip
        seconds = round(moment.timestamp())
    except (ValueError, OverflowError):
        return None
    return seconds * 1_000_000 if int(second) < 61 else None


def day_number(year: int, month: bytes, day: int) -> int | None:
    """Days since 1970-01-01 of a date, or None if there is no such day."""
    number = _MONTH.get(month.lower())
    if number is None:
        return None
    try:
        return date(year, number, day).toordinal() - _EPOCH
    except ValueError:
        return None


def start_of(day: int) -> int:
    """The first microsecond of a day."""
    return day * _DAY * 1_000_000


# date-time of RFC 3339: "2006-12-01T12:00:00Z", with fractions and offsets
_rfc3339 = re.compile(
    rb"(?i)([0-9]{4})-([0-9]{2})-([0-9]{2})T([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.[0-9]+)?(?:Z|([+-])([0-9]{2}):([0-9]{2}))"
).fullmatch


def parse_rfc3339(text: bytes) -> int | None:
    """The moment (microseconds since 1970 UTC) of an Internet date and time, or None if there is none."""
    found = _rfc3339(text)
    if found is None:
        return None
    year, month, day, hour, minute, second, sign, hours, minutes = found.groups()
    offset = timedelta(hours=int(hours or 0), minutes=int(minutes or 0))
    if offset >= timedelta(hours=24):
        return None
    try:
        moment = datetime(
            int(year), int(month), int(day), int(hour), int(minute), min(int(second), 59),
            tzinfo=timezone(-offset if sign == b"-" else offset),
        )  # fmt: skip
        return round(moment.timestamp()) * 1_000_000
    except (ValueError, OverflowError):
        return None
